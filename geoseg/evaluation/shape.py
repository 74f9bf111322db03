"""How true the outlines of matched objects are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.evaluation.comparison import Comparison

TOLERANCE = 1.0
"""Distance at which a boundary is hit, in metres (pixels without a CRS)."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Outlines of the matched pairs. NaN where there is none."""

    polis: float
    """Mean PoLiS distance, in metres (pixels without a CRS)."""
    polis_median: float
    """Its median: a few wrong ones move it less."""
    boundary_f: float
    """Mean boundary F-score, 0 to 1."""
    tolerance: float
    """The distance at which a boundary is hit, in the same unit."""
    unit: str
    """``m`` or ``px``."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: null for NaN."""
        values = {name: getattr(self, name) for name in ("polis", "polis_median", "boundary_f")}
        told = {name: None if np.isnan(value) else value for name, value in values.items()}
        return {**told, "tolerance": self.tolerance, "unit": self.unit}


def shapes(scenes: Sequence[Comparison], *, tolerance: float = TOLERANCE) -> Shapes:
    """Of the pairs that count, over scenes together."""
    distance, score = [np.zeros(0)], [np.zeros(0)]
    for scene in scenes:
        matches, _, _ = scene.matched
        pred = np.asarray(scene.pred.geometry.array, dtype=object)[matches.pred]
        truth = np.asarray(scene.truth.geometry.array, dtype=object)[matches.truth]
        distance.append(polis(pred, truth))
        score.append(boundary_f(pred, truth, tolerance=tolerance))
    every, scores = np.concatenate(distance), np.concatenate(score)
    some = len(every) > 0
    return Shapes(
        polis=float(every.mean()) if some else float("nan"),
        polis_median=float(np.median(every)) if some else float("nan"),
        boundary_f=float(scores.mean()) if some else float("nan"),
        tolerance=tolerance,
        unit="m" if any(scene.crs is not None for scene in scenes) else "px",
    )


def polis(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """``(n,)`` PoLiS distance of each pair of polygons, in their unit.

    Half the mean distance of the vertices of one to the outline of the other, and the same the other way round: J.
    Avbelj, R. Müller, R. Bamler, "A Metric for Polygon Comparison and Building Extraction Evaluation", IEEE Geoscience
    and Remote Sensing Letters 12(1), 2015. Holes count as outline too.
    """
    return (_mean_reach(one, other) + _mean_reach(other, one)) / 2


def boundary_f(pred: NDArray[Any], truth: NDArray[Any], *, tolerance: float) -> NDArray[np.float64]:
    """``(n,)`` boundary F-score of each pair: the harmonic mean of the share of either outline's length that lies
    within ``tolerance`` of the other.

    The measure of G. Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013, by
    length of the outlines instead of pixels on them.
    """
    lines = [shapely.boundary(shapes) for shapes in (pred, truth)]
    shares = []
    for line, around in (lines, lines[::-1]):
        near = shapely.intersection(line, shapely.buffer(around, tolerance))
        shares.append(shapely.length(near) / shapely.length(line))
    precision, recall = shares
    total = precision + recall
    score: NDArray[np.float64] = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return score


def _mean_reach(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """``(n,)`` mean distance of the vertices of each polygon to the outline of its partner."""
    parts, owner = shapely.get_parts(one, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    # A ring's last vertex is its first again.
    own = np.diff(ring, append=-1) == 0
    pair = owner[part[ring[own]]]
    outline = shapely.boundary(other)
    shapely.prepare(outline)
    distance = shapely.distance(shapely.points(xy[own]), outline[pair])
    return np.bincount(pair, distance, len(one)) / np.bincount(pair, minlength=len(one))
