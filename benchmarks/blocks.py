"""Peak memory of the driving process, and what a block costs besides its detector, by the number of blocks.

    python benchmarks/blocks.py [--blocks 100 20000] [--processes 0] [--limit 1.10]

Blocks of one tile of 32 x 32 pixels, a detector that costs nothing, one object in each tile and one on each corner.
Each run is a process of its own and writes a GeoPackage from a work folder (on TMPDIR). The peak is the kernel's
high-water mark of resident memory (VmHWM, Linux): of threads in the process by default, where it is driver, scheduler
and worker in one; with ``--processes`` of the driver and scheduler alone. Exits 1 where the peak of the most blocks is
more than ``limit`` times that of the fewest.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

import geoseg
from geoseg.extraction import run_to

CORE = 32
CARD = geoseg.ModelCard(classes=("thing",), name="corners", core=CORE, halo=8)


@dataclass(frozen=True, kw_only=True)
class Corners:
    """Finds a square on each corner of a tile, and one inside."""

    card: geoseg.ModelCard = CARD

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """One set of instances per chip."""
        return [self._one(chip) for chip in chips]

    def _one(self, chip: geoseg.Chip) -> geoseg.Instances:
        core, window = chip.tile.core, chip.tile.window
        rows, cols = (core.row_off, core.row_off + 16, core.row_end), (core.col_off, core.col_off + 16, core.col_end)
        centres = [(cols[1], rows[1]), *((col, row) for col in cols[::2] for row in rows[::2])]
        middle = np.array(centres, float) - (window.col_off, window.row_off)
        boxes = np.clip(np.hstack([middle - 4, middle + 4]), 0, [window.width, window.height] * 2)
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
        masks = [np.ones((2, 2), bool)] * len(boxes)
        return geoseg.Instances(boxes=boxes, scores=np.full(len(boxes), 0.9), labels=np.zeros(len(boxes)), masks=masks)


def run(blocks: int, processes: int) -> None:
    """One run, printed as JSON."""
    side = math.isqrt(blocks) * CORE
    engine = {"workers": 2, **({"processes": processes} if processes else {})}
    settings = geoseg.Settings.model_validate({"engine": engine, "vectorize": {"tolerance_px": 0.0}})
    tiling = geoseg.Tiling(core=CORE, halo=8, block=1)
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "flat.tif"
        place = {"crs": "EPSG:32645", "transform": Affine(0.3, 0, 350_000, 0, -0.3, 3_050_000)}
        size = {"height": side, "width": side, "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="GTiff", tiled=True, compress="deflate", **size, **place) as out:
            for row in range(0, side, 256):
                height = min(256, side - row)
                window = rasterio.windows.Window(0, row, side, height)
                out.write(np.ones((1, height, side), np.uint8), window=window)
        began, cpu = time.perf_counter(), time.process_time()
        report = run_to(path, Corners(), Path(home) / "out.gpkg", tiling=tiling, settings=settings)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    done = report.tiles_examined
    told = {"blocks": done, "footprints": report.footprints, "peak_mib": peak / 1024, "seconds": seconds}
    print(json.dumps({**told, "cpu_ms_per_block": 1000 * cpu / done, "ms_per_block": 1000 * seconds / done}))


def main() -> int:
    """Compare few with many."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs="+", default=[100, 20_000])
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--limit", type=float, default=1.10)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run(given.one, given.processes)
        return 0
    peaks = []
    for blocks in given.blocks:
        command = [sys.executable, __file__, "--one", str(blocks), "--processes", str(given.processes)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(json.dumps(told), flush=True)
        peaks.append(told["peak_mib"])
    ratio = peaks[-1] / peaks[0]
    print(json.dumps({"ratio": ratio}))
    return 0 if ratio <= given.limit else 1


if __name__ == "__main__":
    sys.exit(main())
