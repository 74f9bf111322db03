"""Builds torchvision Mask R-CNNs from the ``architecture`` of a model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import Conv2dNormActivation, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from geoseg.errors import ModelError

DEFAULTS: dict[str, Any] = {
    "family": "maskrcnn",
    "backbone": "resnet18",
    "fpn_channels": 128,
    "anchor_sizes": [14, 28, 56, 112, 224],
    "anchor_ratios": [0.5, 1.0, 2.0],
    "box_head": 256,
    "mask_head": [64, 64, 64],
    "box_nms": 0.7,
    "detections": 400,
}
"""The compact network: every key an ``architecture`` may hold, with its default. Anchor sizes in pixels, one per
pyramid level from stride 4 to 64; ``box_nms`` is the IoU above which the lower-scored of two boxes goes (high,
because rotated neighbours have overlapping boxes; masks are compared afterwards)."""

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")


def complete(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture with the defaults filled in.

    Raises:
        ModelError: unknown keys, family or backbone.
    """
    unknown = set(architecture) - set(DEFAULTS)
    if unknown:
        raise ModelError(f"an architecture with unknown keys {sorted(unknown)}", allowed=", ".join(DEFAULTS))
    values = {**DEFAULTS, **architecture}
    if values["family"] != "maskrcnn":
        raise ModelError(f"the model family {values['family']!r}", allowed="maskrcnn")
    if values["backbone"] not in BACKBONES:
        raise ModelError(f"the backbone {values['backbone']!r}", allowed=", ".join(BACKBONES))
    if len(values["anchor_sizes"]) != 5:
        raise ModelError(f"anchor_sizes {values['anchor_sizes']}", allowed="five sizes in pixels, small to large")
    return values


def build(architecture: Mapping[str, Any], classes: int) -> MaskRCNN:
    """A Mask R-CNN with random weights and plain batch normalisation (it is meant to be trained from scratch).

    Args:
        architecture: keys of :data:`DEFAULTS`.
        classes: number of classes without the background.

    The module's own resizing ``transform`` is never used: geoseg feeds it pixels at the model's GSD.
    """
    a = complete(architecture)
    channels = int(a["fpn_channels"])
    body = resnet.__dict__[a["backbone"]](weights=None)
    width = body.fc.in_features // 8
    backbone = BackboneWithFPN(
        body,
        return_layers={f"layer{i}": str(i - 1) for i in range(1, 5)},
        in_channels_list=[width * 2**i for i in range(4)],
        out_channels=channels,
        extra_blocks=LastLevelMaxPool(),
    )
    levels = ["0", "1", "2", "3"]
    anchors = AnchorGenerator(
        sizes=tuple((int(s),) for s in a["anchor_sizes"]), aspect_ratios=(tuple(a["anchor_ratios"]),) * 5
    )
    mask_widths = [int(w) for w in a["mask_head"]]
    net = MaskRCNN(
        backbone,
        num_classes=None,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=600,
        rpn_pre_nms_top_n_test=1500,
        rpn_post_nms_top_n_test=1500,
        rpn_nms_thresh=0.75,
        box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=1),
        box_head=TwoMLPHead(channels * 7 * 7, int(a["box_head"])),
        box_predictor=FastRCNNPredictor(int(a["box_head"]), classes + 1),
        box_batch_size_per_image=128,
        box_nms_thresh=float(a["box_nms"]),
        box_detections_per_img=int(a["detections"]),
        mask_roi_pool=MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=1),
        mask_head=_mask_head(channels, mask_widths),
        mask_predictor=MaskRCNNPredictor(mask_widths[-1], mask_widths[-1], classes + 1),
    )
    for part in (net.backbone, net.rpn.head, net.roi_heads.box_predictor, net.roi_heads.mask_predictor):
        part.register_forward_hook(_full_precision)
    return net


def _full_precision(module: nn.Module, inputs: object, output: Any) -> Any:
    """Hand on float32 whatever autocast computed in: torchvision makes anchors, boxes and even mask numbers in the
    dtype of what it is given, and bfloat16 holds no odd whole number above 256."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return type(output)((key, value.float()) for key, value in output.items())
    return type(output)(_full_precision(module, inputs, value) for value in output)


def _mask_head(channels: int, widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(Conv2dNormActivation(channels, width, 3, norm_layer=nn.BatchNorm2d))
        channels = width
    return nn.Sequential(*layers)
