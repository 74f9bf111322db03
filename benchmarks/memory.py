"""Peak memory of driver and workers follows tile, batch and open seams: not the raster's size, nor how many blocks.

    python -m benchmarks.memory [--sides 5000 20000 40000] [--blocks 100 2500 20000] [--limit 1.10]

Each raster is made, extracted from and written as a GeoPackage, in processes of their own: a driver, and one worker
process of two threads. Objects are equally dense everywhere, every other one on a seam. The peak is the kernel's
high-water mark of resident memory (VmHWM, Linux): it counts pages of files that are mapped, too, which the system can
take back. Exits 1 where the largest peak, of driver or worker, is more than the limit times that of the first size.
--sides: pixels, in blocks of 4 x 4 tiles of 512. --blocks: of one tile of 64, where a detector that is free leaves all
but the cost of a block. GDAL's cache of 64 MiB is full from some size on: three bands fill it at 5,000 pixels, and
where blocks are counted it is held to 1 MiB, since 100 such blocks are 1.2 MB of pixels. Work files go to TMPDIR; each
is flushed to its disk, so a busy disk takes its time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

STEP = {512: 256, 64: 64}
"""Pixels between objects by the side of a core: some lie on corners of four tiles."""


def extract(path: Path, core: int) -> None:
    """One whole run, printed as JSON."""
    from benchmarks.discs import discs
    from geoseg.config import Settings
    from geoseg.extraction import extract_to

    model = discs(core, core // 8, step=STEP[core], radius=STEP[core] // 13)
    engine = {"processes": 1, "workers": 2}
    settings = Settings.model_validate({"engine": engine, "tiling": {"block": 4 if core == 512 else 1}})
    began = time.monotonic()
    report = extract_to(path, model, path.with_suffix(".gpkg"), settings=settings)
    print(json.dumps({"footprints": report.footprints, "seconds": time.monotonic() - began}))


@dataclass(kw_only=True)
class Seen:
    """What was seen of one process."""

    kind: str
    """``driver`` or ``worker``."""
    mib: float = 0.0
    """High-water mark of resident memory."""
    cpu_s: float = 0.0
    """CPU time."""


def look(process: psutil.Process, found: dict[int, Seen]) -> None:
    """Note how a driver and its workers fare, by process id."""
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error, OSError, IndexError):
            kind = "driver" if each.pid == process.pid else "worker" if "spawn_main" in " ".join(each.cmdline()) else ""
            status = Path(f"/proc/{each.pid}/status").read_text()
            if kind:
                mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
                found[each.pid] = Seen(kind=kind, mib=mib, cpu_s=sum(each.cpu_times()[:2]))


def measure(side: int, core: int, folder: Path) -> dict[str, float]:
    """MiB of driver and worker on a raster of ``side`` pixels."""
    from benchmarks.discs import make

    path = make(folder / f"{side}.tif", side, bands=3)
    own = [sys.executable, "-m", "benchmarks.memory", "--path", str(path), "--core", str(core)]
    cache = {"GDAL_CACHEMAX": "1"} if core == 64 else {}  # MB
    run = subprocess.Popen(own, stdout=subprocess.PIPE, text=True, env={**os.environ, **cache})
    seen: dict[int, Seen] = {}
    while run.poll() is None:
        with suppress(psutil.Error):
            look(psutil.Process(run.pid), seen)
        time.sleep(0.3)
    assert run.stdout is not None and run.returncode == 0
    told = json.loads(run.stdout.read().splitlines()[-1])
    found = {kind: max(each.mib for each in seen.values() if each.kind == kind) for kind in ("driver", "worker")}
    tiles = math.ceil(side / core)
    blocks = math.ceil(tiles / 4) ** 2 if core == 512 else tiles**2
    print(
        f"{side:,} x {side:,} px, {blocks:,} blocks: driver {found['driver']:.0f} MiB, worker {found['worker']:.0f} "
        f"MiB; {told['footprints']:,} footprints, {told['seconds']:.0f} s, "
        f"{sum(each.cpu_s for each in seen.values()) / blocks * 1e3:.1f} ms of CPU time per block",
        flush=True,
    )
    for file in folder.iterdir():
        file.unlink()
    return found


def main() -> int:
    """Measure all sizes, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="*", default=[5_000, 20_000, 40_000], help="of rasters, pixels")
    parser.add_argument("--blocks", type=int, nargs="*", default=[100, 2_500, 20_000], help="numbers of blocks")
    parser.add_argument("--limit", type=float, default=1.10, help="largest ratio of peaks that passes")
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        extract(options.path, options.core)
        return 0
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        by_blocks = [math.ceil(math.sqrt(blocks)) * 64 for blocks in options.blocks]
        for core, sizes in ((512, options.sides), (64, by_blocks)):
            found = [measure(side, core, Path(folder)) for side in sorted(sizes)]
            for kind in ("driver", "worker") if found else ():
                ratio = max(each[kind] for each in found) / found[0][kind]
                worst = max(worst, ratio)
                print(f"{kind}: ratio {ratio:.3f} (limit {options.limit:.2f})", flush=True)
    return 0 if worst <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
