"""Rings with fewer vertices, and no shrinking.

Douglas-Peucker keeps some vertices of a ring and drops the rest. The sides between them are chords: they cut the
rounded corners of a contour and lie wherever its ripple left the kept vertices. So each side is then moved to the
line that fits best (least squares along the outline) through the stretch of ring that it replaces, and each vertex
to where its two sides cross.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BEND = np.sin(np.radians(15.0))
"""Sides that meet at less than this angle are not led to their crossing, which is ill-defined."""


def simplified(xy: Floats, rings: Ints, tolerance: float) -> tuple[Floats, Ints]:
    """Closed rings (points, offsets) simplified by Douglas-Peucker and fitted again.

    An outline moves by at most twice the tolerance. Rings of fewer than three sides may come out; rings may cross
    themselves or each other: the caller looks.
    """
    place = np.arange(len(xy), dtype=np.float64)  # rides along as z, to know which vertices were kept
    lines = shapely.from_ragged_array(shapely.GeometryType.LINESTRING, np.column_stack([xy, place]), (rings,))
    thin = shapely.simplify(lines, tolerance, preserve_topology=False)
    _, kept, (offsets,) = shapely.to_ragged_array(thin, include_z=True)
    offsets = offsets.astype(np.int64)
    index = kept[:, 2].astype(np.int64)
    index[offsets[1:] - 1] = rings[1:] - 1  # the closing vertex equals the first one: name it by its own place
    return _fitted(xy, index, offsets, 2 * tolerance), offsets


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

    Sums run over each stretch alone and about its own start, so a result does not depend on its neighbours.
    """
    size = last - first
    side = np.repeat(np.arange(len(first)), size)
    edge = np.arange(len(side)) - np.repeat(np.cumsum(size) - size, size) + first[side]
    step = xy[edge + 1] - xy[edge]
    centre = (xy[edge + 1] + xy[edge]) / 2 - origin[side]
    length = np.hypot(step[:, 0], step[:, 1])

    def total(values: Floats) -> Floats:
        return np.bincount(side, length * values, len(first))

    whole = np.maximum(total(np.ones(len(side))), 1e-300)
    x, y = total(centre[:, 0]) / whole, total(centre[:, 1]) / whole
    xx = total(centre[:, 0] ** 2 + step[:, 0] ** 2 / 12) / whole - x * x
    yy = total(centre[:, 1] ** 2 + step[:, 1] ** 2 / 12) / whole - y * y
    xy_ = total(centre[:, 0] * centre[:, 1] + step[:, 0] * step[:, 1] / 12) / whole - x * y
    angle = np.arctan2(2 * xy_, xx - yy) / 2
    return origin + np.column_stack([x, y]), np.column_stack([np.cos(angle), np.sin(angle)])


def _crossings(old: Floats, one: tuple[Floats, Floats], other: tuple[Floats, Floats], reach: float) -> Floats:
    """Where two lines (centre, direction) cross; where that is far off or ill-defined, the mean foot on both."""
    (p, u), (q, v) = one, other
    cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    bends = np.abs(cross) > _BEND
    gap = q - p
    t = (gap[:, 0] * v[:, 1] - gap[:, 1] * v[:, 0]) / np.where(bends, cross, 1.0)
    crossing = p + t[:, None] * u
    good = bends & (np.hypot(*(crossing - old).T) <= reach)
    foot = (_foot(old, p, u) + _foot(old, q, v)) / 2
    foot = np.where((np.hypot(*(foot - old).T) <= reach)[:, None], foot, old)
    return np.asarray(np.where(good[:, None], crossing, foot), np.float64)


def _foot(point: Floats, centre: Floats, along: Floats) -> Floats:
    """The nearest point of a line."""
    return np.asarray(centre + np.einsum("ij,ij->i", point - centre, along)[:, None] * along, np.float64)
