"""Footprints against the truth: precision, recall, F1 and mean IoU."""

from geoseg.evaluation.matching import Matches, match
from geoseg.evaluation.scores import Scores, Sweep, evaluate, sweep

__all__ = ["Matches", "Scores", "Sweep", "evaluate", "match", "sweep"]
