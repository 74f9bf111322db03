"""What scores are worth: precision against recall at every threshold, the best threshold, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.comparison import Comparison
from geoseg.evaluation.precision import ranked
from geoseg.evaluation.thresholds import changes

_TOLD = 200
"""Points of a curve that go into a file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Counts and rates of the predictions that score at least a threshold, for every threshold that matters.

    They are those of :meth:`geoseg.evaluation.Comparison.scores` there.
    """

    threshold: NDArray[np.float64]
    """``(n,)`` falling; each the score of some prediction."""
    n_matched: NDArray[np.int64]
    """``(n,)`` pairs, one to one, at the IoU threshold."""
    n_pred: NDArray[np.int64]
    """``(n,)`` predictions counted."""
    n_truth: int
    """True objects counted."""
    iou: float
    """The IoU at which a pair counts."""

    @property
    def precision(self) -> NDArray[np.float64]:
        """``(n,)`` share of the predictions that are right."""
        return _rate(self.n_matched, self.n_pred, empty=float(self.n_truth == 0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """``(n,)`` share of the true objects that were found."""
        return _rate(self.n_matched, np.full_like(self.n_pred, self.n_truth), empty=self.n_pred == 0)

    @property
    def f1(self) -> NDArray[np.float64]:
        """``(n,)`` harmonic mean of both."""
        return _rate(2 * self.n_matched, self.n_pred + self.n_truth, empty=1.0)

    @property
    def best(self) -> tuple[float, float] | None:
        """The threshold with the highest F1 (the lowest such), and that F1; None where there is none, or nothing to
        count at any."""
        if not len(self.threshold) or not (self.n_truth or self.n_pred.any()):
            return None
        index = len(self.f1) - 1 - int(np.argmax(self.f1[::-1]))
        return float(self.threshold[index]), float(self.f1[index])

    def to_dict(self) -> dict[str, Any]:
        """For JSON: thinned to at most 200 points, both ends kept."""
        count = len(self.threshold)
        kept = np.unique(np.linspace(0, max(count - 1, 0), min(count, _TOLD)).round().astype(np.int64))
        return {name: getattr(self, name)[kept].round(6).tolist() for name in ("threshold", "precision", "recall")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """How far a score of 0.8 means that 80 % are right, in bins of equal width from 0 to 1."""

    count: NDArray[np.int64]
    """``(bins,)`` predictions in each."""
    score: NDArray[np.float64]
    """``(bins,)`` their mean score; NaN where there is none."""
    right: NDArray[np.float64]
    """``(bins,)`` share of them that is right; NaN where there is none."""

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap between score and share of right ones, by count, 0 to 1.

        C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. NaN where there is no prediction.
        """
        some = self.count > 0
        if not some.any():
            return float("nan")
        return float(np.average(np.abs(self.right - self.score)[some], weights=self.count[some]))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: a row per bin that holds something."""
        edges = np.linspace(0, 1, len(self.count) + 1)
        bins = [
            {"from": round(edges[i], 6), "to": round(edges[i + 1], 6), "count": int(self.count[i])}
            | {"score": round(float(self.score[i]), 6), "right": round(float(self.right[i]), 6)}
            for i in np.flatnonzero(self.count)
        ]
        return {"ece": None if np.isnan(self.ece) else self.ece, "bins": bins}


def curve(scenes: Sequence[Comparison]) -> Curve:
    """Every threshold that matters, over scenes together. Predictions without a score are there at each of them.

    The choice of pairs is that of all figures but AP: as many as possible of the predictions that are there. (AP's, by
    falling score, is another: a prediction may take the only partner of the next.)
    """
    score, matched, pred = (np.concatenate(parts) for parts in zip(*map(changes, scenes), strict=True))
    order = np.argsort(-score, kind="stable")
    score = score[order]
    last = np.append(score[1:] != score[:-1], True)[: len(score)]  # equal scores stand or fall together
    last &= np.isfinite(score)
    return Curve(
        threshold=score[last],
        n_matched=np.cumsum(matched[order])[last],
        n_pred=np.cumsum(pred[order])[last],
        n_truth=sum(int((scene.truth_inside & ~scene.ignore).sum()) for scene in scenes),
        iou=scenes[0].iou,
    )


def calibration(scenes: Sequence[Comparison], *, bins: int = 10) -> Calibration:
    """Scores against the share that is right, over scenes together."""
    score, right = _told(scenes)
    place = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Calibration(
            count=count,
            score=np.bincount(place, score, bins) / count,
            right=np.bincount(place, right, bins) / count,
        )


def _told(scenes: Sequence[Comparison]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score of each prediction that counts and has one, and whether it is right: who takes whom goes by score, so that
    it does not depend on what scores less."""
    done = [ranked(scene, np.array([scene.iou])) for scene in scenes]
    kept = [each.counts[0] & np.isfinite(each.score) for each in done]
    score = np.concatenate([each.score[keep] for each, keep in zip(done, kept, strict=True)])
    right = np.concatenate([each.right[0][keep] for each, keep in zip(done, kept, strict=True)])
    return score, right


def _rate(hits: NDArray[np.int64], of: NDArray[np.int64], *, empty: float | NDArray[np.bool_]) -> NDArray[np.float64]:
    """``hits / of``, and ``empty`` where there is nothing to divide by."""
    return np.where(of > 0, hits / np.maximum(of, 1), empty)
