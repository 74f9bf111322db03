"""Footprints against the truth: how many were found, how true their outlines are, what went wrong and where."""

from geoseg.evaluation.comparison import Comparison, compare, evaluate, sweep
from geoseg.evaluation.curves import Calibration, Curve, calibration, curve
from geoseg.evaluation.errors import Verdict, error_counts, error_layer, judge
from geoseg.evaluation.examined import Examined, examined
from geoseg.evaluation.images import compare_coco
from geoseg.evaluation.intervals import Intervals, intervals
from geoseg.evaluation.matching import Matches, match
from geoseg.evaluation.precision import AveragePrecision, average_precision
from geoseg.evaluation.reviewed import reviewed
from geoseg.evaluation.scores import Scores, Sweep
from geoseg.evaluation.shape import Shapes, boundary_f, polis, shapes
from geoseg.evaluation.summary import Evaluation, assess

__all__ = [
    "AveragePrecision",
    "Calibration",
    "Comparison",
    "Curve",
    "Evaluation",
    "Examined",
    "Intervals",
    "Matches",
    "Scores",
    "Shapes",
    "Sweep",
    "Verdict",
    "assess",
    "average_precision",
    "boundary_f",
    "calibration",
    "compare",
    "compare_coco",
    "curve",
    "error_counts",
    "error_layer",
    "evaluate",
    "examined",
    "intervals",
    "judge",
    "match",
    "polis",
    "reviewed",
    "shapes",
    "sweep",
]
