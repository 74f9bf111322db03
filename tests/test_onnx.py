"""ONNX detectors against plain full-plane versions of what their outputs mean, and against the original's code."""

from __future__ import annotations

import io
import pickle
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import EightBit, Queries, Yolo, chips, exported, left_behind
from numpy.typing import NDArray
from rasterio.features import rasterize
from torch.nn import functional as F

from geoseg.detectors.base import Detector, ModelCard
from geoseg.detectors.canvas import FLOOR, Canvas
from geoseg.detectors.heads import MaskRCNNHead, QueryHead, YoloHead
from geoseg.instances import Chip, Instances
from geoseg.tiling import Tile
from geoseg.vectorize import vectorize
from geoseg.window import Window

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from geoseg.detectors.onnx_detector import OnnxDetector
from geoseg.detectors.onnx_file import check_onnx
from geoseg.detectors.onnx_session import Session, described
from geoseg.errors import AnswerError, ModelError, ResourceError

HEIGHT, WIDTH = 96, 160
YOLO_CARD = ModelCard(
    classes=("building", "shed"), bands=("red", "green", "blue"), mean=(0, 0, 0), std=(255, 255, 255),
    architecture={"family": "onnx", "stride": 32, "head": {"kind": "yolo", "mask_overlap": 1}},
)  # fmt: skip
QUERY_CARD = replace(
    YOLO_CARD,
    classes=("building", "shed", "ship"),
    mean=(123.7, 116.3, 103.5),
    std=(58.4, 57.1, 57.4),
    architecture={"family": "onnx", "head": {"kind": "queries", "mask_overlap": 1}},
)


@pytest.fixture(scope="module")
def yolo() -> tuple[Yolo, bytes]:
    torch.manual_seed(7)
    net = Yolo()
    return net, exported(net, (HEIGHT, WIDTH), outputs=["output0", "output1"])


@pytest.fixture(scope="module")
def queries() -> tuple[Queries, bytes]:
    torch.manual_seed(2)
    net = Queries()
    return net, exported(net, (HEIGHT, WIDTH), outputs=["class_logits", "mask_logits"])


def pictured(chip: Chip, card: ModelCard) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (card.mean, card.std))
    return ((torch.from_numpy(chip.pixels).float() - mean) / std)[None]


def drawn(found: Instances, chip: Chip) -> list[NDArray[np.bool_]]:
    """What comes of instances: their outlines, burnt into the pixels of the chip."""
    outlines = vectorize([found], [chip.tile], tolerance=0)
    shape = chip.pixels.shape[1:]
    assert len(outlines.geometry) == len(found)
    return [rasterize([g], out_shape=shape).astype(bool) for g in outlines.geometry]


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


# --- YOLO -------------------------------------------------------------------------------------------------


def plain_yolo(net: Yolo, chip: Chip, nms: float = 0.7) -> list[tuple[list[float], float, int, NDArray[np.bool_]]]:
    """The usual post-processing, written out on planes of the whole image: (box, score, label, mask)."""
    with torch.inference_mode():
        [rows], [prototypes] = net(pictured(chip, YOLO_CARD))
    height, width = chip.pixels.shape[1:]
    planes = torch.einsum("kn,khw->nhw", rows[6:], prototypes)
    planes = F.interpolate(planes[None], (height, width), mode="bilinear", align_corners=False)[0].sigmoid()
    boxes = torch.stack([rows[0] - rows[2] / 2, rows[1] - rows[3] / 2, rows[0] + rows[2] / 2, rows[1] + rows[3] / 2])
    kept: list[tuple[list[float], float, int, NDArray[np.bool_]]] = []
    whole: list[list[float]] = []
    for i in rows[4:6].max(dim=0).values.argsort(descending=True).tolist():
        score, label = float(rows[4:6, i].max()), int(rows[4:6, i].argmax())
        box = boxes[:, i].tolist()
        if score < FLOOR or any(k[2] == label and box_iou(box, b) > nms for k, b in zip(kept, whole, strict=True)):
            continue
        whole.append(box)
        x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
        inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
        cut = np.clip(box, 0, [width, height, width, height]).tolist()
        kept.append((cut, score, label, inside & (planes[i].numpy() > 0.5)))
    return kept


def box_iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_yolo_is_what_full_planes_give(yolo: tuple[Yolo, bytes]) -> None:
    net, data = yolo
    detector = OnnxDetector.of(data, YOLO_CARD, device="cpu")
    assert isinstance(detector, Detector)
    [chip] = chips(HEIGHT, WIDTH)
    [found] = detector.predict([chip])
    expected = plain_yolo(net, chip)
    assert len(found) == len(expected) > 20
    assert {0, 1} == set(found.labels.tolist())
    np.testing.assert_allclose(found.boxes, [e[0] for e in expected], atol=0.01)
    np.testing.assert_allclose(found.scores, [e[1] for e in expected], atol=1e-4)
    assert found.labels.tolist() == [e[2] for e in expected]
    seen = [(e[3], i) for i, e in enumerate(expected) if e[3].sum() > 150]
    assert len(seen) > 10
    part = Instances(
        boxes=found.boxes[[i for _, i in seen]], scores=found.scores[[i for _, i in seen]],
        labels=found.labels[[i for _, i in seen]], masks=[found.masks[i] for _, i in seen],
    )  # fmt: skip
    overlaps = [iou(mine, theirs) for mine, (theirs, _) in zip(drawn(part, chip), seen, strict=True)]
    assert min(overlaps) > 0.9 and np.mean(overlaps) > 0.96
    sides = np.array([mask.shape[::-1] for mask in found.masks])
    assert (sides <= np.ceil((found.boxes[:, 2:] - found.boxes[:, :2]) / 2) + 1).all(), "never whole planes"


def test_yolo_that_suppressed_its_doubles_itself(yolo: tuple[Yolo, bytes]) -> None:
    """An export with the suppression in it has rows of corners, score, class and coefficients."""

    class Suppressed(torch.nn.Module):
        def __init__(self, net: Yolo) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rows, prototypes = self.net(images)
            scores, labels = rows[:, 4:6].max(dim=1, keepdim=True)
            corners = torch.cat([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], dim=1)
            best = scores[0, 0].topk(50).indices
            out = torch.cat([corners, scores, labels.float(), rows[:, 6:]], dim=1)[:, :, best]
            filled = torch.cat([out, torch.full_like(out[:, :, :3], -1.0)], dim=2)  # to a fixed number of rows
            return filled.transpose(1, 2), prototypes

    net, _ = yolo
    data = exported(Suppressed(net), (HEIGHT, WIDTH), outputs=["output0", "output1"])
    head = {"kind": "yolo", "suppressed": True, "mask_overlap": 1}
    card = replace(YOLO_CARD, architecture={"family": "onnx", "head": head})
    [chip] = chips(HEIGHT, WIDTH)
    [found] = OnnxDetector.of(data, card, device="cpu").predict([chip])
    unsuppressed = plain_yolo(net, chip, nms=1.1)[:50]
    np.testing.assert_allclose(found.scores, [e[1] for e in unsuppressed], atol=1e-4)
    np.testing.assert_allclose(found.boxes, [e[0] for e in unsuppressed], atol=0.01)


def test_doubles_of_a_class_go_by_their_masks(yolo: tuple[Yolo, bytes]) -> None:
    _, data = yolo
    some = chips(HEIGHT, WIDTH)
    card = replace(YOLO_CARD, architecture={"family": "onnx", "head": {"kind": "yolo", "mask_overlap": 0.5}})
    [all_of_them] = OnnxDetector.of(data, YOLO_CARD, device="cpu").predict(some)
    [fewer] = OnnxDetector.of(data, card, device="cpu").predict(some)
    assert 0 < len(fewer) < len(all_of_them)
    assert set(map(tuple, fewer.boxes.tolist())) < set(map(tuple, all_of_them.boxes.tolist()))


# --- queries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (90, 150)], ids=["whole cells", "filled up"])
def test_queries_are_what_the_original_makes_of_them(queries: tuple[Queries, bytes], size: tuple[int, int]) -> None:
    processing = pytest.importorskip("transformers").Mask2FormerImageProcessor()
    net, data = queries
    [chip] = chips(*size)
    [found] = OnnxDetector.of(data, QUERY_CARD, device="cpu").predict([chip])
    image = F.pad(pictured(chip, QUERY_CARD), (0, -size[1] % 32, 0, -size[0] % 32))
    with torch.inference_mode():
        classes, masks = net(image)
    raw = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    [theirs] = processing.post_process_instance_segmentation(
        raw, threshold=0.2, target_sizes=[tuple(image.shape[2:])], return_binary_maps=True
    )
    # The original gives a query once per class that is likely enough; geoseg once, as its best class.
    rows = [(s["score"], s["label_id"], m.numpy()[: size[0], : size[1]] > 0) for s, m in zip(
        theirs["segments_info"], theirs["segmentation"], strict=True)]  # fmt: skip
    rows.sort(key=lambda row: -row[0])
    best = [r for i, r in enumerate(rows) if not any((r[2] == b[2]).all() for b in rows[:i])]
    best = [row for row in best if row[2].any()]
    enlarged = F.interpolate(masks, image.shape[2:], mode="bilinear")[0, :, : size[0], : size[1]].numpy() > 0
    strong = [i for i, score in enumerate(found.scores) if score >= 0.22]
    mine = dict(zip(strong, [drawn(found, chip)[i] for i in strong], strict=True))
    assert len(best) >= len(strong) >= 4
    for i, mask in mine.items():
        score, label, other = max(best, key=lambda row: iou(row[2], mask))
        # The original goes by way of 384 x 384 pixels and then takes the nearest, which is why it differs this much
        # from its own logits enlarged to the image.
        assert iou(other, mask) > 0.85
        assert max(iou(plane, mask) for plane in enlarged) > 0.98
        assert label == found.labels[i]
        assert abs(score - found.scores[i]) < 0.02


def test_query_masks_are_cut_at_their_own_resolution(queries: tuple[Queries, bytes]) -> None:
    _, data = queries
    [chip] = chips(HEIGHT, WIDTH)
    [found] = OnnxDetector.of(data, QUERY_CARD, device="cpu").predict([chip])
    for box, mask in zip(found.boxes, found.masks, strict=True):
        assert tuple(4 * np.array(mask.shape)) == (box[3] - box[1], box[2] - box[0])
        assert mask.min() >= 0 and mask.max() <= 1 and mask.max() > 0.5


def test_sigmoid_scores_have_no_class_for_nothing(queries: tuple[Queries, bytes]) -> None:
    _, data = queries
    head = {"kind": "queries", "scores": "sigmoid", "mask_overlap": 1}
    four = replace(QUERY_CARD, classes=("a", "b", "c", "d"), architecture={"family": "onnx", "head": head})
    [found] = OnnxDetector.of(data, four, device="cpu").predict(chips(HEIGHT, WIDTH))
    assert len(found) > 4
    three = replace(four, classes=("a", "b", "c"))
    with pytest.raises(ModelError, match="class logits of shape"):
        OnnxDetector.of(data, three, device="cpu").predict(chips(HEIGHT, WIDTH))


# --- Mask R-CNN -------------------------------------------------------------------------------------------


class Pasted(torch.nn.Module):
    """The outputs of a detection library's export: boxes, labels from 1, scores, masks over boxes or whole planes."""

    def __init__(self, planes: bool) -> None:
        super().__init__()
        self.planes = planes
        self.boxes = torch.tensor([[10.3, 8.0, 50.0, 40.7], [60.0, 20.2, 120.9, 90.0], [100.0, 4.0, 140.0, 60.0]])
        self.body = torch.nn.Conv2d(3, 1, 9, 1, 4)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        plane = (self.body(images)[:, 0] * 8).sigmoid()
        scores = torch.tensor([0.9, 0.6, 0.05]) + plane.mean() * 1e-3
        if self.planes:
            masks = torch.stack([plane, plane, plane])[:, :1]
        else:
            masks = F.interpolate(plane[None, :, 8:36, 12:40].expand(3, -1, -1, -1).reshape(1, 3, 28, 28), (28, 28))[0]
            masks = masks[:, None]
        return self.boxes + plane.mean() * 1e-6, torch.tensor([1, 2, 0]), scores, masks


@pytest.mark.parametrize("planes", [False, True], ids=["over boxes", "planes"])
def test_mask_rcnn_outputs(planes: bool) -> None:
    torch.manual_seed(1)
    net = Pasted(planes)
    data = exported(net, (HEIGHT, WIDTH), outputs=["boxes", "labels", "scores", "masks"], dynamic=False)
    card = replace(YOLO_CARD, architecture={"family": "onnx", "head": {"kind": "maskrcnn", "mask_overlap": 1}})
    [chip] = chips(HEIGHT, WIDTH)
    [found] = OnnxDetector.of(data, card, device="cpu").predict([chip])
    with torch.inference_mode():
        boxes, _, _, masks = net(pictured(chip, card))
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=2e-3)
    if planes:
        np.testing.assert_array_equal(found.boxes, [[10, 8, 50, 41], [60, 20, 121, 90]])
        np.testing.assert_allclose(found.masks[0], masks[0, 0, 8:41, 10:50].numpy(), atol=1e-4)
        assert found.masks[0].base is None, "a view would keep all planes in memory"
    else:
        np.testing.assert_allclose(found.boxes, boxes[:2].numpy(), atol=1e-3)
        np.testing.assert_allclose(found.masks[1], masks[1, 0].numpy(), atol=1e-4)


def shown(height: int, width: int, *, padded: int = 0, classes: int = 1) -> Canvas:
    """A chip that is all core, on a canvas that is ``padded`` larger."""
    window = Window(row_off=0, col_off=0, height=height, width=width)
    tile = Tile(row=0, col=0, core=window, window=window)
    return Canvas(tile=tile, height=height + padded, width=width + padded, classes=classes, model="m")


@pytest.mark.parametrize(("height", "width", "padded"), [(60, 80, 48), (128, 80, 0), (96, 100, 0)])
def test_boxes_that_reach_out_of_the_chip_do_not_squeeze_their_masks(height: int, width: int, padded: int) -> None:
    canvas = shown(height, width, padded=padded)
    left_half = (torch.arange(28) < 14).float().expand(1, 28, 28).contiguous()
    outputs = [torch.tensor([[40.0, 10, 100, 50]]), torch.tensor([1]), torch.tensor([0.9]), left_half]
    outlines = vectorize([MaskRCNNHead().decode(outputs, canvas)], [canvas.tile])
    np.testing.assert_allclose(outlines.geometry[0].bounds, (40, 10, 70, 50), atol=0.01)
    outputs[0] = torch.tensor([[float(width), 10, width + 40, 50]])
    assert len(MaskRCNNHead().decode(outputs, canvas)) == 0, "it lies wholly beside the chip"


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("broken", [NAN, INF])
@pytest.mark.parametrize("part", ["boxes", "labels", "scores"])
def test_mask_rcnn_outputs_that_are_no_numbers_are_not_nothing(part: str, broken: float) -> None:
    outputs = {
        "boxes": torch.tensor([[10.0, 10, 50, 30], [20, 20, 40, 50]]), "labels": torch.tensor([1.0, 1]),
        "scores": torch.tensor([0.9, 0.6]), "masks": torch.ones(2, 28, 28),
    }  # fmt: skip
    assert len(MaskRCNNHead(mask_overlap=1).decode(list(outputs.values()), shown(60, 80))) == 2
    outputs[part][1] = broken
    with pytest.raises(AnswerError, match="NaN or infinity"):
        MaskRCNNHead().decode(list(outputs.values()), shown(60, 80))


def test_rows_that_only_fill_up_may_hold_anything() -> None:
    boxes = torch.tensor([[10.0, 10, 50, 30], [NAN, INF, NAN, NAN]])
    outputs = [boxes, torch.tensor([1, -7]), torch.tensor([0.9, 0.0]), torch.ones(2, 28, 28)]
    assert len(MaskRCNNHead().decode(outputs, shown(60, 80))) == 1
    rows = torch.tensor([[10.0, 10, 50, 30, 0.9, 0, 1, 1], [NAN, INF, NAN, NAN, 0.0, NAN, 0, 0]])
    assert len(YoloHead(suppressed=True).decode([rows, torch.ones(2, 15, 20)], shown(60, 80))) == 1


@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize("suppressed", [False, True])
def test_yolo_rows_that_are_no_numbers_are_not_nothing(row: int, suppressed: bool) -> None:
    """Columns of a box: where it is (4), scores of two classes; or where it is, its score and its class."""
    head = YoloHead(suppressed=suppressed)
    rows = torch.tensor([[20.0, 20, 40, 40, 0.9, 1, 1, 1]])
    for value, ends in ((rows[0, row].item(), False), (NAN, True)):
        rows[0, row] = value
        with pytest.raises(AnswerError, match="NaN or infinity") if ends else nullcontext():
            assert len(head.decode([rows if suppressed else rows.T, torch.ones(2, 15, 20)], shown(60, 80, classes=2)))


@pytest.mark.parametrize("score", [1.0005, 4.2])
def test_scores_that_are_no_probabilities_are_refused(score: float) -> None:
    """Logits above 1 all came out as 1."""
    box = [10.0, 10, 50, 30]
    rows, prototypes = torch.tensor([[*box, score, 0, 1, 1]]), torch.ones(2, 15, 20)
    single = [torch.tensor([box]), torch.tensor([1]), torch.tensor([score]), torch.ones(1, 28, 28)]
    for head, outputs in (
        (MaskRCNNHead(), single),
        (YoloHead(suppressed=True), [rows, prototypes]),
        (YoloHead(), [rows[:, [0, 1, 2, 3, 4, 6, 7]].T, prototypes]),
    ):
        with nullcontext() if score < 1.001 else pytest.raises(ModelError, match=r"scores up to 4\.2.*sigmoid"):
            assert head.decode(outputs, shown(60, 80)).scores.tolist() == [1.0]


def test_logits_of_ground_without_objects_are_refused() -> None:
    """They lie below 0, all of them, and nothing was found, unsaid."""
    rows = torch.tensor([[20.0, 20, 30, 30, -4.2, -6, 1, 1], [40, 20, 30, 30, -9, -5, 1, 1]]).T
    with pytest.raises(ModelError, match=r"scores down to -5.*sigmoid"):
        YoloHead().decode([rows, torch.ones(2, 15, 20)], shown(60, 80, classes=2))
    rows[4:6] = torch.tensor([[-0.0005], [0.0]])
    assert not len(YoloHead().decode([rows, torch.ones(2, 15, 20)], shown(60, 80, classes=2)))


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        ([[0.1, 0.2, 0.5, 0.9], [0.3, 0.3, 0.8, 1.0]], "none reaches beyond 1"),  # shares of the image's sides
        ([[50.0, 40, 20, 30], [20, 20, 40, 40]], "end before they begin"),  # corner and size
    ],
)
def test_boxes_that_are_no_corners_in_pixels_are_not_nothing(corners: list[list[float]], said: str) -> None:
    boxes, scores = torch.tensor(corners), torch.tensor([0.9, 0.8])
    rows = torch.cat([boxes, scores[:, None], torch.tensor([[0.0, 1, 1]] * 2)], dim=1)
    for head, outputs in (
        (MaskRCNNHead(), [boxes, torch.tensor([1, 1]), scores, torch.ones(2, 28, 28)]),
        (YoloHead(suppressed=True), [rows, torch.ones(2, 15, 20)]),
    ):
        with pytest.raises(AnswerError, match=said):
            head.decode(outputs, shown(60, 80))


@pytest.mark.parametrize("mask_scores", [False, True])
@pytest.mark.parametrize("part", [0, 1], ids=["classes", "masks"])
def test_query_logits_that_are_no_numbers_are_not_nothing(part: int, mask_scores: bool) -> None:
    outputs = [torch.tensor([[4.0, -4], [5, -5], [-4, 4]]), torch.full((3, 15, 20), 6.0)]
    head = QueryHead(mask_scores=mask_scores, mask_overlap=1)
    assert len(head.decode(outputs, shown(60, 80))) == 2
    outputs[part][1, 0] = NAN
    with pytest.raises(AnswerError, match="NaN or infinity"):
        head.decode(outputs, shown(60, 80))


# --- the detector -----------------------------------------------------------------------------------------


def test_a_chip_does_not_see_its_neighbours_in_the_batch(yolo: tuple[Yolo, bytes]) -> None:
    detector = OnnxDetector.of(yolo[1], YOLO_CARD, device="cpu")
    some = chips(150, 210, core=64, halo=32)
    together = detector.predict(some)
    assert sum(map(len, together)) > 100
    for chip, expected in zip(some, together, strict=True):
        [alone] = detector.predict([chip])
        np.testing.assert_allclose(alone.boxes, expected.boxes, atol=1e-3)
    assert detector.predict([]) == []


def test_objects_of_other_tiles_are_left_out(yolo: tuple[Yolo, bytes]) -> None:
    some = chips(160, 224, core=64, halo=32)
    [middle] = [chip for chip in some if (chip.tile.row, chip.tile.col) == (1, 1)]
    everything = plain_yolo(yolo[0], middle)
    off = np.tile([middle.tile.window.col_off, middle.tile.window.row_off], 2)
    cores = [chip.tile.core.xyxy for chip in some if chip is not middle]
    inside = [any(a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3] for a in cores)
              for b in (np.array(e[0]) + off for e in everything)]  # fmt: skip
    [found] = OnnxDetector.of(yolo[1], YOLO_CARD, device="cpu").predict([middle])
    assert 10 < len(found) < len(everything)
    np.testing.assert_allclose(
        found.boxes, [e[0] for e, other in zip(everything, inside, strict=True) if not other], atol=0.01
    )


def test_travels_to_another_process(yolo: tuple[Yolo, bytes]) -> None:
    detector = OnnxDetector.of(yolo[1], YOLO_CARD, device="cpu")
    assert len(repr(detector)) < 2000  # the bytes of the file are not shown
    there = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(detector))))
    assert (there.card, there.digest, there.device, len(there.digest)) == (YOLO_CARD, detector.digest, "cpu", 64)
    [chip] = chips(HEIGHT, WIDTH)
    np.testing.assert_array_equal(there.predict([chip])[0].boxes, detector.predict([chip])[0].boxes)


def test_a_network_of_one_size_takes_smaller_chips_and_refuses_larger(yolo: tuple[Yolo, bytes]) -> None:
    data = exported(yolo[0], (HEIGHT, WIDTH), outputs=["output0", "output1"], dynamic=False)
    detector = OnnxDetector.of(data, YOLO_CARD, device="cpu")
    small, exact = chips(70, 130), chips(HEIGHT, WIDTH)
    found = detector.predict([*small, *exact])
    assert found[0].boxes[:, 2].max() <= 130 and found[1].boxes[:, 2].max() > 130
    with pytest.raises(ModelError, match="takes 96 x 160"):
        detector.predict(chips(WIDTH, WIDTH))


def test_a_network_of_one_image_may_answer_without_the_dimension_of_a_batch(yolo: tuple[Yolo, bytes]) -> None:
    """The first of its own dimensions was taken away in its place."""

    class Single(torch.nn.Module):
        def __init__(self, batched: bool) -> None:
            super().__init__()
            self.net, self.batched = yolo[0], batched

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(output if self.batched else output[0] for output in self.net(image[None]))

    [expected] = OnnxDetector.of(yolo[1], YOLO_CARD).predict(chips(HEIGHT, WIDTH))
    for batched in (False, True):
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(Single(batched).eval(), (torch.rand(3, HEIGHT, WIDTH),), file, dynamo=False)
        [found] = OnnxDetector.of(file.getvalue(), YOLO_CARD).predict(chips(HEIGHT, WIDTH))
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


def test_cards_that_do_not_fit_the_network_are_refused(yolo: tuple[Yolo, bytes]) -> None:
    data = yolo[1]
    with pytest.raises(ModelError, match="numbers per box"):
        OnnxDetector.of(data, replace(YOLO_CARD, classes=("one",)), device="cpu").predict(chips(HEIGHT, WIDTH))
    with pytest.raises(ModelError, match=r"4 band\(s\) for a network that takes 3"):
        OnnxDetector.of(data, replace(YOLO_CARD, bands=None, mean=(0,) * 4, std=(1,) * 4), device="cpu")
    lost = {"family": "onnx", "head": {"kind": "yolo", "outputs": ["nothing", "output1"]}}
    with pytest.raises(ModelError, match="output0, output1"):
        OnnxDetector.of(data, replace(YOLO_CARD, architecture=lost), device="cpu")
    with pytest.raises(ModelError, match="family"):
        OnnxDetector.of(data, replace(YOLO_CARD, architecture={}), device="cpu")


@pytest.mark.parametrize("shape", [[1, 96, 128, 3], ["n", "h", "w", 4], [96, 128, 3]])
def test_bands_that_come_last_are_told(shape: list[int | str]) -> None:
    """The message spoke of 96 bands, or of tiles too large."""
    with pytest.raises(ModelError, match=r"bands come last.*bands first"):
        described(["images"], [shape], ["tensor(float)"])


@pytest.mark.parametrize("shape", [[1, 3, 10**6, 10**6], ["n", 10**9, "h", "w"], [3, 640, 20_000]])
def test_images_that_no_machine_has_room_for_are_refused_before_one_is_made(shape: list[int | str]) -> None:
    with pytest.raises(ModelError, match=r"images of the shape.*16384 rows, columns and bands"):
        described(["images"], [shape], ["tensor(float)"])


def test_a_network_of_8_bit_values_gets_no_wider_ones(yolo: tuple[Yolo, bytes]) -> None:
    """They were wrapped modulo 256: other values with the same answer."""
    data = exported(EightBit(yolo[0]), (HEIGHT, WIDTH), outputs=["output0", "output1"], dtype=torch.uint8)
    card = replace(YOLO_CARD, mean=None, std=None)
    detector = OnnxDetector.of(data, card, device="cpu")
    [chip] = chips(HEIGHT, WIDTH)
    [expected] = OnnxDetector.of(yolo[1], YOLO_CARD, device="cpu").predict([chip])
    np.testing.assert_allclose(detector.predict([chip])[0].boxes, expected.boxes, atol=0.01)
    for wide in (chip.pixels.astype(np.uint16) + 256, chip.pixels.astype(np.float32) - 300.0):
        with pytest.raises(ModelError, match=r"network that takes 8-bit values.*scaling"):
            detector.predict([replace(chip, pixels=wide)])


def test_devices_that_are_not_there_are_refused(yolo: tuple[Yolo, bytes]) -> None:
    import onnxruntime

    with pytest.raises(ResourceError, match="an ONNX model"):
        Session(yolo[1], "mps")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        for device in ("cuda", "cuda:1", "tensorrt"):
            with pytest.raises(ResourceError, match="onnxruntime-gpu"):
                Session(yolo[1], device)


def test_bytes_are_run_as_what_they_were_checked_as() -> None:
    """onnxruntime would take its own format by the letters at its beginning, which nobody looked into."""
    with pytest.raises(ModelError, match="protobuf parsing failed"):
        Session(b"\x10\0\0\0ORTM" + bytes(200), "cpu")


# --- files ------------------------------------------------------------------------------------------------


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    for data in (b"", b"<html>not found</html>", pickle.dumps({"a": 1})):
        with pytest.raises(ModelError, match="ONNX file"):
            check_onnx(data, tmp_path / "x.onnx")


def test_a_file_of_a_later_onnx_is_refused_with_the_reason(yolo: tuple[Yolo, bytes]) -> None:
    """onnxruntime tells it after some three hundred letters of where in its own source it noticed."""
    import onnx

    model = onnx.load_model_from_string(yolo[1])
    model.ir_version = 99
    with pytest.raises(ModelError, match="IR version: 99"):
        Session(model.SerializeToString(), "cpu")


def test_tensors_in_other_files_are_refused(yolo: tuple[Yolo, bytes], tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(yolo[1])
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    with pytest.raises(ModelError, match="in another file"):
        check_onnx((tmp_path / "m.onnx").read_bytes(), "m.onnx")


@pytest.mark.parametrize(("domain", "kind"), [("evil", "Run"), ("com.microsoft", "EPContext")])
def test_operators_that_need_other_code_are_refused(domain: str, kind: str) -> None:
    from onnx import TensorProto, helper

    inner = helper.make_graph(
        [helper.make_node(kind, [], ["y"], domain=domain)], "inner", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    choice = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph(
        [choice], "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    with pytest.raises(ModelError, match=kind):
        check_onnx(helper.make_model(graph).SerializeToString(), "m.onnx")


def test_nobody_is_told_what_is_run(yolo: tuple[Yolo, bytes], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(yolo[1])
    script = "from pathlib import Path; from geoseg.detectors.onnx_session import Session"
    (tmp_path / "home").mkdir()
    assert left_behind(f"{script}; Session(Path('../m.onnx').read_bytes())", tmp_path / "home") == []
