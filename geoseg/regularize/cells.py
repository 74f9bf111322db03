"""Right-angled outlines, rebuilt from the cells between wall lines.

All outlines are worked on at once, and what that takes follows from their edges and cells alone: an outline of a
hundred thousand edges may have a thousand walls each way. Lines are kept as complex numbers, the row of their outline
and where they lie, which sort by the row first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.polygons import gather
from geoseg.regularize.frame import Floats, edges
from geoseg.vectorize.cells import cell_outlines

Index = NDArray[np.int64]
Lines = NDArray[np.complex128]


def rebuild(
    geometry: NDArray[Any], owner: Index, upright: NDArray[np.bool_], offset: Floats
) -> tuple[NDArray[Any], Floats]:
    """``(n,)`` the union of the cells between wall lines that each outline covers by half or more, empty where there
    are none; and its IoU with the outline.

    Right angles, validity and walls in line follow from the construction.

    Args:
        geometry: ``(n,)`` outlines.
        owner: ``(k,)`` the row of the outline that a wall is of.
        upright: ``(k,)`` True where it lies along y.
        offset: ``(k,)`` the x, or y, that it lies at.
    """
    n = len(geometry)
    (line, of), wall = edges(geometry), owner + 1j * offset
    xs, ys = np.unique(wall[upright]), np.unique(wall[~upright])
    inside, fit = [np.zeros((0, 0), np.bool_)] * n, np.zeros(n)
    left, top = (np.searchsorted(lines.real, np.arange(n + 1)) for lines in (xs, ys))
    area = shapely.area(geometry)
    shares = covered(line, of, xs, ys, n)
    for row in range(n):
        width, height = np.diff(xs.imag[left[row] : left[row + 1]]), np.diff(ys.imag[top[row] : top[row + 1]])
        size = height[:, None] * width
        inside[row] = shares[row] >= 0.5 * size
        both, drawn = shares[row][inside[row]].sum(), size[inside[row]].sum()
        fit[row] = both / (drawn + area[row] - both)
    some = np.flatnonzero([cells.any() for cells in inside])
    if not some.size:
        return np.full(n, shapely.Polygon(), dtype=object), fit
    parts = cell_outlines([inside[row] for row in some.tolist()])
    each, (x, y) = some[parts.point_owner], parts.xy.T.astype(np.int64)
    xy = np.column_stack([xs.imag[left[each] + x], ys.imag[top[each] + y]])
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy, (parts.rings, parts.polygons))
    return shapely.normalize(gather(polygons, some[parts.owner], n)), fit


def covered(line: Floats, owner: Index, xs: Lines, ys: Lines, n: int) -> list[Floats]:
    """``(lines along x - 1, lines along y - 1)`` area of each polygon in each cell of its lattice.

    Edges are cut at all lines. The area of a polygon in a cell is minus the integral of y, counted from the cell's
    low side and no more than its height, over x along all pieces of edges in the cell's column (Green's theorem).

    Args:
        line: ``(m, 4)`` x0, y0, x1, y1 of the polygons' edges, the interior on their left.
        owner: ``(m,)`` the row of the polygon of each, ascending.
        xs: row of the polygon, and the x of a line along y; unique, ascending.
        ys: row of the polygon, and the y of a line along x; unique, ascending.
        n: polygons.

    What a polygon gives does not depend on the others.
    """
    left, top = (np.searchsorted(lines.real, np.arange(n + 1)) for lines in (xs, ys))
    x, y, of = _pieces(line, owner, xs, ys)
    dx, middle = x[:, 1] - x[:, 0], y.mean(axis=1)
    col = np.searchsorted(xs, of + 1j * x.mean(axis=1)) - 1
    row = np.searchsorted(ys, of + 1j * middle) - 1
    use = (col >= left[of]) & (col + 1 < left[of + 1]) & (row >= top[of])
    dx, middle, col, row, of = dx[use], middle[use], col[use], row[use], of[use]
    cols, rows = np.maximum(np.diff(left) - 1, 0), np.diff(top)
    first = np.r_[0, np.cumsum(rows * cols)]
    at = first[of] + (row - top[of]) * cols[of] + col - left[of]
    over = np.bincount(at, dx, first[-1])
    within = np.bincount(at, dx * (middle - ys.imag[row]), first[-1])
    found = []
    for k, (a, b) in enumerate(pairwise(first.tolist())):
        shape, height = (rows[k], cols[k]), np.diff(ys.imag[top[k] : top[k + 1]])
        above = over[a:b].reshape(shape)[:0:-1].cumsum(axis=0)[::-1]
        found.append(-(within[a:b].reshape(shape)[:-1] + above * height[:, None]))
    return found


def _pieces(line: Floats, owner: Index, xs: Lines, ys: Lines) -> tuple[Floats, Floats, Index]:
    """``(p, 2)`` x and y of the ends of edges' pieces between lines, and the row that each is of."""
    edge, share = [np.arange(len(line))] * 2, [np.zeros(len(line)), np.ones(len(line))]
    for start, end, lines in ((line[:, 0], line[:, 2], xs), (line[:, 1], line[:, 3], ys)):
        first = np.searchsorted(lines, owner + 1j * np.minimum(start, end), side="right")
        count = np.maximum(np.searchsorted(lines, owner + 1j * np.maximum(start, end)) - first, 0)
        of = np.repeat(np.arange(len(line)), count)
        cut = np.arange(len(of)) + np.repeat(first - np.cumsum(count) + count, count)
        edge.append(of)
        share.append((lines.imag[cut] - start[of]) / (end - start)[of])
    edges_, shares = np.concatenate(edge), np.concatenate(share)
    order = np.lexsort((shares, edges_))
    at, t = edges_[order], shares[order, None]
    points = np.where(t < 1, line[at, :2] + t * (line[at, 2:] - line[at, :2]), line[at, 2:])
    piece = np.flatnonzero(at[1:] == at[:-1])
    ends = np.stack([points[piece], points[piece + 1]], axis=1)
    return ends[..., 0], ends[..., 1], owner[at[piece]]
