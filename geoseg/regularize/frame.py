"""The direction of a building's walls."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def edges(geometry: NDArray[Any]) -> tuple[Floats, NDArray[np.int64]]:
    """``(m, 4)`` x0, y0, x1, y1 of all ring edges with the interior on their left, and the row of each."""
    parts, owner = shapely.get_parts(geometry, return_index=True)  # get_rings passes over what has several
    rings, part = shapely.get_rings(shapely.orient_polygons(parts), return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    return np.column_stack([xy[:-1], xy[1:]])[same], np.asarray(owner[part[ring[1:][same]]], np.int64)


def dominant_angles(geometry: NDArray[Any]) -> Floats:
    """Direction of the walls of each polygon, 0 <= radians < pi / 2, counted from x towards y.

    Turned by the right angle, the sum of the edges' extents along x and y is least: for a right-angled
    outline it is the perimeter, at any other angle up to sqrt(2) times as much. The minimum is sought in
    steps of one degree, then the mean direction of the edges near it is taken, long edges counting more (by
    the square).
    """
    line, owner = edges(geometry)
    dx, dy = line[:, 2] - line[:, 0], line[:, 3] - line[:, 1]
    length, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    n = len(geometry)
    least, best = np.full(n, np.inf), np.zeros(n)
    for step in np.radians(np.arange(90)):
        cos, sin = np.cos(step), np.sin(step)
        extent = np.bincount(owner, np.abs(cos * dx + sin * dy) + np.abs(cos * dy - sin * dx), n)
        best = np.where(extent < least, step, best)
        least = np.minimum(extent, least)
    for window in np.radians([15.0, 8.0, 8.0]):
        off = _quarter(angle - best[owner])
        weight = np.where(np.abs(off) <= window, length**2, 0.0)
        best = best + np.bincount(owner, weight * off, n) / np.maximum(np.bincount(owner, weight, n), 1e-12)
    return np.asarray(best % (np.pi / 2), np.float64)


def _quarter(angle: Floats) -> Floats:
    """Angles brought to -pi/4 .. pi/4 by right angles."""
    return np.asarray((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4, np.float64)


def apart(one: Floats, other: Floats) -> Floats:
    """How far two wall directions differ, in radians, right angles aside."""
    return np.abs(_quarter(one - other))


def turned(geometry: NDArray[Any], angle: Floats) -> NDArray[Any]:
    """Each polygon turned by its angle (radians, from x towards y) about the origin."""
    xy, owner = shapely.get_coordinates(geometry, return_index=True)
    cos, sin = np.cos(angle)[owner], np.sin(angle)[owner]
    moved = np.column_stack([cos * xy[:, 0] - sin * xy[:, 1], sin * xy[:, 0] + cos * xy[:, 1]])
    return np.asarray(shapely.set_coordinates(geometry.copy(), moved), dtype=object)
