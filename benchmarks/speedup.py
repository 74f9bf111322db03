"""Two processes do a CPU-bound run twice as fast as one.

    python -m benchmarks.speedup [--rounds 3] [--busy 0.05]

A detector that keeps a core busy for so many seconds of CPU time per tile, on one thread per process; rounds with one
and two processes take turns, and the medians are compared. The time is that from the first tile to the last block, so
without the start of the processes (which is told too). On a machine that has other work to do, wall time follows what
the system gives, so the ratio is only as good as the machine is quiet.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.discs import discs, make
from geoseg.config import Settings
from geoseg.extraction import extract_to


def run(raster: Path, processes: int, busy_s: float) -> tuple[float, float]:
    """Seconds of the whole run, and from the first block's end to the last's per block."""
    told: list[float] = []
    settings = Settings.model_validate({"engine": {"processes": processes, "workers": 1}, "tiling": {"block": 2}})
    model = discs(256, 32, step=128, radius=10, busy_s=busy_s)
    began = time.monotonic()
    extract_to(
        raster,
        model,
        raster.with_suffix(".gpkg"),
        settings=settings,
        progress=lambda done, of: told.append(time.monotonic()),
    )
    first = processes  # as many come at once at the beginning
    return time.monotonic() - began, (told[-1] - told[first - 1]) / (len(told) - first)


def main() -> int:
    """Take turns, print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of each kind")
    parser.add_argument("--busy", type=float, default=0.05, help="seconds of CPU time per tile")
    parser.add_argument("--side", type=int, default=4096, help="of the raster, pixels")
    options = parser.parse_args()
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        raster = make(Path(folder) / "raster.tif", options.side)
        for _ in range(options.rounds):
            for processes, runs in found.items():
                runs.append(run(raster, processes, options.busy))
                print(f"{processes}: {runs[-1][0]:.1f} s, {runs[-1][1] * 1e3:.0f} ms a block", flush=True)
    whole, block = ({n: statistics.median(r[at] for r in runs) for n, runs in found.items()} for at in (0, 1))
    load = os.getloadavg()[0]
    print(f"1 -> 2 processes: {block[1] / block[2]:.2f}x per block, {whole[1] / whole[2]:.2f}x with start and end")
    print(f"(load of the machine {load:.1f} on {os.cpu_count()} cores)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
