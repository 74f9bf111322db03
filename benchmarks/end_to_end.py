"""A whole run, from file to GeoPackage, takes hardly longer than the network alone on the same tiles: 1.05x.

    python -m benchmarks.end_to_end [--tiles 4] [--rounds 3] [--core 512] [--batch 4] [--device cpu] [--limit 1.05]
    python -m benchmarks.end_to_end --torchvision [--limit 0.8]    # against torchvision's model(images) alone

Reading ahead, outlines and the store are done on other cores while the network is at work, so a machine needs one to
spare. Both take turns, in one process, and medians are compared: of wall time and, since a busy machine spoils that, of
the CPU time that was spent. Start of the process and loading the model count for neither. torchvision's images lie on
the device before its time begins, and its masks stay there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import geoseg
from benchmarks.contestants import torchvisions
from geoseg.extraction import extract_to
from geoseg.instances import Chip
from geoseg.job import Job
from geoseg.raster import reader

TOWN = Path(__file__).resolve().parent.parent / "data_samples" / "town.tif"


def scene(path: Path, side: int) -> Path:
    """The sample town, over and over, as a GeoTIFF of ``side`` x ``side`` pixels."""
    import numpy as np
    import rasterio

    with rasterio.open(TOWN) as source:
        pixels, profile = source.read(), source.profile
    times = [-(-side // length) for length in pixels.shape[1:]]
    whole = np.tile(pixels, (1, *times))[:, :side, :side]
    tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "photometric": "rgb"}
    with rasterio.open(path, "w", **{**profile, **tiled, "height": side, "width": side}) as out:
        out.write(whole)
    return path


def chips_of(raster: Path, model: Any, settings: geoseg.Settings) -> list[list[Chip]]:
    """All chips of a run, in its batches."""
    job = Job.of(raster, model, aoi=None, tiling=None, settings=settings)
    assert job.examiner is not None
    found, _ = reader(job.examiner.source).read(list(job.plan.tiles()))
    batch = job.examiner.batch
    return [list(found[start : start + batch]) for start in range(0, len(found), batch)]


def torchvision_alone(model: Any, batches: list[list[Chip]]) -> Callable[[], None]:
    """torchvision's ``model(images)`` on all chips: tiles of one size together, for it would enlarge the smaller ones
    at the raster's edge; on a CPU, where it is faster so, one by one."""
    contestant, where = torchvisions(model), model.where
    groups: list[list[Chip]] = []
    for batch in batches:
        same: dict[Any, list[Chip]] = {}
        for number, chip in enumerate(batch):
            same.setdefault(number if where.type == "cpu" else chip.pixels.shape, []).append(chip)
        groups += same.values()
    images = [contestant.given(group) for group in groups]

    def network() -> None:
        for each in images:
            contestant.run(each)
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    return network


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - cpu


def main() -> int:
    """Take turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=4, help="to a side of the raster")
    parser.add_argument("--rounds", type=int, default=3, help="of each")
    parser.add_argument("--model", default="buildings", help="bundled model, or weights file")
    parser.add_argument("--device", default="cpu", help="of the network")
    parser.add_argument("--core", type=int, help="side of a tile's core, pixels; default: the card's")
    parser.add_argument("--batch", type=int, default=geoseg.Settings().detect.batch, help="tiles per call")
    parser.add_argument("--processes", type=int, help="of the run, each with a network; default: threads of this one")
    parser.add_argument("--torchvision", action="store_true", help="compare with torchvision's model(images) alone")
    parser.add_argument("--limit", type=float, help="largest ratio of wall times that passes: 1.05, torchvision 0.8")
    options = parser.parse_args()
    limit = options.limit or (0.8 if options.torchvision else 1.05)
    model: Any = geoseg.load_model(options.model, device=options.device)
    found: dict[str, list[tuple[float, float]]] = {"network": [], "run": []}
    core = options.core or model.card.core
    asked = {"tiling": {"core": core}, "detect": {"batch": options.batch}, "engine": {"processes": options.processes}}
    settings = geoseg.Settings.model_validate(asked)
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        raster = scene(Path(folder) / "town.tif", options.tiles * core)
        batches = chips_of(raster, model, settings)

        def network() -> None:
            for batch in batches:
                model.predict(batch)

        def run() -> None:
            extract_to(raster, model, Path(folder) / "town.gpkg", settings=settings)

        if options.torchvision:
            network = torchvision_alone(model, batches)
        model.predict(batches[0])
        network()
        for number in range(options.rounds):
            for name, work in (("network", network), ("run", run))[:: 1 if number % 2 == 0 else -1]:
                found[name].append(timed(work))
                print(f"{name}: {found[name][-1][0]:.2f} s wall, {found[name][-1][1]:.2f} s CPU", flush=True)
    wall, cpu = ({name: statistics.median(r[at] for r in runs) for name, runs in found.items()} for at in (0, 1))
    ratio = wall["run"] / wall["network"]
    print(f"{sum(map(len, batches))} tiles: wall {ratio:.3f}x (limit {limit:.2f}x), CPU time ", end="")
    print(f"{cpu['run'] / cpu['network']:.3f}x; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0 if ratio <= limit else 1


if __name__ == "__main__":
    sys.exit(main())
