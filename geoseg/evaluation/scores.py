"""Counts of what matched, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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

    def __add__(self, other: Scores) -> Scores:
        """The counts of two scenes together."""
        matched = self.n_matched + other.n_matched
        weighed = sum(s.mean_iou * s.n_matched for s in (self, other) if s.n_matched)
        labels = sorted({*self.by_label, *other.by_label})
        none = Scores(n_pred=0, n_truth=0, n_matched=0, mean_iou=float("nan"), iou=self.iou)
        return Scores(
            n_pred=self.n_pred + other.n_pred,
            n_truth=self.n_truth + other.n_truth,
            n_matched=matched,
            mean_iou=weighed / matched if matched else float("nan"),
            iou=self.iou,
            by_label={name: self.by_label.get(name, none) + other.by_label.get(name, none) for name in labels},
        )

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
        """The threshold with the highest F1 (the lowest such), and its scores. Not one that leaves nothing to count,
        where there is something at another: its F1 of 1 is of no object."""

        def worth(i: int) -> tuple[bool, float]:
            return self.scores[i].n_pred + self.scores[i].n_truth > 0, self.scores[i].f1

        index = max(range(len(self.scores)), key=worth)
        return self.thresholds[index], self.scores[index]


def _rate(hits: int, of: int, other: int) -> float:
    """``hits / of``; with nothing to divide by, 1 where the other side is empty too and 0 otherwise."""
    return hits / of if of else float(other == 0)
