"""Families of torch networks: torchvision's Mask R-CNNs and transformers' Mask2Former, against their own code."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from networks import chips
from pretended import GPU, Pretended, put_module
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.ops import box_iou, clip_boxes_to_image

from geoseg.detectors import maskrcnn
from geoseg.detectors.base import Detector, ModelCard
from geoseg.detectors.canvas import FLOOR
from geoseg.detectors.families import (
    FAMILIES,
    Mask2FormerArchitecture,
    OnnxArchitecture,
    TorchvisionArchitecture,
    family_of,
)
from geoseg.detectors.loading import detector_of
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.network import Architecture
from geoseg.detectors.regions import under_masks
from geoseg.detectors.torchvision_networks import build_torchvision
from geoseg.errors import AnswerError, ModelError

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
CARD = ModelCard(classes=("building", "shed"), bands=("red", "green", "blue"), **IMAGENET)


# --- the card decides -------------------------------------------------------------------------------------


def test_the_card_decides_the_family() -> None:
    assert isinstance(family_of({}), Architecture)
    assert isinstance(family_of({"backbone": "resnet34"}), Architecture)
    assert isinstance(family_of({"family": "torchvision", "version": 2}), TorchvisionArchitecture)
    assert isinstance(family_of({"family": "mask2former"}), Mask2FormerArchitecture)
    onnx = family_of({"family": "onnx", "head": {"kind": "queries", "scores": "sigmoid"}})
    assert isinstance(onnx, OnnxArchitecture) and onnx.head.kind == "queries"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"family": "vgg"}, "maskrcnn, torchvision, onnx, mask2former"),
        ({"family": 3}, "'?3'?"),
        ({"family": "onnx"}, "head"),
        ({"family": "onnx", "head": {"kind": "yolo", "nms": 0.5}}, "nms"),
        ({"family": "onnx", "head": {"kind": "rings"}}, "rings"),
        ({"family": "torchvision", "version": 3}, "version"),
        ({"family": "torchvision", "detections": 10**9}, "detections"),
        ({"family": "torchvision", "layers": 3}, "anchor_ratios"),
        ({"family": "maskrcnn", "fpn_channels": 10**7}, "fpn_channels"),
        ({"family": "torchvision", "anchor_sizes": [32, 64, 128, 256, 1e300]}, "anchor_sizes"),
        ({"family": "torchvision", "anchor_ratios": [-0.5]}, "anchor_ratios"),
    ],
)
def test_architectures_that_there_are_not_are_refused_with_what_is_allowed(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        family_of(wrong)
    assert set(FAMILIES) == {"maskrcnn", "torchvision", "onnx", "mask2former"}


# --- torchvision ------------------------------------------------------------------------------------------


def original(version: int) -> MaskRCNN:
    """torchvision's own network, as its users build it, with batch normalisation that has seen something."""
    torch.manual_seed(version)
    builder = maskrcnn_resnet50_fpn if version == 1 else maskrcnn_resnet50_fpn_v2
    # Sizes and mean are those of the card: torchvision would enlarge the image to 800 pixels.
    net = builder(
        weights=None,
        weights_backbone=None,
        num_classes=3,
        min_size=64,
        max_size=128,
        box_detections_per_img=40,
        rpn_post_nms_top_n_test=150,
    )
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(1.0, 3.0)
    net.roi_heads.box_predictor.cls_score.weight.data *= 12 if version == 1 else 3
    return net.eval()


@pytest.mark.parametrize("version", [1, 2])
def test_torchvision_state_dicts_give_what_torchvision_gives(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # In float32, for untrained boxes are so alike that a rounding to bfloat16 decides which of two stays.
    monkeypatch.setattr(maskrcnn, "reduced_precision", lambda device: nullcontext())
    theirs = original(version)
    architecture = {"family": "torchvision", "version": version, "detections": 40}
    net = build_torchvision(family_of(architecture), 2)
    net.load_state_dict(theirs.state_dict())
    net.rpn._post_nms_top_n = theirs.rpn._post_nms_top_n  # fewer, for the test's time
    detector = MaskRCNNDetector.of(net, replace(CARD, architecture=architecture), device="cpu")
    assert isinstance(detector, Detector)
    [chip] = chips(64, 128)
    [found] = detector.predict([chip])
    with torch.inference_mode():
        [expected] = theirs([torch.from_numpy(chip.pixels).float() / 255])
    strong = expected["scores"] >= FLOOR
    assert len(found) >= 2 and int(strong.sum()) >= len(found)
    there = clip_boxes_to_image(under_masks(expected["boxes"][strong]), (64, 128))
    overlap = box_iou(torch.from_numpy(found.boxes), there)
    best, which = overlap.max(dim=1)
    assert float(best.min()) > 0.98
    np.testing.assert_allclose(found.scores, expected["scores"][strong][which], atol=0.02)
    assert found.labels.tolist() == (expected["labels"][strong][which] - 1).tolist()
    assert all(mask.shape == (28, 28) for mask in found.masks)


def test_frozen_normalisation_has_the_cards_eps() -> None:
    zero = build_torchvision(family_of({"family": "torchvision", "norm_eps": 0.0, "backbone": "resnet18"}), 1)
    assert zero.backbone.body.bn1.eps == 0.0
    with pytest.raises(ModelError, match="resnet50"):
        build_torchvision(family_of({"family": "torchvision", "version": 2, "backbone": "resnet18"}), 1)


# --- Mask2Former ------------------------------------------------------------------------------------------


def tiny_config(labels: int = 2) -> dict[str, Any]:
    transformers = pytest.importorskip("transformers")
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=64,
        dim_feedforward=64, num_attention_heads=4, decoder_layers=3, encoder_layers=1, num_queries=12,
        num_labels=labels,
    )  # fmt: skip
    values: dict[str, Any] = config.to_dict()
    return values


@pytest.fixture(scope="module")
def mask2former() -> tuple[Any, ModelCard]:
    from geoseg.detectors.mask2former import build_mask2former

    torch.manual_seed(11)
    config = tiny_config()
    net = build_mask2former(config, 2)
    net.class_predictor.weight.data *= 60  # untrained, all queries would say the same of everything
    net.model.transformer_module.queries_features.weight.data *= 3
    head = {"kind": "queries", "mask_overlap": 1}
    card = replace(CARD, architecture={"family": "mask2former", "config": config, "head": head})
    return net, card


def test_mask2former_is_what_transformers_makes_of_it(mask2former: tuple[Any, ModelCard]) -> None:
    from geoseg.detectors.mask2former import Mask2FormerDetector

    net, card = mask2former
    detector = Mask2FormerDetector.of(net, card, device="cpu")
    assert isinstance(detector, Detector)
    [chip] = chips(96, 128)
    [found] = detector.predict([chip])
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (card.mean, card.std))
    with torch.inference_mode():
        raw = net(pixel_values=((torch.from_numpy(chip.pixels).float() - mean) / std)[None])
    processing = pytest.importorskip("transformers").Mask2FormerImageProcessor()
    out = SimpleNamespace(class_queries_logits=raw.class_queries_logits, masks_queries_logits=raw.masks_queries_logits)
    [theirs] = processing.post_process_instance_segmentation(
        out, threshold=FLOOR, target_sizes=[(96, 128)], return_binary_maps=True
    )
    rows = [(s["score"], s["label_id"]) for s in theirs["segments_info"]]
    assert len(found) >= 3
    for score, label in zip(found.scores, found.labels, strict=True):
        assert any(abs(score - s) < 0.03 and label == k for s, k in rows)
    planes = torch.nn.functional.interpolate(raw.masks_queries_logits, (96, 128), mode="bilinear")[0] > 0
    areas = planes.sum((1, 2)).float()
    for box, mask in zip(found.boxes, found.masks, strict=True):
        size = float((mask > 0.5).mean() * (box[2] - box[0]) * (box[3] - box[1]))
        assert float(((areas - size).abs() / areas.clamp(min=64)).min()) < 0.15


def test_mask2former_travels_and_ignores_its_neighbours(mask2former: tuple[Any, ModelCard]) -> None:
    from geoseg.detectors.mask2former import Mask2FormerDetector

    detector = Mask2FormerDetector.of(*mask2former, device="cpu", digest="d")
    there = pickle.loads(pickle.dumps(detector))
    assert (there.digest, there.wanted, there.card) == ("d", "cpu", detector.card)
    some = chips(90, 140, core=64, halo=16)
    for chip, expected in zip(some, there.predict(some), strict=True):
        [alone] = detector.predict([chip])
        np.testing.assert_allclose(alone.scores, expected.scores, atol=1e-3)


def test_mask2former_keeps_to_its_device(mask2former: tuple[Any, ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    from geoseg.detectors import mask2former as module

    monkeypatch.setattr(module, "reduced_precision", lambda where: torch.autocast("cpu", enabled=False))
    net, card = mask2former
    detector = module.Mask2FormerDetector.of(copy.deepcopy(net), card, device="cpu")
    some = chips(96, 128)
    [expected] = detector.predict(some)
    put_module(detector.net)
    with Pretended() as gpu:
        [found] = replace(detector, device=GPU).predict(some)
    assert sum(gpu.calls.values()) > 100
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


def test_a_config_of_a_giant_is_refused_before_it_is_built(mask2former: tuple[Any, ModelCard]) -> None:
    net, card = mask2former
    giant = {**tiny_config(), "mask_feature_size": 2**20, "encoder_feedforward_dim": 2**30, "num_queries": 2**30}
    architecture = {"family": "mask2former", "config": giant}
    with pytest.raises(ModelError, match="do not fit"):
        detector_of(net.state_dict(), replace(card, architecture=architecture), "giant.safetensors", device="cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "bert"}, "bert"),
        ({"backbone": "resnet50", "use_timm_backbone": True}, "backbone = 'resnet50'"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"backbone_config": {"model_type": "timm_backbone"}}, "timm_backbone"),
        ({"backbone_config": None}, "backbone"),
        ({"num_labels": 5, "id2label": None}, "5"),
        ({"attn_implementation": "kernels-community/flash-attn2"}, "flash-attn2'. Allowed: eager, sdpa"),
        ({"_attn_implementation": "flash_attention_2"}, "flash_attention_2"),
        ({"attn_implementation": {"backbone_config": "evil/attn"}}, "evil/attn"),
        ({"experts_implementation": "evil/experts"}, "evil/experts"),
        ({"backbone_config": {"model_type": "swin", "attn_implementation": "evil/attn"}}, "evil/attn"),
        ({"per_layer_config": {"0": {"attn_implementation": "evil/attn"}}}, "per_layer_config"),
    ],
)
def test_configs_that_reach_outside_are_refused(change: dict[str, Any], said: str) -> None:
    from geoseg.detectors.mask2former import build_mask2former

    with pytest.raises(ModelError, match=said):
        build_mask2former({**tiny_config(), **change}, 2)


@pytest.mark.parametrize("way", [None, "eager", "sdpa"])
def test_configs_may_say_how_torch_attends(way: str | None) -> None:
    from geoseg.detectors.mask2former import checked_config

    checked_config({**tiny_config(), "attn_implementation": way, "_attn_implementation_autoset": True})


def test_a_mask2former_of_nan_is_not_one_that_finds_nothing(mask2former: tuple[Any, ModelCard]) -> None:
    from geoseg.detectors.mask2former import Mask2FormerDetector

    net, card = mask2former
    broken = copy.deepcopy(net)
    torch.nn.init.constant_(broken.class_predictor.weight, float("nan"))
    with pytest.raises(AnswerError, match="NaN"):
        Mask2FormerDetector.of(broken, card, device="cpu").predict(chips(96, 128))
