"""Which outlines of different tiles speak of the same ground, and how far they agree. Each pair is judged by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.outlines import Outlines
from geoseg.seams.areas import area_inside
from geoseg.seams.contact import contact
from geoseg.seams.overlaps import shared_area
from geoseg.seams.robust import intersection, share_ground
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


Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Links:
    """Columns of length m: pairs of rows of a table of outlines, i < j."""

    i: Index
    """Row of the one."""
    j: Index
    """Row of the other."""

    def __len__(self) -> int:
        return len(self.i)

    def take(self, index: NDArray[Any]) -> Self:
        """The links at ``index``."""
        return type(self)(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def renumbered(self, rows: Index) -> Self:
        """The same links in a table that keeps only ``rows`` (ascending) of the old one."""
        return replace(self, i=np.searchsorted(rows, self.i), j=np.searchsorted(rows, self.j))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs(Links):
    """Columns of length m: pairs of outlines (i < j, of different tiles) that have something to do with each other."""

    iou: NDArray[np.float64]
    """IoU inside what both tiles believe; 0 where there is no such ground."""
    same: NDArray[np.bool_]
    """True where they are drawings of one object."""
    i_part: NDArray[np.bool_]
    """True where i is a cut piece of j."""
    j_part: NDArray[np.bool_]
    """True where j is a cut piece of i."""


def candidates(views: Views, outlines: Outlines, plan: Plan) -> tuple[Index, Index]:
    """Rows i < j of different tiles whose bounding boxes come within ``SLACK`` pixels of each other."""
    # Of two outlines that share ground one lies outside its own core: asking for those alone finds every pair.
    own = grown(cores_of(outlines.tiles, plan), -SLACK, plan)
    asking = np.flatnonzero(~inside(views.bounds, own))
    reach = views.bounds[asking] + SLACK * np.array([-1.0, -1.0, 1.0, 1.0])
    left, right = shapely.STRtree(outlines.geometry).query(shapely.box(*reach.T))
    left = asking[left]
    keep = (outlines.tiles[left] != outlines.tiles[right]).any(axis=1)
    low, high = np.minimum(left[keep], right[keep]), np.maximum(left[keep], right[keep])
    key = np.unique(low * max(len(outlines), 1) + high)
    return key // max(len(outlines), 1), key % max(len(outlines), 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Doubts(Links):
    """Columns of length m: pairs of outlines (i < j, of different tiles) of different labels that certainly agree."""

    iou: NDArray[np.float64]
    """IoU inside what both tiles believe."""


def pairs_of(outlines: Outlines, views: Views, plan: Plan) -> tuple[Pairs, Doubts]:
    """All pairs that are drawings of one object, or a piece and what it is a piece of; and those that would be, but
    that the tiles do not agree what it is."""
    i, j = candidates(views, outlines, plan)
    alike = outlines.labels[i] == outlines.labels[j]
    if plan.tiling.halo == 0:
        i, j = i[alike], j[alike]
        met = contact(outlines, i, j, plan)
        nothing = np.zeros(int(met.sum()), np.bool_)
        pairs = Pairs(
            i=i[met],
            j=j[met],
            iou=np.full(len(nothing), np.nan),
            same=~nothing,
            i_part=nothing,
            j_part=nothing,
        )
        return pairs, Doubts(i=i[:0], j=j[:0], iou=np.zeros(0))
    alive = ~(views.blind[i] | views.blind[j])
    doubts = _doubts(outlines, views, i[alive & ~alike], j[alive & ~alike])
    pairs = _judged(outlines, views, i[alive & alike], j[alive & alike], slack_of(plan))
    return pairs.take(pairs.same | pairs.i_part | pairs.j_part), doubts


def _doubts(outlines: Outlines, views: Views, i: Index, j: Index) -> Doubts:
    _, iou = _agreement(outlines, views, i, j)
    return Doubts(i=i, j=j, iou=iou).take(iou >= CERTAIN)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """One side of each pair, cut to the ground that both tiles believe."""

    geometry: NDArray[Any]
    """The clip."""
    area: NDArray[np.float64]
    """Its area."""
    most: NDArray[np.bool_]
    """True where it is most of the outline."""

    @staticmethod
    def of(outlines: Outlines, views: Views, rows: Index, frames: Boxes) -> Clips:
        """Outlines ``rows``, each cut to its frame."""
        whole = outlines.geometry[rows]
        clip = whole.copy()
        over = np.flatnonzero(~inside(views.bounds[rows], frames))
        clip[over] = intersection(whole[over], shapely.box(*frames[over].T))
        # An outline that touches its frame from outside leaves lines and points, which GEOS may fail to cut again.
        clip[over[shapely.area(clip[over]) == 0]] = shapely.Polygon()
        mixed = over[shapely.get_type_id(clip[over]) == shapely.GeometryType.GEOMETRYCOLLECTION]
        clip[mixed] = shapely.buffer(clip[mixed], 0)
        area = shapely.area(clip)
        return Clips(geometry=clip, area=area, most=area >= 0.5 * shapely.area(whole))

    @property
    def solid(self) -> NDArray[np.bool_]:
        """True where the clip is evidence: most of its outline, or no sliver."""
        box = shapely.bounds(self.geometry).reshape(-1, 4)
        sides = np.nan_to_num(box[:, 2:] - box[:, :2]).min(axis=1, initial=np.inf)
        return np.asarray(self.most | (sides >= SUBSTANCE), np.bool_)

    def touching(self, other: Clips) -> NDArray[np.float64]:
        """Area of each clip, of several parts only those that share ground with the other: a tile may see the two
        arms of a U as two objects, and each is to be compared with its own arm."""
        area = self.area.copy()
        many = np.flatnonzero(shapely.get_num_geometries(self.geometry) > 1)
        parts, of = shapely.get_parts(self.geometry[many], return_index=True)
        shares = share_ground(parts, other.geometry[many][of])
        area[many] = np.bincount(of, weights=shapely.area(parts) * shares, minlength=len(many))
        return area


def _judged(outlines: Outlines, views: Views, i: Index, j: Index, slack: float) -> Pairs:
    """Every pair's verdict. Most are certain from areas alone; the others are cut out and looked at part by part."""
    shared, iou = _agreement(outlines, views, i, j)
    nothing = np.zeros(len(i), np.bool_)
    out = Pairs(i=i, j=j, iou=iou, same=iou >= CERTAIN, i_part=nothing, j_part=nothing.copy())
    unsure = np.flatnonzero(~out.same & (shared > 0))
    closer = _looked_at(outlines, views, i[unsure], j[unsure], shared[unsure])
    for name in ("iou", "same", "i_part", "j_part"):
        getattr(out, name)[unsure] = getattr(closer, name)
    for part, k, host in ((out.i_part, i, j), (out.j_part, j, i)):
        mute = np.flatnonzero(out.same | part)
        mute = mute[_mute(outlines, views, k[mute], host[mute])]
        part[mute] = False
        # Two cut pieces that are tied both give their ground; a whole one would stand for both.
        out.same[mute[views.whole[host[mute]]]] = False
    for part, k, host in ((out.i_part, i, j), (out.j_part, j, i)):
        part |= _under(outlines, views, k, host, shared, slack, ~(out.same | part))
    return out


def _agreement(outlines: Outlines, views: Views, i: Index, j: Index) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The area that each pair of rows shares in what both tiles believe, and their IoU there."""
    frames = _common(views, i, j)
    shared = shared_area(outlines.geometry[i], outlines.geometry[j], (views.bounds[i], views.bounds[j]), frames)
    iou, some = np.zeros(len(i)), np.flatnonzero(shared)
    one, other = (
        area_inside(outlines.geometry[rows], frames[some], bounds=views.bounds[rows]) for rows in (i[some], j[some])
    )
    iou[some] = _ratio(shared[some], one + other - shared[some])
    return shared, iou


def _common(views: Views, i: Index, j: Index) -> Boxes:
    """The ground that both tiles believe."""
    low = np.maximum(views.believed[i, :2], views.believed[j, :2])
    return np.hstack([low, np.maximum(low, np.minimum(views.believed[i, 2:], views.believed[j, 2:]))])


def _looked_at(outlines: Outlines, views: Views, i: Index, j: Index, shared: NDArray[np.float64]) -> Pairs:
    frames = _common(views, i, j)
    one, other = (Clips.of(outlines, views, rows, frames) for rows in (i, j))
    area_one, area_other = one.touching(other), other.touching(one)
    iou, in_one, in_other = (_ratio(shared, of) for of in (area_one + area_other - shared, area_one, area_other))
    twice = (iou >= SAME) | ((np.maximum(in_one, in_other) >= NESTED) & (iou >= NESTED_SAME))
    same = (iou >= CERTAIN) | (twice & (one.solid | other.solid))
    i_part = ~views.whole[i] & one.solid & (in_one >= PART)
    j_part = ~views.whole[j] & other.solid & (in_other >= PART)
    return Pairs(i=i, j=j, iou=iou, same=same, i_part=i_part, j_part=j_part)


def _mute(outlines: Outlines, views: Views, rows: Index, others: Index) -> NDArray[np.bool_]:
    """Where what an outline has in common with the other says nothing of all of it: it is a cut piece, and that part of
    it which is most of it does not meet the other. A speck of a pier's mask on a shed makes the pier no shed."""
    out = np.zeros(len(rows), np.bool_)
    many = np.flatnonzero(~views.whole[rows] & (shapely.get_num_geometries(outlines.geometry[rows]) > 1))
    rows, others = rows[many], others[many]
    parts, of = shapely.get_parts(outlines.geometry[rows], return_index=True)
    area = shapely.area(parts)
    main = np.flatnonzero(area > 0.5 * shapely.area(outlines.geometry[rows])[of])  # one of each at most
    of = of[main]
    seen = Clips.of(outlines, views, others[of], _common(views, rows[of], others[of])).geometry
    apart = ~share_ground(parts[main], seen)
    out[many[of[apart]]] = True
    return out


def _ratio(part: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, of, out=np.zeros(len(part)), where=of > 0)


def _under(
    outlines: Outlines,
    views: Views,
    k: Index,
    host: Index,
    shared: NDArray[np.float64],
    slack: float,
    open_: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Where a cut piece lies, border slack allowed for, under an outline that is the better view: any other for a
    guest, a whole one for a piece that is mostly on ground that the other tile believes. Such a piece adds nothing
    to its host, so being wrong here costs a fragment and no more."""
    out = open_ & ~views.whole[k] & (views.guest[k] | views.whole[host])
    ask = np.flatnonzero(out)
    k, host = k[ask], host[ask]
    shape, frames = outlines.geometry[k], views.believed[host]
    area = area_inside(shape, frames, bounds=views.bounds[k])
    out[ask] = (area > 0) & (views.guest[k] | (area >= 0.5 * shapely.area(shape)))
    # Most lie under it without any slack, which takes no cutting to tell; of these, most on the ground of both.
    clear = shared[ask] >= PART * area
    rest = np.flatnonzero(out[ask] & ~clear)
    bounds = views.bounds[k[rest]], views.bounds[host[rest]]
    clear[rest] = shared_area(shape[rest], outlines.geometry[host[rest]], bounds, frames[rest]) >= PART * area[rest]
    unsure = out[ask] & ~clear
    ask, k, host = ask[unsure], k[unsure], host[unsure]
    piece = Clips.of(outlines, views, k, views.believed[host])
    # A border known to half a cell may lie that far off. Only where the boxes all but meet: of outlines that lie apart
    # by the border slack one may be settled before the other is known (see merging.split).
    low, high = np.maximum(views.bounds[k], views.bounds[host]), np.minimum(views.bounds[k], views.bounds[host])
    meet = (low[:, :2] - high[:, 2:] < SLACK / 2).all(axis=1)
    margin = np.where(meet, np.maximum(slack, views.blur[host]), slack)
    around = views.bounds[k] + 2 * margin[:, None] * np.array([-1.0, -1.0, 1.0, 1.0])
    cover = shapely.buffer(Clips.of(outlines, views, host, around).geometry, margin, quad_segs=2)
    covered = _ratio(shapely.area(intersection(piece.geometry, cover)), piece.area)
    out[ask] = covered >= PART
    return out
