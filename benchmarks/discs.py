"""What the benchmarks of whole runs share: rasters of any size that cost next to nothing, and detectors for them.

No benchmark itself. Worker processes import it to get the detectors.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

import geoseg

_TICKS = (np.arange(28) + 0.5) / 14 - 1
DISC = (1.5 - np.hypot(*np.meshgrid(_TICKS, _TICKS))).clip(0, 1).astype(np.float32)


def make(path: Path, side: int, *, block: int = 512, bands: int = 1) -> Path:
    """A tiled, deflated raster of a repeated pattern, north-up at 0.3 m: 40,000 x 40,000 pixels take some 20 MB."""
    pattern = np.random.default_rng(7).integers(60, 90, (16, 16), dtype=np.uint8)
    strip = np.tile(pattern, (block // 16, -(-side // 16)))[:, :side]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=bands,
        dtype="uint8",
        crs="EPSG:32645",
        transform=Affine(0.3, 0, 350_000, 0, -0.3, 3_050_000),
        tiled=True,
        blockxsize=block,
        blockysize=block,
        compress="deflate",
        zlevel=1,
    ) as out:
        for row in range(0, side, block):
            height = min(block, side - row)
            out.write(np.broadcast_to(strip[:height], (bands, height, side)), window=Window(0, row, side, height))
    return path


@dataclass(frozen=True, kw_only=True)
class Discs:
    """Sees a disc around every so many pixels, cut at its window; on the way it keeps a core busy."""

    card: geoseg.ModelCard
    step: int
    """Pixels between objects, both ways."""
    radius: int
    """Of an object, in pixels."""
    busy_s: float = 0.0
    """Seconds of CPU time per chip."""

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """One set of instances per chip."""
        return [self._one(chip) for chip in chips]

    def _one(self, chip: geoseg.Chip) -> geoseg.Instances:
        began = time.thread_time()
        noise = np.ones((64, 64))
        while time.thread_time() - began < self.busy_s:
            noise = np.tanh(noise @ noise / 64)
        window = chip.tile.window
        rows, cols = (
            np.arange(-(-start // self.step) * self.step, end, self.step) - start
            for start, end in ((window.row_off, window.row_end), (window.col_off, window.col_end))
        )
        y, x = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
        return geoseg.Instances(
            boxes=np.column_stack([x - self.radius, y - self.radius, x + self.radius, y + self.radius]),
            scores=np.full(len(x), 0.9),
            labels=np.zeros(len(x)),
            masks=[DISC] * len(x),
        )


def discs(core: int, halo: int, *, step: int, radius: int, busy_s: float = 0.0) -> Discs:
    """A detector with tiles of this size."""
    card = geoseg.ModelCard(classes=("disc",), name="discs", core=core, halo=halo)
    return Discs(card=card, step=step, radius=radius, busy_s=busy_s)
