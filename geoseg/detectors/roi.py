"""Pooling a feature pyramid over boxes, fast on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import _setup_scales


class RoIPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """torchvision's ``MultiScaleRoIAlign`` at one sample per bin: the same numbers from another kernel on the CPU.

    There torchvision walks each channel's plane apart. One sample is a weighted sum of four cells, so the bins of all
    levels are one ``embedding_bag`` over the cells as rows of a table, which reads and (in training) adds whole rows
    of channels. On other devices torchvision's kernel is used.
    """

    scales: list[float] | None
    map_levels: Callable[[list[Tensor]], Tensor] | None

    def __init__(self, levels: list[str], size: int) -> None:
        super().__init__(levels, output_size=size, sampling_ratio=1)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """``(n, channels, size, size)``, float32, of ``n`` boxes in all; arguments as torchvision's."""
        features = [x[name] for name in self.featmap_names if name in x]
        if features[0].device.type != "cpu" or not sum(map(len, boxes)):
            return cast(Tensor, super().forward(x, boxes, image_shapes))
        if self.scales is None or self.map_levels is None:
            self.scales, self.map_levels = _setup_scales(
                features, image_shapes, self.canonical_scale, self.canonical_level
            )
        side = self.output_size[0]
        with torch.no_grad():
            at, weights = _samples(features, boxes, self.map_levels(boxes), self.scales, side)
        cells = torch.cat([feature.float().permute(0, 2, 3, 1).flatten(0, 2) for feature in features])
        with torch.autocast("cpu", enabled=False):
            pooled = functional.embedding_bag(at, cells, per_sample_weights=weights, mode="sum")
        return pooled.view(-1, side, side, cells.shape[1]).permute(0, 3, 1, 2)


def _samples(
    features: list[Tensor], boxes: list[Tensor], levels: Tensor, scales: list[float], side: int
) -> tuple[Tensor, Tensor]:
    """``(n * side * side, 4)`` rows of the table of cells that each bin reads, and their weights."""
    box = torch.cat(boxes).float() * torch.tensor(scales)[levels, None]
    image = torch.repeat_interleave(torch.arange(len(boxes)), torch.tensor([len(each) for each in boxes]))
    heights = torch.tensor([feature.shape[2] for feature in features])
    widths = torch.tensor([feature.shape[3] for feature in features])
    plane = heights * widths
    before = (plane * len(boxes)).cumsum(0) - plane * len(boxes)
    first = before[levels] + image * plane[levels]
    y, down = _taps(box[:, 1], box[:, 3], heights[levels], side)
    x, across = _taps(box[:, 0], box[:, 2], widths[levels], side)
    rows = first[:, None, None] + y * widths[levels][:, None, None]
    at = rows[:, :, None, :, None] + x[:, None, :, None, :]
    weights = down[:, :, None, :, None] * across[:, None, :, None, :]
    return at.reshape(-1, 4), weights.reshape(-1, 4)


def _taps(low: Tensor, high: Tensor, length: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """``(n, side, 2)`` along one axis: the two cells that the middle of each bin lies between, and their shares.

    torchvision's conventions: a box is at least one cell wide; a sample more than a cell outside counts nothing, one
    nearer takes the border's value.
    """
    last = length[:, None] - 1
    middle = low[:, None] + (torch.arange(side) + 0.5) * ((high - low).clamp(min=1.0) / side)[:, None]
    inside = (middle >= -1.0) & (middle <= length[:, None])
    middle = middle.clamp(min=0.0)
    near = torch.minimum(middle.long(), last)
    far = torch.minimum(near + 1, last)
    share = torch.where(near >= last, 0.0, middle - near)
    return torch.stack([near, far], -1), torch.stack([1 - share, share], -1) * inside[..., None]
