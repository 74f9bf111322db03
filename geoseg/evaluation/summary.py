"""All measures of one evaluation, together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from geoseg.errors import ConfigError
from geoseg.evaluation.comparison import Comparison
from geoseg.evaluation.curves import Calibration, Curve, calibration, curve
from geoseg.evaluation.errors import error_counts
from geoseg.evaluation.intervals import Intervals, intervals
from geoseg.evaluation.precision import AveragePrecision, average_precision
from geoseg.evaluation.scores import Scores
from geoseg.evaluation.shape import Shapes, shapes


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How good predictions are, in numbers."""

    scores: Scores
    """Counts and rates of the predictions as they are, all of them."""
    masks: AveragePrecision | None
    """AP of the outlines; None where no prediction has a score."""
    boxes: AveragePrecision | None
    """AP of their boxes."""
    curve: Curve | None
    """Precision against recall, and the threshold with the best F1."""
    calibration: Calibration | None
    """Scores against the share that is right."""
    shapes: Shapes
    """How true the outlines of the matched objects are."""
    errors: Mapping[str, int]
    """How many of each kind; see :func:`geoseg.evaluation.errors.judge`."""
    intervals: Intervals | None
    """Confidence intervals; None on too little ground."""
    area: str = ""
    """Where things were counted, in words; empty: everywhere."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain values, null where something cannot be told."""
        best = self.curve.best if self.curve else None
        parts = {name: getattr(self, name) for name in ("masks", "boxes", "calibration", "shapes", "intervals")}
        return {
            **self.scores.to_dict(),
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
            "errors": dict(self.errors),
            "best_f1": None if best is None else {"score_threshold": best[0], "f1": best[1]},
            "curve": None if self.curve is None else self.curve.to_dict(),
            "area": self.area or None,
        }


def assess(scenes: Sequence[Comparison], *, sizes: tuple[float, float] | None = None, area: str = "") -> Evaluation:
    """Every measure over scenes together.

    Args:
        scenes: what :func:`geoseg.evaluation.compare` gave, of one IoU threshold.
        sizes: as for :func:`geoseg.evaluation.average_precision`.
        area: where things were counted, in words.

    Raises:
        ConfigError: no scene, scenes of different thresholds, or sizes that do not rise.
    """
    if len({scene.iou for scene in scenes}) != 1:
        raise ConfigError(f"{len(scenes)} scenes", allowed="one or more, all compared at one IoU threshold")
    scored = any(scene.has_scores for scene in scenes)
    return Evaluation(
        scores=reduce(add, [scene.scores() for scene in scenes]),
        masks=average_precision(scenes, sizes=sizes) if scored else None,
        boxes=average_precision(scenes, boxes=True, sizes=sizes) if scored else None,
        curve=curve(scenes) if scored else None,
        calibration=calibration(scenes) if scored else None,
        shapes=shapes(scenes),
        errors=error_counts(scenes),
        intervals=intervals(scenes),
        area=area,
    )
