"""The store: bytes per instance, objects per block, blocks per second.

Blocks hold what a network leaves: soft 28 x 28 masks (a blob with a network's noise on it, so that they compress as
a network's do, not better). Times are wall and CPU seconds of this process; the CPU seconds include zarr's threads.

    python -m benchmarks.store [--blocks 30] [--tiles 16] [--instances 30] [--place FOLDER_OR_URL]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from geoseg.instances import Instances
from geoseg.predictions import Predictions
from geoseg.store import Store
from geoseg.tiling import Block, Tile, Tiling
from geoseg.vectorize import vectorize
from geoseg.window import Window

MASK = 28


def seen_in(tile: Tile, rng: np.random.Generator, n: int) -> Instances:
    """Blobs anywhere in a tile's window."""
    first = rng.uniform(0, min(tile.window.height, tile.window.width) - 70, (n, 2))
    rows, cols = np.mgrid[0:MASK, 0:MASK] / MASK - 0.47
    away = np.hypot(rows * rng.uniform(1, 1.5, (n, 1, 1)), cols * rng.uniform(1, 1.5, (n, 1, 1)))
    logits = (0.42 - away) * 25 + rng.normal(0, 0.3, (n, MASK, MASK))
    return Instances(
        boxes=np.column_stack([first, first + rng.uniform(20, 60, (n, 2))]),
        scores=rng.uniform(0.1, 1, n),
        labels=np.zeros(n),
        masks=tuple((1 / (1 + np.exp(-logits))).astype(np.float32)),
    )


def timed(what: str, work: Callable[[Block], object], blocks: list[Block], instances: int) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    for block in blocks:
        work(block)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    n = len(blocks)
    rate = f"{instances / cpu:10.0f} instances per CPU s"
    print(f"{what:10} {wall / n * 1e3:8.1f} ms wall, {cpu / n * 1e3:8.1f} ms CPU per block, {rate}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--tiles", type=int, default=16, help="per block: a square number")
    parser.add_argument("--instances", type=int, default=30, help="per tile")
    parser.add_argument("--place", help="a new folder or a URL; a temporary folder unless given")
    args = parser.parse_args()
    side = round(args.tiles**0.5)
    area = Window(row_off=0, col_off=0, height=512 * side, width=512 * side * args.blocks)
    blocks = list(Tiling(core=512, halo=64, block=side).plan(area).blocks())
    rng = np.random.default_rng(0)
    given = {}
    for block in blocks:
        seen = tuple(seen_in(tile, rng, args.instances) for tile in block.tiles)
        given[block] = Predictions(tiles=block.tiles, instances=seen, planned=len(seen), examined=len(seen))
    total = sum(map(len, given.values()))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create_or_open(args.place or Path(folder, "store"), "benchmark", {})
        print(f"{len(blocks)} blocks of {side}x{side} tiles, {total} instances, in {store.path}")
        timed("write", lambda block: store.write(block, given[block]), blocks, total)
        timed("has", store.has, blocks, total)
        timed("read", store.read, blocks, total)
        kept = store.read(blocks[0])
        timed("vectorize", lambda _: vectorize(kept.instances, kept.tiles), blocks, total)
        if not args.place:
            files = [path for path in Path(store.path).rglob("*") if path.is_file() and path.parent != Path(store.path)]
            size = sum(path.stat().st_size for path in files)
            print(f"{size / total:.0f} bytes per instance, {len(files) / len(blocks):.1f} objects per block")


if __name__ == "__main__":
    main()
