"""Outputs of a run read back, a batch of rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from pyproj import CRS

from geoseg.errors import SinkError
from geoseg.footprints import COLUMNS, empty
from geoseg.sinks.tables import GDAL_ERRORS
from geoseg.vectors import gdal_name

BATCH = 20_000
"""Rows that are in memory at a time."""
_UNSAID: dict[str, Any] = {"n_tiles": 0, "cut_by_edge": False}
"""What a footprint has that somebody drew, in columns that hold no null: no tile saw it, no edge cut it."""


def batches(path: Path, *, rows: int = BATCH) -> Iterator[gpd.GeoDataFrame]:
    """The footprints of an output, in its order, in the schema of :data:`geoseg.footprints.COLUMNS`.

    Raises:
        SinkError: it is not there, or cannot be read.
    """
    try:
        if path.is_dir():
            for part in sorted(path.glob("*.parquet")):
                yield from batches(part, rows=rows)
        elif path.suffix.lower() == ".parquet":
            yield from _parquet(path, rows)
        else:
            yield from _by_gdal(path, rows)
    except (OSError, IndexError, pa.ArrowException, *GDAL_ERRORS) as error:  # IndexError: no layer or column is there
        raise SinkError(
            f"the output {path}, which cannot be read ({error})", remedy="Remove it, and run the same again"
        ) from error


def _parquet(path: Path, rows: int) -> Iterator[gpd.GeoDataFrame]:
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows == 0:
            yield _as_schema(gpd.read_parquet(path))
            return
        geo = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"{}"))
        if "primary_column" not in geo:
            raise SinkError(f"the output {path}, which is no GeoParquet", remedy="Remove it, and run the same again")
        name = geo["primary_column"]
        crs = geo["columns"][name].get("crs", "OGC:CRS84")
        for batch in file.iter_batches(batch_size=rows):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            yield _frame(table, name, None if crs is None else CRS.from_user_input(crs))


def _by_gdal(path: Path, rows: int) -> Iterator[gpd.GeoDataFrame]:
    options: dict[str, Any] = {"layer": "footprints"} if path.suffix.lower() == ".gpkg" else {}
    with (
        gdal_name(path.absolute()) as source,
        pyogrio.open_arrow(source, batch_size=rows, use_pyarrow=True, **options) as (meta, reader),
    ):
        name = meta["geometry_name"] or "wkb_geometry"
        crs = None if not meta["crs"] else CRS.from_user_input(meta["crs"])
        seen = False
        for batch in reader:
            seen = True
            yield _frame(pa.Table.from_batches([batch]), name, crs)
        if not seen:
            yield _frame(reader.schema.empty_table(), name, crs)


def _frame(table: pa.Table, name: str, crs: CRS | None) -> gpd.GeoDataFrame:
    geometry = shapely.from_wkb(table[name].to_numpy(zero_copy_only=False))
    shown = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))  # an editor saves rows without a shape, too
    table, geometry = table.filter(shown), geometry[shown]
    columns = [c for c in table.column_names if c in COLUMNS]
    return _as_schema(gpd.GeoDataFrame(table.select(columns).to_pandas(), geometry=geometry, crs=crs))


def _as_schema(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The schema's columns in order, in their dtypes; MultiPolygons of one part as that part."""
    if not len(table):  # a GeoJSON without rows has no columns
        return empty(table.crs)
    index = pd.RangeIndex(len(table))
    columns = {name: pd.Series(_column(table, name), index=index, dtype=dtype) for name, dtype in COLUMNS.items()}
    return gpd.GeoDataFrame(columns, geometry=_single(table.geometry.to_numpy()), crs=table.crs)


def _column(table: gpd.GeoDataFrame, name: str) -> Any:
    if name not in table.columns:
        raise IndexError(f"it has no column {name!r}")
    values = table[name]
    if name == "acquired":
        return pd.to_datetime(values, utc=True).astype("datetime64[ms, UTC]").array
    if name in _UNSAID:
        values = values.where(values.notna(), _UNSAID[name])
    return values.to_numpy()


def _single(geometry: Any) -> Any:
    """A GeoPackage makes all polygons MultiPolygons; here each is what it was."""
    alone = (shapely.get_type_id(geometry) == shapely.GeometryType.MULTIPOLYGON) & (
        shapely.get_num_geometries(geometry) == 1
    )
    geometry = geometry.copy()
    geometry[alone] = shapely.get_geometry(geometry[alone], 0)
    return geometry
