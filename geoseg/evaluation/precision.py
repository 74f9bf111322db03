"""Average precision as COCO counts it, without its limit on the number of detections.

The rules are those of pycocotools' ``COCOeval`` (T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV
2014; https://cocodataset.org/#detection-eval): predictions by falling score each take the free true object of highest
IoU at or above a threshold; precision, made monotone, is averaged over 101 recalls, ten thresholds and the classes.
Two things differ, both on purpose: overlaps are of the exact polygons, not of pixels, and all predictions of a scene
count, where COCO drops those after the hundredth of an image and class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.evaluation.comparison import Comparison
from geoseg.evaluation.matching import Overlaps

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds of COCO's AP."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads precision."""
GROUND_SIZES = (100.0, 1000.0)
"""Areas in square metres between small, medium and large on the ground: sheds and boats, houses, halls and ships."""
PIXEL_SIZES = (32.0**2, 96.0**2)
"""COCO's areas in pixels."""
_NEARLY_1 = 1 - 1e-10  # pycocotools' bound on a threshold


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """COCO's summary. NaN where there is no true object, or no prediction has a score."""

    ap: float
    """Mean over the IoU thresholds 0.50, 0.55 ... 0.95 and the classes, 0 to 1."""
    ap50: float
    """At IoU 0.5."""
    ap75: float
    """At IoU 0.75."""
    by_size: Mapping[str, float]
    """``ap`` of small, medium and large true objects."""
    sizes: tuple[float, float]
    """Areas between these: square metres, or pixels where there is no CRS."""
    by_label: Mapping[str, float]
    """``ap`` per class."""
    recall: float
    """Mean over the same of the recall of all predictions (COCO's AR)."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: null for NaN."""
        return {
            **{name: _null(getattr(self, name)) for name in ("ap", "ap50", "ap75", "recall")},
            "by_size": {name: _null(value) for name, value in self.by_size.items()},
            "sizes": list(self.sizes),
            "by_label": {name: _null(value) for name, value in self.by_label.items()},
        }


def average_precision(
    scenes: Sequence[Comparison], *, boxes: bool = False, sizes: tuple[float, float] | None = None
) -> AveragePrecision:
    """AP over scenes together: objects pair within their scene, and all predictions share one ranking.

    Args:
        scenes: what :func:`geoseg.evaluation.compare` gave.
        boxes: of boxes along the axes of the predictions' CRS instead of outlines.
        sizes: areas between small, medium and large; None: :data:`GROUND_SIZES`, or :data:`PIXEL_SIZES` without a CRS.

    Raises:
        ConfigError: sizes that do not rise.
    """
    on_ground = any(scene.crs is not None for scene in scenes)
    low, high = sizes or (GROUND_SIZES if on_ground else PIXEL_SIZES)
    if not 0 < low < high:
        raise ConfigError(f"sizes {low:g}, {high:g}", allowed="two areas above 0, the smaller first")
    ranges = {"all": (0.0, np.inf), "small": (0.0, low), "medium": (low, high), "large": (high, np.inf)}
    tables = {name: _table(scenes, boxes, size) for name, size in ranges.items()}
    precision, recall = tables["all"]
    return AveragePrecision(
        ap=_mean(precision.values()),
        ap50=_mean([of_class[0] for of_class in precision.values()]),
        ap75=_mean([of_class[5] for of_class in precision.values()]),
        by_size={name: _mean(tables[name][0].values()) for name in ("small", "medium", "large")},
        sizes=(low, high),
        by_label={name: _mean([of_class]) for name, of_class in precision.items() if name},
        recall=_mean(recall.values()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """The predictions of a scene, each right, wrong or not counted at each threshold."""

    score: NDArray[np.float64]
    """``(n,)``."""
    right: NDArray[np.bool_]
    """``(thresholds, n)`` it took a true object that counts."""
    counts: NDArray[np.bool_]
    """``(thresholds, n)`` False: it counts neither way."""
    partner: NDArray[np.int64]
    """``(thresholds, n)`` the true object that it took, or -1."""
    true: NDArray[np.bool_]
    """``(m,)`` the true objects that count."""


def ranked(
    scene: Comparison,
    thresholds: NDArray[np.float64],
    *,
    boxes: bool = False,
    size: tuple[float, float] = (0.0, np.inf),
) -> Ranked:
    """Who takes whom, by falling score; of true objects, those of an area in ``size`` count."""
    pairs = scene.boxes if boxes else scene.shared
    areas = [np.asarray(table.geometry.area, np.float64) for table in (scene.pred, scene.truth)]
    fits = [(area >= size[0]) & (area <= size[1]) for area in areas]
    true = fits[1] & scene.truth_inside & ~scene.ignore
    order = np.argsort(-scene.score, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    partner = _taken(pairs, rank, ~true, scene.ignore, thresholds)
    took = partner >= 0
    right = took & true[partner] if len(true) else took
    counts = np.where(took, right, fits[0] & scene.pred_inside)
    return Ranked(score=scene.score, right=right, counts=counts, partner=partner, true=true)


def _taken(
    pairs: Overlaps,
    rank: NDArray[np.int64],
    aside: NDArray[np.bool_],
    region: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int64]:
    """``(thresholds, n)`` the true object that each prediction takes, or -1.

    ``aside``: true objects that do not count, which are taken only where no other can be; ``region``: those of them
    that any number of predictions may take.
    """
    limits = np.minimum(thresholds, _NEARLY_1)
    pairs = pairs.take(pairs.iou >= limits.min())
    partner = np.full((len(thresholds), len(rank)), -1, np.int64)
    # Where neither has another candidate there is nothing to choose.
    alone = np.bincount(pairs.pred, minlength=len(rank))[pairs.pred] == 1
    alone &= (np.bincount(pairs.truth, minlength=len(aside))[pairs.truth] == 1) | region[pairs.truth]
    clear = pairs.take(alone)
    partner[:, clear.pred] = np.where(clear.iou >= limits[:, None], clear.truth, -1)
    rest = pairs.take(~alone)
    # Best candidate first, and of equal ones the last, as pycocotools' loop leaves it.
    order = np.lexsort((-rest.truth, -rest.iou, aside[rest.truth], rank[rest.pred]))
    rest = rest.take(order)
    claims = list(zip(rest.pred.tolist(), rest.truth.tolist(), rest.iou.tolist(), strict=True))
    shared = region.tolist()
    for row, limit in enumerate(limits.tolist()):
        gone: set[int] = set()
        settled = -1
        for pred, truth, iou in claims:
            if pred == settled or iou < limit or truth in gone:
                continue
            partner[row, pred] = truth
            settled = pred
            if not shared[truth]:
                gone.add(truth)
    return partner


def _table(
    scenes: Sequence[Comparison], boxes: bool, size: tuple[float, float]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Per class with true objects: AP and final recall at each threshold."""
    done = [ranked(scene, THRESHOLDS, boxes=boxes, size=size) for scene in scenes]
    scored = any(scene.has_scores for scene in scenes)
    precision, recall = {}, {}
    for name in classes(scenes):
        mine = [of_class(scene, name) for scene in scenes]
        true = sum(int((each.true & truth).sum()) for each, (_, truth) in zip(done, mine, strict=True))
        if not true:
            continue
        score, right, counts = (
            np.concatenate(columns, axis=-1)
            for columns in zip(
                *(
                    (e.score[pred], e.right[:, pred], e.counts[:, pred])
                    for e, (pred, _) in zip(done, mine, strict=True)
                ),
                strict=True,
            )
        )
        order = np.argsort(-score, kind="stable")
        precision[name], recall[name] = area_under(right[:, order], counts[:, order], true)
        if not scored and len(score):  # an order that nobody gave means nothing
            precision[name] = np.full(len(THRESHOLDS), np.nan)
    return precision, recall


def area_under(
    right: NDArray[np.bool_], counts: NDArray[np.bool_], true: float, weight: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP and final recall, ``(thresholds,)`` each, of predictions ``(thresholds, n)`` by falling score.

    ``weight`` ``(n,)``: how often each prediction is there, for resampling.
    """
    each = np.ones(right.shape[1]) if weight is None else weight
    hits = np.cumsum(right * each, axis=1)
    told = np.cumsum(counts * each, axis=1)
    recall = hits / true
    precision = hits / (told + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.column_stack([precision, np.zeros(len(precision))])
    areas = [line[np.searchsorted(rec, RECALLS)].mean() for line, rec in zip(precision, recall, strict=True)]
    final = recall[:, -1] if recall.shape[1] else np.zeros(len(recall))
    return np.array(areas), final


def classes(scenes: Sequence[Comparison]) -> list[str]:
    """Labels of the truth; an empty one where labels do not matter."""
    names: set[str] = set()
    for scene in scenes:
        names |= {""} if scene.labels is None else set(scene.labels[1][~scene.ignore].tolist())
    return sorted(names)


def of_class(scene: Comparison, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The rows of one class on both sides."""
    if scene.labels is None:
        every = name == ""
        return np.full(len(scene.pred), every), np.full(len(scene.truth), every)
    return scene.labels[0] == name, scene.labels[1] == name


def _mean(values: Any) -> float:
    values = [np.asarray(value, np.float64).ravel() for value in values]
    return float(np.concatenate(values).mean()) if values else float("nan")


def _null(value: float) -> float | None:
    return None if np.isnan(value) else value
