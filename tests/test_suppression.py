"""Suppression by masks against the plainest way to say it: every pair, every point."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from geoseg.detectors import suppression
from geoseg.detectors.suppression import SAMPLES, mask_doubles


def crowd(n: int, seed: int, side: float, labels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes, scores, labels and masks, some of them nearly doubles, some scores and sides equal, some masks empty."""
    g = torch.Generator().manual_seed(seed)
    corner = (torch.rand(n, 2, generator=g) * side).round()
    size = 3 + (side / 4 * torch.rand(n, 2, generator=g)).round()
    near = torch.randint(n, (n // 3,), generator=g)
    corner[: n // 3] = corner[near] + torch.randn(n // 3, 2, generator=g)
    size[: n // 3] = size[near]
    masks = F.interpolate(torch.rand(n, 1, 4, 4, generator=g), (28, 28), mode="bilinear")[:, 0] + 0.1
    masks[n // 2 : n // 2 + 2] = 0.0
    scores = (torch.rand(n, generator=g) * 20).round() / 20
    return torch.cat([corner, corner + size], dim=1), scores, torch.randint(labels, (n,), generator=g), masks


def shared(boxes: Tensor, masks: Tensor) -> Tensor:
    """``(n, n)`` what two masks share, over the area of the smaller."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    at = (torch.arange(SAMPLES) + 0.5) / SAMPLES
    y, x = torch.meshgrid(at, at, indexing="ij")
    points = low[:, :, None, None] + (high - low)[:, :, None, None] * torch.stack([x, y], dim=-1)

    def inside(i: int, there: Tensor) -> Tensor:
        grid = (there - boxes[i, :2]) / (boxes[i, 2:] - boxes[i, :2]) * 2 - 1
        return F.grid_sample(masks[i, None, None], grid[None], align_corners=False, padding_mode="border")[0, 0] >= 0.5

    area = (masks >= 0.5).float().mean(dim=(1, 2)) * (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    room = (high - low).clamp(min=0).prod(dim=2)
    out = torch.zeros(len(boxes), len(boxes))
    for i in range(len(boxes)):
        for j in range(i + 1, len(boxes)):
            if room[i, j] > 0:
                both = (inside(i, points[i, j]) & inside(j, points[i, j])).float().mean()
                out[i, j] = out[j, i] = both * room[i, j] / torch.minimum(area[i], area[j]).clamp(min=1e-6)
    return out


def plainly(boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor, overlap: float) -> list[bool]:
    """Best score first, ties by position; each that stays takes its doubles with it."""
    doubles = (shared(boxes, masks) > overlap) & (labels[:, None] == labels)
    keep = [True] * len(boxes)
    ranked = torch.argsort(-scores, stable=True).tolist()
    for rank, i in enumerate(ranked):
        for j in ranked[rank + 1 :] if keep[i] else ():
            keep[j] = keep[j] and not bool(doubles[i, j])
    return keep


@given(st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([20.0, 90.0, 400.0]), st.sampled_from([0.2, 0.5]))
def test_is_what_it_is_said_to_be(n: int, seed: int, side: float, overlap: float) -> None:
    boxes, scores, labels, masks = crowd(n, seed, side, labels=1 + seed % 3)
    assert mask_doubles(boxes, scores, labels, masks, overlap=overlap).tolist() == plainly(
        boxes, scores, labels, masks, overlap
    )


def test_shares_are_the_same_to_the_bit() -> None:
    boxes, _, _, masks = crowd(60, 3, 80.0, labels=1)
    area = (masks >= 0.5).float().mean(dim=(1, 2)) * (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    first, second = suppression._rivals(boxes, torch.zeros(60), area * 0.5)
    expected = shared(boxes, masks)[first, second]
    assert len(first) > 50 and expected.max() > 0.5
    assert torch.equal(suppression._shared(boxes, masks, area, first, second), expected)


def test_only_pairs_that_can_share_enough_are_looked_at() -> None:
    """All of them, and each once: boxes that touch, lie in one another, and begin at the same column."""
    boxes, _, labels, masks = crowd(200, 5, 300.0, labels=2)
    least = (masks >= 0.5).float().mean(dim=(1, 2)) * (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) * 0.5
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    room = (high - low).clamp(min=0).prod(dim=2)
    near = (room > torch.minimum(least[:, None], least)) & (labels[:, None] == labels)
    expected = {(i, j) for i, j in near.nonzero().tolist() if i < j}
    found = list(zip(*(side.tolist() for side in suppression._rivals(boxes, labels, least)), strict=True))
    assert len(found) == len(expected) > 100 and set(found) == expected
