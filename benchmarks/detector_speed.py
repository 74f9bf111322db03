"""The CPU time of a detector against torchvision's own ``model(images)``: same weights, tiles, process and threads.

    OMP_NUM_THREADS=1 python -m benchmarks.detector_speed [MODEL] [--raster FILE] [--tiles 4] [--rounds 5]

Contestants take turns, tile by tile, so that whatever else the machine does falls on all of them; figures are the
CPU seconds of this process, and ratios are of sums over all rounds. ``agree`` is the share of torchvision's instances
(score above the card's threshold) that are found again with box IoU over 0.99 and the score within 0.01. Not asked
for is what a detector leaves out on purpose: boxes wholly in another tile's core, and doubles by their masks.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np
import rasterio
import torch
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


def cut(raster: str, tiles: int, card: geoseg.ModelCard) -> list[Chip]:
    """The first whole tiles of a raster, at the card's core and halo, as if its GSD were the model's."""
    with rasterio.open(raster) as source:
        image = source.read((1, 2, 3))
    side = card.core + 2 * card.halo
    need = -(-side // min(image.shape[1:])) + 1
    image = np.tile(image, (1, need, need))
    whole = Window(row_off=0, col_off=0, height=image.shape[1], width=image.shape[2])
    out = []
    for tile in Tiling(core=card.core, halo=card.halo).plan(whole).tiles():
        w = tile.window
        pixels = image[:, w.row_off : w.row_end, w.col_off : w.col_end]
        out.append(Chip(tile=tile, pixels=pixels, valid=np.ones(pixels.shape[1:], bool)))
    largest = sorted(out, key=lambda chip: -chip.pixels.size)
    return largest[:tiles]


def torchvisions(detector: MaskRCNNDetector, *, resized: bool) -> Callable[[Chip], Found]:
    """torchvision's ``model(images)``: as it comes, or with its enlarging of images switched off."""
    net = copy.deepcopy(detector.net).to(memory_format=torch.contiguous_format)
    net.transform.image_mean = [m / 255 for m in detector.card.mean or ()]
    net.transform.image_std = [s / 255 for s in detector.card.std or ()]
    pools = net.roi_heads
    for name in ("box_roi_pool", "mask_roi_pool"):
        pool = getattr(pools, name)
        plain = MultiScaleRoIAlign(list(pool.featmap_names), pool.output_size, sampling_ratio=pool.sampling_ratio)
        setattr(pools, name, plain)
    pools.score_thresh = maskrcnn.FLOOR

    @torch.inference_mode()
    def run(chip: Chip) -> Found:
        if not resized:
            net.transform.min_size, net.transform.max_size = (min(chip.pixels.shape[1:]),), max(chip.pixels.shape[1:])
        [out] = net([torch.from_numpy(chip.pixels).float() / 255])
        mine = not_elsewhere(out["boxes"], chip.tile)
        return out["boxes"][mine].numpy(), out["scores"][mine].numpy(), out["masks"][mine, 0]

    return run


def ours(detector: Any, *, float32: bool = False) -> Callable[[Chip], Found]:
    """A geoseg detector, as it comes or without its reduced precision."""

    def run(chip: Chip) -> Found:
        plain = mock.patch.object(maskrcnn, "reduced_precision", lambda device: nullcontext())
        with plain if float32 else nullcontext():
            [found] = detector.predict([chip])
        return found.boxes, found.scores, None

    return run


def agreement(reference: Found, other: Found, threshold: float) -> tuple[int, int]:
    """How many of the reference's sure instances the other has too, and how many there are."""
    boxes, scores, planes = torch.from_numpy(reference[0]), torch.from_numpy(reference[1]), reference[2]
    assert planes is not None
    crops = [
        roi_align(plane[None, None], [box[None]], 28, aligned=True)[0, 0]
        for plane, box in zip(planes, boxes, strict=True)
    ]
    sure = (scores >= threshold).numpy() & mask_doubles(boxes, scores, torch.stack(crops)).numpy()
    if not sure.any() or not len(other[0]):
        return 0, int(sure.sum())
    overlap, which = box_iou(torch.from_numpy(reference[0][sure]), torch.from_numpy(other[0])).max(dim=1)
    near = np.abs(reference[1][sure] - other[1][which.numpy()]) <= 0.01
    return int(((overlap > 0.99).numpy() & near).sum()), int(sure.sum())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="buildings")
    parser.add_argument("--raster", default="data_samples/town.tif")
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    detector: Any = geoseg.load_model(asked.model, device="cpu")
    contestants = {
        "torchvision, no resize": torchvisions(detector, resized=False),
        "torchvision as it comes": torchvisions(detector, resized=True),
        "geoseg, float32": ours(detector, float32=True),
        "geoseg as it comes": ours(detector),
    }
    try:
        from geoseg.detectors.exporting import export_onnx
        from geoseg.detectors.onnx_detector import OnnxDetector

        data, card = export_onnx(detector)
        contestants["geoseg, onnxruntime"] = ours(OnnxDetector.of(data, card, device="cpu"))
    except geoseg.GeosegError as error:
        print(f"without onnxruntime: {error}")
    chips = cut(asked.raster, asked.tiles, detector.card)
    spent = dict.fromkeys(contestants, 0.0)
    agree = dict.fromkeys(contestants, (0, 0))
    for around in range(-1, asked.rounds):  # the first round warms up
        for chip in chips:
            results = {}
            for name, run in contestants.items():
                start = time.process_time()
                results[name] = run(chip)
                spent[name] += (time.process_time() - start) * (around >= 0)
            for name, result in results.items():
                same, asked_for = agreement(results["torchvision, no resize"], result, detector.card.score_threshold)
                agree[name] = (agree[name][0] + same, agree[name][1] + asked_for)
    reference = spent["torchvision, no resize"]
    sizes = ", ".join(sorted({"{1} x {2}".format(*chip.pixels.shape) for chip in chips}))
    print(f"{asked.model}: {len(chips)} tiles of {sizes}, {asked.rounds} rounds, {torch.get_num_threads()} thread(s)")
    print("| | CPU s per tile | times as fast as torchvision | agree |\n|---|---|---|---|")
    for name, seconds in spent.items():
        same, of = agree[name]
        each = seconds / len(chips) / asked.rounds
        print(f"| {name} | {each:.2f} | {reference / seconds:.2f} | {same / max(of, 1):.0%} of {of} |")


if __name__ == "__main__":
    main()
