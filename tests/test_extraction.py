from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from distributed import LocalCluster
from geopandas.testing import assert_geodataframe_equal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from painted import BESIDE, CARD, PLACES, Painted, areas_of, boxes, pixel_area, scenes, truth_of, write_raster
from pyproj import Geod

import geoseg
from geoseg import Chip, Instances, ModelCard, Settings, Tiling
from geoseg.errors import ConfigError, GeosegError, ModelError, RasterError, ResourceError
from geoseg.footprints import COLUMNS
from geoseg.job import Job
from geoseg.raster import open_raster

Pixels = NDArray[np.uint8]


def _settings(**sections: dict[str, Any]) -> Settings:
    """Untouched outlines and two threads, unless said otherwise."""
    values = {"vectorize": {"tolerance_px": 0.0}, "engine": {"workers": 2}}
    return Settings.model_validate(
        {name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}}
    )


EXACT = _settings()


def _town() -> Pixels:
    """150 x 230: two that touch, a strip over many tiles, a ring, an L, a speck, one at the edge."""
    pixels = np.zeros((150, 230), np.uint8)
    pixels[10:40, 20:90] = 1
    pixels[40:60, 20:90] = 2
    pixels[70:75, 5:225] = 3
    pixels[90:140, 100:160] = 5
    pixels[100:130, 110:150] = 0
    pixels[85:135, 20:30] = 7
    pixels[125:135, 30:70] = 7
    pixels[20:23, 150:153] = 8
    pixels[110:150, 190:230] = 9
    return pixels


def _assert_is_truth(footprints: gpd.GeoDataFrame, pixels: Pixels, place: str = "north_up") -> None:
    """The painted objects, each once, each vertex to 0.01 px."""
    transform = ~PLACES[place][1]

    def in_pixels(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(
            [
                transform.a * xy[:, 0] + transform.b * xy[:, 1] + transform.c,
                transform.d * xy[:, 0] + transform.e * xy[:, 1] + transform.f,
            ]
        )

    truth = truth_of(pixels, place)
    assert sorted(footprints["label"]) == sorted(label for label, _ in truth)
    left = [(label, shapely.transform(shape, in_pixels)) for label, shape in truth]
    for label, ground in zip(footprints["label"], footprints.geometry, strict=True):
        shape = shapely.transform(ground, in_pixels)
        near = [
            k
            for k, (name, other) in enumerate(left)
            if name == label
            and shapely.symmetric_difference(shape, other).area < 0.01
            and shapely.hausdorff_distance(shape.boundary, other.boundary) < 0.01
        ]
        assert near, f"{label} {shape.wkt[:300]} is nothing that was painted"
        left.pop(near[0])
    assert not left, [shape.wkt[:300] for _, shape in left]


# --- promise 4: true on the ground ------------------------------------------------------------------------


@pytest.mark.parametrize("place", sorted(PLACES))
@pytest.mark.parametrize(("core", "halo"), [(300, 0), (64, 16), (37, 13)])
def test_polygons_are_true_to_a_hundredth_of_a_pixel(tmp_path: Path, place: str, core: int, halo: int) -> None:
    path = write_raster(tmp_path / "town.tif", _town(), place)
    found = geoseg.extract(path, Painted(), tiling=Tiling(core=core, halo=halo, block=2), settings=EXACT)
    assert list(found.columns) == [*COLUMNS, "geometry"]
    assert found.crs.to_string() == PLACES[place][0]
    _assert_is_truth(found, _town(), place)


@pytest.mark.parametrize("place", ["degrees", "mercator", "rotated", "non_square"])
def test_measures_are_metres_on_the_ellipsoid(tmp_path: Path, place: str) -> None:
    pixels = np.zeros((60, 90), np.uint8)
    pixels[10:30, 20:60] = 1
    (found,) = geoseg.extract(write_raster(tmp_path / "one.tif", pixels, place), Painted(), settings=EXACT).itertuples()
    corners = gpd.GeoSeries([found.geometry], crs=PLACES[place][0]).to_crs(4326).iloc[0]
    area, perimeter = Geod(ellps="WGS84").geometry_area_perimeter(corners)
    assert found.area_m2 == pytest.approx(abs(area), rel=1e-4)
    assert found.perimeter_m == pytest.approx(perimeter, rel=1e-4)


# --- promise 1: exactly once ------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pixels=scenes(), core=st.integers(12, 60), halo=st.integers(1, 24), block=st.integers(1, 3))
@example(pixels=boxes((103, 74), (34, 103, 66, 69)), core=24, halo=16, block=2)  # thin, along the raster's edge
@example(pixels=boxes((78, 42), (25, 49, 39, 42)), core=12, halo=11, block=1)  # thin, in the rim of many tiles
@example(pixels=BESIDE, core=46, halo=9, block=3)
def test_tiled_equals_untiled(tmp_path: Path, pixels: Pixels, core: int, halo: int, block: int) -> None:
    path = write_raster(tmp_path / "scene.tif", pixels)
    whole = geoseg.extract(path, Painted(), tiling=Tiling(core=200, halo=0), settings=EXACT)
    _assert_is_truth(whole, pixels)
    tiling = Tiling(core=core, halo=min(halo, core), block=block)
    tiled = geoseg.extract(path, Painted(), tiling=tiling, settings=EXACT)
    _assert_is_truth(tiled, pixels)


# --- promise 2: a pure function ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("town") / "town.tif", _town(), tiled=True, blockxsize=64, blockysize=32)


@pytest.fixture(scope="module")
def expected(town: Path) -> gpd.GeoDataFrame:
    tiling = Tiling(core=48, halo=16, block=1)
    return geoseg.extract(town, Painted(), tiling=tiling, settings=_settings(engine={"workers": 1}))


@pytest.mark.parametrize("block", [1, 2, 3, 9])
@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (3, 5), (2, 64)])
def test_grouping_and_workers_change_nothing(
    town: Path, expected: gpd.GeoDataFrame, block: int, workers: int, batch: int
) -> None:
    found = geoseg.extract(
        town,
        Painted(),
        tiling=Tiling(core=48, halo=16, block=block),
        settings=_settings(engine={"workers": workers}, detect={"batch": batch}),
    )
    assert_geodataframe_equal(found, expected)


def test_a_cluster_changes_nothing(town: Path, expected: gpd.GeoDataFrame) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60) as cluster:
        found = geoseg.extract(
            town,
            Painted(),
            tiling=Tiling(core=48, halo=16, block=2),
            settings=EXACT,
            scheduler=cluster.scheduler_address,
        )
    assert_geodataframe_equal(found, expected)


def test_the_run_has_an_identity(town: Path, tmp_path: Path) -> None:
    def identity(raster: Path = town, card: ModelCard = CARD, **sections: dict[str, Any]) -> str:
        return geoseg.run(raster, Painted(card=card), settings=_settings(**sections)).report.run

    same = identity()
    assert same == identity(engine={"workers": 1}, detect={"batch": 2}, tiling={"block": 1})
    copied = tmp_path / "under another name.tif"
    copied.write_bytes(town.read_bytes())
    assert same == identity(copied)
    others = [
        identity(vectorize={"tolerance_px": 0.5}),
        identity(detect={"score_threshold": 0.51}),
        identity(tiling={"core": 50}),
        identity(card=ModelCard(classes=("first", "second"), name="painted", version="2", core=64, halo=16)),
        identity(write_raster(tmp_path / "other.tif", _town().T.copy())),
        geoseg.run(town, Trained(digest="a"), settings=EXACT).report.run,
        geoseg.run(town, Trained(digest="b"), settings=EXACT).report.run,
    ]
    assert len({same, *others}) == 8


@dataclass(frozen=True, kw_only=True)
class Trained(Painted):
    """Has weights, which say which they are."""

    digest: str


def test_ids_do_not_follow_the_name_of_the_file(town: Path, expected: gpd.GeoDataFrame, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.tif"
    renamed.write_bytes(town.read_bytes())
    found = geoseg.extract(renamed, Painted(), tiling=Tiling(core=48, halo=16), settings=EXACT)
    assert found["raster"].unique().tolist() == ["renamed.tif"]
    assert found["id"].tolist() == expected["id"].tolist()


# --- promise 3: nothing silently missing ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Blind(Painted):
    """Looks at pixels whether they are valid or not."""

    def _one(self, chip: Chip) -> Instances:
        return super()._one(Chip(tile=chip.tile, pixels=chip.pixels, valid=np.ones_like(chip.valid)))


def test_nodata_is_a_gap_and_empty_tiles_are_not_seen(tmp_path: Path) -> None:
    pixels = np.zeros((100, 140), np.uint8)
    pixels[:, :] = 200
    pixels[20:30, 90:110] = 1  # 4 px of 20 on valid ground
    pixels[50:60, 80:98] = 3  # 14 of 18
    pixels[70:80, 20:40] = 5  # all of it
    valid = np.zeros_like(pixels)
    valid[:, :94] = 255
    path = write_raster(tmp_path / "collar.tif", np.stack([pixels, valid]), photometric="minisblack", alpha="yes")
    model = Blind(ignore=(200,))
    done = geoseg.run(path, model, tiling=Tiling(core=20, halo=10), settings=EXACT)
    assert sorted(done.footprints["score"]) == pytest.approx([0.5 + 3 / 512, 0.5 + 5 / 512])
    assert done.footprints.set_index("score")["cut_by_edge"].tolist() == [True, False]
    (gap,) = done.gaps.itertuples()
    assert gap.reason == "nodata" and gap.geometry.area == pytest.approx(46 * 100 * pixel_area("north_up"))
    assert gap.area_m2 == pytest.approx(46 * 100 * 0.25, rel=2e-3)
    assert max(chip.tile.col for chip in model.seen) == 4
    report = done.report
    assert (report.tiles_planned, report.tiles_examined, report.tiles_empty) == (35, 25, 10)
    assert report.complete and report.exit_code == 0
    assert report.gaps_m2["nodata"] == pytest.approx(gap.area_m2, abs=0.01)


@pytest.mark.parametrize("tiling", [Tiling(core=300, halo=0), Tiling(core=30, halo=10)])
def test_a_collar_of_few_pixels_is_a_gap_and_cuts(tmp_path: Path, tiling: Tiling) -> None:
    pixels = np.full((120, 200), 100, np.uint8)
    pixels[40:60, 2:30] = 1
    pixels[35:65, :2] = 0
    pixels[80:84, 60:64] = 0  # dead pixels: no gap
    path = write_raster(tmp_path / "collar.tif", pixels, nodata=0)
    done = geoseg.run(path, Painted(ignore=(100,)), tiling=tiling, settings=EXACT)
    assert done.footprints["cut_by_edge"].tolist() == [True]
    (gap,) = done.gaps.itertuples()
    assert gap.reason == "nodata" and gap.geometry.area == pytest.approx(60 * pixel_area("north_up"))


def test_an_aoi_that_threads_share_is_not_prepared(town: Path) -> None:
    """GEOS, asked by several threads at once after what is prepared, ended the process."""
    info = open_raster(town)
    area = gpd.GeoSeries(info.grid.geometry_to_world(shapely.box([20], [10], [150], [110])), crs=info.grid.crs)
    job = Job.of(info, Painted(), aoi=area.to_frame("geometry"), tiling=Tiling(core=64, halo=16), settings=EXACT)
    ground, objects = job.ground([]), shapely.box([30, 140, 160], [20, 30, 50], [40, 159, 180], [30, 50, 70])
    assert ground._wanted(objects).tolist() == [True, True, False]
    assert not ground._cut(objects)[0]
    assert not shapely.is_prepared([ground.scope.aoi, ground.scope.reach]).any()


@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
def test_a_map_whose_corners_lie_nowhere_on_the_earth(tmp_path: Path, crs: str | None) -> None:
    """An equal-area one: what it measures on the map is the truth."""
    pixels = boxes((90, 120), (20, 30, 50, 60), (40, 46, 2, 20), (0, 6, 0, 9), (60, 75, 90, 92))
    place = Affine(230_000, 0, 4_321_000 - 60 * 230_000, 0, -300_000, 3_210_000 + 45 * 300_000)
    rim = shapely.Point(4_321_000, 3_210_000).buffer(2 * 6_371_007.18, quad_segs=500)  # of the sphere of equal area
    inner, across, nowhere, tall = (shape for _, shape in sorted(areas_of(pixels, place), key=lambda each: each[0]))
    assert nowhere.disjoint(rim) and across.crosses(rim.exterior) and rim.contains(inner) and rim.contains(tall)
    cols, rows = np.meshgrid(np.arange(120) + 0.5, np.arange(90) + 0.5)
    seen = np.where(shapely.contains_xy(rim, *np.array(place @ (cols, rows))) & (pixels == 0), 100, pixels)
    raster = tmp_path / "a.tif"
    write_raster(raster, seen.astype(np.uint8), crs="EPSG:3035", transform=place, nodata=0)
    settings = _settings(output={"crs": crs})
    done = geoseg.run(raster, Painted(ignore=(100,)), tiling=Tiling(core=32, halo=8), settings=settings)
    table = done.footprints.sort_values("score")
    truth = [inner.area, across.intersection(rim).area, tall.area]
    np.testing.assert_allclose(table["area_m2"], truth, rtol=3e-3)  # the rim is a circle but for the flattening
    assert list(table["cut_by_edge"]) == [False, True, False]
    assert table.is_valid.all() and np.isfinite(table.total_bounds).all() and np.isfinite(done.gaps.total_bounds).all()
    assert done.report.complete and "inf" not in str(done.report.extent).lower()
    empty = shapely.union_all([shape for value, shape in areas_of(seen == 0, place)])
    assert done.report.gaps_m2["nodata"] == pytest.approx(empty.intersection(rim).area, rel=0.03)


def test_what_cannot_be_read_is_a_gap_and_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(100, 255, (256, 320), dtype=np.uint8)
    pixels[10:30, 10:40] = 1
    path = write_raster(tmp_path / "cut.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    tiling, model = Tiling(core=64, halo=8), Painted(ignore=tuple(range(100, 256)))
    done = geoseg.run(path, model, tiling=tiling, settings=EXACT)
    assert len(done.footprints) == 1
    assert not done.report.complete and done.report.exit_code == 1
    assert done.report.tiles_unreadable > 0
    assert done.report.tiles_examined + done.report.tiles_unreadable == done.report.tiles_planned == 20
    (gap,) = done.gaps.itertuples()
    assert gap.reason == "unreadable" and gap.detail
    assert gap.geometry.area / pixel_area("north_up") == pytest.approx(done.report.tiles_unreadable * 64 * 64)
    with pytest.warns(geoseg.IncompleteWarning, match="unreadable"):
        geoseg.extract(path, model, tiling=tiling, settings=EXACT)


@dataclass(frozen=True, kw_only=True)
class Greedy(Painted):
    """Runs out of memory on more than two chips at a time."""

    def predict(self, chips: list[Chip]) -> list[Instances]:
        if len(chips) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().predict(chips)


def test_out_of_memory_halves_the_batch(town: Path, expected: gpd.GeoDataFrame) -> None:
    tiling = Tiling(core=48, halo=16, block=3)
    done = geoseg.run(town, Greedy(), tiling=tiling, settings=_settings(detect={"batch": 7}))
    assert_geodataframe_equal(done.footprints, expected)
    (warning,) = done.report.warnings
    assert "halved 2 times, down to 1 chip" in warning and done.report.exit_code == 0


@dataclass(frozen=True, kw_only=True)
class Choking(Painted):
    """Fails on some tiles whatever the batch."""

    on: frozenset[tuple[int, int]]

    def predict(self, chips: list[Chip]) -> list[Instances]:
        bad = [chip.tile for chip in chips if (chip.tile.row, chip.tile.col) in self.on]
        if bad:
            raise MemoryError("no room")
        return super().predict(chips)


def test_a_tile_that_fails_is_a_gap(town: Path) -> None:
    tiling = Tiling(core=48, halo=16, block=2)
    done = geoseg.run(town, Choking(on=frozenset({(3, 4)})), tiling=tiling, settings=EXACT)
    assert done.report.exit_code == 1 and done.report.tiles_failed == 1 and not done.report.warnings
    (gap,) = done.gaps.itertuples()
    assert gap.reason == "failed" and gap.detail.startswith("MemoryError: no room (in predict, line ")
    assert gap.geometry.area / pixel_area("north_up") == 6 * 38
    assert done.report.megapixels * 1e6 == 150 * 230 - 6 * 38
    labels = done.footprints["label"].value_counts()
    assert labels["first"] == 5 and labels["second"] == 2
    assert done.footprints.loc[done.footprints.intersects(gap.geometry), "cut_by_edge"].all()


@dataclass(frozen=True, kw_only=True)
class Broken(Painted):
    """Fails, once it has seen so many chips."""

    error: Exception
    after: int = 0

    def predict(self, chips: list[Chip]) -> list[Instances]:
        if len(self.seen) >= self.after:
            raise self.error
        return super().predict(chips)


@pytest.mark.parametrize(
    ("error", "after", "core", "kind"),
    [
        (MemoryError("no room"), 0, 48, ResourceError),  # 20 tiles: given up in between
        (MemoryError("no room"), 0, 100, ResourceError),  # 6 tiles: all of them
        (ValueError("a mistake"), 0, 48, ModelError),
        (ValueError("a mistake"), 0, 100, ModelError),
        (RuntimeError("CUDA error: unspecified launch failure"), 0, 100, ResourceError),
        (RuntimeError("it worked before"), 4, 48, ResourceError),
    ],
)
def test_a_detector_that_only_fails_is_an_error(
    town: Path, error: Exception, after: int, core: int, kind: type[GeosegError]
) -> None:
    with pytest.raises(kind, match=str(error)) as caught:
        geoseg.extract(
            town, Broken(error=error, after=after), tiling=Tiling(core=core, halo=16, block=1), settings=EXACT
        )
    assert type(caught.value) is kind


def test_most_tiles_failing_here_and_there_is_an_error(town: Path) -> None:
    most = frozenset((row, col) for row in range(4) for col in range(5) if col != row)  # 16 of 20, never 8 in a row
    with pytest.raises(ResourceError, match="16 of the 20 tiles"):
        geoseg.extract(
            town,
            Choking(on=most),
            tiling=Tiling(core=48, halo=16, block=8),
            settings=_settings(engine={"workers": 1}),
        )


@dataclass(frozen=True, kw_only=True)
class Raving(Painted):
    """Says what cannot be used of the tile in the corner."""

    what: str

    def _one(self, chip: Chip) -> Instances:
        if (chip.tile.row, chip.tile.col) != (3, 4):
            return super()._one(chip)
        mask = np.full((4, 4), np.nan if self.what == "NaN" else 1.0)
        box = [3, 3, 3, 9] if self.what == "empty" else [3, 3, 9, 9]
        return Instances(boxes=np.array([box]), scores=[0.9], labels=[0], masks=[mask])  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["NaN", "empty"])
def test_one_answer_that_cannot_be_used_is_a_gap(town: Path, expected: gpd.GeoDataFrame, what: str) -> None:
    done = geoseg.run(town, Raving(what=what), tiling=Tiling(core=48, halo=16, block=3), settings=EXACT)
    assert done.report.exit_code == 1 and done.report.tiles_failed == 1 and done.report.tiles_examined == 19
    (gap,) = done.gaps.itertuples()
    assert gap.reason == "failed" and what in gap.detail
    assert gap.geometry.area / pixel_area("north_up") == 6 * 38
    elsewhere = expected[~expected.intersects(gap.geometry)]
    assert set(elsewhere["id"]) <= set(done.footprints["id"])


def test_a_raster_that_is_gone_when_the_work_begins_is_told_as_such(town: Path, tmp_path: Path) -> None:
    path = tmp_path / "town.tif"
    path.write_bytes(town.read_bytes())
    info = open_raster(path)
    path.unlink()
    with pytest.raises(RasterError, match="6 of the 6 tiles"):
        geoseg.run(info, Painted(), tiling=Tiling(core=100, halo=16, block=1), settings=EXACT)


@dataclass(frozen=True, kw_only=True)
class Shared(Painted):
    """On its first call the raster goes away, for all who have not opened it yet."""

    path: Path

    def predict(self, chips: list[Chip]) -> list[Instances]:
        if self.path.exists():
            self.path.rename(self.path.with_suffix(".away"))
        return super().predict(chips)


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be renamed")
def test_a_raster_is_opened_once_per_worker_not_once_per_block(town: Path, tmp_path: Path) -> None:
    path = tmp_path / "town.tif"
    path.write_bytes(town.read_bytes())
    one = _settings(engine={"workers": 1})
    done = geoseg.run(path, Shared(path=path), tiling=Tiling(core=48, halo=16, block=1), settings=one)
    assert not path.exists() and done.report.exit_code == 0 and done.report.tiles_examined == 20


# --- areas of interest ------------------------------------------------------------------------------------


def _lonlat(place: str, *pixel_box: float) -> Any:
    """A box of columns and rows, on the ground, in EPSG:4326."""
    crs, t = PLACES[place]
    ground = shapely.transform(
        shapely.segmentize(shapely.box(*pixel_box), 5),
        lambda xy: np.column_stack([t.a * xy[:, 0] + t.b * xy[:, 1] + t.c, t.d * xy[:, 0] + t.e * xy[:, 1] + t.f]),
    )
    return gpd.GeoSeries([ground], crs=crs).to_crs(4326).iloc[0]


@pytest.mark.parametrize("place", ["north_up", "rotated", "south_up"])
def test_objects_with_their_point_in_the_aoi_are_kept_whole(tmp_path: Path, place: str) -> None:
    path = write_raster(tmp_path / "town.tif", _town(), place)
    tiling = Tiling(core=24, halo=24, block=2)
    everything = geoseg.extract(path, Painted(), tiling=tiling, settings=EXACT)
    # The two boxes reach 24 pixels out of it, one halo; the L has its point outside; the ring lies inside.
    area = _lonlat(place, 44, 8, 163, 145)
    done = geoseg.run(path, Painted(), aoi=area, tiling=tiling, settings=EXACT)
    inside = gpd.GeoSeries([area], crs=4326).to_crs(everything.crs).iloc[0]
    wanted = everything[everything.representative_point().within(inside)]
    assert 3 <= len(wanted) < len(everything)
    # The strip reaches out of all that is read, and is cut there; it is told by its length.
    small = wanted[wanted["id"] != everything.loc[everything.length.idxmax(), "id"]]
    assert set(small["id"]) <= set(done.footprints["id"])
    assert len(done.footprints) == len(wanted)
    (gap,) = done.gaps.itertuples()
    assert gap.reason == "outside_aoi"
    assert gap.geometry.area / pixel_area(place) == pytest.approx(150 * 230 - 119 * 137, rel=1e-6)
    assert done.report.exit_code == 0
    assert 0 < done.report.tiles_planned < 70


def test_lon_and_lat_decide_who_is_in_the_aoi(tmp_path: Path) -> None:
    path, tiling = write_raster(tmp_path / "town.tif", _town(), "rotated"), Tiling(core=24, halo=24, block=2)
    everything = geoseg.extract(path, Painted(), tiling=tiling, settings=EXACT)
    crs, transform = PLACES["rotated"]
    points = gpd.GeoSeries(gpd.points_from_xy(everything["lon"], everything["lat"]), crs=4326).to_crs(crs)
    columns = [(~transform @ (point.x, point.y))[0] for point in points]
    tried = 0
    for column, name, shape in zip(columns, everything["id"], everything.geometry, strict=True):
        left, _, right, _ = shapely.transform(
            shape, lambda xy: np.column_stack(~transform @ (xy[:, 0], xy[:, 1]))
        ).bounds
        if column - left > 23 or right - left > 100:
            continue  # it would be cut, and have another point
        for step in (-0.02, 0.02):
            area = _lonlat("rotated", column + step, -9, 240, 160)
            found = geoseg.extract(path, Painted(), aoi=area, tiling=tiling, settings=EXACT)
            assert (name in set(found["id"])) == (step < 0)
        tried += 1
    assert tried >= 2


def test_an_aoi_that_misses_the_raster_is_nothing_to_do(town: Path) -> None:
    model = Painted()
    done = geoseg.run(town, model, aoi="10,10,10.1,10.1", settings=EXACT)
    assert len(done.footprints) == 0 and list(done.footprints.columns) == [*COLUMNS, "geometry"]
    assert done.footprints.crs.to_epsg() == 32645
    assert done.report.exit_code == 0 and done.report.tiles_planned == 0 and model.seen == []
    assert done.gaps["reason"].tolist() == ["outside_aoi"]
    (warning,) = done.report.warnings
    assert "does not meet the raster" in warning


@pytest.mark.parametrize("place", ["rotated", "degrees"])
def test_a_report_is_enough_to_run_again(tmp_path: Path, place: str) -> None:
    path = write_raster(tmp_path / "town.tif", _town(), place)
    area = shapely.transform(
        shapely.MultiPolygon([shapely.box(30, 20, 80, 150), shapely.Polygon([(90, 10), (220, 60), (130, 140)])]),
        lambda xy: np.column_stack(PLACES[place][1] @ (xy[:, 0], xy[:, 1])),
    )
    aoi = gpd.GeoDataFrame(geometry=[area], crs=PLACES[place][0])
    done = geoseg.run(path, Painted(), aoi=aoi, tiling=Tiling(core=37, halo=13, block=2), settings=EXACT)
    told = done.report
    assert (told.core, told.halo, told.block, told.score_threshold, told.model_gsd_m) == (37, 13, 2, 0.5, None)
    again = geoseg.run(
        path,
        Painted(),
        aoi=told.aoi,
        tiling=Tiling(core=told.core, halo=told.halo, block=told.block),
        settings=Settings.model_validate(json.loads(json.dumps(told.settings))),
    )
    assert again.report.run == told.run
    assert_geodataframe_equal(again.footprints, done.footprints)


def test_a_clock_that_is_set_back_during_a_run_makes_no_time_negative(
    town: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SetBack(datetime):
        asked = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            cls.asked += 1
            return datetime.now(tz) - timedelta(hours=cls.asked)

    importlib.import_module("geoseg.extraction")
    for module in [each for name, each in sys.modules.items() if name.startswith("geoseg.")]:
        if vars(module).get("datetime") is datetime:
            monkeypatch.setattr(module, "datetime", SetBack)
    report = geoseg.run(town, Painted()).report
    assert SetBack.asked and report.seconds > 0 and report.mp_per_s > 0


def test_progress_counts_the_tiles_that_are_asked_for(town: Path) -> None:
    calls: list[tuple[int, int]] = []
    x, y = 350_000, 3_050_000
    sliver = shapely.Polygon([(x, y - 1), (x + 114, y - 74), (x + 114, y - 73)])
    done = geoseg.run(
        town,
        Painted(),
        aoi=gpd.GeoSeries([sliver], crs=32645),
        tiling=Tiling(core=20, halo=2, block=3),
        settings=EXACT,
        progress=lambda *counts: calls.append(counts),
    )
    planned = done.report.tiles_planned
    assert 12 < planned < 60  # of 96
    assert calls[-1] == (planned, planned) and {total for _, total in calls} == {planned}


# --- what a detector gets and gives -----------------------------------------------------------------------


def test_a_custom_detector_gets_the_rasters_own_values(tmp_path: Path) -> None:
    pixels = np.arange(4 * 30 * 50, dtype=np.uint16).reshape(4, 30, 50) + 1000
    model = Painted(ignore=tuple(range(70_000)))
    path = write_raster(tmp_path / "deep.tif", pixels, photometric="minisblack")
    found = geoseg.extract(path, model, tiling=Tiling(core=20, halo=4), settings=EXACT)
    assert len(found) == 0 and len(model.seen) == 6
    for chip in model.seen:
        window = chip.tile.window
        part = pixels[:, window.row_off : window.row_end, window.col_off : window.col_end]
        assert chip.pixels.dtype == np.uint16 and (chip.pixels == part).all() and chip.valid.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (33, 1)])
def test_the_smallest_rasters_are_rasters(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = write_raster(tmp_path / "small.tif", np.ones(shape, np.uint8))
    (found,) = geoseg.extract(path, Painted(), tiling=Tiling(core=16, halo=8), settings=EXACT).itertuples()
    assert found.geometry.area == pytest.approx(shape[0] * shape[1] * pixel_area("north_up"))
    assert found.cut_by_edge


def test_imagery_is_resampled_to_the_models_gsd(tmp_path: Path) -> None:
    card = ModelCard(classes=("first", "second"), name="coarse", gsd_m=1.0, core=40, halo=16)
    pixels = np.zeros((120, 200), np.uint8)
    pixels[20:60, 40:100] = 255
    model = Painted(card=card, ignore=tuple(range(1, 128)))
    path = write_raster(tmp_path / "fine.tif", pixels)
    done = geoseg.run(path, model, settings=EXACT)
    assert {chip.tile.window.width for chip in model.seen} == {56, 72, 36}
    assert done.report.gsd_m == pytest.approx(1.0, rel=0.01)
    truth = truth_of(pixels)[0][1]
    assert shapely.hausdorff_distance(done.footprints.union_all(), truth) <= 1.0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "NoneType for 1 chips"),
        ([], "nothing for 1 chips"),
        ([Instances(), Instances()], "Instances, Instances for 1 chips"),
        ([{"boxes": []}], "dict for 1 chips"),
        ([Instances(boxes=[[0, 0, 5, 5]], scores=[1], labels=[2], masks=[np.ones((5, 5), bool)])], "label 2"),
    ],
)
def test_an_answer_that_is_none_is_told(town: Path, answer: Any, said: str) -> None:
    class Odd:
        card = CARD

        def predict(self, chips: list[Chip]) -> Any:
            return answer

    with pytest.raises(ModelError, match=said):
        geoseg.extract(town, Odd(), tiling=Tiling(core=256, halo=0), settings=EXACT)


@pytest.mark.parametrize("model", ["buildings", None, CARD, type("NoCard", (), {"predict": print, "card": 3})()])
def test_what_is_no_detector_is_refused(town: Path, model: Any) -> None:
    with pytest.raises(ModelError, match="load_model"):
        geoseg.extract(town, model)


def test_a_class_is_no_detector_and_a_number_no_tiling(town: Path) -> None:
    class Blind:
        card = CARD

        def predict(self, chips: list[Chip]) -> list[Instances]:
            return [Instances() for _ in chips]

    with pytest.raises(ModelError, match=r"the class Blind as a model.*Blind\(\)"):
        geoseg.extract(town, Blind)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"a tiling of type int.*Tiling\(core=512"):
        geoseg.extract(town, Blind(), tiling=256)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"settings of type dict.*model_validate"):
        geoseg.extract(town, Blind(), settings={"detect": {"batch": 2}})  # type: ignore[arg-type]


# --- settings ---------------------------------------------------------------------------------------------


def test_scores_under_the_threshold_are_dropped(town: Path, expected: gpd.GeoDataFrame) -> None:
    tiling = Tiling(core=48, halo=16)
    for threshold in (0.0, 0.505, 1.0):
        found = geoseg.extract(
            town, Painted(), tiling=tiling, settings=_settings(detect={"score_threshold": threshold})
        )
        assert sorted(found["score"]) == sorted(s for s in expected["score"] if s >= threshold)


def test_small_footprints_are_dropped_whole(town: Path, expected: gpd.GeoDataFrame) -> None:
    found = geoseg.extract(
        town, Painted(), tiling=Tiling(core=48, halo=16), settings=_settings(vectorize={"min_area_m2": 100.0})
    )
    assert set(found["id"]) == set(expected.loc[expected["area_m2"] >= 100.0, "id"])
    assert 0 < len(found) < len(expected)


def test_the_output_may_have_another_crs(town: Path, expected: gpd.GeoDataFrame) -> None:
    other = _settings(output={"crs": "EPSG:4326"})
    found = geoseg.extract(town, Painted(), tiling=Tiling(core=48, halo=16), settings=other)
    assert found.crs.to_epsg() == 4326
    assert found["area_m2"].tolist() == expected["area_m2"].tolist()
    assert_geodataframe_equal(found.drop(columns="run"), expected.to_crs(4326).drop(columns="run"))


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_what_crosses_the_antimeridian_is_cut_there_in_degrees(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((40, 300), np.uint8)
    pixels[10:30, 100:200] = pixels[10:30, 10:30] = 1
    where = Affine(0.5, 0, 818_363.2 - 75, 0, -0.5, 8_048_223)  # column 150 is at 180 degrees
    path = write_raster(tmp_path / "a.tif", pixels, crs="EPSG:32760", transform=where)
    tiling, there = Tiling(core=512, halo=0), _settings(output={"crs": "EPSG:4326"})
    aoi = (179.9, -17.64, 179.99999, -17.6)
    done = geoseg.run(path, Painted(), tiling=tiling, settings=there, aoi=aoi)
    assert len(done.gaps) and (shapely.area(done.gaps.geometry) < 1e-5).all()
    done = geoseg.run(path, Painted(), tiling=tiling, settings=there)
    target = geoseg.write(done.footprints, tmp_path / f"out{suffix}", gaps=done.gaps)
    table = gpd.read_parquet(target) if suffix == ".parquet" else gpd.read_file(target, layer=0)
    parts = shapely.get_parts(table.geometry.to_numpy())
    assert len(table) == 2 and len(parts) == 3
    assert all(part.bounds[2] - part.bounds[0] < 0.001 for part in parts), "one lies around the earth"
    measured = table.to_crs(32760).area.to_numpy()
    assert measured == pytest.approx(table["area_m2"].to_numpy(), rel=5e-3)


def test_bad_settings_are_refused_before_any_work(town: Path, tmp_path: Path) -> None:
    model = Painted()
    with pytest.raises(ConfigError, match="EPSG:nothing"):
        geoseg.extract(town, model, settings=_settings(output={"crs": "EPSG:nothing"}))
    for crs, why in {
        "": "at least 1 character",
        "EPSG:5703": "Vertical CRS",
        "EPSG:4978": "Geocentric CRS",
        'LOCAL_CS["site",UNIT["metre",1]]': "Engineering CRS",
        "+proj=geos +h=35785831 +lon_0=-100": "no place of a raster",  # the other side of the earth
    }.items():
        with pytest.raises(ConfigError, match=why):
            geoseg.extract(town, model, settings=_settings(output={"crs": crs}))
    with pytest.raises(ConfigError, match="halo"):
        geoseg.extract(town, model, settings=_settings(tiling={"core": 10, "halo": 11}))
    with pytest.raises(RasterError):
        geoseg.extract(tmp_path / "absent.tif", model)
    assert model.seen == []


def test_progress_goes_from_tile_to_tile_to_the_end(town: Path) -> None:
    calls: list[tuple[int, int]] = []
    geoseg.extract(
        town,
        Painted(),
        tiling=Tiling(core=48, halo=16, block=2),
        settings=EXACT,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (20, 20) and len(calls) == 6
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_the_report_is_plain_and_complete(town: Path) -> None:
    done = geoseg.run(town, Painted(), tiling=Tiling(core=48, halo=16), settings=EXACT)
    values = json.loads(json.dumps(done.report.as_dict()))
    assert values["raster"] == "town.tif" and values["model"] == "painted" and values["complete"] is True
    assert values["tiles_planned"] == values["tiles_examined"] == 20 and values["footprints"] == 7
    assert values["megapixels"] == pytest.approx(0.0345) and values["versions"]["geoseg"] == geoseg.__version__
    assert done.footprints["run"].unique().tolist() == [values["run"]]
    assert values["devices"] == [] and "torch" in values["versions"]
    assert pickle.loads(pickle.dumps(done.report)) == done.report
