"""How much longer a whole run takes than its detector alone on the same tiles: the rest should hide behind it.

    python benchmarks/overlap.py [--side 6144] [--tile-s 0.25] [--limit 1.05]

The detector computes for ``tile_s`` seconds of CPU per tile on one thread, outside of Python's lock, and then says
what is painted there. It is run on all chips first, one batch after the other; then ``geoseg.extraction.run_to`` runs
it with two threads and writes a GeoPackage. Time is that of the clock: nothing else should be at work on the machine.
Exits 1 where the run takes more than ``limit`` times as long.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

import geoseg
from geoseg.extraction import run_to
from geoseg.job import Job
from geoseg.raster import reader

CARD = geoseg.ModelCard(classes=("thing",), name="worker", core=512, halo=64)
STEP = 48
"""Pixels between objects, both ways: about a hundred in a tile."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Takes CPU time, and finds a disc at each place of a lattice."""

    tile_s: float
    card: geoseg.ModelCard = CARD

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """One set of instances per chip."""
        matrix = np.random.default_rng(0).normal(size=(384, 384))
        end = time.thread_time() + self.tile_s * len(chips)
        while time.thread_time() < end:
            matrix @ matrix  # BLAS lets other threads run meanwhile
        return [self._discs(chip) for chip in chips]

    def _discs(self, chip: geoseg.Chip) -> geoseg.Instances:
        window = chip.tile.window
        cells = (np.arange(28) + 0.5) / 28 - 0.5
        disc = np.clip(3 - 6 * np.hypot(*np.meshgrid(cells, cells)), 0, 1).astype(np.float32)
        rows = np.arange(-(-window.row_off // STEP) * STEP, window.row_end - 30, STEP) - window.row_off
        cols = np.arange(-(-window.col_off // STEP) * STEP, window.col_end - 30, STEP) - window.col_off
        corners = np.array([(col, row) for row in rows for col in cols], float).reshape(-1, 2)
        n = len(corners)
        return geoseg.Instances(
            boxes=np.hstack([corners, corners + 30]), scores=np.full(n, 0.9), labels=np.zeros(n), masks=[disc] * n
        )


def make(path: Path, side: int) -> None:
    """A tiled, deflated raster of noise, three bands."""
    noise = np.random.default_rng(7).integers(60, 90, (3, 512, 512), dtype=np.uint8)
    profile: dict[str, Any] = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    place = {"crs": "EPSG:32645", "transform": Affine(0.3, 0, 350_000, 0, -0.3, 3_050_000)}
    size = {"height": side, "width": side, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size, **place, **profile) as out:
        out.write(np.tile(noise, (1, -(-side // 512), -(-side // 512)))[:, :side, :side])


def alone(path: Path, model: Worker, settings: geoseg.Settings) -> float:
    """Seconds of the detector by itself, in batches as in a run; reading is not counted."""
    job = Job.of(path, model, aoi=None, tiling=None, settings=settings)
    assert job.examiner is not None
    seconds = 0.0
    for block in job.plan.blocks():
        chips, _ = reader(job.examiner.source).read(block.tiles)
        for start in range(0, len(chips), settings.detect.batch):
            began = time.perf_counter()
            model.predict(chips[start : start + settings.detect.batch])
            seconds += time.perf_counter() - began
    return seconds


def main() -> int:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=6144)
    parser.add_argument("--tile-s", type=float, default=0.25)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=1.05)
    given = parser.parse_args()
    settings = geoseg.Settings.model_validate({"engine": {"workers": given.workers}})
    model = Worker(tile_s=given.tile_s)
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "noise.tif"
        make(path, given.side)
        detector = alone(path, model, settings)
        began = time.perf_counter()
        report = run_to(path, model, Path(home) / "out.gpkg", settings=settings)
        whole = time.perf_counter() - began
    told = {"detector_s": detector, "run_s": whole, "ratio": whole / detector}
    print(json.dumps({**told, "tiles": report.tiles_examined, "footprints": report.footprints}, indent=2))
    return 0 if whole / detector <= given.limit else 1


if __name__ == "__main__":
    sys.exit(main())
