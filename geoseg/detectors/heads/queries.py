"""Query masks: a class and a low-resolution mask of the whole window per query (Mask2Former, MaskDINO).

Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation (CVPR 2022); Li et al., Mask DINO
(CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from geoseg.detectors.canvas import FLOOR, Canvas, check_finite, of_this_tile, without_doubles
from geoseg.detectors.heads.base import HeadSettings, by_rank
from geoseg.errors import ModelError
from geoseg.instances import Instances

STEEPEST = 8.0
"""Logits beyond it, either way, are as good as certain."""


class QueryHead(HeadSettings):
    """Outputs ``(queries, classes + 1)`` or ``(queries, classes)`` class logits and ``(queries, h, w)`` mask logits."""

    kind: Literal["queries"] = "queries"
    scores: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: the last class logit means that there is no object (Mask2Former); sigmoid: there is no such logit
    (MaskDINO)."""
    mask_scores: bool = True
    """True: a score is the class's probability times the mean probability of the mask's inside, as the originals
    have it."""

    def decode(self, outputs: Sequence[Tensor], canvas: Canvas) -> Instances:
        """Instances of one chip: one per query at most, of its best class.

        Args:
            outputs: of one image, without the batch's dimension. The mask logits span the canvas.
            canvas: what the network was shown.

        Raises:
            AnswerError: class logits that are not finite, or mask logits of those that count.
            ModelError: outputs that are not those of such a network.
        """
        what = "class logits (2-D per image) and mask logits (3-D per image)"
        classes, logits = by_rank(outputs, (2, 3), what)
        scores, labels = self._classes(classes.float(), logits, canvas.classes)
        good = torch.where(scores >= FLOOR)[0]
        step = (canvas.height / logits.shape[1], canvas.width / logits.shape[2])
        rows, columns = (-int(-size // s) for size, s in zip(canvas.chip_size, step, strict=True))
        logits = logits[good, :rows, :columns].float()
        check_finite("class or mask logits", scores, logits)
        scores, labels = scores[good], labels[good]
        inside = logits > 0
        if self.mask_scores:
            mean = (logits.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
            scores = scores * mean
        cells = extents(inside)
        scale = torch.tensor([step[1], step[0]] * 2, device=cells.device)
        keep = (scores >= FLOOR) & of_this_tile(cells * scale, canvas.tile)
        return without_doubles(
            _instances(logits[keep], scores[keep], labels[keep], cells[keep], scale), self.mask_overlap
        )

    def _classes(self, logits: Tensor, masks: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Score and label of each query's best class, ``(queries,)`` each."""
        wide = classes + (self.scores == "softmax")
        if logits.shape != (len(masks), wide):
            raise ModelError(
                f"class logits of shape {tuple(logits.shape)} and {len(masks)} masks, for {classes} class(es)",
                allowed=f"({len(masks)}, {wide}) with scores = {self.scores!r}",
                remedy="Give the card as many classes as the network has, or another scores in [architecture.head]",
            )
        each = logits.softmax(dim=1)[:, :-1] if self.scores == "softmax" else logits.sigmoid()
        scores, labels = each.max(dim=1)
        return scores, labels


def extents(inside: Tensor) -> Tensor:
    """``(n, 4)`` x1, y1, x2, y2 in cells: the smallest box around what is True in ``(n, h, w)``; zeros for nothing."""
    sides = []
    for axis in (1, 2):
        any_in = inside.any(dim=axis).to(torch.uint8)
        first, last = any_in.argmax(dim=1), any_in.shape[1] - any_in.flip(1).argmax(dim=1)
        sides.append((first, last))
    (x1, x2), (y1, y2) = sides
    boxes = torch.stack([x1, y1, x2, y2], dim=1).float()
    return boxes * inside.any(dim=2).any(dim=1)[:, None]


def levels(logits: Tensor) -> Tensor:
    """Numbers in [0, 1] whose 0.5 contour, linear between cell centres, is the 0 contour of the logits.

    Not the sigmoid, whose contour would lie elsewhere between two cells: such networks are trained on logits that
    are interpolated linearly, and their originals enlarge the logits before they cut them at 0.
    """
    steepest = logits.abs().max().clamp(min=1e-6, max=STEEPEST)
    return (0.5 + logits / (2 * steepest)).clamp(0, 1)


def _instances(logits: Tensor, scores: Tensor, labels: Tensor, cells: Tensor, scale: Tensor) -> Instances:
    """Crops of the maps at their own resolution, with a cell more on each side, so that contours close in them."""
    masks, boxes = [], []
    rows, columns = logits.shape[1:]
    for plane, (x1, y1, x2, y2) in zip(logits, cells.int().tolist(), strict=True):
        x1, y1, x2, y2 = max(x1 - 1, 0), max(y1 - 1, 0), min(x2 + 1, columns), min(y2 + 1, rows)
        masks.append(levels(plane[y1:y2, x1:x2]).cpu().numpy())
        boxes.append((x1, y1, x2, y2))
    whole = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * scale.cpu()
    return Instances(
        boxes=whole.numpy(), scores=scores.clamp(0, 1).cpu().numpy(), labels=labels.cpu().numpy(), masks=masks
    )
