"""Shapes in a run: each square metre once, shared borders, and nothing that depends on order or grouping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import CRS
from shapely.affinity import rotate, translate

import geoseg
from geoseg.config import Settings, ShapesSettings
from geoseg.detectors.base import ModelCard
from geoseg.errors import ModelError
from geoseg.grid import Grid
from geoseg.instances import Chip, Instances
from geoseg.neighbourhood import influence, reached, together
from geoseg.outlines import Outlines
from geoseg.shaping import Shaping, drafted, settled, shaped
from geoseg.vectorize.cells import cell_outlines

METRES = Grid(crs=CRS.from_epsg(32633), transform=Affine(0.3, 0, 5e5, 0, -0.3, 5e6), height=700, width=500)
ROTATED = replace(METRES, transform=METRES.transform @ Affine.rotation(21))
SOUTH_UP = replace(METRES, transform=Affine(0.3, 0, 5e5, 0, 0.3, 5e6))
OBLONG = replace(METRES, transform=METRES.transform @ Affine.scale(0.8, 1.3))
DEGREES = Grid(crs=CRS.from_epsg(4326), transform=Affine(4e-6, 0, 11, 0, -4e-6, 60), height=700, width=500)
GRIDS = [METRES, ROTATED, SOUTH_UP, OBLONG, DEGREES]
WAYS = ["none", "buildings", "ships"]


def rule(way: str = "none", *, grid: Grid = METRES, **more: Any) -> Shaping:
    chosen = ShapesSettings.model_validate({"regularize": way, **more})
    return Shaping.of(chosen, ModelCard(classes=("a", "b")), grid)


def table(shapes: list[Any], labels: list[int] | None = None) -> Outlines:
    """Rows with scores that all differ."""
    geometry = np.empty(len(shapes), dtype=object)
    geometry[:] = shapes
    n = len(shapes)
    return Outlines(
        geometry=geometry,
        scores=(0.5 + 0.4 * np.sin(np.arange(n) + 1)).astype(np.float32),
        labels=np.array(labels or [0] * n, np.int64),
        tiles=np.zeros((n, 2), np.int32),
    )


def in_common(geometry: NDArray[Any]) -> float:
    """Area that more than one covers."""
    one, other = shapely.STRtree(geometry).query(geometry)
    pair = one < other
    return float(shapely.area(shapely.intersection(geometry[one[pair]], geometry[other[pair]])).sum())


def ragged(shape: Any, seed: int, *, off: float = 0.3) -> Any:
    """An outline with a vertex every three pixels, each a little off."""
    rng = np.random.default_rng(seed)
    xy = shapely.get_coordinates(shapely.segmentize(shape.exterior, 3.0))[:-1]
    return shapely.make_valid(shapely.Polygon(xy + rng.normal(0, off, xy.shape)))


box = st.builds(
    lambda x, y, w, h, a: translate(rotate(shapely.box(0, 0, w, h), a), x, y),
    st.floats(100, 200), st.floats(150, 300), st.floats(12, 50), st.floats(8, 40), st.floats(0, 90),
)  # fmt: skip
boxes = st.lists(box, min_size=1, max_size=8)
ways = st.sampled_from(WAYS)


@settings(max_examples=25, deadline=None)
@given(boxes, ways)
def test_each_square_metre_belongs_to_one_footprint(shapes: list[Any], way: str) -> None:
    found = shaped(table(shapes), rule(way)).geometry
    kept = found[~shapely.is_empty(found)]
    assert shapely.is_valid(found).all()
    assert set(shapely.get_type_id(kept).tolist()) <= {3, 6}
    assert shapely.coverage_is_valid(kept)
    assert in_common(kept) == pytest.approx(0, abs=1e-9)


@settings(max_examples=18, deadline=None)
@given(boxes)
def test_without_redrawing_the_ground_stays_covered(shapes: list[Any]) -> None:
    """But for specks, which are dropped where asked: small parts of a cut outline that are no slivers."""
    raw = table(shapes)
    before = shapely.union_all(raw.geometry)
    after = shapely.union_all(shaped(raw, rule(gap_px=0.0, min_part=0.0)).geometry)
    assert before.symmetric_difference(after).area < 2e-3 * shapely.length(raw.geometry).sum()
    closed = shapely.union_all(shaped(raw, rule(min_part=0.0)).geometry)
    assert before.difference(closed).area < 2e-3 * shapely.length(raw.geometry).sum()
    assert closed.difference(before.buffer(0.6)).area < 1e-6


@pytest.mark.parametrize("way", WAYS)
def test_a_dense_town_falls_apart_into_small_groups(way: str) -> None:
    """By what redrawing might have moved, each building has to do with the next, and all of a town is one group."""
    rng = np.random.default_rng(4)
    houses = [rotate(shapely.box(0, 0, 30, 20), rng.uniform(0, 30)) for _ in range(60)]
    town = table([ragged(translate(one, 42 * (i % 10), 40 * (i // 10)), i) for i, one in enumerate(houses)])
    group = together(drafted(town, rule(way)), rule(way))
    assert np.bincount(group).max() <= 4
    boxes = influence(town, rule(way))
    meets = ((boxes[:, None, :2] <= boxes[None, :, 2:]) & (boxes[:, None, 2:] >= boxes[None, :, :2])).all(-1)
    assert way == "none" or meets.sum() > 4 * len(town)


@settings(max_examples=30, deadline=None)
@given(boxes, ways, st.data())
def test_what_may_meet_others_keeps_waiting_what_it_may_reach(shapes: list[Any], way: str, data: Any) -> None:
    """Of what is here, that is final which has nothing to do with what may meet those that are not here."""
    raw, chosen = table(shapes), rule(way)
    away = np.array(data.draw(st.lists(st.booleans(), min_size=len(raw), max_size=len(raw))))
    doubtful = reached(raw.take(~away), raw.take(away), chosen)
    boxes = influence(raw, chosen)
    here, there = boxes[~away], boxes[away]
    meets = ((here[:, None, :2] <= there[None, :, 2:]) & (here[:, None, 2:] >= there[None, :, :2])).all(-1).any(1)
    assert (meets | ~doubtful).all()
    drafts = drafted(raw.take(~away), chosen)
    group = together(drafts, chosen, doubtful)
    sure = ~np.isin(group, group[doubtful])
    found = settled(drafts.take(sure), chosen).geometry
    whole = shaped(raw, chosen).geometry[~away][sure]
    assert all(a.equals_exact(b, 0) for a, b in zip(found, whole, strict=True))


@settings(max_examples=18, deadline=None)
@given(boxes, ways, st.randoms(use_true_random=False))
def test_order_and_grouping_change_not_a_bit(shapes: list[Any], way: str, random: Any) -> None:
    far = [translate(shape, 260, 330) for shape in shapes[:3]]
    raw = table([*shapes, *far])
    whole = shaped(raw, rule(way)).geometry
    order = np.array(random.sample(range(len(raw)), len(raw)))
    again = shaped(raw.take(order), rule(way)).geometry
    assert all(a.equals_exact(b, 0) for a, b in zip(whole[order], again, strict=True))
    group = together(drafted(raw, rule(way)), rule(way))
    assert len(np.unique(group)) > 1 or not far
    for number in np.unique(group):
        rows = np.flatnonzero(group == number)
        alone = shaped(raw.take(rows), rule(way)).geometry
        assert all(a.equals_exact(b, 0) for a, b in zip(whole[rows], alone, strict=True))


@settings(max_examples=18, deadline=None)
@given(boxes)
@example([shapely.box(100, 150, 112, 158)] * 2 + [translate(rotate(shapely.box(0, 0, 12, 14), 12), 100, 150)])
def test_shaping_twice_is_shaping_once(shapes: list[Any]) -> None:
    once = shaped(table(shapes), rule())
    twice = shaped(once, rule()).geometry
    moved = shapely.area(shapely.symmetric_difference(once.geometry, twice))
    assert (moved <= 0.01 * (1 + shapely.length(once.geometry))).all()


@settings(max_examples=15, deadline=None)
@given(box, st.integers(0, 99))
def test_what_was_redrawn_stays_so(shape: Any, seed: int) -> None:
    once = shaped(table([ragged(shape, seed)]), rule("buildings"))
    twice = shaped(once, rule("buildings")).geometry
    assert shapely.area(shapely.symmetric_difference(once.geometry, twice))[0] < 0.02 * shape.area


@settings(max_examples=15, deadline=None)
@given(boxes, ways, st.integers(-90, 90), st.integers(0, 200))
def test_shapes_move_and_turn_with_the_outlines(shapes: list[Any], way: str, right: int, turn: int) -> None:
    quarter = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)][turn % 4]
    square = replace(METRES, height=800, width=800)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy[:, 0] - 256, xy[:, 1] - 256
        turned = np.column_stack([quarter[0] * x + quarter[1] * y, quarter[2] * x + quarter[3] * y])
        return np.asarray(turned + np.array([400 + right, 400]))

    raw = table([ragged(shape, k, off=0.1) for k, shape in enumerate(shapes)])
    here = shapely.transform(shaped(raw, rule(way, grid=square)).geometry, move)
    there = shaped(replace(raw, geometry=shapely.transform(raw.geometry, move)), rule(way, grid=square)).geometry
    moved = shapely.area(shapely.symmetric_difference(here, there))
    # Not to the bit: sums run in another order, and what hangs on a hair may fall to the other side.
    assert np.median(moved / (1 + shapely.area(here))) < 1e-3


def test_the_better_score_keeps_the_ground() -> None:
    pair = table([shapely.box(100, 100, 140, 130), shapely.box(130, 100, 150, 130)])
    pair = replace(pair, scores=np.array([0.6, 0.9], np.float32))
    assert shapely.area(shaped(pair, rule()).geometry).tolist() == [900, 600]
    assert shapely.area(shaped(pair, rule(resolve_overlaps=False)).geometry).tolist() == [1200, 600]


def test_classes_do_not_dispute_ground() -> None:
    pair = table([shapely.box(100, 100, 140, 130), shapely.box(130, 100, 150, 130)], labels=[0, 1])
    assert shapely.area(shaped(pair, rule()).geometry).tolist() == [1200, 600]
    assert len(np.unique(together(drafted(pair, rule()), rule()))) == 2


def test_what_nothing_is_done_to_is_returned_as_it_is() -> None:
    raw = table([ragged(shapely.box(100, 100, 150, 140), 1), ragged(shapely.box(200, 100, 250, 140), 2)])
    assert all(a is b for a, b in zip(shaped(raw, rule()).geometry, raw.geometry, strict=True))
    assert len(shaped(Outlines(), rule())) == 0


@pytest.mark.parametrize("wide", [0.6, 1.4])
def test_a_sliver_that_is_left_goes_to_the_one_that_took_the_rest(wide: float) -> None:
    under, over = shapely.box(100, 100, 140, 130), shapely.box(100, 100, 140, 130 - wide)
    raw = replace(table([under, over]), scores=np.array([0.5, 0.9], np.float32))
    found = shaped(raw, rule()).geometry
    assert shapely.is_empty(found).tolist() == [True, False]
    assert found[1].area == pytest.approx(1200)


def test_what_is_thin_by_itself_stays_where_it_loses_ground() -> None:
    bar, over = shapely.box(100, 100, 140, 101.4), shapely.box(90, 90, 135, 130)
    found = shaped(replace(table([bar, over]), scores=np.array([0.5, 0.9], np.float32)), rule()).geometry
    assert found[0].area == pytest.approx(5 * 1.4, abs=0.1)


def test_neighbours_that_were_drawn_each_on_its_own_share_a_border() -> None:
    left, right = (
        ragged(shapely.box(100, 100, 130, 160), 3, off=0.1),
        ragged(shapely.box(130, 100, 160, 160), 4, off=0.1),
    )
    assert in_common(np.array([left, right])) > 0
    found = shaped(table([left, right]), rule()).geometry
    common = shapely.length(shapely.intersection(*shapely.boundary(found)))
    assert common == pytest.approx(60, abs=2)
    whole = shapely.union_all(found)
    assert shapely.get_num_interior_rings(whole) == 0
    assert whole.buffer(0.3).buffer(-0.3).difference(whole.buffer(1e-3)).area < 1


def test_a_wide_gap_stays() -> None:
    pair = table([shapely.box(100, 100, 130, 160), shapely.box(131, 100, 160, 160)])
    for way in WAYS:
        assert shapely.distance(*shaped(pair, rule(way)).geometry) > 0
    assert shapely.distance(*shaped(pair, rule(gap_px=1.5)).geometry) == 0


@pytest.mark.parametrize("grid", GRIDS, ids=["metres", "rotated", "south-up", "oblong", "degrees"])
@pytest.mark.parametrize("degrees", [0, 17, 60])
def test_right_angles_are_right_on_the_ground(grid: Grid, degrees: float) -> None:
    x, y = grid.gsd_xy_m
    house = rotate(shapely.box(-9, -6, 9, 6), degrees)  # metres, along and across the rows
    pixel = shapely.transform(house, lambda xy: xy / [x, y] + [250, 350])
    found = shaped(table([ragged(pixel, 5, off=0.15)]), rule("buildings", grid=grid)).geometry[0]
    assert len(found.exterior.coords) == 5
    side = np.diff(shapely.get_coordinates(found), axis=0) * [x, y]
    side /= np.hypot(*side.T)[:, None]
    assert np.abs((side[:-1] * side[1:]).sum(axis=1)).max() < 0.01
    assert shapely.area(shapely.intersection(found, pixel)) > 0.96 * pixel.area


@pytest.mark.parametrize("grid", GRIDS, ids=["metres", "rotated", "south-up", "oblong", "degrees"])
def test_what_all_but_touches_itself_is_valid_in_pixels_too(grid: Grid) -> None:
    """A part whose corner lies on another's wall is laid across it by rounding, on the way back from square ground."""
    rng = np.random.default_rng(183)
    side = int(rng.integers(4, 14))
    found = cell_outlines([rng.random((side, side)) < rng.uniform(0.4, 0.7)])
    cells = shapely.from_ragged_array(shapely.GeometryType.POLYGON, found.xy, (found.rings, found.polygons))
    raw = table([translate(shapely.MultiPolygon(list(cells)), 100.3, 200.7)])
    assert shapely.is_valid(raw.geometry).all()
    drawn = shaped(raw, rule("buildings", grid=grid, tolerance_px=0.3, min_part=0.0)).geometry
    assert shapely.is_valid(drawn).all()
    assert shapely.area(drawn) == pytest.approx(shapely.area(raw.geometry), rel=0.1)


def test_nothing_is_drawn_past_the_edge_of_the_raster() -> None:
    cut = ragged(shapely.box(-20, 100, 30, 140), 6, off=0.6) & shapely.box(0, 0, 500, 700)
    for way in WAYS:
        found = shaped(table([cut]), rule(way)).geometry[0]
        assert found.bounds[0] >= 0
        assert found.area == pytest.approx(cut.area, rel=0.06)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("way", WAYS)
def test_neighbours_at_the_edge_are_not_rounded_past_it(way: str, grid: Grid) -> None:
    """Vertices of neighbours lie on a lattice, which is one of pixels only where these are square."""
    corner = [shapely.box(470.3, 640, 500, 675.4), shapely.box(480, 670, 500, 700)]
    shapes = [*corner, shapely.box(0, 0, 30.2, 12), shapely.box(0, 10, 20, 32)]
    found = shapely.bounds(shaped(table(shapes), rule(way, grid=grid)).geometry)
    assert (found[:, :2] >= 0).all() and (found[:, 2:] <= [500, 700]).all()
    assert found.min(axis=0)[:2] == pytest.approx(0, abs=2e-3)
    assert found.max(axis=0)[2:] == pytest.approx([500, 700], abs=2e-3)


def test_ships_get_hulls_and_rafts_do_not() -> None:
    ship = shapely.Polygon([(0, 0), (68, 0), (80, 7), (68, 14), (0, 14)])
    raft = shapely.union_all([translate(rotate(shapely.box(0, 0, 60, 8), 50 * k), 0, 0) for k in range(3)])
    raw = table([ragged(translate(ship, 100, 100), 7), ragged(translate(raft, 250, 300), 8)])
    hull, same = shaped(raw, rule("ships")).geometry
    assert len(hull.exterior.coords) <= 20 < len(raw.geometry[0].exterior.coords)
    assert shapely.area(hull & raw.geometry[0]) > 0.95 * ship.area
    assert same is raw.geometry[1]


def test_the_card_says_how_and_the_settings_win() -> None:
    card = ModelCard(classes=("building",), regularize="buildings")
    assert Shaping.of(ShapesSettings(), card, METRES).settings.regularize == "buildings"
    assert Shaping.of(ShapesSettings(regularize="none"), card, METRES).settings.regularize == "none"
    assert Shaping.of(ShapesSettings(), ModelCard(classes=("a",)), METRES).settings.regularize == "none"
    assert ModelCard.from_json(card.to_json()) == card
    with pytest.raises(ModelError, match="none, buildings, ships"):
        ModelCard(classes=("a",), regularize="round")


class Overlapping:
    """Two ragged houses that overlap by a strip, and one that the raster's edge cuts, wherever the tile lies."""

    card = ModelCard(classes=("building",), core=64, halo=64)

    def predict(self, chips: list[Chip]) -> list[Instances]:
        return [self._seen(chip) for chip in chips]

    def _seen(self, chip: Chip) -> Instances:
        window = chip.tile.window
        boxes, scores, masks = [], [], []
        for number, (x0, y0, x1, y1) in enumerate([(20, 20, 52, 44), (48, 20, 84, 44), (60, 70, 90, 90)]):
            a, b = max(x0, window.col_off), max(y0, window.row_off)
            c, d = min(x1, window.col_end), min(y1, window.row_end)
            if a < c and b < d:
                cells = np.ones((d - b, c - a), bool)
                cells[(np.arange(b, d) % 5 == 0)[:, None] & (np.arange(a, c) == x1 - 1)] = False  # a ragged right wall
                boxes.append([a - window.col_off, b - window.row_off, c - window.col_off, d - window.row_off])
                scores.append(0.9 - 0.1 * number)
                masks.append(cells)
        return Instances(boxes=boxes, scores=scores, labels=[0] * len(boxes), masks=masks) if boxes else Instances()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "height": 100, "width": 90, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", **profile, transform=METRES.transform) as target:
        target.write(np.full((3, 100, 90), 90, np.uint8))
    return path


def test_a_run_shapes_what_it_has_merged(scene: Path) -> None:
    def found(**shapes: Any) -> Any:
        chosen = Settings.model_validate({"shapes": shapes})
        return geoseg.extract(scene, Overlapping(), settings=chosen)

    plain, default = found(resolve_overlaps=False), found()
    assert len(plain) == len(default) == 3
    assert in_common(plain.geometry.to_numpy()) > 0
    assert in_common(default.geometry.to_numpy()) == pytest.approx(0, abs=1e-9)
    houses = found(regularize="buildings")
    assert [len(g.exterior.coords) for g in houses.geometry] == [5, 5, 5]
    assert in_common(houses.geometry.to_numpy()) == pytest.approx(0, abs=1e-9)
    assert houses["cut_by_edge"].tolist() == plain["cut_by_edge"].tolist() == [False, False, True]
    assert houses["area_m2"].to_numpy() == pytest.approx(shapely.area(houses.geometry.to_numpy()), rel=2e-3)
    assert len({table["run"].iloc[0] for table in (plain, default, houses)}) == 3
    small = Settings.model_validate({"shapes": {"regularize": "buildings"}, "tiling": {"core": 32, "halo": 32}})
    tiled = geoseg.extract(scene, Overlapping(), settings=small)
    assert tiled.geometry.geom_equals_exact(houses.geometry, 1e-6).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grid", GRIDS, ids=["metres", "rotated", "south-up", "oblong", "degrees"])
def test_pinholes_go_and_holes_of_a_pixel_stay(grid: Grid, way: str) -> None:
    def square(x: float, y: float, side: float) -> shapely.Polygon:
        return shapely.box(x, y, x + side, y + side)

    house = square(100, 100, 40) - square(110, 110, 1) - square(120, 120, 0.3) - square(125, 104, 8)
    two = square(200, 100, 30) - square(210, 110, 0.6) | square(240, 100, 20) - square(245, 105, 1.5)
    plain = square(300, 300, 9)
    found = shaped(table([house, two, plain]), rule(way, grid=grid)).geometry
    areas = shapely.area(shapely.polygons(shapely.get_rings(found)))
    assert (areas > 0.5).all() and shapely.is_valid(found).all()
    if way == "none":
        assert found[0].equals(house | square(120, 120, 0.3)) and found[1].equals(two | square(210, 110, 0.6))
        assert found[2] is plain


def test_specks_of_a_mask_go_and_real_parts_stay() -> None:
    body, wing, speck = shapely.box(10, 10, 40, 30), shapely.box(50, 10, 58, 20), shapely.box(70, 5, 75, 10)
    rows = [shapely.MultiPolygon([speck, body, wing]), shapely.MultiPolygon([speck, body]), shapely.Polygon()]
    found = shaped(table(rows), rule(resolve_overlaps=False)).geometry
    assert found[0].equals(shapely.MultiPolygon([body, wing])) and found[1].equals(body) and found[2].is_empty
    assert found[1].geom_type == "Polygon"
    kept = shaped(table(rows), rule(resolve_overlaps=False, min_part=0.0)).geometry
    assert all(a.equals(b) for a, b in zip(kept, rows, strict=True))


@pytest.mark.parametrize(
    ("large", "small"),
    [
        (shapely.box(0, 0, 60, 100) - shapely.box(28, 10, 32, 101), shapely.box(28.05, 10.5, 31.95, 99)),  # an annex
        (shapely.box(0, 0, 30, 30) - shapely.box(12, 12, 18, 18), shapely.box(12.05, 12.05, 17.95, 17.95)),
        (shapely.union(shapely.box(0, 0, 20, 30), shapely.box(23.8, 0, 45, 30)), shapely.box(20, 0, 23.8, 30)),
        (shapely.union(shapely.box(0, 0, 20, 30), shapely.box(23.8, 0, 45, 30)), shapely.box(20, 0, 23.8, 60)),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_what_stands_in_a_notch_stays(large: Any, small: Any, first: int) -> None:
    """A notch that noise of a mask might be was filled though another building stood there, which was lost."""
    pair = [large, small] if first == 0 else [small, large]
    found = shaped(table([translate(shape, 100, 100) for shape in pair]), rule("buildings")).geometry
    assert found[1 - first].area > 0.9 * small.area
    assert found[first].area == pytest.approx(large.area, rel=0.1)
    assert in_common(found) < 1e-6


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grid", GRIDS, ids=["metres", "rotated", "south-up", "oblong", "degrees"])
def test_a_small_hole_in_which_another_stands_is_no_pinhole(grid: Grid, way: str) -> None:
    """It was filled after the ground had been given out, so that two footprints covered it."""
    large = shapely.box(100, 100, 103.1, 104.3)
    small = shapely.box(110, 100, 112, 102) | shapely.box(101.2, 101.4, 101.8, 102)
    free = shapely.box(110, 110, 117, 119) - shapely.box(112, 112, 112.6, 112.6)
    found = shaped(table([large, small, free]), rule(way, grid=grid, gap_px=0.0)).geometry
    assert in_common(found) < 1e-9
    assert shapely.area(found).tolist() == pytest.approx([large.area - 0.36, 4.36, 63], rel=0.05)
    assert shapely.get_num_interior_rings(found[[0, 2]]).tolist() == [1, 0]
