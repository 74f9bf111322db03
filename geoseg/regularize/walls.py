"""Walls of right-angled buildings, in a frame where walls run along x and y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.components import components
from geoseg.regularize.frame import Floats, edges

_SLANT = np.radians(30.0)
"""Edges farther than this from both axes (rounded corners, bevels) belong to no wall."""

IN_LINE = 1 / 6
"""Walls of neighbours that face the same way are one within this share of the distance for walls back to back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Walls:
    """Straight walls, one row each, sorted by building."""

    owner: NDArray[np.int64]
    """Row of the building."""
    upright: NDArray[np.bool_]
    """True: along y, at an x; False: along x, at a y."""
    side: NDArray[np.int64]
    """+1 where the interior lies towards larger x (upright) or y, else -1."""
    offset: Floats
    """The x or the y that it lies at."""
    length: Floats
    """Length of the edges that it was drawn from."""
    reach: Floats
    """``(m, 2)`` from where to where it runs, along its own direction."""


def find_walls(geometry: NDArray[Any], tolerance: float) -> Walls:
    """Walls of polygons: edges along an axis that lie within ``tolerance`` of one line, facing the same side.

    Edges of one building on one line are one wall even where something lies between them: walls in line stay
    in line. The longest edge of a wall is found first; edges near it join, and the wall lies at their mean,
    edges that are truer to the axis counting more.
    """
    line, owner = edges(geometry)
    dx, dy = line[:, 2] - line[:, 0], line[:, 3] - line[:, 1]
    upright = np.abs(dy) > np.abs(dx)
    along, across = np.where(upright, dy, dx), np.where(upright, dx, dy)
    length = np.hypot(dx, dy)
    use = (np.arctan2(np.abs(across), np.abs(along)) < _SLANT) & (length > 0)
    # The interior is on the left of an edge: above one towards +x, on the smaller side of one towards +y.
    side = np.where(upright, -np.sign(along), np.sign(along)).astype(np.int64)
    offset = np.where(upright, line[:, 0] + line[:, 2], line[:, 1] + line[:, 3]) / 2
    weight = length * (1 - 2 * (across / np.where(length > 0, length, 1)) ** 2) ** 2
    ends = np.where(upright[:, None], line[:, [1, 3]], line[:, [0, 2]])
    index = np.flatnonzero(use)
    wall = _group(owner[index] * 4 + upright[index] * 2 + (side[index] > 0), offset[index], length[index], tolerance)
    count = int(wall.max()) + 1 if wall.size else 0
    first = np.zeros(count, np.int64)
    first[wall[::-1]] = index[::-1]
    reach = np.column_stack([np.full(count, np.inf), np.full(count, -np.inf)])
    np.minimum.at(reach[:, 0], wall, ends[index].min(axis=1))
    np.maximum.at(reach[:, 1], wall, ends[index].max(axis=1))
    return Walls(
        owner=owner[first],
        upright=upright[first],
        side=side[first],
        offset=np.bincount(wall, weight[index] * offset[index], count) / np.bincount(wall, weight[index], count),
        length=np.asarray(np.bincount(wall, np.abs(along[index]), count), np.float64),
        reach=reach,
    )


def _group(key: NDArray[np.int64], offset: Floats, length: Floats, tolerance: float) -> NDArray[np.int64]:
    """Number of the wall of each edge: within a key, the longest free edge takes the free ones near it."""
    wall = np.full(len(key), -1, np.int64)
    number = np.unique(key, return_inverse=True)[1]
    taken = 0
    free = np.arange(len(key))
    while free.size:
        order = free[np.lexsort((offset[free], -length[free], number[free]))]
        lead = np.r_[True, number[order[1:]] != number[order[:-1]]]
        seed = np.zeros(number.max() + 1)
        seed[number[order[lead]]] = offset[order[lead]]
        near = np.abs(offset[free] - seed[number[free]]) <= tolerance
        labels = np.full(number.max() + 1, -1, np.int64)
        labels[number[order[lead]]] = taken + np.arange(lead.sum())
        wall[free[near]] = labels[number[free[near]]]
        taken += int(lead.sum())
        free = free[~near]
    return np.unique(_by_first(number, wall), return_inverse=True)[1] if len(key) else wall


def _by_first(number: NDArray[np.int64], wall: NDArray[np.int64]) -> NDArray[np.int64]:
    """Wall numbers that sort by building first."""
    return np.asarray(number * (int(wall.max()) + 1) + wall, np.int64)


def join_walls(walls: Walls, pairs: NDArray[np.int64], tolerance: float) -> Floats:
    """Offsets after walls of neighbours that stand back to back, or in line, have become one.

    Args:
        walls: of all buildings, those of a pair in one frame.
        pairs: ``(p, 2)`` rows of neighbouring buildings.
        tolerance: how far apart walls that are one may lie.
    """
    one, other = _one_wall(walls, pairs, tolerance)
    group = components(len(walls.owner), one, other)
    total = np.bincount(group, walls.length, len(group))
    mean = np.bincount(group, walls.length * walls.offset, len(group)) / np.where(total > 0, total, 1)
    return np.asarray(mean[group], np.float64)


def _one_wall(walls: Walls, pairs: NDArray[np.int64], tolerance: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Walls of the two buildings of a pair that face away from each other, near each other, side by side; or that
    face the same way and lie so well in line that a step between them would be noise."""
    # As complex numbers walls sort by building and direction first, then by where they lie.
    key = walls.owner * 2 + walls.upright
    order = np.lexsort((walls.offset, key))
    line = key[order] + 1j * walls.offset[order]
    first, last = (np.searchsorted(walls.owner, pairs[:, 0], side) for side in ("left", "right"))
    one, beside = _ranges(first, last), np.repeat(pairs[:, 1], last - first) * 2
    at, near = beside + walls.upright[one] + 1j * walls.offset[one], 1.001j * tolerance  # more than what rounds away
    first, last = np.searchsorted(line, at - near), np.searchsorted(line, at + near, "right")
    i, j = np.repeat(one, last - first), order[_ranges(first, last)]
    shared = np.minimum(walls.reach[i, 1], walls.reach[j, 1]) - np.maximum(walls.reach[i, 0], walls.reach[j, 0])
    away = np.abs(walls.offset[i] - walls.offset[j])
    back = (walls.side[i] == -walls.side[j]) & (away <= tolerance) & (shared > 2 * tolerance)
    in_line = (walls.side[i] == walls.side[j]) & (away <= tolerance * IN_LINE) & (shared > -2 * tolerance)
    return i[back | in_line], j[back | in_line]


def _ranges(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The whole numbers from each first to before its last, one range after another."""
    count = last - first
    return np.asarray(np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count), np.int64)
