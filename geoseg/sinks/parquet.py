"""GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/): for analysis at scale and object stores.

geopandas can write it, but has no room for the run's provenance in the file; so the ``geo`` metadata is made
here, and geopandas is its judge in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from geoseg.errors import SinkError
from geoseg.sinks import tables
from geoseg.sinks.atomic import replacing
from geoseg.sinks.output import Output, naming_the_column

RUN_KEY = b"geoseg:run"
"""Key of the file's metadata that holds the run, as one JSON object."""
ROW_GROUP = 100_000
"""Rows in a row group: the unit that a reader with a bounding box skips."""
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def write(output: Output) -> None:
    """Write the footprints in Hilbert order, each with its bounding box; gaps go to ``NAME.gaps.parquet``.

    Raises:
        ConfigError: a column that the format cannot hold.
        SinkError: it cannot be written.
    """
    layers, gaps = output.layers(), output.gaps_file
    siblings, gone = ([gaps], []) if "gaps" in layers else ([], [gaps])
    with replacing(output.target, *siblings, gone=gone, library_errors=(pa.ArrowException,)) as drafts:
        for draft, (name, table) in zip(drafts, layers.items(), strict=True):
            if not isinstance(table, gpd.GeoDataFrame):
                write_rows(draft, table, output.run)
                continue
            with naming_the_column(name, table):
                arrow = to_arrow(hilbert_sorted(table))
            _write_one(draft, arrow, output.run)


def hilbert_sorted(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Rows that lie near each other come near each other; rows without a shape come last."""
    shapeless = (table.geometry.is_empty | table.geometry.isna()).to_numpy()
    order = np.flatnonzero(~shapeless)
    if len(order):
        shapes = table.geometry.iloc[order]
        distance = shapes.hilbert_distance(total_bounds=shapes.total_bounds).to_numpy()
        order = order[np.argsort(distance, kind="stable")]
    return table.iloc[np.concatenate([order, np.flatnonzero(shapeless)])]


def write_rows(path: Path, rows: tables.RowStream, run: Mapping[str, Any] | None) -> None:
    """Write a stream in Hilbert order. A copy of the rows is on the disk meanwhile, beside ``path``; in memory are 12
    bytes per row, and a row group."""
    spool = path.with_name(f"{path.name}.rows")
    with pa.OSFile(str(spool), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as copy:
        found = _Extent()
        for batch in rows.batches(tables.BATCH):
            copy.write_table(batch)
            found.add(batch, rows)
    with pa.memory_map(str(spool)) as source:
        whole, order = pa.ipc.open_file(source).read_all(), found.order()
        schema = with_boxes(rows.schema.empty_table()).schema
        geo = _geo({**_named(rows.crs), "geometry_types": sorted(found.kinds), **_around(rows.bounds)})
        schema = schema.with_metadata({b"geo": geo, **_note(run)})
        with pq.ParquetWriter(path, schema, compression="zstd") as out:
            for start in range(0, max(len(order), 1), ROW_GROUP):
                some = with_boxes(whole.take(pa.array(order[start : start + ROW_GROUP])))
                out.write_table(some.replace_schema_metadata(schema.metadata), row_group_size=ROW_GROUP)
    spool.unlink()
    _check(path, len(rows))


class _Extent:
    """What of all rows has to be known before the first is written."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.distances: list[NDArray[np.uint32]] = []

    def add(self, batch: pa.Table, rows: tables.RowStream) -> None:
        shapes = gpd.GeoSeries(shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False)))
        self.kinds |= set(shapes.geom_type)
        self.distances.append(shapes.hilbert_distance(total_bounds=rows.bounds).to_numpy(np.uint32))

    def order(self) -> NDArray[np.int64]:
        return np.argsort(np.concatenate([np.zeros(0, np.uint32), *self.distances]), kind="stable")


def with_boxes(table: pa.Table) -> pa.Table:
    """With a ``bbox`` column, of a table whose ``geometry`` is WKB."""
    shapes = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False))
    return table.append_column("bbox", _boxes(shapes))


def _write_one(draft: Path, arrow: pa.Table, run: Mapping[str, Any] | None) -> None:
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **_note(run)})
    pq.write_table(arrow, draft, compression="zstd", row_group_size=ROW_GROUP)
    _check(draft, arrow.num_rows)


def _note(run: Mapping[str, Any] | None) -> dict[bytes, bytes]:
    """The run, as metadata."""
    if run is None:
        return {}
    return {RUN_KEY: json.dumps(tables.run_values(run)).encode()}


def _check(path: Path, expected: int) -> None:
    read_back = pq.read_metadata(path).num_rows
    if read_back != expected:
        raise SinkError(f"{expected} rows were written but {read_back} are read back", remedy="Check the disk")


def to_arrow(table: gpd.GeoDataFrame) -> pa.Table:
    """An Arrow table with the geometry as WKB, a ``bbox`` column and the metadata of GeoParquet 1.1."""
    name = str(table.geometry.name)
    shapes = table.geometry.to_numpy()
    covering = "bbox"
    while covering in table.columns:
        covering += "_"
    plain = pa.Table.from_pandas(table.drop(columns=name).pipe(_plain), preserve_index=False)
    wkb = pa.array(shapely.to_wkb(shapes, flavor="iso"), type=pa.binary())
    geo = _geo(_column(table), name=name, covering=covering)
    # Put together anew: a table without attributes has no rows for Arrow, to which no column could be appended.
    return pa.Table.from_arrays(
        [*plain.columns, wkb, _boxes(shapes)],
        names=[*plain.column_names, name, covering],
        metadata={**(plain.schema.metadata or {}), b"geo": geo},
    )


def _geo(column: Mapping[str, Any], *, name: str = "geometry", covering: str = "bbox") -> bytes:
    """The metadata of GeoParquet for a file with one geometry column."""
    entry = {"encoding": "WKB", **column, "covering": {"bbox": {edge: [covering, edge] for edge in _EDGES}}}
    return json.dumps({"version": "1.1.0", "primary_column": name, "columns": {name: entry}}).encode()


def _plain(table: Any) -> Any:
    """The attributes as pandas without geopandas' own attrs, which would land in the file."""
    plain = table.copy(deep=False)
    plain.attrs = {}
    return plain


def _column(table: gpd.GeoDataFrame) -> dict[str, Any]:
    """The geometry column's entry: encoding, CRS as PROJJSON (null: unknown), kinds of geometry, extent."""
    kinds = table.geometry.dropna().geom_type + table.geometry.dropna().has_z.map({True: " Z", False: ""})
    return {"geometry_types": sorted(set(kinds)), **_named(table.crs), **_around(table.total_bounds)}


def _named(crs: Any) -> dict[str, Any]:
    return {"crs": None if crs is None else _without_member_ids(crs.to_json_dict())}


def _around(bounds: Any) -> dict[str, Any]:
    return {"bbox": [float(edge) for edge in bounds]} if np.isfinite(bounds).all() else {}


def _without_member_ids(projjson: Any) -> Any:
    """PROJJSON without the ids of a datum ensemble's members, which an older PROJ may not know."""
    if isinstance(projjson, list):
        return [_without_member_ids(item) for item in projjson]
    if not isinstance(projjson, dict):
        return projjson
    plain = {key: _without_member_ids(value) for key, value in projjson.items()}
    if "datum_ensemble" in plain:
        for member in plain["datum_ensemble"]["members"]:
            member.pop("id", None)
    return plain


def _boxes(shapes: Any) -> pa.StructArray:
    bounds = shapely.bounds(shapes)
    edges = [pa.array(bounds[:, i], type=pa.float64(), from_pandas=True) for i in range(4)]  # NaN -> null
    return pa.StructArray.from_arrays(edges, names=list(_EDGES))
