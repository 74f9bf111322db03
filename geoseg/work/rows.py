"""Outlines, merged objects, gaps and footprints as Arrow tables, and back: to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from geoseg.footprints import COLUMNS, Keys
from geoseg.gaps import Gap
from geoseg.outlines import Outlines
from geoseg.seams import Merged


def outlines_table(outlines: Outlines) -> pa.Table:
    """A row per outline; geometry as WKB."""
    return pa.table(
        {
            "geometry": wkb(outlines.geometry),
            "score": outlines.scores,
            "label": outlines.labels,
            "tile_row": np.ascontiguousarray(outlines.tiles[:, 0]),
            "tile_col": np.ascontiguousarray(outlines.tiles[:, 1]),
        }
    )


def outlines_of(table: pa.Table) -> Outlines:
    """The inverse of :func:`outlines_table`."""
    return Outlines(
        geometry=shapes(table.column("geometry")),
        scores=_values(table, "score", np.float32),
        labels=_values(table, "label", np.int64),
        tiles=np.column_stack([_values(table, "tile_row", np.int32), _values(table, "tile_col", np.int32)]),
    )


def merged_table(merged: Merged) -> pa.Table:
    """A row per object."""
    table = outlines_table(merged.outlines)
    return table.append_column("n_tiles", pa.array(merged.n_tiles)).append_column(
        "agreement", pa.array(merged.agreement)
    )


def merged_of(table: pa.Table) -> Merged:
    """The inverse of :func:`merged_table`."""
    return Merged(
        outlines=outlines_of(table),
        n_tiles=_values(table, "n_tiles", np.int32),
        agreement=_values(table, "agreement", np.float64),
    )


def gaps_table(gaps: Sequence[Gap]) -> pa.Table:
    """A row per gap."""
    geometry = np.empty(len(gaps), object)
    geometry[:] = [gap.geometry for gap in gaps]
    text = pa.string()
    return pa.table(
        {
            "geometry": wkb(geometry),
            "reason": pa.array([gap.reason for gap in gaps], text),
            "detail": pa.array([gap.detail for gap in gaps], text),
        }
    )


def gaps_of(table: pa.Table) -> list[Gap]:
    """The inverse of :func:`gaps_table`."""
    rows = zip(
        shapes(table.column("geometry")),
        table.column("reason").to_pylist(),
        table.column("detail").to_pylist(),
        strict=True,
    )
    return [Gap(geometry=geometry, reason=reason, detail=detail) for geometry, reason, detail in rows]


KEYS = ("key_top", "key_left", "key_shape")
"""Columns of what footprints are put in order by."""


def footprints_table(table: gpd.GeoDataFrame, keys: Keys) -> pa.Table:
    """A row per footprint: its attributes, ``geometry`` as WKB, and :data:`KEYS`."""
    arrow = pa.Table.from_pandas(_plain(table), schema=_attributes(), preserve_index=False)
    arrow = arrow.replace_schema_metadata(None).append_column("geometry", wkb(table.geometry.to_numpy()))
    for name, values in zip(KEYS, (keys.top, keys.left, keys.shape), strict=True):
        arrow = arrow.append_column(name, pa.array(values))
    return arrow


def footprints_of(tables: Sequence[pa.Table], crs: Any) -> gpd.GeoDataFrame:
    """Tables of rows in order (without :data:`KEYS`) as one table of footprints."""
    whole = pa.concat_tables([rows_schema().empty_table(), *tables])
    plain = whole.drop_columns(["geometry"]).to_pandas().astype(COLUMNS)
    return gpd.GeoDataFrame(plain, geometry=shapes(whole.column("geometry")), crs=crs)


def rows_schema() -> pa.Schema:
    """Attributes and geometry."""
    return _attributes().append(pa.field("geometry", pa.binary()))


_ARROW = {
    "str": pa.string(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "datetime64[ms, UTC]": pa.timestamp("ms", "UTC"),
}


def _attributes() -> pa.Schema:
    return pa.schema([(name, _ARROW[dtype]) for name, dtype in COLUMNS.items()])


def _plain(table: gpd.GeoDataFrame) -> Any:
    """The attributes as pandas without geopandas' own attrs."""
    plain = table.drop(columns=str(table.geometry.name))
    plain.attrs = {}
    return plain


def wkb(geometry: NDArray[Any]) -> pa.Array:
    """Geometries as WKB; none is null."""
    return pa.array(shapely.to_wkb(geometry, flavor="iso"), type=pa.binary())


def shapes(column: pa.ChunkedArray) -> NDArray[Any]:
    """The inverse of :func:`wkb`."""
    found: NDArray[Any] = shapely.from_wkb(column.to_numpy(zero_copy_only=False))
    return found


def _values(table: pa.Table, name: str, dtype: type) -> NDArray[Any]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype)
