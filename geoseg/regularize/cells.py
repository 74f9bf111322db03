"""Right-angled outlines, rebuilt from the cells between wall lines.

All outlines are worked on at once, and what that takes follows from their edges and cells alone: an outline of a
hundred thousand edges may have a thousand walls each way. Lines are kept as complex numbers, the row of their outline
and where they lie, which sort by the row first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
    lattices = Lattices(xs=np.unique(wall[upright]), ys=np.unique(wall[~upright]), n=n)
    share, size = _shares(line, of, lattices), lattices.size
    inside = share >= 0.5 * size
    both, drawn = (np.bincount(lattices.owner, area * inside, n) for area in (share, size))
    fit = both / (drawn + shapely.area(geometry) - both)
    some = np.unique(lattices.owner[inside])
    if not some.size:
        return np.full(n, shapely.Polygon(), dtype=object), fit
    cells = lattices.split(inside)
    parts = cell_outlines([cells[row] for row in some.tolist()])
    each, (x, y) = some[parts.point_owner], parts.xy.T.astype(np.int64)
    xy = np.column_stack([lattices.xs.imag[lattices.left[each] + x], lattices.ys.imag[lattices.top[each] + y]])
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy, (parts.rings, parts.polygons))
    return shapely.normalize(gather(polygons, some[parts.owner], n)), fit


def covered(line: Floats, owner: Index, xs: Lines, ys: Lines, n: int) -> list[Floats]:
    """``(lines along x - 1, lines along y - 1)`` area of each polygon in each cell of its lattice.

    Args:
        line: ``(m, 4)`` x0, y0, x1, y1 of the polygons' edges, the interior on their left.
        owner: ``(m,)`` the row of the polygon of each, ascending.
        xs: row of the polygon, and the x of a line along y; unique, ascending.
        ys: row of the polygon, and the y of a line along x; unique, ascending.
        n: polygons.

    What a polygon gives does not depend on the others.
    """
    lattices = Lattices(xs=xs, ys=ys, n=n)
    return lattices.split(_shares(line, owner, lattices))


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattices:
    """The cells between the lines of ``n`` lattices, a table of columns: lattice by lattice, row by row in each."""

    xs: Lines
    """Number of the lattice, and the x of a line along y; unique, ascending."""
    ys: Lines
    """Number of the lattice, and the y of a line along x; unique, ascending."""
    n: int

    @cached_property
    def left(self) -> Index:
        """``(n + 1,)`` where in ``xs`` each lattice begins."""
        return np.asarray(np.searchsorted(self.xs.real, np.arange(self.n + 1)), np.int64)

    @cached_property
    def top(self) -> Index:
        """``(n + 1,)`` where in ``ys`` each lattice begins."""
        return np.asarray(np.searchsorted(self.ys.real, np.arange(self.n + 1)), np.int64)

    @cached_property
    def shape(self) -> Index:
        """``(n, 2)`` rows and columns of cells; a lattice with no cells may have either."""
        return np.asarray(np.column_stack([np.diff(self.top), np.diff(self.left)]) - 1, np.int64).clip(min=0)

    @cached_property
    def first(self) -> Index:
        """``(n + 1,)`` where each lattice's cells begin."""
        return np.asarray(np.append(0, self.shape.prod(axis=1).cumsum()), np.int64)

    @cached_property
    def owner(self) -> Index:
        """``(cells,)`` number of the lattice."""
        return np.repeat(np.arange(self.n), np.diff(self.first))

    @cached_property
    def at(self) -> tuple[Index, Index]:
        """``(cells,)`` row and column in the lattice."""
        row, column = np.divmod(np.arange(len(self.owner)) - self.first[self.owner], self.shape[self.owner, 1])
        return row, column

    @cached_property
    def height(self) -> Floats:
        """``(cells,)`` side along y."""
        y = self.top[self.owner] + self.at[0]
        return np.asarray(self.ys.imag[y + 1] - self.ys.imag[y], np.float64)

    @cached_property
    def size(self) -> Floats:
        """``(cells,)`` area."""
        x = self.left[self.owner] + self.at[1]
        return np.asarray(self.height * (self.xs.imag[x + 1] - self.xs.imag[x]), np.float64)

    def split(self, column: NDArray[Any]) -> list[NDArray[Any]]:
        """A column of the table, as the ``(rows, columns)`` of each lattice."""
        ends = pairwise(self.first.tolist())
        return [column[a:b].reshape(shape) for (a, b), shape in zip(ends, self.shape.tolist(), strict=True)]


def _shares(line: Floats, owner: Index, lattices: Lattices) -> Floats:
    """``(cells,)`` what :func:`covered` gives, as a column.

    Edges are cut at all lines. The area of a polygon in a cell is minus the integral of y, counted from the cell's
    low side and no more than its height, over x along all pieces of edges in the cell's column (Green's theorem).
    """
    xs, ys, left, top = lattices.xs, lattices.ys, lattices.left, lattices.top
    x, y, of = _pieces(line, owner, xs, ys)
    dx, middle = x[:, 1] - x[:, 0], y.mean(axis=1)
    col = np.searchsorted(xs, of + 1j * x.mean(axis=1)) - 1
    row = np.searchsorted(ys, of + 1j * middle) - 1
    use = (col >= left[of]) & (col + 1 < left[of + 1]) & (row >= top[of]) & (top[of] + 1 < top[of + 1])
    dx, middle, col, row, of = dx[use], middle[use], col[use], row[use], of[use]
    beyond = row + 1 == top[of + 1]  # the last line: above all cells
    columns = lattices.shape[:, 1]
    cell = lattices.first[of] + (row - beyond - top[of]) * columns[of] + col - left[of]
    within, over, above = (
        np.bincount(cell, value, lattices.first[-1])
        for value in (
            np.where(beyond, 0, dx * (middle - ys.imag[row])),
            np.where(beyond, 0, dx),
            np.where(beyond, dx, 0),
        )
    )
    order = np.argsort(lattices.at[0], kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(lattices.at[0]))[:-1]) if order.size else []
    for upper in rows[:0:-1]:
        above[upper - columns[lattices.owner[upper]]] = above[upper] + over[upper]
    return np.asarray(-(within + above * lattices.height), np.float64)


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
