"""Mask crops to polygons: exact, valid, unbiased, independent of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS
from rasterio.features import shapes as rasterio_shapes
from scipy.ndimage import label

from geoseg.errors import AnswerError, ModelError
from geoseg.grid import Grid
from geoseg.instances import Instances
from geoseg.outlines import Outlines
from geoseg.tiling import Tiling
from geoseg.vectorize import vectorize
from geoseg.vectorize.outline import AT_ONCE
from geoseg.window import Window

AREA = Window(row_off=0, col_off=0, height=300, width=500)
TILE = Tiling(core=128, halo=32).plan(AREA).tile(1, 2)
LEFT, TOP = TILE.window.col_off, TILE.window.row_off

bits = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))
# Eighths make exact ties at the level, flat areas and saddles common.
eighths = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.sampled_from(np.arange(9) / 8)
)


def instances(masks: list[Any], boxes: ArrayLike) -> Instances:
    n = len(masks)
    return Instances(boxes=boxes, scores=np.linspace(0.5, 0.9, n), labels=np.arange(n), masks=masks)


def outline(mask: NDArray[Any], box: tuple[float, ...], **options: float) -> Any:
    """The one polygon of a crop, in window pixels."""
    found = vectorize([instances([mask], [box])], [TILE], **options).geometry
    assert len(found) <= 1
    return shapely.transform(found[0], lambda xy: xy - [LEFT, TOP]) if len(found) else shapely.Polygon()


def oracle(mask: NDArray[np.bool_], transform: Affine) -> Any:
    """GDAL's outline of a set of cells."""
    found = rasterio_shapes(mask.astype(np.uint8), mask=mask, connectivity=4, transform=transform)
    return shapely.union_all([shapely.geometry.shape(polygon).buffer(0) for polygon, _ in found])


def rectangle(width: float, height: float, degrees: float, centre: tuple[float, float]) -> Any:
    turned = shapely.affinity.rotate(shapely.box(-width / 2, -height / 2, width / 2, height / 2), degrees)
    return shapely.affinity.translate(turned, *centre)


def sampled(shape: Any, size: int) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """A shape as the share of each cell that it covers, over a box one cell wider than its bounds."""
    x1, y1, x2, y2 = shape.bounds
    dx, dy = (x2 - x1) / (size - 2), (y2 - y1) / (size - 2)
    xs, ys = np.meshgrid(x1 + dx * np.arange(-1, size - 1), y1 + dy * np.arange(-1, size - 1))
    cells = shapely.box(xs, ys, xs + dx, ys + dy)
    share = shapely.area(shapely.intersection(cells, shape)) / (dx * dy)
    return np.clip(share, 0, 1).astype(np.float32), (x1 - dx, y1 - dy, x2 + dx, y2 + dy)


@given(bits)
def test_a_bool_crop_gives_the_outline_of_its_cells(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    found = outline(mask, (3, 2, 3 + width, 2 + height), tolerance=0)
    truth = oracle(mask, Affine.translation(3, 2))
    assert shapely.is_valid(found)
    assert found.area == mask.sum()
    assert found.equals(truth)
    corners = {tuple(xy) for xy in shapely.get_coordinates(found)}
    assert corners == {tuple(xy) for xy in shapely.get_coordinates(truth)}


@given(bits)
def test_cells_that_meet_at_a_corner_only_are_separate_parts(mask: NDArray[np.bool_]) -> None:
    found = outline(mask, (0, 0, mask.shape[1], mask.shape[0]), tolerance=0)
    assert shapely.get_num_geometries(found) == label(mask)[1] if mask.any() else found.is_empty


@given(eighths)
def test_contours_hold_exactly_the_cells_of_at_least_one_half(crop: NDArray[np.float32]) -> None:
    height, width = crop.shape
    found = outline(crop, (1, 4, 1 + 2 * width, 4 + 3 * height), tolerance=0)
    assert shapely.is_valid(found)
    rows, cols = np.indices(crop.shape)
    inside = shapely.intersects_xy(found, 1 + 2 * (cols + 0.5), 4 + 3 * (rows + 0.5))
    assert np.array_equal(inside, crop >= 0.5)
    assert found.is_empty or shapely.box(1, 4, 1 + 2 * width, 4 + 3 * height).covers(found)


@settings(max_examples=50)
@given(st.lists(st.one_of(bits, eighths), min_size=2, max_size=12), st.randoms())
def test_an_outline_does_not_depend_on_the_rest_of_the_batch(masks: list[NDArray[Any]], random: Any) -> None:
    boxes = [(0.3 * i, 1.7, 0.3 * i + 2.1 * m.shape[1], 1.7 + 3.3 * m.shape[0]) for i, m in enumerate(masks)]
    order = list(range(len(masks)))
    random.shuffle(order)
    together = vectorize([instances(masks, boxes)], [TILE])
    by_label = dict(zip(together.labels.tolist(), shapely.to_wkb(together.geometry), strict=True))
    halves = [order[: len(order) // 2], order[len(order) // 2 :]]
    chips = [
        Instances(boxes=[boxes[i] for i in h], scores=[0.5] * len(h), labels=h, masks=[masks[i] for i in h])
        for h in halves
    ]
    apart = vectorize(chips, [TILE, TILE])
    assert dict(zip(apart.labels.tolist(), shapely.to_wkb(apart.geometry), strict=True)) == by_label


def test_more_crops_than_are_drawn_at_once() -> None:
    rng = np.random.default_rng(3)
    sides = rng.integers(1, 30, (2 * AT_ONCE + 7, 2))
    masks = [rng.random(side, np.float32) if k % 3 else rng.random(side) > 0.4 for k, side in enumerate(sides)]
    boxes = [(3.5, 2.25, 3.5 + 1.5 * m.shape[1], 2.25 + 1.25 * m.shape[0]) for m in masks]
    together = vectorize([instances(masks, boxes)], [TILE])
    for row, k in enumerate(together.labels.tolist()[::11]):
        alone = vectorize([instances([masks[k]], [boxes[k]])], [TILE])
        assert shapely.to_wkb(alone.geometry[0]) == shapely.to_wkb(together.geometry[11 * row])


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (3, 17)])
def test_a_crop_full_of_ones_is_its_box(shape: tuple[int, int]) -> None:
    box = (10.25, 7.5, 41.75, 60.125)
    for dtype in (np.float16, np.float32, np.float64, np.bool_, np.uint8):
        found = outline(np.ones(shape, dtype), box)
        assert found.equals(shapely.box(*box))
        assert len(found.exterior.coords) == 5


def test_probabilities_are_linear_between_cell_centres() -> None:
    crop = np.tile(np.array([0.1, 0.7, 1, 0.9, 0.2, 0], np.float32), (5, 1))
    across = outline(crop, (2, 3, 8, 8), tolerance=0).intersection(shapely.LineString([(0, 5.5), (99, 5.5)]))
    left, right = 2.5 + (0.5 - 0.1) / (0.7 - 0.1), 5.5 + (0.9 - 0.5) / (0.9 - 0.2)
    assert across.bounds == pytest.approx((left, 5.5, right, 5.5), abs=1e-6)


def test_beyond_the_box_the_probability_is_nothing() -> None:
    """A last cell of p puts the outline where the line from p to 0, one cell on, passes one half."""
    for p, inset in [(1.0, 0.0), (0.8, 0.5 - 0.3 / 0.8), (0.5, 0.5)]:
        found = outline(np.full((7, 9), p), (10, 20, 28, 48), tolerance=0)
        assert found.bounds == pytest.approx((10 + 2 * inset, 20 + 4 * inset, 28 - 2 * inset, 48 - 4 * inset), abs=1e-3)


def test_an_outline_reaches_the_edge_of_the_window_that_cuts_it() -> None:
    width, height = TILE.window.width, TILE.window.height
    crop = np.full((28, 28), 0.7)
    cut = outline(crop, (0, 40, 33, height))
    assert cut.bounds[0] == 0 and cut.bounds[3] == height
    assert cut.bounds[1] > 40 and cut.bounds[2] < 33
    cut = outline(crop, (width - 41.0, 0.25, width, 30))
    assert cut.bounds[2] == width and cut.bounds[1] == 0.25
    assert cut.bounds[0] > width - 41 and cut.bounds[3] < 30


@pytest.mark.parametrize("degrees", [0, 11, 30, 45])
def test_a_sampled_building_comes_back(degrees: float) -> None:
    truth = rectangle(52, 31, degrees, (60, 50))
    crop, box = sampled(truth, 28)
    found = outline(crop, box)
    assert found.intersection(truth).area / found.union(truth).area > 0.985
    assert abs(found.area / truth.area - 1) < 0.01
    assert len(shapely.get_coordinates(found)) <= 30


def test_area_has_no_bias_over_many_buildings() -> None:
    rng = np.random.default_rng(7)
    truth = [rectangle(*rng.uniform(30, 60, 2), rng.uniform(0, 90), (70, 70)) for _ in range(60)]
    crops, boxes = zip(*[sampled(shape, 28) for shape in truth], strict=True)
    found = vectorize([instances(list(crops), boxes)], [TILE]).geometry
    assert abs(shapely.area(found).sum() / shapely.area(truth).sum() - 1) < 0.002


GRIDS = {
    "rotated": Affine.translation(3e5, 2e6) @ Affine.rotation(33) @ Affine.scale(0.3, -0.3),
    "south-up": Affine.translation(3e5, 2e6) @ Affine.scale(0.5, 0.5),
    "non-square": Affine.translation(3e5, 2e6) @ Affine.scale(0.2, -0.7),
    "sheared": Affine.translation(3e5, 2e6) @ Affine.shear(20, 5) @ Affine.scale(0.4, -0.3),
}


@pytest.mark.parametrize("name", GRIDS)
def test_painted_shapes_lie_true_on_the_ground(name: str) -> None:
    grid = Grid(crs=CRS(32645), transform=GRIDS[name], height=AREA.height, width=AREA.width)
    rows, cols = np.mgrid[0:300, 0:500] + 0.5
    ring = np.hypot((rows - 190) / 30, (cols - 320) / 42)
    painted = ((ring < 1) & (ring > 0.5)) | ((abs(rows - 160) < 9) & (abs(cols - 290) < 15))
    window = TILE.window
    crop = painted[window.row_off : window.row_end, window.col_off : window.col_end][30:160, 10:180]
    found = vectorize([instances([crop], [(10, 30, 180, 160)])], [TILE], tolerance=0)
    ground = grid.geometry_to_world(found.geometry)[0]
    truth = oracle(painted, grid.transform)
    assert len(ground.interiors) == len(truth.interiors) == 1
    assert shapely.hausdorff_distance(ground, truth) < 0.01 * min(
        np.hypot(grid.transform.a, grid.transform.d), np.hypot(grid.transform.b, grid.transform.e)
    )
    pixel_area = abs(grid.transform.determinant)
    assert ground.symmetric_difference(truth).area < 1e-3 * pixel_area


def test_columns_follow_their_outlines() -> None:
    tiles = list(Tiling(core=128, halo=32).plan(AREA).tiles())[3:6]
    full, none = np.ones((2, 3)), np.zeros((5, 2))
    chips = [
        Instances(boxes=[[0, 0, 4, 4], [1, 1, 9, 5]], scores=[0.25, 0.75], labels=[2, 5], masks=[none, full]),
        Instances(),
        Instances(boxes=[[2, 2, 12, 4]], scores=[0.5], labels=[1], masks=[full]),
    ]
    found = vectorize(chips, tiles)
    assert found.scores.tolist() == [0.75, 0.5]
    assert found.labels.tolist() == [5, 1]
    assert found.tiles.tolist() == [[tiles[0].row, tiles[0].col], [tiles[2].row, tiles[2].col]]
    x, y = tiles[2].window.col_off, tiles[2].window.row_off
    assert shapely.bounds(found.geometry[1]).tolist() == [x + 2, y + 2, x + 12, y + 4]


def test_several_parts_are_one_feature_and_holes_stay() -> None:
    mask = np.zeros((9, 12), np.float32)
    mask[1:8, 1:7], mask[3:6, 3:5], mask[2:5, 9:11] = 1, 0, 1
    for crop in (mask, mask > 0):
        found = outline(crop, (0, 0, 24, 18))
        assert found.geom_type == "MultiPolygon"
        assert sorted(len(part.interiors) for part in found.geoms) == [0, 1]


def test_boxes_that_reach_out_of_the_window_are_cut_to_it() -> None:
    height, width = TILE.window.height, TILE.window.width
    found = outline(np.ones((4, 4)), (-7, 5, width + 3, height + 1))
    assert found.equals(shapely.box(0, 5, width, height))


def test_an_instance_cut_out_of_existence_is_left_out() -> None:
    assert outline(np.ones((4, 4), bool), (-9, -9, -1, -1)).is_empty


def test_simplification_stays_near_and_does_not_shrink() -> None:
    rows, cols = np.mgrid[0:40, 0:60] + 0.5
    disc = np.clip(0.5 + (18 - np.hypot(rows - 20, (cols - 30) * 0.8)) / 2, 0, 1)
    raw, simple = (outline(disc, (0, 0, 60, 40), tolerance=t) for t in (0, 0.5))
    assert shapely.hausdorff_distance(raw, simple) <= 0.5 * 2
    assert simple.area == pytest.approx(raw.area, rel=0.002)
    assert len(simple.exterior.coords) < len(raw.exterior.coords) / 3


def test_nothing_gives_an_empty_table() -> None:
    for chips, tiles in [([], []), ([Instances()], [TILE])]:
        found = vectorize(chips, tiles)
        assert isinstance(found, Outlines) and len(found) == 0


@pytest.mark.parametrize(
    "mask",
    [np.full((2, 2), 3.5), np.full((2, 2), -1.0), np.array([[np.nan, 1]]), np.full((2, 2), 255, np.uint8)],
)
def test_masks_that_are_no_probabilities_are_refused(mask: NDArray[Any]) -> None:
    with pytest.raises(ModelError, match=r"probabilities in \[0, 1\]"):
        outline(mask, (0, 0, 4, 4))


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_mask_that_is_no_number_spoils_its_tile_alone(broken: float) -> None:
    """Infinity in the answer for one chip ended the whole run."""
    with pytest.raises(AnswerError, match=r"probabilities in \[0, 1\]"):
        outline(np.array([[0.9, broken], [0.9, 0.9]]), (0, 0, 4, 4))


def test_one_instances_per_tile() -> None:
    with pytest.raises(ModelError, match="one Instances per chip"):
        vectorize([Instances()], [TILE, TILE])
