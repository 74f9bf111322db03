"""What dask costs per block, against what the network costs for one: to be below 1 %.

    python -m benchmarks.overhead [--blocks 400] [--model buildings] [--limit 0.01]

CPU time of driver and workers together, which is what a busy machine can measure: of blocks that do nothing, on threads
and on a process; and of the model on the tiles of one block.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

import geoseg
from geoseg.engine import Engine
from geoseg.instances import Chip
from geoseg.tiling import Block, Tiling
from geoseg.window import Window

TOWN = Path(__file__).resolve().parent.parent / "data_samples" / "town.tif"


def nothing(block: Block) -> int:
    """What a block does here."""
    return block.row


def cpu_s() -> float:
    """CPU time of this process and its children."""
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in every)


def per_block(blocks: int, **where: int) -> float:
    """Seconds of CPU time that dask takes for a block."""
    plan = Tiling(core=4, halo=1, block=1).plan(Window(row_off=0, col_off=0, height=4, width=4 * (blocks + 20)))
    every = list(plan.blocks())
    with Engine.open(**where) as engine:
        list(engine.map(nothing, every[:20]))  # everything is loaded now
        began = cpu_s()
        assert len(list(engine.map(nothing, every[20:]))) == blocks
        return (cpu_s() - began) / blocks


def of_the_network(name: str, side: int, tell: Callable[[str], None]) -> float:
    """Seconds of CPU time that a model takes for a block of ``side`` x ``side`` tiles."""
    import rasterio

    model = geoseg.load_model(name, device="cpu")
    card = model.card
    size = card.core + 2 * card.halo
    with rasterio.open(TOWN) as source:
        pixels = source.read(out_shape=(source.count, size, size))[:3]
    plan = Tiling(core=card.core, halo=card.halo).plan(Window(row_off=0, col_off=0, height=size, width=size))
    tile = max(plan.tiles(), key=lambda tile: tile.window.height * tile.window.width)
    some = np.ascontiguousarray(pixels[:, : tile.window.height, : tile.window.width])
    chip = Chip(tile=tile, pixels=some, valid=np.ones(some.shape[1:], bool))
    model.predict([chip])
    took = []
    for _ in range(3):
        began = time.process_time()
        model.predict([chip])
        took.append(time.process_time() - began)
    tell(f"{name}: {min(took) * 1e3:.0f} ms of CPU time for a tile of {some.shape[1]} x {some.shape[2]} pixels")
    return min(took) * side**2


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=400, help="that do nothing")
    parser.add_argument("--model", default="buildings", help="to compare with")
    parser.add_argument("--limit", type=float, default=0.01, help="largest share that passes")
    options = parser.parse_args()
    side = geoseg.Settings().tiling.block
    network = of_the_network(options.model, side, print)
    found = {
        "threads": per_block(options.blocks, workers=2),
        "a process": per_block(options.blocks, processes=1, workers=2),
    }
    for where, seconds in found.items():
        print(f"{where}: {seconds * 1e3:.2f} ms of CPU time per block, {seconds / network:.3%} of {network:.1f} s")
    print(f"(load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    return 0 if max(found.values()) / network <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
