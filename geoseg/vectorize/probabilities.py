"""Probability crops to polygons: the 0.5 contour, linear between cell centres.

What lies beyond the outermost cell centres depends on why the box ends there. Where the object ends, the
next cell would hold 0, so the probability has fallen to half of the last cell's at the edge of the box: a
crop full of ones gives exactly its box, and areas have no bias. Where the window cuts the object, the
probability goes on unchanged to the edge, so the outline reaches the cut. Nothing lies outside the box either
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from geoseg.vectorize.mosaic import NO_PARTS, Mosaic, Parts, lay

LEVEL = 0.5
"""The probability that is contoured; a cell at exactly this value is inside."""

TIE = 1e-5
"""Half-width of the band around the level that is lifted to its upper end: contours then never run through a
cell centre, where rings would touch and a polygon be invalid. Moves a contour by < 1e-4 of a cell."""

_OUTSIDE = -1.0
"""Value beyond a crop: below 0, so that a crossing there lies nearer to the crop than to the separator."""


def contours(crops: Sequence[NDArray[Any]], cut: NDArray[np.bool_]) -> Parts:
    """Polygons where the probability is at least 0.5, holes included, in cells of each crop.

    Args:
        crops: 2-D arrays of probabilities in [0, 1].
        cut: ``(n, 4)`` True where the window cuts the box: left, top, right, bottom.

    Coordinates are computed from a crop's own values and places within the crop, so they are the same to the
    last bit whatever other crops are contoured with it.
    """
    mosaic = lay(crops, outside=_OUTSIDE, dtype=np.float64, rim=np.where(cut, 1.0, 0.5))
    mosaic.values[(mosaic.values > LEVEL - TIE) & (mosaic.values < LEVEL + TIE)] = LEVEL + TIE
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
    each = parts.point_owner
    centre = _local(points, mosaic, mosaic.origin[each])
    size = np.array([crop.shape[::-1] for crop in crops], np.int64)[each]
    # The rim lies on the edge of the box, half a cell beyond the last centres; the outside lies there too.
    beyond = np.minimum(centre, 0.0) + np.maximum(centre - (size - 1), 0.0)
    return replace(parts, xy=np.clip(centre + 0.5 - beyond / 2, 0.0, size))


def _local(points: NDArray[np.float64], mosaic: Mosaic, origin: NDArray[np.int64]) -> NDArray[np.float64]:
    """Contour points in cell-centre coordinates of their own crop.

    Every contour point lies on the line between two neighbouring cell centres. Its place in the mosaic
    carries rounding that depends on where the crop lies there; so only the pair of cells is taken from it,
    and the fraction between them is computed anew from their values.
    """
    x, y = points.T
    near_x, near_y = np.rint(x), np.rint(y)
    across = np.abs(x - near_x) > np.abs(y - near_y)
    x = np.where(across, np.floor(x), near_x).astype(np.int64)
    y = np.where(across, near_y, np.floor(y)).astype(np.int64)
    values, width = mosaic.values.ravel(), mosaic.values.shape[1]
    first = y * width + x
    low, high = values[first], values[first + np.where(across, 1, width)]
    fraction = (LEVEL - low) / (high - low)
    return np.column_stack(
        [x - origin[:, 0] + np.where(across, fraction, 0.0), y - origin[:, 1] + np.where(across, 0.0, fraction)]
    )
