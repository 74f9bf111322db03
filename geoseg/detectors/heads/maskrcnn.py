"""Mask R-CNN outputs: boxes, labels, scores and masks, as detection libraries export them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from geoseg.detectors.canvas import FLOOR, Canvas, check_finite, of_this_tile, without_doubles
from geoseg.detectors.heads.base import HeadSettings, check_boxes, check_scores
from geoseg.errors import ModelError
from geoseg.instances import Instances

NAMES = ("boxes", "labels", "scores", "masks")
"""What torchvision calls its outputs, in the order of its exports."""


class MaskRCNNHead(HeadSettings):
    """Outputs ``boxes (n, 4)`` xyxy, ``labels (n,)``, ``scores (n,)`` and ``masks``, of one image.

    Masks are probabilities: ``(n, m, m)`` or ``(n, 1, m, m)`` over each box, or planes ``(n, 1, H, W)`` of the
    whole canvas, which are cut to their boxes.
    """

    kind: Literal["maskrcnn"] = "maskrcnn"
    outputs: tuple[str, ...] = NAMES
    """Names of the network's outputs, in the order boxes, labels, scores, masks."""
    first_label: int = Field(default=1, ge=0, le=1)
    """The network's number of the card's first class: 1 where 0 is the background."""
    masks: Literal["auto", "box", "plane"] = "auto"
    """What masks span; auto: planes where they have the size of the canvas."""

    def decode(self, outputs: Sequence[Tensor], canvas: Canvas) -> Instances:
        """Instances of one chip.

        Args:
            outputs: boxes (in pixels of the canvas), labels, scores, masks.
            canvas: what the network was shown.

        Raises:
            AnswerError: scores that are not finite, or boxes of those that count; or these are no corners in pixels.
            ModelError: outputs that are not those of such a network, or scores above 1.
        """
        boxes, labels, scores, masks = self._checked(outputs, canvas)
        seen = canvas.clipped(boxes)
        good = torch.where((scores >= FLOOR) & of_this_tile(seen, canvas.tile))[0]
        boxes, crops = self._crops(boxes[good], seen[good], masks, good, canvas)
        found = Instances(
            boxes=boxes.numpy(),
            scores=scores[good].clamp(0, 1).numpy(),
            labels=labels[good].numpy(),
            masks=crops,
        )
        return without_doubles(found, self.mask_overlap)

    def _checked(self, outputs: Sequence[Tensor], canvas: Canvas) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shapes = [tuple(output.shape) for output in outputs]
        wrong = ModelError(
            f"outputs of shapes {shapes}",
            allowed="boxes (n, 4), labels (n), scores (n) and masks (n, h, w) or (n, 1, h, w), of one image",
            remedy="Name the four outputs in the card, in that order: outputs = [...] in [architecture.head]",
        )
        if len(outputs) != 4 or len(outputs[3].shape) not in (3, 4):
            raise wrong
        boxes, labels, scores, masks = outputs
        n = len(boxes)
        if shapes[:3] != [(n, 4), (n,), (n,)] or len(masks) != n or (masks.ndim == 4 and n and masks.shape[1] != 1):
            raise wrong
        counts = scores >= FLOOR  # rows that only fill up a fixed number of them hold anything
        check_finite("scores, boxes or labels", scores, boxes[counts], labels[counts])
        check_scores(scores)
        check_boxes(boxes[counts])
        labels = labels.long() - self.first_label
        told = labels[counts]
        if len(told) and not 0 <= int(told.min()) <= int(told.max()) < canvas.classes:
            raise ModelError(
                f"labels from {int(told.min()) + self.first_label} to {int(told.max()) + self.first_label}",
                allowed=f"{self.first_label} to {self.first_label + canvas.classes - 1} for {canvas.classes} class(es)",
                remedy="Give the card as many classes as the network has, or set first_label in [architecture.head]",
            )
        return boxes.float(), labels, scores.float(), masks.reshape(n, *masks.shape[-2:])

    def _crops(
        self, boxes: Tensor, seen: Tensor, masks: Tensor, good: Tensor, canvas: Canvas
    ) -> tuple[Tensor, list[NDArray[np.float32]]]:
        """Boxes and the crop over each: the network's own, or, of planes, what is ``seen`` of them, moved out to whole
        pixels."""
        planes = masks.shape[1:] == (canvas.height, canvas.width) if self.masks == "auto" else self.masks == "plane"
        if not planes:
            return boxes, [masks[i].numpy() for i in good.tolist()]
        if masks.shape[1:] != (canvas.height, canvas.width):
            raise ModelError(
                f"masks of {tuple(masks.shape[1:])} for a canvas of {(canvas.height, canvas.width)}",
                allowed="planes of the whole canvas, with masks = 'plane'",
            )
        whole = torch.cat([seen[:, :2].floor(), seen[:, 2:].ceil()], dim=1)
        places = whole.int().tolist()
        # Copies, for a view would keep all planes alive.
        return whole, [
            masks[i, y1:y2, x1:x2].numpy().copy() for i, (x1, y1, x2, y2) in zip(good.tolist(), places, strict=True)
        ]
