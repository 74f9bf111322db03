"""Predictions against truth with the geometry done: what every measure starts from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.coco.writing import column_of, ignored
from geoseg.evaluation.frame import area_in_frame, check_near, common_frame, counted, scores_of
from geoseg.evaluation.matching import Matches, Overlaps, assign, box_overlaps, overlaps
from geoseg.evaluation.reviewed import reviewed
from geoseg.evaluation.scores import Scores, Sweep
from geoseg.polygons import polygonal
from geoseg.turns import beside, transformed

_log = logging.getLogger(__name__)
Labels = tuple[NDArray[np.str_], NDArray[np.str_]]
_ROUNDING = 1e-6
"""Share of an outline that coordinates in two CRSs leave beyond an edge which it only touches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One scene: its predictions, its truth, and what they share."""

    pred: gpd.GeoDataFrame
    """Predictions as valid polygons in a plane where areas are true."""
    truth: gpd.GeoDataFrame
    """True objects and regions to ignore, likewise."""
    crs: CRS | None
    """That of the predictions as they came; boxes are along its axes."""
    shared: Overlaps
    """What each prediction shares with each object that it may pair with (labels respected). With a region to ignore
    its ``iou`` is the share of the *prediction* that lies in it, as COCO has it for ``iscrowd``."""
    boxes: Overlaps
    """The same of their boxes."""
    ignore: NDArray[np.bool_]
    """``(m,)`` True: a region to ignore, no object."""
    pred_inside: NDArray[np.bool_]
    """``(n,)`` at least half of it lies where things are counted."""
    truth_inside: NDArray[np.bool_]
    """``(m,)`` likewise."""
    score: NDArray[np.float64]
    """``(n,)``; infinite where unknown."""
    labels: Labels | None
    """Of predictions and truth; None: any pairs with any."""
    iou: float
    """The IoU at which a pair counts."""

    @cached_property
    def pairs(self) -> Matches:
        """Every pair of a prediction and a true object at the threshold."""
        return self.shared.take(~self.ignore[self.shared.truth]).at(self.iou)

    @cached_property
    def in_ignored(self) -> NDArray[np.bool_]:
        """``(n,)`` predictions that lie in a region to ignore, by a share of at least the threshold."""
        found = np.zeros(len(self.pred), bool)
        found[self.shared.take(self.ignore[self.shared.truth]).at(self.iou).pred] = True
        return found

    @property
    def has_scores(self) -> bool:
        """Whether any prediction has one."""
        return bool(np.isfinite(self.score).any())

    def counted(self, threshold: float = -np.inf) -> tuple[Matches, NDArray[np.bool_], NDArray[np.bool_]]:
        """What counts of the predictions that score at least ``threshold``.

        Returns:
            The matches whose true object counts; ``(n,)`` the predictions and ``(m,)`` the true objects that count.
        """
        kept = self.score >= threshold
        every = assign(self.pairs.take(kept[self.pairs.pred]))
        free = kept & self.pred_inside & ~self.in_ignored
        free[every.pred] = False
        truth = self.truth_inside & ~self.ignore
        matches = every.take(truth[every.truth])
        free[matches.pred] = True
        return matches, free, truth

    @cached_property
    def matched(self) -> tuple[Matches, NDArray[np.bool_], NDArray[np.bool_]]:
        """:meth:`counted` of all predictions."""
        return self.counted()

    def scores(self, threshold: float = -np.inf) -> Scores:
        """What the predictions that score at least ``threshold`` amount to."""
        matches, pred, truth = self.counted(threshold)
        total = _scores(matches, pred, truth, self.iou)
        if self.labels is None:
            return total
        pred_label, truth_label = self.labels
        names = sorted({*pred_label[pred].tolist(), *truth_label[truth].tolist()})
        by_label = {
            name: _scores(
                matches.take(truth_label[matches.truth] == name),
                pred & (pred_label == name),
                truth & (truth_label == name),
                self.iou,
            )
            for name in names
        }
        return replace(total, by_label=by_label)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From the lowest score (0 where there is none) up to 1, in steps of 0.01."""
        known = self.score[np.isfinite(self.score)]
        lowest = int(np.floor(known.min() * 100)) if len(known) else 0
        return tuple(step / 100 for step in range(lowest, 101))

    def sweep(self) -> Sweep:
        """:meth:`scores` at all :attr:`thresholds`."""
        thresholds = self.thresholds
        return Sweep(thresholds=thresholds, scores=tuple(self.scores(threshold) for threshold in thresholds))


def compare(
    pred: gpd.GeoDataFrame,
    truth: gpd.GeoDataFrame,
    *,
    iou: float = 0.5,
    aoi: gpd.GeoDataFrame | None = None,
    gaps: gpd.GeoDataFrame | None = None,
    extent: gpd.GeoDataFrame | None = None,
    any_label: bool = False,
) -> Comparison:
    """Lay predictions over the truth; any CRS on either side.

    Where both tables have a ``label`` column only objects of the same label pair up. Rows of the truth that a column
    ``iscrowd`` or ``ignore`` marks are regions in which predictions count neither way (of their own label, where
    they have one).

    Args:
        pred: Footprints.
        truth: True outlines; invalid ones are repaired. Of a copy that ``geoseg review`` made what its verdicts say.
        iou: Threshold at which a pair counts.
        aoi: Polygons that limit what is counted. A true object counts when at least half of it lies inside.
            So does a prediction that is paired with nothing; one that is paired counts with its partner, so
            that nobody is blamed for the border.
        gaps: Polygons that were not examined: what lies there by more than half is not counted, in the same way.
        extent: Polygons of the ground that the imagery shows: outlines of true objects end there, as those of
            predictions do. What counts is told by the whole ones.
        any_label: Let objects of any labels pair up. Without it, sides that share no label get a warning in the log.

    Raises:
        ConfigError: a threshold out of range, scores outside 0 to 1, only some of the tables have a CRS, or the two lie
            far apart.
    """
    found = lay(pred, reviewed(truth), iou=iou, aoi=aoi, gaps=gaps, extent=extent, any_label=any_label)
    bounds = np.zeros(4)
    if aoi is not None and len(aoi) and found.crs is not None:
        bounds = aoi.to_crs(found.pred.crs).total_bounds
    _check(found, float(np.hypot(*(bounds[2:] - bounds[:2]))))
    return found


def lay(
    pred: gpd.GeoDataFrame,
    truth: gpd.GeoDataFrame,
    *,
    iou: float,
    aoi: gpd.GeoDataFrame | None = None,
    gaps: gpd.GeoDataFrame | None = None,
    extent: gpd.GeoDataFrame | None = None,
    any_label: bool = False,
) -> Comparison:
    """:func:`compare` without a look at whether the two make sense together: for one small image of many."""
    frame = common_frame([pred, truth, *([] if gaps is None else [gaps])])
    crs = None if pred.crs is None else CRS.from_user_input(pred.crs)
    pred, truth, *missing = frame
    area = None if aoi is None else area_in_frame(aoi, [pred, truth])
    ignore = ignored(truth)
    labels = None if any_label else _labels(pred, truth, ignore)
    inside = counted([pred, truth], aoi=area, gaps=missing[0] if missing else None)
    if extent is not None:
        truth = _cut(truth, ~ignore, area_in_frame(extent, [pred, truth]))
    score = scores_of(pred)
    outlines = [np.asarray(table.geometry.array, dtype=object) for table in (pred, truth)]
    boxes = [_boxes(table, crs) for table in (pred, truth)]
    areas_of = np.asarray(pred.geometry.area, np.float64), (boxes[0][:, 2:] - boxes[0][:, :2]).prod(axis=1)
    found = Comparison(
        pred=pred,
        truth=truth,
        crs=crs,
        shared=_allowed(overlaps(*outlines), areas_of[0], ignore, labels),
        boxes=_allowed(box_overlaps(*boxes), areas_of[1], ignore, labels),
        ignore=ignore,
        pred_inside=inside[0],
        truth_inside=inside[1],
        score=score,
        labels=labels,
        iou=iou,
    )
    found.shared.at(iou)  # refuses a threshold out of range
    return found


def _cut(truth: gpd.GeoDataFrame, objects: NDArray[np.bool_], extent: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """True objects less what lies beyond the imagery's edge; those that it does not show at all stay as they are."""
    ground = shapely.union_all(extent.geometry.to_numpy())
    shapely.prepare(ground)
    whole = truth.geometry.to_numpy().copy()
    some = np.flatnonzero(objects & shapely.intersects(ground, whole) & ~shapely.covers(ground, whole))
    shown = polygonal(shapely.intersection(whole[some], ground))
    share = shapely.area(shown) / shapely.area(whole[some])
    cut = (share > 0) & (share < 1 - _ROUNDING)
    whole[some[cut]] = shown[cut]
    return truth.set_geometry(gpd.GeoSeries(whole, index=truth.index, crs=truth.crs))


def _check(found: Comparison, reach: float) -> None:
    """Tell in the log what makes figures meaningless.

    Raises:
        ConfigError: predictions and truth lie far apart.
    """
    true = found.truth[~found.ignore]
    if not len(found.pred) or not len(true):
        return
    near = check_near(found.pred, true, reach=reach)
    if found.labels and not np.isin(found.labels[0], found.labels[1][~found.ignore]).any():
        sides = found.labels[0], found.labels[1][~found.ignore]
        _log.warning(
            "no label is on both sides (predicted: %s; true: %s), so nothing can match: pass any_label (--any-label)"
            " to compare outlines alone",
            *(", ".join(np.unique(side).tolist()[:5]) for side in sides),
        )
    elif near and not len(found.shared):
        _log.warning("no prediction touches any true object. Are the files of one place, and their CRS the true ones?")
    if not (found.pred_inside.any() or found.truth_inside.any()):
        _log.warning(
            "no prediction and no true object lies in the area of evaluation: nothing is counted, and the rates mean"
            " nothing. Are the area and the files of one place?"
        )


def evaluate(
    pred: gpd.GeoDataFrame,
    truth: gpd.GeoDataFrame,
    *,
    iou: float = 0.5,
    aoi: gpd.GeoDataFrame | None = None,
    gaps: gpd.GeoDataFrame | None = None,
    any_label: bool = False,
) -> Scores:
    """Counts, precision, recall, F1 and mean IoU; arguments and errors as in :func:`compare`."""
    return compare(pred, truth, iou=iou, aoi=aoi, gaps=gaps, any_label=any_label).scores()


def sweep(
    pred: gpd.GeoDataFrame,
    truth: gpd.GeoDataFrame,
    *,
    iou: float = 0.5,
    aoi: gpd.GeoDataFrame | None = None,
    gaps: gpd.GeoDataFrame | None = None,
    any_label: bool = False,
) -> Sweep:
    """:func:`evaluate` at every score threshold from the lowest score up, in steps of 0.01."""
    return compare(pred, truth, iou=iou, aoi=aoi, gaps=gaps, any_label=any_label).sweep()


def _allowed(
    shared: Overlaps, pred_area: NDArray[np.float64], ignore: NDArray[np.bool_], labels: Labels | None
) -> Overlaps:
    """The pairs that labels allow, with COCO's measure for regions to ignore."""
    region = ignore[shared.truth]
    ratio = np.where(region, shared.shared / pred_area[shared.pred], shared.iou)
    shared = replace(shared, iou=np.minimum(ratio, 1.0))
    if labels is None:
        return shared
    anywhere = region & (labels[1][shared.truth] == "")
    return shared.take(anywhere | (labels[0][shared.pred] == labels[1][shared.truth]))


def _boxes(table: gpd.GeoDataFrame, crs: CRS | None) -> NDArray[np.float64]:
    """``(n, 4)`` along the axes of the predictions' own CRS: those of the raster, most often; of all on one side of
    the antimeridian."""
    shapes = np.asarray(table.geometry.array, dtype=object)
    if crs is not None:
        plane = CRS(table.crs)
        middle = transformed(plane, crs, np.zeros(1), np.zeros(1))
        shapes, _ = beside(shapes, plane, crs, np.column_stack(middle)[0])
    return np.asarray(shapely.bounds(shapes), np.float64).reshape(-1, 4)


def _labels(pred: gpd.GeoDataFrame, truth: gpd.GeoDataFrame, ignore: NDArray[np.bool_]) -> Labels | None:
    """Those of both sides, as text, empty where there is none; None where a side has no labels at all."""
    if any("label" not in table for table in (pred, truth)):
        return None
    # Filled before they become text: numpy cuts all to the length of the shortest where one is missing.
    one, other = (column_of(table, "label", "").astype(str) for table in (pred, truth))
    if any(len(labels) and not (labels != "").any() for labels in (one, other[~ignore])):  # some formats have no null
        return None
    return one, other


def _scores(matches: Matches, pred: NDArray[np.bool_], truth: NDArray[np.bool_], iou: float) -> Scores:
    return Scores(
        n_pred=int(pred.sum()),
        n_truth=int(truth.sum()),
        n_matched=len(matches),
        mean_iou=float(matches.iou.mean()) if len(matches) else float("nan"),
        iou=iou,
    )
