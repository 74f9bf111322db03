"""RoIPool against torchvision's own kernel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import MultiScaleRoIAlign

from geoseg.detectors.roi import RoIPool

LEVELS = ["0", "1", "2", "3"]


def pyramid(images: int, height: int, width: int, channels: int = 5) -> dict[str, torch.Tensor]:
    shapes = [(images, channels, height // 4 // 2**i, width // 4 // 2**i) for i in range(4)]
    return {str(i): torch.randn(shape, requires_grad=True) for i, shape in enumerate(shapes)}


def boxes_over(count: int, height: int, width: int) -> torch.Tensor:
    """Of all sizes, some reaching out of the image, some of no size."""
    centre = torch.rand(count, 2) * torch.tensor([width, height])
    half = torch.exp(torch.rand(count, 2) * 7 - 2)
    return torch.cat([centre - half, centre + half], dim=1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    side=st.sampled_from([1, 7, 14]),
)
def test_the_same_numbers_and_gradients_as_torchvision(seed: int, counts: list[int], side: int) -> None:
    torch.manual_seed(seed)
    height, width = 128, 192
    features = pyramid(len(counts), height, width)
    boxes = [boxes_over(n, height, width) for n in counts]
    shapes = [(height, width)] * len(counts)
    mine = RoIPool(LEVELS, side)(features, boxes, shapes)
    theirs = MultiScaleRoIAlign(LEVELS, side, 1)(features, boxes, shapes)
    assert mine.shape == theirs.shape
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    if not sum(counts):
        return
    weight = torch.randn_like(mine)
    inputs = list(features.values())
    for a, b in zip(
        torch.autograd.grad(mine, inputs, weight), torch.autograd.grad(theirs, inputs, weight), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_memory_layout(layout: torch.memory_format) -> None:
    torch.manual_seed(3)
    features = {k: v.detach().contiguous(memory_format=layout) for k, v in pyramid(2, 64, 96, channels=8).items()}
    boxes = [boxes_over(4, 64, 96), boxes_over(2, 64, 96)]
    mine = RoIPool(LEVELS, 7)(features, boxes, [(64, 96)] * 2)
    torch.testing.assert_close(mine, MultiScaleRoIAlign(LEVELS, 7, 1)(features, boxes, [(64, 96)] * 2))


def test_float32_also_where_features_are_half() -> None:
    features = {k: v.detach().bfloat16() for k, v in pyramid(1, 64, 96).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert RoIPool(LEVELS, 7)(features, [boxes_over(3, 64, 96)], [(64, 96)]).dtype == torch.float32
