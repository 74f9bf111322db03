"""The rule by which footprints of two scenes are one object, as functions of arrays.

Two footprints of the same label, from different scenes, are the same object where

- their intersection over union is at least ``iou``,
- or one that its scene's edge cuts lies with at least ``cover`` of its area in the other,
- or an edge cuts both, and their intersection over union *on the ground that both scenes cover* is at least ``iou``.
  These are parts of one object: neither scene need have seen most of it.

Of all footprints one is kept if no better one that is kept is the same object: first those that no edge cuts, then the
newer or the one that scores higher, then the larger, then the one of the earlier scene. Parts of one object stand and
fall together, with the best of them. That is greedy suppression in one fixed order, so what is kept depends on the
footprints alone and not on how they were dealt with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.components import components
from geoseg.polygons import come_near

_CHUNK = 50_000
"""Pairs that are intersected at a time."""
_TOUCH = 1e-4
"""Two that have less than this share of the smaller in common only touch: scenes that abut meet to rounding errors."""


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
    ground: NDArray[Any]
    """The ground that its scene covers, a polygon in degrees."""


def same(pieces: Pieces, *, iou: float, cover: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """``(n, 2)`` rows of ``pieces`` that are one object, the lower row first; and which of these are parts of it."""
    geometry, cut = pieces.geometry, pieces.cut
    first, second = shapely.STRtree(geometry).query(geometry)
    meant = (first < second) & (pieces.scene[first] != pieces.scene[second])
    meant &= pieces.label[first] == pieces.label[second]
    pairs = np.column_stack([first, second])[meant]
    first, second = pairs[come_near(geometry, pairs, 0.0)].T
    area = shapely.area(geometry)
    one, parts = np.zeros((2, len(first)), np.bool_)
    for start in range(0, len(first), _CHUNK):
        now = slice(start, start + _CHUNK)
        a, b = first[now], second[now]
        shared = shapely.area(shapely.intersection(geometry[a], geometry[b]))
        with np.errstate(invalid="ignore", divide="ignore"):
            agree = shared / (area[a] + area[b] - shared) >= iou
            agree |= cut[a] & (shared / area[a] >= cover)
            agree |= cut[b] & (shared / area[b] >= cover)
        both = np.flatnonzero(cut[a] & cut[b] & (shared > _TOUCH * np.minimum(area[a], area[b])))
        parts[start + both] = _agree_where_both_see(pieces, a[both], b[both], shared[both]) >= iou
        one[now] = (agree & (shared > 0)) | parts[now]
    return np.column_stack([first[one], second[one]]).astype(np.int64), parts[one]


def _agree_where_both_see(
    pieces: Pieces, a: NDArray[np.intp], b: NDArray[np.intp], shared: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intersection over union on the ground that the scenes of both cover."""
    common = shapely.intersection(pieces.ground[a], pieces.ground[b])
    seen = [shapely.area(shapely.intersection(pieces.geometry[rows], common)) for rows in (a, b)]
    # At least what they share: the outline of a scene is true to a centimetre, a footprint to the bit.
    union: NDArray[np.float64] = np.maximum(seen[0], shared) + np.maximum(seen[1], shared) - shared
    return shared / union


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


def settled(
    rank: NDArray[np.int64], pairs: NDArray[np.int64], parts: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What becomes of footprints that are numbered by row.

    Args:
        rank: ``(n,)`` 0 for the best, each once.
        pairs: ``(m, 2)`` rows that are the same object.
        parts: ``(m,)`` whether they are parts of it.

    Returns:
        ``(n,)`` the rank of the one that each goes with, its own where it is no part of a better one; and ``(n,)``
        whether what it goes with is kept.
    """
    count = len(rank)
    first, second = pairs[parts].T
    group = components(count, first, second)
    best = np.full(count, count, np.int64)
    np.minimum.at(best, group, rank)
    leader = best[group]
    ranks = np.sort(leader[pairs], axis=1)
    ranks = np.unique(ranks[ranks[:, 0] != ranks[:, 1]], axis=0)
    return leader, ~np.isin(leader, suppressed(ranks[:, 0], ranks[:, 1]))


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
