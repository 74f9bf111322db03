"""What reading costs: a dataset opened per tile, against one open reader, per tile and per block of tiles.

    python -m benchmarks.read [RASTER]

Prints, per way, CPU seconds and how many times over the file's bytes were read (each read is decoded).
Without RASTER two rasters are made, one tiled and one in strips.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window as RioWindow

from geoseg.detectors.base import ModelCard
from geoseg.raster import Reader, Source, open_raster, source_for
from geoseg.tiling import Plan, Tiling

TILING = Tiling(core=512, halo=64)


def bytes_read() -> int:
    """All bytes this process has asked the system for (Linux)."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise RuntimeError("no /proc/self/io here: this measure needs Linux")


def opened_per_tile(source: Source, plan: Plan) -> None:
    for tile in plan.tiles():
        w = tile.window
        with rasterio.open(source.info.path) as dataset:
            dataset.read(window=RioWindow(w.col_off, w.row_off, w.width, w.height))


def one_reader_per_tile(source: Source, plan: Plan) -> None:
    with Reader(source) as reader:
        for tile in plan.tiles():
            reader.read([tile])


def one_reader_per_block(source: Source, plan: Plan) -> None:
    with Reader(source) as reader:
        for block in plan.blocks():
            reader.read(block.tiles)


def measure(path: Path, way: Callable[[Source, Plan], None]) -> tuple[float, float]:
    source = source_for(open_raster(path), ModelCard(classes=("thing",)))
    before, start = bytes_read(), time.process_time()
    way(source, TILING.plan(source.grid.window))
    return time.process_time() - start, (bytes_read() - before) / path.stat().st_size


def make(path: Path, **layout: object) -> Path:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (3, 600, 700), "uint8").repeat(10, 1).repeat(10, 2)
    pixels = coarse + rng.integers(0, 50, coarse.shape, "uint8")
    profile = {"driver": "GTiff", "crs": "EPSG:32645", "transform": Affine(0.3, 0, 3e5, 0, -0.3, 3e6)}
    shape = {"count": 3, "height": coarse.shape[1], "width": coarse.shape[2], "dtype": "uint8"}
    with rasterio.open(path, "w", compress="deflate", interleave="pixel", **profile, **shape, **layout) as out:
        out.write(pixels)
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            paths = [Path(sys.argv[1])]
        else:
            square = {"tiled": True, "blockxsize": 512, "blockysize": 512}
            paths = [
                make(Path(folder, "tiled.tif"), **square),
                make(Path(folder, "strips.tif"), blockysize=16),
            ]
        for path in paths:
            for way in (opened_per_tile, one_reader_per_tile, one_reader_per_block):
                seconds, times = measure(path, way)
                print(f"{path.name:12} {way.__name__:22} {seconds:7.2f} CPU s   file read {times:5.2f} times")


if __name__ == "__main__":
    main()
