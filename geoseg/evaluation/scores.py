"""How good predictions are, in numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.frame import common_frame, share_inside
from geoseg.evaluation.matching import Matches, assign, candidates

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Counts, and what follows from them.

    Where there is neither a prediction nor a true object all three rates are 1: nothing was there and nothing
    was claimed. Otherwise a rate without anything to count is 0.
    """

    n_pred: int
    """Predictions counted."""
    n_truth: int
    """True objects counted."""
    n_matched: int
    """Pairs, one to one, at the IoU threshold."""
    mean_iou: float
    """Mean IoU of the pairs; NaN where there is none."""
    iou: float = 0.5
    """The IoU threshold."""
    by_label: Mapping[str, Scores] = field(default_factory=dict)
    """The same per class; empty where one side has no labels."""

    @property
    def precision(self) -> float:
        """Share of the predictions that are right, 0 to 1."""
        return _rate(self.n_matched, self.n_pred, self.n_truth)

    @property
    def recall(self) -> float:
        """Share of the true objects that were found, 0 to 1."""
        return _rate(self.n_matched, self.n_truth, self.n_pred)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1."""
        return _rate(2 * self.n_matched, self.n_pred + self.n_truth, 0)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain values, null where there is no mean IoU."""
        values: dict[str, Any] = {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "mean_iou": None if np.isnan(self.mean_iou) else self.mean_iou,
            "n_pred": self.n_pred,
            "n_truth": self.n_truth,
            "n_matched": self.n_matched,
            "iou": self.iou,
        }
        if self.by_label:
            values["by_label"] = {label: scores.to_dict() for label, scores in self.by_label.items()}
        return values


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Scores at a row of score thresholds: what each threshold would have given."""

    thresholds: tuple[float, ...]
    """Ascending; predictions with a score below are left out, those without a score stay."""
    scores: tuple[Scores, ...]
    """As many."""

    @property
    def best(self) -> tuple[float, Scores]:
        """The threshold with the highest F1 (the lowest such), and its scores."""
        index = max(range(len(self.scores)), key=lambda i: self.scores[i].f1)
        return self.thresholds[index], self.scores[index]


def evaluate(
    pred: gpd.GeoDataFrame,
    truth: gpd.GeoDataFrame,
    *,
    iou: float = 0.5,
    aoi: gpd.GeoDataFrame | None = None,
    any_label: bool = False,
) -> Scores:
    """Compare footprints with the truth.

    Pairs are made as in :func:`geoseg.evaluation.matching.match`; where both tables have a ``label`` column
    only objects of the same label pair up. Any CRS on either side.

    Args:
        pred: Footprints.
        truth: True outlines; invalid ones are repaired.
        iou: Threshold at which a pair counts.
        aoi: Polygons that limit what is counted. A true object counts when at least half of it lies inside.
            So does a prediction that is paired with nothing; one that is paired counts with its partner, so
            that nobody is blamed for the border.
        any_label: Let objects of any labels pair up. Without it, sides that share no label get a warning in the log.

    Raises:
        ConfigError: a threshold out of range, or only some of the tables have a CRS.
    """
    return _Case.prepare(pred, truth, iou=iou, aoi=aoi, any_label=any_label).scores(-np.inf)


def sweep(
    pred: gpd.GeoDataFrame,
    truth: gpd.GeoDataFrame,
    *,
    iou: float = 0.5,
    aoi: gpd.GeoDataFrame | None = None,
    any_label: bool = False,
) -> Sweep:
    """:func:`evaluate` at every score threshold from the lowest score up, in steps of 0.01."""
    case = _Case.prepare(pred, truth, iou=iou, aoi=aoi, any_label=any_label)
    known = case.pred_score[np.isfinite(case.pred_score)]
    lowest = int(np.floor(known.min() * 100)) if len(known) else 0
    thresholds = tuple(step / 100 for step in range(lowest, 101))
    return Sweep(thresholds=thresholds, scores=tuple(case.scores(threshold) for threshold in thresholds))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """Predictions against truth, with the geometry done: only columns are left."""

    pairs: Matches
    """Every possible pair, labels respected."""
    pred_inside: NDArray[np.bool_]
    truth_inside: NDArray[np.bool_]
    pred_score: NDArray[np.float64]
    """Infinite where unknown."""
    labels: tuple[NDArray[np.str_], NDArray[np.str_]] | None
    iou: float

    @classmethod
    def prepare(
        cls,
        pred: gpd.GeoDataFrame,
        truth: gpd.GeoDataFrame,
        *,
        iou: float,
        aoi: gpd.GeoDataFrame | None,
        any_label: bool,
    ) -> _Case:
        pred, truth, *area = common_frame([pred, truth] if aoi is None else [pred, truth, aoi])
        shapes = [np.asarray(table.geometry.array, dtype=object) for table in (pred, truth)]
        pairs = candidates(*shapes, iou=iou)
        labels = None if any_label else _labels(pred, truth)
        if labels:
            pairs = pairs.take(labels[0][pairs.pred] == labels[1][pairs.truth])
        inside = [np.ones(len(shape), bool) for shape in shapes]
        if area:
            inside = [share_inside(shape, area[0].geometry.union_all()) >= 0.5 for shape in shapes]
        score = pred["score"].astype(float).to_numpy() if "score" in pred else np.full(len(pred), np.inf)
        return cls(
            pairs=pairs,
            pred_inside=inside[0],
            truth_inside=inside[1],
            pred_score=np.where(np.isnan(score), np.inf, score),
            labels=labels,
            iou=iou,
        )

    def scores(self, threshold: float) -> Scores:
        """What the predictions at or above the threshold amount to."""
        kept = self.pred_score >= threshold
        matches = assign(self.pairs.take(kept[self.pairs.pred]))
        paired = np.zeros(len(kept), bool)
        paired[matches.pred] = True
        matches = matches.take(self.truth_inside[matches.truth])
        counted = kept & self.pred_inside & ~paired
        counted[matches.pred] = True
        total = _scores(matches, counted, self.truth_inside, self.iou)
        if self.labels is None:
            return total
        pred_label, truth_label = self.labels
        names = sorted({*pred_label[counted].tolist(), *truth_label[self.truth_inside].tolist()})
        by_label = {
            name: _scores(
                matches.take(truth_label[matches.truth] == name),
                counted & (pred_label == name),
                self.truth_inside & (truth_label == name),
                self.iou,
            )
            for name in names
        }
        return Scores(
            n_pred=total.n_pred,
            n_truth=total.n_truth,
            n_matched=total.n_matched,
            mean_iou=total.mean_iou,
            iou=self.iou,
            by_label=by_label,
        )


def _labels(pred: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> tuple[NDArray[np.str_], NDArray[np.str_]] | None:
    """Those of both sides, as text; None where a side has none."""
    if "label" not in pred or "label" not in truth:
        return None
    one, other = (table["label"].astype(str).to_numpy(str) for table in (pred, truth))
    if len(one) and len(other) and not np.isin(one, other).any():
        shown = [", ".join(np.unique(side).tolist()[:5]) for side in (one, other)]
        _log.warning(
            "no label is on both sides (predicted: %s; true: %s), so nothing can match: pass any_label (--any-label)"
            " to compare outlines alone",
            *shown,
        )
    return one, other


def _scores(matches: Matches, pred: NDArray[np.bool_], truth: NDArray[np.bool_], iou: float) -> Scores:
    return Scores(
        n_pred=int(pred.sum()),
        n_truth=int(truth.sum()),
        n_matched=len(matches),
        mean_iou=float(matches.iou.mean()) if len(matches) else float("nan"),
        iou=iou,
    )


def _rate(hits: int, of: int, other: int) -> float:
    """``hits / of``; with nothing to divide by, 1 where the other side is empty too and 0 otherwise."""
    return hits / of if of else float(other == 0)
