"""GeoJSON by RFC 7946, for small areas: longitude and latitude on WGS 84, 7 decimals (about 1 cm)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.bends import bending
from geoseg.sinks import tables
from geoseg.sinks.output import Output, write_with_siblings
from geoseg.turns import first_turn, turn
from geoseg.vectors import LONLAT

DECIMALS = 7
"""Of longitudes and latitudes: about 1 cm."""


def write(output: Output) -> None:
    """Write the footprints, cut in two at the antimeridian as RFC 7946 section 3.1.9 asks.

    Gaps and run lie beside it (``NAME.gaps.geojson``, ``NAME.geojson.run.json``).

    Raises:
        ConfigError: the table has no CRS or one that does not lead to WGS 84, or a column that the format cannot hold.
        SinkError: it cannot be written, or not every shape.
    """
    tables.check_crs(output.footprints.crs, "GeoJSON")
    if output.gaps is not None:
        tables.check_crs(output.gaps.crs, "GeoJSON")
    write_with_siblings(_write_layer, output)


def _write_layer(draft: Path, layer: str, table: tables.Table) -> None:
    # GDAL projects, cuts at 180 degrees, orders the rings and rounds, all by this one option.
    options = {"RFC7946": "YES", "COORDINATE_PRECISION": str(DECIMALS), "WRITE_BBOX": "YES", "ID_FIELD": "id"}
    if not _names_features(table):
        del options["ID_FIELD"]
    tables.write_layer(
        _ready(table),
        draft,
        layer=layer,
        driver="GeoJSON",
        multi=False,
        layer_options=options,
    )
    tables.check_shapes(draft, expected=tables.shape_count(table))


def _names_features(table: tables.Table) -> bool:
    """Whether the column ``id`` can be the features' own: text in each row. Of a null GDAL would make an empty text,
    and numbers there are no column to readers; those stay among the properties."""
    if not isinstance(table, gpd.GeoDataFrame):
        return True
    return "id" in table.columns and bool(table["id"].map(lambda value: isinstance(value, str)).all())


def _ready(table: tables.Table) -> tables.Table:
    """The table as GDAL can write it."""
    if isinstance(table, gpd.GeoDataFrame):
        shapes = _writable(table.geometry.to_numpy(), table.crs)
        return table.set_geometry(gpd.GeoSeries(shapes, table.index, table.crs))
    return _Ready(table)


class _Ready:
    """Rows of a stream, likewise."""

    def __init__(self, rows: tables.RowStream) -> None:
        self.schema, self.crs, self.labels, self.bounds = rows.schema, rows.crs, rows.labels, rows.bounds
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, size: int) -> Iterator[pa.Table]:
        """Tables of ``size`` rows, in order."""
        for batch in self._rows.batches(size):
            shapes = shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False))
            told = pa.array(shapely.to_wkb(_writable(shapes, self.crs)), self.schema.field("geometry").type)
            yield batch.set_column(batch.num_columns - 1, self.schema.field("geometry"), told)


def _writable(shapes: NDArray[Any], crs: Any) -> NDArray[Any]:
    """Longitudes in [-180, 360]: GDAL cuts those at 180 degrees, and empties what lies beyond. Edges as they lie."""
    source = CRS.from_user_input(crs)
    whole = turn(source)
    shapes = first_turn(shapes, whole) if whole else shapes
    return _roundable(bending(shapes, source, LONLAT), crs)


def _roundable(shapes: NDArray[Any], crs: Any) -> NDArray[Any]:
    """Polygons that rounding would make invalid, without what is thinner than the last decimal: what GDAL makes of
    such holds lines and points as well."""
    lonlat = gpd.GeoSeries(shapes, crs=crs).to_crs(LONLAT).to_numpy()
    west, _, east, _ = shapely.bounds(lonlat).T
    sound = shapely.is_valid(lonlat) & (east - west < 180)  # wider: across the antimeridian, or around a pole
    rounded = shapely.transform(lonlat[sound], lambda xy: np.round(xy, DECIMALS))
    broken = np.flatnonzero(sound)[~shapely.is_valid(rounded)]
    repaired = shapely.set_precision(lonlat[broken], 10.0**-DECIMALS)
    left = ~shapely.is_empty(repaired)
    shapes = shapes.copy()
    shapes[broken[left]] = gpd.GeoSeries(repaired[left], crs=LONLAT).to_crs(crs).to_numpy()
    return shapes
