"""A Mask R-CNN as one ONNX file, from pixels to instances, for any size of image."""

from __future__ import annotations

import copy
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image

from geoseg.detectors.base import ModelCard
from geoseg.detectors.canvas import FLOOR
from geoseg.detectors.heads.maskrcnn import NAMES
from geoseg.detectors.maskrcnn import STRIDE, MaskRCNNDetector
from geoseg.detectors.onnx_file import missing
from geoseg.detectors.regions import under_masks
from geoseg.detectors.roi import RoIPool
from geoseg.errors import ModelError

OPSET = 17
"""Version of the ONNX operators: understood by onnxruntime since 1.12 (2022), TensorRT 8.6 and OpenVINO."""


def export_onnx(detector: object) -> tuple[bytes, ModelCard]:
    """The network of a detector as an ONNX file, and the card that goes with it.

    Input ``images (1, bands, rows, columns)`` float32 of any size, normalised by the card's mean and std. Outputs
    ``boxes (n, 4)`` xyxy in pixels, ``labels (n,)`` from 1, ``scores (n,)`` of at least 0.1, ``masks (n, 28, 28)``
    probabilities over each box.

    Raises:
        ModelError: a detector of another family.
        ResourceError: the package ``onnx`` is not installed.
    """
    if not isinstance(detector, MaskRCNNDetector):
        raise ModelError(
            f"a detector of type {type(detector).__name__}", allowed="a Mask R-CNN: the family maskrcnn or torchvision"
        )
    try:
        import onnx  # noqa: F401 - the exporter wants it at its end
    except ImportError as error:
        raise missing(error) from error
    card = detector.card
    example = torch.zeros(1, len(card.mean or ()), 2 * STRIDE - 9, 3 * STRIDE - 5)
    named = {"boxes": {0: "n"}, "labels": {0: "n"}, "scores": {0: "n"}, "masks": {0: "n"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode():
        file = Path(folder) / "model.onnx"
        # The exporter that follows data-dependent shapes (how many boxes there are) is torch's older one, which says
        # that it is; and tracing warns of each number that stays as it is, such as the strides.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(detector.net).eval(),
            (example,),
            file,
            input_names=["images"],
            output_names=list(NAMES),
            dynamic_axes={"images": {2: "rows", 3: "columns"}, **named},
            opset_version=OPSET,
            dynamo=False,
        )
        data = file.read_bytes()
    head = {"kind": "maskrcnn", "outputs": list(NAMES), "first_label": 1, "masks": "box"}
    return data, replace(card, architecture={"family": "onnx", "stride": 1, "head": head})


class _Graph(nn.Module):
    """What the detector does between pixels and instances, without the tiles."""

    def __init__(self, net: MaskRCNN) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).cpu().float().to(memory_format=torch.contiguous_format)
        heads = self.net.roi_heads
        heads.score_thresh = FLOOR
        heads.box_roi_pool, heads.mask_roi_pool = _exportable(heads.box_roi_pool), _exportable(heads.mask_roi_pool)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        heads = self.net.roi_heads
        # Filled up in here, so that boxes are cut at the image's own edge as they are in the detector.
        rows, columns = images.shape[2], images.shape[3]
        shapes = [(rows, columns)]
        filled = F.pad(images, (0, (STRIDE - columns % STRIDE) % STRIDE, 0, (STRIDE - rows % STRIDE) % STRIDE))
        features = self.net.backbone(filled)
        proposals, _ = self.net.rpn(ImageList(filled, shapes), features)
        size = [(filled.shape[2], filled.shape[3])]
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, size)))
        boxes, scores, labels = heads.postprocess_detections(logits, deltas, proposals, shapes)
        masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, boxes, size)))
        own = masks[torch.arange(masks.shape[0]), labels[0]].sigmoid()
        return clip_boxes_to_image(under_masks(boxes[0]), shapes[0]), labels[0], scores[0], own


def _exportable(pool: nn.Module) -> nn.Module:
    """torchvision's pooling, which gives the same numbers as geoseg's, in operators that ONNX has."""
    if isinstance(pool, RoIPool):
        plain = MultiScaleRoIAlign(list(pool.featmap_names), output_size=pool.output_size, sampling_ratio=1)
        return cast(nn.Module, plain)
    return pool
