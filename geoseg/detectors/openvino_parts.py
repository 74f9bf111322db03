"""A Mask R-CNN whose dense parts OpenVINO runs. Proposals, suppression and pooling stay geoseg's and torchvision's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from geoseg.detectors.openvino_core import Program, traced

SIDE = 128
"""Rows and columns of the image that the parts are traced with; they take any."""


class Part(nn.Module):
    """Some module of the network, with the same inputs and outputs.

    Four-dimensional tensors travel with their channels last, as geoseg's pooling reads and writes them.
    """

    def __init__(self, part: nn.Module, *inputs: Any, device: str) -> None:
        """Compile ``part``, which takes ``inputs``: tensors, or one list of tensors."""
        super().__init__()
        with torch.no_grad():
            self.shown = part(*inputs)
        self.program = Program(traced(_Flat(part), [_last(tensor) for tensor in _flat(inputs)]), device)

    def forward(self, *inputs: Any) -> Any:
        """What the module gives. Its memory is the program's: good until the next call."""
        outputs = self.program.run([_last(tensor).contiguous().numpy() for tensor in _flat(inputs)])
        return _like(self.shown, iter([_second(torch.from_numpy(output)) for output in outputs]))


class _Flat(nn.Module):
    """A module that takes and gives tensors, and not lists of them. Several are one list to the module."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = [_second(tensor) for tensor in tensors]
        return tuple(_last(tensor) for tensor in _flat(self.part(given if len(given) > 1 else given[0])))


def on_openvino(net: MaskRCNN, bands: int, device: str) -> MaskRCNN:
    """The network with its dense parts replaced, in place: it only predicts from now on.

    Args:
        net: on the CPU, in evaluation mode.
        bands: how many its images have.
        device: one of :data:`geoseg.detectors.openvino_core.DEVICES`.

    Raises:
        ResourceError: OpenVINO is not installed.
    """
    heads = net.roi_heads
    with torch.no_grad():
        image = torch.zeros(1, bands, SIDE, SIDE)
        features = net.backbone(image)
        boxes = [torch.tensor([[0.0, 0.0, 60.0, 60.0], [20.0, 30.0, 90.0, 80.0]])]
        pooled = heads.box_roi_pool(features, boxes, [(SIDE, SIDE)])
        cut = heads.mask_roi_pool(features, boxes, [(SIDE, SIDE)])
        described, drawn = heads.box_head(pooled), heads.mask_head(cut)
    net.backbone = Part(net.backbone, image, device=device)
    net.rpn.head = Part(net.rpn.head, list(features.values()), device=device)
    heads.box_head = Part(heads.box_head, pooled, device=device)
    heads.box_predictor = Part(heads.box_predictor, described, device=device)
    heads.mask_head = Part(heads.mask_head, cut, device=device)
    heads.mask_predictor = Part(heads.mask_predictor, drawn, device=device)
    return net


def _last(tensor: Tensor) -> Tensor:
    """From channels second to channels last."""
    return tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor


def _second(tensor: Tensor) -> Tensor:
    """And back."""
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _flat(value: Any) -> list[Tensor]:
    """The tensors in a tensor, mapping or sequence, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value
    return [tensor for part in parts for tensor in _flat(part)]


def _like(shown: Any, tensors: Iterator[Tensor]) -> Any:
    """Tensors, wrapped as those in ``shown`` are."""
    if isinstance(shown, Tensor):
        return next(tensors)
    if isinstance(shown, Mapping):
        return {key: _like(value, tensors) for key, value in shown.items()}
    return [_like(value, tensors) for value in shown]
