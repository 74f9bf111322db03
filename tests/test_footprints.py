"""One schema, stable ids and order, true ground coordinates."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import shapely.affinity
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import numbered
from pyproj import CRS

from geoseg.detectors.base import ModelCard
from geoseg.errors import ModelError
from geoseg.footprints import COLUMNS, Told, _base32, drawn, empty
from geoseg.grid import Grid
from geoseg.measures import measure
from geoseg.outlines import Outlines
from geoseg.seams import Merged

GRID = Grid(
    crs=CRS(32645),
    transform=Affine.translation(4e5, 3e6) @ Affine.rotation(21) @ Affine.scale(0.4, -0.3),
    height=80,
    width=120,
)
CARD = ModelCard(classes=("house", "shed"), name="test", version="3")


def rows(shapes: list[Any], labels: list[int] | None = None, scores: list[float] | None = None) -> Merged:
    n = len(shapes)
    geometry = np.empty(n, dtype=object)
    geometry[:] = shapes
    outlines = Outlines(
        geometry=geometry,
        scores=np.array(scores or [0.75] * n, np.float32),
        labels=np.array(labels or [0] * n, np.int64),
        tiles=np.zeros((n, 2), np.int32),
    )
    seen = np.arange(n, dtype=np.int32) % 3 + 1
    return Merged(outlines=outlines, n_tiles=seen, agreement=np.where(seen > 1, 0.9, np.nan))


def table(merged: Merged, **options: Any) -> Any:
    grid, cut = options.pop("grid", GRID), options.pop("cut", np.zeros(len(merged), bool))
    told = Told(**({"card": CARD, "raster": "a.tif", "run": "r1"} | options))
    found, _ = drawn(merged, grid=grid, told=told, cut=cut)
    return numbered(found)


SHAPES = [shapely.box(10, 20, 30, 28), shapely.Point(60, 40).buffer(9), shapely.box(70, 60, 90, 75)]


def test_the_schema_is_the_same_with_and_without_rows() -> None:
    full, none = table(rows(SHAPES)), empty(GRID.crs)
    dtypes = {name: str(pd.Series(dtype=kind).dtype) for name, kind in COLUMNS.items()}  # pandas 2: "str" is object
    for frame in (full, none, table(rows([]))):
        assert [*COLUMNS, "geometry"] == list(frame.columns)
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {**dtypes, "geometry": "geometry"}
        assert frame.crs == GRID.crs
    assert len(none) == 0


def test_values() -> None:
    moment = datetime(2024, 5, 17, 9, 30, tzinfo=timezone(timedelta(hours=2)))
    found = table(rows(SHAPES, labels=[1, 0, 1], scores=[0.5, 0.25, 1]), acquired=moment)
    assert found["label"].tolist() == ["shed", "house", "shed"]
    assert found["score"].tolist() == [0.5, 0.25, 1]
    assert found["raster"].unique().tolist() == ["a.tif"]
    assert found["acquired"].tolist() == [pd.Timestamp(2024, 5, 17, 7, 30, tz=UTC)] * 3
    assert (found["model"] + found["model_version"] + found["run"]).unique().tolist() == ["test3r1"]
    assert found["n_tiles"].tolist() == [1, 2, 3]
    assert found["agreement"].isna().tolist() == [True, False, False]
    ground = GRID.geometry_to_world(np.array(SHAPES))
    assert shapely.hausdorff_distance(ground, found.geometry.to_numpy()).max() < 1e-6
    for name, column in measure(ground, GRID.crs).items():
        assert found[name].to_numpy() == pytest.approx(column, rel=1e-9)
    assert found["area_m2"][0] == pytest.approx(20 * 8 * 0.4 * 0.3, rel=1e-3)


def test_unknown_values_are_null() -> None:
    found = table(rows(SHAPES, scores=[np.nan, 0.5, 0.5]))
    assert found["score"].isna().tolist() == [True, False, False]
    assert found["acquired"].isna().all()
    naive = table(rows(SHAPES), acquired=datetime(2024, 5, 17))
    assert naive["acquired"][0] == pd.Timestamp(2024, 5, 17, tz=UTC)


@pytest.mark.parametrize("mirror", [1, -1])
def test_shells_run_counterclockwise_on_the_ground(mirror: int) -> None:
    transform = Affine.translation(4e5, 3e6) @ Affine.scale(0.4, -0.3 * mirror)
    grid = Grid(crs=GRID.crs, transform=transform, height=80, width=120)
    ring = shapely.box(10, 10, 40, 40).difference(shapely.box(20, 15, 30, 35))
    polygon = table(rows([ring]), grid=grid).geometry[0]
    assert polygon.exterior.is_ccw
    assert not polygon.interiors[0].is_ccw


@pytest.mark.parametrize("turn", [0, 21, 90])
def test_what_touches_itself_is_valid_on_the_ground(turn: float) -> None:
    """A corner of a hole on a wall, between its ends, is laid across it by rounding."""
    transform = Affine.translation(4e5, 3e6) @ Affine.rotation(turn) @ Affine.scale(0.3, -0.3)
    grid = Grid(crs=GRID.crs, transform=transform, height=200, width=120)
    house = shapely.Polygon([(0, 0), (6, 2), (8, 8), (2, 6)], [[(3, 1), (4, 5), (3, 4)]])
    shapes = [shapely.affinity.translate(house, 2 * k, 3 * k) for k in range(40)]
    assert shapely.is_valid(shapes).all()
    ground = table(rows(shapes), grid=grid).geometry
    assert ground.is_valid.all()
    assert set(ground.geom_type) <= {"Polygon", "MultiPolygon"}
    assert ground.area.to_numpy() == pytest.approx(0.09 * house.area, rel=1e-6)


boxes = st.builds(
    lambda x, y, w, h: shapely.box(x, y, x + w, y + h),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(1, 20),
    st.integers(1, 20),
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(boxes, st.sampled_from([0, 1]), st.sampled_from([0.5, 0.75])), max_size=12),
    st.randoms(),
)
def test_a_pure_function_of_the_set_of_rows(drawn: list[Any], random: Any) -> None:
    def build(items: list[Any]) -> Any:
        shapes, labels, scores = zip(*items, strict=True) if items else ([], [], [])
        merged = rows(list(shapes), list(labels), list(scores))
        one = np.ones(len(items), np.int32)
        return table(Merged(outlines=merged.outlines, n_tiles=one, agreement=np.full(len(items), np.nan)))

    first = build(drawn)
    random.shuffle(drawn)
    # The same ring from another start must not matter either.
    moved = [(shapely.Polygon(np.roll(shapely.get_coordinates(s)[:-1], 1, axis=0)), *rest) for s, *rest in drawn]
    again = build(moved)
    pd.testing.assert_frame_equal(pd.DataFrame(first.drop(columns="geometry")), again.drop(columns="geometry"))
    assert first.geometry.to_wkb().tolist() == again.geometry.to_wkb().tolist()
    assert first["id"].is_unique


def test_rows_come_top_to_bottom_left_to_right() -> None:
    shapes = [shapely.box(x, y, x + 3, y + 3) for x, y in [(50, 40), (9, 40), (80, 2), (5, 77)]]
    found = table(rows(shapes))
    pixel = GRID.geometry_to_pixel(found.geometry.to_numpy())
    assert np.round(shapely.bounds(pixel)[:, :2], 6).tolist() == [[80, 2], [9, 40], [50, 40], [5, 77]]


def test_ids_follow_raster_label_and_outline_and_nothing_else() -> None:
    first = table(rows(SHAPES))["id"]
    keyed = table(rows(SHAPES), raster_key="k")["id"].tolist()
    assert table(rows(SHAPES), raster="renamed.tif", raster_key="k")["id"].tolist() == keyed
    assert not set(table(rows(SHAPES), raster_key="other")["id"]) & set(keyed)
    assert table(rows(SHAPES, scores=[0.1, 0.2, 0.3]), run="r2")["id"].tolist() == first.tolist()
    assert not set(table(rows(SHAPES), raster="b.tif")["id"]) & set(first)
    assert not set(table(rows(SHAPES, labels=[1, 1, 1]))["id"]) & set(first)
    noise = [shapely.transform(shape, lambda xy: xy + 1e-9) for shape in SHAPES]
    assert table(rows(noise))["id"].tolist() == first.tolist()
    assert first.str.fullmatch("[a-z2-7]{13}").all()


def test_ids_are_base_32() -> None:
    digests = [np.random.default_rng(seed).bytes(8) for seed in range(99)] + [bytes(8), b"\xff" * 8]
    expected = [base64.b32encode(each).decode().rstrip("=").lower() for each in digests]
    assert _base32(b"".join(digests)).tolist() == expected


def test_equal_twins_have_one_id_and_come_by_score() -> None:
    twins = rows([SHAPES[0], SHAPES[0], SHAPES[1], SHAPES[0]], scores=[0.1, 0.9, 0.5, 0.4])
    found, _ = drawn(twins, grid=GRID, told=Told(card=CARD, raster="a.tif"), cut=np.zeros(4, bool))
    assert found["id"].nunique() == 2 and found["id"][:3].nunique() == 1
    assert found["score"].tolist() == pytest.approx([0.9, 0.4, 0.1, 0.5])


def test_cut_by_edge() -> None:
    shapes = [
        shapely.box(0.4, 30, 9, 35), shapely.box(0.6, 40, 9, 45), shapely.box(50, 50, 119.6, 55),
        shapely.box(50, 20, 60, 22), shapely.box(50, 70, 60, 79.5),
    ]  # fmt: skip
    found = table(rows(shapes)).set_index("area_m2")
    by_shape = found["cut_by_edge"].tolist()  # ordered by top: 20, 30, 40, 50, 70
    assert by_shape == [False, True, False, True, True]
    cut = np.array([False, False, False, True, False])
    assert table(rows(shapes), cut=cut)["cut_by_edge"].tolist() == [True, True, False, True, True]


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(ModelError, match="label 2"):
        table(rows(SHAPES, labels=[0, 2, 1]))
