"""What went wrong, one by one: missed, false, poor outline, duplicate, split, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoseg.coco.writing import column_of
from geoseg.evaluation.comparison import Comparison
from geoseg.evaluation.matching import Matches, Overlaps, assign
from geoseg.vectors import reprojected

KINDS = ("missed", "false", "poor outline", "duplicate", "split", "merged")
"""In the order in which they are told."""
POOR_IOU = 0.1
"""From this IoU on, an outline too poor to match still means the true object that it lies on."""
_MOSTLY = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """Every object of one scene, with what it is."""

    pred: NDArray[np.object_]
    """``(n,)`` ``right``, ``false``, ``poor outline``, ``duplicate``, ``piece`` (of a split object), ``merged``; empty
    where it does not count. A right one that swallowed a second object stays ``right`` here."""
    truth: NDArray[np.object_]
    """``(m,)`` ``found``, ``missed``, ``poor outline``, ``split``, ``swallowed`` (by a merged one); empty where it
    does not count."""
    poor: Matches
    """Pairs whose outline is poor."""
    pieces: NDArray[np.int64]
    """``(m,)`` predictions into which a true object is split; 0 elsewhere."""
    swallowed: NDArray[np.int64]
    """``(n,)`` true objects that a merged prediction covers; 0 elsewhere."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Errors of each kind. A split or merged object is one error, however many have part in it."""
        return {
            "missed": int((self.truth == "missed").sum()),
            "false": int((self.pred == "false").sum()),
            "poor outline": int((self.pred == "poor outline").sum()),
            "duplicate": int((self.pred == "duplicate").sum()),
            "split": int((self.pieces > 0).sum()),
            "merged": int((self.swallowed > 0).sum()),
        }


def judge(scene: Comparison) -> Verdict:
    """What each object of a scene is, at the scene's IoU threshold; the first that applies of

    - right, found: matched;
    - merged: a prediction that covers at least half of two or more true objects, one of them unmatched; these
      unmatched ones are swallowed;
    - duplicate: at least half on a true object that is matched already, or at the threshold with it;
    - split: an unmatched true object on which two or more predictions lie with at least half of theirs: pieces;
    - poor outline: a pair, one to one, at an IoU from 0.1 to the threshold;
    - false, missed: the rest.
    """
    matches, counted, true = scene.matched
    shared = scene.shared.take(~scene.ignore[scene.shared.truth])
    areas = [np.asarray(table.geometry.area, np.float64) for table in (scene.pred, scene.truth)]
    pred = np.where(counted, "false", "").astype(object)
    truth = np.where(true, "missed", "").astype(object)
    pred[matches.pred], truth[matches.truth] = "right", "found"
    swallowed = _merged(shared, areas[1], pred, truth)
    on = shared.take(shared.shared >= _MOSTLY * areas[0][shared.pred])
    again = np.concatenate([on.pred[truth[on.truth] == "found"], _again(shared, truth, scene.iou)])
    again = np.unique(again[pred[again] == "false"])
    pred[again] = "duplicate"
    pieces = _split(on, pred, truth)
    poor = _poor(shared, pred, truth)
    return Verdict(pred=pred, truth=truth, poor=poor, pieces=pieces, swallowed=swallowed)


def _merged(
    shared: Overlaps, area: NDArray[np.float64], pred: NDArray[np.object_], truth: NDArray[np.object_]
) -> NDArray[np.int64]:
    """``(n,)`` how many true objects each merged prediction covers; marks both sides."""
    over = shared.take((shared.shared >= _MOSTLY * area[shared.truth]) & (pred[shared.pred] != ""))
    covers = np.bincount(over.pred, minlength=len(pred))
    lost = np.bincount(over.pred, truth[over.truth] == "missed", len(pred)) > 0
    merged = (covers >= 2) & lost
    victims = over.truth[merged[over.pred]]
    truth[victims[truth[victims] == "missed"]] = "swallowed"
    pred[merged & (pred == "false")] = "merged"
    counts: NDArray[np.int64] = np.where(merged, covers, 0)
    return counts


def _again(shared: Overlaps, truth: NDArray[np.object_], iou: float) -> NDArray[np.int64]:
    """Predictions that would match a true object if it were not taken."""
    pairs = shared.at(iou)
    found: NDArray[np.int64] = pairs.pred[truth[pairs.truth] == "found"]
    return found


def _split(on: Overlaps, pred: NDArray[np.object_], truth: NDArray[np.object_]) -> NDArray[np.int64]:
    """``(m,)`` pieces of each split object; marks both sides."""
    free = on.take((pred[on.pred] == "false") & (truth[on.truth] == "missed"))
    pieces = np.bincount(free.truth, minlength=len(truth))
    pieces[pieces < 2] = 0
    truth[pieces > 0] = "split"
    pred[free.pred[pieces[free.truth] > 0]] = "piece"
    return pieces


def _poor(shared: Overlaps, pred: NDArray[np.object_], truth: NDArray[np.object_]) -> Matches:
    free = (pred[shared.pred] == "false") & (truth[shared.truth] == "missed")
    poor = assign(shared.take(free).at(POOR_IOU))
    pred[poor.pred] = truth[poor.truth] = "poor outline"
    return poor


def error_counts(scenes: Sequence[Comparison]) -> dict[str, int]:
    """Errors of each kind over scenes together."""
    told = [judge(scene).counts for scene in scenes]
    return {kind: sum(counts[kind] for counts in told) for kind in KINDS}


def error_layer(scene: Comparison) -> gpd.GeoDataFrame:
    """The errors of a scene, a row each, in the CRS of the predictions.

    Columns: ``kind``; ``detail``; ``label`` (its own, whether labels counted or not; null: none); ``score`` (of the
    prediction; null for a true object); ``iou`` (of a poor outline); ``objects`` (pieces of a split, true objects
    under a merged one); ``area_m2`` (``area_px`` without a CRS). The geometry is the prediction's, that of the true
    object where it was missed or split.
    """
    verdict = judge(scene)
    labels = [pd.Series(column_of(table, "label", ""), dtype="str") for table in (scene.pred, scene.truth)]
    labels = [each.where(each != "", None) for each in labels]
    score = np.where(np.isfinite(scene.score), scene.score, np.nan)
    iou = np.full(len(scene.pred), np.nan)
    iou[verdict.poor.pred] = verdict.poor.iou
    of_pred = {kind: verdict.pred == kind for kind in ("false", "poor outline", "duplicate")}
    of_pred["merged"] = verdict.swallowed > 0
    of_truth = {"missed": verdict.truth == "missed", "split": verdict.pieces > 0}
    parts = []
    for kind in KINDS:
        mine = kind in of_pred
        rows = np.flatnonzero(of_pred[kind] if mine else of_truth[kind])
        table, count = (scene.pred, verdict.swallowed) if mine else (scene.truth, verdict.pieces)
        shapes = table.geometry.iloc[rows].reset_index(drop=True)
        several = kind in ("split", "merged")
        columns: dict[str, Any] = {
            "kind": kind,
            "detail": [_detail(kind, int(count[row]), iou[row] if mine else np.nan) for row in rows],
            "label": labels[0 if mine else 1].iloc[rows].to_numpy(),
            "score": score[rows] if mine else np.full(len(rows), np.nan),
            "iou": iou[rows] if mine else np.full(len(rows), np.nan),
            "objects": pd.array(count[rows] if several else [pd.NA] * len(rows), dtype="Int32"),
            "area_m2" if scene.crs is not None else "area_px": shapes.area.round(3),
        }
        parts.append(gpd.GeoDataFrame(columns, geometry=shapes, crs=shapes.crs, index=range(len(rows))))
    layer = gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=scene.pred.crs)
    return layer if scene.crs is None else reprojected(layer, scene.crs)


def _detail(kind: str, count: int, iou: float) -> str:
    if kind == "poor outline":
        return f"IoU {iou:.2f} with its true object"
    if kind == "split":
        return f"one true object, {count} predictions"
    if kind == "merged":
        return f"one prediction, {count} true objects"
    return {"missed": "nothing was found here", "false": "nothing true is here", "duplicate": "found twice"}[kind]
