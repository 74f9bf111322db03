"""Regions in which the network is not punished: anchors and proposals there are neither objects nor background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

_SPARED = 0.5
"""A box of which more lies in such regions is left out of the loss, unless it is an object's."""
_BACKGROUND, _LEFT_OUT = 0, -1
"""torchvision's numbers for both, in the RPN and in the heads."""


class Losses(nn.Module):
    """A Mask R-CNN whose ``forward`` gives its losses, past torchvision's resizing transform."""

    def __init__(self, net: MaskRCNN) -> None:
        super().__init__()
        self.net = net
        self._regions: list[Tensor] = []
        self._counted = True
        # Both are asked for labels once per batch; torchvision has no hook between them and the loss.
        self._anchors = net.rpn.assign_targets_to_anchors
        self._proposals = net.roi_heads.assign_targets_to_proposals

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Losses by torchvision's names, of normalised ``images`` and the targets of their examples."""
        net = self.net
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        self._regions = [_integral(target["ignore"]) for target in targets]
        self._counted = True
        net.rpn.assign_targets_to_anchors = self._label_anchors
        net.roi_heads.assign_targets_to_proposals = self._label_proposals
        # Without any object the mask head sees an empty batch, of which no statistics can be taken.
        net.roi_heads.mask_head.train(self.training and any(len(target["boxes"]) for target in targets))
        try:
            features: Any = net.backbone(images)
            proposals, rpn = net.rpn(ImageList(images, sizes), features, targets)
            _, heads = net.roi_heads(features, proposals, sizes, targets)
        finally:
            del net.rpn.assign_targets_to_anchors, net.roi_heads.assign_targets_to_proposals
        parts = {**rpn, **heads}
        # The mean over nothing is NaN: where all of a batch is spared it has no loss. Any other NaN is told.
        return parts if self._counted else {name: value.nan_to_num(nan=0.0) for name, value in parts.items()}

    def _label_anchors(self, anchors: list[Tensor], targets: Any) -> tuple[list[Tensor], list[Tensor]]:
        labels, matched = self._anchors(anchors, targets)
        return self._all_spared(labels, anchors), matched

    def _label_proposals(self, proposals: list[Tensor], boxes: Any, classes: Any) -> tuple[Any, list[Tensor]]:
        matched, labels = self._proposals(proposals, boxes, classes)
        return matched, self._all_spared(labels, proposals)

    def _all_spared(self, labels: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        spared = [self._spared(*each) for each in zip(labels, boxes, self._regions, strict=True)]
        self._counted &= any(bool((each != _LEFT_OUT).any()) for each in spared)
        return spared

    def _spared(self, labels: Tensor, boxes: Tensor, region: Tensor) -> Tensor:
        if not region[-1, -1]:
            return labels
        return labels.masked_fill((labels == _BACKGROUND) & (share_in(boxes, region) > _SPARED), _LEFT_OUT)


def weighted(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """One loss of all parts."""
    return torch.stack([weights.get(name, 1.0) * value.float() for name, value in parts.items()]).sum()


def _integral(region: Tensor) -> Tensor:
    """``(h + 1, w + 1)`` int32 sums of all pixels above and left."""
    sums = torch.cumsum(torch.cumsum(region.int(), 0, dtype=torch.int32), 1, dtype=torch.int32)
    return nn.functional.pad(sums, (1, 0, 1, 0))


def share_in(boxes: Tensor, integral: Tensor) -> Tensor:
    """``(n,)`` share of each box's pixels inside the image that lie in a region; 0 for boxes beyond the image."""
    height, width = integral.shape[0] - 1, integral.shape[1] - 1
    x1, x2 = (boxes[:, i].round().clamp(0, width).long() for i in (0, 2))
    y1, y2 = (boxes[:, i].round().clamp(0, height).long() for i in (1, 3))
    inside = integral[y2, x2] - integral[y1, x2] - integral[y2, x1] + integral[y1, x1]
    return inside.float() / ((x2 - x1) * (y2 - y1)).clamp(min=1).float()
