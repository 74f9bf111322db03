"""The Mask R-CNN detector: what it is given, what it gives, and that neighbours do not matter."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import cut

from geoseg.detectors.base import Detector, ModelCard
from geoseg.detectors.canvas import not_elsewhere
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.network import build
from geoseg.detectors.suppression import mask_doubles
from geoseg.errors import ModelError, ResourceError
from geoseg.instances import Chip
from geoseg.tiling import Tiling
from geoseg.window import Window

TINY = {"fpn_channels": 16, "box_head": 16, "mask_head": [8], "detections": 30}
CARD = ModelCard(
    classes=("building",), bands=("red", "green", "blue"), mean=(110, 110, 110), std=(58, 58, 58), architecture=TINY
)


@pytest.fixture(scope="module")
def detector() -> MaskRCNNDetector:
    torch.manual_seed(0)
    return MaskRCNNDetector.of(build(TINY, 1), CARD, device="cpu")


def chips(height: int = 150, width: int = 210, core: int = 96, halo: int = 20) -> list[Chip]:
    image = np.random.default_rng(5).integers(0, 255, (3, height, width), np.uint8)
    return cut(image, core=core, halo=halo)


def test_is_a_detector(detector: MaskRCNNDetector) -> None:
    assert isinstance(detector, Detector)


def test_instances_fit_their_chip(detector: MaskRCNNDetector) -> None:
    some = chips()
    found = detector.predict(some)
    assert len(found) == len(some)
    assert sum(len(f) for f in found) > 0
    for chip, instances in zip(some, found, strict=True):
        height, width = chip.pixels.shape[1:]
        assert (instances.boxes >= 0).all()
        assert (instances.boxes[:, [0, 2]] <= width).all()
        assert (instances.boxes[:, [1, 3]] <= height).all()
        assert (instances.labels == 0).all()
        assert all(mask.shape == (28, 28) for mask in instances.masks)


def test_a_chip_does_not_see_its_neighbours_in_the_batch(detector: MaskRCNNDetector) -> None:
    some = chips()
    together = detector.predict(some)
    for chip, expected in zip(some, together, strict=True):
        [alone] = detector.predict([chip])
        assert len(alone) == len(expected)
        np.testing.assert_allclose(alone.boxes, expected.boxes, atol=0.5)
        np.testing.assert_allclose(alone.scores, expected.scores, atol=0.02)


def test_what_came_first_does_not_matter() -> None:
    """A first chip that fills little more than half of its padding once set the strides of the pooling for all."""
    torch.manual_seed(0)
    net = build(TINY, 1)
    fresh, used = (MaskRCNNDetector.of(copy.deepcopy(net), CARD, device="cpu") for _ in range(2))
    used.predict(chips(70, 80))
    [expected], [after] = fresh.predict(chips(128, 192, core=192)), used.predict(chips(128, 192, core=192))
    assert len(expected) > 0
    np.testing.assert_array_equal(after.boxes, expected.boxes)
    np.testing.assert_array_equal(after.scores, expected.scores)


def test_travels_to_another_process(detector: MaskRCNNDetector) -> None:
    there = pickle.loads(pickle.dumps(replace(detector, digest="d")))
    assert (there.card, there.wanted, there.digest) == (CARD, "cpu", "d")
    here, afar = detector.predict(chips()[:1]), there.predict(chips()[:1])
    np.testing.assert_array_equal(here[0].boxes, afar[0].boxes)


def test_a_full_tile_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    card = replace(CARD, name="full", architecture={**TINY, "detections": 1})
    full = MaskRCNNDetector.of(build(card.architecture, 1), card, device="cpu")
    for _ in range(2):
        full.predict(chips())
    assert [record.message for record in caplog.records if "the most that full gives" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


def test_no_chips_give_no_instances(detector: MaskRCNNDetector) -> None:
    assert list(detector.predict([])) == []


def test_other_dtypes_and_bands_are_refused(detector: MaskRCNNDetector) -> None:
    chip = chips()[0]
    for pixels in (chip.pixels.astype(np.uint16), chip.pixels[:2]):
        with pytest.raises(ModelError, match="3 bands of uint8"):
            detector.predict([Chip(tile=chip.tile, pixels=pixels, valid=chip.valid)])


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ResourceError, match="cuda:97"):
        MaskRCNNDetector.of(build(TINY, 1), CARD, device="cuda:97")


def test_boxes_keep_their_precision_under_autocast() -> None:
    """bfloat16 has 8 significant bits: a box at 300.7 would land on 300 or 302."""
    torch.manual_seed(1)
    net = build(TINY, 1).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        features = net.backbone(torch.randn(1, 3, 64, 448))
        objectness, deltas = net.rpn.head(list(features.values()))
    for tensor in [*features.values(), *objectness, *deltas]:
        assert tensor.dtype == torch.float32


@given(
    st.lists(
        st.tuples(st.floats(-30, 120), st.floats(-30, 120), st.floats(2, 60), st.floats(2, 60)), min_size=1, max_size=20
    )
)
@settings(max_examples=60, deadline=None)
def test_only_boxes_inside_another_core_are_left_out(raw: list[tuple[float, float, float, float]]) -> None:
    plan = Tiling(core=64, halo=24).plan(Window(row_off=0, col_off=0, height=192, width=256))
    tile = plan.tile(1, 1)
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in raw]).clamp(0, 112)
    kept = not_elsewhere(boxes, tile)
    for box, keep in zip((boxes + 40).tolist(), kept.tolist(), strict=True):
        inside_another = any(
            t != tile
            and t.core.col_off <= box[0] and box[2] <= t.core.col_end
            and t.core.row_off <= box[1] and box[3] <= t.core.row_end
            for t in plan.tiles()
        )  # fmt: skip
        if not keep:
            assert inside_another


def _square(cells: slice) -> torch.Tensor:
    mask = torch.zeros(28, 28)
    mask[:, cells] = 1.0
    return mask


def test_doubles_go_and_neighbours_stay() -> None:
    boxes = torch.tensor([[0, 0, 40, 40], [1, 0, 41, 40], [0, 0, 40, 40.0]])
    masks = torch.stack([_square(slice(0, 13)), _square(slice(0, 13)), _square(slice(15, 28))])
    keep = mask_doubles(boxes, torch.tensor([0.7, 0.9, 0.8]), masks)
    assert keep.tolist() == [False, True, True]


def test_a_part_goes_with_its_whole() -> None:
    boxes = torch.tensor([[0, 0, 40, 40], [0, 0, 40, 15.0]])
    masks = torch.ones(2, 28, 28)
    assert mask_doubles(boxes, torch.tensor([0.9, 0.6]), masks).tolist() == [True, False]
