"""What it saves that freed memory is kept for the next tile (``geoseg.allocator``): runs with it, and as glibc has it.

    python -m benchmarks.allocator [--tiles 4] [--rounds 3]

Each run is a process of its own, ``geoseg extract`` over the sample town laid side by side; both take turns, medians
are printed. Exits 1 where it costs more CPU time, or a tenth more memory, than without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.end_to_end import scene


def run(raster: Path, output: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of the clock and of the CPU, pages taken, MiB at the peak."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "geoseg",
        "extract",
        str(raster),
        "-o",
        str(output),
        "--model",
        "buildings",
        "--force",
    ]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, command, {**os.environ, **environment}, file_actions=quiet)
    _, status, used = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return {
        "clock s": time.monotonic() - began,
        "CPU s": used.ru_utime + used.ru_stime,
        "of it in the kernel": used.ru_stime,
        "1000 pages": used.ru_minflt / 1000,
        "peak MiB": used.ru_maxrss / 1024,
    }


def main() -> int:
    """Take turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=4, help="to a side of the raster")
    parser.add_argument("--rounds", type=int, default=3, help="of each")
    options = parser.parse_args()
    # A variable that is there, though it says nothing, is enough for geoseg to leave the allocator alone.
    found: dict[str, list[dict[str, float]]] = {"kept": [], "as glibc has it": []}
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        raster = scene(Path(folder) / "town.tif", options.tiles * 512)
        for number in range(options.rounds):
            for name in [*found][:: 1 if number % 2 == 0 else -1]:
                environment = {} if name == "kept" else {"GLIBC_TUNABLES": ""}
                found[name].append(run(raster, Path(folder) / "town.gpkg", environment))
    medians = {name: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for name, runs in found.items()}
    kept, other = medians.values()
    print(f"{'':20}" + "".join(f"{name:>18}" for name in found) + f"{'ratio':>8}")
    for key in kept:
        print(f"{key:20}{kept[key]:18.1f}{other[key]:18.1f}{kept[key] / other[key]:8.2f}")
    return 0 if kept["CPU s"] <= other["CPU s"] and kept["peak MiB"] <= 1.1 * other["peak MiB"] else 1


if __name__ == "__main__":
    sys.exit(main())
