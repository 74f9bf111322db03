"""COCO JSON in and out; run lengths against pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as oracle
from pycocotools.coco import COCO
from pyproj import CRS

from geoseg.coco import Annotation, Rle, coco_of, read_coco, read_results, write_coco
from geoseg.errors import ConfigError
from geoseg.evaluation import compare_coco
from geoseg.grid import Grid
from geoseg.sinks import write

masks = st.tuples(st.integers(1, 9), st.integers(1, 14)).flatmap(lambda shape: arrays(bool, shape))
GRID = Grid(
    crs=CRS.from_epsg(32645),
    transform=Affine.translation(500_000, 3_000_000) @ Affine.rotation(20) @ Affine.scale(0.5, -0.7),
    height=90,
    width=140,
)


@settings(max_examples=150)
@given(mask=masks)
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray) -> None:
    rle = Rle.of_mask(mask)
    theirs = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.text == theirs["counts"].decode()
    assert rle.area == oracle.area(theirs)
    left, top, right, bottom = rle.xyxy
    assert [left, top, right - left, bottom - top] == oracle.toBbox(theirs).tolist()
    for counts in (rle.text, theirs["counts"], rle.counts.tolist()):
        again = Rle.parse(counts, height=mask.shape[0], width=mask.shape[1])
        assert (again.mask() == mask).all()


@settings(max_examples=60)
@given(runs=st.lists(st.integers(0, 40_000_000), min_size=1, max_size=9))
def test_long_runs_are_written_as_pycocotools_writes_them(runs: list[int]) -> None:
    total = sum(runs)
    if not 0 < total < 2**32:
        return
    theirs = oracle.frPyObjects({"counts": runs, "size": [total, 1]}, total, 1)
    rle = Rle.parse(runs, height=total, width=1)
    assert rle.text == theirs["counts"].decode()
    assert Rle.parse(rle.text, height=total, width=1).counts.tolist() == runs


@settings(max_examples=100)
@given(mask=masks)
def test_the_outline_of_run_lengths_is_exact(mask: np.ndarray) -> None:
    outline_px = np.abs(np.diff(np.pad(mask, 1).astype(int), axis=0)).sum()
    outline_px += np.abs(np.diff(np.pad(mask, 1).astype(int), axis=1)).sum()
    assert Rle.of_mask(mask).outline_px == outline_px
    outline = Rle.of_mask(mask).polygon()
    assert shapely.is_valid(outline)
    assert outline.area == mask.sum()
    assert (Rle.of_polygon(outline, height=mask.shape[0], width=mask.shape[1]).mask() == mask).all()


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_a_polygon_covers_the_pixels_whose_centres_it_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
    reach = rng.uniform(5, 22, 9)
    shell = np.column_stack([18 + reach * np.cos(angle), 11 + reach * np.sin(angle)])
    shape = shapely.make_valid(shapely.Polygon(shell)).difference(shapely.box(16.2, 8.1, 19.7, 12.4))
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        return
    mine = Rle.of_polygon(shape, height=23, width=37).mask()
    theirs = rasterio.features.rasterize([shape], out_shape=(23, 37)).astype(bool)
    assert (mine == theirs).all()


@pytest.mark.parametrize(
    "counts",
    [[3, 4], [5, 2, 0], [-1, 7], [6.0], [True, 5], "0", "P", "zz!", "\x7f", "é", None, {}, "1" * 40, "o" * 20 + "0"],
)
def test_run_lengths_that_cannot_be_are_refused(counts: Any) -> None:
    with pytest.raises(ConfigError):
        Rle.parse(counts, height=2, width=3)


def test_footprints_come_back_where_they_were(tmp_path: Path) -> None:
    pixel = [
        shapely.box(10, 20, 30, 26),
        shapely.Polygon([(50, 50), (90, 55), (80, 80)]),
        shapely.box(100, 10, 120, 40).difference(shapely.box(105, 15, 111, 30)),
        shapely.MultiPolygon([shapely.box(1, 60, 5, 66), shapely.box(8, 60, 12, 66)]),
        shapely.box(130, 80, 150, 95),  # goes on beyond the raster
        shapely.box(300, 300, 310, 310),
    ]
    table = gpd.GeoDataFrame(
        {"label": ["b", "a", "b", "a", "b", "b"], "score": [0.9, None, 0.4, 0.3, 0.2, 0.1]},
        geometry=list(GRID.geometry_to_world(np.array(pixel, object))),
        crs=GRID.crs,
    )
    coco = coco_of(table.to_crs(4326), GRID, "ortho.tif")
    assert coco.warnings == ("1 footprints left out: none of their ground is on the raster",)
    path = write_coco(coco, tmp_path / "out.json")
    again = read_coco(path)
    assert again.warnings == () and again.classes == {1: "a", 2: "b"}
    assert [again.classes[a.category_id] for a in again.annotations] == ["b", "a", "b", "a", "b"]
    assert [a.score for a in again.annotations] == [0.9, None, 0.4, 0.3, 0.2]
    frame = shapely.box(0, 0, GRID.width, GRID.height)
    for shape, annotation in zip(pixel, again.annotations, strict=False):
        assert annotation.polygon.symmetric_difference(shape & frame).area < 0.05
    # pycocotools reads the same file, and finds the same areas.
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(path))
    for annotation in again.annotations:
        area = float(oracle.area(theirs.annToRLE(theirs.anns[annotation.id])))
        assert area == pytest.approx(annotation.polygon.area, rel=0.15)
        assert theirs.anns[annotation.id]["area"] == pytest.approx(annotation.polygon.area, abs=0.05)


def test_footprints_across_the_antimeridian_of_any_crs(tmp_path: Path) -> None:
    transform = Affine(4e-6, 0, 179.999, 0, -4e-6, -17.63)
    grid = Grid(crs=CRS.from_epsg(4326), transform=transform, height=300, width=500)
    pixels = shapely.box([50, 350, 230], [40, 40, 200], [100, 400, 270], [80, 80, 240])
    table = gpd.GeoDataFrame({"label": ["a"] * 3}, geometry=grid.geometry_to_world(pixels), crs=4326)
    geojson = gpd.read_file(write(table, tmp_path / "a.geojson"))  # in which the last one is cut in two
    for told in (table, table.to_crs(32760), table.to_crs(32701), geojson):
        coco = coco_of(told, grid, "a.tif")
        assert coco.warnings == ()
        found = np.array([annotation.polygon.bounds for annotation in coco.annotations])
        assert np.allclose(found, shapely.bounds(pixels), atol=0.1)


def test_run_lengths_of_footprints(tmp_path: Path) -> None:
    table = gpd.GeoDataFrame({"ignore": [1, 0]}, geometry=[shapely.box(3, 2, 8, 6), shapely.box(20, 30, 21, 32)])
    coco = read_coco(write_coco(coco_of(table, GRID, "a.tif", form="rle"), tmp_path / "rle.json"))
    first, second = coco.annotations
    assert isinstance(first.segmentation, Rle) and first.ignore and not second.ignore
    assert first.polygon.equals(shapely.box(3, 2, 8, 6))
    assert coco.classes == {1: "object"}


def test_numbers_as_labels_stay_whole_where_one_is_missing() -> None:
    shapes = [shapely.box(5 * i, 1, 5 * i + 3, 5) for i in range(3)]
    coco = coco_of(gpd.GeoDataFrame({"label": [1, 2, None]}, geometry=shapes), GRID, "a.tif")
    assert set(coco.classes.values()) == {"1", "2", "object"}


def test_no_footprints_are_an_image_without_annotations(tmp_path: Path) -> None:
    table = gpd.GeoDataFrame({"label": []}, geometry=[], crs=4326)
    coco = read_coco(write_coco(coco_of(table, GRID, "a.tif"), tmp_path / "empty.json"))
    assert len(coco.images) == 1 and coco.annotations == ()


def sound() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "sub/a.tif", "height": 10, "width": 20}],
        "categories": [{"id": 3, "name": "ship"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 5, 1, 5, 4]]},
            {"id": 2, "image_id": 1, "category_id": 3, "segmentation": {"size": [10, 20], "counts": [5, 20, 175]}},
            {"id": 5, "image_id": 1, "category_id": 3, "iscrowd": 1, "segmentation": [[1, 1, 5, 1, 5, 4], [1, 2]]},
            {"id": 6, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 5, 1]]},
            {"id": 7, "image_id": 1, "category_id": 3, "segmentation": []},
        ],
    }


def written(content: Any, folder: Path) -> Path:
    path = folder / "in.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_outlines_nothing_is_left_out_and_told(tmp_path: Path) -> None:
    coco = read_coco(written(sound(), tmp_path))
    assert [a.id for a in coco.annotations] == [1, 2, 5] and coco.annotations[2].ignore
    assert coco.by_image[1] == coco.annotations
    assert len(coco.warnings) == 2 and "fewer than three points" in coco.warnings[0]


def test_a_box_without_an_outline_is_a_region_to_ignore(tmp_path: Path) -> None:
    """Something is there: left out, it was background to a training, and what is found there false."""
    content = sound()
    content["annotations"][3]["bbox"], content["annotations"][4]["bbox"] = [1, 1, 4, 0], [2, 3, 6, 4.5]
    coco = read_coco(written(content, tmp_path))
    assert [a.id for a in coco.annotations] == [1, 2, 5, 7] and coco.annotations[3].ignore
    assert coco.annotations[3].polygon.bounds == (2, 3, 8, 7.5)
    assert "1 annotations with a box alone are regions to ignore: no segmentation" in coco.warnings
    results = [{**each, "score": 0.5} for each in content["annotations"]]
    assert len(read_results(written(results, tmp_path), coco).annotations) == 3, "a predicted box outlines nothing"
    content["annotations"][4]["bbox"] = [2, 3, "6", 4]
    with pytest.raises(ConfigError, match=r"annotations\[4\]\.bbox"):
        read_coco(written(content, tmp_path))


@pytest.mark.parametrize(
    ("rings", "kept"),
    [
        ([[10, 10, 20, 10, 30, 10]], False),
        ([[0.1, 0.1, 0.2, 0.2, 0.3, 0.3]], False),
        ([[1, 1, 5, 4, 9, 1, 5, 4]], False),  # there and back
        ([[3, 3, 3, 3, 3, 3]], False),
        ([[10, 10, 20, 10, 30, 10], [1, 1, 5, 1, 5, 4]], True),
        ([[1, 1, 5, 5, 5, 1, 1, 5]], True),  # a figure of eight, whose signed area is 0
    ],
)
def test_an_outline_around_nothing_is_left_out(tmp_path: Path, rings: list[list[float]], kept: bool) -> None:
    content = sound()
    content["annotations"][0]["segmentation"] = rings
    coco = read_coco(written(content, tmp_path))
    assert (1 in [a.id for a in coco.annotations]) == kept
    assert ("1 annotations left out: an outline around nothing" in coco.warnings) != kept
    assert all(a.polygon.area > 0 for a in coco.annotations)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("images", 0, "file_name"), "../../etc/passwd", "leads out"),
        (("images", 0, "file_name"), "/etc/passwd", "leads out"),
        (("images", 0, "file_name"), "a\\..\\..\\b", "leads out"),
        (("images", 0, "file_name"), "http://host/a.tif", "leads out"),
        (("images", 0, "file_name"), "C:\\a.tif", "leads out"),
        (("images", 0, "file_name"), "a\0b", "not a file name"),
        (("images", 0, "height"), -1, "whole number"),
        (("images", 0, "height"), 10.5, "whole number"),
        (("images", 0, "width"), True, "whole number"),
        (("images", 0), [], "not an object"),
        (("images", 0, "file_name"), "a\ud800.tif", "not a file name"),
        (("categories", 0, "name"), 5, "not a name"),
        (("categories", 0, "name"), "half \udc00", "not a name"),
        (("annotations", 0, "image_id"), 9, "does not define"),
        (("annotations", 0, "category_id"), "3", "whole number"),
        (("annotations", 0, "id"), 2, "there twice"),
        (("annotations", 0, "segmentation"), [[1, 2, 3]], "not pairs"),
        (("annotations", 0, "segmentation"), [[1, 2, "3", 4, 5, 6]], "no finite numbers"),
        (("annotations", 0, "segmentation"), [[1, 2, 10**400, 4, 5, 6]], "no finite numbers"),
        (("annotations", 0, "segmentation"), "text", "not a list"),
        (("annotations", 1, "segmentation", "size"), [10**9, 10**9], "for an image of"),
        (("annotations", 1, "segmentation", "counts"), [10**18, 5], "run lengths"),
        (("annotations", 0, "iscrowd"), "yes", "not 0 or 1"),
        (("annotations", 0, "score"), "high", "not a number"),
    ],
)
def test_what_a_file_must_not_say(tmp_path: Path, place: tuple[Any, ...], value: Any, told: str) -> None:
    content: Any = sound()
    at = content
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(ConfigError, match=told):
        read_coco(written(content, tmp_path))


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", "null", '{"images": 1, "annotations": []}', "[" * 5000])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_coco(written(text, tmp_path))


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        text = json.dumps(sound()).replace("[1, 1, 5, 1, 5, 4]", f"[1, 1, 5, 1, 5, {number}]", 1)
        with pytest.raises(ConfigError):
            read_coco(written(text, tmp_path))


def test_a_mask_of_a_huge_image_asks_for_no_memory(tmp_path: Path) -> None:
    content = sound()
    content["images"][0].update(height=2**40, width=2**40)
    content["annotations"][1]["segmentation"] = {"size": [2**40, 2**40], "counts": [0, 2**80]}
    with pytest.raises(ConfigError, match="more than 10000000000 pixels"):
        read_coco(written(content, tmp_path))


def test_results(tmp_path: Path) -> None:
    truth = read_coco(written(sound(), tmp_path))
    one = {"image_id": 1, "category_id": 3, "segmentation": [[1, 1, 5, 1, 5, 4]], "score": 0.5}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{**one, "id": 0}, {**one, "id": 0, "score": 1}]))  # ids that mean nothing
    found = read_results(path, truth)
    assert [a.id for a in found.annotations] == [1, 2]
    assert [a.score for a in found.annotations] == [0.5, 1.0] and found.images == truth.images
    for wrong in ({**one, "score": None}, {**one, "image_id": 2}, 5):
        path.write_text(json.dumps([wrong]))
        with pytest.raises(ConfigError):
            read_results(path, truth)


def test_results_in_a_whole_file_have_its_own_numbers_of_classes(tmp_path: Path) -> None:
    content = sound()
    content["categories"] = [{"id": 1, "name": "building"}, {"id": 3, "name": "ship"}]
    truth = read_coco(written(content, tmp_path))
    one = {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 4]], "score": 0.5}
    whole: dict[str, Any] = {"images": content["images"], "categories": [{"id": 1, "name": "ship"}]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**whole, "annotations": [one]}))
    assert [truth.classes[a.category_id] for a in read_results(path, truth).annotations] == ["ship"]
    path.write_text(json.dumps({"annotations": [one]}))  # without classes of its own they are the truth's
    assert [truth.classes[a.category_id] for a in read_results(path, truth).annotations] == ["building"]
    # A class that no prediction is of does no harm; one that the truth does not have keeps its name, and is told.
    whole["categories"].append({"id": 2, "name": "Ship"})
    path.write_text(json.dumps({**whole, "annotations": [one]}))
    assert read_results(path, truth).warnings == ()
    path.write_text(json.dumps({**whole, "annotations": [{**one, "category_id": 2}]}))
    found = read_results(path, truth)
    assert [found.classes[a.category_id] for a in found.annotations] == ["Ship"]
    assert found.warnings == ("1 of the class 'Ship', which the truth does not have",)
    assert compare_coco(found, truth)[0].scores().n_matched == 0


@pytest.mark.parametrize("change", [{"file_name": "b.tif"}, {"height": 20, "width": 10}, {"id": 2}])
def test_results_of_other_images_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    content = sound()
    truth = read_coco(written(content, tmp_path))
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"images": [content["images"][0] | change], "annotations": []}))
    with pytest.raises(ConfigError, match=r"images\[0\] is no image of the truth"):
        read_results(path, truth)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    coco = read_coco(written(sound(), tmp_path))
    with pytest.raises(ConfigError, match=r"ends in \.json"):
        write_coco(coco, tmp_path / "out.txt")
    with pytest.raises(ConfigError, match="folder does not exist"):
        write_coco(coco, tmp_path / "absent" / "out.json")
    assert not list(tmp_path.glob("**/out*"))


def test_scores_that_are_text_are_numbers_or_refused() -> None:
    table = gpd.GeoDataFrame(geometry=[shapely.box(x, 10, x + 9, 30) for x in (5, 25, 45)])
    coco = coco_of(table.assign(score=["0.25", None, "1"]), GRID, "a.tif")
    assert [each.score for each in coco.annotations] == [0.25, None, 1.0]
    for scores in (["high", "low", None], [10**400, 0.5, None], [np.inf, 0.5, np.nan]):
        with pytest.raises(ConfigError, match=r"score.*numbers, or none"):
            coco_of(table.assign(score=scores), GRID, "a.tif")


def test_footprints_of_another_place_are_refused() -> None:
    table = gpd.GeoDataFrame(geometry=[shapely.box(86, 27, 86.001, 27.001)], crs=4326)
    with pytest.raises(ConfigError, match="none of which lies on"):
        coco_of(table, GRID, "a.tif")


def test_a_mask_of_a_whole_large_image_is_refused_and_a_small_one_in_it_outlined(tmp_path: Path) -> None:
    content = sound()
    content["images"][0].update(height=60_000, width=70_000)
    total = 60_000 * 70_000
    start = 30_000 * 60_000 + 500
    content["annotations"][1]["segmentation"] = {
        "size": [60_000, 70_000],
        "counts": [start, 7, 59_993, 9, total - start - 60_009],
    }
    coco = read_coco(written(content, tmp_path))
    assert coco.annotations[1].polygon.area == 16 and coco.annotations[1].polygon.bounds == (30_000, 500, 30_002, 509)
    content["annotations"][1]["segmentation"]["counts"] = [0, total]
    with pytest.raises(ConfigError, match="one mask over a box"):
        read_coco(written(content, tmp_path))


@pytest.mark.parametrize(("height", "width"), [(1, 3_000_000), (3_000_000, 1)])
def test_a_short_file_with_an_endless_outline_is_refused(tmp_path: Path, height: int, width: int) -> None:
    content = sound()
    content["images"][0].update(height=height, width=width)
    content["annotations"][1]["segmentation"] = {"size": [height, width], "counts": [0, height * width]}
    with pytest.raises(ConfigError, match="outline of more than 2000000 pixels"):
        read_coco(written(content, tmp_path))


def test_many_columns_in_a_comb_are_refused(tmp_path: Path) -> None:
    content, side = sound(), 3000
    content["images"][0].update(height=side, width=side)
    comb = Rle(height=side, width=side, counts=np.full(side, side))
    content["annotations"][1]["segmentation"] = {"size": [side, side], "counts": comb.text}
    assert len(comb.text) < 4000 and comb.outline_px == side // 2 * (2 * side + 2)
    with pytest.raises(ConfigError, match="outline of more than 2000000 pixels"):
        read_coco(written(content, tmp_path))


def test_parts_with_different_numbers_of_corners_are_one_polygon() -> None:
    square, triangle = np.array([[0.0, 0], [9, 0], [9, 9], [0, 9]]), np.array([[20.0, 0], [29, 0], [20, 9]])
    one = Annotation(id=1, image_id=1, category_id=1, segmentation=(square, triangle))
    assert one.polygon.area == 81 + 40.5 and len(one.polygon.geoms) == 2
