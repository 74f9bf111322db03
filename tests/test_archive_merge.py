"""One layer over overlapping scenes: what each object must come out as."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from archive_scenes import UTM, by_hand, day, table
from commands import cli
from geopandas.testing import assert_geodataframe_equal
from pyproj import CRS

import geoseg
from geoseg.archive import Manifest
from geoseg.archive.config import MergeSettings
from geoseg.archive.merge.coverage import seen
from geoseg.archive.merge.merging import merge_scenes
from geoseg.archive.merge.reading import batches
from geoseg.archive.merge.spill import Spill
from geoseg.errors import ConfigError, SinkError
from geoseg.measures import measure
from geoseg.sinks import written_run

EAST, NORTH = 350_000.0, 3_050_000.0


def box(left: float, bottom: float, wide: float = 12.0, high: float = 8.0) -> Any:
    return shapely.box(EAST + left, NORTH + bottom, EAST + left + wide, NORTH + bottom + high)


def merged(folder: Path, target: str = "merged.gpkg", **settings: Any) -> gpd.GeoDataFrame:
    with Manifest.opened(folder, create=True) as manifest:
        path = merge_scenes(manifest, MergeSettings(output=target, **settings), folder / target)
    parts = list(batches(path))
    assert len({str(part.crs) for part in parts}) == 1
    return gpd.pd.concat(parts, ignore_index=True)


Scenes = list[tuple[str, gpd.GeoDataFrame, datetime | None]]


def overlapping() -> Scenes:
    """a sees three, b two of them a little shifted and one of its own, c lies elsewhere."""
    a = table([box(0, 0), box(30, 0), box(60, 0)], raster="a", score=[0.9, 0.6, 0.9])
    b = table([box(31, 0.5), box(61, 0), box(90, 0)], raster="b", score=[0.7, 0.8, 0.8])
    c = table([box(5000, 0)], raster="c")
    return [("a.tif", a, day(5)), ("b.tif", b, day(9)), ("c.tif", c, day(1))]


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
@pytest.mark.parametrize("target", ["merged.gpkg", "merged.parquet", "merged"])
def test_what_two_scenes_saw_comes_out_once(tmp_path: Path, suffix: str, target: str) -> None:
    by_hand(tmp_path, overlapping(), suffix)
    found = merged(tmp_path, target)
    assert sorted(found["id"]) == ["a0", "b0", "b1", "b2", "c0"]
    assert found["n_tiles"].dtype == "int32" and found["cut_by_edge"].dtype == bool
    by_score = merged(tmp_path, target, keep="score")
    assert sorted(by_score["id"]) == ["a0", "a2", "b0", "b2", "c0"]
    assert not list(tmp_path.glob(".merge*"))


def test_scenes_in_other_systems_are_one_layer(tmp_path: Path) -> None:
    scenes = overlapping()
    moved = [(name, rows.to_crs(crs), seen) for (name, rows, seen), crs in zip(scenes, (UTM, 3857, 4326), strict=True)]
    by_hand(tmp_path / "one", scenes)
    by_hand(tmp_path / "other", moved)
    one, other = (merged(tmp_path / name, crs="EPSG:32646") for name in ("one", "other"))
    assert one["id"].tolist() == other["id"].tolist()
    assert other.crs == "EPSG:32646"
    assert shapely.hausdorff_distance(one.geometry.to_numpy(), other.geometry.to_numpy()).max() < 0.01
    assert merged(tmp_path / "other").crs == "EPSG:4326"
    assert merged(tmp_path / "one").crs == UTM


@pytest.mark.parametrize("other", [4326, 32601, 32660])
@pytest.mark.parametrize("west", [180.0005, 179.9997, 540.0005, -180.0002])
def test_scenes_that_count_longitudes_from_elsewhere_see_the_same_objects(
    tmp_path: Path, west: float, other: int
) -> None:
    left = west + np.array([0.0, 0.0004])
    shapes = shapely.box(left, 16.0001, left + 0.0003, 16.0003)
    a = table(list(shapes), raster="a", crs="EPSG:4326")
    first = shapely.transform(shapes, lambda xy: np.column_stack([(xy[:, 0] + 179.9996) % 360 - 179.9996, xy[:, 1]]))
    b = a.set_geometry(gpd.GeoSeries(first, crs=4326).to_crs(other)).assign(id=["b0", "b1"])
    by_hand(tmp_path, [("a.tif", a, day(1)), ("b.tif", b, day(2))])
    assert merged(tmp_path)["id"].tolist() == ["b0", "b1"]


@pytest.mark.parametrize("target", ["merged.gpkg", "merged"])
def test_a_layer_in_degrees_has_no_polygon_around_the_earth(tmp_path: Path, target: str) -> None:
    here = gpd.GeoSeries([shapely.Point(180, 16)], crs=4326)
    for west, east in ((32660, 32601), (32601, 32660)):
        folder = tmp_path / str(west)
        first = table([here.to_crs(west)[0].buffer(30)], raster="a", crs=f"EPSG:{west}")
        other = table([here.translate(0.01).to_crs(east)[0].buffer(30)], raster="b", crs=f"EPSG:{east}")
        by_hand(folder, [("a.tif", first, day(1)), ("b.tif", other, day(2))])
        found = merged(folder, target)
        assert found.crs == "EPSG:4326"
        assert found.set_index("id").geom_type.to_dict() == {"a0": "MultiPolygon", "b0": "Polygon"}
        assert max(part.bounds[2] - part.bounds[0] for part in shapely.get_parts(found.geometry)) < 0.001
        assert measure(found.geometry.to_numpy(), CRS(4326))["area_m2"] == pytest.approx(found["area_m2"], rel=1e-3)


def test_parts_on_both_sides_of_the_antimeridian_are_one_object_on_the_turn_of_the_best(tmp_path: Path) -> None:
    a = table([shapely.box(179.9998, 16, 180.0002, 16.0002)], raster="a", crs="EPSG:4326", cut_by_edge=[True])
    b = table([shapely.box(-180, 16, -179.9996, 16.0002)], raster="b", crs="EPSG:4326", cut_by_edge=[True])
    whole = shapely.box(179.9998, 16, 180.0004, 16.0002)
    for name, days, expected in (("a", (9, 1), whole), ("b", (1, 9), shapely.affinity.translate(whole, -360))):
        folder = tmp_path / name
        by_hand(folder, [("a.tif", a, day(days[0])), ("b.tif", b, day(days[1]))])
        (found,) = merged(folder).itertuples()
        assert found.raster == name
        assert shapely.hausdorff_distance(found.geometry, expected) < 1e-9
        assert found.area_m2 == pytest.approx(1.5 * a["area_m2"][0], rel=1e-6)


def test_a_whole_one_goes_before_one_that_the_edge_cuts(tmp_path: Path) -> None:
    whole, piece = table([box(0, 0)], raster="a"), table([box(0, 0, 4)], raster="b", cut_by_edge=[True])
    by_hand(tmp_path, [("a.tif", whole, day(1)), ("b.tif", piece, day(30))])
    assert merged(tmp_path)["id"].tolist() == ["a0"]


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_a_corner_of_which_no_scene_sees_all_is_one_object_and_whole(tmp_path: Path, suffix: str) -> None:
    """Scenes to the left, below and to the right of a place; where the fourth should lie there is none."""
    corner, strip = box(40, 40, 12, 12), box(-900, 900, 1800, 5)
    frames = {"a": box(-1000, 0, 1046, 1000), "b": box(-1000, -1000, 1044, 1050), "c": box(43, 44, 1000, 1000)}
    scenes: Scenes = []
    for number, (name, frame) in enumerate(frames.items()):
        shapes = [shape & frame for shape in (corner, strip) if shapely.area(shape & frame)]
        scenes.append((f"{name}.tif", table(shapes, raster=name, cut_by_edge=[True] * len(shapes)), day(5 - number)))
    by_hand(tmp_path, scenes, suffix)
    with Manifest.opened(tmp_path, create=True) as manifest:
        for number, frame in enumerate(frames.values(), start=1):
            manifest.update(number, figures={"extent": f"SRID=32645;{frame.wkt}"})
    found = merged(tmp_path, f"merged{suffix}")
    assert sorted(found["id"]) == ["a0", "a1"]
    known = np.array([corner & frames["a"].union(frames["c"]), strip])
    shapes = found.sort_values("id").geometry.to_numpy()
    assert (shapely.area(shapely.symmetric_difference(shapes, known)) < 1e-4 * shapely.area(known)).all()
    assert found.sort_values("id")["cut_by_edge"].tolist() == [True, False]
    assert found.set_index("id")["length_m"]["a1"] == pytest.approx(1800, rel=2e-3)
    assert found.set_index("id")["area_m2"]["a1"] == pytest.approx(9000, rel=2e-3)


def test_twelve_scenes_of_one_place_and_objects_over_many_cells(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    scenes: Scenes = []
    for number in range(12):
        shift = rng.uniform(-0.4, 0.4, 2)
        shapes = [box(40 * i + shift[0], 3000 * j + shift[1]) for i in range(6) for j in range(3)]
        long = box(-100 + shift[0], -50 + shift[1], 9000, 12)  # over several cells
        scenes.append((f"{number:02}.tif", table([*shapes, long], raster=f"{number:02}-"), day(number + 1)))
    by_hand(tmp_path, scenes, ".parquet")
    found = merged(tmp_path, "merged")
    assert len(found) == 19
    assert {name.split("-")[0] for name in found["id"]} == {"11"}


def test_a_layer_is_made_once_and_again_when_something_changes(tmp_path: Path) -> None:
    by_hand(tmp_path, overlapping())
    for target in ("merged.gpkg", "merged"):
        merged(tmp_path, target)
        first, before = written_run(tmp_path / target)["run"], _times(tmp_path / target)
        merged(tmp_path, target)
        assert _times(tmp_path / target) == before
        merged(tmp_path, target, iou=0.9)
        assert written_run(tmp_path / target)["run"] not in (None, first)
    assert written_run(tmp_path / "merged.gpkg")["scenes"] == "3"
    assert [written_run(tmp_path / name)["footprints"] for name in ("merged", "merged.gpkg")] == ["7", "7"]
    assert len(gpd.read_parquet(tmp_path / "merged")) == 7  # as one data set, by a reader that is not ours


def test_gaps_that_cannot_be_read_are_not_left_out(tmp_path: Path) -> None:
    by_hand(tmp_path, overlapping(), ".parquet")
    with Manifest.opened(tmp_path, create=True) as manifest:
        manifest.update(3, state="parts")
    (tmp_path / "scenes" / "c.gaps.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigError, match=r"gaps file .*c\.gaps\.parquet, which cannot be read"):
        merged(tmp_path)


def test_a_layer_is_made_again_of_an_output_that_changed_within_its_run(tmp_path: Path) -> None:
    """What failed for once and is found the next time, and what somebody has corrected."""
    scenes = overlapping()
    by_hand(tmp_path, scenes)
    output, gaps = tmp_path / "scenes" / "c.gpkg", table([box(5100, 0)]).assign(reason="failed", detail="")
    gaps = gaps[["reason", "detail", "area_m2", "geometry"]]

    def written(rows: gpd.GeoDataFrame, gaps: gpd.GeoDataFrame | None, **values: Any) -> None:
        geoseg.write(rows, output, gaps=gaps)
        with Manifest.opened(tmp_path, create=True) as manifest:
            manifest.update(3, footprints=len(rows), **values)

    rows = scenes[2][1]
    written(rows[:0], gaps, state="parts", figures={"gaps_m2": {"failed": 96.0}})
    assert len(merged(tmp_path)) == 4 and len(gpd.read_file(tmp_path / "merged.gpkg", layer="gaps")) == 1
    written(rows, gaps[:0], state="parts", figures={"gaps_m2": {"unreadable": 3.0}})
    assert len(merged(tmp_path)) == 5 and len(gpd.read_file(tmp_path / "merged.gpkg", layer="gaps")) == 0
    written(rows, None, state="done", stamp="one")
    assert len(merged(tmp_path)) == 5
    written(rows[:0], None, stamp="another")
    assert len(merged(tmp_path)) == 4
    before = _times(tmp_path / "merged.gpkg")
    assert len(merged(tmp_path)) == 4 and _times(tmp_path / "merged.gpkg") == before


@pytest.mark.parametrize("target", ["merged.gpkg", "merged.parquet", "merged"])
def test_what_somebody_drew_in_is_in_the_layer(tmp_path: Path, target: str) -> None:
    by_hand(tmp_path, overlapping())
    # With the layer's first columns in its order: pyogrio 0.12 appends by place, not by name.
    values = {"id": np.array([None] * 3, object), "label": ["box", None, "box"]}
    drawn = gpd.GeoDataFrame(values, geometry=[box(150, 0), box(32, 0), None], crs=UTM)
    pyogrio.write_dataframe(
        drawn, tmp_path / "scenes" / "a.gpkg", layer="footprints", append=True, promote_to_multi=True
    )
    found = merged(tmp_path, target)
    assert sorted(found["id"].dropna()) == ["a0", "b0", "b1", "b2", "c0"]
    new = found[found["id"].isna()].sort_values("label")
    assert new["label"].fillna("").tolist() == ["box", ""] and not new["cut_by_edge"].any()
    assert new["n_tiles"].tolist() == [0, 0] and new["area_m2"].isna().all()


def test_a_disk_that_is_full_for_the_comparison_is_the_environments_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    by_hand(tmp_path, overlapping())
    merged(tmp_path)
    before = (tmp_path / "merged.gpkg").read_bytes()
    monkeypatch.setattr(Spill, "pair", full)
    with pytest.raises(SinkError, match=r"merged\.gpkg could not be written .*make room"):
        merged(tmp_path, iou=0.8)
    assert (tmp_path / "merged.gpkg").read_bytes() == before and not list(tmp_path.glob(".merge*"))


def _times(path: Path) -> list[int]:
    return [each.stat().st_mtime_ns for each in sorted([path, *path.glob("*")])]


def test_ground_that_was_not_examined_is_told(tmp_path: Path) -> None:
    by_hand(tmp_path, overlapping())
    with Manifest.opened(tmp_path, create=True) as manifest:
        manifest.update(3, state="failed", error="killed", extent=(85.0, 27.0, 85.01, 27.02))
    found = merged(tmp_path)
    assert sorted(found["id"]) == ["a0", "b0", "b1", "b2"]
    gaps = gpd.read_file(tmp_path / "merged.gpkg", layer="gaps")
    assert gaps[["reason", "detail", "raster"]].to_numpy().tolist() == [["failed", "killed", "c.tif"]]
    assert gaps["area_m2"][0] == pytest.approx(992 * 2217, rel=0.01)
    assert written_run(tmp_path / "merged.gpkg")["complete"] == "False"
    assert len(merged(tmp_path, "merged")) == 4
    assert len(gpd.read_parquet(tmp_path / "merged" / "_gaps" / "gaps.parquet")) == 1


@pytest.mark.parametrize("target", ["merged.gpkg", "merged"])
def test_a_layer_is_judged_where_a_scene_saw_the_ground(tmp_path: Path, target: str) -> None:
    """Of four boxes both see one, b one in the nodata of a; one is in the nodata of a alone, and one beside them."""
    frames = [shapely.box(350_000 + x, 3_050_000, 350_100 + x, 3_050_080) for x in (0, 70)]
    void = shapely.box(350_000, 3_050_000, 350_100, 3_050_030)
    boxes = [box(*at) for at in ((80, 60), (80, 10), (30, 10), (300, 10))]
    by_hand(
        tmp_path, [("a.tif", table([boxes[0]], raster="a"), day(1)), ("b.tif", table(boxes[:2], raster="b"), day(2))]
    )
    lost = gpd.GeoDataFrame({"reason": ["nodata"], "detail": [""], "area_m2": [void.area]}, geometry=[void], crs=UTM)
    with Manifest.opened(tmp_path, create=True) as manifest:
        geoseg.write(table([boxes[0]], raster="a"), tmp_path / manifest.get(1).output, gaps=lost)
        for number, frame, missing in ((1, frames[0], {"nodata": void.area}), (2, frames[1], {})):
            extent = tuple(gpd.GeoSeries([frame], crs=UTM).to_crs(4326).total_bounds)
            figures = {"extent": f"SRID=32645;{frame.wkt}", "gsd_m": 0.5, "gaps_m2": missing}
            manifest.update(number, figures=figures, extent=extent)
    merged(tmp_path, target)
    truth = tmp_path / "truth.gpkg"
    gpd.GeoDataFrame(geometry=boxes, crs=UTM).to_file(truth)
    told = json.loads(cli("evaluate", tmp_path / target, truth, "--json").stdout)
    assert (told["n_truth"], told["n_pred"], told["n_matched"]) == (2, 2, 2)
    assert "what its scenes saw; 2 true objects lie outside" in told["area"]
    left = gpd.GeoSeries([shapely.box(350_000, 3_050_040, 350_100, 3_050_080)], crs=UTM).to_crs(4326)[0]
    with Manifest.opened(tmp_path, create=True) as manifest:
        manifest.note(aoi=f"SRID=4326;{left.wkt}")
    merged(tmp_path, target, keep="score")
    told = json.loads(cli("evaluate", tmp_path / target, truth, "--json").stdout)
    assert (told["n_truth"], told["n_pred"]) == (1, 1) and "its AOI" in told["area"]


@pytest.mark.parametrize("crs", [4326, 32660])
def test_nodata_beyond_180_degrees_was_not_seen(tmp_path: Path, crs: int) -> None:
    boxes = (
        shapely.box(179.9, 16, 180.1, 16.2),
        shapely.box(180.05, 16, 180.1, 16.2),
        shapely.box(179.95, 16, 179.96, 16.1),
    )
    frame, void, roof = gpd.GeoSeries(boxes, crs=4326).to_crs(crs)
    rows = table([roof], raster="a", crs=f"EPSG:{crs}")
    by_hand(tmp_path, [("a.tif", rows, day(1))])
    lost = gpd.GeoDataFrame({"reason": ["nodata"], "detail": [""], "area_m2": [1.0]}, geometry=[void], crs=crs)
    with Manifest.opened(tmp_path, create=True) as manifest:
        geoseg.write(rows, tmp_path / manifest.get(1).output, gaps=lost)
        figures = {"extent": f"SRID={crs};{frame.wkt}", "gsd_m": 1.0, "gaps_m2": {"nodata": 1.0}}
        manifest.update(1, figures=figures, extent=(179.9, 16, -179.9, 16.2))
        seen_wkt = str(seen(manifest)).partition(";")[2]
    found = shapely.from_wkt(seen_wkt)
    assert found.area == pytest.approx(0.15 * 0.2, rel=1e-3)
    assert found.intersection(boxes[1]).area < 1e-5


def test_a_layer_of_a_scene_that_does_not_say_where_it_lies_says_nothing(tmp_path: Path) -> None:
    by_hand(tmp_path, overlapping())
    merged(tmp_path)
    assert written_run(tmp_path / "merged.gpkg")["extent"] is None


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    by_hand(tmp_path, overlapping())
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "thesis.txt").write_text("mine")
    with pytest.raises(SinkError, match="did not write"):
        merged(tmp_path, "merged")
    assert (tmp_path / "merged" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_outputs_that_are_gone_or_empty(tmp_path: Path, suffix: str) -> None:
    by_hand(tmp_path, [*overlapping(), ("d.tif", table([], raster="d"), None)], suffix)
    assert len(merged(tmp_path)) == 5
    geoseg.write(table([box(0, 0)])[["label", "geometry"]], tmp_path / "scenes" / f"d{suffix}")
    with pytest.raises(SinkError, match=rf"/d{suffix}, which cannot be read .it has no column 'id'"):
        merged(tmp_path, iou=0.9)
    (tmp_path / "scenes" / f"b{suffix}").unlink()
    with pytest.raises(SinkError, match="run the same again"):
        merged(tmp_path, iou=0.8)


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_an_output_that_is_cut_short_is_told_as_that(tmp_path: Path, suffix: str) -> None:
    by_hand(tmp_path, [("a.tif", table([box(20 * i, 7) for i in range(90)]), None)], suffix)
    path = tmp_path / "scenes" / f"a{suffix}"
    whole = path.read_bytes()
    for size in (0, 60, 600, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(SinkError, match="cannot be read"):
            list(batches(path))


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb"])
def test_batches_give_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    rows = table([box(20 * i, 7 * i) for i in range(25)], acquired=[day(3)] * 25, score=np.linspace(0, 1, 25))
    by_hand(tmp_path, [("a.tif", rows, None)], suffix)
    read = [*batches(tmp_path / "scenes" / f"a{suffix}", rows=7)]
    assert max(map(len, read)) <= 7 or suffix == ".fgb"
    found = gpd.pd.concat(read, ignore_index=True).sort_values("score", ignore_index=True)
    assert (found.dtypes == rows.dtypes).all()
    assert_geodataframe_equal(found, rows)
