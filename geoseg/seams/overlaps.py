"""The ground that two polygons share inside a box, as a number: without making its outline, where they are simple.

Most pairs at a seam are two drawings of one small object, and of most of them the area that they share is all that is
asked for. With f the height of an edge of the one polygon over x, and g that of an edge of the other, the area is
the sum over all pairs of edges of the integral of min(f, g) over the x that both span, with the sign of their
directions: over each x the edges of a polygon count the ground below the upper ones and take off that below the
lower ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.seams.areas import area_inside, simple
from geoseg.seams.robust import intersection
from geoseg.seams.views import Boxes

EDGES = (6, 9, 12, 16)
"""Polygons are worked on in groups of at most so many edges; those with more, or with holes or parts, are cut by GEOS,
which is as fast for them."""
AT_ONCE = 1024
"""Pairs that are worked on together: what they need stays in the processor's cache."""
ROUNDING, TINY = 1e-9, 1e-6
"""Share of an area that is rounding, and square pixels below which outlines share nothing: they touch."""

Ring = NDArray[np.float64]
"""``(n, edges, 2)`` start of each edge; the last points are repeated up to the number of edges of the group."""


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
    meet = (np.minimum(high, frames[:, 2:]) > np.maximum(low, frames[:, :2])).all(axis=1)
    free = (low >= frames[:, :2]) & (high <= frames[:, 2:])  # the box does not cut what they share, along x, along y
    edges = np.maximum(_edges(one), _edges(other))
    done = np.asarray(~meet, np.bool_)
    out = np.zeros(len(one))
    for fewest, most in zip((0, *EDGES[:-1]), EDGES, strict=True):
        for axis in (0, 1):  # along which the box may cut
            rows = np.flatnonzero(meet & ~done & (edges > fewest) & (edges <= most) & free[:, 1 - axis])
            for part in np.array_split(rows, -(-len(rows) // AT_ONCE)) if len(rows) else ():
                mine, theirs = (_ring(side[part], most, axis) for side in (one, other))
                out[part] = _summed(mine, theirs, frames[part][:, [axis, 2 + axis]])
            done[rows] = True
    least = np.minimum(shapely.area(one), shapely.area(other))
    # No simple polygon, or a ring that crosses itself: what GEOS makes of it.
    rest = np.flatnonzero(~done | (out > least * (1 + ROUNDING) + TINY))
    out[rest] = area_inside(intersection(one[rest], other[rest]), frames[rest])
    return np.where(out > TINY, out, 0.0)


def _edges(geometry: NDArray[Any]) -> NDArray[np.int64]:
    """Edges of simple polygons; a great many of all others."""
    edges = shapely.get_num_coordinates(geometry).astype(np.int64) - 1
    return np.where(simple(geometry), edges, np.iinfo(np.int64).max)


def _ring(geometry: NDArray[Any], edges: int, axis: int) -> Ring:
    """``(n, edges + 1, 2)`` points of polygons without holes, x and y swapped where ``axis`` is 1."""
    xy, of = shapely.get_coordinates(geometry, return_index=True)
    count = np.bincount(of, minlength=len(geometry))
    first = np.cumsum(count) - count
    at = first[:, None] + np.minimum(np.arange(edges + 1), count[:, None] - 1)
    return np.asarray(xy[at] if axis == 0 else xy[at][:, :, ::-1], np.float64)


def _summed(one: Ring, other: Ring, span: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area shared by the rings, over x within ``span`` ``(n, 2)``."""
    corner = np.minimum(one.min(axis=1), other.min(axis=1))
    left, right = ((span[:, [side]] - corner[:, [0]]) for side in (0, 1))
    f, g = (_Heights(ring - corner[:, None], left, right) for ring in (one, other))
    start = np.maximum(f.start[:, :, None], g.start[:, None, :])
    width = np.maximum(np.minimum(f.end[:, :, None], g.end[:, None, :]) - start, 0.0)
    f_start = f.height[:, :, None] + f.slope[:, :, None] * (start - f.start[:, :, None])
    g_start = g.height[:, None, :] + g.slope[:, None, :] * (start - g.start[:, None, :])
    ahead = f_start - g_start
    ahead_end = ahead + (f.slope[:, :, None] - g.slope[:, None, :]) * width
    # The lower of two lines is g less the integral of what f is below it: a triangle where they cross.
    crossing = ahead * ahead_end < 0
    step = np.where(crossing, ahead - ahead_end, 1.0)
    below, below_end = np.minimum(ahead, 0.0), np.minimum(ahead_end, 0.0)
    deficit = np.where(crossing, -(below * below + below_end * below_end) / np.abs(step), below + below_end)
    lower = 2 * g_start + g.slope[:, None, :] * width + deficit
    total = width * lower * (f.sign[:, :, None] * g.sign[:, None, :])
    return np.asarray(np.abs(total.reshape(len(total), -1).sum(axis=1)) / 2, np.float64)


class _Heights:
    """The edges of rings as lines over x, from left to right, ``(n, edges)`` each; of no width outside the span."""

    def __init__(self, ring: Ring, left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
        x, y = ring[:, :, 0], ring[:, :, 1]
        run, rise = np.diff(x, axis=1), np.diff(y, axis=1)
        self.sign = np.sign(run)
        self.slope = np.divide(rise, run, out=np.zeros_like(run), where=run != 0)
        forward = run >= 0
        first = np.where(forward, x[:, :-1], x[:, 1:])
        self.start = np.clip(first, left, right)
        self.end = np.clip(np.where(forward, x[:, 1:], x[:, :-1]), left, right)
        self.height = np.where(forward, y[:, :-1], y[:, 1:]) + self.slope * (self.start - first)
