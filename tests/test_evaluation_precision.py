"""Average precision, with pycocotools as the oracle."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from geoseg.coco import Rle, read_coco, read_results
from geoseg.errors import ConfigError
from geoseg.evaluation import average_precision, compare, compare_coco

HEIGHT, WIDTH = 70, 110
SIZES = (40.0, 150.0)


def blob(rng: np.random.Generator, x: int, y: int) -> Any:
    """One or two boxes with whole corners, so that polygons and pixels are the same."""
    w, h = rng.integers(2, 16, 2)
    shape = shapely.box(x, y, x + w, y + h)
    if rng.random() < 0.4:
        shape = shape | shapely.box(x, y, x + w // 2 + 1, y + h + 4)
    return shape


def scene(seed: int, objects: int, classes: int = 2) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Truth on a loose lattice with regions to ignore; predictions shifted, doubled, missing and invented."""
    rng = np.random.default_rng(seed)
    truth, pred = [], []
    for _ in range(objects):
        x, y = rng.integers(0, WIDTH - 20), rng.integers(0, HEIGHT - 20)
        shape, label = blob(rng, x, y), f"class {rng.integers(classes)}"
        truth.append({"geometry": shape, "label": label, "iscrowd": int(rng.random() < 0.1)})
        for _ in range(rng.integers(0, 4)):
            moved = shapely.transform(shape, lambda xy: xy + rng.integers(-2, 3, 2))
            moved = moved if rng.random() < 0.7 else blob(rng, x, y)
            moved = shapely.intersection(moved, shapely.box(0, 0, WIDTH, HEIGHT))
            if moved.area == 0:  # to COCO an empty mask is a prediction; to geoseg it is no footprint
                continue
            other = label if rng.random() < 0.9 else f"class {rng.integers(classes)}"
            # Scores of two decimals: equal ones happen.
            pred.append({"geometry": moved, "label": other, "score": round(float(rng.random()), 2)})
    columns = ["geometry", "label", "score"]
    return gpd.GeoDataFrame(pred, columns=columns), gpd.GeoDataFrame(truth, columns=["geometry", "label", "iscrowd"])


def coco(scenes: list[tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]], kind: str, limit: int) -> dict[str, float]:
    """What pycocotools says of the same scenes, laid out as pixels."""
    names = sorted({*np.concatenate([t.label for _, t in scenes]), *np.concatenate([p.label for p, _ in scenes])})
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, (pred, true) in enumerate(scenes, 1):
        for target, table in ((truth, true), (found, pred)):
            for row in table.itertuples():
                rle = Rle.of_polygon(row.geometry, height=HEIGHT, width=WIDTH)
                left, top, right, bottom = rle.xyxy
                target.append(
                    {
                        "id": len(target) + 1,
                        "image_id": number,
                        "category_id": names.index(row.label) + 1,
                        "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle.text},
                        "area": rle.area,
                        **({"score": row.score} if target is found else {"iscrowd": row.iscrowd}),
                        **({"bbox": [left, top, right - left, bottom - top]} if target is truth else {}),
                    }
                )
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {
            "info": {},
            "images": [{"id": i + 1, "height": HEIGHT, "width": WIDTH} for i in range(len(scenes))],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
            "annotations": truth,
        }
        gt.createIndex()
        judge = COCOeval(gt, gt.loadRes(found), kind)
        judge.params.maxDets = [1, 10, limit]
        judge.params.areaRng = [[0, 1e10], [0, SIZES[0]], [SIZES[0], SIZES[1]], [SIZES[1], 1e10]]
        judge.evaluate()
        judge.accumulate()
    table, recall = judge.eval["precision"][..., 2], judge.eval["recall"][:, :, 0, 2]

    def mean(values: Any) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else float("nan")

    return {
        "ap": mean(table[..., 0]),
        "ap50": mean(table[0, ..., 0]),
        "ap75": mean(table[5, ..., 0]),
        "recall": mean(recall),
        **{name: mean(table[..., i]) for i, name in enumerate(("small", "medium", "large"), 1)},
    }


def ours(scenes: list[tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]], kind: str) -> dict[str, float]:
    done = average_precision([compare(*each) for each in scenes], boxes=kind == "bbox", sizes=SIZES)
    return {name: getattr(done, name) for name in ("ap", "ap50", "ap75", "recall")} | dict(done.by_size)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 3), objects=st.integers(1, 14))
@example(seed=216495, images=3, objects=10)  # cutting left a line beside a polygon
def test_equal_to_pycocotools(kind: str, seed: int, images: int, objects: int) -> None:
    scenes = [scene(seed + i, objects) for i in range(images)]
    if not any(len(pred) for pred, _ in scenes):
        return
    assert ours(scenes, kind) == pytest.approx(coco(scenes, kind, 100), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_right_where_there_are_more_objects_than_coco_counts(kind: str) -> None:
    dense = [scene(7, 150, classes=1)]
    assert len(dense[0][0]) > 200
    mine = ours(dense, kind)
    assert mine == pytest.approx(coco(dense, kind, 10**6), abs=1e-12)
    assert mine["recall"] > 1.5 * coco(dense, kind, 100)["recall"]


def test_thousands_found_perfectly_are_an_ap_of_one() -> None:
    shapes = [shapely.box(20 * (i % 60), 20 * (i // 60), 20 * (i % 60) + 12, 20 * (i // 60) + 9) for i in range(3000)]
    rng = np.random.default_rng(1)
    truth = gpd.GeoDataFrame(geometry=shapes, crs=32645)
    pred = gpd.GeoDataFrame({"score": rng.random(3000)}, geometry=shapes, crs=32645)
    done = average_precision([compare(pred, truth)])
    assert (done.ap, done.ap50, done.recall, done.by_size["medium"]) == pytest.approx((1.0, 1.0, 1.0, 1.0))
    assert np.isnan(done.by_size["small"]) and done.to_dict()["by_size"]["small"] is None
    half = average_precision([compare(pred.iloc[::2], truth)])
    assert half.ap == pytest.approx(51 / 101) and half.recall == 0.5


def test_areas_on_the_ground_decide_the_sizes() -> None:
    sides = [5, 20, 50]
    shapes = [shapely.box(200 * i, 0, 200 * i + side, side) for i, side in enumerate(sides)]
    truth = gpd.GeoDataFrame(geometry=shapes, crs=32645)
    pred = gpd.GeoDataFrame({"score": [0.9, 0.8]}, geometry=[shapes[0], shapes[2]], crs=32645)
    found = average_precision([compare(pred, truth)]).by_size
    assert dict(found) == pytest.approx({"small": 1.0, "medium": 0.0, "large": 1.0})


def test_outside_the_area_counts_neither_way() -> None:
    shapes = [shapely.box(20 * i, 0, 20 * i + 10, 10) for i in range(6)]
    truth = gpd.GeoDataFrame(geometry=shapes[:4], crs=32645)
    pred = gpd.GeoDataFrame({"score": np.linspace(0.9, 0.4, 6)}, geometry=shapes, crs=32645)
    aoi = gpd.GeoDataFrame(geometry=[shapely.box(-1, -1, 31, 11)], crs=32645)
    assert average_precision([compare(pred, truth, aoi=aoi)]).ap == pytest.approx(1.0)
    done = average_precision([compare(pred, truth.iloc[2:], gaps=aoi)])
    assert done.recall == 1.0 and done.ap == pytest.approx(1.0)


def test_without_scores_there_is_no_ap() -> None:
    truth = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 5, 5)])
    assert np.isnan(average_precision([compare(truth, truth)]).ap)
    assert np.isnan(average_precision([compare(truth.assign(score=1.0), truth.iloc[:0])]).ap)
    assert average_precision([compare(truth.assign(score=1.0).iloc[:0], truth)]).recall == 0.0
    with pytest.raises(ConfigError, match="smaller first"):
        average_precision([compare(truth, truth)], sizes=(5.0, 2.0))


def test_coco_files_of_run_lengths_are_judged_as_by_pycocotools(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    rows, cols = np.mgrid[0:90, 0:130]
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []

    def rle(x: float, y: float, a: float, b: float) -> dict[str, Any]:
        mask = ((cols - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1
        return {"size": [90, 130], "counts": Rle.of_mask(mask).text}

    for number in range(1, 4):
        for i in range(25):
            place = np.array([rng.uniform(10, 120), rng.uniform(10, 80), rng.uniform(3, 15), rng.uniform(3, 9)])
            one = {"id": len(truth) + 1, "image_id": number, "category_id": 1 + i % 2, "segmentation": rle(*place)}
            truth.append({**one, "iscrowd": int(i % 9 == 0)})
            for _ in range(rng.integers(0, 3)):
                moved = np.minimum(place * rng.normal(1, 0.05, 4), [125, 85, 20, 20])
                found.append({**one, "id": len(found) + 1, "segmentation": rle(*moved), "score": float(rng.random())})
    for each in truth:
        mask = Rle.parse(each["segmentation"]["counts"], height=90, width=130)
        left, top, right, bottom = mask.xyxy
        each.update(area=mask.area, bbox=[left, top, right - left, bottom - top])
    images = [{"id": i, "file_name": f"{i}.png", "height": 90, "width": 130} for i in (1, 2, 3)]
    classes = [{"id": i, "name": name} for i, name in ((1, "hall"), (2, "hut"))]
    (tmp_path / "truth.json").write_text(json.dumps({"images": images, "categories": classes, "annotations": truth}))
    (tmp_path / "found.json").write_text(json.dumps(found))
    known = read_coco(tmp_path / "truth.json")
    scenes = compare_coco(read_results(tmp_path / "found.json", known), known)
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(tmp_path / "truth.json"))
        for kind in ("segm", "bbox"):
            judge = COCOeval(gt, gt.loadRes(str(tmp_path / "found.json")), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            mine = average_precision(scenes, boxes=kind == "bbox")
            ours = [mine.ap, mine.ap50, mine.ap75, *mine.by_size.values()]
            theirs = [np.nan if value == -1 else value for value in judge.stats[:6]]
            assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)
            assert mine.recall == pytest.approx(judge.stats[8], abs=1e-12)
