"""Straight walls at any angle."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.regularize.frame import Floats

_BEND = np.radians(20.0)
"""Walls that meet at less than this are not prolonged to their crossing, which may lie far away."""


def straighten(geometry: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Polygons redrawn from straight walls, each the least-squares line through the points of the outline
    along it.

    Corners are where neighbouring walls cross, so rounded corners become sharp. Corners move by at most three
    times the tolerance. Where that gives no valid polygon, the polygon is returned as it is.
    """
    parts, owner = shapely.get_parts(geometry, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    single = np.bincount(owner, minlength=len(geometry)) == 1
    result = geometry.copy()
    for row in np.flatnonzero(single):
        first, last = np.searchsorted(part, np.searchsorted(owner, [row, row + 1]))
        drawn = [_straight(shapely.get_coordinates(ring)[:-1], tolerance) for ring in rings[first:last]]
        if all(len(xy) >= 3 for xy in drawn):
            polygon = shapely.Polygon(drawn[0], drawn[1:])
            if polygon.is_valid:
                result[row] = polygon
    return result


def _straight(ring: Floats, tolerance: float) -> Floats:
    """Corners of one ring of vertices (not closed)."""
    # Simplification keeps the first vertex: it had better be a corner.
    ring = np.roll(ring, -int(np.argmax(((ring - ring.mean(axis=0)) ** 2).sum(axis=1))), axis=0)
    closed = shapely.LineString(np.vstack([ring, ring[:1]]))
    dense: Floats = shapely.get_coordinates(shapely.segmentize(closed, tolerance / 2))
    thin: Floats = shapely.get_coordinates(shapely.simplify(closed, tolerance, preserve_topology=False))
    corners = _positions(dense, thin)
    corners = _without_bevels(dense, corners, tolerance)
    if len(corners) < 4:
        return thin[:-1]
    middle, direction = _lines(dense, corners, tolerance)
    before_middle, before = np.roll(middle, 1, axis=0), np.roll(direction, 1, axis=0)
    cross = before[:, 0] * direction[:, 1] - before[:, 1] * direction[:, 0]
    gap = middle - before_middle
    bends = np.abs(cross) > np.sin(_BEND)
    along = (gap[:, 0] * direction[:, 1] - gap[:, 1] * direction[:, 0]) / np.where(bends, cross, 1.0)
    crossing = before_middle + along[:, None] * before
    old = dense[corners[:-1]]
    near = bends & (np.hypot(*(crossing - old).T) <= 3 * tolerance)
    return np.asarray(np.where(near[:, None], crossing, old), np.float64)


def _positions(dense: Floats, thin: Floats) -> NDArray[np.int64]:
    """Where the vertices of the simplified ring stand among the dense ones, in order."""
    index, found = 0, []
    same = {tuple(xy): i for i, xy in reversed(list(enumerate(dense.tolist()[:-1])))}
    for xy in thin[:-1].tolist():
        index = same[tuple(xy)]
        found.append(index)
    return np.array([*found, len(dense) - 1], np.int64)


def _without_bevels(dense: Floats, corners: NDArray[np.int64], tolerance: float) -> NDArray[np.int64]:
    """Corners with both ends of each short side made one, in its middle: a rounded corner is one corner."""
    steps = np.diff(corners)
    short = np.hypot(*(dense[corners[1:]] - dense[corners[:-1]]).T) < 2.5 * tolerance
    short[-1] = short[0] = False  # the ring's first corner stays
    short[1:] &= ~short[:-1]
    kept = corners.copy()
    kept[1:-1] = np.where(short[1:], corners[1:-1] + steps[1:] // 2, corners[1:-1])
    drop = np.r_[False, False, short[1:]][: len(kept)]
    return np.asarray(kept[~drop], np.int64)


def _lines(dense: Floats, corners: NDArray[np.int64], tolerance: float) -> tuple[Floats, Floats]:
    """Middle and unit direction of the line through the points of each side, those near its ends left out."""
    middles, directions = [], []
    for first, last in zip(corners[:-1].tolist(), corners[1:].tolist(), strict=True):
        margin = min(int(3 * tolerance / (tolerance / 2)), (last - first) // 4)
        points = dense[first + margin : last + 1 - margin]
        middle = points.mean(axis=0)
        x, y = (points - middle).T
        angle = np.arctan2(2 * (x * y).sum(), (x * x).sum() - (y * y).sum()) / 2
        middles.append(middle)
        directions.append([np.cos(angle), np.sin(angle)])
    return np.array(middles), np.array(directions)
