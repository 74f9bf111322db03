from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import ConfigError
from geoseg.tiling import Plan, Tiling, said
from geoseg.window import Window

Sides = int | tuple[int, int]

windows = st.builds(
    Window,
    row_off=st.integers(-20, 20),
    col_off=st.integers(-20, 20),
    height=st.integers(0, 60),
    width=st.integers(0, 60),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    rows, cols = draw(st.integers(1, 25)), draw(st.integers(1, 25))
    halo = draw(st.sampled_from([0, 1])) and (draw(st.integers(1, rows)), draw(st.integers(1, cols)))
    return Tiling(core=(rows, cols), halo=halo, block=draw(st.integers(1, 4))).plan(draw(windows))


def _pixels(window: Window) -> set[tuple[int, int]]:
    return {
        (row, col) for row in range(window.row_off, window.row_end) for col in range(window.col_off, window.col_end)
    }


@given(plan=plans())
def test_cores_are_an_exact_partition(plan: Plan) -> None:
    seen = np.zeros((plan.area.height, plan.area.width), int)
    for tile in plan.tiles():
        core = tile.core
        rows = slice(core.row_off - plan.area.row_off, core.row_end - plan.area.row_off)
        cols = slice(core.col_off - plan.area.col_off, core.col_end - plan.area.col_off)
        assert plan.area.contains(core) and not core.empty
        seen[rows, cols] += 1
    assert (seen == 1).all()
    assert len(plan) == sum(1 for _ in plan.tiles())


@given(plan=plans())
def test_a_window_is_the_core_and_its_halo_cut_to_the_area(plan: Plan) -> None:
    above, beside = plan.tiling.halo_yx
    for tile in plan.tiles():
        core, window = tile.core, tile.window
        assert core.height <= plan.tiling.core_yx[0] and core.width <= plan.tiling.core_yx[1]
        assert window.row_off == max(core.row_off - above, plan.area.row_off)
        assert window.col_off == max(core.col_off - beside, plan.area.col_off)
        assert window.row_end == min(core.row_end + above, plan.area.row_end)
        assert window.col_end == min(core.col_end + beside, plan.area.col_end)


@given(plan=plans())
def test_blocks_are_rectangles_of_all_tiles_once(plan: Plan) -> None:
    blocks = list(plan.blocks())
    assert sorted((t.row, t.col) for b in blocks for t in b.tiles) == [(t.row, t.col) for t in plan.tiles()]
    assert len({(b.row, b.col) for b in blocks}) == len(blocks)
    for block in blocks:
        rows, cols = {t.row for t in block.tiles}, {t.col for t in block.tiles}
        assert len(block.tiles) == len(rows) * len(cols) <= plan.tiling.block**2
        assert max(rows) - min(rows) < plan.tiling.block and max(cols) - min(cols) < plan.tiling.block
        assert [(t.row, t.col) for t in block.tiles] == sorted((t.row, t.col) for t in block.tiles)


@given(plan=plans())
def test_tiles_are_found_by_their_place(plan: Plan) -> None:
    for tile in plan.tiles():
        assert plan.tile(tile.row, tile.col) == tile
    for row, col in ((plan.rows, 0), (0, plan.cols), (-1, 0), (0, -1)):
        with pytest.raises(IndexError):
            plan.tile(row, col)


@given(plan=plans())
def test_blocks_join_two_by_two_until_one_holds_every_tile(plan: Plan) -> None:
    below = {(b.row, b.col): {(t.row, t.col) for t in b.tiles} for b in plan.blocks()}
    for block in plan.blocks():
        assert plan.square(block.row, block.col, level=0) == block.span
    for level in range(1, plan.levels + 1):
        joined: dict[tuple[int, int], set[tuple[int, int]]] = {}
        for (row, col), tiles in below.items():
            joined.setdefault((row // 2, col // 2), set()).update(tiles)
        for (row, col), tiles in joined.items():
            span = plan.square(row, col, level=level)
            assert tiles == {(r, c) for r in range(span.row, span.row_end) for c in range(span.col, span.col_end)}
        below = joined
    assert len(below) == min(len(plan), 1)
    with pytest.raises(IndexError):
        plan.square(1, 0, level=plan.levels)


@given(plan=plans(), within=windows)
def test_blocks_within_a_window_are_those_whose_cores_meet_it(plan: Plan, within: Window) -> None:
    expected = [b for b in plan.blocks() if any(not t.core.intersection(within).empty for t in b.tiles)]
    assert list(plan.blocks(within=within)) == expected
    assert plan.count(within=within) == sum(len(block.tiles) for block in expected)


def test_tiles_of_a_plan_are_made_when_asked_for() -> None:
    plan = Tiling(core=1, halo=0).plan(Window(row_off=0, col_off=0, height=10**7, width=10**7))
    assert len(plan) == 10**14
    first = next(plan.blocks())
    assert len(first.tiles) == 16


@pytest.mark.parametrize(
    ("core", "halo", "block"),
    [(0, 0, 1), (8, -1, 1), (8, 9, 1), (8, 0, 0), ((8, 0), 0, 1), ((8, 20), (4, 21), 1), ((8, 20), 9, 1)],
)
def test_sizes_that_cannot_tile_are_refused(core: Sides, halo: Sides, block: int) -> None:
    with pytest.raises(ConfigError, match="halo <= core"):
        Tiling(core=core, halo=halo, block=block)


def test_two_sides_are_rows_then_columns() -> None:
    plan = Tiling(core=(10, 30), halo=(2, 5)).plan(Window(row_off=0, col_off=0, height=100, width=90))
    assert (plan.rows, plan.cols) == (10, 3)
    tile = plan.tile(1, 1)
    assert tile.core == Window(row_off=10, col_off=30, height=10, width=30)
    assert tile.window == Window(row_off=8, col_off=25, height=14, width=40)
    assert (said(plan.tiling.core), said(plan.tiling.halo), said(512)) == ("10 x 30", "2 x 5", "512")


def test_equal_sides_are_one_number() -> None:
    assert Tiling(core=(64, 64), halo=(8, 8)) == Tiling(core=64, halo=8)
    assert Tiling(core=[64, 32], halo=(8, 4)) == Tiling(core=(64, 32), halo=(8, 4))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rows and columns"):
        Tiling(core=(1, 2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["128", 64.0, None, (64, "32"), np.array([64, 32])], ids=repr)
def test_what_is_no_whole_number_is_no_side_of_a_tile(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="whole numbers"):
        Tiling(core=wrong)
    with pytest.raises(ConfigError, match="whole numbers"):
        Tiling(block=wrong)


def test_numbers_of_numpy_become_pythons_own() -> None:
    """A report, which is JSON, says the tiling."""
    tiling = Tiling(core=(np.int64(64), np.int16(32)), halo=np.uint8(8), block=np.int32(2))  # type: ignore[arg-type]
    assert json.dumps([tiling.core, tiling.halo, tiling.block]) == "[[64, 32], 8, 2]"


def test_a_halo_in_one_direction_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="on all sides, or on none"):
        Tiling(core=64, halo=(0, 8))


@given(a=windows, b=windows)
def test_intersection_is_that_of_the_pixels(a: Window, b: Window) -> None:
    both = a.intersection(b)
    assert _pixels(both) == _pixels(a) & _pixels(b)
    assert both.empty == (not _pixels(a) & _pixels(b))
    assert _pixels(b.intersection(a)) == _pixels(both)


@given(a=windows, b=windows)
def test_contains_is_that_of_the_pixels(a: Window, b: Window) -> None:
    if not b.empty:
        assert a.contains(b) == (_pixels(b) <= _pixels(a))


@given(window=windows, within=windows, margins=st.lists(st.integers(0, 9), min_size=2, max_size=2))
def test_a_wider_margin_never_holds_less(window: Window, within: Window, margins: list[int]) -> None:
    sizes = [_pixels(window.expanded(margin, within=within)) for margin in sorted(margins)]
    assert all(a <= b for a, b in pairwise(sizes))
    assert sizes[-1] <= _pixels(within)


def test_xyxy_is_columns_first() -> None:
    assert Window(row_off=1, col_off=2, height=10, width=20).xyxy == (2, 1, 22, 11)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="-1 x 3"):
        Window(row_off=0, col_off=0, height=-1, width=3)
