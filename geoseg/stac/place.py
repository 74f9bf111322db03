"""Where a raster lies, as STAC and GeoJSON have it: in degrees, split at the antimeridian."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import shapely
import shapely.affinity

from geoseg.grid import Grid, lonlat

_PER_SIDE = 16
_DIGITS = 7
"""Decimals of a degree: a centimetre."""


def outline_of(grid: Grid) -> tuple[dict[str, Any], list[float]]:
    """Geometry (a GeoJSON Polygon, or MultiPolygon across the antimeridian) and bbox of a grid, in degrees.

    The bbox is west, south, east, north; across the antimeridian west is the greater, and around a pole it is all of
    -180 to 180, up to the pole (RFC 7946, sections 5.2 and 5.3).
    """
    if grid.earth is None:
        lon, lat = grid.to_lonlat(*_ring(grid))
    else:
        lon, lat = lonlat(grid.crs, *shapely.get_coordinates(grid.earth).T)
    # Unwrapped along the ring: two neighbours are never half the globe apart.
    lon = np.unwrap(lon, period=360.0)
    round_a_pole = abs(lon[-1] - lon[0]) > 180.0
    if round_a_pole:  # the ring ends a turn on: in degrees, the ground lies between it and the line that is the pole
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, np.copysign([90.0, 90.0], lat.mean()))
    # East of -180, so that at most one turn lies beyond 180.
    lon -= 360.0 * np.floor((lon.min() + 180.0) / 360.0)
    whole = shapely.make_valid(shapely.Polygon(np.column_stack([lon, lat])))
    if grid.earth is not None and not _holds_centre(whole, grid):  # its rim is one meridian, on both sides
        whole = shapely.box(-180, -90, 180, 90)
    parts = [shapely.clip_by_rect(whole, -180, -90, 180, 90)]
    beyond = shapely.clip_by_rect(whole, 180, -90, 540, 90)
    west, south, east, north = whole.bounds
    if beyond.area > 0:
        parts.append(shapely.affinity.translate(beyond, -360))
        east -= 360
    if round_a_pole:
        west, east = -180.0, 180.0
    geometry = shapely.orient_polygons(shapely.set_precision(shapely.union_all(parts), 10**-_DIGITS))
    box = [round(float(value), _DIGITS) for value in (west, south, east, north)]
    return dict(json.loads(shapely.to_geojson(geometry))), box


def projection_of(grid: Grid) -> dict[str, Any]:
    """The fields of the Projection extension: how the raster's pixels lie in its own CRS."""
    authority = grid.crs.to_authority(min_confidence=100)
    fields: dict[str, Any] = {"proj:code": ":".join(authority) if authority else None}
    if not authority:
        fields["proj:wkt2"] = grid.crs.to_wkt()
    return fields | {
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [float(value) for value in tuple(grid.transform)[:6]],
    }


def _holds_centre(area: shapely.Geometry, grid: Grid) -> bool:
    """Whether an area in degrees, of any turn, holds the centre of a grid."""
    lon, lat = grid.to_lonlat(grid.height / 2, grid.width / 2)
    return bool(shapely.intersects_xy(area, float(lon) + 360.0 * np.arange(-1, 3), float(lat)).any())


def _ring(grid: Grid) -> tuple[Any, Any]:
    """Rows and columns around the grid, from its first corner and back to it, some on each side."""
    share = np.linspace(0.0, 1.0, _PER_SIDE + 1)[:-1]
    rows = np.concatenate([share * 0, share, share * 0 + 1, 1 - share, [0.0]]) * grid.height
    cols = np.concatenate([share, share * 0 + 1, 1 - share, share * 0, [0.0]]) * grid.width
    return rows, cols
