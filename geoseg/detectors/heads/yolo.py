"""YOLO-style segmentation heads: boxes with mask coefficients, and prototypes that all masks are sums of.

A mask is sigmoid(coefficients x prototypes), cut to its box: Bolya et al., YOLACT (ICCV 2019). The layout of the
outputs is the one that exports of YOLOv8-seg and YOLO11-seg have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torchvision.ops import batched_nms

from geoseg.detectors.canvas import FLOOR, Canvas, check_finite, of_this_tile, warn_full, without_doubles
from geoseg.detectors.heads.base import HeadSettings, by_rank, check_boxes, check_scores, hats
from geoseg.errors import ModelError
from geoseg.instances import Instances

FINER = 2
"""Cells of a mask crop per cell of the prototypes, along each side. A box does not end where cells end; sampled at
the prototypes' own step, its contour would move by up to a third of a cell."""
CANDIDATES = 30_000
"""At most so many boxes go into the suppression, best first."""


class YoloHead(HeadSettings):
    """Outputs ``(4 + classes + coefficients, boxes)`` or its transpose, and prototypes ``(coefficients, h, w)``."""

    kind: Literal["yolo"] = "yolo"
    suppressed: bool = False
    """True: the network suppressed its doubles itself, and its rows are x1, y1, x2, y2, score, class, coefficients.
    False: columns of centre x, centre y, width, height, a score in [0, 1] per class, coefficients."""
    box_nms: float = Field(default=0.7, gt=0, le=1)
    """IoU above which the lower-scored of two boxes of one class goes."""
    detections: int = Field(default=1000, ge=1, le=10_000)
    """At most so many instances per chip."""

    def decode(self, outputs: Sequence[Tensor], canvas: Canvas) -> Instances:
        """Instances of one chip.

        Args:
            outputs: of one image, without the batch's dimension; boxes in pixels of the canvas.
            canvas: what the network was shown.

        Raises:
            AnswerError: scores that are not finite, or boxes of those that count; or these are no boxes in pixels.
            ModelError: outputs that are not those of such a network, or scores outside 0 to 1.
        """
        rows, prototypes = by_rank(outputs, (2, 3), "one output of boxes (2-D per image) and one of prototypes (3-D)")
        rows, prototypes = rows.float(), prototypes.float()
        boxes, scores, labels, coefficients = self._columns(rows, canvas.classes, len(prototypes))
        good = torch.where(scores >= FLOOR)[0]
        check_finite("scores or boxes", scores, boxes[good])
        check_scores(scores[good] if self.suppressed else scores, lowest=not self.suppressed)
        check_boxes(boxes[good])
        good = good[torch.argsort(scores[good], descending=True, stable=True)[:CANDIDATES]]
        if not self.suppressed:
            good = good[batched_nms(boxes[good], scores[good], labels[good], self.box_nms)]
        if len(good) >= self.detections:
            warn_full(canvas.model, self.detections, canvas.tile)
            good = good[: self.detections]
        boxes = canvas.clipped(boxes)
        good = good[of_this_tile(boxes[good], canvas.tile)]
        boxes = boxes[good]
        step = (canvas.height / prototypes.shape[1], canvas.width / prototypes.shape[2])
        found = Instances(
            boxes=boxes.cpu().numpy(),
            scores=scores[good].clamp(0, 1).cpu().numpy(),
            labels=labels[good].cpu().numpy(),
            masks=[crop.cpu().numpy() for crop in crops(boxes, coefficients[good], prototypes, step)],
        )
        return without_doubles(found, self.mask_overlap)

    def _columns(self, rows: Tensor, classes: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes xyxy ``(n, 4)``, scores ``(n,)``, labels ``(n,)``, coefficients ``(n, count)``."""
        wide = (6 if self.suppressed else 4 + classes) + count
        if rows.shape[1 if self.suppressed else 0] != wide:
            rows = rows.T
        if rows.shape[1 if self.suppressed else 0] != wide:
            raise ModelError(
                f"an output of boxes of shape {tuple(rows.shape)} with {count} prototypes, for {classes} class(es)",
                allowed=f"{wide} numbers per box",
                remedy="Give the card as many classes as the network has, or set suppressed in [architecture.head]",
            )
        if self.suppressed:
            told = rows[rows[:, 4] >= FLOOR, 5]  # rows that only fill up a fixed number of them have any label
            check_finite("classes", told)
            if len(told) and not 0 <= int(told.min()) <= int(told.max()) < classes:
                raise ModelError(f"classes from {int(told.min())} to {int(told.max())} for a card with {classes}")
            return rows[:, :4], rows[:, 4], rows[:, 5].long(), rows[:, 6:]
        centre, size = rows[:2].T, rows[2:4].T
        scores, labels = rows[4 : 4 + classes].max(dim=0)
        return torch.cat([centre - size / 2, centre + size / 2], dim=1), scores, labels, rows[4 + classes :].T


def crops(boxes: Tensor, coefficients: Tensor, prototypes: Tensor, step: tuple[float, float]) -> list[Tensor]:
    """Probabilities over each box: the sum is made only of the prototypes' cells under the box, never of all.

    Args:
        boxes: ``(n, 4)`` xyxy in pixels.
        coefficients: ``(n, k)``.
        prototypes: ``(k, h, w)``.
        step: pixels per cell of the prototypes, down and across.
    """
    out = []
    for box, weights in zip(boxes.tolist(), coefficients, strict=True):
        y, first_row, rows = _places(box[1], box[3], step[0], prototypes.shape[1])
        x, first_column, columns = _places(box[0], box[2], step[1], prototypes.shape[2])
        under = prototypes[:, first_row : first_row + rows, first_column : first_column + columns]
        cells = (weights @ under.flatten(1)).view(rows, columns)
        down = hats(y.to(cells), first_row, rows)
        across = hats(x.to(cells), first_column, columns)
        out.append(_to_the_edge((down @ cells @ across.T).sigmoid()))
    return out


def _to_the_edge(crop: Tensor) -> Tensor:
    """The same with the outermost cells certain where they are inside: a mask that reaches its box is cut by it
    there, while a contour would end before the edge, by the more the less certain the cell is."""
    inner = crop[1:-1, 1:-1].clone()
    crop = torch.where(crop > 0.5, 1.0, crop)
    crop[1:-1, 1:-1] = inner
    return crop


def _places(low: float, high: float, step: float, cells: int) -> tuple[Tensor, int, int]:
    """Where a side of a box is sampled, in cell centres of the prototypes, and the first and the number of cells
    that this takes."""
    count = max(1, math.ceil((high - low) / step * FINER))
    at = (low + (torch.arange(count) + 0.5) * (high - low) / count) / step - 0.5
    at = at.clamp(0, cells - 1)
    first = int(at[0])
    return at, first, min(int(at[-1]) + 2, cells) - first
