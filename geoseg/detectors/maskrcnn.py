"""torchvision's Mask R-CNN as a detector. Masks stay 28 x 28 over their box from the network to the polygon."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from geoseg.detectors.base import InSteps, ModelCard
from geoseg.detectors.canvas import (
    FLOOR,
    SMALLEST,
    by_canvas,
    normalised,
    packed,
    warn_full,
)
from geoseg.detectors.device import pick_device, reduced_precision
from geoseg.detectors.folding import folded
from geoseg.detectors.openvino_core import asks_for_openvino
from geoseg.detectors.openvino_parts import on_openvino
from geoseg.detectors.regions import Regions, Sight, detect, propose, shown
from geoseg.detectors.suppression import mask_doubles
from geoseg.errors import ModelError
from geoseg.instances import Chip, Instances

STRIDE = 64
"""Chips are padded to a multiple of it, so that every pyramid level has whole cells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Chips that run together, in the host's memory."""

    members: list[int]
    """Their places in the call."""
    chips: list[Chip]
    """Of one canvas."""
    size: tuple[int, int]
    """Rows and columns of the canvas."""
    pixels: Tensor
    """``(n, bands, *size)`` raw values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What the network said of a batch, in the host's memory: one tensor per chip."""

    members: list[int]
    """Places of the chips in the call."""
    boxes: list[Tensor]
    """``(n, 4)`` xyxy in the chip's pixels: what the masks show."""
    scores: list[Tensor]
    """``(n,)``."""
    labels: list[Tensor]
    """``(n,)`` from 1, 0 being the background."""
    masks: list[Tensor]
    """``(n, 28, 28)`` probabilities over the box."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskRCNNDetector(InSteps):
    """A :class:`~geoseg.detectors.base.Detector` around a torchvision ``MaskRCNN``.

    Each chip is padded to its own multiple of :data:`STRIDE` and runs only with chips of that size, so its
    result does not depend on the other chips of the call.
    """

    net: MaskRCNN = field(repr=False)
    """In evaluation mode, on its device: what is exported, and what travels."""
    ready: MaskRCNN = field(repr=False)
    """The same, made fast: what predicts. Its own resizing transform is not used."""
    card: ModelCard
    """Must declare mean and std."""
    where: torch.device
    """Where the network is."""
    wanted: str = "auto"
    """The device that was asked for; asked for again wherever the detector is unpickled."""
    digest: str = ""
    """SHA-256 over the tensors of the weights file; empty for a network that comes from none."""
    most: int | None = None
    """Instances that are looked at per chip, the best; None: as many as the network gives, and it is said where a tile
    has so many that some may be missing."""
    floor: ClassVar[float] = FLOOR
    """The lowest score that it gives."""

    def __post_init__(self) -> None:
        if self.card.mean is None or self.card.std is None:
            raise ModelError("a Mask R-CNN whose card has no mean and std", allowed="one of each per band")

    @classmethod
    def of(cls, net: MaskRCNN, card: ModelCard, *, device: str = "auto", digest: str = "") -> MaskRCNNDetector:
        """Put ``net`` on a device, ready to predict.

        Args:
            net: is moved, and otherwise left as it is.
            card: must declare mean and std.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``; or ``openvino``, which runs on the CPU.
            digest: of the weights.

        Raises:
            ResourceError: no such device, or OpenVINO is not installed.
        """
        compiled = asks_for_openvino(device)
        where = pick_device("cpu" if compiled else device)
        net = net.eval().to(where, memory_format=torch.channels_last)
        ready = folded(net)
        if compiled:
            ready = on_openvino(ready, len(card.mean or ()), device)
        return cls(net=net, ready=ready, card=card, where=where, wanted=device, digest=digest)

    @property
    def device(self) -> str:
        """What it runs on, as a run's report says it."""
        return self.wanted if asks_for_openvino(self.wanted) else str(self.where)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel by way of the CPU: a client without a GPU may drive workers that have one, and the other way. As
        bytes: multiprocessing would pass on tensors as open files, which are closed with the copy before they arrive.
        """
        return _arrive, (pickle.dumps(copy.deepcopy(self.net).cpu()), self.card, self.wanted, self.digest)

    def pack(self, chips: list[Chip]) -> list[_Batch]:
        """Chips of one size in one piece each.

        Raises:
            ModelError: pixels that are not uint8, or not one band per mean of the card.
        """
        return [
            _Batch(members=members, chips=some, size=size, pixels=packed(some, size, self.card, self.where))
            for size, members in by_canvas(chips, stride=STRIDE).items()
            for some in [[chips[i] for i in members]]
        ]

    def look(self, packed: list[_Batch]) -> list[_Seen]:
        """What the network says, batch by batch.

        Raises:
            AnswerError: the network gives NaN or infinity.
        """
        return [self._seen(batch) for batch in packed]

    @torch.inference_mode()
    def unpack(self, seen: list[_Seen]) -> list[Instances]:
        """Instances of each chip, in order, without doubles."""
        found: dict[int, Instances] = {}
        for each in seen:
            parts = zip(each.boxes, each.scores, each.labels, each.masks, strict=True)
            found.update(zip(each.members, (_instances(*part) for part in parts), strict=True))
        return [found[i] for i in range(len(found))]

    @torch.inference_mode()
    def _seen(self, batch: _Batch) -> _Seen:
        shapes = [(chip.pixels.shape[1], chip.pixels.shape[2]) for chip in batch.chips]
        sight = Sight.of(shapes, [chip.tile for chip in batch.chips], self.where)
        images = normalised(batch.pixels, shapes, self.card, self.where).contiguous(memory_format=torch.channels_last)
        heads, sizes = self.ready.roi_heads, [batch.size] * len(shapes)
        with reduced_precision(self.where):
            features = self.ready.backbone(images)
            proposals = propose(self.ready.rpn, images, features, sight)
            # The padded size, not the chips': pooling infers, once for all, the strides of the pyramid from it.
            pooled = heads.box_head(heads.box_roi_pool(features, proposals.each(), sizes))
            logits, deltas = heads.box_predictor(pooled)
            limit = heads.detections_per_img
            found = detect(heads, logits, deltas, proposals, sight, most=min(limit, self.most or limit))
            for chip, candidates in zip(batch.chips, found.candidates, strict=True):
                if self.most is None and candidates >= limit:
                    warn_full(self.card.name, candidates, chip.tile)
            masks = self._masks(features, found.regions, found.labels, sizes)
        # One copy of all: the device is waited for at each.
        boxes = shown(found.regions, sight)
        columns = torch.cat([boxes, found.scores[:, None], found.labels[:, None].float()], dim=1).cpu()
        each = torch.split(columns, found.regions.counts)
        return _Seen(
            members=batch.members,
            boxes=[rows[:, :4] for rows in each],
            scores=[rows[:, 4] for rows in each],
            labels=[rows[:, 5].long() for rows in each],
            masks=list(torch.split(masks.cpu(), found.regions.counts)),
        )

    def _masks(
        self, features: dict[str, Tensor], regions: Regions, labels: Tensor, sizes: list[tuple[int, int]]
    ) -> Tensor:
        """``(n, 28, 28)`` probabilities of each instance's own class."""
        heads = self.ready.roi_heads
        if not len(labels):
            return torch.zeros((0, 28, 28))
        logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, regions.each(), sizes)))
        own: Tensor = logits[torch.arange(len(logits), device=logits.device), labels]
        return own.float().sigmoid()


def _arrive(net: bytes, card: ModelCard, wanted: str, digest: str) -> MaskRCNNDetector:
    return MaskRCNNDetector.of(pickle.loads(net), card, device=wanted, digest=digest)


def _instances(boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor) -> Instances:
    boxes, scores = boxes.float(), scores.float()
    good = ((boxes[:, 2:] - boxes[:, :2]) > SMALLEST).all(dim=1)
    boxes, scores, labels, masks = boxes[good], scores[good], labels[good], masks[good]
    keep = mask_doubles(boxes, scores, labels, masks)
    return Instances(
        boxes=boxes[keep].numpy(),
        scores=scores[keep].clamp(0, 1).numpy(),
        labels=labels[keep].numpy() - 1,
        masks=tuple(masks[keep].numpy()),
    )
