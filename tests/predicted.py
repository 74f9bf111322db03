"""Predictions of blocks, made up and drawn at random; and whether two are the same to the bit."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import shapely
from hypothesis import strategies as st

from geoseg.gaps import Gap, Reason
from geoseg.instances import Instances
from geoseg.predicting import Cause
from geoseg.predictions import Predictions
from geoseg.tiling import Block, Tile, Tiling
from geoseg.window import Window

PLAN = Tiling(core=100, halo=20, block=2).plan(Window(row_off=7, col_off=3, height=310, width=490))
BLOCKS = list(PLAN.blocks())


def masks_of(rng: np.random.Generator, n: int) -> list[np.ndarray[Any, Any]]:
    """Soft blobs of several sizes and types, some of them cells; smooth, as a network's are."""
    kinds: list[np.ndarray[Any, Any]] = []
    for _ in range(n):
        h, w = (28, 28) if rng.random() < 0.6 else rng.integers(1, 40, 2).tolist()
        rows, cols = np.mgrid[0:h, 0:w] + 0.5
        away = np.hypot((rows / h - 0.5) * rng.uniform(1.5, 3), (cols / w - 0.5) * rng.uniform(1.5, 3))
        soft = 1 / (1 + np.exp((away - 0.8) * rng.uniform(2, 30))) + rng.normal(0, 0.05, (h, w))
        kind = rng.choice(["float32", "float64", "float16", "bool", "uint8"])
        kinds.append((soft > 0.5).astype(kind) if kind in ("bool", "uint8") else soft.clip(0, 1).astype(kind))
    return kinds


def seen_in(tile: Tile, rng: np.random.Generator, n: int) -> Instances:
    """Boxes anywhere in a tile's window, some beyond its edge."""
    size = np.array([tile.window.width, tile.window.height])
    first = rng.uniform(-3, size - 5, (n, 2))
    return Instances(
        boxes=np.column_stack([first, first + rng.uniform(1, 60, (n, 2))]),
        scores=rng.uniform(0.1, 1, n),
        labels=rng.integers(0, 3, n),
        masks=masks_of(rng, n),
    )


def predicted(block: Block, seed: int = 0, most: int = 6) -> Predictions:
    """What a block might give; the last of its tiles was not examined."""
    rng = np.random.default_rng([block.row, block.col, seed])
    tiles = block.tiles[: max(1, len(block.tiles) - 1)]
    hole = shapely.Polygon([(0.1, 0.2), (9, 0), (7, 8.3)], [[(3, 2), (5, 2), (5, 3.3)]])
    gaps = [Gap(geometry=hole, reason="nodata"), Gap(geometry=shapely.box(*tiles[0].core.xyxy), reason="failed")]
    return Predictions(
        tiles=tiles,
        instances=tuple(seen_in(tile, rng, int(rng.integers(0, most + 1))) for tile in tiles),
        gaps=tuple(gaps),
        planned=len(block.tiles),
        examined=len(tiles),
        unreadable=1,
        failed={"memory": 2, "answer": 1},
        pixels=12_345,
        device="cuda:0 — äö",
    )


@st.composite
def predictions(draw: st.DrawFn, block: Block) -> Predictions:
    """Anything that a block may give."""
    chosen = draw(st.lists(st.sampled_from(block.tiles), unique_by=lambda tile: (tile.row, tile.col)))
    tiles = tuple(sorted(chosen, key=lambda tile: (tile.row, tile.col)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    few = st.integers(0, 5)
    reasons = draw(st.lists(st.sampled_from(get_args(Reason)), max_size=3))
    return Predictions(
        tiles=tiles,
        instances=tuple(seen_in(tile, rng, draw(few)) for tile in tiles),
        gaps=tuple(
            Gap(geometry=shapely.box(i, 0, i + 0.1, 3), reason=r, detail=draw(st.text())) for i, r in enumerate(reasons)
        ),
        planned=draw(few),
        examined=draw(few),
        unreadable=draw(few),
        failed=draw(st.dictionaries(st.sampled_from(get_args(Cause)), few)),
        pixels=draw(st.integers(0, 2**60)),
        device=draw(st.text()),
    )


def bits(instances: Instances) -> list[Any]:
    """All that a set of instances holds, comparable to the last bit."""
    arrays = [instances.boxes, instances.scores, instances.labels, *instances.masks]
    return [(str(each.dtype), each.shape, each.tobytes()) for each in arrays]


def same(one: Predictions, other: Predictions) -> bool:
    """True where two are the same, to the last bit."""
    return _told(one) == _told(other)


def _told(p: Predictions) -> Any:
    gaps = [(shapely.to_wkb(gap.geometry), gap.reason, gap.detail) for gap in p.gaps]
    counts = (p.planned, p.examined, p.unreadable, dict(p.failed), p.pixels, p.device)
    return p.tiles, [bits(each) for each in p.instances], gaps, counts
