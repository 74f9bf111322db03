"""Longitudes that are told apart by whole turns: 181 is not -179 where a raster reaches beyond 180 degrees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Transformer

Floats = NDArray[np.float64]


def turn(crs: CRS) -> float:
    """A whole turn of longitude, in units of ``crs``: 360, or 400 where those are grads; 0 where x is no longitude."""
    return math.tau / float(crs.axis_info[0].unit_conversion_factor) if crs.is_geographic else 0.0


def geographic(crs: CRS) -> CRS | None:
    """The CRS of true longitude and latitude under another: of a rotated pole not its own, which it has as well."""
    base = crs.geodetic_crs
    while base is not None and base.is_derived:
        base = base.source_crs
    return base if base is not None and base.is_geographic else None


def transformed(source: CRS, target: CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Positions in another CRS. Where one of both is geographic, longitudes of 181 and -179 are told apart.

    PROJ makes one of the other, on the way into a projection and at every datum shift.
    """
    if source.is_geographic or target.is_geographic:
        return _unrolled(source, target, x, y)
    x_out, y_out = np.array(Transformer.from_crs(source, target, always_xy=True).transform(x, y))
    return x_out, y_out


def moved(area: shapely.Geometry, source: CRS, target: CRS) -> shapely.Geometry:
    """A geometry in another CRS, by :func:`transformed`."""
    return shapely.transform(area, lambda xy: np.column_stack(transformed(source, target, xy[:, 0], xy[:, 1])))


def beside(
    geometries: NDArray[Any], source: CRS, target: CRS, at_xy: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Geometries in another CRS, each part of them as many turns round as brings it next to ``at_xy``.

    Args:
        geometries: ``(n,)``; may hold None.
        source: their CRS.
        target: the other.
        at_xy: a place in ``target``, or ``(n, 2)`` of them.

    Returns:
        ``(n,)`` geometries, 2-D; and which of them have parts that went different ways: those were cut in two at 180
        degrees, as RFC 7946 asks, and abut now.
    """
    parts, owner = shapely.get_parts(geometries, return_index=True)
    parts, nested = shapely.get_parts(parts, return_index=True)
    xy, part = shapely.get_coordinates(parts, return_index=True)
    ways = np.zeros(len(parts))
    base = geographic(target)
    at = np.broadcast_to(np.asarray(at_xy, float), (len(geometries), 2))
    at_lon = _projected(target, base, at[:, 0].copy(), at[:, 1].copy())[0][owner[nested]] if base else ways

    def nearest(lon: Floats, whole: float) -> Floats:
        west, east = np.full((2, len(parts)), np.nan)
        np.fmin.at(west, part, lon)
        np.fmax.at(east, part, lon)
        on = np.round((at_lon - (west + east) / 2) / whole)
        ways[:] = np.where(np.isfinite(on), on, 0.0)
        return np.asarray(ways[part])

    xy = np.column_stack(_unrolled(source, target, xy[:, 0], xy[:, 1], nearest))
    least, most = np.full((2, len(geometries)), np.nan)
    np.fmin.at(least, owner[nested], ways)
    np.fmax.at(most, owner[nested], ways)
    return np.asarray(shapely.set_coordinates(shapely.force_2d(geometries), xy), dtype=object), least < most


def cut(area: shapely.Geometry, source: CRS, target: CRS) -> shapely.Geometry | None:
    """Polygons in another CRS, cut at the meridian where that ends in the east and begins in the west.

    None where it has no longitude under it, or not for them.
    """
    base = geographic(target)
    if base is None:
        return None
    whole, end = turn(base), _eastern_end(target, base)
    parts: list[Any] = []
    for polygon in shapely.get_parts(area):
        rings = [_unwound(shapely.get_coordinates(ring), source, base) for ring in shapely.get_rings(polygon)]
        if not all(np.isfinite(ring).all() for ring in rings):
            return None
        shell, *holes = (_within(ring, end, whole) for ring in rings)
        there = shapely.difference(shell, shapely.union_all(holes)) if holes else shell
        there = shapely.transform(there, lambda xy: np.column_stack(_projected(base, target, xy[:, 0], xy[:, 1])))
        parts += [part for part in shapely.get_parts(shapely.get_parts(there)) if part.geom_type == "Polygon"]
    return shapely.orient_polygons(shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0]) if parts else None


def _unwound(ring: Floats, source: CRS, base: CRS) -> Floats:
    """A ring ``(n, 2)`` in longitude and latitude that does not leap: a polar map's longitudes do, at one meridian.

    One around a pole is closed along it.
    """
    whole, quarters = turn(base), np.arange(4)[:, None] / 4  # of an edge: it may be half the earth long
    fine = (ring[:-1, None] + quarters * (ring[1:, None] - ring[:-1, None])).reshape(-1, 2)
    fine = np.concatenate([fine, ring[-1:]])
    lon, lat = _unrolled(source, base, fine[:, 0], fine[:, 1])
    with np.errstate(invalid="ignore"):
        lon[1:] -= whole * np.cumsum(np.round(np.diff(lon) / whole))
    lonlat = np.column_stack([lon, lat])[::4]
    if abs(lonlat[-1, 0] - lonlat[0, 0]) > whole / 2:
        pole = np.copysign(whole / 4, lat.mean())
        lonlat = np.concatenate([lonlat, [(lonlat[-1, 0], pole), (lonlat[0, 0], pole), lonlat[0]]])
    return lonlat


def _within(ring: Floats, end: float, whole: float) -> shapely.Geometry:
    """What a ring holds, in pieces on the one turn that ends at a longitude."""
    first, last = (int(n) for n in np.ceil((np.array([ring[:, 0].min(), ring[:, 0].max()]) - end) / whole))
    there, pieces = shapely.make_valid(shapely.Polygon(ring)), []
    for n in range(first, last + 1):
        piece = shapely.intersection(there, shapely.box(end + whole * (n - 1), -whole, end + whole * n, whole))
        pieces.append(shapely.affinity.translate(piece, -whole * n))
    return shapely.union_all(pieces)


def first_turn(geometries: NDArray[Any], whole: float) -> NDArray[Any]:
    """Geometries ``(n,)``, each moved by whole turns to where its western end lies in [-180, 180) degrees.

    ``whole`` is a turn in their unit.
    """
    return _turned(geometries, -np.floor(shapely.bounds(geometries)[:, 0] / whole + 0.5), whole)


def next_to(geometries: NDArray[Any], lon: float, whole: float) -> NDArray[Any]:
    """Geometries ``(n,)``, each moved by whole turns to where its middle is within half a turn of ``lon``."""
    west, _, east, _ = shapely.bounds(geometries).T
    return _turned(geometries, np.round((lon - (west + east) / 2) / whole), whole)


def unwrapped(lon: Floats, whole: float) -> tuple[Floats, bool]:
    """Longitudes ``(rows, cols)`` of a lattice without the jump of a projection around a pole; whether one lies in it.

    ``whole`` is a turn in their unit; NaN where there is no longitude.
    """

    def jumps(values: Floats) -> bool:
        return any(bool((np.abs(np.diff(values, axis=axis)) > whole / 2).any()) for axis in (0, 1))

    if not jumps(lon):
        return lon, False
    known = lon[~np.isnan(lon)]
    lon = lon - whole * np.round((lon - known[len(known) // 2]) / whole)
    return lon, jumps(lon)


def _turned(geometries: NDArray[Any], turns: Floats, whole: float) -> NDArray[Any]:
    there = geometries.copy()
    for i in np.flatnonzero(np.isfinite(turns) & (turns != 0)):
        there[i] = shapely.affinity.translate(geometries[i], turns[i] * whole)
    return there


def _unrolled(
    source: CRS, target: CRS, x: Floats, y: Floats, more: Callable[[Floats, float], Floats] | None = None
) -> tuple[Floats, Floats]:
    """Positions in another CRS, on the turn that they have in theirs; where both have longitudes under them.

    ``more``, of longitudes (NaN where there is none) and the length of a turn, tells how many turns to go on.
    """
    straight = (x, y) if source == target else Transformer.from_crs(source, target, always_xy=True).transform(x, y)
    x_out, y_out = np.array(straight)
    base, base_out = geographic(source), geographic(target)
    if base is None or base_out is None:
        return x_out, y_out
    lon, _ = _projected(source, base, x, y)
    lon_out, lat_out = _projected(target, base_out, x_out, y_out)
    whole, whole_out = turn(base), turn(base_out)
    with np.errstate(invalid="ignore"):
        turns = np.round(lon / whole - lon_out / whole_out)
        known = np.isfinite(turns)
        if more is not None:
            turns = turns + more(np.where(known, lon_out + turns * whole_out, np.nan), whole_out)
    off = known & (turns != 0)
    if off.any():
        unrolled = _projected(base_out, target, lon_out[off] + turns[off] * whole_out, lat_out[off])
        x_out[off], y_out[off] = unrolled
    return x_out, y_out


def _eastern_end(crs: CRS, base: CRS) -> float:
    """The longitude under a CRS that is half a turn from the middle one of its projection, in units of ``base``."""
    operation = None if crs.is_geographic else crs.coordinate_operation
    middle = [each for each in operation.params if each.name.startswith("Longitude of")] if operation else []
    radians = math.pi + (float(middle[0].value) * middle[0].unit_conversion_factor if middle else 0.0)
    return float(radians / base.axis_info[0].unit_conversion_factor)


def _projected(source: CRS, target: CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """From a CRS to the longitudes under it, or back, however many turns."""
    if source == target:
        return x, y
    transformer = Transformer.from_crs(source, target, always_xy=True, force_over=True)
    return tuple(np.asarray(values) for values in transformer.transform(x, y))  # type: ignore[return-value]
