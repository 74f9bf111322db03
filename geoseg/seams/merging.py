"""merge() and split(): the doors of the seams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.outlines import Outlines
from geoseg.polygons import without_holes
from geoseg.seams.areas import simple
from geoseg.seams.bridges import REACH
from geoseg.seams.objects import Judged, Objects, objects_of
from geoseg.seams.robust import union
from geoseg.seams.views import SLACK, Views, cores_of, grown, halo_of, inside, near_seams
from geoseg.tiling import Plan, TileRange

PINHOLE = 1.0
"""Square pixels below which a hole in united pieces is where two drawings of one border cross, and is filled."""
EVIDENCE = 0.6
"""Share of the least score of an object, from which an outline is heard: see :func:`heard`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Merged:
    """Objects, each once, in a fixed order (by bounding box, top to bottom)."""

    outlines: Outlines
    """One row per object; ``tiles`` names the tile that gave the shape (the first of several)."""
    n_tiles: NDArray[np.int32]
    """``(n,)`` tiles that saw the object."""
    agreement: NDArray[np.float64]
    """``(n,)`` mean IoU of its outlines inside the ground that their tiles share, 0 to 1; NaN where only one tile saw
    it, or where the tiles share no ground (no halo)."""

    def __len__(self) -> int:
        return len(self.outlines)

    @staticmethod
    def concat(parts: list[Merged]) -> Merged:
        """One table of many, in the fixed order."""
        table = Merged(
            outlines=Outlines.concat([part.outlines for part in parts]),
            n_tiles=np.concatenate([np.zeros(0, np.int32), *(part.n_tiles for part in parts)]),
            agreement=np.concatenate([np.zeros(0), *(part.agreement for part in parts)]),
        )
        return table.take(canonical_order(table.outlines))

    def take(self, index: NDArray[Any]) -> Merged:
        """The objects at ``index``."""
        return Merged(outlines=self.outlines.take(index), n_tiles=self.n_tiles[index], agreement=self.agreement[index])


def canonical_order(outlines: Outlines) -> NDArray[np.int64]:
    """An order that depends on the rows' content alone: box, label, tile, score, then coordinates."""
    x0, y0, x1, y1 = outlines.bounds.T
    order = np.argsort(y0, kind="stable")
    at = _tied(y0[order[1:]] == y0[order[:-1]])  # what a window cuts begins where it does
    rows = order[at]
    order[at] = rows[np.lexsort((x0[rows], y0[rows]))]
    at = _tied((x0[order[1:]] == x0[order[:-1]]) & (y0[order[1:]] == y0[order[:-1]]))
    rows = order[at]  # rare enough to be compared in full, one by one
    text = shapely.to_wkb(outlines.geometry[rows])
    columns = y0, x0, x1, y1, outlines.labels, outlines.tiles[:, 0], outlines.tiles[:, 1], -outlines.scores
    keys = list(zip(*(column[rows].tolist() for column in columns), text, strict=True))
    order[at] = rows[sorted(range(len(rows)), key=keys.__getitem__)]
    return np.asarray(order, np.int64)


def _tied(equal: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of a sorted table that are equal to their neighbour, told for each pair of neighbours."""
    out = np.zeros(len(equal) + 1, np.bool_)
    out[1:] = equal
    out[:-1] |= equal
    return np.flatnonzero(out)


def heard(least: float) -> float:
    """The score from which an outline should come to the merge, where objects are to score ``least``.

    What a tile cuts it may well take for something else, and with more confidence than the tile that sees it whole.
    An object has the score of whoever sees it best, so that one has to be heard, even where it is in doubt.
    """
    return EVIDENCE * least


def merge(outlines: Outlines, plan: Plan, *, least: float = 0.0) -> Merged:
    """Every object once.

    The result is a pure function of the *set* of outlines: the order of rows, and how they were grouped on the way
    here (see :func:`split`), change nothing, not a bit of a coordinate.

    Args:
        outlines: polygons in grid pixels, of all tiles of ``plan`` that saw anything; those that score
            :func:`heard` or more.
        plan: the tiling that the tiles' rows and columns refer to.
        least: objects that score less are left out.
    """
    alone, seam = _sorted_out(outlines, plan, least)
    return Merged.concat([alone, _settled(Judged.of(seam, plan), least)])


def split(outlines: Outlines, span: TileRange, plan: Plan, *, least: float = 0.0) -> tuple[Merged, Outlines]:
    """Merge for good what no tile outside ``span`` can have a say in; hand on the rest.

    Splitting goes on upwards: what four neighbouring blocks hand on is split as one larger block
    (:meth:`~geoseg.tiling.Plan.square`), and so on until a block that is all of the plan leaves nothing open. At
    any time only the rows along the borders of the blocks of one level are held.

    Args:
        outlines: those of the tiles of ``span``, or what is left open of them after splitting smaller blocks that
            together are ``span``.
        span: the tiles that have been seen.
        plan: the tiling.
        least: objects that score less are left out; the same at all levels.

    Returns:
        The closed objects, and the rows still open (whole components): ``merge`` of all blocks' open rows, with all
        closed objects, is ``merge`` of everything. Where ``span`` is all of the plan nothing is open.
    """
    alone, seam = _sorted_out(outlines, plan, least)
    judged = Judged.of(seam, plan)
    unsure = ~_private(judged.views, span, plan) | (judged.ends & ~_surrounded(seam.tiles, span, plan))
    part = judged.components()
    waiting = np.isin(part, part[unsure])
    shut = _settled(judged.take(np.flatnonzero(~waiting)), least)
    return Merged.concat([alone, shut]), seam.take(np.flatnonzero(waiting))


def _sorted_out(outlines: Outlines, plan: Plan, least: float) -> tuple[Merged, Outlines]:
    """What lies deep in its own tile, done; and the outlines near seams, in canonical order."""
    near = near_seams(outlines, plan)
    alone, seam = outlines.take(~near & (outlines.scores >= least)), outlines.take(near)
    n = len(alone)
    done = Merged(outlines=alone, n_tiles=np.ones(n, np.int32), agreement=np.full(n, np.nan))
    return done, seam.take(canonical_order(seam))


def _surrounded(tiles: NDArray[np.int32], span: TileRange, plan: Plan) -> NDArray[np.bool_]:
    """Tiles that have every tile that a bridge can reach in ``span``."""
    low = np.array([span.row or -REACH, span.col or -REACH]) + REACH
    edge = plan.rows, plan.cols
    ends = [end + REACH * (end == stop) for end, stop in zip((span.row_end, span.col_end), edge, strict=True)]
    return np.asarray(((tiles >= low) & (tiles < np.array(ends) - REACH)).all(axis=1), np.bool_)


def _private(views: Views, span: TileRange, plan: Plan) -> NDArray[np.bool_]:
    """Rows that keep clear, by the slack, of what any tile outside ``span`` sees."""
    cores = cores_of(np.array([(span.row, span.col), (span.row_end - 1, span.col_end - 1)], np.int32), plan)
    ground = np.concatenate([cores[0, :2], cores[1, 2:]])[None, :]
    frame = grown(ground, -(halo_of(plan) + SLACK), plan)
    # No tile looks past the edge of the area, but a mask may be drawn a little over it.
    at_edge = np.where(ground == np.array(plan.area.xyxy), np.array([-np.inf, -np.inf, np.inf, np.inf]), frame)
    return inside(views.bounds, at_edge)


def _settled(judged: Judged, least: float) -> Merged:
    """The objects of a canonically ordered table of seam outlines, those that score ``least`` or more."""
    seam = judged.outlines
    objects = objects_of(judged)
    kept = np.flatnonzero(objects.group >= 0)
    _, number = np.unique(objects.group[kept], return_inverse=True)
    group = np.full(len(seam), -1, np.int64)
    group[kept] = number
    n = int(number.max(initial=-1)) + 1
    found = Merged(
        outlines=_drawn(seam, group, objects, n),
        n_tiles=_tiles_of(seam, group, n),
        agreement=_agreement(group, judged, n),
    )
    return found.take(found.outlines.scores >= least)


def _drawn(seam: Outlines, group: NDArray[np.int64], objects: Objects, n: int) -> Outlines:
    """One row per group: its only shape, or the union of its shapes with their area-weighted score and label."""
    rows = np.flatnonzero(objects.shapes)
    rows = rows[np.argsort(group[rows], kind="stable")]
    of, first, count = np.unique(group[rows], return_index=True, return_counts=True)
    if len(of) != n:
        raise AssertionError("an object without a shape")
    out = seam.take(rows[first])
    many = count > 1
    pieces = rows[np.repeat(many, count)]
    at = np.repeat(np.arange(int(many.sum())), count[many])
    geometry, scores, labels = out.geometry.copy(), out.scores.copy(), out.labels.copy()
    geometry[many] = united(seam.geometry[pieces], at)
    weight = shapely.area(seam.geometry[pieces])
    scores[many] = np.bincount(at, weight * seam.scores[pieces]) / np.bincount(at, weight)
    labels[many] = _heaviest(at, seam.labels[pieces], weight * seam.scores[pieces])
    return Outlines(geometry=geometry, scores=scores, labels=labels, tiles=out.tiles)


def _heaviest(group: NDArray[np.int64], labels: NDArray[np.int64], weight: NDArray[np.float64]) -> NDArray[np.int64]:
    """The label of each group (0, 1, ...) that has most weight in it; the lower one of two that have the same."""
    named, at = np.unique(np.column_stack([group, labels]), axis=0, return_inverse=True)
    total = np.bincount(at.ravel(), weight, minlength=len(named))
    order = np.lexsort((named[:, 1], -total, named[:, 0]))
    return np.asarray(named[order][np.unique(named[order, 0], return_index=True)[1], 1], np.int64)


def united(pieces: NDArray[Any], group: NDArray[np.int64]) -> NDArray[Any]:
    """The union of the pieces of each group (0, 1, ... in order), without pinholes."""
    out = union(pieces, group)
    several_rings = np.flatnonzero(~simple(out))
    out[several_rings] = without_holes(out[several_rings], PINHOLE)
    return out


def _tiles_of(seam: Outlines, group: NDArray[np.int64], n: int) -> NDArray[np.int32]:
    named = np.column_stack([group, seam.tiles])[group >= 0]
    return np.bincount(np.unique(named, axis=0)[:, 0], minlength=n).astype(np.int32)


def _agreement(group: NDArray[np.int64], judged: Judged, n: int) -> NDArray[np.float64]:
    i, j, iou = (
        np.concatenate([getattr(judged.pairs, name), getattr(judged.doubts, name)]) for name in ("i", "j", "iou")
    )
    inner = np.flatnonzero((group[i] == group[j]) & (group[i] >= 0) & (iou > 0))
    of = group[i[inner]]
    total, count = np.bincount(of, iou[inner], minlength=n), np.bincount(of, minlength=n)
    return np.asarray(np.divide(total, count, out=np.full(n, np.nan), where=count > 0), np.float64)
