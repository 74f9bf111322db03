"""The layer over all scenes on disk: one file, or a folder of GeoParquet parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from pyproj import CRS

from geoseg.archive.manifest import Manifest
from geoseg.archive.merge.coverage import seen
from geoseg.archive.record import BAD, WRITTEN, Record
from geoseg.footprints import COLUMNS, empty
from geoseg.gaps import EXPECTED
from geoseg.measures import measure
from geoseg.sinks import write, write_stream
from geoseg.sinks.dataset import check_dataset, finish, is_dataset
from geoseg.vectors import read_gaps, reprojected
from geoseg.work.rows import rows_schema, wkb

_Rows = Iterator[tuple[Record, gpd.GeoDataFrame]]


def write_layer(target: Path, rows: _Rows, *, manifest: Manifest, crs: CRS, run: str, work: Path) -> None:
    """Write the rows that are kept; what stood there stays until all is written.

    Raises:
        OSError: there is no room for what lies in ``work``.
        SinkError: it cannot be written.
    """
    facts = {
        "run": run,
        "model": manifest.fact("model"),
        "model_version": manifest.fact("model_version"),
        "started": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "scenes": manifest.count(*WRITTEN),
        "complete": not manifest.count("parts", *BAD),
        "aoi": manifest.fact("aoi"),
        "extent": seen(manifest),
        "versions": manifest.fact("versions"),
    }
    gaps = gaps_table(manifest, crs)
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_dataset(target):
        check_dataset(target, force=False)
        count = _write_parts(rows, crs, work / "parts")
        finish(work / "parts", target, gaps=gaps, run={**facts, "footprints": count})
    else:
        spool = _Spool(work / "rows.arrow", (table for _, table in rows), crs)
        write_stream(spool, target, gaps=gaps, run={**facts, "footprints": len(spool)})


def _write_parts(rows: _Rows, crs: CRS, folder: Path) -> int:
    """A GeoParquet file per scene that has rows left; returns how many rows there are."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    count = 0
    for number, group in groupby(rows, key=lambda pair: pair[0].id):
        tables = [table for _, table in group if len(table)]
        if tables:
            whole = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
            write(whole, folder / f"part-{number:06}.parquet")
            count += len(whole)
    if not count:
        write(empty(crs), folder / "part-000000.parquet")
    return count


def gaps_table(manifest: Manifest, crs: CRS) -> gpd.GeoDataFrame:
    """Ground that a scene should have been examined on and was not, with the scene's name.

    Another scene may cover it. Nodata and what an AOI leaves out are no fault of a run: see the scenes' own gaps.
    """
    tables = []
    for record in manifest.records("parts"):
        found = read_gaps(manifest.folder / record.output)
        if found is not None:
            found = found[~found["reason"].isin(EXPECTED)]
            facts = {name: found[name].to_numpy() for name in ("reason", "detail", "area_m2")}
            shapes = gpd.GeoDataFrame(facts, geometry=found.geometry.to_numpy(), crs=found.crs)
            tables.append(reprojected(shapes.assign(raster=record.name), crs))
    lost = [_lost(record) for record in manifest.records(*BAD)]
    tables += [reprojected(table, crs) for table in lost if table is not None]
    if tables:
        return gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), geometry="geometry", crs=crs)
    columns = {"reason": pd.Series(dtype=object), "detail": pd.Series(dtype=object), "area_m2": pd.Series(dtype=float)}
    return gpd.GeoDataFrame({**columns, "raster": pd.Series(dtype=object)}, geometry=[], crs=crs)


def _lost(record: Record) -> gpd.GeoDataFrame | None:
    """All the ground of a scene of which nothing came, where it is known."""
    extent = record.extent or record.extra.get("extent")
    if not extent:
        return None
    west, south, east, north = extent
    shape = shapely.box(west, south, east if west <= east else east + 360, north)
    area = measure(np.array([shape], dtype=object), CRS.from_epsg(4326))["area_m2"]
    facts = {"reason": ["failed"], "detail": [str(record.error)[:200]], "area_m2": area, "raster": [record.name]}
    return gpd.GeoDataFrame(facts, geometry=[shape], crs=4326)


class _Spool:
    """Rows on their way to one file: on disk, for what is written needs to know of all of them before the first."""

    def __init__(self, path: Path, tables: Iterable[gpd.GeoDataFrame], crs: CRS) -> None:
        """Write all rows of ``tables``, which are in ``crs``, to ``path``."""
        self.schema, self.crs = rows_schema(), crs
        self._path, self._count, self._labels = path, 0, set[str]()
        self._bounds = np.full((1, 4), np.nan)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self.schema) as writer:
            for table in tables:
                if len(table):
                    self._note(table)
                    writer.write_table(_as_arrow(table))

    def _note(self, table: gpd.GeoDataFrame) -> None:
        self._count += len(table)
        self._labels |= set(table["label"].dropna())
        both = np.vstack([self._bounds, table.total_bounds])
        self._bounds = np.hstack([np.fmin.reduce(both[:, :2]), np.fmax.reduce(both[:, 2:])])[None]

    def __len__(self) -> int:
        return self._count

    @property
    def labels(self) -> list[str]:
        """What is in the column ``label``, sorted."""
        return sorted(self._labels)

    @property
    def bounds(self) -> Any:
        """``(4,)`` around all rows; NaN where there are none."""
        return self._bounds[0]

    def batches(self, size: int) -> Iterator[pa.Table]:
        """Tables of ``size`` rows, out of the file as they are asked for."""
        with pa.memory_map(str(self._path)) as file:
            rows = pa.ipc.open_file(file).read_all()
            for start in range(0, rows.num_rows, size):
                yield rows.slice(start, size)


def _as_arrow(table: gpd.GeoDataFrame) -> pa.Table:
    """Footprints as Arrow has them, the geometry as WKB."""
    schema = rows_schema()
    columns = [pa.Array.from_pandas(table[field.name], type=field.type) for field in schema if field.name in COLUMNS]
    return pa.Table.from_arrays([*columns, wkb(table.geometry.to_numpy())], schema=schema)
