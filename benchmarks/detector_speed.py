"""How fast a detector is against torchvision's own ``model(images)``: same weights, tiles, process and threads.

    OMP_NUM_THREADS=1 python -m benchmarks.detector_speed [MODEL] [--tiles 4] [--rounds 5] [--core 512 1024] [--batch 1]
    python -m benchmarks.detector_speed --device cuda --core 512 1024 --batch 1 4 --tiles 16 [--profile]

Contestants take turns, batch by batch, so that whatever else the machine does falls on all of them. Figures are the
CPU seconds of this process on a CPU, and seconds by the clock, the device waited for, on a GPU; ratios are of sums over
all rounds. Of torchvision ``model(images)`` alone is timed: its images lie on the device as floats before the clock
starts, and its masks, planes of the whole tile, stay there. geoseg is timed from 8-bit chips to Instances, all in the
host's memory. One that finds no memory is out for that size of tile and batch, its row says so, and the others go on.

Megapixels are those of the raster: a tile counts its core, not its halo. ``agree`` is the share of
torchvision's instances (score above the card's threshold) that are found again with box IoU over 0.99 and the score
within 0.01. Not asked for is what a detector leaves out on purpose: boxes wholly in another tile's core, and doubles by
their masks. The share of the device's rate is that of the multiplications that the network needs (counted by
torch.utils.flop_counter; those of operators that it does not know are missing) against a large bfloat16 matrix product
that is measured first.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import rasterio
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import box_iou

import geoseg
from benchmarks.contestants import Contestant, Found, entrants
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.suppression import mask_doubles
from geoseg.instances import Chip
from geoseg.predicting import Failure
from geoseg.tiling import Tiling
from geoseg.window import Window

T = TypeVar("T")


def cut(raster: str, tiles: int, card: geoseg.ModelCard, core: int | None = None) -> list[Chip]:
    """The first whole tiles of a raster, at a core and the card's halo, as if its GSD were the model's."""
    with rasterio.open(raster) as source:
        image = source.read((1, 2, 3))
    core = core or card.core
    side = core + 2 * card.halo
    # Room for as many inner tiles as are wanted: those at the edge are smaller.
    inner = int(np.ceil(np.sqrt(tiles))) + 2
    times = [-(-inner * core // length) for length in image.shape[1:]]
    image = np.tile(image, (1, *times))[:, : inner * core, : inner * core]
    whole = Window(row_off=0, col_off=0, height=image.shape[1], width=image.shape[2])
    out = []
    for tile in Tiling(core=core, halo=card.halo).plan(whole).tiles():
        w = tile.window
        if w.height == side == w.width and len(out) < tiles:
            pixels = image[:, w.row_off : w.row_end, w.col_off : w.col_end]
            out.append(Chip(tile=tile, pixels=pixels, valid=np.ones(pixels.shape[1:], bool)))
    return out


def agreement(reference: Found, other: Found, threshold: float) -> tuple[int, int]:
    """How many of the reference's sure instances the other has too, and how many there are."""
    boxes, scores, masks = torch.from_numpy(reference[0]), torch.from_numpy(reference[1]), reference[2]
    assert masks is not None
    kept = mask_doubles(boxes, scores, torch.zeros(len(boxes)), masks)
    sure = (scores >= threshold).numpy() & kept.numpy()
    if not sure.any() or not len(other[0]):
        return 0, int(sure.sum())
    overlap, which = box_iou(torch.from_numpy(reference[0][sure]), torch.from_numpy(other[0])).max(dim=1)
    near = np.abs(reference[1][sure] - other[1][which.numpy()]) <= 0.01
    return int(((overlap > 0.99).numpy() & near).sum()), int(sure.sum())


def clock(where: torch.device) -> float:
    """Seconds that count: of the CPU, or by the clock when the GPU is done."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
        return time.perf_counter()
    return time.process_time()


def matmul_rate(where: torch.device) -> float:
    """Floating-point operations per second of a large bfloat16 matrix product."""
    side, rounds = (8192, 50) if where.type == "cuda" else (1024, 4)
    a = torch.randn(side, side, device=where, dtype=torch.bfloat16)
    for warm in (True, False):
        start = clock(where)
        for _ in range(1 if warm else rounds):
            a @ a
        spent = clock(where) - start
    return 2 * side**3 * rounds / spent


def if_there_is_room(work: Callable[[], T], where: torch.device) -> T | None:
    """What the work gives; None if there is no memory for it."""
    try:
        return work()
    except Exception as error:
        if Failure.of(error).cause != "memory":
            raise
    # The error is gone, and with it the tensors of the frames that it held.
    if where.type == "cuda":
        torch.cuda.empty_cache()
    return None


class Standings:
    """What each contestant has taken and found; those that ran out of memory are out."""

    def __init__(self, runs: dict[str, Contestant], where: torch.device) -> None:
        self.runs, self.where = runs, where
        self.spent = dict.fromkeys(runs, 0.0)
        self.agree = dict.fromkeys(runs, (0, 0))
        self.out: set[str] = set()

    def turn(self, name: str, chips: list[Chip], *, tell: bool) -> list[Found] | None:
        """Let one run. What it found if it is to tell, else nothing; None if there is no memory for it."""
        if name in self.out:
            return None
        found = if_there_is_room(lambda: self._turn(self.runs[name], name, chips, tell=tell), self.where)
        if found is None:
            self.out.add(name)
        return found

    def _turn(self, it: Contestant, name: str, chips: list[Chip], *, tell: bool) -> list[Found]:
        given = it.given(chips)
        start = clock(self.where)
        result = it.run(given)
        spent = clock(self.where) - start
        if tell:  # the first round, which warms up
            return it.told(result, chips)
        self.spent[name] += spent
        return []

    def compare(self, results: dict[str, list[Found] | None], threshold: float) -> None:
        """Count how far all agree with the first."""
        reference = results[next(iter(self.runs))]
        for name, result in results.items():
            for theirs, found in zip(reference or (), result or (), strict=False):
                same, of = agreement(theirs, found, threshold)
                self.agree[name] = self.agree[name][0] + same, self.agree[name][1] + of

    def row(self, name: str, tiles: int, megapixels: float, least: float) -> str:
        """The contestant's line of the table, for ``tiles`` and ``megapixels`` of all rounds.

        At its full rate the device would take ``least`` seconds for a tile.
        """
        if name in self.out:
            return f"| {name} | out of memory | | | | |"
        first, seconds, (same, of) = next(iter(self.spent)), self.spent[name], self.agree[name]
        times = "-" if first in self.out else f"{self.spent[first] / seconds:.2f}"
        agree = "-" if first in self.out else f"{same / max(of, 1):.0%} of {of}"
        each = seconds / tiles
        return f"| {name} | {each:.4f} | {megapixels / seconds:.3f} | {times} | {least / each:.0%} | {agree} |"


def compared(runs: dict[str, Contestant], batches: list[list[Chip]], rounds: int, detector: MaskRCNNDetector) -> None:
    """Let all take turns, and print their row each."""
    standings = Standings(runs, detector.where)
    for around, chips in itertools.product(range(-1, rounds), batches):  # the first round warms up
        results = {name: standings.turn(name, chips, tell=around < 0) for name in runs}
        if around < 0:
            standings.compare(results, detector.card.score_threshold)
    chips = list(itertools.chain.from_iterable(batches))
    pixels = sum(chip.tile.core.height * chip.tile.core.width for chip in chips) / 1e6
    rate = matmul_rate(detector.where)
    operations = if_there_is_room(lambda: flop(detector, batches[0]), detector.where) or float("nan")
    sizes = ", ".join(sorted({"{1} x {2}".format(*chip.pixels.shape) for chip in chips}))
    print(f"\n{len(chips)} tiles of {sizes}, batches of {len(batches[0])}, {rounds} rounds; ", end="")
    print(f"{operations / 1e9:.0f} GFLOP per tile, {rate / 1e9:,.0f} GFLOP/s of bfloat16 matrix products")
    print("| | s per tile | MP/s | times as fast | share of the rate | agree |\n|---|---|---|---|---|---|")
    for name in runs:
        print(standings.row(name, len(chips) * rounds, pixels * rounds, operations / rate), flush=True)


def flop(detector: MaskRCNNDetector, chips: list[Chip]) -> float:
    """Floating-point operations per tile, one tile at a time so that there is room."""
    counter = FlopCounterMode(display=False)
    with counter:
        for chip in chips:
            detector.predict([chip])
    return counter.get_total_flops() / len(chips)


def profiled(detector: MaskRCNNDetector, chips: list[Chip]) -> None:
    """Print which operators the time goes to."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if detector.where.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    detector.predict(chips)
    with torch.profiler.profile(activities=kinds) as kept:
        detector.predict(chips)
    order = "self_cuda_time_total" if detector.where.type == "cuda" else "self_cpu_time_total"
    print(kept.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=50))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="buildings")
    parser.add_argument("--raster", default="data_samples/town.tif")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--core", type=int, nargs="*", help="cores of tiles, pixels; default: the card's")
    parser.add_argument("--batch", type=int, nargs="*", default=[1], help="tiles per call")
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="contestants whose names hold one of these; the first always runs")
    parser.add_argument("--profile", action="store_true", help="also print the operators that take longest")
    asked = parser.parse_args()
    detector: Any = geoseg.load_model(asked.model, device=asked.device)
    runs = entrants(detector, asked.model, asked.only or [])
    print(f"{asked.model} on {asked.device}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)")
    for core, size in itertools.product(asked.core or [detector.card.core], asked.batch):
        chips = cut(asked.raster, asked.tiles, detector.card, core)
        batches = [chips[at : at + size] for at in range(0, len(chips), size)]
        compared(runs, batches, asked.rounds, detector)
        if asked.profile:
            if_there_is_room(partial(profiled, detector, batches[0]), detector.where)


if __name__ == "__main__":
    main()
