"""Rings with fewer vertices, and no shrinking.

Douglas-Peucker keeps some vertices of a ring and drops the rest. The sides between them are chords: they cut
the rounded corners of a contour and lie wherever its ripple left the kept vertices. So each side is then
moved to the line that fits best (least squares along the outline) through the stretch of ring that it
replaces, and each vertex to where its two sides cross.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BEND = np.sin(np.radians(15.0))
"""Sides that meet at less than this angle are not led to their crossing, which is ill-defined."""
_STILL = 1e-6
"""Pixels."""


def simplify_rings(xy: Floats, rings: Ints, tolerance: float) -> tuple[Floats, Ints, NDArray[np.bool_]]:
    """Closed rings (points, offsets) simplified by Douglas-Peucker, then fitted.

    A vertex that is kept moves by at most twice the tolerance. Rings may come out that cross themselves or each
    other: the caller has to look. The last array is True for rings too small to be simplified, left as they are.
    """
    xy = _from_corner(xy, rings)
    place = np.arange(len(xy), dtype=np.float64)  # rides along as z, to know which vertices were kept
    lines = shapely.from_ragged_array(shapely.GeometryType.LINESTRING, np.column_stack([xy, place]), (rings,))
    thin = shapely.simplify(lines, tolerance, preserve_topology=False)
    small = shapely.get_num_coordinates(thin) < 4
    thin[small] = lines[small]
    _, kept, (offsets,) = shapely.to_ragged_array(thin, include_z=True)
    offsets = offsets.astype(np.int64)
    index = kept[:, 2].astype(np.int64)
    index[offsets[1:] - 1] = rings[1:] - 1  # the closing vertex equals the first one: name it by its own place
    return _fitted(xy, index, offsets, 2 * tolerance), offsets, small


def _from_corner(xy: Floats, rings: Ints) -> Floats:
    """The same closed rings, each begun at its point farthest from its middle.

    The first vertex is always kept: so it had better lie on a corner, not within a wall.
    """
    first, size = rings[:-1], np.diff(rings) - 1
    ring = np.repeat(np.arange(len(first)), size + 1)
    middle = np.column_stack([np.bincount(ring, axis, len(first)) for axis in xy.T]) / (size + 1)[:, None]
    away = _norm(xy - middle[ring])
    farthest = np.flatnonzero(away == np.maximum.reduceat(away, first)[ring])
    _, once = np.unique(ring[farthest], return_index=True)
    shift = farthest[once] - first
    place = np.arange(len(xy)) - first[ring]
    return np.asarray(xy[first[ring] + (place + shift[ring]) % size[ring]])


def _fitted(xy: Floats, index: Ints, offsets: Ints, reach: float) -> Floats:
    """Vertices ``xy[index]`` moved to where the fitted sides cross, at most by ``reach``."""
    old = xy[index]
    sides = np.ones(len(index), np.bool_)
    sides[offsets[1:] - 1] = False  # one side per vertex but the closing one
    start = np.flatnonzero(sides)
    middle, along = _lines(xy, index[start], index[start + 1], old[start])
    # The side before the first vertex of a ring is the ring's last.
    before = np.arange(len(start)) - 1
    count = np.diff(offsets) - 1
    first = np.cumsum(count) - count
    before[first] = first + count - 1
    moved = old.copy()
    moved[start] = _crossings(old[start], (middle[before], along[before]), (middle, along), reach)
    moved[offsets[1:] - 1] = moved[offsets[:-1]]
    return moved


def _lines(xy: Floats, first: Ints, last: Ints, origin: Floats) -> tuple[Floats, Floats]:
    """Centre and unit direction of the line through each stretch ``xy[first..last]``, by integrals along it.

    Sums run over each stretch alone and about its own start, and need nothing but roots: so a result is the
    same to the last bit whatever other rings are treated with it.
    """
    size = last - first
    side = np.repeat(np.arange(len(first)), size)
    edge = np.arange(len(side)) - np.repeat(np.cumsum(size) - size, size) + first[side]
    step = xy[edge + 1] - xy[edge]
    centre = (xy[edge + 1] + xy[edge]) / 2 - origin[side]
    length = _norm(step)

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(side, length * values, len(first)), np.float64)

    whole = np.maximum(total(np.ones(len(side))), 1e-300)
    x, y = total(centre[:, 0]) / whole, total(centre[:, 1]) / whole
    xx = total(centre[:, 0] ** 2 + step[:, 0] ** 2 / 12) / whole - x * x
    yy = total(centre[:, 1] ** 2 + step[:, 1] ** 2 / 12) / whole - y * y
    xy_ = total(centre[:, 0] * centre[:, 1] + step[:, 0] * step[:, 1] / 12) / whole - x * y
    # The longer axis of the stretch's inertia: the eigenvector of [[xx, xy], [xy, yy]] of the larger value.
    half, root = (xx - yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy_**2)
    along = np.where((half >= 0)[:, None], np.column_stack([half + root, xy_]), np.column_stack([xy_, root - half]))
    return origin + np.column_stack([x, y]), along / np.maximum(_norm(along), 1e-300)[:, None]


def _crossings(old: Floats, one: tuple[Floats, Floats], other: tuple[Floats, Floats], reach: float) -> Floats:
    """Where two lines (centre, direction) cross; if that is far off or ill-defined, the mean foot on both."""
    (p, u), (q, v) = one, other
    cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    bends = np.abs(cross) > _BEND
    gap = q - p
    t = (gap[:, 0] * v[:, 1] - gap[:, 1] * v[:, 0]) / np.where(bends, cross, 1.0)
    crossing = p + t[:, None] * u
    foot = (_foot(old, p, u) + _foot(old, q, v)) / 2
    best = np.where((bends & (_norm(crossing - old) <= reach))[:, None], crossing, foot)
    shift = _norm(best - old)
    # What moves by rounding alone stays exactly where it was, as on an outline that is straight already.
    return np.where(((shift > _STILL) & (shift <= reach))[:, None], best, old)


def _foot(point: Floats, centre: Floats, along: Floats) -> Floats:
    """The nearest point of a line."""
    away = (point - centre) * along
    return centre + (away[:, 0] + away[:, 1])[:, None] * along


def _norm(vectors: Floats) -> Floats:
    return np.asarray(np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2), np.float64)
