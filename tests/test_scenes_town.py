"""Generated towns: the truth has to be true, and the picture has to show it."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from geoseg.errors import ConfigError
from geoseg.scenes import Scene, town
from geoseg.scenes.texture import cast, fill, swept, value_noise
from geoseg.scenes.town_cuts import cut, long_axis

HEIGHT, WIDTH, GSD_M = 288, 416, 0.25
SEEDS = range(12)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [town(seed, height=HEIGHT, width=WIDTH, gsd_m=GSD_M) for seed in SEEDS]


def touching_pairs(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Of all pairs of neighbours: the area they share (n,) and the length of wall they share (n,)."""
    shapes = np.array(scene.polygons, dtype=object)
    if len(shapes) < 2:
        return np.zeros(0), np.zeros(0)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=0.01)
    first, second = first[first < second], second[first < second]
    shared = shapely.length(shapely.intersection(shapely.boundary(shapes[first]), shapely.buffer(shapes[second], 0.01)))
    return shapely.area(shapely.intersection(shapes[first], shapes[second])), shared


def test_same_seed_same_scene() -> None:
    one, two = (town(5, height=120, width=200) for _ in range(2))
    other = town(6, height=120, width=200)
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert shapely.equals_exact(np.array(one.polygons), np.array(two.polygons)).all()
    assert (one.pixels != other.pixels).mean() > 0.5


def test_shape_is_rows_by_columns(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.pixels.shape == (3, HEIGHT, WIDTH)
        assert scene.pixels.dtype == np.uint8
        assert scene.gsd_m == GSD_M
        assert set(scene.labels) <= {"building"}
        assert len(scene.labels) == len(scene.polygons)


def test_outlines_are_valid_inside_and_no_slivers(scenes: list[Scene]) -> None:
    frame = shapely.box(0, 0, WIDTH, HEIGHT).buffer(1e-6)
    for scene in scenes:
        for polygon in scene.polygons:
            assert polygon.is_valid
            assert frame.covers(polygon)
            assert polygon.area >= 12


def test_outlines_reach_both_far_edges(scenes: list[Scene]) -> None:
    bounds = np.array([polygon.bounds for scene in scenes for polygon in scene.polygons])
    assert bounds[:, 2].max() == pytest.approx(WIDTH)
    assert bounds[:, 3].max() == pytest.approx(HEIGHT)


def test_outlines_do_not_overlap(scenes: list[Scene]) -> None:
    for scene in scenes:
        overlaps, _ = touching_pairs(scene)
        assert overlaps.max(initial=0.0) < 0.5


def test_terraces_share_walls(scenes: list[Scene]) -> None:
    shared = [int((touching_pairs(scene)[1] > 4.0).sum()) for scene in scenes]
    assert max(shared) > 50


def test_some_outlines_have_courtyards(scenes: list[Scene]) -> None:
    assert sum(len(polygon.interiors) for scene in scenes for polygon in scene.polygons) >= 3


def test_sizes_range_from_sheds_to_blocks(scenes: list[Scene]) -> None:
    areas_m2 = [shapely.area(np.array(scene.polygons, dtype=object)) * GSD_M**2 for scene in scenes]
    assert np.quantile(np.concatenate(areas_m2), 0.05) < 12
    assert np.concatenate(areas_m2).max() > 200
    assert 15 < np.median([np.median(areas) for areas in areas_m2 if areas.size]) < 150


def test_small_roofs_are_plain_and_none_is_narrow(scenes: list[Scene]) -> None:
    """As mappers outline them: see `town_bodies`. What the frame cuts has any shape."""
    inside = shapely.box(0.1, 0.1, WIDTH - 0.1, HEIGHT - 0.1)
    whole = np.array([p for scene in scenes for p in scene.polygons if inside.contains(p)])
    area_m2 = shapely.area(whole) * GSD_M**2
    filled = shapely.area(whole) / shapely.area(shapely.minimum_rotated_rectangle(whole))
    small = area_m2 < 40
    assert small.sum() > 100
    assert filled[small].min() > 0.74
    assert (filled[small] < 0.8).mean() < 0.15
    assert (filled[area_m2 > 80] < 0.8).mean() > 0.1
    wide = shapely.buffer(
        shapely.buffer(whole, -0.5 / GSD_M, join_style="mitre"), 0.5 / GSD_M, join_style="mitre", mitre_limit=20
    )
    assert (shapely.area(wide) > 0.97 * shapely.area(whole)).all()


def test_scenes_differ_in_density(scenes: list[Scene]) -> None:
    shares = [sum(polygon.area for polygon in scene.polygons) / (HEIGHT * WIDTH) for scene in scenes]
    assert min(shares) < 0.2
    assert max(shares) > 0.5


def edge_contrast(scene: Scene, shift: float) -> float:
    """Mean step in brightness across the outlines of the larger roofs, moved by `shift` pixels in x and y."""
    grey = scene.pixels.mean(axis=0)
    steps = []
    for polygon in scene.polygons:
        if polygon.area < 150:
            continue
        moved = shapely.transform(polygon, lambda xy: xy + shift)
        ring = np.array([moved.exterior.interpolate(t).coords[0] for t in np.arange(0, moved.exterior.length, 2.0)])
        ahead = np.roll(ring, -1, axis=0) - ring
        normal = np.column_stack([ahead[:, 1], -ahead[:, 0]]) / np.maximum(np.hypot(*ahead.T), 1e-9)[:, None]
        rows, cols = ((ring[None] + 1.5 * np.array([-1, 1])[:, None, None] * normal).astype(int))[..., ::-1].transpose(
            2, 0, 1
        )
        inside = (rows >= 0) & (rows < HEIGHT) & (cols >= 0) & (cols < WIDTH)
        keep = inside.all(axis=0)
        values = grey[rows[:, keep], cols[:, keep]]
        steps.append(np.abs(values[0] - values[1]))
    return float(np.concatenate(steps).mean()) if steps else 0.0


def test_outlines_lie_where_the_picture_has_edges(scenes: list[Scene]) -> None:
    """Truth and picture agree in place: steps are larger across outlines than across outlines moved."""
    at_home = np.array([edge_contrast(scene, 0.0) for scene in scenes])
    away = np.array([(edge_contrast(scene, 6.0) + edge_contrast(scene, -6.0)) / 2 for scene in scenes])
    assert at_home.mean() > 1.3 * away.mean()


@pytest.mark.parametrize(
    ("height", "width", "gsd_m"), [(8, 200, 0.25), (200, 8, 0.25), (200, 300, 0.0), (200, 300, 9.0)]
)
def test_impossible_sizes_are_refused(height: int, width: int, gsd_m: float) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        town(0, height=height, width=width, gsd_m=gsd_m)


def test_scene_refuses_parts_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="labels"):
        Scene(pixels=np.zeros((3, 20, 30), np.uint8), polygons=(), labels=("building",), gsd_m=0.2)
    with pytest.raises(ConfigError, match="uint8"):
        Scene(pixels=np.zeros((20, 30, 3), np.uint8), polygons=(), labels=(), gsd_m=0.2)


def test_fill_covers_the_area_of_a_polygon_with_a_hole_cut_by_the_frame() -> None:
    polygon = shapely.Polygon(
        [(-5, 3.3), (14.2, 1.1), (25.4, 17.8), (4.6, 22.9)], [[(8, 8), (13, 8), (13, 12.5), (8, 12.5)]]
    )
    coverage, box = fill((20, 30), polygon)
    assert coverage.shape == (box[0].stop - box[0].start, box[1].stop - box[1].start)
    assert coverage.sum() == pytest.approx(polygon.intersection(shapely.box(0, 0, 30, 20)).area, rel=0.03)
    assert coverage[10 - box[0].start, 10 - box[1].start] == 0


def test_fill_of_a_polygon_outside_is_empty() -> None:
    coverage, _ = fill((20, 30), shapely.box(40, 5, 50, 8))
    assert coverage.size == 0


def test_shadow_falls_away_from_a_block_as_far_as_its_height_says() -> None:
    heights = np.zeros((40, 60), np.float32)
    heights[10:20, 10:20] = 6.0
    shade = cast(heights, (2.0, 0.0), soft_px=0.0)
    assert shade[15, 20:31].all()
    assert not shade[15, 33:].any()
    assert not shade[:, :20].any()
    assert not shade[21:].any()


def test_swept_rings_cover_what_a_moving_square_passes() -> None:
    square = shapely.box(0, 0, 4, 3)
    ground = shapely.union_all([shapely.Polygon(ring).buffer(0) for ring in swept(square, (5, 0))]).union(square)
    assert ground.area == pytest.approx(9 * 3)


def test_noise_is_in_range_and_as_large_as_asked() -> None:
    noise = value_noise(np.random.default_rng(3), 61, 97, 20.0, 4)
    assert noise.shape == (61, 97)
    assert 0.0 <= noise.min() < 0.4 < 0.6 < noise.max() <= 1.0


def test_cut_leaves_a_strip_and_nothing_else_out() -> None:
    lot = shapely.box(2, 3, 32, 15)
    assert long_axis(lot)[1:] == pytest.approx((30, 12))
    before, after = cut(lot, 0.4, 0.0, gap_m=2.0)
    assert sum(part.area for part in before) == pytest.approx((0.4 * 30 - 1) * 12)
    assert sum(part.area for part in after) == pytest.approx((0.6 * 30 - 1) * 12)
