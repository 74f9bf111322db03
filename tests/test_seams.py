"""Seams: tiled equals untiled, exactly once, whatever the order or the grouping."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from painted import BESIDE, areas_of, boxes, scenes
from shapely import affinity

from geoseg.outlines import Outlines
from geoseg.seams import Merged, heard, merge, split
from geoseg.seams.areas import area_inside
from geoseg.seams.objects import Judged
from geoseg.seams.overlaps import iou, shared_area
from geoseg.seams.robust import intersection, share_ground, union
from geoseg.tiling import Plan, Tiling
from geoseg.window import Window

NO_SHRINK = (Phase.explicit, Phase.reuse, Phase.generate)  # a scene does not get simpler, only slower
AREA = Window(row_off=7, col_off=-5, height=230, width=410)


def see(objects: list[Any], plan: Plan, *, labels: list[int] | None = None, apart: bool = False) -> Outlines:
    """A perfect detector: each object clipped to each window; ``apart``: each connected part by itself."""
    rows: list[tuple[Any, int, tuple[int, int]]] = []
    for tile in plan.tiles():
        frame = shapely.box(*tile.window.xyxy)
        for number, thing in enumerate(objects):
            seen = shapely.intersection(thing, frame)
            pieces = [part for part in shapely.get_parts([seen]) if part.area > 1e-9]
            if not pieces:
                continue
            for piece in pieces if apart else [pieces[0] if len(pieces) == 1 else shapely.multipolygons(pieces)]:
                rows.append((piece, labels[number] if labels else 0, (tile.row, tile.col)))
    scores = np.random.default_rng(len(rows)).uniform(0.3, 1, len(rows))
    geometry = np.empty(len(rows), object)
    geometry[:] = [row[0] for row in rows]
    return Outlines(
        geometry=geometry,
        scores=scores.astype(np.float32),
        labels=np.array([row[1] for row in rows], np.int64),
        tiles=np.array([row[2] for row in rows], np.int32).reshape(-1, 2),
    )


def assert_once(merged: Merged, objects: list[Any]) -> None:
    """Every object once, nothing else, to 1e-6 of its area."""
    left = list(merged.outlines.geometry)
    for thing in objects:
        found = [g for g in left if shapely.intersection(g, thing).area > 0.5 * thing.area]
        best = min(found, key=lambda g: shapely.symmetric_difference(g, thing).area, default=None)
        assert best is not None, f"lost: {thing.wkt[:200]}"
        assert shapely.symmetric_difference(best, thing).area <= 1e-6 * thing.area
        left = [g for g in left if g is not best]
    assert not left, f"left over: {[g.wkt[:120] for g in left]}"
    assert shapely.is_valid(merged.outlines.geometry).all()


def ring(x: float, y: float, outer: float, inner: float) -> Any:
    return shapely.box(x - outer, y - outer, x + outer, y + outer).difference(
        shapely.box(x - inner, y - inner, x + inner, y + inner)
    )


def things(seed: int, gap: float = 0.5) -> list[Any]:
    """Objects at least ``gap`` pixels apart, of many kinds inside ``AREA``; its edge cuts some."""
    rng = np.random.default_rng(seed)
    out: list[Any] = []
    strip = affinity.rotate(shapely.box(-300, -rng.uniform(3, 12), 300, 0), rng.uniform(-25, 25), origin=(0, 0))
    out.append(affinity.translate(strip, 200, rng.uniform(60, 180)))
    for _ in range(60):
        x, y = rng.uniform(-5, 405), rng.uniform(7, 237)
        width, height = rng.uniform(6, 70), rng.uniform(6, 40)
        kind = rng.integers(4)
        shape: Any = shapely.box(-width / 2, -height / 2, width / 2, height / 2)
        if kind == 1:
            shape = shape.difference(shapely.box(-width / 4, -height / 4, width, height))
        if kind == 2:
            shape = shape.difference(shapely.box(-width / 4, -height / 2 + 2, width / 4, height / 2))
        if kind == 3:
            shape = ring(0, 0, max(width, 8) / 2, max(width, 8) / 3)
        shape = affinity.translate(affinity.rotate(shape, rng.uniform(0, 360), origin=(0, 0)), x, y)
        if all(shape.distance(other) > gap for other in out):
            out.append(shape)
        if kind == 3 and width > 20 and shape is out[-1]:
            out.append(shapely.box(x - width / 9, y - width / 12, x + width / 9, y + width / 12))  # in its courtyard
    frame = shapely.box(*AREA.xyxy)
    clipped = [shapely.intersection(thing, frame) for thing in out]
    return [part for thing in clipped for part in shapely.get_parts([thing]) if part.area > 0]


tilings = st.builds(
    lambda rows, cols, share, block: Tiling(
        core=(rows, cols), halo=(round(rows * share), round(cols * share)), block=block
    ),
    st.integers(20, 150),
    st.integers(20, 150),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    st.integers(1, 3),
)


@settings(max_examples=25, deadline=None, phases=NO_SHRINK)
@given(seed=st.integers(0, 10_000), tiling=tilings, apart=st.booleans())
@example(seed=1204, tiling=Tiling(core=(37, 20), halo=(4, 2), block=3), apart=False)  # two cut pieces, one in parts
@example(seed=9107, tiling=Tiling(core=(20, 38), halo=(2, 4), block=1), apart=False)
@example(seed=6745, tiling=Tiling(core=(76, 55), halo=(8, 6), block=1), apart=False)
def test_tiled_equals_untiled(seed: int, tiling: Tiling, apart: bool) -> None:
    objects = things(seed, gap=0.5 if tiling.halo else 4.0)  # without a halo, pieces are matched by contact alone
    plan = tiling.plan(AREA)
    assert_once(merge(see(objects, plan, apart=apart), plan), objects)


def see_pixels(pixels: NDArray[np.uint8], plan: Plan) -> Outlines:
    """A perfect detector of painted pixels: each connected area of one value, cut at the window."""
    tables = [Outlines()]
    for tile in plan.tiles():
        window = tile.window
        part = pixels[window.row_off : window.row_end, window.col_off : window.col_end]
        found = areas_of(part, Affine.translation(window.col_off, window.row_off))
        tables.append(
            Outlines(
                geometry=np.array([shape for _, shape in found], object),
                scores=np.array([0.5 + value / 512 for value, _ in found], np.float32),
                labels=np.array([value % 2 for value, _ in found], np.int64),
                tiles=np.full((len(found), 2), (tile.row, tile.col), np.int32),
            )
        )
    return Outlines.concat(tables)


@settings(max_examples=150, deadline=None, phases=NO_SHRINK)
@given(
    pixels=scenes(),
    core=st.tuples(st.integers(12, 60), st.integers(12, 60)),
    halo=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    block=st.integers(1, 3),
)
@example(
    pixels=boxes((103, 74), (34, 103, 66, 69)), core=(24, 24), halo=(16, 16), block=2
)  # thin, along the raster's edge
@example(
    pixels=boxes((78, 42), (25, 49, 39, 42)), core=(12, 12), halo=(11, 11), block=1
)  # thin, in the rim of many tiles
@example(pixels=BESIDE, core=(46, 46), halo=(9, 9), block=3)
def test_painted_areas_come_out_once(
    pixels: NDArray[np.uint8], core: tuple[int, int], halo: tuple[int, int], block: int
) -> None:
    """Thin ones, ones that touch, ones at the raster's edge."""
    height, width = pixels.shape
    least = min(halo[0], core[0]), min(halo[1], core[1])
    plan = Tiling(core=core, halo=least, block=block).plan(Window(row_off=0, col_off=0, height=height, width=width))
    merged = merge(see_pixels(pixels, plan), plan)
    assert_once(merged, [shape for _, shape in areas_of(pixels, Affine.identity())])


def ragged(objects: list[Any], plan: Plan, seed: int) -> Outlines:
    """Outlines off by some pixels, pieces missing or under another label, so that every rule has work."""
    seen = see(objects, plan, apart=True)
    rng = np.random.default_rng(seed)
    drawn = shapely.buffer(seen.geometry, rng.uniform(-1, 2, len(seen)), quad_segs=2)
    keep = (shapely.area(drawn) > 1) & (rng.uniform(size=len(seen)) > 0.05)
    labels = (rng.uniform(size=len(seen)) < 0.1).astype(np.int64)
    return Outlines(geometry=drawn, scores=seen.scores, labels=labels, tiles=seen.tiles).take(keep)


def rows_of(merged: Merged) -> list[tuple[Any, ...]]:
    table = merged.outlines
    return list(
        zip(
            shapely.to_wkb(table.geometry),
            table.scores.tolist(),
            table.labels.tolist(),
            map(tuple, table.tiles.tolist()),
            merged.n_tiles.tolist(),
            np.nan_to_num(merged.agreement, nan=-1).tolist(),
            strict=True,
        )
    )


@settings(max_examples=12, deadline=None, phases=NO_SHRINK)
@given(seed=st.integers(0, 10_000), tiling=tilings)
def test_pure_function_of_the_set(seed: int, tiling: Tiling) -> None:
    """To the bit: whatever the order of rows, and however the tiles were grouped into blocks."""
    plan = tiling.plan(AREA)
    seen = ragged(things(seed), plan, seed)
    whole = rows_of(merge(seen, plan))
    rng = np.random.default_rng(seed)
    assert rows_of(merge(seen.take(rng.permutation(len(seen))), plan)) == whole

    shut, waiting = [], []
    blocks = list(plan.blocks())
    for block in (blocks[k] for k in rng.permutation(len(blocks))):
        mine = {(tile.row, tile.col) for tile in block.tiles}
        at = np.flatnonzero([tuple(tile) in mine for tile in seen.tiles.tolist()])
        closed, rest = split(seen.take(rng.permutation(at)), block.span, plan)
        shut.append(closed)
        waiting.append(rest)
    assert rows_of(Merged.concat([*shut, merge(Outlines.concat(waiting), plan)])) == whole


def by_levels(seen: Outlines, plan: Plan) -> tuple[Merged, list[int]]:
    """Split blocks, then squares of two by two of them, and so on; the open rows left by each level."""
    shut: list[Merged] = []
    parts: dict[tuple[int, int], list[Outlines]] = {}
    for block in plan.blocks():
        mine = {(tile.row, tile.col) for tile in block.tiles}
        parts[block.row, block.col] = [seen.take(np.array([tuple(t) in mine for t in seen.tiles.tolist()], bool))]
    left = []
    for level in range(plan.levels + 1):
        above: dict[tuple[int, int], list[Outlines]] = {}
        for (row, col), tables in parts.items():
            closed, rest = split(Outlines.concat(tables), plan.square(row, col, level=level), plan, least=0.5)
            shut.append(closed)
            above.setdefault((row // 2, col // 2), []).append(rest)
        left.append(sum(len(rest) for tables in above.values() for rest in tables))
        parts = above
    return Merged.concat(shut), left


@settings(max_examples=10, deadline=None, phases=NO_SHRINK)
@given(seed=st.integers(0, 10_000), tiling=tilings)
def test_splitting_level_by_level_is_the_merge_of_everything(seed: int, tiling: Tiling) -> None:
    plan = tiling.plan(AREA)
    seen = ragged(things(seed), plan, seed)
    merged, left = by_levels(seen, plan)
    assert rows_of(merged) == rows_of(merge(seen, plan, least=0.5))
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0


def coarse(seed: int, plan: Plan) -> Outlines:
    """What masks of coarse cells leave of things hundreds of pixels long, and of small ones beside them: whole pixels,
    some in crumbs, some missing."""
    rng = np.random.default_rng(seed)
    area = plan.area
    things = []
    for number in range(40):
        x, y = rng.uniform((0, 0), (area.width, area.height)).round()
        half = rng.uniform((80, 6), (400, 20)) if number < 15 else rng.integers(3, 20, 2)
        thing = shapely.box(x - half[0], y - half[1], x + half[0], y + half[1])
        things.append(affinity.rotate(thing, rng.uniform(0, 180)) if number < 15 else thing)
    seen = see([shapely.intersection(thing, shapely.box(*area.xyxy)) for thing in things], plan)
    drawn = np.array(seen.geometry)
    for row in np.flatnonzero(rng.uniform(size=len(seen)) < 0.4):
        x0, y0, x1, y1 = shapely.bounds(drawn[row])
        bars = shapely.MultiPolygon([shapely.box(x, y0, x + 9, y1) for x in np.arange(x0 + rng.uniform(0, 20), x1, 20)])
        drawn[row] = shapely.intersection(drawn[row], bars)
    drawn = shapely.set_precision(drawn, 1.0)
    solid = np.isin(shapely.get_type_id(drawn), (3, 6)) & (shapely.area(drawn) > 4)
    keep = solid & (rng.uniform(size=len(seen)) > 0.1)
    return Outlines(geometry=drawn, scores=seen.scores, labels=seen.labels, tiles=seen.tiles).take(keep)


@settings(max_examples=8, deadline=None, phases=NO_SHRINK)
@given(seed=st.integers(0, 10_000), tiling=st.sampled_from([(256, 32), (256, 128), (200, 16), ((300, 180), (20, 64))]))
def test_long_things_in_crumbs_are_the_same_by_levels_and_in_any_order(seed: int, tiling: tuple[Any, Any]) -> None:
    plan = Tiling(core=tiling[0], halo=tiling[1], block=2).plan(Window(row_off=3, col_off=-9, height=1100, width=1500))
    seen = coarse(seed, plan)
    whole = rows_of(merge(seen, plan, least=0.5))
    merged, left = by_levels(seen, plan)
    assert left[-1] == 0
    assert rows_of(merged) == whole
    shuffled = seen.take(np.random.default_rng(seed).permutation(len(seen)))
    assert rows_of(merge(shuffled, plan, least=0.5)) == whole


@pytest.mark.parametrize("column", [959, 959.5, 960])
def test_what_is_settled_early_is_not_swallowed_from_afar(column: float) -> None:
    """A long outline's border is known to some pixels only, but what lies beyond the border slack is not its own."""
    plan = Tiling(core=512, halo=64, block=2).plan(Window(row_off=0, col_off=0, height=1024, width=2048))
    long, small = shapely.box(940, 10, 957, 500), shapely.box(column, 100, 968, 120)
    seen = named((long, 0.9, 0, (0, 1)), (small, 0.8, 0, (0, 2)))
    assert rows_of(by_levels(seen, plan)[0]) == rows_of(merge(seen, plan))


@pytest.mark.parametrize("halo", [0, 16, 40])
def test_one_block_of_everything_closes_all(halo: int) -> None:
    plan = Tiling(core=60, halo=halo, block=9).plan(AREA)
    (block,) = plan.blocks()
    _, waiting = split(see(things(3), plan), block.span, plan)
    assert len(waiting) == 0


@pytest.mark.parametrize("halo", [8, 16, 50])
def test_touching_stay_two(halo: int) -> None:
    """Terraces that share walls, and hulls side by side at an angle, whatever the place of the cut."""
    plan = Tiling(core=60, halo=halo).plan(AREA)
    terrace = [shapely.box(20 + 9 * k, 12, 29 + 9 * k, 34) for k in range(30)]
    turned = [
        affinity.rotate(shapely.box(100 + 8 * k, 120, 108 + 8 * k, 160), 17, origin=(200, 140)) for k in range(25)
    ]
    objects = [*terrace, *turned]
    assert_once(merge(see(objects, plan), plan), objects)


@pytest.mark.parametrize("halo", [0, 16])
def test_strip_across_ten_tiles(halo: int) -> None:
    plan = Tiling(core=40, halo=halo).plan(AREA)
    quay = affinity.rotate(shapely.box(0, 100, 400, 111), 12)
    merged = merge(see([quay], plan), plan)
    assert_once(merged, [quay])
    assert merged.n_tiles[0] >= 10


def test_larger_than_a_tile_with_holes_and_a_building_inside() -> None:
    plan = Tiling(core=40, halo=10).plan(AREA)
    objects = [ring(150, 120, 95, 60), ring(150, 120, 50, 5), ring(150, 120, 4, 2)]
    assert_once(merge(see(objects, plan), plan), objects)


def test_corner_of_four_tiles() -> None:
    plan = Tiling(core=60, halo=16).plan(Window(row_off=0, col_off=0, height=120, width=180))
    objects = [shapely.box(40, 45, 90, 80), shapely.box(90, 50, 114, 80), shapely.box(114, 55, 126, 67)]
    merged = merge(see(objects, plan), plan)
    assert_once(merged, objects)
    assert sorted(merged.n_tiles.tolist()) == [4, 4, 4]


def test_two_classes_on_one_ground_stay_two() -> None:
    plan = Tiling(core=60, halo=16).plan(AREA)
    yard, crane = shapely.box(30, 40, 140, 100), shapely.box(60, 60, 80, 120)
    merged = merge(see([yard, crane], plan, labels=[0, 1]), plan)
    assert_once(merged, [yard, crane])
    assert sorted(merged.outlines.labels.tolist()) == [0, 1]


def named(*rows: tuple[Any, float, int, tuple[int, int]]) -> Outlines:
    """A table of (outline, score, label, tile)."""
    return Outlines(
        geometry=np.array([row[0] for row in rows], object),
        scores=np.array([row[1] for row in rows], np.float32),
        labels=np.array([row[2] for row in rows], np.int64),
        tiles=np.array([row[3] for row in rows], np.int32),
    )


TWO = Tiling(core=60, halo=20).plan(Window(row_off=0, col_off=0, height=90, width=120))
"""Two tiles beside each other, and two below."""


def test_one_outline_under_two_labels_is_one_object() -> None:
    """Of the label of whoever sees it best: here both see it well, so that the score tells."""
    hull = affinity.rotate(shapely.box(50, 10, 71, 18), 20)
    merged = merge(named((hull, 0.6, 1, (0, 0)), (affinity.translate(hull, 0.5), 0.7, 2, (0, 1))), TWO)
    assert merged.outlines.labels.tolist() == [2]
    assert merged.n_tiles.tolist() == [2]
    assert merged.agreement[0] > 0.8


def test_the_label_of_pieces_is_that_of_most_of_the_ground() -> None:
    quay = shapely.box(4, 20, 118, 31)
    left, right = (shapely.intersection(quay, shapely.box(*TWO.tile(0, col).window.xyxy)) for col in (0, 1))
    merged = merge(named((left, 0.5, 3, (0, 0)), (right, 0.9, 1, (0, 1))), TWO)
    assert_once(merged, [quay])
    assert merged.outlines.labels.tolist() == [1]


def test_a_piece_under_another_label_does_not_change_a_whole_outline() -> None:
    shed = shapely.box(30, 10, 63, 24)
    piece = shapely.intersection(shapely.buffer(shed, 0.5), shapely.box(*TWO.tile(0, 1).window.xyxy))
    merged = merge(named((shed, 0.6, 0, (0, 0)), (piece, 0.9, 1, (0, 1))), TWO)
    assert_once(merged, [shed])
    assert merged.outlines.labels.tolist() == [0]


def test_two_classes_that_one_tile_tells_apart_stay_two() -> None:
    """Nearly the same ground: a pool and its deck; one tile drew both, the others one each."""
    deck, pool = shapely.box(48, 48, 72, 72), shapely.box(49, 49, 71, 71)
    both = [(deck, 0.9, 0, (0, 0)), (pool, 0.8, 1, (0, 0))]
    merged = merge(named(*both, (deck, 0.7, 0, (0, 1)), (pool, 0.95, 1, (1, 1))), TWO)
    assert sorted(merged.outlines.labels.tolist()) == [0, 1]
    assert merged.n_tiles.tolist() == [2, 2]


def test_whoever_sees_it_best_decides_what_an_object_scores() -> None:
    """A tile that cuts it takes the piece for a house of its own; the one that sees it whole is in doubt."""
    shed, house = shapely.box(30, 10, 63, 24), shapely.box(70, 40, 84, 52)
    piece = shapely.intersection(shed, shapely.box(*TWO.tile(0, 1).window.xyxy))
    seen = named((shed, 0.4, 0, (0, 0)), (piece, 0.9, 0, (0, 1)), (house, 0.6, 0, (0, 1)), (house, 0.45, 0, (0, 0)))
    assert_once(merge(seen, TWO, least=0.5), [house])
    assert_once(merge(seen, TWO, least=0.3), [shed, house])
    assert 0 < heard(0.5) <= 0.4


def test_where_all_score_enough_the_least_score_changes_nothing() -> None:
    plan = Tiling(core=(60, 45), halo=16).plan(AREA)
    seen = see(things(3), plan)
    assert rows_of(merge(seen, plan, least=0.3)) == rows_of(merge(seen, plan))
    assert len(merge(seen, plan, least=0.9)) < len(merge(seen, plan))


def test_a_fragment_with_a_high_score_does_not_win() -> None:
    plan = Tiling(core=60, halo=20).plan(Window(row_off=0, col_off=0, height=60, width=120))
    house = shapely.box(50, 20, 70, 38)
    boat = shapely.box(30, 20, 50, 29.5)
    seen = Outlines(
        geometry=np.array([house, shapely.box(44, 20, 50, 29.5), boat]),
        scores=np.array([0.5, 0.99, 0.4], np.float32),
        labels=np.zeros(3, np.int64),
        tiles=np.array([[0, 0], [0, 1], [0, 0]], np.int32),
    )
    merged = merge(seen, plan)
    assert_once(merged, [house, boat])
    assert merged.outlines.scores.max() == pytest.approx(0.5)


def test_agreement_is_the_iou_in_the_shared_ground() -> None:
    plan = Tiling(core=60, halo=20).plan(Window(row_off=0, col_off=0, height=60, width=120))
    seen = Outlines(
        geometry=np.array([shapely.box(50, 10, 70, 30), shapely.box(50, 10, 70, 26), shapely.box(5, 5, 20, 9)]),
        scores=np.array([0.5, 0.6, 0.7], np.float32),
        labels=np.zeros(3, np.int64),
        tiles=np.array([[0, 0], [0, 1], [0, 0]], np.int32),
    )
    merged = merge(seen, plan)
    assert merged.n_tiles.tolist() == [1, 2]
    assert math.isnan(merged.agreement[0])
    assert merged.agreement[1] == pytest.approx(16 / 20)


def test_nothing_in_nothing_out() -> None:
    plan = Tiling(core=60, halo=20).plan(AREA)
    merged = merge(Outlines(), plan)
    closed, waiting = split(Outlines(), next(plan.blocks()).span, plan)
    assert len(merged) == len(closed) == len(waiting) == 0


def test_a_strip_that_one_tile_missed_is_one_and_its_neighbour_another() -> None:
    plan = Tiling(core=60, halo=16).plan(AREA)
    quays = [affinity.rotate(shapely.box(0, y, 400, y + 11), 9, origin=(200, 100)) for y in (90, 101)]
    seen = see(quays, plan)
    heard = ~((seen.tiles == (1, 3)).all(axis=1) | (seen.tiles == (2, 3)).all(axis=1))
    merged = merge(seen.take(heard), plan)
    assert len(merged) == 2
    for quay in quays:
        share = shapely.area(shapely.intersection(merged.outlines.geometry, quay)) / quay.area
        assert share.max() > 0.85
        assert share.min() < 1e-6


@pytest.mark.parametrize(
    ("halo", "angle", "width", "missed"),
    [(16, 166, 9, (1, 3)), (24, 12, 14, (1, 2)), (24, 61, 11, (1, 3)), (24, 19, 9, (1, 3))],
)
def test_a_strip_at_an_angle_that_one_tile_missed_is_one(
    halo: int, angle: float, width: float, missed: tuple[int, int]
) -> None:
    """Its open end may be that of a piece in a neighbour's corner, or touch the next piece without sharing ground."""
    plan = Tiling(core=60, halo=halo).plan(AREA)
    strip = affinity.rotate(shapely.box(60, 100, 340, 100 + width), angle, origin=(200, 110))
    seen = see([strip.intersection(shapely.box(0, 10, 400, 230))], plan)
    kept = (seen.tiles != missed).any(axis=1)
    assert not kept.all()
    assert len(merge(seen.take(kept), plan)) == 1


LONG = Tiling(core=500, halo=60).plan(Window(row_off=0, col_off=0, height=300, width=1000))
"""Two tiles: one sees columns 0 to 560, the other 440 to 1000."""


def test_a_mask_that_ends_some_pixels_short_of_its_window_may_be_cut_by_it() -> None:
    """A cell of a mask 500 px long is 18 px, and what shows in it is known to half of that."""
    left, right = shapely.box(30, 50, 552, 70), shapely.box(448, 50, 900, 70)
    merged = merge(named((left, 0.9, 0, (0, 0)), (right, 0.8, 0, (0, 1))), LONG)
    assert shapely.bounds(merged.outlines.geometry).tolist() == [[30, 50, 900, 70]]
    # Of a house in the same place it is certain.
    left, right = shapely.box(500, 50, 552, 90), shapely.box(500, 50, 560, 90)
    merged = merge(named((left, 0.9, 0, (0, 0)), (right, 0.8, 0, (0, 1))), LONG)
    assert shapely.bounds(merged.outlines.geometry).tolist() == [[500, 50, 560, 90]]


PIER, SHED = shapely.box(30, 165, 670, 205), shapely.box(300, 236, 320, 256)
QUAY = Tiling(core=128, halo=32).plan(Window(row_off=0, col_off=0, height=400, width=700))


def test_a_speck_of_a_pier_on_a_shed_makes_the_pier_no_shed() -> None:
    seen = see([PIER, SHED], QUAY)
    speck = shapely.box(304, 240, 314, 250)
    stray = np.flatnonzero((seen.tiles == (1, 2)).all(axis=1) & shapely.intersects(seen.geometry, PIER))
    assert len(stray) == 1
    seen.geometry[stray] = shapely.union(seen.geometry[stray], speck)
    merged = sorted(merge(seen, QUAY).outlines.geometry, key=shapely.area)
    assert len(merged) == 2
    assert merged[0].equals(SHED)
    assert merged[1].equals(shapely.union(PIER, speck))


@pytest.mark.parametrize("part", [SHED, shapely.box(280, 236, 350, 276)])
def test_a_long_object_loses_nothing_to_a_tile_that_sees_its_other_part_alone(part: Any) -> None:
    merged = merge(see([shapely.union(PIER, part)], QUAY), QUAY).outlines.geometry
    assert shapely.union_all(merged).equals(shapely.union(PIER, part))
    assert any(shapely.covers(each, PIER) for each in merged)


def test_a_piece_that_is_broken_goes_on_where_its_smaller_part_is_cut() -> None:
    """A tree over the pier, in the eyes of one tile: what it sees beyond the tree is of the pier."""
    seen = see([PIER], QUAY)
    broken = np.flatnonzero((seen.tiles == (1, 2)).all(axis=1))
    seen.geometry[broken] = shapely.difference(seen.geometry[broken], shapely.box(345, 100, 375, 300))
    (found,) = merge(seen, QUAY).outlines.geometry
    assert shapely.bounds(found).tolist() == [30, 165, 670, 205]


def test_of_a_piece_in_equal_halves_each_speaks() -> None:
    seen = see([PIER], QUAY)
    halved = np.flatnonzero((seen.tiles == (1, 2)).all(axis=1))
    seen.geometry[halved] = shapely.difference(seen.geometry[halved], shapely.box(314, 100, 326, 300))
    pairs = Judged.of(seen, QUAY).pairs
    assert {(int(i), int(j)) for i, j in zip(pairs.i, pairs.j, strict=True)} >= {
        tuple(sorted((int(halved[0]), int(k)))) for k in np.flatnonzero(np.isin(seen.tiles[:, 1], (1, 3)))
    }


@pytest.mark.parametrize("core", [128, 256])
def test_the_view_of_an_object_is_one_that_sees_all_of_its_parts(core: int) -> None:
    """The tile beside it sees one part alone, and that deeper in its window."""
    both = shapely.MultiPolygon([shapely.box(84, 40, 95, 60), shapely.box(125, 40, 135, 60)])
    plan = Tiling(core=core, halo=32).plan(Window(row_off=0, col_off=0, height=100, width=256))
    (found,) = merge(see([both], plan), plan).outlines.geometry
    assert found.equals(both)


def test_a_row_of_crumbs_is_a_piece_and_what_is_drawn_whole_is_not() -> None:
    crumbs = shapely.MultiPolygon([shapely.box(x, 50, x + 10, 70) for x in range(60, 520, 40)])
    right = shapely.box(442, 50, 900, 70)
    (merged,) = merge(named((crumbs, 0.9, 0, (0, 0)), (right, 0.8, 0, (0, 1))), LONG).outlines.geometry
    assert merged.equals(shapely.union(crumbs, right))
    # Four sheds under one roof are small enough for any mask: the better view is the object.
    sheds = shapely.MultiPolygon([shapely.box(x, 50, x + 10, 60) for x in range(480, 536, 15)])
    beside = affinity.translate(sheds, 1, 0)
    (merged,) = merge(named((sheds, 0.9, 0, (0, 0)), (beside, 0.8, 0, (0, 1))), LONG).outlines.geometry
    assert merged in (sheds, beside)
    # A house with specks beside it is a whole view of a house.
    specks = [shapely.box(x, 45, x + 2, 47) for x in range(500, 520, 5)]
    house = shapely.MultiPolygon([shapely.box(490, 50, 530, 90), *specks])
    other = shapely.box(491, 50, 529, 90)
    (merged,) = merge(named((house, 0.9, 0, (0, 1)), (other, 0.8, 0, (0, 0))), LONG).outlines.geometry
    assert merged in (house, other)


def test_ragged_masks_of_touching_houses_come_out_once_each() -> None:
    """Outlines 1 px too small to 2 px too large, ending up to 4 px short of the edge that cuts them."""
    area = Window(row_off=0, col_off=0, height=300, width=520)
    plan = Tiling(core=100, halo=20).plan(area)
    houses = [shapely.box(20 + 16 * k, 30 + 44 * m, 36 + 16 * k, 52 + 44 * m) for k in range(29) for m in range(6)]
    rng = np.random.default_rng(4)
    seen = see(houses, plan)
    drawn = shapely.buffer(seen.geometry, rng.uniform(-1, 2, len(seen)), join_style="mitre")
    frames = np.array([plan.tile(*tile).window.xyxy for tile in seen.tiles.tolist()], float)
    short = frames + rng.uniform(0, 4, frames.shape) * np.array([1, 1, -1, -1]) * (frames != np.array(area.xyxy))
    drawn = shapely.intersection(drawn, shapely.box(*short.T))
    keep = shapely.area(drawn) > 4
    table = Outlines(geometry=drawn, scores=seen.scores, labels=seen.labels, tiles=seen.tiles).take(keep)
    merged = merge(table, plan).outlines.geometry
    thing, found = shapely.STRtree(merged).query(np.array(houses))
    overlap = shapely.area(shapely.intersection(np.array(houses)[thing], merged[found]))
    iou = overlap / (shapely.area(np.array(houses)[thing]) + shapely.area(merged[found]) - overlap)
    assert (np.bincount(thing[iou > 0.5], minlength=len(houses)) == 1).all()
    assert len(merged) == len(houses)


def test_an_outline_that_geos_refuses_costs_no_other() -> None:
    """A ring that crosses itself, where two tiles see it and next to sound outlines."""
    plan = Tiling(core=60, halo=20).plan(Window(row_off=0, col_off=0, height=60, width=120))
    house, quay = shapely.box(55, 30, 70, 45), shapely.box(5, 50, 115, 56)
    seen = see([house, quay], plan)
    knot = shapely.Polygon([(46, 4), (79, 24), (79, 4), (46, 24)])
    with pytest.raises(shapely.GEOSException):
        shapely.intersection(knot, shapely.box(50, 5, 70, 20))
    knots = Outlines(
        geometry=np.array([knot, affinity.translate(knot, 0.5)]),
        scores=np.array([0.9, 0.8], np.float32),
        labels=np.zeros(2, np.int64),
        tiles=np.array([[0, 0], [0, 1]], np.int32),
    )
    merged = merge(Outlines.concat([seen, knots]), plan)
    assert len(merged) == 3
    known = ~shapely.intersects(merged.outlines.geometry, shapely.box(46, 4, 79.5, 24))
    assert_once(merged.take(known), [house, quay])


def test_broken_rows_are_mended_alone() -> None:
    knot, box = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), shapely.box(2, 2, 20, 20)
    sound = shapely.box(1, 1, 5, 7)
    cut = intersection(np.array([sound, knot, sound]), np.full(3, box))
    assert shapely.area(cut) == pytest.approx([15, 32, 15])
    assert cut[0].equals_exact(shapely.intersection(sound, box)) and shapely.is_valid(cut).all()
    both = union(np.array([knot, knot, sound]), np.array([0, 0, 1]))
    assert shapely.area(both) == pytest.approx([50, 24])
    assert shapely.is_valid(both).all()
    beside = shapely.box(5, 1, 9, 7)  # shares a side with the sound one
    others = np.array([box, box, beside, shapely.Polygon()])
    assert share_ground(np.array([sound, knot, sound, sound]), others).tolist() == [True, True, False, False]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_shared_area_is_that_of_the_intersection(seed: int) -> None:
    """Of simple polygons of all sizes, and of those with holes or parts; each pair by itself gives the same bits."""
    rng = np.random.default_rng(seed)
    corners = [3, 4, 6, 8, 9, 12, 15, 17, 40]
    angles = [np.sort(rng.uniform(0, 2 * np.pi, n)) for n in corners * 4]
    radii = [rng.uniform(5, 25, len(angle)) for angle in angles]
    stars = [
        shapely.Polygon(np.column_stack([np.cos(a) * r, np.sin(a) * r])) for a, r in zip(angles, radii, strict=True)
    ]
    shapes = [star if star.is_valid else shapely.box(-9, -7, 5, 11) for star in stars]
    shapes += [
        ring(3, 4, 20, 9),
        shapely.union_all([ring(0, 0, 9, 5), shapely.box(20, 0, 30, 12)]),
        shapely.box(0, 0, 8, 3),
    ]
    i, j = (a.ravel() for a in np.meshgrid(np.arange(len(shapes)), np.arange(len(shapes))))
    one = np.array(shapes, object)[i]
    other = shapely.transform(np.array(shapes, object)[j], lambda xy: xy + rng.uniform(-12, 12, 2))
    low = rng.uniform(-25, 15, (len(i), 2))
    boxes = np.hstack([low, low + rng.uniform(0, 60, (len(i), 2))])
    bounds = shapely.bounds(one), shapely.bounds(other)
    found = shared_area(one, other, bounds, boxes)
    expected = shapely.area(shapely.intersection(shapely.intersection(one, other), shapely.box(*boxes.T)))
    assert found == pytest.approx(expected, abs=1e-5)  # where edges all but coincide both round, each its way
    for k in rng.integers(0, len(i), 9).tolist():
        row = slice(k, k + 1)
        assert shared_area(one[row], other[row], (bounds[0][row], bounds[1][row]), boxes[row])[0] == found[k]
    either = shapely.area(shapely.union(one, other))
    assert iou(one, other) == pytest.approx(shapely.area(shapely.intersection(one, other)) / either, abs=1e-7)


def test_iou_of_nothing_is_zero() -> None:
    whole = np.array([shapely.box(0, 0, 3, 2), ring(3, 4, 20, 9)])
    assert iou(np.array([shapely.Polygon(), shapely.MultiPolygon()]), whole).tolist() == [0.0, 0.0]
    assert iou(whole, whole) == pytest.approx([1.0, 1.0])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_area_inside_a_box_is_the_area_of_the_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = np.array([affinity.rotate(ring(x, y, 20, 9), angle) for x, y, angle in rng.uniform(0, 90, (8, 3))])
    shapes[0] = shapely.union_all([shapes[0], shapely.box(200, 0, 210, 30)])
    corners = rng.uniform(0, 90, (8, 2))
    boxes = np.hstack([corners, corners + rng.uniform(0, 60, (8, 2))])
    expected = shapely.area(shapely.intersection(shapes, shapely.box(*boxes.T)))
    assert area_inside(shapes, boxes) == pytest.approx(expected, abs=1e-7)
