"""Right-angled buildings, shared walls, hulls: nearer to the truth than raw outlines, never overlapping."""

from __future__ import annotations

import tracemalloc
from itertools import combinations, product
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.affinity import rotate, translate

from geoseg.errors import ConfigError
from geoseg.instances import Instances
from geoseg.regularize import fit_hulls, regularize_buildings, resolve_overlaps
from geoseg.regularize.buildings import around
from geoseg.regularize.cells import covered, rebuild
from geoseg.regularize.frame import dominant_angles, edges
from geoseg.regularize.ground import closed
from geoseg.regularize.straight import straighten
from geoseg.regularize.walls import IN_LINE, Walls, join_walls
from geoseg.tiling import Tile
from geoseg.vectorize import vectorize
from geoseg.window import Window

Geometries = NDArray[Any]


def table(shapes: list[Any]) -> Geometries:
    result = np.empty(len(shapes), dtype=object)
    result[:] = shapes
    return result


def iou(one: Geometries, other: Geometries) -> NDArray[np.float64]:
    both = shapely.area(shapely.intersection(one, other))
    return np.asarray(both / (shapely.area(one) + shapely.area(other) - both))


def overlap(geometry: Geometries) -> float:
    """Area that more than one polygon covers."""
    one, other = shapely.STRtree(geometry).query(geometry, predicate="intersects")
    pair = one < other
    return float(shapely.area(shapely.intersection(geometry[one[pair]], geometry[other[pair]])).sum())


def shared(geometry: Geometries) -> float:
    """Length of borders that two polygons share vertex by vertex."""
    lines = shapely.boundary(geometry)
    one, other = shapely.STRtree(lines).query(lines, predicate="intersects")
    pair = one < other
    return float(shapely.length(shapely.intersection(lines[one[pair]], lines[other[pair]])).sum())


def seen(truth: Geometries, noise: float = 0.0, seed: int = 0) -> Geometries:
    """Outlines as a network with 28 x 28 masks sees the truth: sampled, optionally disturbed, contoured."""
    rng = np.random.default_rng(seed)
    masks, boxes = [], []
    for shape in truth:
        x1, y1, x2, y2 = shapely.box(*shape.bounds).buffer(1, join_style="mitre").bounds
        xs, ys = np.linspace(x1, x2, 29), np.linspace(y1, y2, 29)
        cells = shapely.box(xs[None, :-1], ys[:-1, None], xs[None, 1:], ys[1:, None])
        share = shapely.area(shapely.intersection(cells, shape)) / ((xs[1] - xs[0]) * (ys[1] - ys[0]))
        masks.append(np.clip(share + noise * rng.normal(size=share.shape), 0, 1))
        boxes.append([x1, y1, x2, y2])
    whole = Window(row_off=0, col_off=0, height=9000, width=9000)
    n = len(truth)
    chip = Instances(boxes=boxes, scores=np.ones(n), labels=np.arange(n), masks=masks)
    found = vectorize([chip], [Tile(row=0, col=0, core=whole, window=whole)])
    assert found.labels.tolist() == list(range(n))
    return found.geometry


def buildings(n: int, seed: int) -> Geometries:
    """Rectangles, L and U shapes at any angle, apart from each other."""
    rng = np.random.default_rng(seed)
    shapes = []
    for i in range(n):
        length, width = rng.uniform(30, 60), rng.uniform(25, 45)
        body = shapely.box(0, 0, length, width)
        if i % 3 == 1:
            body -= shapely.box(length * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6), 99, 99)
        if i % 3 == 2:
            body -= shapely.box(length * 0.33, width * rng.uniform(0.4, 0.6), length * 0.67, 99)
        place = 120 + 110 * np.array([i % 8, i // 8])
        shapes.append(translate(rotate(body, rng.uniform(0, 360), origin="centroid"), *place))
    return table(shapes)


def terrace(bearing: float, bend: float, seed: int) -> Geometries:
    """Houses in a row that share their party walls exactly, each turned by ``bend`` against the last."""
    rng = np.random.default_rng(seed)
    place, built, shapes = np.array([400.0, 400.0]), shapely.Polygon(), []
    for _ in range(8):
        width, depth = rng.uniform(12, 30), rng.uniform(25, 45)
        along = np.array([np.cos(bearing), np.sin(bearing)])
        back = depth * np.array([-along[1], along[0]])
        house = shapely.Polygon([place, place + width * along, place + width * along + back, place + back])
        shapes.append(shapely.difference(house, built, grid_size=2**-10))
        built = shapely.union(built, house)
        place, bearing = place + width * along, bearing + bend
    return resolve_overlaps(table(shapes))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_groups_that_are_cut_at_once_are_cut_as_if_alone(seed: int) -> None:
    """Many groups of overlapping boxes, far from each other: together or one by one, not a bit is different."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(7), 5)
    corner = np.column_stack([group % 3, group // 3]) * 90.0 + rng.uniform(0, 25, (len(group), 2))
    size = rng.uniform(5, 35, (len(group), 2))
    boxes = shapely.box(*corner.T, *(corner + size).T)
    shapes = shapely.difference(boxes, shapely.buffer(shapely.centroid(boxes), 2.0))  # with holes
    score = rng.uniform(0, 1, len(group))
    together = resolve_overlaps(shapes, priority=score, sliver=1.0)
    for number in range(7):
        own = group == number
        alone = resolve_overlaps(shapes[own], priority=score[own], sliver=1.0)
        assert (shapely.to_wkb(alone) == shapely.to_wkb(together[own])).all()
    assert overlap(together) < 1e-6


def test_only_groups_with_something_new_are_cut_again() -> None:
    shapes = [shapely.box(0, 0, 10, 7), shapely.box(6, 2, 17, 9), shapely.box(40, 0, 50, 7), shapely.box(46, 2, 57, 9)]
    once = resolve_overlaps(table(shapes))
    grown = once.copy()
    grown[3] = shapely.box(44, 2, 57, 9)
    again = resolve_overlaps(grown, changed=np.array([False, False, False, True]))
    assert again[0] is once[0] and again[1] is once[1]
    assert overlap(again) == 0 and again[2].area < once[2].area


@given(st.floats(0, 179), st.floats(1.2, 4), st.floats(10, 50))
def test_the_dominant_angle_is_that_of_the_walls(degrees: float, aspect: float, width: float) -> None:
    body = shapely.box(0, 0, width * aspect, width) - shapely.box(width * aspect * 0.6, width / 2, 999, 999)
    found = np.degrees(dominant_angles(table([rotate(body, degrees)])))[0]
    assert (found - degrees + 45) % 90 - 45 == pytest.approx(0, abs=1e-6)


@settings(max_examples=30)
@given(st.floats(0, 179), st.floats(20, 80), st.floats(20, 80))
def test_a_rectangle_comes_out_with_four_corners(degrees: float, length: float, width: float) -> None:
    truth = table([translate(rotate(shapely.box(0, 0, length, width), degrees), 300, 300)])
    found = regularize_buildings(seen(truth))
    assert len(found[0].exterior.coords) == 5
    assert iou(found, truth)[0] > 0.97
    sides = np.diff(shapely.get_coordinates(found[0]), axis=0)
    assert np.abs(np.einsum("ij,ij->i", sides[:-1], sides[1:])).max() < 1e-6 * length * width


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_redrawn_buildings_are_nearer_to_the_truth(noise: float) -> None:
    truth = buildings(48, seed=3)
    raw = seen(truth, noise)
    found = regularize_buildings(raw)
    assert np.median(iou(found, raw)) >= 0.97
    lost_raw, lost = 1 - iou(raw, truth).mean(), 1 - iou(found, truth).mean()
    assert lost < 0.75 * lost_raw
    corners = shapely.get_num_coordinates(found) - 1
    exact = corners == shapely.get_num_coordinates(truth) - 1
    assert exact.mean() > 0.8


def test_right_angles_and_walls_in_line() -> None:
    crest = shapely.box(0, 0, 60, 20) | shapely.box(0, 0, 12, 35) | shapely.box(48, 0, 60, 35.3)
    truth = translate(rotate(crest, 27), 200, 200)
    found = regularize_buildings(seen(table([truth])))[0]
    level = rotate(found, -27, origin=(0, 0))
    xy = shapely.get_coordinates(level.normalize())
    steps = np.abs(np.diff(xy, axis=0))
    assert (np.degrees(np.arctan2(steps.min(axis=1), steps.max(axis=1))) < 1).all()
    assert len(xy) - 1 == 8  # both crests end on one line


@pytest.mark.parametrize("bend", [0.0, 0.02, 0.15])
def test_shared_walls_stay_shared(bend: float) -> None:
    row = terrace(0.4, bend, seed=5)
    found = regularize_buildings(row)
    assert shapely.coverage_is_valid(found)
    assert overlap(found) == pytest.approx(0, abs=1e-9)
    assert shared(found) > 0.97 * shared(row)
    before, after = (shapely.union_all(g) for g in (row, found))
    closed = after.buffer(0.75, join_style="mitre").buffer(-0.75, join_style="mitre")
    assert (closed - after).intersection(before).area < 0.5  # px2: no slivers
    assert np.median(iou(found, row)) > 0.97


@pytest.mark.parametrize("bend", [0.0, 0.15])
def test_walls_that_a_network_draws_apart_become_one(bend: float) -> None:
    row = terrace(1.1, bend, seed=6)
    raw = seen(row)
    found = regularize_buildings(raw)
    assert shapely.coverage_is_valid(found)
    assert shared(found) > 0.8 * shared(row) > 2 * shared(raw)


def test_a_round_building_stays_round() -> None:
    silo = table([shapely.Point(100, 100).buffer(14)])
    assert iou(regularize_buildings(silo), silo)[0] > 0.97


def test_small_round_buildings_come_out_with_more_than_four_corners() -> None:
    """Right angles fit a ragged little disc with an IoU of 0.8 and more: half of them became squares."""
    rng = np.random.default_rng(0)
    discs = table(
        [shapely.Point(200 + 110 * (i % 5), 200 + 110 * (i // 5)).buffer(rng.uniform(9, 22)) for i in range(20)]
    )
    found = regularize_buildings(seen(discs, noise=0.1, seed=1), tolerance=2.0)
    assert (shapely.get_num_coordinates(found) > 5).all()
    assert iou(found, discs).mean() > 0.94


def test_courtyards_stay() -> None:
    block = rotate(shapely.box(0, 0, 60, 50) - shapely.box(20, 15, 40, 35), 12)
    found = regularize_buildings(seen(table([translate(block, 200, 200)])))[0]
    assert len(found.interiors) == 1
    assert len(shapely.get_coordinates(found)) == 10


@pytest.mark.parametrize("rounded", [0.0, 5.0])
def test_notches_and_pinholes_of_a_mask_are_no_walls(rounded: float) -> None:
    """In outlines that right angles fit, and in those that come out with walls at any angle."""
    body = shapely.box(0, 0, 70, 45) if not rounded else shapely.Polygon([(0, 0), (75, 0), (55, 45), (20, 45)])
    notched = body.buffer(-rounded).buffer(rounded)
    notched -= shapely.Polygon([(34, -1), (39, -1), (36.5, 8)])  # an acute one, wide at its mouth
    notched -= shapely.Polygon([(30, 20), (35, 20), (32, 27)])  # a hole of a few pixels
    notched -= shapely.box(37, 38, 39.5, 46)
    found = regularize_buildings(table([rotate(notched, 20)]), tolerance=2.0)[0]
    assert len(found.interiors) == 0
    assert found.area / found.convex_hull.area > 0.985
    assert iou(table([found]), table([rotate(body, 20, origin=notched.envelope.centroid)]))[0] > 0.94


@pytest.mark.parametrize("seed", [1, 4])
def test_bumps_of_a_mask_are_not_followed_at_any_angle(seed: int) -> None:
    """Walls at any angle fit a rounded, bumpy rectangle better than right angles do, and are farther from the truth."""
    rng = np.random.default_rng(seed)
    truth = buildings(24, seed=2)[::3]
    raw = shapely.buffer(shapely.buffer(truth, -5), 5)
    for bump in range(5):
        at = shapely.line_interpolate_point(shapely.boundary(raw), rng.uniform(0, 1, len(raw)), normalized=True)
        disc = shapely.buffer(at, rng.uniform(2, 4.5, len(raw)))
        raw = shapely.union(raw, disc) if bump % 2 else shapely.difference(raw, disc)
    raw = shapely.buffer(shapely.buffer(shapely.buffer(raw, -1), 2), -1)
    found = regularize_buildings(raw, tolerance=2.0)
    assert (shapely.get_num_coordinates(found) == 5).all()
    assert iou(found, truth).mean() > iou(raw, truth).mean() + 0.03


def test_a_wall_cut_off_at_an_angle_stays() -> None:
    """Where hardly any misfit remains with it, a wall at any angle is one."""
    cut = shapely.Polygon([(0, 0), (60, 0), (60, 20), (35, 45), (0, 45)])
    truth = table([translate(rotate(cut, 25), 200, 200)])
    found = regularize_buildings(seen(truth, noise=0.05), tolerance=2.0)
    assert iou(found, truth)[0] > 0.97
    assert len(shapely.get_coordinates(found)) <= 7


def test_outlines_whose_walls_would_cross_are_drawn_with_some_of_their_vertices() -> None:
    rng = np.random.default_rng(39)
    arm = shapely.LineString(rng.uniform(0, 30, (6, 2)))
    ragged = shapely.union(arm.buffer(rng.uniform(0.8, 2)), shapely.box(0, 0, 20, 20)).buffer(0.3)
    found = straighten(table([ragged]), 2.0)
    assert shapely.is_valid(found).all()
    assert len(shapely.get_coordinates(found)) < 0.3 * len(shapely.get_coordinates(ragged))


def test_an_object_of_two_parts_is_redrawn_in_both() -> None:
    """A strip of which one tile missed its piece is one footprint of two parts."""
    parts = [
        rotate(shapely.box(0, 0, 40, 18), 20, origin=(0, 0)),
        rotate(shapely.box(55, 0, 90, 18), 20, origin=(0, 0)),
    ]
    truth = table([translate(part, 200, 200) for part in parts])
    raw = table([shapely.multipolygons(seen(truth, noise=0.05))])
    whole = table([shapely.multipolygons(truth)])
    found = regularize_buildings(raw)
    assert shapely.get_num_geometries(found)[0] == 2
    assert len(shapely.get_coordinates(found)) == 10 < len(shapely.get_coordinates(raw))
    assert iou(found, whole)[0] > max(0.97, iou(raw, whole)[0])
    assert np.degrees(dominant_angles(raw)) == pytest.approx(20, abs=1)


def test_a_ship_under_a_bridge_has_one_hull() -> None:
    ship = shapely.Polygon([(0, 0), (80, 0), (100, 8), (80, 16), (0, 16)])
    cut = ship - shapely.box(45, -1, 50, 17)
    hulls = fit_hulls(table([ship, cut]))
    assert hulls.length == pytest.approx([100, 100], abs=1) and hulls.beam[1] == pytest.approx(16, abs=1.5)
    assert hulls.fit[1] > 0.85


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ConfigError, match="tolerance of -1"):
        regularize_buildings(table([shapely.box(0, 0, 9, 5)]), tolerance=-1)
    with pytest.raises(ConfigError, match="without area"):
        fit_hulls(table([shapely.Polygon()]))


def test_nothing_is_nothing() -> None:
    assert len(regularize_buildings(np.empty(0, dtype=object))) == 0
    assert len(resolve_overlaps(np.empty(0, dtype=object))) == 0
    assert len(fit_hulls(np.empty(0, dtype=object)).length) == 0


boxes = st.builds(
    lambda x, y, w, h, a: rotate(shapely.box(x, y, x + w, y + h), a),
    st.floats(0, 60), st.floats(0, 60), st.floats(5, 40), st.floats(5, 40), st.floats(0, 90),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=7))
def test_each_square_metre_belongs_to_one(shapes: list[Any]) -> None:
    raw = table(shapes)
    found = resolve_overlaps(raw)
    kept = found[~shapely.is_empty(found)]
    assert shapely.is_valid(found).all()
    assert shapely.coverage_is_valid(kept)
    assert overlap(kept) == pytest.approx(0, abs=1e-9)
    before, after = shapely.union_all(raw), shapely.union_all(kept)
    assert before.symmetric_difference(after).area < 2e-3 * shapely.length(raw).sum()


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=7))
def test_redrawing_creates_no_overlaps(shapes: list[Any]) -> None:
    found = regularize_buildings(table(shapes))
    kept = found[~shapely.is_empty(found)]
    assert shapely.is_valid(found).all()
    assert shapely.coverage_is_valid(kept)
    assert overlap(kept) == pytest.approx(0, abs=1e-9)


def test_priority_decides_who_keeps_the_ground() -> None:
    pair = table([shapely.box(0, 0, 10, 10), shapely.box(8, 0, 14, 10)])
    assert shapely.area(resolve_overlaps(pair)).tolist() == [100, 40]
    assert shapely.area(resolve_overlaps(pair, priority=np.array([0.4, 0.9]))).tolist() == [80, 60]
    under = table([shapely.box(0, 0, 10, 10), shapely.box(2, 2, 4, 4)])
    assert shapely.is_empty(resolve_overlaps(under)).tolist() == [False, True]
    hole = resolve_overlaps(under, priority=np.array([1, 2]))
    assert len(hole[0].interiors) == 1


@pytest.mark.parametrize("degrees", [0, 33, 90, 200, 310])
def test_hulls(degrees: float) -> None:
    """A ship of 80 x 14 px with a bow of 12 px, as a network sees it."""
    ship = shapely.Polygon([(0, 0), (68, 0), (80, 7), (68, 14), (0, 14)])
    truth = table([translate(rotate(ship, degrees, origin=(0, 0)), 200, 200)])
    hulls = fit_hulls(seen(truth))
    assert hulls.length[0] == pytest.approx(80, rel=0.03)
    assert hulls.beam[0] == pytest.approx(14, rel=0.06)
    assert (np.degrees(hulls.axis[0]) - degrees + 180) % 360 - 180 == pytest.approx(0, abs=2)
    assert shapely.is_valid(hulls.geometry[0])
    assert iou(hulls.geometry, truth)[0] > 0.95
    assert shapely.area(hulls.geometry[0]) < 0.96 * 80 * 14


def test_a_boat_pointed_at_both_ends() -> None:
    boat = table([shapely.Polygon([(0, 5), (20, 0), (40, 0), (60, 5), (40, 10), (20, 10)])])
    hulls = fit_hulls(boat)
    assert len(hulls.geometry[0].exterior.coords) <= 11
    assert iou(hulls.geometry, boat)[0] > 0.98


@pytest.mark.parametrize("name", ["zanzibar_0", "catanduanes_1"])
def test_real_buildings(shared_data: Path, name: str) -> None:
    with rasterio.open(shared_data / "buildings" / f"{name}.tif") as source:
        to_pixel, crs = ~source.transform, source.crs
    labels = geopandas.read_file(shared_data / "buildings" / f"{name}.geojson").to_crs(crs)
    ground = shapely.force_2d(labels.geometry[labels.geom_type == "Polygon"].to_numpy())
    truth = shapely.transform(ground, lambda xy: np.column_stack(to_pixel @ (xy[:, 0], xy[:, 1])))
    left, top, _, _ = shapely.bounds(truth).T
    truth = resolve_overlaps(truth[(shapely.area(truth) > 150) & shapely.is_valid(truth) & (left > 2) & (top > 2)])
    truth = truth[(shapely.area(truth) > 150) & (shapely.get_type_id(truth) == 3)]
    raw = seen(truth, noise=0.1)
    found = regularize_buildings(raw)
    kept = ~shapely.is_empty(found)
    assert kept.mean() > 0.97
    assert shapely.coverage_is_valid(found[kept])
    assert np.median(iou(found, raw)[kept]) >= 0.97
    assert iou(found, truth)[kept].mean() > iou(raw, truth)[kept].mean()
    assert shapely.get_num_coordinates(found).sum() < 0.5 * shapely.get_num_coordinates(raw).sum()


def test_a_lattice_is_not_filled() -> None:
    """Small holes were filled however many: what came out had half of the ground that went in."""
    holes = shapely.union_all([shapely.box(x, y, x + 5.9, y + 5.9) for x in (1, 9, 17) for y in (1, 9, 17)])
    lattice = table([shapely.box(0, 0, 24, 24) - holes])
    assert iou(regularize_buildings(lattice, tolerance=2.0), lattice)[0] >= 0.8


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_ground_of_each_cell_is_that_of_the_polygon_cut(seed: int, whole: bool) -> None:
    """Of several polygons with holes, lattices that end within them, and walls on lines; not a bit by the others."""
    rng = np.random.default_rng(seed)
    shapes, lattices = [], []
    for _ in range(3):
        angle, away = np.sort(rng.uniform(0, 2 * np.pi, 9)), rng.uniform(10, 30, 9)
        star = shapely.Polygon(np.column_stack([away * np.cos(angle), away * np.sin(angle)])).buffer(0)
        shape = shapely.set_precision(star - shapely.Point(2, 1).buffer(3), 1.0 if whole else 0.0)
        at = [rng.uniform(-32, 32, rng.integers(0, 9)) for _ in range(2)]
        lattices.append([np.unique(np.rint(each) if whole else each) for each in at])
        shapes.append(shape)
    xs, ys = (np.concatenate([row + 1j * each[k] for row, each in enumerate(lattices)]) for k in (0, 1))
    together = covered(*edges(table(shapes)), xs, ys, len(shapes))
    for shape, (x, y), found in zip(shapes, lattices, together, strict=True):
        cells = shapely.box(x[None, :-1], y[:-1, None], x[None, 1:], y[1:, None])
        assert found == pytest.approx(shapely.area(shapely.intersection(cells, shape)), abs=1e-9)
        (alone,) = covered(*edges(table([shape])), 1j * x, 1j * y, 1)
        assert np.array_equal(found, alone)


def test_an_outline_of_very_many_walls_takes_little_memory() -> None:
    """What it took grew with edges times cells: a ragged outline of a thousand pixels would have taken all there is."""
    step = np.arange(250.0)
    stairs = np.column_stack([np.repeat(step, 2)[1:], np.repeat(step, 2)[:-1]])
    stair = table([shapely.Polygon([*stairs, (0, 249)])])
    owner, upright = np.zeros(500, np.int64), np.repeat([True, False], 250)
    tracemalloc.start()
    drawn, fit = rebuild(stair, owner, upright, np.tile(step, 2))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fit[0] == pytest.approx(1) and drawn[0].equals(stair[0])
    assert most < 30e6  # bytes; it was 2.3e9


def random_walls(rng: np.random.Generator, owner: NDArray[np.int64], size: float) -> Walls:
    n = len(owner)
    start = rng.uniform(0, size, n)
    return Walls(
        owner=owner,
        upright=rng.random(n) < 0.5,
        side=rng.choice([-1, 1], n),
        offset=np.rint(4 * rng.uniform(0, size, n)) / 4,
        length=rng.uniform(1, 9, n),
        reach=np.column_stack([start, start + rng.uniform(0, 20, n)]),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.25, 1.0, 3.0]))
def test_walls_are_joined_with_all_of_a_neighbour_that_they_belong_to(seed: int, tolerance: float) -> None:
    """Against comparing each with each."""
    rng = np.random.default_rng(seed)
    walls = random_walls(rng, np.sort(rng.integers(0, 6, 40)), 20.0)
    pairs = np.array([pair for pair in combinations(range(6), 2) if rng.random() < 0.4], np.int64).reshape(-1, 2)
    group = np.arange(40)
    for a, b in pairs.tolist():
        for i, j in product(np.flatnonzero(walls.owner == a), np.flatnonzero(walls.owner == b)):
            shared = min(walls.reach[i, 1], walls.reach[j, 1]) - max(walls.reach[i, 0], walls.reach[j, 0])
            away = abs(walls.offset[i] - walls.offset[j])
            if walls.side[i] == walls.side[j]:
                one = away <= tolerance * IN_LINE and shared > -2 * tolerance
            else:
                one = away <= tolerance and shared > 2 * tolerance
            if one and walls.upright[i] == walls.upright[j]:
                group[group == group[j]] = group[i]
    of_one = group[:, None] == group
    mean = (of_one * walls.length * walls.offset).sum(axis=1) / (of_one * walls.length).sum(axis=1)
    assert join_walls(walls, pairs, tolerance) == pytest.approx(mean)


def test_neighbours_of_very_many_walls_take_little_memory() -> None:
    """Each wall was held against each of the other: for two of 3,000 walls that took a gigabyte."""
    walls = random_walls(np.random.default_rng(1), np.repeat([0, 1], 3000), 3000.0)
    tracemalloc.start()
    joined = join_walls(walls, np.array([[0, 1]]), 1.0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (joined != walls.offset).any()
    assert most < 10e6  # bytes


def test_an_object_of_thousands_of_parts_is_redrawn() -> None:
    """Such as the panels of a field in one mask: the room that they may take grew with the square of their number."""
    at = np.arange(6000)
    x, y = 100 + 16.0 * (at % 75), 100 + 9.0 * (at // 75)
    panels = shapely.union(shapely.box(x, y, x + 12, y + 5), shapely.box(x + 6, y + 5, x + 6.4, y + 5.3))
    found = regularize_buildings(table([shapely.multipolygons(panels)]), tolerance=2.0)[0]
    assert shapely.get_num_coordinates(found) == 6000 * 5
    assert shapely.area(shapely.get_parts(found)) == pytest.approx(60, rel=0.01)
    few = table([shapely.multipolygons(panels[:20]), panels[0], shapely.multipolygons(panels[1:2])])
    room = shapely.buffer(few, [3.0, 2.0, 9.0], quad_segs=2)
    assert shapely.area(shapely.symmetric_difference(around(few, np.array([3.0, 2.0, 9.0])), room)).max() < 1e-9


def test_a_speck_that_growing_leaves_apart_ends_no_run() -> None:
    """Around a part of this outline GEOS 3.14 draws two polygons, one of them of 0.001 square pixels."""
    part = shapely.from_wkt(
        "POLYGON ((62.0908203125 26.4365234375, 63.787109375 26.4755859375, 63.6669921875 31.59375, 63.634765625 "
        "32.9658203125, 63.6357421875 32.9658203125, 64.0595703125 33.2724609375, 64.798828125 35.8369140625, "
        "64.98046875 35.548828125, 65.21875 35.244140625, 65.4853515625 34.9638671875, 65.77734375 34.7109375, "
        "66.09375 34.4873046875, 66.4306640625 34.296875, 66.7841796875 34.1396484375, 66.8564453125 "
        "34.1162109375, 67.1513671875 34.0185546875, 67.529296875 33.93359375, 67.9130859375 33.8857421875, "
        "68.2998046875 33.8759765625, 68.685546875 33.904296875, 69.0673828125 33.9697265625, 69.4404296875 "
        "34.0732421875, 69.4443359375 34.0751953125, 67.17578125 26.197265625, 76.6923828125 23.4560546875, "
        "80.82421875 37.802734375, 77.6845703125 38.70703125, 78.8466796875 38.9482421875, 80.259765625 "
        "39.1845703125, 81.7548828125 39.3955078125, 83.31640625 39.595703125, 84.8994140625 39.7998046875, "
        "84.9521484375 39.806640625, 86.51953125 40.0302734375, 86.6240234375 40.0458984375, 79.384765625 "
        "14.9130859375, 60.3515625 20.39453125, 62.0908203125 26.4365234375))"
    )
    whole = table([shapely.union(part, shapely.box(90, 14, 95, 19)), part])
    room = around(whole, np.full(2, 5.38388203033241))
    assert shapely.covers(room, shapely.buffer(whole, 4.0)).all()


def test_polygons_may_be_given_as_series_or_list_and_other_things_are_refused() -> None:
    shapes = [shapely.box(0, 0, 20, 9), shapely.box(15, 2, 40, 30)]
    table = geopandas.GeoDataFrame({"score": [0.9, 0.8]}, geometry=shapely.force_3d(shapes, 7.0), index=[5, 3])
    taken = resolve_overlaps(np.array(shapes, object), priority=[0.9, 0.8])
    assert shapely.equals_exact(resolve_overlaps(table.geometry, priority=table.score), taken).all()
    assert shapely.equals_exact(resolve_overlaps(shapes, priority=[0.9, 0.8]), taken).all()
    drawn = regularize_buildings(np.array(shapes, object))
    assert shapely.equals_exact(regularize_buildings(table.geometry), drawn).all()
    assert fit_hulls(table.geometry).fit.min() > 0.8
    for wrong in (table, shapes[0], [shapes[0], None], [shapely.LineString([(0, 0), (9, 9)])], ["POLYGON"]):
        for shape in (resolve_overlaps, regularize_buildings, fit_hulls):
            with pytest.raises(ConfigError, match="does not hold polygons alone"):
                shape(wrong)
    with pytest.raises(ConfigError, match="3 priorities for 2 polygons"):
        resolve_overlaps(shapes, priority=[1, 2, 3])


@pytest.mark.filterwarnings("error")
def test_a_mitre_that_geos_gives_up_is_no_warning() -> None:
    parts = shapely.from_wkt(
        "MULTIPOLYGON (((44.36981148742462 65.26410370708336, 33.85343662386755 41.91017770460692, 30.865595426883132 "
        "53.53226034850525, 34.73962297484924 54.52820741416672, 33.743675909187765 58.40223496213283, "
        "18.247565717323333 54.418446699486935, 44.36981148742462 65.26410370708336)), ((26.991567878917024 "
        "52.53631328284378, 28.983462010239972 44.788258186911555, 20.239459848646284 46.67039160355472, "
        "26.991567878917024 52.53631328284378)))"
    )
    assert shapely.area(closed(table([parts]), 2.0, sharpest=1.5))[0] > parts.area
