"""Right-angled outlines, rebuilt from the cells between wall lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from geoseg.regularize.frame import Floats


def rebuild(line: Floats, xs: Floats, ys: Floats) -> tuple[Any, float]:
    """The union of the cells between wall lines that an outline covers by half or more; its IoU with the outline.

    Right angles, validity and walls in line follow from the construction.

    Args:
        line: ``(m, 4)`` x0, y0, x1, y1 of the outline's edges, the interior on their left.
        xs: where walls along y lie.
        ys: where walls along x lie.
    """
    xs, ys = np.unique(xs), np.unique(ys)
    if len(xs) < 2 or len(ys) < 2:
        return shapely.Polygon(), 0.0
    share, size = covered(line, xs, ys), np.diff(ys)[:, None] * np.diff(xs)
    inside = share >= 0.5 * size
    both, drawn = float(share[inside].sum()), float(size[inside].sum())
    fit = both / (drawn + _area(line) - both)
    row, col = np.nonzero(inside)
    cells = shapely.box(xs[col], ys[row], xs[col + 1], ys[row + 1])
    # Cells share whole sides: they are a coverage, and to unite one is half the work.
    return shapely.simplify(shapely.coverage_union_all(cells), 0.0), fit


def _area(line: Floats) -> float:
    """Of a polygon, by its edges; about its first vertex, for precision."""
    x0, y0, x1, y1 = (line - np.tile(line[0, :2], 2)).T
    return float((x0 * y1 - x1 * y0).sum()) / 2


def covered(line: Floats, xs: Floats, ys: Floats) -> Floats:
    """``(len(ys) - 1, len(xs) - 1)`` area of a polygon in each cell of a lattice.

    By Green's theorem the area left of x and below y is minus the integral of min(y of the edge, y) dx over the
    parts of the edges left of x; a cell's area follows from its four corners. The constant y is left out of the
    integral: over a closed ring it comes to nothing.

    Args:
        line: ``(m, 4)`` x0, y0, x1, y1 of the polygon's edges, the interior on their left.
        xs: ``>= 2`` ascending.
        ys: ``>= 2`` ascending.
    """
    x0, y0, x1, y1 = (column[:, None] for column in line.T)
    slope = (y1 - y0) / np.where(x1 == x0, 1.0, x1 - x0)
    begin, end = np.minimum(x0, xs), np.minimum(x1, xs)  # (m, columns)
    z0 = (y0 + slope * (begin - x0))[:, None, :] - ys[:, None]  # (m, rows, columns)
    z1 = (y0 + slope * (end - x0))[:, None, :] - ys[:, None]
    below0, below1 = np.minimum(z0, 0.0), np.minimum(z1, 0.0)
    across = (z0 > 0) != (z1 > 0)
    # The mean of min(z, 0) along an edge on which z is linear.
    mean = np.where(across, (below0**2 - below1**2) / np.where(across, 2 * (z0 - z1), 1.0), (below0 + below1) / 2)
    quadrant = -(mean * (end - begin)[:, None, :]).sum(axis=0)
    return np.asarray(np.diff(np.diff(quadrant, axis=0), axis=1), np.float64)
