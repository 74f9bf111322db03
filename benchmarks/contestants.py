"""Who takes part in ``detector_speed`` and ``end_to_end``: torchvision's ``model(images)`` and geoseg's detectors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, roi_align

import geoseg
from geoseg.detectors import maskrcnn
from geoseg.detectors.canvas import cores_of, not_elsewhere
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.regions import under_masks
from geoseg.instances import Chip, Instances

Found = tuple[np.ndarray, np.ndarray, torch.Tensor | None]
"""Of one tile boxes, scores and, of torchvision, masks ``(n, 28, 28)`` over their boxes."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What is compared: one step of three is timed."""

    given: Callable[[list[Chip]], Any] = lambda chips: chips
    """What it is called with."""
    run: Callable[[Any], Any]
    """What is timed."""
    told: Callable[[Any, list[Chip]], list[Found]]
    """What it found in each chip."""


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


def torchvisions(detector: MaskRCNNDetector, *, resized: bool = False, autocast: bool = False) -> Contestant:
    """torchvision's ``model(images)``: as it comes, or without its enlarging of images, or in bfloat16."""
    net, where = plain_network(detector), detector.where
    net.roi_heads.score_thresh = maskrcnn.FLOOR

    def given(chips: list[Chip]) -> list[torch.Tensor]:
        return [torch.from_numpy(chip.pixels).to(where).float() / 255 for chip in chips]

    @torch.inference_mode()
    def run(images: list[torch.Tensor]) -> Any:
        if not resized:
            sides = images[0].shape[1:]
            net.transform.min_size, net.transform.max_size = (min(sides),), max(sides)
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=autocast):
            return net(images)

    return Contestant(given=given, run=run, told=of_planes)


def of_planes(outputs: list[dict[str, torch.Tensor]], chips: list[Chip]) -> list[Found]:
    """What torchvision found, as far as the tile is the one to say so; its planes cut to their boxes."""
    found = []
    for out, chip in zip(outputs, chips, strict=True):
        mine = not_elsewhere(out["boxes"], cores_of([chip.tile], out["boxes"].device)[0]).nonzero().flatten().tolist()
        boxes, scores = out["boxes"].float(), out["scores"].float()
        crops = [roi_align(out["masks"][i][None].float(), [boxes[i][None]], 28, aligned=True)[0, 0].cpu() for i in mine]
        masks = torch.stack(crops) if crops else torch.zeros(0, 28, 28)
        shown = clip_boxes_to_image(under_masks(boxes[mine]), chip.pixels.shape[1:])  # as geoseg's are
        found.append((shown.cpu().numpy(), scores[mine].cpu().numpy(), masks))
    return found


def ours(detector: Any, *, float32: bool = False) -> Contestant:
    """A geoseg detector, as it comes or without its reduced precision."""

    def run(chips: list[Chip]) -> Any:
        full = mock.patch.object(maskrcnn, "reduced_precision", lambda device: nullcontext())
        with full if float32 else nullcontext():
            return detector.predict(chips)

    def told(found: list[Instances], chips: list[Chip]) -> list[Found]:
        return [(each.boxes, each.scores, None) for each in found]

    return Contestant(run=run, told=told)


def entrants(detector: MaskRCNNDetector, name: str, only: list[str]) -> dict[str, Contestant]:
    """Contestants that this machine has; the first is what others are compared with, and always there.

    Args:
        detector: of torch.
        name: of its model.
        only: parts of the names of those that are wanted; empty: all.
    """
    makers: dict[str, Callable[[], Contestant]] = {
        "torchvision, no resize": lambda: torchvisions(detector),
        "torchvision, no resize, autocast": lambda: torchvisions(detector, autocast=True),
        "torchvision as it comes": lambda: torchvisions(detector, resized=True),
        "geoseg, float32": lambda: ours(detector, float32=True),
        "geoseg as it comes": lambda: ours(detector),
    }
    if detector.where.type == "cpu":
        makers["geoseg, openvino:f32"] = lambda: ours(geoseg.load_model(name, device="openvino:f32"))
        makers["geoseg, openvino:bf16"] = lambda: ours(geoseg.load_model(name, device="openvino:bf16"))
        makers["exported, onnxruntime"] = lambda: exported(detector)
    found = {}
    for number, (each, make) in enumerate(makers.items()):
        if number == 0 or not only or any(word in each for word in only):
            try:
                found[each] = make()
            except geoseg.GeosegError as error:
                print(f"without {each}: {error}")
    return found


def exported(detector: MaskRCNNDetector) -> Contestant:
    """The same network as ``geoseg models export`` writes it."""
    from geoseg.detectors.exporting import export_onnx
    from geoseg.detectors.onnx_detector import OnnxDetector

    return ours(OnnxDetector.of(*export_onnx(detector), device="cpu"))
