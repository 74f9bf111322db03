"""Outlines, errors, curves, calibration and intervals."""

from __future__ import annotations

import json
import logging
import math
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.coco import read_coco, read_results
from geoseg.errors import ConfigError
from geoseg.evaluation import (
    assess,
    boundary_f,
    calibration,
    compare,
    compare_coco,
    curve,
    error_counts,
    error_layer,
    evaluate,
    intervals,
    judge,
    polis,
    shapes,
)
from geoseg.evaluation.comparison import lay
from geoseg.evaluation.frame import counted
from geoseg.sinks import write

UTM = 32645


def table(geometry: Any, crs: object = UTM, **columns: object) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(geometry), crs=crs)


def boxes(*corners: tuple[float, float, float, float]) -> list[Any]:
    return [shapely.box(*c) for c in corners]


def town(seed: int, count: int = 200, side: float = 1000.0) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Truth and predictions of which those with a higher score are right more often."""
    rng = np.random.default_rng(seed)
    corner = rng.permutation(1600)[:count]
    x, y = corner // 40 * side / 40, corner % 40 * side / 40
    truth = shapely.box(x, y, x + rng.uniform(6, 16, count), y + rng.uniform(6, 16, count))
    score = rng.random(count).round(3)
    shift = np.where(rng.random(count) < score, rng.uniform(0, 1, count), 12.0)
    pred = [shapely.affinity.translate(t, s, s) for t, s in zip(truth, shift, strict=True)]
    return table(pred, score=score), table(truth)


# --- outlines ---------------------------------------------------------------------------------------------


def test_polis_of_a_shifted_square_is_known() -> None:
    # Two of the four vertices on either side touch the other's outline line-wise at distance 1 or 2 ...
    one, other = shapely.box(0, 0, 10, 10), shapely.box(0, 0, 10, 14)
    # Of `one`, the upper two vertices lie on the other's sides; of `other`, its upper two are 4 from the top of `one`.
    assert polis(np.array([one]), np.array([other]))[0] == pytest.approx((0 + (4 + 4) / 4) / 2)
    assert polis(np.array([one]), np.array([one]))[0] == 0


def test_polis_by_hand() -> None:
    rng = np.random.default_rng(3)

    def ring(points: int) -> Any:
        angle, reach = np.sort(rng.uniform(0, 2 * np.pi, points)), rng.uniform(5, 12, points)
        return shapely.Polygon(np.column_stack([reach * np.cos(angle), reach * np.sin(angle)])).buffer(0)

    one = np.array([ring(7), ring(5).difference(shapely.box(-1, -1, 1, 1)), ring(9)])
    other = np.array([ring(6), ring(8), shapely.MultiPolygon([ring(5), shapely.box(40, 40, 44, 45)])])

    def reach(a: Any, b: Any) -> float:
        lines = b.boundary
        corners = [
            point
            for part in shapely.get_parts(a)
            for line in (part.exterior, *part.interiors)
            for point in line.coords[:-1]
        ]
        return float(np.mean([shapely.Point(p).distance(lines) for p in corners]))

    expected = [(reach(a, b) + reach(b, a)) / 2 for a, b in zip(one, other, strict=True)]
    assert polis(one, other).tolist() == pytest.approx(expected)
    assert polis(other, one).tolist() == pytest.approx(expected)


def test_boundary_f_of_a_shifted_square() -> None:
    square, moved = np.array([shapely.box(0, 0, 10, 10)]), np.array([shapely.box(3, 0, 13, 10)])
    assert boundary_f(square, square, tolerance=0.1)[0] == pytest.approx(1.0)
    # Within 0.5 of the other lie the shared 7 of both horizontal sides, and half a metre more at either end of them.
    assert boundary_f(square, moved, tolerance=0.5)[0] == pytest.approx((2 * 7.5 + 2 * 0.5) / 40, abs=0.01)
    assert boundary_f(square, moved, tolerance=3.01)[0] == pytest.approx(1.0)
    assert boundary_f(square, np.array([shapely.box(50, 50, 60, 60)]), tolerance=1)[0] == 0


def test_outlines_are_measured_in_metres_whatever_the_crs() -> None:
    x, y = 500_000, 3_000_000
    truth = table(boxes(*((x + 40 * i, y, x + 40 * i + 20, y + 10) for i in range(5))))
    pred = table(boxes(*((x + 40 * i, y, x + 40 * i + 22, y + 10) for i in range(5))))
    for crs in (UTM, 4326, 3857):
        found = shapes([compare(pred.to_crs(crs), truth)])
        assert found.polis == pytest.approx(0.5 * (0 + 2 * 2 / 4), rel=2e-3)
        assert found.unit == "m" and 0.8 < found.boundary_f < 1.0
    assert math.isnan(shapes([compare(pred.iloc[:0], truth)]).polis)


# --- errors -----------------------------------------------------------------------------------------------


def test_every_kind_of_error_is_told() -> None:
    truth = boxes(
        (0, 0, 10, 10),  # found, and found again
        (100, 0, 110, 10),  # missed
        (200, 0, 220, 10),  # split in two, neither of which matches
        (300, 0, 310, 10),  # merged with the next
        (312, 0, 322, 10),
        (400, 0, 410, 10),  # poor outline
        (500, 0, 530, 20),  # found by an outline that also swallows the next
        (532, 0, 536, 4),
    )
    pred = boxes(
        (0, 0, 10, 9),
        (0, 0, 10, 6),
        (200, 0, 209, 10),
        (210.5, 0, 219, 10),
        (299, 0, 323, 10),
        (405, 0, 415, 10),
        (600, 0, 610, 10),  # false
        (500, 0, 537, 20),
        (2, 2, 4, 4),  # a fragment on what is found: claimed again
    )
    scene = compare(table(pred, score=np.linspace(0.9, 0.5, 9)), table(truth))
    verdict = judge(scene)
    assert verdict.truth.tolist() == [
        *("found", "missed", "split", "swallowed", "swallowed", "poor outline", "found", "swallowed")
    ]
    assert verdict.pred.tolist() == [
        *("right", "duplicate", "piece", "piece", "merged", "poor outline", "false", "right", "duplicate")
    ]
    assert verdict.counts == error_counts([scene])
    assert verdict.counts == {"missed": 1, "false": 1, "poor outline": 1, "duplicate": 2, "split": 1, "merged": 2}
    layer = error_layer(scene)
    assert layer.crs == UTM and layer["kind"].value_counts().to_dict() == {
        kind: count for kind, count in verdict.counts.items() if count
    }
    split = layer[layer.kind == "split"].iloc[0]
    assert split.objects == 2 and split.geometry.symmetric_difference(truth[2]).area < 1e-3
    poor = layer[layer.kind == "poor outline"].iloc[0]
    assert poor.iou == pytest.approx(1 / 3) and poor.area_m2 == pytest.approx(100, rel=1e-2)
    assert layer[layer.kind == "missed"].score.isna().all()


rectangle = st.builds(
    lambda x, y, w, h: shapely.box(x, y, x + w, y + h),
    *(st.integers(0, 12), st.integers(0, 12), st.integers(1, 7), st.integers(1, 7)),
)


@settings(max_examples=40)
@given(
    pred=st.lists(rectangle, max_size=7),
    truth=st.lists(rectangle, max_size=7),
    marked=st.lists(st.booleans(), min_size=7, max_size=7),
)
def test_every_object_has_one_verdict(pred: list[Any], truth: list[Any], marked: list[bool]) -> None:
    aoi = table([shapely.box(-1, -1, 11, 14)], None)
    scene = compare(table(pred, None), table(truth, None, ignore=marked[: len(truth)]), iou=0.4, aoi=aoi)
    verdict, scores = judge(scene), scene.scores()
    assert (verdict.pred != "").sum() == scores.n_pred and (verdict.pred == "right").sum() == scores.n_matched
    assert (verdict.truth != "").sum() == scores.n_truth and (verdict.truth == "found").sum() == scores.n_matched
    counts = verdict.counts
    assert counts["split"] == (verdict.truth == "split").sum() and (verdict.pieces[verdict.pieces > 0] >= 2).all()
    assert (verdict.pred == "poor outline").sum() == (verdict.truth == "poor outline").sum() == len(verdict.poor)
    assert (verdict.pred == "merged").sum() <= counts["merged"] and counts["merged"] == (verdict.swallowed > 1).sum()
    assert len(error_layer(scene)) == sum(counts.values())


def test_a_perfect_answer_has_no_errors() -> None:
    truth = table(boxes((0, 0, 10, 10), (20, 0, 30, 10)))
    layer = error_layer(compare(truth, truth))
    assert len(layer) == 0 and "kind" in layer and layer.crs == UTM


@pytest.mark.parametrize("any_label", [True, False])
def test_errors_have_their_own_label_where_labels_do_not_count(tmp_path: Path, any_label: bool) -> None:
    """The label of a false object was an empty text where the truth had none, or with any_label."""
    pred = table(boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)), label=["car", None, "ship"])
    truth = table(boxes((0, 0, 10, 10), (60, 0, 70, 10)))
    if any_label:
        truth["label"] = ["boat", ""]
    layer = error_layer(compare(pred, truth, any_label=any_label))
    for errors in (layer, gpd.read_file(write(layer, tmp_path / "errors.gpkg"), layer="footprints")):
        assert errors["kind"].tolist() == ["missed", "false", "false"]
        assert errors["label"].isna().tolist() == [True, True, False] and errors["label"].iloc[2] == "ship"


# --- regions to ignore, gaps, far apart -------------------------------------------------------------------


def test_regions_to_ignore_count_neither_way() -> None:
    truth = table(boxes((0, 0, 10, 10), (100, 0, 200, 100)), ignore=[False, True])
    pred = table(boxes((0, 0, 10, 10), (110, 10, 120, 20), (150, 50, 170, 60), (195, 0, 215, 10)))
    scores = evaluate(pred, truth)
    assert (scores.n_pred, scores.n_truth, scores.n_matched) == (2, 1, 1)  # the last lies in it by a quarter
    labelled = truth.assign(label=["roof", None])
    assert evaluate(pred.assign(label="roof"), labelled).n_pred == 2
    assert evaluate(pred.assign(label="roof"), labelled.assign(label=["roof", "yard"])).n_pred == 4


@pytest.mark.parametrize("flag", [[0, 1], ["no", "yes"], ["0", "1"], [None, 1.0], [False, True]])
def test_flags_come_in_many_forms(flag: list[Any]) -> None:
    truth = table(boxes((0, 0, 10, 10), (100, 0, 200, 100)), iscrowd=flag)
    assert evaluate(table(boxes((0, 0, 10, 10), (110, 10, 120, 20))), truth).n_pred == 1


def test_what_lies_in_gaps_is_not_counted() -> None:
    shapes_ = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    gaps = table(boxes((-5, -5, 16, 20), (26, -5, 28, 20)), reason=["nodata", "failed"])
    scores = evaluate(table(shapes_[2:]), table(shapes_), gaps=gaps)
    assert (scores.n_pred, scores.n_truth, scores.n_matched) == (1, 2, 1)


def test_what_only_reaches_into_the_aoi_is_not_counted_for_ground_in_gaps() -> None:
    # 6 of 10 columns in the AOI, 2 of these in a gap; then the gap lies beyond the AOI, half in it, and half beyond.
    shapes_ = boxes(*((4 + 20 * i, 0, 14 + 20 * i, 10) for i in range(3)))
    aoi = table(boxes(*((8 + 20 * i, -5, 20 + 20 * i, 15) for i in range(3))))
    gaps = table(boxes((12, 0, 14, 10), (24, 0, 28, 10), (47.5, 0, 48.5, 10)))
    assert counted([table(shapes_), table(shapes_[:0])], aoi=aoi, gaps=gaps)[0].tolist() == [False, True, True]
    scores = evaluate(table(shapes_), table(shapes_), aoi=aoi, gaps=gaps)
    assert (scores.n_pred, scores.n_truth, scores.n_matched) == (2, 2, 2)


@given(seed=st.integers(0, 2**20))
@settings(max_examples=30, deadline=None)
def test_what_is_counted_is_the_share_in_the_aoi_without_the_gaps(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(n: int, most: float) -> gpd.GeoDataFrame:
        corner, centre = rng.uniform(-1, 1, (n, 3, 2)) * most, rng.uniform(0, 100, (n, 1, 2))
        return table(shapely.convex_hull(shapely.linestrings(centre + corner)))

    found, aoi, gaps = some(60, 12), some(5, 50), some(8, 25)
    for areas, ground in (
        ({"aoi": aoi, "gaps": gaps}, aoi.union_all().difference(gaps.union_all())),
        ({"aoi": aoi}, aoi.union_all()),
        ({"gaps": gaps}, shapely.box(-99, -99, 199, 199).difference(gaps.union_all())),
    ):
        share = found.intersection(ground).area / found.area
        clear = (share - 0.5).abs() > 1e-6
        assert ((share >= 0.5) == counted([found], **areas)[0])[clear].all()


def test_files_of_different_places_are_refused_or_told(caplog: pytest.LogCaptureFixture) -> None:
    here = table(boxes((500_000, 3_000_000, 500_010, 3_000_010), (500_300, 3_000_000, 500_310, 3_000_010)))
    with pytest.raises(ConfigError, match="km apart"):
        evaluate(here, here.to_crs(4326).set_geometry(shapely.transform(
            here.to_crs(4326).geometry.to_numpy(), lambda xy: xy[:, ::-1]), crs=4326))  # fmt: skip
    with pytest.raises(ConfigError, match="km apart"):
        evaluate(here, here.translate(200_000, 0).to_frame("geometry"))
    assert caplog.text == ""
    evaluate(here, here.translate(600, 0).to_frame("geometry"))
    assert "do not overlap: they lie 290 m apart" in caplog.text
    caplog.clear()
    evaluate(here, here.translate(100, 0).to_frame("geometry"))
    assert "no prediction touches any true object" in caplog.text
    caplog.clear()
    evaluate(here, here, aoi=here.translate(100, 0).to_frame("geometry"))
    assert "nothing is counted" in caplog.text
    caplog.clear()
    evaluate(here, here.iloc[:0])
    assert caplog.text == ""
    # Few objects, far from each other on much ground, are no reason to refuse.
    ground = table(boxes((490_000, 2_990_000, 560_000, 3_010_000)))
    assert evaluate(here, here.translate(20_000, 0).to_frame("geometry"), aoi=ground).n_truth == 2
    assert "do not overlap" in caplog.text


# --- scores -----------------------------------------------------------------------------------------------


def test_the_curve_tells_every_threshold() -> None:
    pred, truth = town(1)
    found = curve([compare(pred, truth)])
    for index in (0, len(found.threshold) // 2, len(found.threshold) - 1):
        alone = evaluate(pred[pred.score >= found.threshold[index]], truth)
        assert found.precision[index] == pytest.approx(alone.precision)
        assert found.recall[index] == pytest.approx(alone.recall)
    threshold, f1 = found.best or (0, 0)
    assert f1 == found.f1.max() and evaluate(pred[pred.score >= threshold], truth).f1 == pytest.approx(f1)
    assert curve([compare(pred.drop(columns="score"), truth)]).best is None


def test_the_best_f1_is_that_of_the_table() -> None:
    # The first is nearest to the only partner of the second: by falling score one pair, as many as possible two.
    truth = table(boxes((0, 0, 10, 10), (3, 0, 13, 10)))
    pred = table(boxes((1, 0, 11, 10), (-3, 0, 7, 10)), score=[0.9, 0.8])
    scene = compare(pred, truth)
    assert curve([scene]).best == (0.8, scene.scores().f1) == (0.8, 1.0)
    assert assess([scene]).to_dict()["best_f1"] == {"score_threshold": 0.8, "f1": 1.0}
    assert scene.sweep().best[1].f1 == 1.0


corner = st.integers(0, 9)
rectangle = st.builds(lambda x, y, w, h: shapely.box(x, y, x + w, y + h), corner, corner, *[st.integers(2, 6)] * 2)
predicted = st.tuples(rectangle, st.sampled_from([None, 0.2, 0.4, 0.5, 0.7, 0.9]), st.sampled_from("ab"))
known = st.tuples(rectangle, st.sampled_from([False, False, False, True]), st.sampled_from("ab"))


@settings(max_examples=150, deadline=None)
@given(
    scenes=st.lists(st.tuples(st.lists(predicted, max_size=9), st.lists(known, max_size=6)), min_size=1, max_size=2),
    iou=st.sampled_from([0.1, 0.3, 0.5]),
    area=st.none() | rectangle,
)
def test_every_threshold_is_as_in_the_table(scenes: list[Any], iou: float, area: Any) -> None:
    aoi = None if area is None else table([area], None)
    laid = []
    for preds, truths in scenes:
        columns = {"score": np.array([p[1] for p in preds], float), "label": np.array([p[2] for p in preds], object)}
        pred = table([p[0] for p in preds], None, **columns)
        regions = {"iscrowd": np.array([t[1] for t in truths], bool), "label": np.array([t[2] for t in truths], object)}
        laid.append(lay(pred, table([t[0] for t in truths], None, **regions), iou=iou, aoi=aoi))
    found = curve(laid)
    for index, threshold in enumerate(found.threshold):
        told = reduce(add, [scene.scores(float(threshold)) for scene in laid])
        assert (found.n_matched[index], found.n_pred[index], found.n_truth) == (
            told.n_matched,
            told.n_pred,
            told.n_truth,
        )
        rates = (found.precision[index], found.recall[index], found.f1[index])
        assert rates == (told.precision, told.recall, told.f1)
    if found.best is None:
        return
    assert found.best[1] == reduce(add, [scene.scores(found.best[0]) for scene in laid]).f1
    for tried in (0.0, 0.3, 0.45, float(found.threshold[0])):
        if tried <= found.threshold[0]:
            assert found.best[1] >= reduce(add, [scene.scores(tried) for scene in laid]).f1


def test_calibration_against_a_plain_loop() -> None:
    pred, truth = town(2, 400)
    scene = compare(pred, truth)
    found = calibration([scene], bins=5)
    right = np.isin(np.arange(len(pred)), scene.matched[0].pred)
    expected, gaps = [], 0.0
    for i in range(5):
        inside = (pred.score >= i / 5) & (pred.score < (i + 1) / 5)
        expected.append(right[inside].mean())
        gaps += inside.sum() * abs(right[inside].mean() - pred.score[inside].mean())
    assert found.right.tolist() == pytest.approx(expected)
    assert found.ece == pytest.approx(gaps / len(pred)) and found.count.sum() == len(pred)
    # Scores were made to be honest; all set to 0.99 they are not.
    assert found.ece < 0.1 < calibration([compare(pred.assign(score=0.99), truth)]).ece
    assert math.isnan(calibration([compare(pred.iloc[:0], truth)]).ece)


def test_intervals_hold_the_figure_and_shrink_with_ground() -> None:
    small, large = (compare(*town(4, count, side)) for count, side in ((100, 600.0), (1500, 2400.0)))
    few, many = intervals([small]), intervals([large])
    assert few and many
    for scene, found in ((small, few), (large, many)):
        low, high = found.ranges["f1"]
        assert low < scene.scores().f1 < high
        low, high = found.ranges["ap50"]
        assert low < assess([scene]).masks.ap50 < high  # type: ignore[union-attr]
    width = [np.ptp(found.ranges["f1"]) for found in (few, many)]
    assert width[1] < 0.6 * width[0]
    assert intervals([small]) == few  # the same draws
    assert intervals([compare(*town(4, 6))], side=5000.0) is None
    with pytest.raises(ConfigError):
        intervals([small], level=1.0)


def test_predictions_of_other_classes_leave_the_range_of_ap_alone() -> None:
    corners = [(x * 50, y * 50) for x in range(8) for y in range(8)]
    right = [shapely.box(x, y, x + 10, y + 12) for x, y in corners]
    other = [shapely.box(x + 20, y + 20, x + 30, y + 32) for x, y in corners]
    truth = table(right, label=["building"] * 64)
    pred = table([*right, *other], label=["building"] * 64 + ["ship"] * 64, score=[0.5] * 64 + [0.9] * 64)
    found = assess([compare(pred, truth)])
    assert found.masks and found.intervals
    assert found.masks.ap50 == 1.0 and found.intervals.ranges["ap50"] == (1.0, 1.0)
    assert found.intervals.ranges["precision"][1] < 0.6  # which counts all of them


def test_clumps_of_errors_widen_the_interval() -> None:
    # The same number of objects found, by chance everywhere or all in one half.
    truth = table([shapely.box(20 * i, 20 * j, 20 * i + 10, 20 * j + 10) for i in range(40) for j in range(20)])
    rng = np.random.default_rng(5)
    spread = intervals([compare(truth[rng.permutation(len(truth)) < 400], truth)])
    clumped = intervals([compare(truth.iloc[:400], truth)])
    assert spread and clumped
    assert np.ptp(clumped.ranges["recall"]) > 3 * np.ptp(spread.ranges["recall"])


def test_scenes_together_count_as_one() -> None:
    parts = [town(seed, 60) for seed in (1, 2)]
    shifted = [[part.set_geometry(part.translate(5000 * i, 0)) for part in both] for i, both in enumerate(parts)]
    together = [gpd.GeoDataFrame(gpd.pd.concat([both[k] for both in shifted], ignore_index=True)) for k in (0, 1)]
    apart, whole = assess([compare(*both) for both in parts]), assess([compare(*together)])
    assert apart.scores.to_dict() == pytest.approx(whole.scores.to_dict(), rel=1e-6)
    assert apart.masks and whole.masks and apart.masks.ap == pytest.approx(whole.masks.ap, rel=1e-3)
    assert apart.errors == whole.errors
    json.dumps(apart.to_dict(), allow_nan=False)
    with pytest.raises(ConfigError, match="one IoU"):
        assess([])


def test_an_evaluation_of_nothing_is_json() -> None:
    nothing = table([], score=[])
    for pred, truth in ((nothing, nothing), (*town(1, 5)[:1], nothing), (nothing, town(1, 5)[1])):
        values = assess([compare(pred, truth)]).to_dict()
        json.dumps(values, allow_nan=False)


def test_where_no_object_is_true_there_is_no_range_of_ap() -> None:
    found = assess([compare(town(1, 60)[0], table([]))])
    assert found.intervals and set(found.intervals.ranges) == {"precision", "recall", "f1"}
    json.dumps(found.to_dict(), allow_nan=False)


def test_coco_files_are_compared_image_by_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    square, other = [[0, 0, 8, 0, 8, 8, 0, 8]], [[20, 20, 30, 20, 30, 30, 20, 30]]
    ann = [{"id": i, "image_id": image, "category_id": 1, "segmentation": s} for i, (image, s) in
           enumerate([(1, square), (2, other), (2, square)])]  # fmt: skip
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 50} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "ship"}],
        "annotations": ann,
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    found = [{"image_id": i, "category_id": 1, "segmentation": square, "score": 0.9 - i / 10} for i in (1, 2, 3)]
    (tmp_path / "found.json").write_text(json.dumps(found))
    truth = read_coco(tmp_path / "truth.json")
    scenes = compare_coco(read_results(tmp_path / "found.json", truth), truth)
    done = assess(scenes)
    assert (done.scores.n_pred, done.scores.n_truth, done.scores.n_matched) == (3, 3, 2)
    assert done.masks and done.masks.by_label["ship"] == pytest.approx(done.masks.ap50)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
