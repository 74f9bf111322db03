"""Where a Mask R-CNN looks, and what it finds there: the two steps from many boxes to few, for all chips at once.

torchvision takes these steps chip by chip, some two hundred small calls each, and has a GPU wait for the CPU between
them. Here only the suppression of doubles is done so. The boxes that come out are torchvision's, less those that no
tile of its own would keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms

from geoseg.detectors.canvas import FLOOR, check_finite, cores_of, may_be_here, not_elsewhere
from geoseg.tiling import Tile

SMALLEST_DECODED = 1e-2
"""Pixels: boxes with a shorter side hold nothing (torchvision's value)."""
MASKS_OFF = 0.5
"""Pixels by which masks show what lies right of and below their box. torchvision cuts the masks that a Mask R-CNN
learns from by ``roi_align`` without ``aligned``, to which a pixel's centre is its upper left corner."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """What boxes of some chips are held against, on the device."""

    ends: Tensor
    """``(n, 2)`` columns and rows of each chip: boxes end there."""
    cores: Tensor
    """``(n, 4)`` of each chip's tile: boxes wholly in another's core are left to it."""

    @classmethod
    def of(cls, shapes: list[tuple[int, int]], tiles: Sequence[Tile], device: torch.device) -> Sight:
        """Of chips of these ``(rows, columns)`` and tiles."""
        ends = torch.tensor([shape[::-1] for shape in shapes], dtype=torch.float32, device=device)
        return cls(ends=ends, cores=cores_of(tiles, device))


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """Boxes of some chips, chip by chip."""

    boxes: Tensor
    """``(m, 4)`` xyxy in the chip's pixels."""
    chip: Tensor
    """``(m,)`` number of the chip."""
    counts: list[int]
    """How many each chip has."""

    def each(self) -> list[Tensor]:
        """Boxes of each chip, as torchvision's pooling takes them."""
        return list(torch.split(self.boxes, self.counts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Boxes with a class."""

    regions: Regions
    """Where."""
    scores: Tensor
    """``(m,)``, the best first in each chip."""
    labels: Tensor
    """``(m,)`` from 1, 0 being the background."""
    candidates: list[int]
    """How many there were in each chip, with those that are left to other tiles."""


def propose(rpn: RegionProposalNetwork, images: Tensor, features: dict[str, Tensor], sight: Sight) -> Regions:
    """What the region proposal network proposes, but for proposals of which nothing would be kept.

    Args:
        rpn: in evaluation mode; its thresholds and numbers are used.
        images: ``(n, bands, rows, columns)``.
        features: of the images, by level.
        sight: of the chips in the images.

    Raises:
        AnswerError: the network gives NaN or infinity, which would look like ground with nothing on it.
    """
    levels = list(features.values())
    objectness, deltas = rpn.head(levels)
    check_finite("proposals", *objectness, *deltas)
    [anchors] = rpn.anchor_generator(ImageList(images, [tuple(images.shape[2:])]), levels)  # all have the same
    boxes, scores, level = _best_moved(rpn, objectness, deltas, anchors)
    boxes = _clipped(boxes.view(*scores.shape, 2, 2), sight.ends[:, None, None]).flatten(2)
    good = ((boxes[..., 2:] - boxes[..., :2]) >= rpn.min_size).all(dim=2) & (scores >= rpn.score_thresh)
    scores = torch.where(good, scores, -1.0)  # the others come last, and go below
    kept = [batched_nms(b, s, level, rpn.nms_thresh) for b, s in zip(boxes, scores, strict=True)]
    at = torch.cat([row[: rpn.post_nms_top_n()] + i * len(level) for i, row in enumerate(kept)])
    boxes, chip = boxes.flatten(0, 1)[at], at // len(level)
    here = (may_be_here(boxes, sight.cores[chip]) & (scores.flatten()[at] >= 0)).nonzero()[:, 0]
    return _regions(boxes[here], chip[here], len(sight.ends))


def _best_moved(
    rpn: RegionProposalNetwork, objectness: list[Tensor], deltas: list[Tensor], anchors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The anchors of most promise on each level, moved and stretched as the network says: boxes ``(n, k, 4)``, scores
    ``(n, k)`` and the level of each column ``(k,)``."""
    best, moves, starts, level = [], [], [], []
    for i, anchor in enumerate(torch.split(anchors, [each[0].numel() for each in objectness])):
        scores = objectness[i].permute(0, 2, 3, 1).flatten(1)
        top, at = scores.topk(min(rpn.pre_nms_top_n(), scores.shape[1]), dim=1)
        n, _, rows, columns = deltas[i].shape
        change = deltas[i].view(n, -1, 4, rows, columns).permute(0, 3, 4, 1, 2).reshape(n, -1, 4)
        best.append(top)
        moves.append(change.gather(1, at[:, :, None].expand(-1, -1, 4)))
        starts.append(anchor[at])
        level.append(torch.full_like(at[0], i))
    boxes = rpn.box_coder.decode_single(torch.cat(moves, 1).flatten(0, 1), torch.cat(starts, 1).flatten(0, 1))
    scores = torch.cat(best, dim=1).sigmoid()
    return boxes.view(*scores.shape, 4), scores, torch.cat(level)


def detect(heads: RoIHeads, logits: Tensor, deltas: Tensor, proposals: Regions, sight: Sight, *, most: int) -> Found:
    """What the box head makes of proposals: the best of each object that is not left to another tile.

    Args:
        heads: their threshold of suppression is used.
        logits: ``(m, classes)``, the background first.
        deltas: ``(m, 4 * classes)``.
        proposals: ``m`` of them.
        sight: of the chips.
        most: candidates per chip, the best; their score is above :data:`FLOOR`.

    Raises:
        AnswerError: the network gives NaN or infinity.
    """
    check_finite("class logits or box deltas", logits, deltas)
    m, classes = logits.shape
    boxes = heads.box_coder.decode_single(deltas.float(), proposals.boxes).view(m, classes, 2, 2)
    boxes = _clipped(boxes, sight.ends[proposals.chip][:, None, None]).flatten(2)
    scores = logits.float().softmax(dim=1)
    large = ((boxes[..., 2:] - boxes[..., :2]) >= SMALLEST_DECODED).all(dim=2)
    row, label = (large & (scores > FLOOR))[:, 1:].nonzero(as_tuple=True)
    label = label + 1
    boxes, scores = boxes[row, label], scores[row, label]
    some = _regions(boxes, proposals.chip[row], len(sight.ends))
    columns = some.each(), torch.split(scores, some.counts), torch.split(label, some.counts)
    kept = [batched_nms(*one, heads.nms_thresh)[:most] for one in zip(*columns, strict=True)]
    before = accumulate(some.counts[:-1], initial=0)
    at = torch.cat([row + start for row, start in zip(kept, before, strict=True)])
    at = at[not_elsewhere(boxes[at], sight.cores[some.chip[at]])]
    return Found(
        regions=_regions(boxes[at], some.chip[at], len(sight.ends)),
        scores=scores[at],
        labels=label[at],
        candidates=[len(row) for row in kept],
    )


def under_masks(boxes: Tensor) -> Tensor:
    """``(m, 4)`` what masks over boxes show: the boxes moved by :data:`MASKS_OFF`, but for sides no farther than that
    from the chip's upper or left edge, as those of what it cuts are. Others may come to lie beyond its end."""
    return boxes + (boxes - MASKS_OFF).clamp(0.0, MASKS_OFF)


def shown(regions: Regions, sight: Sight) -> Tensor:
    """``(m, 4)`` what masks over regions show, inside their chips."""
    corners = under_masks(regions.boxes).view(-1, 2, 2)
    return _clipped(corners, sight.ends[regions.chip][:, None]).flatten(1)


def _regions(boxes: Tensor, chip: Tensor, chips: int) -> Regions:
    return Regions(boxes=boxes, chip=chip, counts=chip.bincount(minlength=chips).tolist())


def _clipped(corners: Tensor, ends: Tensor) -> Tensor:
    """Corners ``(..., 2, 2)``, x and y of the upper left and the lower right, moved into the chip."""
    return corners.clamp(min=0.0).minimum(ends)
