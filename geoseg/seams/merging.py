"""merge() and split(): the doors of the seams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.outlines import Outlines
from geoseg.seams.bridges import REACH
from geoseg.seams.objects import Judged, Objects, objects_of
from geoseg.seams.pairs import Pairs
from geoseg.seams.robust import union
from geoseg.seams.views import SLACK, Views, cores_of, grown, inside, near_seams
from geoseg.tiling import Block, Plan

PINHOLE = 1.0
"""Square pixels below which a hole in united pieces is where two drawings of one border cross, and is filled."""


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
    x0, y0, x1, y1 = shapely.bounds(outlines.geometry).reshape(-1, 4).T
    order = np.lexsort((x0, y0))
    tied = np.zeros(len(order) + 1, np.bool_)
    tied[1:-1] = (x0[order[1:]] == x0[order[:-1]]) & (y0[order[1:]] == y0[order[:-1]])
    at = np.flatnonzero(tied[1:] | tied[:-1])  # rare enough to be compared in full, one by one
    rows = order[at]
    text = shapely.to_wkb(outlines.geometry[rows])
    columns = y0, x0, x1, y1, outlines.labels, outlines.tiles[:, 0], outlines.tiles[:, 1], -outlines.scores
    keys = list(zip(*(column[rows].tolist() for column in columns), text, strict=True))
    order[at] = rows[sorted(range(len(rows)), key=keys.__getitem__)]
    return np.asarray(order, np.int64)


def merge(outlines: Outlines, plan: Plan) -> Merged:
    """Every object once.

    The result is a pure function of the *set* of outlines: the order of rows, and how they were grouped on the way
    here (see :func:`split`), change nothing, not a bit of a coordinate.

    Args:
        outlines: polygons in grid pixels, of all tiles of ``plan`` that saw anything.
        plan: the tiling that the tiles' rows and columns refer to.
    """
    alone, seam = _sorted_out(outlines, plan)
    return Merged.concat([alone, _settled(Judged.of(seam, plan))])


def split(outlines: Outlines, block: Block, plan: Plan) -> tuple[Merged, Outlines]:
    """Merge for good what no tile outside ``block`` can have a say in; hand on the rest.

    Args:
        outlines: those of the tiles of ``block``.
        block: the tiles that have been seen.
        plan: the tiling.

    Returns:
        The closed objects, and the rows still open (whole components): ``merge`` of all blocks' open rows, with all
        closed objects, is ``merge`` of everything.
    """
    alone, seam = _sorted_out(outlines, plan)
    judged = Judged.of(seam, plan)
    unsure = ~_private(judged.views, block, plan) | (judged.ends & ~_surrounded(seam.tiles, block, plan))
    part = judged.components()
    waiting = np.isin(part, part[unsure])
    shut = _settled(judged.take(np.flatnonzero(~waiting)))
    return Merged.concat([alone, shut]), seam.take(np.flatnonzero(waiting))


def _sorted_out(outlines: Outlines, plan: Plan) -> tuple[Merged, Outlines]:
    """What lies deep in its own tile, done; and the outlines near seams, in canonical order."""
    near = near_seams(outlines, plan)
    alone, seam = outlines.take(~near), outlines.take(near)
    n = len(alone)
    done = Merged(outlines=alone, n_tiles=np.ones(n, np.int32), agreement=np.full(n, np.nan))
    return done, seam.take(canonical_order(seam))


def _surrounded(tiles: NDArray[np.int32], block: Block, plan: Plan) -> NDArray[np.bool_]:
    """Tiles that have every tile that a bridge can reach in ``block``."""
    first, last = block.tiles[0], block.tiles[-1]
    low = np.array([first.row or -REACH, first.col or -REACH]) + REACH
    edge = plan.rows - 1, plan.cols - 1
    ends = [end + REACH * (end == stop) for end, stop in zip((last.row, last.col), edge, strict=True)]
    return np.asarray(((tiles >= low) & (tiles <= np.array(ends) - REACH)).all(axis=1), np.bool_)


def _private(views: Views, block: Block, plan: Plan) -> NDArray[np.bool_]:
    """Rows that keep clear, by the slack, of what any tile outside ``block`` sees."""
    ends = np.array([(tile.row, tile.col) for tile in (block.tiles[0], block.tiles[-1])], np.int32)
    cores = cores_of(ends, plan)
    span = np.concatenate([cores[0, :2], cores[1, 2:]])[None, :]
    return inside(views.bounds, grown(span, -(plan.tiling.halo + SLACK), plan))


def _settled(judged: Judged) -> Merged:
    """The objects of a canonically ordered table of seam outlines."""
    seam = judged.outlines
    objects = objects_of(judged)
    kept = np.flatnonzero(objects.group >= 0)
    _, number = np.unique(objects.group[kept], return_inverse=True)
    group = np.full(len(seam), -1, np.int64)
    group[kept] = number
    n = int(number.max(initial=-1)) + 1
    return Merged(
        outlines=_drawn(seam, group, objects, n),
        n_tiles=_tiles_of(seam, group, n),
        agreement=_agreement(group, judged.pairs, n),
    )


def _drawn(seam: Outlines, group: NDArray[np.int64], objects: Objects, n: int) -> Outlines:
    """One row per group: its only shape, or the union of its shapes with their area-weighted score."""
    rows = np.flatnonzero(objects.shapes)
    rows = rows[np.argsort(group[rows], kind="stable")]
    of, first, count = np.unique(group[rows], return_index=True, return_counts=True)
    if len(of) != n:
        raise AssertionError("an object without a shape")
    out = seam.take(rows[first])
    many = count > 1
    pieces = rows[np.repeat(many, count)]
    at = np.repeat(np.arange(int(many.sum())), count[many])
    geometry, scores = out.geometry.copy(), out.scores.copy()
    geometry[many] = united(seam.geometry[pieces], at)
    weight = shapely.area(seam.geometry[pieces])
    scores[many] = np.bincount(at, weight * seam.scores[pieces]) / np.bincount(at, weight)
    return Outlines(geometry=geometry, scores=scores, labels=out.labels, tiles=out.tiles)


def united(pieces: NDArray[Any], group: NDArray[np.int64]) -> NDArray[Any]:
    """The union of the pieces of each group (0, 1, ... in order), without pinholes."""
    out = union(pieces, group)
    parts, of_part = shapely.get_parts(out, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    hole = np.zeros(len(rings), np.bool_)
    hole[1:] = of_ring[1:] == of_ring[:-1]
    pinhole = hole & (shapely.area(shapely.polygons(rings)) < PINHOLE)
    hit = np.unique(of_part[of_ring[pinhole]])  # unions to be put together anew
    ring = np.isin(of_part[of_ring], hit) & ~pinhole
    filled = shapely.polygons(rings[ring], indices=np.unique(of_ring[ring], return_inverse=True)[1])
    of_filled = of_part[np.isin(of_part, hit)]
    alone = np.bincount(of_filled, minlength=len(out))[of_filled] == 1
    out[of_filled[alone]] = filled[alone]
    several = of_filled[~alone]
    at = np.unique(several)
    out[at] = shapely.multipolygons(filled[~alone], indices=np.searchsorted(at, several))
    return out


def _tiles_of(seam: Outlines, group: NDArray[np.int64], n: int) -> NDArray[np.int32]:
    named = np.column_stack([group, seam.tiles])[group >= 0]
    return np.bincount(np.unique(named, axis=0)[:, 0], minlength=n).astype(np.int32)


def _agreement(group: NDArray[np.int64], pairs: Pairs, n: int) -> NDArray[np.float64]:
    inner = np.flatnonzero((group[pairs.i] == group[pairs.j]) & (group[pairs.i] >= 0) & (pairs.iou > 0))
    of = group[pairs.i[inner]]
    total, count = np.bincount(of, pairs.iou[inner], minlength=n), np.bincount(of, minlength=n)
    return np.asarray(np.divide(total, count, out=np.full(n, np.nan), where=count > 0), np.float64)
