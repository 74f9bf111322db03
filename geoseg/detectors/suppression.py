"""Doubles inside one chip: compared by mask, since boxes of rotated neighbours overlap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES = 24
"""Side of the lattice of points on which two masks are compared, over the intersection of their boxes."""
AT_ONCE = 256
"""Pairs of masks that are compared at once: so few stay in the CPU's cache."""


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
    if n < 2:
        return torch.ones(n, dtype=torch.bool)
    boxes, scores, masks = boxes.float().cpu(), scores.float().cpu(), masks.float().cpu()
    area = (masks >= 0.5).float().mean(dim=(1, 2)) * (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    first, second = _rivals(boxes, labels.cpu(), area * overlap)
    some = [slice(at, at + AT_ONCE) for at in range(0, max(len(first), 1), AT_ONCE)]
    doubled = torch.cat([_shared(boxes, masks, area, first[each], second[each]) for each in some]) > overlap
    better = scores[first] >= scores[second]
    winner, loser = torch.where(better, first, second)[doubled], torch.where(better, second, first)[doubled]
    rivals: dict[int, list[int]] = {}
    for w, x in zip(winner.tolist(), loser.tolist(), strict=True):
        rivals.setdefault(w, []).append(x)
    keep = [True] * n
    for i in torch.argsort(-scores, stable=True).tolist():
        if keep[i]:
            for other in rivals.get(i, ()):
                keep[other] = False
    return torch.tensor(keep)


def _rivals(boxes: Tensor, labels: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of one label whose boxes have more in common than the ``least`` of either: no others can have masks
    that do."""
    first, second = _beside(boxes)
    low, high = _common(boxes, first, second)
    room = (high - low).clamp(min=0).prod(dim=1)
    near = (room > torch.minimum(least[first], least[second])) & (labels[first] == labels[second])
    return first[near], second[near]


def _beside(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of boxes that have ground in common. In the order of their left sides, those that begin before a box ends
    come right after it."""
    order = boxes[:, 0].argsort()
    left, top, right, bottom = boxes[order].T.contiguous()
    follow = (torch.searchsorted(left, right) - torch.arange(1, len(boxes) + 1)).clamp(min=0)
    one = torch.arange(len(boxes)).repeat_interleave(follow)
    other = torch.arange(1, len(one) + 1) + (torch.arange(len(boxes)) - follow.cumsum(0) + follow)[one]
    meet = (top[one] < bottom[other]) & (top[other] < bottom[one])
    one, other = order[one[meet]], order[other[meet]]
    return torch.minimum(one, other), torch.maximum(one, other)


def _common(boxes: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Upper left and lower right corners of what pairs of boxes have in common."""
    return torch.maximum(boxes[first, :2], boxes[second, :2]), torch.minimum(boxes[first, 2:], boxes[second, 2:])


def _shared(boxes: Tensor, masks: Tensor, area: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Area of both masks together over the area of the smaller, for pairs of instances."""
    low, high = _common(boxes, first, second)
    at = ((torch.arange(SAMPLES) + 0.5) / SAMPLES)[:, None]
    points = low[:, None] + (high - low)[:, None] * at
    both = _inside(boxes, masks, first, points) & _inside(boxes, masks, second, points)
    common = both.float().mean(dim=(1, 2)) * (high - low).clamp(min=0).prod(dim=1)
    return common / torch.minimum(area[first], area[second]).clamp(min=1e-6)


def _inside(boxes: Tensor, masks: Tensor, index: Tensor, points: Tensor) -> Tensor:
    """``(pairs, SAMPLES, SAMPLES)`` whether the mask covers the lattice of these columns and rows, ``(pairs, SAMPLES,
    xy)``."""
    corner, size = boxes[index, :2], boxes[index, 2:] - boxes[index, :2]
    x, y = ((points - corner[:, None]) / size[:, None] * 2 - 1).unbind(dim=2)
    grid = torch.stack([x[:, None].expand(-1, SAMPLES, -1), y[:, :, None].expand(-1, -1, SAMPLES)], dim=-1)
    return F.grid_sample(masks[index, None], grid, align_corners=False, padding_mode="border")[:, 0] >= 0.5
