"""torchvision's own Mask R-CNNs, as its builders make them, for weights that were trained with it."""

from __future__ import annotations

from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.misc import FrozenBatchNorm2d

from geoseg.detectors.families import TorchvisionArchitecture
from geoseg.detectors.network import full_precision
from geoseg.errors import ModelError


def build_torchvision(architecture: TorchvisionArchitecture, classes: int) -> MaskRCNN:
    """The network, with random weights: nothing is downloaded.

    Args:
        architecture: which of them.
        classes: number of classes without the background.

    Raises:
        ModelError: version 2 on another backbone than resnet50.

    The module's own resizing ``transform`` is never used: geoseg feeds it pixels at the model's GSD.
    """
    a = architecture
    if a.version == 2 and a.backbone != "resnet50":
        raise ModelError(f"version 2 on {a.backbone}", allowed="resnet50, or version 1")
    anchors = AnchorGenerator(sizes=tuple((s,) for s in a.anchor_sizes), aspect_ratios=(a.anchor_ratios,) * 5)
    settings = {
        "rpn_anchor_generator": anchors,
        "box_nms_thresh": a.box_nms,
        "box_detections_per_img": a.detections,
    }
    if a.version == 2:
        # The builder makes an anchor generator itself, and takes no other.
        settings.pop("rpn_anchor_generator")
        net = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=classes + 1, **settings)
        net.rpn.anchor_generator = anchors
        net.rpn.head = RPNHead(256, anchors.num_anchors_per_location()[0], conv_depth=2)
    else:
        backbone = resnet_fpn_backbone(
            backbone_name=a.backbone, weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5
        )
        net = MaskRCNN(backbone, num_classes=classes + 1, **settings)
        for module in net.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = a.norm_eps
    if a.mask_hidden != 256:
        net.roi_heads.mask_predictor = MaskRCNNPredictor(256, a.mask_hidden, classes + 1)
    for part in (net.backbone, net.rpn.head, net.roi_heads.box_predictor, net.roi_heads.mask_predictor):
        part.register_forward_hook(full_precision)
    return net
