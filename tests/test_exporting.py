"""A Mask R-CNN as an ONNX file gives what the network itself gives, at sizes that the export never saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from commands import cli
from networks import CARD, chips, tiny
from torchvision.ops import box_iou

from geoseg.detectors import load_model, model_card
from geoseg.detectors.exporting import _Graph, export_onnx
from geoseg.detectors.families import family_of
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.torchvision_networks import build_torchvision
from geoseg.detectors.weights import save_weights
from geoseg.errors import ModelError
from geoseg.instances import Chip
from geoseg.tiling import Tiling
from geoseg.window import Window

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from geoseg.detectors.onnx_detector import OnnxDetector
from geoseg.detectors.onnx_session import Session


def torchvisions() -> MaskRCNNDetector:
    torch.manual_seed(6)
    architecture = {"family": "torchvision", "backbone": "resnet18", "detections": 20}
    net = build_torchvision(family_of(architecture), 2)
    # Fewer, for the test's time: torchvision's heads are wide.
    net.rpn._pre_nms_top_n = net.rpn._post_nms_top_n = {"training": 60, "testing": 60}
    net.roi_heads.box_predictor.cls_score.weight.data *= 20
    return MaskRCNNDetector.of(net, replace(CARD, architecture=architecture), device="cpu")


@pytest.mark.parametrize("make", [tiny, torchvisions])
def test_the_file_follows_the_network_at_any_size(make: type[MaskRCNNDetector]) -> None:
    """In float32, for untrained boxes are so alike that a rounding to bfloat16 decides which of two stays."""
    detector = make()
    session = Session(export_onnx(detector)[0], "cpu")
    for size in ((70, 150), (192, 61)):
        images = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, *size)).astype(np.float32))
        with torch.inference_mode():
            boxes, labels, scores, masks = _Graph(detector.net).eval()(images)
        theirs = [torch.from_numpy(output) for output in session.run(images.numpy())]
        assert abs(len(theirs[0]) - len(boxes)) <= 1
        best, which = box_iou(boxes, theirs[0]).max(dim=1)
        same = best > 0.99
        assert float(same.float().mean()) > 0.9 and len(boxes) >= 3
        assert (labels[same] == theirs[1][which][same]).all()
        np.testing.assert_allclose(scores[same], theirs[2][which][same], atol=1e-3)
        np.testing.assert_allclose(masks[same], theirs[3][which][same], atol=0.01)


def test_a_trained_model_finds_the_same_as_its_export(samples: Path) -> None:
    detector = load_model("ships", device="cpu")
    exported = OnnxDetector.of(*export_onnx(detector), device="cpu")
    with rasterio.open(samples / "harbour.tif") as source:
        pixels = source.read(window=((100, 300), (50, 310)))
    [tile] = Tiling(core=400, halo=0).plan(Window(row_off=0, col_off=0, height=200, width=260)).tiles()
    chip = Chip(tile=tile, pixels=pixels, valid=np.ones((200, 260), bool))
    [ours], [theirs] = detector.predict([chip]), exported.predict([chip])
    sure = ours.scores > 0.6
    assert sure.sum() >= 3
    best, which = box_iou(torch.from_numpy(ours.boxes[sure]), torch.from_numpy(theirs.boxes)).max(dim=1)
    assert float(best.min()) > 0.85
    np.testing.assert_allclose(ours.scores[sure], theirs.scores[which], atol=0.05)


def test_an_export_runs_by_its_path(tmp_path: Path) -> None:
    detector = tiny()
    weights = save_weights(detector.net, CARD, tmp_path / "mine.safetensors")
    done = cli("models", "export", weights, "-o", tmp_path / "mine.onnx")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.onnx", "mine.onnx.json", "mine.safetensors"]
    assert model_card(tmp_path / "mine.onnx").classes == CARD.classes
    [found] = load_model(tmp_path / "mine.onnx", device="cpu").predict(chips(64, 128))
    assert len(found) > 0


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a Mask R-CNN"):
        export_onnx(object())
    named_wrong = cli("models", "export", "ships", "-o", tmp_path / "ships.pt")
    assert named_wrong.exit_code == 2 and ".onnx" in named_wrong.stderr
