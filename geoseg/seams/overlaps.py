"""The ground that two polygons share, all of it or inside a box, as a number: without making its outline.

Most pairs at a seam are two drawings of one object, or neighbours, and of most of them the area that they share is all
that is asked for. With f the height of an edge of the one polygon over x, and g that of an edge of the other, the area
is the sum over all pairs of edges of the integral of min(f, g) over the x that both span, with the sign of their
directions: over each x the edges of a polygon count the ground below the upper ones and take off that below the
lower ones. Edges that no x has in common are told apart by comparing; the integral is taken of the few that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.seams.areas import area_inside, rings_of
from geoseg.seams.robust import intersection
from geoseg.seams.views import Boxes

EDGES = (16, 32, 64, 128)
"""Polygons are worked on in groups of at most so many edges; those with more, which are few, are cut by GEOS."""
AT_ONCE = 2**18
"""Pairs of edges that are compared together: what they need stays in the processor's cache."""
ROUNDING, TINY = 1e-9, 1e-6
"""Share of an area that is rounding, and square pixels below which outlines share nothing: they touch."""


def iou(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """``(n,)`` intersection over union of each pair of polygons; one of them may be empty. About five times as fast as
    GEOS, which makes the outline of what they share."""
    everywhere = np.tile([-np.inf, -np.inf, np.inf, np.inf], (len(one), 1))
    shared = shared_area(one, other, (shapely.bounds(one), shapely.bounds(other)), everywhere)
    return np.asarray(shared / (shapely.area(one) + shapely.area(other) - shared), np.float64)


def shared_area(
    one: NDArray[Any], other: NDArray[Any], bounds: tuple[Boxes, Boxes], frames: Boxes
) -> NDArray[np.float64]:
    """``(n,)`` area of the intersection of each pair of polygons inside its box.

    Args:
        one: ``(n,)`` polygons.
        other: ``(n,)`` polygons.
        bounds: their bounding boxes.
        frames: the boxes.

    A number depends on its own pair alone, to the last bit.
    """
    low = np.maximum(bounds[0][:, :2], bounds[1][:, :2])
    high = np.minimum(bounds[0][:, 2:], bounds[1][:, 2:])
    common = np.hstack([np.maximum(low, frames[:, :2]), np.minimum(high, frames[:, 2:])])
    meet = (common[:, 2:] > common[:, :2]).all(axis=1)
    free = (low >= frames[:, :2]) & (high <= frames[:, 2:])  # the box does not cut what they share, along x, along y
    out, done = np.zeros(len(one)), np.asarray(~meet, np.bool_)
    for axis in (0, 1):  # along which the box may cut
        rows = np.flatnonzero(~done & free[:, 1 - axis])
        out[rows], done[rows] = _along(axis, one[rows], other[rows], common[rows])
    least = np.minimum(shapely.area(one), shapely.area(other))
    # A great many edges, a box that cuts a corner, or a ring that crosses itself: what GEOS makes of it.
    rest = np.flatnonzero(~done | (out > least * (1 + ROUNDING) + TINY))
    out[rest] = area_inside(intersection(one[rest], other[rest]), frames[rest])
    return np.where(out > TINY, out, 0.0)


def _along(
    axis: int, one: NDArray[Any], other: NDArray[Any], boxes: Boxes
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The area that each pair shares between the low and the high side of its box along an axis; and of which pairs
    it was worked out."""
    f, g = _Edges.of(one, axis, boxes), _Edges.of(other, axis, boxes)
    edges = np.where(np.minimum(f.count, g.count) > 0, np.maximum(f.count, g.count), 0)
    out = np.zeros(len(one))
    for fewest, most in zip((0, *EDGES[:-1]), EDGES, strict=True):
        rows = np.flatnonzero((edges > fewest) & (edges <= most))
        for part in np.array_split(rows, -(-len(rows) * most**2 // AT_ONCE)) if len(rows) else ():
            out[part] = _summed(f, g, part, most)
    return out, edges <= EDGES[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Edges:
    """The edges of n polygons as lines over x, from left to right, cut to the x of the box of each; polygon by polygon.
    x and y count from the low corner of the box; they are swapped where the axis is 1."""

    start: NDArray[np.float64]
    """x."""
    end: NDArray[np.float64]
    """x."""
    height: NDArray[np.float64]
    """y at the start."""
    slope: NDArray[np.float64]
    """Of y by x."""
    sign: NDArray[np.float64]
    """1 where the polygon lies below, -1 where it lies above."""
    count: NDArray[np.int64]
    """``(n,)`` edges of each polygon."""

    @staticmethod
    def of(geometry: NDArray[Any], axis: int, boxes: Boxes) -> _Edges:
        """The edges of each polygon that reach into its box along the axis, but for those across it."""
        rings, owner, hole = rings_of(geometry)
        xy, of_point = shapely.get_coordinates(rings, return_index=True)
        xy = xy[:, [axis, 1 - axis]] - boxes[:, [axis, 1 - axis]][owner[of_point]]
        edge = np.flatnonzero(of_point[1:] == of_point[:-1])
        of_edge = of_point[edge]
        (x0, y0), (x1, y1) = xy[edge].T, xy[edge + 1].T
        area = np.bincount(of_edge, (x1 - x0) * (y0 + y1), len(rings))  # twice it; more than 0 where x runs on above
        turn = np.where(hole == (area < 0), 1.0, -1.0)
        width = (boxes[:, 2 + axis] - boxes[:, axis])[owner[of_edge]]
        left, right = np.minimum(x0, x1), np.maximum(x0, x1)
        there = (right > 0) & (left < width) & (right > left)
        x0, y0, x1, y1, left, right, width = (each[there] for each in (x0, y0, x1, y1, left, right, width))
        of_edge = of_edge[there]
        slope = (y1 - y0) / (x1 - x0)
        start = np.maximum(left, 0.0)
        return _Edges(
            start=start,
            end=np.minimum(right, width),
            height=np.where(x0 < x1, y0, y1) + slope * (start - left),
            slope=slope,
            sign=turn[of_edge] * np.where(x0 < x1, 1.0, -1.0),
            count=np.bincount(owner[of_edge], minlength=len(geometry)),
        )

    def laid(self, rows: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """``(rows, most)`` which edges are those of some polygons, their starts and their ends; of those that are not
        there, starts and ends are NaN."""
        first = np.cumsum(self.count) - self.count
        at = first[rows][:, None] + np.arange(most)
        there = np.arange(most) < self.count[rows][:, None]
        at = np.where(there, at, 0)
        return at, np.where(there, self.start[at], np.nan), np.where(there, self.end[at], np.nan)


def _summed(f: _Edges, g: _Edges, rows: NDArray[np.int64], most: int) -> NDArray[np.float64]:
    """The area that some pairs of polygons share."""
    (f_at, f_start, f_end), (g_at, g_start, g_end) = f.laid(rows, most), g.laid(rows, most)
    meet = np.flatnonzero((f_start[:, :, None] < g_end[:, None, :]) & (g_start[:, None, :] < f_end[:, :, None]))
    pair = meet // most**2
    i, j = f_at.ravel()[meet // most], g_at.ravel()[pair * most + meet % most]
    start = np.maximum(f.start[i], g.start[j])
    width = np.minimum(f.end[i], g.end[j]) - start
    g_slope = g.slope[j]
    g_start = g.height[j] + g_slope * (start - g.start[j])
    ahead = f.height[i] + f.slope[i] * (start - f.start[i]) - g_start
    ahead_end = ahead + (f.slope[i] - g_slope) * width
    # The lower of two lines is g less the integral of what f is below it: a triangle where they cross.
    crossing = ahead * ahead_end < 0
    step = np.where(crossing, ahead - ahead_end, 1.0)
    below, below_end = np.minimum(ahead, 0.0), np.minimum(ahead_end, 0.0)
    deficit = np.where(crossing, -(below * below + below_end * below_end) / np.abs(step), below + below_end)
    total = width * (2 * g_start + g_slope * width + deficit) * (f.sign[i] * g.sign[j])
    return np.asarray(np.abs(np.bincount(pair, total, len(rows))) / 2, np.float64)
