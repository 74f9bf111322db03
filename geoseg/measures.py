"""Metres and degrees on the ground, whatever the CRS.

Each footprint is measured in its own tangent frame: its vertices go from the CRS to longitude and latitude,
from there to earth-centred coordinates, and from there to metres east and north of a point inside it.
Dropping the height over that plane costs a relative error of about (distance / earth's radius)^2 / 2: 3e-7 at
5 km. Poles and the antimeridian need no special case. Footprints that reach farther are measured along
geodesics between points set closely on their edges, which are straight in the CRS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod

from geoseg.errors import RasterError
from geoseg.grid import lonlat
from geoseg.polygons import polygonal, valid

FAR_M = 5000.0
"""Footprints with a vertex farther than this, in metres, from a point inside are measured along geodesics."""
_PIECES, _STRIPS = 1000, 4
"""How finely these are cut: of the edges of a map of the world, a piece is 40 km long."""

Floats = NDArray[np.float64]


def measure(geometry: NDArray[Any], crs: CRS) -> dict[str, Floats]:
    """Measures of polygons, as columns of float64.

    ``area_m2`` and ``perimeter_m`` (shells and holes) lie within 0.001 % of geodesic ones. ``length_m``,
    ``width_m`` and ``orientation_deg`` are those of the smallest rectangle around it on the ground, at any
    angle: its long side, its short side, and the bearing of the long side, 0 <= degrees < 180 clockwise from
    true north.
    ``lon``, ``lat`` is a point on the footprint, in degrees on the datum of the CRS.

    Args:
        geometry: ``(n,)`` Polygons or MultiPolygons in ground coordinates (x, y).
        crs: their CRS.

    Raises:
        RasterError: the CRS is tied to no ellipsoid, or cannot turn a vertex into longitude and latitude.
    """
    geometry = np.asarray(geometry, dtype=object)
    geod = crs.get_geod() or Geod(ellps="WGS84")
    points = shapely.point_on_surface(geometry)
    lon0, lat0 = _on_earth(crs, np.column_stack([shapely.get_x(points), shapely.get_y(points)]))
    xy, owner = shapely.get_coordinates(geometry, return_index=True)
    lon, lat = _on_earth(crs, xy)
    if not all(np.isfinite(each).all() for each in (lon0, lat0, lon, lat)):
        raise RasterError(
            f"ground that has no longitude and latitude in {crs.name}",
            allowed="coordinates inside the CRS's area of use",
            remedy="Cut out or warp what is wanted of the raster, e.g. with gdalwarp -t_srs EPSG:4326",
        )
    flat = _with_coordinates(geometry, _tangent(lon, lat, lon0, lat0, owner, geod))
    found = {"area_m2": shapely.area(flat), "perimeter_m": shapely.length(flat), **_rectangle(flat)}
    reach = np.zeros(len(geometry))
    np.maximum.at(reach, owner, np.hypot(*shapely.get_coordinates(flat).T))
    for i in np.flatnonzero(reach > FAR_M):
        found["area_m2"][i], found["perimeter_m"][i] = _geodesic(geometry[i], crs, geod)
    return {**found, "lon": (lon0 + 180.0) % 360.0 - 180.0, "lat": lat0}


def _on_earth(crs: CRS, xy: Floats) -> tuple[Floats, Floats]:
    """Longitude and latitude of ``(n, 2)`` ground positions.

    What lies beyond a pole, as half of the first row of a global raster does whose pixels are centred on it, is the
    pole: ground there would count back, or not at all.
    """
    lon, lat = lonlat(crs, xy[:, 0], xy[:, 1])
    return lon, np.where(np.isfinite(lat), np.clip(lat, -90.0, 90.0), lat)


def _tangent(lon: Floats, lat: Floats, lon0: Floats, lat0: Floats, owner: NDArray[np.int64], geod: Geod) -> Floats:
    """``(points, 2)`` metres east and north of each footprint's own origin ``(lon0, lat0)``."""
    offset = _earth_centred(lon, lat, geod) - _earth_centred(lon0, lat0, geod)[owner]
    (sl, cl), (sp, cp) = (np.array([np.sin(a), np.cos(a)])[:, owner] for a in np.radians([lon0, lat0]))
    x, y, z = offset.T
    return np.column_stack([cl * y - sl * x, cp * z - sp * (cl * x + sl * y)])


def _earth_centred(lon: Floats, lat: Floats, geod: Geod) -> Floats:
    """``(points, 3)`` geocentric coordinates in metres of points on the ellipsoid (EPSG method 9602)."""
    lon, lat = np.radians(lon), np.radians(lat)
    normal = geod.a / np.sqrt(1.0 - geod.es * np.sin(lat) ** 2)
    ring = normal * np.cos(lat)
    return np.column_stack([ring * np.cos(lon), ring * np.sin(lon), normal * (1.0 - geod.es) * np.sin(lat)])


def _with_coordinates(geometry: NDArray[Any], xy: Floats) -> NDArray[Any]:
    return np.asarray(shapely.set_coordinates(geometry.copy(), xy), dtype=object)


def _rectangle(flat: NDArray[Any]) -> dict[str, Floats]:
    """Sides and bearing of the rectangle of least area around each polygon (metres east, north)."""
    around = shapely.oriented_envelope(flat)
    count = shapely.get_num_coordinates(around)[:, None]
    # A line or a point of what has no area on the ground, as all that lies beyond a pole: its last corner counts again.
    at = np.cumsum(count)[:, None] - count + np.minimum(np.arange(3), count - 1)
    corners = shapely.get_coordinates(around)[at]
    sides = corners[:, 1:] - corners[:, :-1]
    lengths = np.hypot(sides[..., 0], sides[..., 1])
    longest = np.argmax(lengths, axis=1)
    east, north = sides[np.arange(len(flat)), longest].T
    bearing = np.degrees(np.arctan2(east, north)) % 180.0
    return {
        "length_m": lengths.max(axis=1, initial=0.0),
        "width_m": lengths.min(axis=1, initial=np.inf),
        "orientation_deg": np.where(bearing >= 180.0, 0.0, bearing),  # -1e-17 % 180 is 180
    }


def _geodesic(geometry: Any, crs: CRS, geod: Geod) -> tuple[float, float]:
    """Area and perimeter of one (Multi)Polygon along its edges, which are straight in its CRS, by short geodesics."""
    west, south, east, north = geometry.bounds
    step = max(east - west, north - south) / _PIECES
    perimeter = sum(_of_ring(ring, step, crs, geod)[1] for ring in _rings(geometry))
    # A ring's area is known but for all of the earth's: no strip of a map of the world holds half of it.
    edges = np.linspace(west, east, _STRIPS + 1)
    whole = valid(np.array([geometry], dtype=object))  # rounding on the way to the ground may have broken it
    strips = shapely.intersection(whole, shapely.box(edges[:-1], south, edges[1:], north))
    parts, area = shapely.get_parts(polygonal(strips)), 0.0
    for part in parts[~shapely.is_empty(parts)]:
        outer, *holes = (abs(_of_ring(ring, step, crs, geod)[0]) for ring in _rings(part))
        area += outer - sum(holes)
    return area, perimeter


def _rings(geometry: Any) -> NDArray[Any]:
    """All rings of a (Multi)Polygon, of each part its shell first."""
    return np.asarray(shapely.get_rings(shapely.get_parts(geometry)), dtype=object)


def _of_ring(ring: Any, step: float, crs: CRS, geod: Geod) -> tuple[float, float]:
    """Area, with a sign, and length of a ring, cut into pieces of ``step`` in units of the CRS."""
    lon, lat = _on_earth(crs, shapely.get_coordinates(shapely.segmentize(ring, step)))
    area, length = geod.polygon_area_perimeter(lon, lat)
    return float(area), float(length)
