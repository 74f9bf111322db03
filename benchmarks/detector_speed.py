"""How fast a detector is against torchvision's own ``model(images)``: same weights, tiles, process and threads.

    OMP_NUM_THREADS=1 python -m benchmarks.detector_speed [MODEL] [--tiles 4] [--rounds 5] [--core 512 1024] [--batch 1]
    python -m benchmarks.detector_speed --device cuda --core 512 1024 2048 --batch 1 4 16 --tiles 16 [--profile]

Contestants take turns, batch by batch, so that whatever else the machine does falls on all of them. Figures are the
CPU seconds of this process on a CPU, and seconds by the clock, the device waited for, on a GPU; ratios are of sums over
all rounds. Megapixels are those of the raster: a tile counts its core, not its halo. ``agree`` is the share of
torchvision's instances (score above the card's threshold) that are found again with box IoU over 0.99 and the score
within 0.01. Not asked for is what a detector leaves out on purpose: boxes wholly in another tile's core, and doubles by
their masks. The share of the device's rate is that of the multiplications that the network needs (counted by
torch.utils.flop_counter; those of operators that it does not know are missing) against a large bfloat16 matrix product
that is measured first.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np
import rasterio
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import MultiScaleRoIAlign, box_iou, roi_align

import geoseg
from geoseg.detectors import maskrcnn
from geoseg.detectors.canvas import not_elsewhere
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.suppression import mask_doubles
from geoseg.instances import Chip
from geoseg.tiling import Tiling
from geoseg.window import Window

Found = tuple[np.ndarray, np.ndarray, torch.Tensor | None]
"""Boxes, scores and, of torchvision, masks: planes of the whole tile."""
Run = Callable[[list[Chip]], list[Found]]


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


def plain_network(detector: MaskRCNNDetector) -> Any:
    """torchvision's network with a detector's weights, for pixels from 0 to 1 in its own operators."""
    net = copy.deepcopy(detector.net).to(memory_format=torch.contiguous_format)
    net.transform.image_mean = [m / 255 for m in detector.card.mean or ()]
    net.transform.image_std = [s / 255 for s in detector.card.std or ()]
    pools = net.roi_heads
    for name in ("box_roi_pool", "mask_roi_pool"):
        pool = getattr(pools, name)
        own = MultiScaleRoIAlign(list(pool.featmap_names), pool.output_size, sampling_ratio=pool.sampling_ratio)
        setattr(pools, name, own)
    return net


def torchvisions(detector: MaskRCNNDetector, *, resized: bool = False, autocast: bool = False) -> Run:
    """torchvision's ``model(images)``: as it comes, or without its enlarging of images, or in bfloat16."""
    net, where = plain_network(detector), detector.where
    net.roi_heads.score_thresh = maskrcnn.FLOOR

    @torch.inference_mode()
    def run(chips: list[Chip]) -> list[Found]:
        if not resized:
            sides = chips[0].pixels.shape[1:]
            net.transform.min_size, net.transform.max_size = (min(sides),), max(sides)
        images = [torch.from_numpy(chip.pixels).to(where).float() / 255 for chip in chips]
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=autocast):
            outputs = net(images)
        found = []
        for out, chip in zip(outputs, chips, strict=True):
            mine = not_elsewhere(out["boxes"].cpu(), chip.tile)
            # To the CPU, for outlines are made there.
            boxes, scores, masks = (out[key].float().cpu()[mine] for key in ("boxes", "scores", "masks"))
            found.append((boxes.numpy(), scores.numpy(), masks[:, 0]))
        return found

    return run


def ours(detector: Any, *, float32: bool = False) -> Run:
    """A geoseg detector, as it comes or without its reduced precision."""

    def run(chips: list[Chip]) -> list[Found]:
        full = mock.patch.object(maskrcnn, "reduced_precision", lambda device: nullcontext())
        with full if float32 else nullcontext():
            return [(found.boxes, found.scores, None) for found in detector.predict(chips)]

    return run


def agreement(reference: Found, other: Found, threshold: float) -> tuple[int, int]:
    """How many of the reference's sure instances the other has too, and how many there are."""
    boxes, scores, planes = torch.from_numpy(reference[0]), torch.from_numpy(reference[1]), reference[2]
    assert planes is not None
    crops = [
        roi_align(plane[None, None], [box[None]], 28, aligned=True)[0, 0]
        for plane, box in zip(planes, boxes, strict=True)
    ]
    if not crops:
        return 0, 0
    kept = mask_doubles(boxes, scores, torch.zeros(len(boxes)), torch.stack(crops))
    sure = (scores >= threshold).numpy() & kept.numpy()
    if not sure.any() or not len(other[0]):
        return 0, int(sure.sum())
    overlap, which = box_iou(torch.from_numpy(reference[0][sure]), torch.from_numpy(other[0])).max(dim=1)
    near = np.abs(reference[1][sure] - other[1][which.numpy()]) <= 0.01
    return int(((overlap > 0.99).numpy() & near).sum()), int(sure.sum())


def entrants(detector: MaskRCNNDetector, name: str) -> dict[str, Run]:
    """All contestants that this machine has; the first is what others are compared with."""
    found = {
        "torchvision, no resize": torchvisions(detector),
        "torchvision, no resize, autocast": torchvisions(detector, autocast=True),
        "torchvision as it comes": torchvisions(detector, resized=True),
        "geoseg, float32": ours(detector, float32=True),
        "geoseg as it comes": ours(detector),
    }
    if detector.where.type != "cpu":
        return found
    for device in ("openvino:f32", "openvino:bf16"):
        try:
            found[f"geoseg, {device}"] = ours(geoseg.load_model(name, device=device))
        except geoseg.GeosegError as error:
            print(f"without {device}: {error}")
    try:
        from geoseg.detectors.exporting import export_onnx
        from geoseg.detectors.onnx_detector import OnnxDetector

        found["exported, onnxruntime"] = ours(OnnxDetector.of(*export_onnx(detector), device="cpu"))
    except geoseg.GeosegError as error:
        print(f"without onnxruntime: {error}")
    return found


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


def compared(runs: dict[str, Run], batches: list[list[Chip]], rounds: int, detector: MaskRCNNDetector) -> None:
    """Let all take turns, and print their row each."""
    spent, agree = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, (0, 0))
    for around in range(-1, rounds):  # the first round warms up
        for chips in batches:
            results = {}
            for name, run in runs.items():
                start = clock(detector.where)
                results[name] = run(chips)
                spent[name] += (clock(detector.where) - start) * (around >= 0)
            for name, result in results.items() if around < 0 else ():
                for theirs, found in zip(next(iter(results.values())), result, strict=True):
                    same, of = agreement(theirs, found, detector.card.score_threshold)
                    agree[name] = agree[name][0] + same, agree[name][1] + of
    chips = list(itertools.chain.from_iterable(batches))
    pixels = sum(chip.tile.core.height * chip.tile.core.width for chip in chips) / 1e6
    counter = FlopCounterMode(display=False)
    with counter:
        detector.predict(batches[0])
    rate, operations = matmul_rate(detector.where), counter.get_total_flops() / len(batches[0])
    sizes = ", ".join(sorted({"{1} x {2}".format(*chip.pixels.shape) for chip in chips}))
    print(f"\n{len(chips)} tiles of {sizes}, batches of {len(batches[0])}, {rounds} rounds; ", end="")
    print(f"{operations / 1e9:.0f} GFLOP per tile, {rate / 1e9:,.0f} GFLOP/s of bfloat16 matrix products")
    print("| | s per tile | MP/s | times as fast | share of the rate | agree |\n|---|---|---|---|---|---|")
    first = next(iter(spent.values()))
    for name, seconds in spent.items():
        same, of = agree[name]
        each = seconds / len(chips) / rounds
        print(
            f"| {name} | {each:.4f} | {pixels / (seconds / rounds):.3f} | {first / seconds:.2f} | "
            f"{operations / each / rate:.0%} | {same / max(of, 1):.0%} of {of} |",
            flush=True,
        )


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
    runs = {
        name: run
        for i, (name, run) in enumerate(entrants(detector, asked.model).items())
        if i == 0 or not asked.only or any(word in name for word in asked.only)
    }
    print(f"{asked.model} on {asked.device}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)")
    for core, size in itertools.product(asked.core or [detector.card.core], asked.batch):
        chips = cut(asked.raster, asked.tiles, detector.card, core)
        batches = [chips[at : at + size] for at in range(0, len(chips), size)]
        compared(runs, batches, asked.rounds, detector)
        if asked.profile:
            profiled(detector, batches[0])


if __name__ == "__main__":
    main()
