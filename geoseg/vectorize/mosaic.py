"""Many small crops laid side by side in one array, so that one call treats them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Mosaic:
    """Crops in one array with a separator between any two, and where each of them lies."""

    values: NDArray[Any]
    """``(rows, cols)`` the crops; the separators hold the value given for the outside."""
    owner: NDArray[np.int32]
    """``(rows, cols)`` which crop a cell belongs to; -1 on separators."""
    origin: NDArray[np.int64]
    """``(n, 2)`` x (column) and y (row) of the first cell of each crop."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Polygons as ragged arrays (shapely's ``from_ragged_array``), each with the crop that it came from."""

    xy: NDArray[np.float64]
    """``(points, 2)`` x and y in cells of the crop; (0, 0) = corner of its first cell. Rings are closed."""
    rings: NDArray[np.int64]
    """Offsets of rings into ``xy``."""
    polygons: NDArray[np.int64]
    """Offsets of polygons into ``rings``; the first ring of a polygon is its shell."""
    owner: NDArray[np.int64]
    """``(polygons,)`` which crop."""

    @property
    def point_owner(self) -> NDArray[np.int64]:
        """``(points,)`` which crop a point belongs to."""
        return np.repeat(self.owner, np.diff(self.rings[self.polygons]))


_ZERO = np.zeros(1, np.int64)
NO_PARTS = Parts(xy=np.zeros((0, 2)), rings=_ZERO, polygons=_ZERO, owner=_ZERO[:0])


def lay(
    crops: Sequence[NDArray[Any]], *, outside: float, dtype: type, rim: NDArray[np.float64] | None = None
) -> Mosaic:
    """Lay crops on shelves, highest first.

    Args:
        crops: 2-D arrays of any size.
        outside: value of the separators.
        dtype: of the mosaic.
        rim: ``(n, 4)`` repeat the outermost cells around each crop, times these factors (left, top, right,
            bottom; the smaller of two in a corner); ``origin`` stays the crop's own first cell. None: do not.
    """
    margin = 0 if rim is None else 1
    shapes = np.array([crop.shape for crop in crops], np.int64).reshape(-1, 2) + 2 * margin + 1
    order = np.lexsort((shapes[:, 1], -shapes[:, 0]))
    origin, size = _shelves(shapes, order)
    values: NDArray[Any] = np.full(size, outside, dtype)
    owner = np.full(size, -1, np.int32)
    alike = np.flatnonzero((np.diff(shapes[order], axis=0) != 0).any(axis=1)) + 1
    for some in np.split(order, alike):
        cells = _stacked([crops[i] for i in some.tolist()], None if rim is None else rim[some])
        _, h, w = cells.shape
        for i, (x, y), crop in zip(some.tolist(), origin[some].tolist(), cells, strict=True):
            values[y : y + h, x : x + w] = crop
            owner[y : y + h, x : x + w] = i
    return Mosaic(values=values, owner=owner, origin=origin + margin)


def _stacked(crops: list[NDArray[Any]], rim: NDArray[np.float64] | None) -> NDArray[Any]:
    """``(n, rows, cols)`` crops of one size, with their rim."""
    cells = np.stack(crops)
    if rim is None:
        return cells
    n, h, w = cells.shape
    values = np.empty((n, h + 2, w + 2))
    values[:, 1:-1, 1:-1] = cells
    left, top, right, bottom = rim.T[:, :, None]
    values[:, 1:-1, 0], values[:, 1:-1, -1] = left * values[:, 1:-1, 1], right * values[:, 1:-1, -2]
    values[:, 0, 1:-1], values[:, -1, 1:-1] = top * values[:, 1, 1:-1], bottom * values[:, -2, 1:-1]
    for y, above, beside in ((0, 1, top), (-1, -2, bottom)):
        values[:, y, 0] = np.minimum(left, beside)[:, 0] * values[:, above, 1]
        values[:, y, -1] = np.minimum(right, beside)[:, 0] * values[:, above, -2]
    return values


def _shelves(shapes: NDArray[np.int64], order: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Places ``(n, 2)`` x, y of (rows, cols) rectangles and the mosaic's size; row 0, column 0 stay free."""
    limit = max(int(shapes[:, 1].max()), math.isqrt(int(shapes.prod(1).sum()))) + 1
    height, width = shapes[order].T
    end = np.cumsum(width)
    start = end - width
    origin = np.empty((len(shapes), 2), np.int64)
    y, first, widest = 1, 0, 1
    while first < len(order):
        last = max(first + 1, int(np.searchsorted(end, start[first] + limit - 1, side="right")))
        origin[order[first:last], 0] = start[first:last] - start[first] + 1
        origin[order[first:last], 1] = y
        widest = max(widest, int(end[last - 1] - start[first]) + 1)
        y, first = y + int(height[first]), last
    return origin, (y, widest)
