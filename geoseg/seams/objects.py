"""From pairs to objects: which outlines are one, and which of them give it its shape.

Three rounds, so that a fragment never ties two objects together:

1. Outlines seen whole are one object where they are the same, each the other's best match.
2. A piece cut by its window lodges with the one whole outline that it fits best; a guest (a piece that does not
   reach its own tile's core) with the best outline that is no guest; never with one where the same tile drew a
   better match. A lodger adds nothing and ties nothing, but for a guest that certainly agrees with pieces of which
   none is whole.
3. The pieces left over are of objects that no tile sees whole: linked pieces are united, and bridged where a tile
   missed its own.
4. Objects of two labels that certainly agree are one where no tile drew both: a tile that did says that they are two.

Every choice is made among the pairs of one connected component of the graph of pairs, so that a component can be
settled without knowing the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.components import components
from geoseg.outlines import Outlines
from geoseg.seams.bridges import Spans, bridges, open_ends
from geoseg.seams.pairs import CERTAIN, Doubts, Index, Pairs, pairs_of
from geoseg.seams.views import Views, inside
from geoseg.tiling import Plan


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Outlines near seams, in a canonical order, with all that was found out about each of them and each pair."""

    outlines: Outlines
    """``n`` rows."""
    views: Views
    """``n`` rows."""
    pairs: Pairs
    """Rows that speak of one object."""
    doubts: Doubts
    """Rows that do but for their labels."""
    ends: NDArray[np.bool_]
    """``(n,)`` True where a piece goes on past its window and no tile there says so."""
    spans: Spans
    """Rows with such ends that may be bridged."""

    @staticmethod
    def of(outlines: Outlines, plan: Plan) -> Judged:
        """Judge each row and each pair of ``outlines`` (in canonical order)."""
        views = Views.of(outlines, plan)
        pairs, doubts = pairs_of(outlines, views, plan)
        ends = open_ends(outlines, views, pairs, plan)
        spans = bridges(outlines, views, ends, plan)
        return Judged(outlines=outlines, views=views, pairs=pairs, doubts=doubts, ends=ends, spans=spans)

    def components(self) -> Index:
        """Number of the component of each row: rows of different ones have no influence on each other."""
        links = self.pairs, self.doubts, self.spans
        starts, ends = (np.concatenate([getattr(some, end) for some in links]) for end in ("i", "j"))
        return components(len(self.outlines), starts, ends)

    def take(self, rows: Index) -> Judged:
        """Only ``rows`` (ascending; whole components)."""
        kept = np.zeros(len(self.outlines), np.bool_)
        kept[rows] = True
        return Judged(
            outlines=self.outlines.take(rows),
            views=self.views.take(rows),
            pairs=self.pairs.take(kept[self.pairs.i]).renumbered(rows),
            doubts=self.doubts.take(kept[self.doubts.i]).renumbered(rows),
            ends=self.ends[rows],
            spans=self.spans.take(kept[self.spans.i]).renumbered(rows),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """Columns of length n, one row per outline."""

    group: Index
    """Number of the object that the outline belongs to, or -1 where it is dropped."""
    shapes: NDArray[np.bool_]
    """True where the outline is (a part of) the shape of its object."""


def objects_of(judged: Judged) -> Objects:
    """Group the outlines. The rows stand in a canonical order: ties fall to the first."""
    outlines, views, pairs, spans = judged.outlines, judged.views, judged.pairs, judged.spans
    n = len(outlines)
    whole = views.whole
    fit = np.nan_to_num(pairs.iou, nan=1.0)
    i, j = pairs.i, pairs.j

    first_choice = _first_choice(pairs, fit, outlines.tiles)
    best = np.where(fit >= CERTAIN, 2, first_choice.sum(axis=0))
    both = whole[i] & whole[j] & pairs.same & (best == 2)
    onto, fit_onto = _host(pairs, fit, first_choice, views)
    left = ~whole & (onto < 0)
    lodged = np.flatnonzero(onto >= 0)
    # A guest that draws what its host draws lends its shape, and ties all that it agrees with: the tile that sees
    # its ground best may have missed it.
    lends = (onto >= 0) & left[onto] & (fit_onto >= CERTAIN)
    agree = (fit >= CERTAIN) & ((lends[i] & left[j]) | (left[i] & lends[j]))
    tied = both | agree | (left[i] & left[j] & (best > 0))
    starts, ends = np.concatenate([i[tied], lodged]), np.concatenate([j[tied], onto[lodged]])
    group = components(n, starts, ends)
    span = spans.take(_nearest(spans, left | lends, group))
    starts, ends = np.concatenate([starts, span.i]), np.concatenate([ends, span.j])
    group = components(n, starts, ends)
    doubt = _undisputed(judged.doubts, group, outlines.tiles)
    if len(doubt):
        group = components(n, np.concatenate([starts, doubt.i]), np.concatenate([ends, doubt.j]))
    shapes = (left | lends) & ~np.isin(group, group[whole])  # a piece of another label adds nothing to a whole outline
    shapes[_first_of(group[whole], np.flatnonzero(whole), views, outlines.scores)] = True
    group[views.blind] = -1
    shapes[views.blind] = False
    return Objects(group=group, shapes=shapes)


def _undisputed(doubts: Doubts, group: Index, tiles: NDArray[np.int32]) -> Doubts:
    """Of outlines that agree but for their labels, those whose objects are each the other's best match, and of
    which no tile drew both: the links that make one object of two."""
    low, high = np.minimum(group[doubts.i], group[doubts.j]), np.maximum(group[doubts.i], group[doubts.j])
    at = np.lexsort((doubts.j, doubts.i, -doubts.iou, high, low))
    at = at[np.unique(np.column_stack([low, high])[at], axis=0, return_index=True)[1]]  # the best link of two objects
    seen: dict[int, set[tuple[int, int]]] = {}
    for row in np.flatnonzero(np.isin(group, [low[at], high[at]])).tolist():
        seen.setdefault(int(group[row]), set()).add((int(tiles[row, 0]), int(tiles[row, 1])))
    once = [seen[a].isdisjoint(seen[b]) for a, b in zip(low[at].tolist(), high[at].tolist(), strict=True)]
    at = at[np.array(once, np.bool_)]
    of = np.concatenate([low[at], high[at]])
    order = np.lexsort((np.tile(at, 2), -np.tile(doubts.iou[at], 2), of))
    first = order[np.unique(of[order], return_index=True)[1]]
    return doubts.take(at[np.bincount(first % max(len(at), 1), minlength=len(at)) == 2])


def _first_choice(pairs: Pairs, fit: NDArray[np.float64], tiles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """``(2, m)`` for each pair, whether it is the best match of i in the tile of j, and that of j in the tile of i."""
    of = np.concatenate([pairs.i, pairs.j])
    match = np.concatenate([pairs.j, pairs.i])
    fits = np.concatenate([fit, fit])
    order = np.lexsort((match, -fits, tiles[match, 1], tiles[match, 0], of))
    key = np.column_stack([of, tiles[match]])[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (key[1:] != key[:-1]).any(axis=1)
    out = np.zeros(len(order), np.bool_)
    out[order[first]] = True
    return out.reshape(2, -1)


def _nearest(spans: Spans, free: NDArray[np.bool_], group: Index) -> NDArray[np.bool_]:
    """Where a bridge leads to another object and is, for both its ends, the one that adds the least."""
    at = np.flatnonzero(free[spans.i] & free[spans.j] & (group[spans.i] != group[spans.j]))
    of = np.concatenate([spans.i[at], spans.j[at]])
    order = np.lexsort((np.tile(at, 2), np.tile(spans.added[at], 2), of))
    first = order[np.unique(of[order], return_index=True)[1]]
    chosen = np.bincount(np.tile(at, 2)[first], minlength=len(spans.i))
    return np.asarray(chosen == 2, np.bool_)


def _host(
    pairs: Pairs, fit: NDArray[np.float64], first_choice: NDArray[np.bool_], views: Views
) -> tuple[Index, NDArray[np.float64]]:
    """For each cut piece the outline that it fits best of those it may lodge with, and the fit; else -1.

    Only the best match of a tile is one: a thin piece beside a house lies within the border slack of it, but the tile
    that drew the house drew the piece's own object too.
    """
    piece = np.concatenate([pairs.i, pairs.j])
    host = np.concatenate([pairs.j, pairs.i])
    belongs = np.concatenate([pairs.same | pairs.i_part, pairs.same | pairs.j_part])
    fits = np.concatenate([fit, fit])
    better = views.whole[host] | (views.guest[piece] & ~views.guest[host])
    at = np.flatnonzero(~views.whole[piece] & better & belongs & first_choice.ravel())
    order = at[np.lexsort((host[at], -fits[at], piece[at]))]
    found, first = np.unique(piece[order], return_index=True)
    out = np.full(len(views.whole), -1, np.int64)
    out[found] = host[order[first]]
    fit_of = np.zeros(len(out))
    fit_of[found] = fits[order[first]]
    return out, fit_of


def _first_of(group: Index, rows: Index, views: Views, scores: NDArray[np.float32]) -> Index:
    """The best row of each group: from a tile that can have seen all that the group's rows show (a second part may lie
    beyond its window), then seen farthest from its window's inner edges, capped at ``CONTEXT`` pixels, then by score,
    area of its box, and order."""
    box = views.bounds[rows]
    size = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    depth = np.minimum(views.depth[rows], CONTEXT)
    order = np.lexsort((rows, -size, -scores[rows], -depth, ~_sees_all(group, rows, views), group))
    return np.asarray(rows[order[np.unique(group[order], return_index=True)[1]]], np.int64)


def _sees_all(group: Index, rows: Index, views: Views) -> NDArray[np.bool_]:
    """Where a row's tile believes all the ground of its group's rows."""
    _, of = np.unique(group, return_inverse=True)
    low, high = np.full((len(group), 2), np.inf), np.full((len(group), 2), -np.inf)
    np.minimum.at(low, of, views.bounds[rows, :2])
    np.maximum.at(high, of, views.bounds[rows, 2:])
    return inside(np.hstack([low, high])[of], views.believed[rows])


CONTEXT = 32.0
"""Pixels of surroundings beyond which more make no view better."""
