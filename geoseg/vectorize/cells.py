"""Bool crops to polygons: the exact outline of their cells, all crops at once.

Cells that share an edge belong to one polygon, cells that share only a corner do not. Every ring comes out
simple: where two cells of one polygon meet at a corner alone, the ring is led so that a hole touches the
shell there instead of the shell touching itself, which is what makes the polygon valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.vectorize.mosaic import NO_PARTS, Parts, lay

# Edges run with their cell on the right (rows go down): east along its top, south along its right side, ...
_TOWARDS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
"""Step (x, y) along an edge: east, south, west, north."""
_START = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
"""Where an edge starts, from its cell's first corner."""


def cell_outlines(crops: Sequence[NDArray[Any]]) -> Parts:
    """Polygons of the True cells, holes included, in cells of each crop."""
    mosaic = lay(crops, outside=0, dtype=np.bool_)
    component = np.asarray(ndimage.label(mosaic.values)[0], np.int32)
    if not component.any():
        return NO_PARTS
    cell, direction = _edges(component)
    start = cell + _START[direction]
    after = _successors(component, start, direction)
    lead, order = _rings(after)
    # Only corners are kept; the first edge of a ring starts at its topmost leftmost vertex, always a corner.
    before = np.empty_like(after)
    before[after] = np.arange(len(after))
    order = order[direction[before[order]] != direction[order]]
    return _assemble(cell[order], start[order], lead[order], component, mosaic.owner, mosaic.origin)


def _edges(component: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cell ``(x, y)`` and direction of all edges between a cell and the outside, sorted by start vertex."""
    inside = component > 0
    cells, directions = [], []
    for towards, (dx, dy) in enumerate([(0, -1), (1, 0), (0, 1), (-1, 0)]):
        # The mosaic's first and last lines are separators, so rolling around it never joins two cells.
        rows, cols = np.nonzero(inside & ~np.roll(inside, (-dy, -dx), (0, 1)))
        cells.append(np.column_stack([cols, rows]))
        directions.append(np.full(len(rows), towards))
    cell, direction = np.concatenate(cells), np.concatenate(directions)
    start = cell + _START[direction]
    order = np.lexsort((direction, start[:, 0], start[:, 1]))
    return cell[order], direction[order]


def _successors(
    component: NDArray[np.int32], start: NDArray[np.int64], direction: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Index of the edge that follows each edge around its ring: a permutation."""
    width = component.shape[1] + 1
    key = start[:, 1] * width + start[:, 0]
    end = start + _TOWARDS[direction]
    after = np.searchsorted(key, end[:, 1] * width + end[:, 0])
    last = len(key) - 1
    fork = np.flatnonzero((after < last) & (key[after] == key[np.minimum(after + 1, last)]))
    x, y = end[fork].T
    # At a fork two cells meet corner to corner: of one polygon, turn left along the other cell, else stay.
    upright = component[y - 1, x - 1] > 0
    one = np.where(upright, component[y - 1, x - 1], component[y - 1, x])
    other = np.where(upright, component[y, x], component[y, x - 1])
    wanted = (direction[fork] + np.where(one == other, -1, 1)) % 4
    after[fork] += direction[after[fork]] != wanted
    return np.asarray(after, np.int64)


def _rings(after: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest edge of each edge's ring, and the order that lists the edges ring by ring, from that edge on.

    Pointer doubling: the number of rounds is the logarithm of the longest ring.
    """
    lead, jump = np.arange(len(after)), after
    while True:
        lower = np.minimum(lead, lead[jump])
        if np.array_equal(lower, lead):
            break
        lead, jump = lower, jump[jump]
    last = after == lead
    jump = np.where(last, np.arange(len(after)), after)
    remaining = (~last).astype(np.int64)
    while not last[jump].all():
        remaining = remaining + remaining[jump]
        jump = jump[jump]
    return lead, np.lexsort((-remaining, lead))


def _assemble(
    cell: NDArray[np.int64],
    corner: NDArray[np.int64],
    lead: NDArray[np.int64],
    component: NDArray[np.int32],
    owner: NDArray[np.int32],
    origin: NDArray[np.int64],
) -> Parts:
    """Rings (corners listed ring by ring) grouped into polygons: shell first, then its holes."""
    first = np.flatnonzero(np.r_[True, lead[1:] != lead[:-1]])
    size = np.diff(np.r_[first, len(lead)])
    x, y = cell[first].T
    part, crop = component[y, x], owner[y, x].astype(np.int64)
    # A shell starts at the first corner of its cell (eastwards along the top); a hole never does.
    hole = (corner[first] != cell[first]).any(axis=1)
    order = np.lexsort((first, hole, part, crop))
    first, size, part, crop, hole = first[order], size[order], part[order], crop[order], hole[order]
    rings = np.r_[0, np.cumsum(size + 1)]
    position = np.arange(rings[-1]) - np.repeat(rings[:-1], size + 1)
    position = np.where(position == np.repeat(size, size + 1), 0, position) + np.repeat(first, size + 1)
    xy = corner[position] - origin[np.repeat(crop, size + 1)]
    shells = np.flatnonzero(~hole)
    polygons = np.r_[shells, len(first)]
    return Parts(xy=xy.astype(np.float64), rings=rings, polygons=polygons, owner=crop[shells])
