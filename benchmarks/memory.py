"""Peak memory of a run follows the tile and the batch, not the raster: 20,000 x 20,000 against 5,000 x 5,000.

    python benchmarks/memory.py [--sides 5000 20000] [--limit 1.10]

Each raster is made, extracted from with a stub detector and written as a GeoPackage, in processes of their own.
The peak is the kernel's high-water mark of resident memory (VmHWM, Linux). Exits 1 where the ratio of the
largest raster's peak to the smallest's exceeds the limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEP = 256
"""Pixels between objects, both ways: four per core of 512, every other one on a corner of four tiles."""
RADIUS = 20
"""Of an object, in pixels."""


def make(path: Path, side: int) -> None:
    """A tiled, deflated 3-band raster of repeated noise, north-up at 0.3 m."""
    import numpy as np
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    noise = np.random.default_rng(7).integers(60, 90, (3, 512, 512), dtype=np.uint8)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=3,
        dtype="uint8",
        crs="EPSG:32645",
        transform=Affine(0.3, 0, 350_000, 0, -0.3, 3_050_000),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        zlevel=1,
        photometric="rgb",
        num_threads=2,
    ) as out:
        for row in range(0, side, 512):
            height = min(512, side - row)
            strip = np.tile(noise[:, :height], (1, 1, -(-side // 512)))[:, :, :side]
            out.write(strip, window=Window(0, row, side, height))


def extract(path: Path) -> None:
    """One whole run, printed as JSON."""
    import numpy as np

    import geoseg

    ticks = (np.arange(28) + 0.5) / 14 - 1
    disc = (1.5 - np.hypot(*np.meshgrid(ticks, ticks))).clip(0, 1).astype(np.float32)

    class Stub:
        """Sees a disc around every STEP-th pixel, cut at its window."""

        card = geoseg.ModelCard(classes=("disc",), core=512, halo=64)

        def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
            return [self.one(chip) for chip in chips]

        def one(self, chip: geoseg.Chip) -> geoseg.Instances:
            window = chip.tile.window
            rows, cols = (
                np.arange(-(-start // STEP) * STEP, end, STEP) - start
                for start, end in ((window.row_off, window.row_end), (window.col_off, window.col_end))
            )
            y, x = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
            return geoseg.Instances(
                boxes=np.column_stack([x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS]),
                scores=np.full(len(x), 0.9),
                labels=np.zeros(len(x)),
                masks=[disc] * len(x),
            )

    began = time.monotonic()
    footprints = geoseg.extract(path, Stub(), settings=geoseg.Settings.model_validate({"engine": {"workers": 2}}))
    geoseg.write(footprints, path.with_suffix(".gpkg"))
    print(json.dumps({"footprints": len(footprints), "seconds": time.monotonic() - began, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """High-water mark of this process's resident memory, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> int:
    """Measure all sides, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[5_000, 20_000], help="sides of the rasters, pixels")
    parser.add_argument("--limit", type=float, default=1.10, help="largest ratio of peaks that passes")
    parser.add_argument("--step", choices=["make", "extract"], help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        make(options.path, options.sides[0]) if options.step == "make" else extract(options.path)
        return 0
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        for side in sorted(options.sides):
            path = Path(folder) / f"{side}.tif"
            own = [sys.executable, __file__, "--path", str(path), "--sides", str(side), "--step"]
            subprocess.run([*own, "make"], check=True)
            done = subprocess.run([*own, "extract"], check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            peaks[side] = found["peak_mib"]
            print(
                f"{side} x {side}: peak {found['peak_mib']:.0f} MiB, {found['footprints']} footprints, "
                f"{side * side / 1e6 / found['seconds']:.1f} MP/s",
                flush=True,
            )
            path.unlink()
    ratio = peaks[max(peaks)] / peaks[min(peaks)]
    print(f"ratio {ratio:.3f} (limit {options.limit:.2f})")
    return 0 if ratio <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
