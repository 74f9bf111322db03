"""What the merge at seams costs: CPU seconds against one STRtree build, and next to dissolve and NMS.

Also how many outlines it holds at a time where it is done block by block.

python -m benchmarks.merge_cost [--most 1000000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely

from geoseg.outlines import Outlines
from geoseg.seams import merge, split
from geoseg.tiling import Plan, Tiling
from geoseg.window import Window

TILING = Tiling(core=1300, halo=16)
"""About 8 % of the rows of a large table have a twin in another tile."""
SPACING = 40.0
"""Pixels between footprints: a dense town."""
DISSOLVE_MOST, NMS_MOST = 100_000, 10_000
"""Rows above which the slow ones are not run."""


def table(n: int, seed: int = 0) -> tuple[Outlines, Plan]:
    """About ``n`` outlines: eight-cornered houses on a jittered lattice, seen by every tile that sees any of them."""
    rng = np.random.default_rng(seed)
    cols = round((n / 1.2) ** 0.5 * 1.1)
    rows = round(n / cols)
    x, y = (axis.ravel() * SPACING + 20 for axis in np.meshgrid(np.arange(cols), np.arange(rows)))
    area = Window(row_off=0, col_off=0, height=int(rows * SPACING), width=int(cols * SPACING))
    plan = TILING.plan(area)
    half = rng.uniform(8, 18, (2, len(x)))
    ring = np.array([[-1, -1], [0.2, -1], [0.2, -0.6], [1, -0.6], [1, 1], [0.1, 1], [0.1, 0.7], [-1, 0.7]])
    xy = np.stack([x[:, None] + ring[:, 0] * half[0][:, None], y[:, None] + ring[:, 1] * half[1][:, None]], axis=2)
    houses = shapely.polygons(xy + rng.uniform(-2, 2, (len(x), 1, 2)))
    things, tiles, frames = _seen(shapely.bounds(houses), plan)
    geometry = houses[things]
    geometry = shapely.polygons(
        shapely.get_coordinates(geometry).reshape(-1, 9, 2) + rng.normal(0, 0.5, (len(things), 1, 2))
    )
    bounds = shapely.bounds(geometry)
    over = np.flatnonzero((bounds[:, :2] < frames[:, :2]).any(axis=1) | (bounds[:, 2:] > frames[:, 2:]).any(axis=1))
    geometry[over] = shapely.intersection(geometry[over], shapely.box(*frames[over].T))
    order = rng.permutation(np.flatnonzero(shapely.area(geometry) > 0))  # the jitter took some out of their windows
    outlines = Outlines(
        geometry=geometry[order],
        scores=rng.uniform(0.3, 1, len(order)).astype(np.float32),
        labels=np.zeros(len(order), np.int64),
        tiles=tiles[order],
    )
    return outlines, plan


def _seen(bounds: Any, plan: Plan) -> tuple[Any, Any, Any]:
    frames = np.array([tile.window.xyxy for tile in plan.tiles()], np.float64)
    place = np.array([(tile.row, tile.col) for tile in plan.tiles()], np.int32)
    tile, thing = shapely.STRtree(shapely.box(*bounds.T)).query(shapely.box(*frames.T))
    inside = (np.minimum(bounds[thing, 2:], frames[tile, 2:]) - np.maximum(bounds[thing, :2], frames[tile, :2])) > 0.5
    keep = inside.all(axis=1)
    return thing[keep], place[tile[keep]], frames[tile[keep]]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What became of the outlines on one level of blocks."""

    squares: int
    """Blocks, or squares of two by two blocks of the level below."""
    arrived: int
    """Outlines that came to this level, of all its squares."""
    most: int
    """Of these, the most that one square had to hold."""
    left: int
    """Outlines still open after it."""


def climb(outlines: Outlines, plan: Plan) -> tuple[list[Rung], int]:
    """Split blocks, then squares of two by two, and so on; what each level held, and how many objects came out."""
    block = outlines.tiles // plan.tiling.block
    order = np.lexsort((block[:, 1], block[:, 0]))
    places, first = np.unique(block[order], axis=0, return_index=True)
    parts = np.split(order, first[1:])
    level = {(int(r), int(c)): [outlines.take(rows)] for (r, c), rows in zip(places, parts, strict=True)}
    rungs, objects = [], 0
    for number in range(plan.levels + 1):
        above: dict[tuple[int, int], list[Outlines]] = {}
        held = []
        for (row, col), tables in level.items():
            mine = Outlines.concat(tables)
            held.append(len(mine))
            closed, rest = split(mine, plan.square(row, col, level=number), plan)
            objects += len(closed)
            above.setdefault((row // 2, col // 2), []).append(rest)
        left = sum(len(rest) for tables in above.values() for rest in tables)
        rungs.append(Rung(squares=len(level), arrived=sum(held), most=max(held), left=left))
        level = above
    return rungs, objects


def dissolve(outlines: Outlines, plan: Plan) -> Any:
    """Union of everything that overlaps: what ``sjoin`` and ``dissolve`` amount to."""
    return shapely.get_parts(shapely.union_all(outlines.geometry))


def nms(outlines: Outlines, plan: Plan) -> Any:
    """Greedy box NMS at IoU 0.5, one pass per kept box, as it is written everywhere."""
    box = shapely.bounds(outlines.geometry)
    size = (box[:, 2:] - box[:, :2]).prod(axis=1)
    order, kept = np.argsort(-outlines.scores, kind="stable"), []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        sides = np.minimum(box[first, 2:], box[rest, 2:]) - np.maximum(box[first, :2], box[rest, :2])
        shared = sides.clip(0).prod(axis=1)
        order = rest[shared < 0.5 * (size[first] + size[rest] - shared)]
    return kept


def tree(outlines: Outlines, plan: Plan) -> Any:
    """One STRtree, built (a first query forces it)."""
    built = shapely.STRtree(outlines.geometry)
    built.query(outlines.geometry[0])
    return built


def cpu(work: Callable[[Outlines, Plan], Any], outlines: Outlines, plan: Plan, *, times: int) -> tuple[float, Any]:
    """Least CPU seconds of some runs, and what came out."""
    best, out = np.inf, None
    for _ in range(times):
        fresh = replace(outlines)  # without the bounds that an earlier run worked out
        start = time.process_time()
        out = work(fresh, plan)
        best = min(best, time.process_time() - start)
    return best, out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="rows of the largest table")
    most = parser.parse_args().most
    print(
        f"{'rows':>9} {'twins':>6} {'objects':>8} {'tree s':>7} {'merge s':>8} {'merge':>7} {'dissolve':>9} {'NMS':>9}"
    )
    for n in (n for n in (10_000, 30_000, 100_000, 300_000, 1_000_000) if n <= most):
        outlines, plan = table(n)
        one, _ = cpu(tree, outlines, plan, times=5)
        ours, merged = cpu(merge, outlines, plan, times=3)
        twins = (len(outlines) - len(merged)) / len(outlines)
        others = [
            f"{cpu(work, outlines, plan, times=1)[0] / one:8.1f}x" if n <= limit else f"{'-':>9}"
            for work, limit in ((dissolve, DISSOLVE_MOST), (nms, NMS_MOST))
        ]
        print(
            f"{len(outlines):9,d} {twins:6.1%} {len(merged):8,d} {one:7.3f} {ours:8.2f} {ours / one:6.1f}x "
            + " ".join(others),
            flush=True,
        )
    rungs, objects = climb(outlines, plan)
    print(f"\nlevel by level, {len(outlines):,d} rows, {objects:,d} objects")
    print(f"{'squares':>9} {'rows':>10} {'most in one':>12} {'left open':>10}")
    for rung in rungs:
        print(f"{rung.squares:9,d} {rung.arrived:10,d} {rung.most:12,d} {rung.left:10,d}")


if __name__ == "__main__":
    main()
