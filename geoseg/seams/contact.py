"""Without a halo no ground is seen twice: pieces are then matched by what they cut from the border of their tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.outlines import Outlines
from geoseg.seams.robust import intersection
from geoseg.seams.views import STRIP, cores_of
from geoseg.tiling import Plan

CONTACT = 0.5
"""Share of the shorter of two cuts that the other covers, from which the two pieces are one object."""

Index = NDArray[np.int64]


def contact(outlines: Outlines, i: Index, j: Index, plan: Plan) -> NDArray[np.bool_]:
    """Which pairs of rows meet along the border of their two tiles."""
    step = outlines.tiles[j] - outlines.tiles[i]
    met = np.zeros(len(i), np.bool_)
    for axis in (0, 1):  # x: neighbours in a row; y: in a column
        side = step[:, 1 - axis]
        pair = np.flatnonzero((step[:, axis] == 0) & (np.abs(side) == 1))
        low, high = np.where(side > 0, i, j)[pair], np.where(side > 0, j, i)[pair]
        border = cores_of(outlines.tiles[low], plan)[:, 2 + axis]
        met[pair] = _meet(outlines.geometry[low], outlines.geometry[high], border, axis)
    return met


def _meet(low: NDArray[Any], high: NDArray[Any], border: NDArray[np.float64], axis: int) -> NDArray[np.bool_]:
    cuts_low, of_low = _cuts(low, border - STRIP, border, axis)
    cuts_high, of_high = _cuts(high, border, border + STRIP, axis)
    a, b = _joined(of_low, of_high)
    shared = np.minimum(cuts_low[a, 1], cuts_high[b, 1]) - np.maximum(cuts_low[a, 0], cuts_high[b, 0])
    shorter = np.minimum(np.ptp(cuts_low[a], axis=1), np.ptp(cuts_high[b], axis=1))
    met = np.zeros(len(low), np.bool_)
    met[of_low[a[(shared > 0) & (shared >= CONTACT * shorter)]]] = True
    return met


def _cuts(geometry: NDArray[Any], start: NDArray[np.float64], end: NDArray[np.float64], axis: int) -> tuple[Any, Any]:
    """The intervals along the border that each polygon covers within a strip beside it, and whose they are."""
    ends = shapely.bounds(geometry).reshape(-1, 4)
    box = [ends[:, 0] - 1, ends[:, 1] - 1, ends[:, 2] + 1, ends[:, 3] + 1]
    box[axis], box[2 + axis] = start, end
    parts, of = shapely.get_parts(intersection(geometry, shapely.box(*box)), return_index=True)
    solid = shapely.area(parts) > 0
    bounds = shapely.bounds(parts[solid]).reshape(-1, 4)
    return bounds[:, [1 - axis, 3 - axis]], of[solid]


def _joined(left: Index, right: Index) -> tuple[Index, Index]:
    """Positions (a, b) where ``left[a] == right[b]``; ``right`` sorted."""
    first, last = np.searchsorted(right, left), np.searchsorted(right, left, side="right")
    count = last - first
    a = np.repeat(np.arange(len(left)), count)
    offset = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
    return a, first[a] + offset
