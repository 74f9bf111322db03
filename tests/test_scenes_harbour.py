"""Generated harbours: their truth fits their pixels, and hold what a detector of ships has to cope with."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.scenes.brush import Brush, Frame, Sun
from geoseg.scenes.decks import hull_coverage
from geoseg.scenes.fleet import Fleet, raft
from geoseg.scenes.harbour import harbour
from geoseg.scenes.hull import KINDS, Ship, draw_ship
from geoseg.scenes.scene import Scene

HEIGHT, WIDTH = 300, 460
SEEDS = range(24)


@functools.cache
def scene(seed: int) -> Scene:
    return harbour(seed, height=HEIGHT, width=WIDTH)


def overlap_px(polygons: tuple[shapely.Polygon, ...]) -> float:
    """Largest area shared by two polygons."""
    if not polygons:
        return 0.0
    tree = shapely.STRtree(polygons)
    first, second = tree.query(polygons, predicate="intersects")
    pairs = first < second
    shared = shapely.area(shapely.intersection(tree.geometries[first[pairs]], tree.geometries[second[pairs]]))
    return float(shared.max(initial=0.0))


@given(seed=st.integers(0, 2**31), gsd_m=st.sampled_from([0.5, 0.75, 1.0, 3.0]))
@settings(max_examples=15, deadline=None)
def test_truth_is_valid_inside_and_free_of_overlap(seed: int, gsd_m: float) -> None:
    made = harbour(seed, height=180, width=260, gsd_m=gsd_m)
    assert made.pixels.shape == (3, 180, 260)
    assert made.pixels.dtype == np.uint8
    assert set(made.labels) <= {"ship"}
    assert made.gsd_m == gsd_m
    frame = shapely.box(0, 0, 260, 180).buffer(1e-6)
    for polygon in made.polygons:
        assert polygon.is_valid
        assert polygon.area >= 12.0
        assert frame.contains(polygon)
        assert not polygon.interiors
    assert overlap_px(made.polygons) < 0.5


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    again = harbour(7, height=HEIGHT, width=WIDTH)
    assert np.array_equal(again.pixels, scene(7).pixels)
    assert len(again.polygons) == len(scene(7).polygons)
    assert all(a.equals(b) for a, b in zip(again.polygons, scene(7).polygons, strict=True))
    assert not np.array_equal(scene(8).pixels, scene(7).pixels)


def test_some_ships_lie_side_by_side() -> None:
    close = 0
    for seed in SEEDS:
        polygons = scene(seed).polygons
        if polygons:
            first, second = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=2.0)
            close += int((first < second).sum())
    assert close > 50


def test_scenes_differ_from_almost_empty_to_crowded() -> None:
    counts = [len(scene(seed).polygons) for seed in SEEDS]
    assert min(counts) <= 4
    assert max(counts) >= 60


def test_ships_of_all_sizes_appear_and_tiny_ones_are_rare() -> None:
    areas, lengths = [], []
    for seed in SEEDS:
        for polygon in scene(seed).polygons:
            areas.append(polygon.area)
            box = np.asarray(shapely.minimum_rotated_rectangle(polygon).exterior.coords)
            lengths.append(0.75 * np.hypot(*np.diff(box, axis=0).T).max())
    assert np.mean(np.array(areas) < 25) < 0.1
    assert np.quantile(lengths, 0.25) < 15
    assert max(lengths) > 100


def test_ships_can_be_told_from_what_is_around_them() -> None:
    """The image changes across most outlines: the pixels inside differ from a ring around."""
    differences = []
    for seed in SEEDS:
        made = scene(seed)
        grey = made.pixels.astype(np.float64).mean(axis=0)
        rows, cols = np.indices(grey.shape) + 0.5
        for polygon in made.polygons[:6]:
            inner = shapely.contains_xy(polygon, cols, rows)
            ring = shapely.contains_xy(polygon.buffer(4).difference(polygon.buffer(1)), cols, rows)
            if inner.any() and ring.any():
                differences.append(np.abs(np.quantile(grey[inner], [0.2, 0.8]) - np.median(grey[ring])).max())
    assert np.median(differences) > 15


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_hull_has_the_size_and_the_beam_of_its_kind(name: str) -> None:
    rng = np.random.default_rng(3)
    kind = KINDS[name]
    for _ in range(20):
        ship = draw_ship(rng, name, 0.5)
        assert ship is not None
        assert kind.length_m[0] <= ship.length_m <= kind.length_m[1]
        assert kind.slenderness[0] <= ship.length_m / ship.beam_m <= kind.slenderness[1]
        outline = ship.outline(Frame(x=0.0, y=0.0, angle=0.0, scale=1.0))
        assert outline.is_valid
        left, top, right, bottom = outline.bounds
        assert right - left == pytest.approx(ship.length_m, rel=1e-6)
        assert 0.95 * ship.beam_m <= bottom - top <= 1.0001 * ship.beam_m


def test_a_hull_too_small_for_the_pixel_is_not_drawn() -> None:
    assert draw_ship(np.random.default_rng(0), "motorboat", 5.0) is None


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5, -1.2])
def test_painted_pixels_agree_with_the_outline(angle: float) -> None:
    """The paint covers what the polygon covers: same area, same centre, to a tenth of a pixel."""
    ship = draw_ship(np.random.default_rng(5), "bulk carrier", 1.0, 120.0)
    assert isinstance(ship, Ship)
    frame = Frame(x=70.3, y=62.8, angle=angle, scale=0.9)
    brush = Brush(canvas=np.zeros((130, 150, 3), np.float32), frame=frame, sun=Sun(x_px=0.0, y_px=0.0, shade=1.0))
    found = brush.window((-100, 100, -100, 100))
    assert found is not None
    box, u, v = found
    cover = np.zeros((130, 150))
    cover[box] = hull_coverage(ship, u, v, frame.scale, 0.0)
    outline = ship.outline(frame)
    assert cover.sum() == pytest.approx(outline.area, rel=0.02)
    rows, cols = np.indices(cover.shape) + 0.5
    centre = np.array([(cols * cover).sum(), (rows * cover).sum()]) / cover.sum()
    assert centre == pytest.approx(np.array(outline.centroid.coords[0]), abs=0.1)


def test_ships_are_turned_away_from_land_from_each_other_and_from_outside() -> None:
    fleet = Fleet(np.random.default_rng(1), (100, 200), shapely.box(0, 0, 200, 40), 1.0)
    ship = draw_ship(np.random.default_rng(1), "barge", 1.0, 25.0)
    assert ship is not None
    at = Frame(x=60.0, y=70.0, angle=0.0, scale=1.0)
    assert fleet.add(ship, at)
    assert not fleet.add(ship, dataclasses.replace(at, x=64.0))
    assert not fleet.add(ship, dataclasses.replace(at, x=120.0, y=38.0))
    assert not fleet.add(ship, dataclasses.replace(at, x=300.0))
    assert fleet.add(ship, dataclasses.replace(at, x=120.0))


def test_a_raft_lies_hull_against_hull() -> None:
    fleet = Fleet(np.random.default_rng(2), (400, 500), shapely.Polygon(), 1.0)
    ship = draw_ship(np.random.default_rng(2), "barge", 1.0, 60.0)
    assert ship is not None
    raft(fleet, Frame(x=250.0, y=150.0, angle=0.4, scale=1.0), ship, 4)
    outlines = [placed.outline for placed in fleet.ships]
    assert len(outlines) == 4
    assert all(a.distance(b) <= 2.5 for a, b in itertools.pairwise(outlines))
