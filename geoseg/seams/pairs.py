"""Which outlines of different tiles speak of the same ground, and how far they agree. Each pair is judged by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.outlines import Outlines
from geoseg.seams.contact import contact
from geoseg.seams.views import SLACK, Boxes, Views, cores_of, grown, inside, slack_of
from geoseg.tiling import Plan

SAME = 0.5
"""IoU, inside what both tiles see, from which two outlines are one object."""
CERTAIN = 0.75
"""IoU from which a link needs no other reason; what a sliver of evidence has to show."""
PART = 0.6
"""Share of a cut piece that another outline covers, from which the piece is a part of it."""
NESTED, NESTED_SAME = 0.8, 1 / 3
"""One outline holds this share of the other and their IoU is at least the second: one border drawn twice, some
pixels apart. (A 16 px square drawn 1 px too small and again 2 px too large has an IoU of 0.49.)"""
SUBSTANCE = 8.0
"""Pixels that the ground shared by two outlines measures at least, across its bounding box, to be more than a sliver:
above the 4 px by which two neighbours drawn 2 px too large run into each other."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Columns of length m: pairs of outlines (i < j, of different tiles) that have something to do with each other."""

    i: NDArray[np.int64]
    """Row of the one."""
    j: NDArray[np.int64]
    """Row of the other."""
    iou: NDArray[np.float64]
    """IoU inside what both tiles believe; 0 where there is no such ground."""
    same: NDArray[np.bool_]
    """True where they are drawings of one object."""
    i_part: NDArray[np.bool_]
    """True where i is a cut piece of j."""
    j_part: NDArray[np.bool_]
    """True where j is a cut piece of i."""

    def __len__(self) -> int:
        return len(self.i)

    def take(self, index: NDArray[Any]) -> Pairs:
        """The pairs at ``index``."""
        return Pairs(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def renumbered(self, rows: NDArray[np.int64]) -> Pairs:
        """The same pairs of a table that keeps only ``rows`` (ascending) of the old one."""
        return replace(self, i=np.searchsorted(rows, self.i), j=np.searchsorted(rows, self.j))


def candidates(views: Views, outlines: Outlines, plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows i < j of different tiles and one label whose bounding boxes come within ``SLACK`` pixels of each other."""
    # Of two outlines that share ground one lies outside its own core: asking for those alone finds every pair.
    own = grown(cores_of(outlines.tiles, plan), -SLACK, plan)
    asking = np.flatnonzero(~inside(views.bounds, own))
    reach = views.bounds[asking] + SLACK * np.array([-1.0, -1.0, 1.0, 1.0])
    left, right = shapely.STRtree(outlines.geometry).query(shapely.box(*reach.T))
    left = asking[left]
    keep = (outlines.labels[left] == outlines.labels[right]) & (outlines.tiles[left] != outlines.tiles[right]).any(axis=1)
    low, high = np.minimum(left[keep], right[keep]), np.maximum(left[keep], right[keep])
    key = np.unique(low * max(len(outlines), 1) + high)
    return key // max(len(outlines), 1), key % max(len(outlines), 1)


def pairs_of(outlines: Outlines, views: Views, plan: Plan) -> Pairs:
    """All pairs that are drawings of one object, or a piece and what it is a piece of."""
    i, j = candidates(views, outlines, plan)
    if plan.tiling.halo == 0:
        met = contact(outlines, i, j, plan)
        nothing = np.zeros(int(met.sum()), np.bool_)
        return Pairs(i=i[met], j=j[met], iou=np.full(len(nothing), np.nan), same=~nothing, i_part=nothing, j_part=nothing)
    alive = ~(views.blind[i] | views.blind[j])
    i, j = i[alive], j[alive]
    pairs = _judged(outlines, views, i, j)
    _find_guests(outlines, views, pairs, slack_of(plan))
    return pairs.take(pairs.same | pairs.i_part | pairs.j_part)


def _judged(outlines: Outlines, views: Views, i: NDArray[np.int64], j: NDArray[np.int64]) -> Pairs:
    frames = np.hstack([
        np.maximum(views.believed[i, :2], views.believed[j, :2]),
        np.minimum(views.believed[i, 2:], views.believed[j, 2:]),
    ])
    one, other = (_clipped(outlines.geometry[k], views.bounds[k], frames) for k in (i, j))
    shared = shapely.area(shapely.intersection(one, other))
    area_one, area_other = _touching_area(one, other), _touching_area(other, one)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou, in_other, in_one = (
            np.nan_to_num(shared / whole, nan=0.0, posinf=0.0)
            for whole in (area_one + area_other - shared, area_one, area_other)
        )
    solid_one, solid_other = (
        _substance(clip, outlines.geometry[k]) for clip, k in ((one, i), (other, j))
    )
    twice = (iou >= SAME) | ((np.maximum(in_other, in_one) >= NESTED) & (iou >= NESTED_SAME))
    return Pairs(
        i=i,
        j=j,
        iou=iou,
        same=(iou >= CERTAIN) | (twice & (solid_one | solid_other)),
        i_part=~views.whole[i] & solid_one & (in_other >= PART),
        j_part=~views.whole[j] & solid_other & (in_one >= PART),
    )


def _clipped(geometry: NDArray[Any], bounds: Boxes, frames: Boxes) -> NDArray[Any]:
    out = geometry.copy()
    over = np.flatnonzero(~inside(bounds, frames))
    out[over] = shapely.intersection(geometry[over], shapely.box(*frames[over].T))
    return out


def _touching_area(clips: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Area of each clip, of several parts only those that share ground with the other: a tile may see the two arms
    of a U as two objects, and each is to be compared with its own arm."""
    area = shapely.area(clips)
    many = np.flatnonzero(shapely.get_num_geometries(clips) > 1)
    parts, of = shapely.get_parts(clips[many], return_index=True)
    shares = shapely.area(shapely.intersection(parts, others[many][of])) > 0
    area[many] = np.bincount(of, weights=shapely.area(parts) * shares, minlength=len(many))
    return np.asarray(area, np.float64)


def _substance(clips: NDArray[Any], pieces: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a clip is most of its piece, or no sliver."""
    box = shapely.bounds(clips).reshape(-1, 4)
    sides = np.nan_to_num(box[:, 2:] - box[:, :2]).min(axis=1, initial=np.inf)
    return np.asarray((sides >= SUBSTANCE) | (shapely.area(clips) >= 0.5 * shapely.area(pieces)), np.bool_)


def _find_guests(outlines: Outlines, views: Views, pairs: Pairs, slack: float) -> None:
    """Mark guests that lie under a better view, border slack allowed for: a guest adds nothing, so being wrong here
    costs nothing but a fragment."""
    for k, other, part in ((pairs.i, pairs.j, pairs.i_part), (pairs.j, pairs.i, pairs.j_part)):
        ask = np.flatnonzero(views.guest[k] & ~views.guest[other] & ~part & ~pairs.same)
        guests = outlines.geometry[k[ask]]
        around = shapely.box(*(views.bounds[k[ask]] + 2 * slack * np.array([-1.0, -1.0, 1.0, 1.0])).T)
        cover = shapely.buffer(shapely.intersection(outlines.geometry[other[ask]], around), slack, quad_segs=2)
        part[ask] = shapely.area(shapely.intersection(guests, cover)) >= PART * shapely.area(guests)
