"""What counts at every score threshold, by the same one-to-one choice as in :mod:`geoseg.evaluation.comparison`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.comparison import Comparison
from geoseg.evaluation.matching import Matches, best_choice

Ints = NDArray[np.int64]


def changes(scene: Comparison) -> tuple[NDArray[np.float64], Ints, Ints]:
    """Columns ``(k,)``: a score, and by how many the matches and the predictions that count grow where the threshold
    falls to it. Their sums down to a threshold are what :meth:`geoseg.evaluation.Comparison.scores` tells there.
    """
    pairs = scene.pairs
    free = (scene.pred_inside & ~scene.in_ignored).astype(np.int64)
    true = (scene.truth_inside & ~scene.ignore).astype(np.int64)
    # A prediction counts where it is free; one that is paired counts with its partner instead.
    columns = [(scene.score, np.zeros_like(free), free)]
    alone = (np.bincount(pairs.pred)[pairs.pred] == 1) & (np.bincount(pairs.truth)[pairs.truth] == 1)
    clear = pairs.take(alone)
    columns.append((scene.score[clear.pred], true[clear.truth], true[clear.truth] - free[clear.pred]))
    contested = np.array(list(_contested(pairs.take(~alone), scene.score, free, true)), np.float64).reshape(-1, 3)
    columns.append((contested[:, 0], contested[:, 1].astype(np.int64), contested[:, 2].astype(np.int64)))
    score, matched, pred = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return score, matched, pred


@dataclass(kw_only=True, eq=False)
class _Group:
    """Pairs that hang together, among the predictions so far."""

    rows: list[int]
    """Positions of the pairs."""
    hits: int = 0
    """True objects that count and are taken."""
    shift: int = 0
    """Predictions that count by that, less those that would without it."""


def _contested(pairs: Matches, score: NDArray[np.float64], free: Ints, true: Ints) -> Iterator[tuple[float, int, int]]:
    """Predictions come in by falling score, and only the groups that they touch are chosen in anew."""
    preds, truths, scores = pairs.pred.tolist(), pairs.truth.tolist(), score[pairs.pred].tolist()
    home: dict[int, _Group] = {}
    for value, equal in groupby(np.argsort(-score[pairs.pred], kind="stable").tolist(), scores.__getitem__):
        touched: set[_Group] = set()
        for _, rows in groupby(equal, preds.__getitem__):
            touched.add(group := _Group(rows=list(rows)))
            for truth in [truths[row] for row in group.rows]:
                old = home.get(truth, group)
                home[truth] = group
                if old is not group:
                    group.rows += old.rows
                    group.hits, group.shift = group.hits + old.hits, group.shift + old.shift
                    home.update((truths[row], group) for row in old.rows)
                    touched.discard(old)
        for group in touched:
            chosen = best_choice(pairs, np.array(group.rows))
            hits = int(true[pairs.truth[chosen]].sum())
            shift = hits - int(free[pairs.pred[chosen]].sum())
            yield value, hits - group.hits, shift - group.shift
            group.hits, group.shift = hits, shift
