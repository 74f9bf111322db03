from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import ConfigError
from geoseg.tiling import Plan, Tiling
from geoseg.window import Window

windows = st.builds(
    Window,
    row_off=st.integers(-20, 20),
    col_off=st.integers(-20, 20),
    height=st.integers(0, 60),
    width=st.integers(0, 60),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    core = draw(st.integers(1, 25))
    tiling = Tiling(core=core, halo=draw(st.integers(0, core)), block=draw(st.integers(1, 4)))
    return tiling.plan(draw(windows))


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
    halo = plan.tiling.halo
    for tile in plan.tiles():
        core, window = tile.core, tile.window
        assert window.row_off == max(core.row_off - halo, plan.area.row_off)
        assert window.col_off == max(core.col_off - halo, plan.area.col_off)
        assert window.row_end == min(core.row_end + halo, plan.area.row_end)
        assert window.col_end == min(core.col_end + halo, plan.area.col_end)


@given(plan=plans())
def test_blocks_are_rectangles_of_all_tiles_once(plan: Plan) -> None:
    blocks = list(plan.blocks())
    assert sorted((t.row, t.col) for b in blocks for t in b.tiles) == [(t.row, t.col) for t in plan.tiles()]
    assert len({(b.row, b.col) for b in blocks}) == len(blocks)
    for block in blocks:
        rows, cols = {t.row for t in block.tiles}, {t.col for t in block.tiles}
        assert len(block.tiles) == len(rows) * len(cols) <= plan.tiling.block**2
        assert max(rows) - min(rows) < plan.tiling.block and max(cols) - min(cols) < plan.tiling.block
        assert all(block.window.contains(tile.window) for tile in block.tiles)
        assert [(t.row, t.col) for t in block.tiles] == sorted((t.row, t.col) for t in block.tiles)
        union = block.window
        assert union.row_off == min(t.window.row_off for t in block.tiles)
        assert union.col_end == max(t.window.col_end for t in block.tiles)


@given(plan=plans())
def test_tiles_are_found_by_their_place(plan: Plan) -> None:
    for tile in plan.tiles():
        assert plan.tile(tile.row, tile.col) == tile
    for row, col in ((plan.rows, 0), (0, plan.cols), (-1, 0), (0, -1)):
        with pytest.raises(IndexError):
            plan.tile(row, col)


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


@pytest.mark.parametrize(("core", "halo", "block"), [(0, 0, 1), (8, -1, 1), (8, 9, 1), (8, 0, 0)])
def test_sizes_that_cannot_tile_are_refused(core: int, halo: int, block: int) -> None:
    with pytest.raises(ConfigError, match="halo <= core"):
        Tiling(core=core, halo=halo, block=block)


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
