"""The two steps from many boxes to few, against torchvision's own, which takes them chip by chip."""

from __future__ import annotations

import pytest
import torch
from networks import cut
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from geoseg.detectors.canvas import FLOOR, cores_of, may_be_here, not_elsewhere
from geoseg.detectors.network import build
from geoseg.detectors.regions import Sight, detect, propose
from geoseg.tiling import Tile

CPU = torch.device("cpu")
CLASSES = 3
SIZE = (192, 256)
Shown = tuple[torch.Tensor, dict[str, torch.Tensor], list[tuple[int, int]], list[Tile]]


@pytest.fixture
def network() -> MaskRCNN:
    """Of random weights."""
    torch.manual_seed(0)
    net = build({"fpn_channels": 16, "box_head": 16, "mask_head": [8], "detections": 40}, CLASSES).eval()
    net.rpn._pre_nms_top_n["testing"], net.rpn._post_nms_top_n["testing"] = 300, 200
    net.rpn.min_size = 4.0  # pixels: has proposals to drop at the chips' edges
    with torch.no_grad():
        net.rpn.head.bbox_pred.weight.mul_(30)
    return net


@pytest.fixture
def shown(network: MaskRCNN) -> Shown:
    """Images, features, sizes and tiles of chips of one canvas, no two of one size."""
    image = torch.randint(0, 255, (3, 500, 610), dtype=torch.uint8).numpy()
    chips = [
        chip for chip in cut(image, core=150, halo=40) if chip.pixels.shape[1] > 128 and chip.pixels.shape[2] > 192
    ]
    images = torch.randn(len(chips), 3, *SIZE)
    shapes = [(chip.pixels.shape[1] - 3 * i, chip.pixels.shape[2] - 2 * i) for i, chip in enumerate(chips)]
    with torch.inference_mode():
        return images, network.backbone(images), shapes, [chip.tile for chip in chips]


def _sorted(rows: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(rows.tolist()))


@torch.inference_mode()
def test_proposals_are_torchvisions(network: MaskRCNN, shown: Shown) -> None:
    images, features, shapes, tiles = shown
    cores = cores_of(tiles, CPU)
    whole, _ = network.rpn(ImageList(images, shapes), features)
    expected = [boxes[may_be_here(boxes, core)] for boxes, core in zip(whole, cores, strict=True)]
    found = propose(network.rpn, images, features, Sight.of(shapes, tiles, CPU))
    assert 0 < sum(map(len, expected)) < sum(map(len, whole))
    assert found.counts == [len(boxes) for boxes in expected]
    assert found.chip.tolist() == [i for i, n in enumerate(found.counts) for _ in range(n)]
    for mine, theirs in zip(found.each(), expected, strict=True):
        torch.testing.assert_close(_sorted(mine), _sorted(theirs))  # equal scores come in any order


@pytest.mark.parametrize("sure", [1.0, 3.0, 12.0])
@torch.inference_mode()
def test_detections_are_torchvisions(network: MaskRCNN, shown: Shown, sure: float) -> None:
    images, features, shapes, tiles = shown
    sight, heads = Sight.of(shapes, tiles, CPU), network.roi_heads
    heads.score_thresh = FLOOR
    proposals = propose(network.rpn, images, features, sight)
    logits = sure * torch.randn(len(proposals.boxes), CLASSES + 1)
    deltas = torch.randn(len(proposals.boxes), 4 * (CLASSES + 1))
    every = heads.postprocess_detections(logits, deltas, proposals.each(), shapes)
    found = detect(heads, logits, deltas, proposals, sight, most=heads.detections_per_img)
    assert found.candidates == [len(boxes) for boxes in every[0]]
    counts = found.regions.counts
    mine = torch.cat([found.scores[:, None], found.labels[:, None], found.regions.boxes], dim=1).split(counts)
    for own, core, boxes, scores, labels in zip(mine, sight.cores, *every, strict=True):
        theirs = torch.cat([scores[:, None], labels[:, None], boxes], dim=1)[not_elsewhere(boxes, core)]
        torch.testing.assert_close(_sorted(own), _sorted(theirs))
    assert set(found.labels.tolist()) == {1, 2, 3}
    assert sum(counts) < sum(found.candidates)


@torch.inference_mode()
def test_where_nothing_is_proposed_nothing_is_found(network: MaskRCNN, shown: Shown) -> None:
    images, features, shapes, tiles = shown
    network.rpn.score_thresh = 2.0
    sight, heads = Sight.of(shapes, tiles, CPU), network.roi_heads
    proposals = propose(network.rpn, images, features, sight)
    pooled = heads.box_head(heads.box_roi_pool(features, proposals.each(), [SIZE] * len(tiles)))
    found = detect(heads, *heads.box_predictor(pooled), proposals, sight, most=40)
    assert proposals.counts == found.regions.counts == found.candidates == [0] * len(tiles)
