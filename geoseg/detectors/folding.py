"""A network that only predicts, with fewer passes over memory: the same numbers but for the last bits."""

from __future__ import annotations

import copy
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops.misc import FrozenBatchNorm2d


@torch.no_grad()
def folded(net: MaskRCNN) -> MaskRCNN:
    """A copy of a network in evaluation mode that only predicts. ``net`` stays as it is, and can still be trained.

    Batch normalisation becomes part of the convolution before it: in torchvision's networks, the one that is
    registered right before it. Tensors that this leaves alone are shared with ``net``, not copied.
    """
    shared = {id(tensor): tensor for tensor in chain(net.parameters(), net.buffers())}
    ready = copy.deepcopy(net, shared)
    for module in list(ready.modules()):
        for (name, conv), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                setattr(module, name, _with(conv, norm))
                setattr(module, after, nn.Identity())
    if isinstance(ready.roi_heads.box_head, TwoMLPHead):
        ready.roi_heads.box_head = ChannelsLastMLP(ready.roi_heads.box_head, ready.roi_heads.box_roi_pool.output_size)
    return ready


class ChannelsLastMLP(nn.Module):
    """torchvision's ``TwoMLPHead`` for pooled features ``(n, channels, h, w)`` whose channels lie together in memory,
    which it would copy into another order."""

    def __init__(self, head: TwoMLPHead, size: tuple[int, int]) -> None:
        super().__init__()
        first, self.fc7 = head.fc6, head.fc7
        self.fc6 = nn.Linear(first.in_features, first.out_features, device=first.weight.device)
        planes = first.weight.unflatten(1, (-1, *size))
        self.fc6.weight = nn.Parameter(planes.permute(0, 2, 3, 1).flatten(1), requires_grad=False)
        self.fc6.bias = first.bias

    def forward(self, pooled: Tensor) -> Tensor:
        """``(n, features)``."""
        return F.relu(self.fc7(F.relu(self.fc6(pooled.permute(0, 2, 3, 1).flatten(1)))))


def _with(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    """A convolution that normalises, too."""
    both = copy.deepcopy(conv)
    both.weight, both.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return both
