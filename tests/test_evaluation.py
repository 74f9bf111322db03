"""Matching and scores, against brute force."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from commands import cli
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import ConfigError
from geoseg.evaluation import Matches, compare, curve, error_layer, evaluate, judge, match, sweep
from geoseg.evaluation.matching import best_choice, overlaps

UTM = 32645


def boxes(*corners: tuple[float, float, float, float]) -> np.ndarray:
    return np.array([shapely.box(*c) for c in corners], dtype=object)


def table(geometry: object, crs: object = UTM, **columns: object) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(geometry), crs=crs)


def brute_force(pred: np.ndarray, truth: np.ndarray, iou: float) -> tuple[int, float]:
    """Number of pairs and total IoU of the best one-to-one choice, by trying every choice."""

    def ratio(a: shapely.Geometry, b: shapely.Geometry) -> float:
        return a.intersection(b).area / a.union(b).area

    few, many = (pred, truth) if len(pred) <= len(truth) else (truth, pred)
    best = (0, 0.0)
    for choice in itertools.permutations(range(len(many)), len(few)):
        hits = [r for a, j in zip(few, choice, strict=True) if (r := ratio(a, many[j])) >= iou]
        best = max(best, (len(hits), sum(hits)))
    return best


corner = st.integers(0, 6)
side = st.integers(1, 5)
rectangle = st.builds(lambda x, y, w, h: shapely.box(x, y, x + w, y + h), corner, corner, side, side)
rectangles = st.lists(rectangle, max_size=5).map(lambda items: np.array(items, dtype=object))


@settings(max_examples=80, deadline=None)
@given(pred=rectangles, truth=rectangles, iou=st.sampled_from([0.11, 0.3, 0.51, 0.77]))
def test_match_is_the_best_one_to_one_choice(pred: np.ndarray, truth: np.ndarray, iou: float) -> None:
    found = match(pred, truth, iou=iou)
    assert len(set(found.pred.tolist())) == len(set(found.truth.tolist())) == len(found)
    assert (found.iou >= iou).all()
    count, total = brute_force(pred, truth, iou)
    assert len(found) == count
    assert found.iou.sum() == pytest.approx(total)


@settings(max_examples=80, deadline=None)
@given(cells=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9)), min_size=1, max_size=50, unique=True),
       seed=st.integers(0, 99), ties=st.booleans())  # fmt: skip
def test_a_choice_in_a_large_group_is_as_good_as_in_a_small_one(
    cells: list[tuple[int, int]], seed: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = np.array(cells, np.int64).T
    iou = rng.choice([0.1, 0.5, 0.9], len(cells)) if ties else rng.uniform(0.1, 1, len(cells))
    pairs, every = Matches(pred=pred, truth=truth, iou=iou), rng.permutation(len(cells))
    with pytest.MonkeyPatch.context() as patch:
        small = pairs.take(best_choice(pairs, every))
        patch.setattr("geoseg.evaluation.matching._DENSE", 0)
        large = pairs.take(best_choice(pairs, every))
    assert len(set(large.pred.tolist())) == len(set(large.truth.tolist())) == len(large) == len(small)
    assert large.iou.sum() == pytest.approx(small.iou.sum())


@pytest.mark.parametrize("holes", [False, True], ids=["parts", "holes"])
def test_a_region_of_many_parts_is_not_gone_through_for_each_prediction(
    monkeypatch: pytest.MonkeyPatch, holes: bool
) -> None:
    """Forests and built-up ground are one feature in many layers; each overlap with it cost what it is large."""
    corners = np.stack(np.meshgrid(np.arange(30), np.arange(30)), axis=-1).reshape(-1, 2) * 40.0
    ground = shapely.box(corners[:, 0], corners[:, 1], corners[:, 0] + 20, corners[:, 1] + 20)
    region = np.array([shapely.multipolygons(ground)], dtype=object)
    if holes:
        region = shapely.difference(shapely.box(-50, -50, 1300, 1300), region)
    pred = shapely.transform(ground, lambda xy: np.add(xy, (2, 1)))
    pred[-1] = shapely.union_all(pred[:3])
    looked_at: list[int] = []
    intersection = shapely.intersection

    def counted(a: Any, b: Any) -> Any:
        looked_at.append(int(shapely.get_num_coordinates(np.asarray(b)).sum()))
        return intersection(a, b)

    with monkeypatch.context() as patched:
        patched.setattr(shapely, "intersection", counted)
        found = overlaps(pred, region)
    assert sum(looked_at) < 500 * len(pred)  # the region has 4,500 vertices
    assert found.pred.tolist() == list(range(len(pred))) and not found.truth.any()
    np.testing.assert_allclose(found.shared, shapely.area(intersection(pred, region[0])))
    union = shapely.area(shapely.union(pred[-1], region[0]))
    assert found.iou[-1] == pytest.approx(found.shared[-1] / union)


def test_neighbours_that_chain_a_whole_layer_take_no_table_of_all_by_all() -> None:
    """Parcels mapped half a parcel aside: each lies poorly on four, and all hang together."""
    x, y = (part.ravel() * 10.0 for part in np.meshgrid(np.arange(60), np.arange(60)))
    truth, pred = shapely.box(x, y, x + 10, y + 10), shapely.box(x + 4.5, y + 4.5, x + 14.5, y + 14.5)
    scene = compare(table(pred), table(truth))
    tracemalloc.start()
    try:
        assert judge(scene).counts["poor outline"] == 3600
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 3600**2, "bytes: not one for each of both"


@settings(max_examples=30, deadline=None)
@given(pred=rectangles, truth=rectangles, seed=st.integers(0, 99))
def test_scores_do_not_depend_on_order(pred: np.ndarray, truth: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = evaluate(table(pred, None), table(truth, None), iou=0.3)
    other = evaluate(table(rng.permutation(pred), None), table(rng.permutation(truth), None), iou=0.3)
    assert one.to_dict() == pytest.approx(other.to_dict())


def test_the_greatest_iou_first_is_not_always_the_most_pairs() -> None:
    # Truth 0 is nearest to prediction 0, yet prediction 1 has no other partner: two pairs, not one.
    truth = boxes((0, 0, 10, 10), (3, 0, 13, 10))
    pred = boxes((1, 0, 11, 10), (-3, 0, 7, 10))
    found = match(pred, truth, iou=0.5)
    assert sorted(zip(found.pred, found.truth, strict=True)) == [(0, 1), (1, 0)]


def test_counts_and_rates() -> None:
    truth = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10))
    pred = boxes((0, 0, 10, 10), (20, 0, 30, 8), (40, 0, 44, 10))
    scores = evaluate(table(pred), table(truth))
    assert (scores.n_pred, scores.n_truth, scores.n_matched) == (3, 4, 2)
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.recall == pytest.approx(2 / 4)
    assert scores.f1 == pytest.approx(4 / 7)
    assert scores.mean_iou == pytest.approx((1.0 + 0.8) / 2, abs=1e-6)


def test_a_pair_exactly_at_the_threshold_counts() -> None:
    assert len(match(boxes((0, 0, 3, 1)), boxes((0, 0, 1, 1)), iou=1 / 3)) == 1


def test_one_object_is_counted_once() -> None:
    scores = evaluate(table(boxes((0, 0, 10, 10), (0, 0, 10, 9.9))), table(boxes((0, 0, 10, 10))))
    assert (scores.n_matched, scores.precision, scores.recall) == (1, 0.5, 1.0)


@pytest.mark.parametrize(
    ("n_pred", "n_truth", "precision", "recall", "f1"), [(0, 0, 1, 1, 1), (0, 2, 0, 0, 0), (3, 0, 0, 0, 0)]
)
def test_nothing_to_count(n_pred: int, n_truth: int, precision: float, recall: float, f1: float) -> None:
    some = [shapely.box(i, 0, i + 1, 1) for i in range(5)]
    scores = evaluate(table(some[:n_pred]), table(some[:n_truth]))
    assert (scores.precision, scores.recall, scores.f1) == (precision, recall, f1)
    assert math.isnan(scores.mean_iou)
    assert scores.to_dict()["mean_iou"] is None


@pytest.mark.parametrize("crs", [4326, 3857, 3413, "ESRI:54009"])
def test_truth_in_another_crs(crs: object) -> None:
    shapes = [shapely.box(700_000 + 40 * i, 3_000_000, 700_020 + 40 * i, 3_000_012) for i in range(6)]
    pred = table(shapes)
    truth = table(shapes[:4]).to_crs(crs)
    scores = evaluate(pred, truth)
    assert (scores.n_matched, scores.n_pred, scores.n_truth) == (4, 6, 4)
    assert scores.mean_iou > 0.999


def test_across_the_antimeridian() -> None:
    shapes = [shapely.box(x, 10, x + 0.01, 10.02) for x in (179.97, -179.99)]
    scores = evaluate(table(shapes, 4326), table(shapes, 4326).to_crs(3832))
    assert scores.n_matched == 2
    assert scores.mean_iou > 0.999


def test_boxes_and_errors_across_the_antimeridian_are_those_of_elsewhere() -> None:
    """Of one that is cut at 180 degrees the bounds go round the earth."""

    def cut(left: float) -> shapely.Geometry:
        square = shapely.box(left, 10, left + 1e-3, 10.001)
        parts = shapely.intersection(square, [shapely.box(179, 9, 180, 11), shapely.box(180, 9, 181, 11)])
        return shapely.union(parts[0], shapely.transform(parts[1], lambda xy: np.subtract(xy, (360, 0))))

    lefts = np.array([179.9995, 179.9998, 179.9985, 180.0])
    shifts = np.array([2e-4, -4e-4, 1e-4, 1.5e-3])
    score = [0.9, 0.8, 0.7, 0.6]
    here = compare(table(map(cut, lefts + shifts), 4326, score=score), table(map(cut, lefts), 4326))
    away = [[shapely.box(x - 170, 10, x - 170 + 1e-3, 10.001) for x in xs] for xs in (lefts + shifts, lefts)]
    there = compare(table(away[0], 4326, score=score), table(away[1], 4326))
    assert len(here.boxes) == len(there.boxes)
    np.testing.assert_allclose(here.boxes.iou, there.boxes.iou, rtol=1e-6)
    errors = [error_layer(scene) for scene in (here, there)]
    assert len(errors[0]) == len(errors[1]) > 0
    np.testing.assert_allclose(*(shapely.area(layer.geometry.to_numpy()) for layer in errors), rtol=1e-6)


def test_invalid_truth_is_repaired_and_lines_left_out(caplog: pytest.LogCaptureFixture) -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    line = shapely.LineString([(0, 0), (5, 5)])
    both_halves = shapely.MultiPolygon(
        [shapely.Polygon([(0, 0), (5, 5), (0, 10)]), shapely.Polygon([(10, 0), (5, 5), (10, 10)])]
    )
    scores = evaluate(table([both_halves]), table([bow_tie, line, None]))
    assert (scores.n_truth, scores.n_matched) == (1, 1)
    assert "1 invalid" in caplog.text
    assert "2 rows without a polygon" in caplog.text


def test_labels_must_agree_where_both_sides_have_them() -> None:
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    pred = table(shapes, label=["ship", "pier"])
    assert evaluate(pred, table(shapes)).n_matched == 2
    scores = evaluate(pred, table(shapes, label=["ship", "ship"]))
    assert scores.n_matched == 1
    assert scores.by_label["ship"].recall == 0.5
    assert scores.by_label["pier"].precision == 0.0
    assert scores.to_dict()["by_label"]["ship"]["n_truth"] == 2


def test_numbers_as_labels_are_the_same_where_one_is_missing() -> None:
    """A null makes floats of whole numbers, and 1.0 of 1."""
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    truth = table(shapes, label=[1, 2, None])
    assert evaluate(table(shapes, label=[1, 2, 2]), truth).n_matched == 2
    assert evaluate(table(shapes, label=["1", "2", "2"]), truth).n_matched == 2


def test_lists_as_labels_are_what_they_say() -> None:
    """GeoJSON may have them; numpy makes no text of them."""
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    found = evaluate(table(shapes, label=[["a", "b"], []]), table(shapes, label=[["a", "b"], "c"]))
    assert found.n_matched == 1 and set(found.by_label) == {"['a', 'b']", "[]", "c"}


def test_a_missing_label_shortens_no_other() -> None:
    """numpy's text is as long as the shortest value where one is missing: boats and buildings were both "b"."""
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    pred = table(shapes, label=["building", "boat", None])
    scores = evaluate(pred, table(shapes, label=["boat", "boat", None]))
    assert scores.n_matched == 2 and set(scores.by_label) == {"", "boat", "building"}
    for none in (None, "", float("nan")):  # some programs write empty text for it
        assert evaluate(pred, table(shapes, label=[none] * 3)).n_matched == 3, "no label at all: any pairs with any"


@pytest.mark.parametrize("score", [[50, 99], [-2.0, 0.5], [np.inf, 0.5], ["0.5", "high"], [10**400, 0.5]])
def test_scores_that_are_no_scores_are_refused(score: list[object]) -> None:
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    with pytest.raises(ConfigError, match="0 to 1, or none"):
        evaluate(table(shapes, score=score), table(shapes))


def test_scores_may_be_missing_or_text() -> None:
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    for score in ([None, 0.5], ["0.25", "0.5"], pd.array([pd.NA, 0.5], dtype="Float64")):
        assert sweep(table(shapes, score=score), table(shapes)).best[1].f1 == 1.0


def test_labels_that_never_meet_are_told(caplog: pytest.LogCaptureFixture) -> None:
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    pred, truth = table(shapes, label=["building"] * 2, score=[0.9, 0.4]), table(shapes, label=["yes", "house"])
    assert evaluate(pred, truth).n_matched == 0
    assert "predicted: building; true: house, yes" in caplog.text and "--any-label" in caplog.text
    caplog.clear()
    scores = evaluate(pred, truth, any_label=True)
    assert scores.n_matched == 2 and scores.by_label == {}
    assert sweep(pred, truth, any_label=True).best[1].f1 == 1.0
    assert evaluate(pred, table(shapes, label=["building", "yes"])).n_matched == 1
    assert evaluate(pred.iloc[:0], truth).n_matched == 0
    assert caplog.text == ""


def test_the_command_takes_any_label(tmp_path: Path) -> None:
    shapes = boxes((500_000, 0, 500_010, 10), (500_020, 0, 500_030, 10))
    pred, truth = tmp_path / "pred.geojson", tmp_path / "truth.gpkg"
    table(shapes, label=["building"] * 2).to_crs(4326).to_file(pred)
    table(shapes, label=["yes"] * 2).to_file(truth)
    for options, matched in (([], 0), (["--any-label"], 2)):
        done = cli("evaluate", pred, truth, "--json", *options)
        assert json.loads(done.stdout)["n_matched"] == matched


def test_aoi_limits_what_is_counted_and_blames_nobody_for_the_border() -> None:
    truth = boxes((0, 0, 10, 10), (96, 0, 106, 10), (200, 0, 210, 10))
    # The second lies mostly outside, but its partner counts; the third pairs outside; the fourth is wrong.
    pred = boxes((0, 0, 10, 10), (97.5, 0, 107.5, 10), (200, 0, 210, 10), (50, 50, 60, 60))
    scores = evaluate(table(pred), table(truth), aoi=table(boxes((-5, -5, 101.5, 100))))
    assert (scores.n_pred, scores.n_truth, scores.n_matched) == (3, 2, 2)


def test_an_aoi_that_is_no_table_is_told_as_the_aoi() -> None:
    objects = table(boxes((0, 0, 10, 10)))
    with pytest.raises(ConfigError, match="an AOI of type str"):
        evaluate(objects, objects, aoi="0,0,1,1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bounds", [(8, 47, 9, 48), (8.4, 47, 8.6, 48), (-180, 47, 180, 90), (-180, -90, 180, 47), (-20, 47, 40, 60)]
)
def test_the_edges_of_an_aoi_are_straight_in_its_own_crs(bounds: tuple[float, ...]) -> None:
    """A parallel is no straight line on the ground: between two corners a degree apart it lies 120 m off."""
    lat = 47 + np.linspace(-200, 200, 40) / 111_000
    places = gpd.GeoSeries(gpd.points_from_xy(np.full(40, 8.5), lat), crs=4326).to_crs(32632)
    x, y = places.x, places.y
    objects = table(shapely.box(x - 3, y - 2, x + 3, y + 2), 32632)
    aoi = gpd.GeoDataFrame(geometry=[shapely.box(*bounds)], crs=4326)
    scene = compare(objects, objects, aoi=aoi)
    assert scene.truth_inside.tolist() == ((bounds[1] < lat) & (lat < bounds[3])).tolist()


def test_sweep_finds_the_best_threshold() -> None:
    shapes = [shapely.box(20 * i, 0, 20 * i + 10, 10) for i in range(8)]
    right = [0.9, 0.8, 0.7, 0.31]
    pred = table(shapes, score=[*right, 0.3, 0.2, 0.1, 0.1])
    result = sweep(pred, table(shapes[:4]))
    threshold, best = result.best
    assert best.f1 == 1.0
    assert threshold == 0.31
    assert result.scores[0].n_pred == 8
    at = dict(zip(result.thresholds, result.scores, strict=True))
    for t in (0.15, 0.5, 0.85):
        alone = evaluate(pred[pred.score >= t], table(shapes[:4]))
        assert at[t].to_dict() == pytest.approx(alone.to_dict())


def test_a_sweep_prefers_no_threshold_that_leaves_nothing_to_count() -> None:
    """Without a true object its best was one above all scores, with an F1 of 1; the curve said another."""
    shapes = [shapely.box(20 * i, 0, 20 * i + 10, 10) for i in range(3)]
    scene = compare(table(shapes, score=[0.9, 0.8, 0.7]), table([]))
    threshold, best = scene.sweep().best
    assert (threshold, best.f1) == curve([scene]).best == (0.7, 0.0)
    nothing = compare(table([], score=[]), table([])).sweep()
    assert nothing.best[1].n_pred == 0 and nothing.best[1].f1 == 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    shapes = boxes((0, 0, 10, 10))
    with pytest.raises(ConfigError, match="some have none"):
        evaluate(table(shapes), table(shapes, None))
    with pytest.raises(ConfigError, match="to compare of type str"):
        evaluate("pred.gpkg", table(shapes))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="to compare of type PosixPath"):
        evaluate(table(shapes), Path("truth.gpkg"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="active geometry"):
        evaluate(table(shapes), table(shapes).rename(columns={"geometry": "shape"}))
    site = table(shapes, 'LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(ConfigError, match="one plane"):
        evaluate(site, site)
    with pytest.raises(ConfigError, match="threshold of 0"):
        match(shapes, shapes, iou=0.0)


def test_metres_that_are_said_to_be_degrees_are_refused() -> None:
    """As in GeoJSON written without a CRS."""
    found = table(boxes((350_010, 3_049_950, 350_050, 3_049_990)))
    truth = found.set_crs(4326, allow_override=True)
    for pair in ((found, truth), (truth, found)):
        with pytest.raises(ConfigError, match=r"cannot be laid in one plane.*true CRS"):
            evaluate(*pair)


@pytest.mark.parametrize("iou", ["0.5", None, [0.5], 0.0, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(iou: Any) -> None:
    one = table(boxes((0, 0, 2, 1)))
    with pytest.raises(ConfigError, match="an IoU threshold of"):
        evaluate(one, one, iou=iou)
