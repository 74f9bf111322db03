"""Doubles inside one chip: compared by mask, since boxes of rotated neighbours overlap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES = 24
"""Side of the lattice of points on which two masks are compared, over the intersection of their boxes."""
AT_ONCE = 4096
"""Pairs of masks that are compared at once, which takes about 100 MiB."""


def mask_doubles(boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor, *, overlap: float = 0.5) -> Tensor:
    """Which instances to keep so that no two kept masks of one label are mostly the same.

    A mask goes if its intersection with a better-scored kept mask is more than ``overlap`` of the smaller of the
    two (so a part of an object goes with the whole, and an object drawn over two neighbours goes with neither
    unless it scores best). Those of another label stay: a ship lies in its dock.

    Args:
        boxes: ``(n, 4)`` xyxy.
        scores: ``(n,)``.
        labels: ``(n,)``.
        masks: ``(n, m, m)`` box-local probabilities.

    Returns:
        ``(n,)`` bool, True = keep. Greedy by score, ties by position.
    """
    n = len(boxes)
    keep = torch.ones(n, dtype=torch.bool)
    if n < 2:
        return keep
    boxes, masks = boxes.float().cpu(), masks.float().cpu()
    area = (masks >= 0.5).float().mean(dim=(1, 2)) * (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    first, second = _rivals(boxes, labels.cpu(), area * overlap)
    some = [slice(at, at + AT_ONCE) for at in range(0, max(len(first), 1), AT_ONCE)]
    doubled = torch.cat([_shared(boxes, masks, area, first[each], second[each]) for each in some]) > overlap
    better = scores.float().cpu()[first] >= scores.float().cpu()[second]
    winner, loser = torch.where(better, first, second)[doubled], torch.where(better, second, first)[doubled]
    rivals: dict[int, list[int]] = {}
    for w, x in zip(winner.tolist(), loser.tolist(), strict=True):
        rivals.setdefault(w, []).append(x)
    for i in torch.argsort(-scores.float().cpu(), stable=True).tolist():
        if keep[i]:
            for other in rivals.get(i, ()):
                keep[other] = False
    return keep


def _rivals(boxes: Tensor, labels: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of one label whose boxes have more in common than the ``least`` of either: no others can have masks
    that do."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    room = (high - low).clamp(min=0).prod(dim=2)
    near = (room > torch.minimum(least[:, None], least)) & (labels[:, None] == labels)
    first, second = torch.where(near.triu(diagonal=1))
    return first, second


def _shared(boxes: Tensor, masks: Tensor, area: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Area of both masks together over the area of the smaller, for pairs of instances."""
    low = torch.maximum(boxes[first, :2], boxes[second, :2])
    high = torch.minimum(boxes[first, 2:], boxes[second, 2:])
    at = (torch.arange(SAMPLES) + 0.5) / SAMPLES
    y, x = torch.meshgrid(at, at, indexing="ij")
    points = low[:, None, None] + (high - low)[:, None, None] * torch.stack([x, y], dim=-1)
    both = _inside(boxes, masks, first, points) & _inside(boxes, masks, second, points)
    common = both.float().mean(dim=(1, 2)) * (high - low).clamp(min=0).prod(dim=1)
    return common / torch.minimum(area[first], area[second]).clamp(min=1e-6)


def _inside(boxes: Tensor, masks: Tensor, index: Tensor, points: Tensor) -> Tensor:
    corner, size = boxes[index, :2], boxes[index, 2:] - boxes[index, :2]
    grid = (points - corner[:, None, None]) / size[:, None, None] * 2 - 1
    return F.grid_sample(masks[index, None], grid, align_corners=False, padding_mode="border")[:, 0] >= 0.5
