"""Builds torchvision Mask R-CNNs from the ``architecture`` of a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from geoseg.detectors.roi import RoIPool
from geoseg.errors import ModelError
from geoseg.tomls import said

Pixels = Field(ge=1, le=16_384)
"""Bounds of an anchor's side: no tile is larger."""
Ratio = Annotated[float, Field(ge=0.01, le=100)]
"""Height / width of an anchor. Of one below 0 the sides are no numbers, and nothing is found, or learnt, unsaid."""
_Side = Annotated[int, Pixels]
_Channels = Annotated[int, Field(ge=1, le=1024)]


class Architecture(BaseModel):
    """What a Mask R-CNN is built from: the ``architecture`` of a card. The defaults are the compact network.

    Bounded, because a card comes with a weights file that somebody else may have made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["maskrcnn"] = "maskrcnn"
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet18"
    fpn_channels: int = Field(default=128, ge=8, le=512)
    anchor_sizes: tuple[_Side, _Side, _Side, _Side, _Side] = (14, 28, 56, 112, 224)
    """Pixels, one per pyramid level from stride 4 to 64."""
    anchor_ratios: tuple[Ratio, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1, max_length=9)
    """Height / width."""
    box_head: int = Field(default=256, ge=8, le=4096)
    mask_head: tuple[_Channels, ...] = Field(default=(64, 64, 64), min_length=1, max_length=8)
    """Channels of each layer."""
    box_nms: float = Field(default=0.7, gt=0, le=1)
    """IoU above which the lower-scored of two boxes goes: high, because rotated neighbours have overlapping boxes;
    masks are compared afterwards."""
    detections: int = Field(default=1000, ge=1, le=10_000)
    """At most so many instances per chip."""


def complete(architecture: Mapping[str, Any]) -> Architecture:
    """The architecture, checked, with the defaults filled in.

    Raises:
        ModelError: unknown keys, or values out of bounds.
    """
    try:
        return Architecture.model_validate(dict(architecture))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {said(e)}" for e in error.errors()[:3])
        raise ModelError(
            f"an architecture that cannot be built ({problems})", allowed=", ".join(Architecture.model_fields)
        ) from error


def build(architecture: Mapping[str, Any], classes: int) -> MaskRCNN:
    """A Mask R-CNN with random weights and plain batch normalisation (it is meant to be trained from scratch).

    Args:
        architecture: fields of :class:`Architecture`.
        classes: number of classes without the background.

    The module's own resizing ``transform`` is never used: geoseg feeds it pixels at the model's GSD.
    """
    a = complete(architecture)
    channels = a.fpn_channels
    body = resnet.__dict__[a.backbone](weights=None)
    width = body.fc.in_features // 8
    backbone = BackboneWithFPN(
        body,
        return_layers={f"layer{i}": str(i - 1) for i in range(1, 5)},
        in_channels_list=[width * 2**i for i in range(4)],
        out_channels=channels,
        extra_blocks=LastLevelMaxPool(),
    )
    levels = ["0", "1", "2", "3"]
    anchors = AnchorGenerator(sizes=tuple((s,) for s in a.anchor_sizes), aspect_ratios=(a.anchor_ratios,) * 5)
    net = MaskRCNN(
        backbone,
        num_classes=None,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=600,
        rpn_pre_nms_top_n_test=2000,
        rpn_post_nms_top_n_test=2000,
        rpn_nms_thresh=0.75,
        box_roi_pool=RoIPool(levels, 7),
        box_head=TwoMLPHead(channels * 7 * 7, a.box_head),
        box_predictor=FastRCNNPredictor(a.box_head, classes + 1),
        box_batch_size_per_image=192,
        box_nms_thresh=a.box_nms,
        box_detections_per_img=a.detections,
        mask_roi_pool=RoIPool(levels, 14),
        mask_head=_mask_head(channels, a.mask_head),
        mask_predictor=MaskRCNNPredictor(a.mask_head[-1], a.mask_head[-1], classes + 1),
    )
    for part in (net.backbone, net.rpn.head, net.roi_heads.box_predictor, net.roi_heads.mask_predictor):
        part.register_forward_hook(full_precision)
    return net


def full_precision(module: nn.Module, inputs: object, output: Any) -> Any:
    """Hand on float32 whatever autocast computed in: torchvision makes anchors, boxes and even mask numbers in the
    dtype of what it is given, and bfloat16 holds no odd whole number above 256."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return type(output)((key, value.float()) for key, value in output.items())
    return type(output)(full_precision(module, inputs, value) for value in output)


def _mask_head(channels: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(Conv2dNormActivation(channels, width, 3, norm_layer=nn.BatchNorm2d))
        channels = width
    return nn.Sequential(*layers)
