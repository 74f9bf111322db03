"""Longitudes that are told apart by whole turns: 181 is not -179 where a raster reaches beyond 180 degrees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from pyproj import CRS, Transformer

Floats = NDArray[np.float64]


def turn(crs: CRS) -> float:
    """A whole turn of longitude, in units of ``crs``: 360, or 400 where those are grads; 0 where x is no longitude."""
    return math.tau / float(crs.axis_info[0].unit_conversion_factor) if crs.is_geographic else 0.0


def transformed(source: CRS, target: CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Positions in another CRS. Where one of both is geographic, longitudes of 181 and -179 are told apart.

    PROJ makes one of the other, on the way into a projection and at every datum shift.
    """
    x_out, y_out = np.array(Transformer.from_crs(source, target, always_xy=True).transform(x, y))
    if not (source.is_geographic or target.is_geographic) or source.geodetic_crs is None or target.geodetic_crs is None:
        return x_out, y_out
    lon, _ = _projected(source, source.geodetic_crs, x, y)
    lon_out, lat_out = _projected(target, target.geodetic_crs, x_out, y_out)
    whole, whole_out = turn(source.geodetic_crs), turn(target.geodetic_crs)
    with np.errstate(invalid="ignore"):
        turns = np.round(lon / whole - lon_out / whole_out)
    off = np.isfinite(turns) & (turns != 0)
    if not off.any():
        return x_out, y_out
    unrolled = _projected(target.geodetic_crs, target, lon_out[off] + turns[off] * whole_out, lat_out[off])
    x_out[off], y_out[off] = unrolled
    return x_out, y_out


def moved(area: shapely.Geometry, source: CRS, target: CRS) -> shapely.Geometry:
    """A geometry in another CRS, by :func:`transformed`."""
    return shapely.transform(area, lambda xy: np.column_stack(transformed(source, target, xy[:, 0], xy[:, 1])))


def first_turn(geometries: NDArray[Any], whole: float) -> NDArray[Any]:
    """Geometries ``(n,)``, each moved by whole turns to where its western end lies in [-180, 180) degrees.

    ``whole`` is a turn in their unit.
    """
    turns = np.floor(shapely.bounds(geometries)[:, 0] / whole + 0.5)
    moved = geometries.copy()
    for i in np.flatnonzero(np.isfinite(turns) & (turns != 0)):
        moved[i] = shapely.affinity.translate(geometries[i], -turns[i] * whole)
    return moved


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


def _projected(source: CRS, target: CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """From a CRS to the longitudes under it, or back, however many turns."""
    if source == target:
        return x, y
    transformer = Transformer.from_crs(source, target, always_xy=True, force_over=True)
    return tuple(np.asarray(values) for values in transformer.transform(x, y))  # type: ignore[return-value]
