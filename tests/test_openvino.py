"""OpenVINO gives what torch and onnxruntime give; and a network made ready to predict is the network."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from networks import Yolo, chips, exported, left_behind
from torch import nn
from torchvision.ops import box_iou

from geoseg.detectors import ModelCard, load_model, maskrcnn
from geoseg.detectors.device import pick_device
from geoseg.detectors.families import family_of
from geoseg.detectors.folding import folded
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.network import build
from geoseg.detectors.torchvision_networks import build_torchvision
from geoseg.errors import ModelError, ResourceError
from geoseg.instances import Chip, Instances
from geoseg.tiling import Tiling
from geoseg.window import Window

TINY = {"fpn_channels": 16, "box_head": 16, "mask_head": [8], "detections": 40}
CARD = ModelCard(
    classes=("building", "shed"), bands=("red", "green", "blue"), mean=(110, 110, 110), std=(58, 58, 58),
    architecture=TINY,
)  # fmt: skip


def seen(net: nn.Module) -> nn.Module:
    """With batch normalisation that has seen something."""
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 3.0)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.normal_(0, 0.1)
    return net.eval()


# --- made ready to predict --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["maskrcnn", "torchvision 1", "torchvision 2"])
def test_a_folded_network_computes_the_same_without_normalising(family: str) -> None:
    torch.manual_seed(3)
    name, _, version = family.partition(" ")
    # Version 1 of torchvision has frozen batch normalisation, which is another class.
    shape = {"family": name, "version": int(version or 1)} | ({"backbone": "resnet18"} if version == "1" else {})
    net = build(TINY, 2) if name == "maskrcnn" else build_torchvision(family_of(shape), 2)
    seen(net)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    ready = folded(net)
    kinds = {type(module).__name__ for module in ready.modules()}
    assert not kinds & {"BatchNorm2d", "FrozenBatchNorm2d"}
    images = torch.randn(1, 3, 64, 128).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, given = net.backbone(images), ready.backbone(images)
        for key in expected:
            torch.testing.assert_close(given[key], expected[key], rtol=1e-3, atol=1e-3)
        pooled = torch.randn(5, expected["0"].shape[1], 7, 7)
        for layout in (torch.contiguous_format, torch.channels_last):
            out = ready.roi_heads.box_head(pooled.contiguous(memory_format=layout))
            torch.testing.assert_close(out, net.roi_heads.box_head(pooled), rtol=1e-3, atol=1e-3)
    assert before.keys() == net.state_dict().keys()
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    assert ready.rpn.head.conv[0][0].weight is net.rpn.head.conv[0][0].weight, "what stays is not copied"


# --- a Mask R-CNN's parts ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compact() -> MaskRCNNDetector:
    pytest.importorskip("openvino")
    torch.manual_seed(5)
    net = build(TINY, 2)
    net.roi_heads.box_predictor.cls_score.weight.data *= 20
    return MaskRCNNDetector.of(net, CARD, device="openvino:f32")


def same(ours: Instances, theirs: Instances, floor: float) -> None:
    """All instances above a score are found again: IoU of boxes over 0.99, scores within 0.01."""
    sure = ours.scores > floor
    best, which = box_iou(torch.from_numpy(ours.boxes[sure]), torch.from_numpy(theirs.boxes)).max(dim=1)
    assert float(best.min()) > 0.99
    np.testing.assert_allclose(ours.scores[sure], theirs.scores[which], atol=0.01)
    for mask, other in zip(np.array(ours.masks)[sure], np.array(theirs.masks)[which.numpy()], strict=True):
        np.testing.assert_allclose(mask, other, atol=0.02)


def test_a_bundled_model_finds_the_same(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(maskrcnn, "reduced_precision", lambda device: nullcontext())
    with rasterio.open(samples / "harbour.tif") as source:
        pixels = source.read(window=((100, 300), (50, 310)))
    [tile] = Tiling(core=400, halo=0).plan(Window(row_off=0, col_off=0, height=200, width=260)).tiles()
    chip = Chip(tile=tile, pixels=pixels, valid=np.ones((200, 260), bool))
    [ours] = load_model("ships", device="cpu").predict([chip])
    detector = load_model("ships", device="openvino:f32")
    assert (detector.device, detector.digest) == ("openvino:f32", load_model("ships", device="cpu").digest)  # type: ignore[attr-defined]
    [theirs] = detector.predict([chip])
    assert (ours.scores > 0.5).sum() >= 3
    same(ours, theirs, 0.3)


def test_any_number_of_chips_of_any_sizes(compact: MaskRCNNDetector) -> None:
    some = chips(150, 210, core=96, halo=20)
    together = compact.predict(some)
    assert len({chip.pixels.shape for chip in some}) > 1 and sum(map(len, together)) > 20
    for chip, expected in zip(some, together, strict=True):
        [alone] = compact.predict([chip])
        np.testing.assert_allclose(alone.boxes, expected.boxes, atol=1e-2)
        np.testing.assert_allclose(alone.scores, expected.scores, atol=1e-4)


def test_where_nothing_is_proposed_nothing_is_found(compact: MaskRCNNDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact.ready.rpn, "score_thresh", 2.0)
    assert [len(found) for found in compact.predict(chips(64, 128))] == [0]


def test_travels_to_another_process(compact: MaskRCNNDetector) -> None:
    there = pickle.loads(pickle.dumps(compact))
    assert (there.device, there.wanted) == ("openvino:f32", "openvino:f32")
    [here], [afar] = compact.predict(chips(64, 128)), there.predict(chips(64, 128))
    np.testing.assert_array_equal(here.boxes, afar.boxes)


def test_its_precision_can_be_told(compact: MaskRCNNDetector) -> None:
    rough = MaskRCNNDetector.of(compact.net, CARD, device="openvino:bf16")
    program = rough.ready.backbone.program.model
    assert "bfloat16" in str(program.get_property("INFERENCE_PRECISION_HINT"))
    assert "float32" in str(compact.ready.backbone.program.model.get_property("INFERENCE_PRECISION_HINT"))


def test_devices_that_there_are_not_are_refused(compact: MaskRCNNDetector) -> None:
    with pytest.raises(ResourceError, match="openvino:f32, openvino:bf16"):
        MaskRCNNDetector.of(compact.net, CARD, device="openvino:int4")
    with pytest.raises(ResourceError, match="for Mask R-CNNs and ONNX models"):
        pick_device("openvino")  # what other families ask


# --- ONNX files -------------------------------------------------------------------------------------------

YOLO_CARD = ModelCard(
    classes=("building", "shed"), bands=("red", "green", "blue"), mean=(0, 0, 0), std=(255, 255, 255),
    architecture={"family": "onnx", "stride": 32, "head": {"kind": "yolo", "mask_overlap": 1}},
)  # fmt: skip


def test_an_onnx_file_gives_what_onnxruntime_gives() -> None:
    for package in ("openvino", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    from geoseg.detectors.onnx_detector import OnnxDetector

    torch.manual_seed(7)
    data = exported(Yolo(), (96, 160), outputs=["output0", "output1"])
    theirs = OnnxDetector.of(data, YOLO_CARD, device="cpu")
    ours = OnnxDetector.of(data, YOLO_CARD, device="openvino:f32")
    assert (ours.device, ours.session.input, ours.digest) == ("openvino", theirs.session.input, theirs.digest)
    for size in ((96, 160), (64, 224)):
        [expected], [found] = theirs.predict(chips(*size)), ours.predict(chips(*size))
        assert len(expected) == len(found) > 10
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


def test_an_output_that_copies_another_tensor_has_the_name_that_the_file_gives_it() -> None:
    """OpenVINO knows it by both names, and said that there was none of the file's."""
    onnx = pytest.importorskip("onnx")
    for package in ("openvino", "onnxruntime"):
        pytest.importorskip(package)
    from geoseg.detectors.onnx_detector import OnnxDetector

    torch.manual_seed(7)
    plain = onnx.load_model_from_string(exported(Yolo(), (96, 160), outputs=["b", "a"]))
    names = {"b": "output0", "a": "output1"}
    plain.graph.node.extend(onnx.helper.make_node("Identity", [old], [new]) for old, new in names.items())
    for output in plain.graph.output:
        output.name = names[output.name]
    head = {"kind": "yolo", "mask_overlap": 1, "outputs": ["output0", "output1"]}
    card = replace(YOLO_CARD, architecture={**YOLO_CARD.architecture, "head": head})
    expected, found = (
        OnnxDetector.of(plain.SerializeToString(), card, device=device).predict(chips(96, 160))[0]
        for device in ("cpu", "openvino:f32")
    )
    assert len(expected) == len(found) > 10
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


def test_bytes_that_are_no_network_are_refused() -> None:
    pytest.importorskip("openvino")
    from geoseg.detectors.openvino_session import OpenVINOSession

    with pytest.raises(ModelError, match="OpenVINO cannot read"):
        OpenVINOSession(b"<net name='x'></net>", "openvino")


def test_nobody_is_told_what_is_converted(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    script = "import torch; from geoseg.detectors.openvino_core import traced"
    made = "traced(torch.nn.Conv2d(3, 4, 3), [torch.rand(1, 3, 8, 8)])"
    assert left_behind(f"{script}; {made}", tmp_path) == []
