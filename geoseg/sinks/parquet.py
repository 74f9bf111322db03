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

from geoseg.errors import SinkError
from geoseg.sinks import tables
from geoseg.sinks.atomic import replacing
from geoseg.sinks.output import Output, naming_the_column, remove_stale

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
    siblings = [gaps] if "gaps" in layers else []

    def make_way() -> None:
        remove_stale([] if siblings else [gaps])

    with replacing(output.target, *siblings, library_errors=(pa.ArrowException,), make_way=make_way) as drafts:
        for draft, (name, table) in zip(drafts, layers.items(), strict=True):
            with naming_the_column(name, table):
                arrow = to_arrow(hilbert_sorted(table))
            _write_one(draft, arrow, output.run)


def hilbert_sorted(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Rows that lie near each other come near each other; rows without a shape come last."""
    shapeless = (table.geometry.is_empty | table.geometry.isna()).to_numpy()
    order = np.flatnonzero(~shapeless)
    if len(order):
        distance = table.geometry.iloc[order].hilbert_distance().to_numpy()
        order = order[np.argsort(distance, kind="stable")]
    return table.iloc[np.concatenate([order, np.flatnonzero(shapeless)])]


def _write_one(draft: Path, arrow: pa.Table, run: Mapping[str, Any] | None) -> None:
    if run is not None:
        note = json.dumps(dict(tables.run_items(run)), ensure_ascii=True).encode()
        arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), RUN_KEY: note})
    pq.write_table(arrow, draft, compression="zstd", row_group_size=ROW_GROUP)
    read_back = pq.read_metadata(draft).num_rows
    if read_back != arrow.num_rows:
        raise SinkError(f"{arrow.num_rows} rows were written but {read_back} are read back", remedy="Check the disk")


def to_arrow(table: gpd.GeoDataFrame) -> pa.Table:
    """An Arrow table with the geometry as WKB, a ``bbox`` column and the metadata of GeoParquet 1.1."""
    name = str(table.geometry.name)
    shapes = table.geometry.to_numpy()
    covering = "bbox"
    while covering in table.columns:
        covering += "_"
    arrow = pa.Table.from_pandas(table.drop(columns=name).pipe(_plain), preserve_index=False)
    arrow = arrow.append_column(name, pa.array(shapely.to_wkb(shapes, flavor="iso"), type=pa.binary()))
    arrow = arrow.append_column(covering, _boxes(shapes))
    geo = {
        "version": "1.1.0",
        "primary_column": name,
        "columns": {name: {**_column(table), "covering": {"bbox": {e: [covering, e] for e in _EDGES}}}},
    }
    return arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"geo": json.dumps(geo).encode()})


def _plain(table: Any) -> Any:
    """The attributes as pandas without geopandas' own attrs, which would land in the file."""
    plain = table.copy(deep=False)
    plain.attrs = {}
    return plain


def _column(table: gpd.GeoDataFrame) -> dict[str, Any]:
    """The geometry column's entry: encoding, CRS as PROJJSON (null: unknown), kinds of geometry, extent."""
    kinds = table.geometry.dropna().geom_type + table.geometry.dropna().has_z.map({True: " Z", False: ""})
    entry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(set(kinds)),
        "crs": None if table.crs is None else _without_member_ids(table.crs.to_json_dict()),
    }
    extent = table.total_bounds
    if np.isfinite(extent).all():
        entry["bbox"] = extent.tolist()
    return entry


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
