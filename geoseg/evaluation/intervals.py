"""How sure a figure is: confidence intervals by a bootstrap over blocks of ground.

Neighbouring objects share their light, their roofs and their luck, so objects are no independent draws. Blocks of
ground are drawn with replacement instead, and everything in a block comes along (the block bootstrap: S. N. Lahiri,
"Resampling Methods for Dependent Data", Springer 2003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.evaluation.comparison import Comparison
from geoseg.evaluation.precision import area_under, classes, of_class, ranked

_WANTED = 64
"""Blocks that a default side aims at; many of them may be empty."""
_FEWEST = 8
"""With fewer blocks that hold something there is no interval: it would promise more than it knows."""

Cells = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Ranges that hold a figure with a given confidence."""

    ranges: Mapping[str, tuple[float, float]]
    """``precision``, ``recall``, ``f1`` and, with scores, one class and true objects, ``ap50``: low and high."""
    level: float
    """The confidence, 0 to 1."""
    blocks: int
    """Blocks that hold something."""
    side: float
    """Of a block, in metres (pixels without a CRS)."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ranges = {name: list(pair) for name, pair in self.ranges.items()}
        return {**ranges, "level": self.level, "blocks": self.blocks, "block_side": self.side}


def intervals(
    scenes: Sequence[Comparison],
    *,
    side: float | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Intervals | None:
    """Percentile intervals over blocks of all scenes together; None with fewer than eight blocks that hold something.

    Args:
        scenes: what :func:`geoseg.evaluation.compare` gave.
        side: of a block, in metres (pixels without a CRS); None: about 64 blocks, none smaller than twice the larger
            objects.
        level: confidence, between 0 and 1.
        resamples: how often blocks are drawn.
        seed: of the draws: the same gives the same intervals.

    Raises:
        ConfigError: a level, side or number of resamples out of range.
    """
    if not 0 < level < 1 or resamples < 1 or (side is not None and not side > 0):
        raise ConfigError(
            f"intervals of level {level}, {resamples} resamples, block side {side}",
            allowed="a level between 0 and 1, at least 1 resample, a side above 0",
        )
    side = side or _side(scenes)
    of_pred, of_truth = _numbered([_blocks(scene, side) for scene in scenes])
    counts = _counts(scenes, of_pred, of_truth)
    full = np.flatnonzero(counts[:2].sum(axis=0))
    if len(full) < _FEWEST:
        return None
    # Without a true object there is no AP, in no draw.
    ranked_once = _Ranking.of(scenes, of_pred, of_truth) if counts[1].any() and _one_ranking(scenes) else None
    names = ["precision", "recall", "f1", *(["ap50"] if ranked_once else [])]
    found = np.full((len(names), resamples), np.nan)
    draw = np.zeros(counts.shape[1])
    rng = np.random.default_rng(seed)
    for i in range(resamples):
        draw[full] = rng.multinomial(len(full), np.full(len(full), 1 / len(full)))
        pred, truth, hits = counts @ draw
        found[:3, i] = hits / max(pred, 1), hits / max(truth, 1), 2 * hits / max(pred + truth, 1)
        if ranked_once:
            found[3, i] = ranked_once.ap(draw)
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2], axis=1)
    ranges = {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}
    return Intervals(ranges=ranges, level=level, blocks=len(full), side=side)


def _one_ranking(scenes: Sequence[Comparison]) -> bool:
    """Whether there is one AP, of scores and of one class."""
    return any(scene.has_scores for scene in scenes) and len(classes(scenes)) == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ranking:
    """All predictions of the one class by falling score, judged at IoU 0.5."""

    right: NDArray[np.bool_]
    """``(1, n)``."""
    counts: NDArray[np.bool_]
    """``(1, n)``."""
    block: Cells
    """``(n,)`` the block of each."""
    true: NDArray[np.int64]
    """``(blocks,)`` true objects in each."""

    @classmethod
    def of(cls, scenes: Sequence[Comparison], of_pred: list[Cells], of_truth: list[Cells]) -> _Ranking:
        (name,) = classes(scenes)
        parts = []
        for scene, pred_block, truth_block in zip(scenes, of_pred, of_truth, strict=True):
            each, (pred, truth) = ranked(scene, np.array([0.5])), of_class(scene, name)
            true = truth_block[each.true & truth]
            parts.append((each.score[pred], each.right[:, pred], each.counts[:, pred], pred_block[pred], true))
        score, right, counts, block, true = (np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True))
        order = np.argsort(-score, kind="stable")
        return cls(
            right=right[:, order],
            counts=counts[:, order],
            block=block[order],
            true=np.bincount(true, minlength=_blocks_of(of_pred, of_truth)),
        )

    def ap(self, draw: NDArray[np.float64]) -> float:
        """AP50 with each block as often as drawn; NaN where no true object is."""
        number = float(draw @ self.true)
        if not number:
            return float("nan")
        return float(area_under(self.right, self.counts, number, draw[self.block])[0][0])


def _numbered(places: list[tuple[Cells, Cells]]) -> tuple[list[Cells], list[Cells]]:
    """Blocks counted from 0 through all scenes, per scene of predictions and of true objects."""
    cells = [np.column_stack([np.full(len(xy), scene), xy]) for scene, both in enumerate(places) for xy in both]
    _, number = np.unique(np.concatenate(cells), axis=0, return_inverse=True)
    parts = np.split(number.ravel(), np.cumsum([len(cell) for cell in cells])[:-1])
    return parts[0::2], parts[1::2]


def _side(scenes: Sequence[Comparison]) -> float:
    area, sizes = 0.0, [np.zeros(1)]
    for scene in scenes:
        bounds = [table.total_bounds for table in (scene.pred, scene.truth) if len(table)]
        if bounds:
            corners = np.array(bounds)
            area += float(np.prod(corners[:, 2:].max(axis=0) - corners[:, :2].min(axis=0)))
        sizes += [np.sqrt(np.asarray(table.geometry.area, float)) for table in (scene.pred, scene.truth)]
    return max(float(np.sqrt(area / _WANTED)), 2 * float(np.quantile(np.concatenate(sizes), 0.95)), 1e-9)


def _blocks(scene: Comparison, side: float) -> tuple[Cells, Cells]:
    """Column and row of the block of each prediction and true object; a matched prediction goes with its partner."""
    found = []
    for table in (scene.pred, scene.truth):
        points = table.geometry.representative_point()
        xy = np.column_stack([points.x, points.y]).reshape(-1, 2)
        found.append(np.floor(xy / side).astype(np.int64))
    matches, _, _ = scene.matched
    found[0][matches.pred] = found[1][matches.truth]
    return found[0], found[1]


def _counts(scenes: Sequence[Comparison], of_pred: list[Cells], of_truth: list[Cells]) -> NDArray[np.int64]:
    """``(3, blocks)`` predictions, true objects and matches in each."""
    blocks = _blocks_of(of_pred, of_truth)
    counts = np.zeros((3, blocks), np.int64)
    for scene, pred_block, truth_block in zip(scenes, of_pred, of_truth, strict=True):
        matches, pred, truth = scene.matched
        for row, places in enumerate((pred_block[pred], truth_block[truth], truth_block[matches.truth])):
            counts[row] += np.bincount(places, minlength=blocks)
    return counts


def _blocks_of(of_pred: list[Cells], of_truth: list[Cells]) -> int:
    return max((int(numbers.max()) + 1 for numbers in (*of_pred, *of_truth) if len(numbers)), default=0)
