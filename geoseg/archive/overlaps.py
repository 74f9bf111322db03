"""The rule by which footprints of two scenes are one object, as functions of arrays.

Two footprints of the same label, from different scenes, are the same object where their intersection over union is at
least ``iou``, or where one that its scene's edge cuts lies with at least ``cover`` of its area in the other. Of all
footprints one is kept if no better one that is kept is the same object: first those that no edge cuts, then the newer
or the one that scores higher, then the larger, then the one of the earlier scene. That is greedy suppression in one
fixed order, so what is kept depends on the footprints alone and not on how they were dealt with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

_CHUNK = 50_000
"""Pairs that are intersected at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """Footprints that may be seen by several scenes, as columns of one length."""

    number: NDArray[np.int64]
    """Of the footprint, over all scenes."""
    scene: NDArray[np.int64]
    """That it is of."""
    label: NDArray[Any]
    """Its class."""
    geometry: NDArray[Any]
    """Shapely polygons in degrees."""
    cut: NDArray[np.bool_]
    """True where the scene's edge, or the edge of its valid ground, cuts it."""


def same(pieces: Pieces, *, iou: float, cover: float) -> NDArray[np.int64]:
    """``(n, 2)`` rows of ``pieces`` that are one object, the lower row first."""
    geometry = pieces.geometry
    first, second = shapely.STRtree(geometry).query(geometry, predicate="intersects")
    meant = (first < second) & (pieces.scene[first] != pieces.scene[second])
    meant &= pieces.label[first] == pieces.label[second]
    first, second = first[meant], second[meant]
    area = shapely.area(geometry)
    keep = np.zeros(len(first), np.bool_)
    for start in range(0, len(first), _CHUNK):
        a, b = first[start : start + _CHUNK], second[start : start + _CHUNK]
        shared = shapely.area(shapely.intersection(geometry[a], geometry[b]))
        with np.errstate(invalid="ignore", divide="ignore"):
            agree = shared / (area[a] + area[b] - shared) >= iou
            agree |= pieces.cut[a] & (shared / area[a] >= cover)
            agree |= pieces.cut[b] & (shared / area[b] >= cover)
        keep[start : start + _CHUNK] = agree & (shared > 0)
    return np.column_stack([first[keep], second[keep]]).astype(np.int64)


def order(
    keep: Literal["newest", "score"],
    *,
    cut: NDArray[np.bool_],
    time: NDArray[np.float64],
    score: NDArray[np.float64],
    area: NDArray[np.float64],
    number: NDArray[np.int64],
) -> NDArray[np.intp]:
    """Rows from the best to the worst; unknown times (NaN) come after all known ones, and unknown scores too."""
    late = np.where(np.isnan(time), np.inf, -time)
    low = np.where(np.isnan(score), np.inf, -score)
    main, then = (late, low) if keep == "newest" else (low, late)
    return np.lexsort((number, -area, then, main, cut))


def suppressed(better: NDArray[np.int64], worse: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ranks that are dropped, sorted, where rank ``better[i] < worse[i]`` are the same object.

    A rank is kept if none that is kept and better is the same object. Found in rounds: what has no better one left is
    kept, and what it beats goes.
    """
    if np.any(better >= worse):
        raise ValueError("better ranks must be the lower ones")
    gone = [np.empty(0, np.int64)]
    while len(better):
        free = ~np.isin(better, worse)
        beaten = np.unique(worse[free])
        gone.append(beaten)
        left = ~(np.isin(better, beaten) | np.isin(worse, beaten))
        better, worse = better[left], worse[left]
    return np.unique(np.concatenate(gone))
