"""Probability crops to polygons: the 0.5 contour, linear between cell centres.

Beyond the outermost cell centres a probability continues unchanged to the edge of its box, and is nothing
outside: a crop full of ones gives exactly its box, and a contour meets the edge of the box at a right angle
instead of being bent inwards, so nothing shrinks by half a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from geoseg.vectorize.mosaic import NO_PARTS, Mosaic, Parts, lay

LEVEL = 0.5
"""The probability that is contoured; a cell at exactly this value is inside."""

_TIE = 1e-5
"""Half-width of the band around the level that is lifted to its upper end: contours then never run through a
cell centre, where rings would touch and a polygon be invalid. Moves a contour by < 1e-4 of a cell."""

_OUTSIDE = -1.0
"""Value beyond a crop: below 0, so that a crossing there lies nearer to the crop than to the separator."""


def contours(crops: Sequence[NDArray[Any]]) -> Parts:
    """Polygons where the probability is at least 0.5, holes included, in cells of each crop.

    Coordinates are computed from a crop's own values and places within the crop, so they are the same to the
    last bit whatever other crops are contoured with it.
    """
    mosaic = lay(crops, outside=_OUTSIDE, dtype=np.float64, rim=True)
    tie = np.abs(mosaic.values - LEVEL) < _TIE
    mosaic.values[tie] = LEVEL + _TIE
    generator = contour_generator(
        z=mosaic.values, name="serial", fill_type=FillType.ChunkCombinedOffsetOffset, quad_as_tri=False
    )
    chunks: Any = generator.filled(LEVEL, np.inf)
    points, rings, polygons = (chunk[0] for chunk in chunks)
    if points is None:
        return NO_PARTS
    rings, polygons = rings.astype(np.int64), polygons.astype(np.int64)
    nearest = np.rint(points[rings[polygons[:-1]]]).astype(np.int64)
    owner = mosaic.owner[nearest[:, 1], nearest[:, 0]].astype(np.int64)
    parts = Parts(xy=points, rings=rings, polygons=polygons, owner=owner)
    shapes = np.array([crop.shape[::-1] for crop in crops], np.int64)
    each = parts.point_owner
    xy = _local(points, mosaic, mosaic.origin[each])
    return Parts(xy=np.clip(xy + 0.5, 0.0, shapes[each]), rings=rings, polygons=polygons, owner=owner)


def _local(points: NDArray[np.float64], mosaic: Mosaic, origin: NDArray[np.int64]) -> NDArray[np.float64]:
    """Contour points in cell-centre coordinates of their own crop.

    Every contour point lies on the line between two neighbouring cell centres. Its place in the mosaic
    carries rounding that depends on where the crop lies there; so only the pair of cells is taken from it,
    and the fraction between them is computed anew from their values.
    """
    nearest = np.rint(points)
    off = np.abs(points - nearest)
    across = off[:, 0] > off[:, 1]
    first = nearest.astype(np.int64)
    first[across, 0] = np.floor(points[across, 0])
    first[~across, 1] = np.floor(points[~across, 1])
    step = np.where(across[:, None], [1, 0], [0, 1])
    second = first + step
    low, high = mosaic.values[first[:, 1], first[:, 0]], mosaic.values[second[:, 1], second[:, 0]]
    fraction = (LEVEL - low) / (high - low)
    return np.asarray((first - origin) + step * fraction[:, None], np.float64)
