from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import Painted, numbered, write_raster

from geoseg import Settings, Tiling
from geoseg.blocks import BlockTask
from geoseg.extraction import run
from geoseg.ground import unseamed
from geoseg.job import Job
from geoseg.outlines import Outlines
from geoseg.seams import merge
from geoseg.squares import Ladder, Square
from geoseg.window import Window


def _plan(rows: int, cols: int, block: int) -> Any:
    return Tiling(core=10, halo=2, block=block).plan(Window(row_off=0, col_off=0, height=10 * rows, width=10 * cols))


def _ladder(rows: int, cols: int, block: int = 1) -> Ladder:
    plan = _plan(rows, cols, block)
    return Ladder(plan=plan, rows=range(-(-rows // block)), cols=range(-(-cols // block)))


@pytest.mark.parametrize(
    ("rows", "cols", "block", "rungs"),
    [(1, 1, 1, [1]), (2, 1, 1, [1]), (3, 5, 1, [2, 3]), (4, 4, 1, [2]), (17, 3, 1, [2, 4, 5]), (17, 30, 4, [2, 3])],
)
def test_the_last_rung_holds_every_tile(rows: int, cols: int, block: int, rungs: list[int]) -> None:
    ladder = _ladder(rows, cols, block)
    assert ladder.rungs == rungs
    (top,) = ladder.squares(rungs[-1])
    span = ladder.plan.square(top.row, top.col, level=top.level)
    assert (span.row, span.row_end, span.col, span.col_end) == (0, rows, 0, cols)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
def test_every_block_has_one_parent_on_each_rung(rows: int, cols: int, top: int, left: int) -> None:
    plan = _plan(rows, cols, 1)
    ladder = Ladder(plan=plan, rows=range(min(top, rows - 1), rows), cols=range(min(left, cols - 1), cols))
    below = [Square(level=0, row=r, col=c) for r in ladder.rows for c in ladder.cols]
    for level in ladder.rungs:
        squares = list(ladder.squares(level))
        children = [child for square in squares for child in ladder.children(square)]
        assert sorted(children) == sorted(below)
        assert all(
            square in list(ladder.above(child))
            for square in squares
            for child in ladder.children(square)
            if child.level
        )
        below = squares


@given(
    st.lists(
        st.tuples(st.floats(-5, 165), st.floats(-5, 255), st.floats(0, 90), st.floats(0, 90)), min_size=2, max_size=30
    )
)
def test_boxes_that_touch_live_in_squares_of_which_one_holds_the_other(places: list[tuple[float, ...]]) -> None:
    ladder = _ladder(16, 25)
    boxes = np.array([(x, y, x + w, y + h) for y, x, h, w in places])
    homes = ladder.homes(boxes)
    touching = shapely.STRtree(shapely.box(*boxes.T)).query(shapely.box(*boxes.T))
    for i, j in touching.T.tolist():
        at = max(homes[i], homes[j])
        corner = [np.clip(boxes[k, :2] // 10, 0, (24, 15)).astype(int) >> at for k in (i, j)]
        assert (corner[0] == corner[1]).all()


def _speckled(seed: int, height: int, width: int) -> Any:
    """Many objects, small and long, many of them side by side."""
    rng, pixels = np.random.default_rng(seed), np.zeros((height, width), np.uint8)
    for value in range(1, 90):
        row, col = rng.integers(0, height - 2), rng.integers(0, width - 2)
        tall, wide = (rng.integers(2, 14, 2) if value % 9 else (3, rng.integers(30, 150))) if value % 10 else (60, 2)
        pixels[row : row + tall, col : col + wide] = value
    return pixels


def _whole(job: Job, raster: Path) -> gpd.GeoDataFrame:
    """All tiles' outlines merged at once, all objects brought into shape at once."""
    from geoseg.work import WorkFolder

    parts = WorkFolder(path=raster.parent).parts("whole", lasting=False)
    task: BlockTask = job.task(parts, None)
    outlines, gaps = [], []
    assert job.examiner is not None
    for block in job.plan.blocks():
        for strip in job.examiner.strips(block):
            outlines.append(task._outlined(strip).outlines)
            gaps += strip.gaps
    merged = unseamed(merge(Outlines.concat(outlines), job.plan, least=job.threshold))
    return numbered(job.ground(job.gaps(gaps)).footprints(merged)[0])


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    core=st.integers(9, 24),
    halo=st.integers(0, 9),
    block=st.integers(1, 3),
    gap=st.sampled_from([0.0, 3.0]),
    regularize=st.sampled_from(["none", "buildings", "ships"]),
)
def test_squares_give_what_merging_everything_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, seed: int, core: int, halo: int, block: int, gap: float, regularize: str
) -> None:
    raster = write_raster(tmp_path_factory.mktemp("squares") / "a.tif", _speckled(seed, 130, 190))
    chosen = Settings.model_validate({"shapes": {"gap_px": gap, "regularize": regularize}, "engine": {"workers": 2}})
    tiling = Tiling(core=core, halo=halo, block=block)
    job = Job.of(raster, Painted(), aoi=None, tiling=tiling, settings=chosen)
    assert_geodataframe_equal(run(raster, Painted(), tiling=tiling, settings=chosen).footprints, _whole(job, raster))
