"""The Mask R-CNN detector: what it is given, what it gives, and that neighbours do not matter."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import cut
from rasterio.features import rasterize
from shapely import affinity
from torch.utils.hooks import RemovableHandle
from torchvision.models.detection.roi_heads import project_masks_on_boxes

import geoseg
from geoseg import scenes
from geoseg.detectors import maskrcnn, regions, suppression
from geoseg.detectors.base import Detector, ModelCard
from geoseg.detectors.canvas import MOVES, cores_of, may_be_here, not_elsewhere, prepared
from geoseg.detectors.maskrcnn import MaskRCNNDetector, _instances
from geoseg.detectors.network import build, full_precision
from geoseg.detectors.suppression import mask_doubles
from geoseg.errors import AnswerError, ModelError, ResourceError
from geoseg.evaluation import match
from geoseg.instances import Chip, Instances
from geoseg.tiling import Tiling
from geoseg.vectorize import vectorize
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


def test_shows_its_card_and_not_all_layers(detector: MaskRCNNDetector) -> None:
    assert repr(detector).startswith("MaskRCNNDetector(card=ModelCard(") and "\n" not in repr(detector)


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


def test_is_given_to_a_process_of_multiprocessings(detector: MaskRCNNDetector) -> None:
    """Which passes tensors on as open files, and those of a copy were closed before it began."""
    process = multiprocessing.get_context("spawn").Process(target=len, args=([detector],))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("name", ["backbone", "rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor"])
def test_keeps_its_hooks_where_it_arrives(
    detector: MaskRCNNDetector, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch numbers hooks per process: where a new one got the number of one that had travelled, it took its place,
    and the second job of a Dask worker decoded its proposals in bfloat16."""
    [number] = detector.net.get_submodule(name)._forward_hooks
    sent = pickle.dumps(detector)
    monkeypatch.setattr(RemovableHandle, "next_id", number)
    there = pickle.loads(sent)
    hooks = [h for part in there.ready.modules() for h in part._forward_hooks.values()]
    assert hooks == [h for part in detector.ready.modules() for h in part._forward_hooks.values()]
    assert hooks.count(full_precision) == 4
    some = chips()
    for here, afar in zip(detector.predict(some), there.predict(some), strict=True):
        np.testing.assert_array_equal(here.boxes, afar.boxes)
        np.testing.assert_array_equal(here.scores, afar.scores)


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


def test_only_the_middle_step_asks_the_network(detector: MaskRCNNDetector) -> None:
    """The others are done while another thread has the device."""
    some = chips()
    expected = detector.predict(some)
    calls: list[int] = []
    hook = detector.ready.backbone.register_forward_pre_hook(lambda *_: calls.append(1))
    packed = detector.pack(some)
    assert not calls
    seen = detector.look(packed)
    asked = len(calls)
    found = detector.unpack(seen)
    hook.remove()
    assert len(calls) == asked == len({batch.size for batch in packed}) > 1
    assert sum(map(len, found)) == sum(map(len, expected)) > 0
    for one, other in zip(found, expected, strict=True):
        for a, b in zip((one.boxes, one.scores, *one.masks), (other.boxes, other.scores, *other.masks), strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_chips_give_no_instances(detector: MaskRCNNDetector) -> None:
    assert list(detector.predict([])) == []


def test_other_dtypes_and_bands_are_refused(detector: MaskRCNNDetector) -> None:
    chip = chips()[0]
    for pixels in (chip.pixels.astype(np.uint16), chip.pixels[:2]):
        with pytest.raises(ModelError, match="3 bands of uint8"):
            detector.predict([Chip(tile=chip.tile, pixels=pixels, valid=chip.valid)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_chips_are_normalised_and_filled_up_with_the_mean(dtype: type[np.generic]) -> None:
    some = [replace(chip, pixels=chip.pixels.astype(dtype)) for chip in chips()]
    card = CARD if dtype is np.uint8 else replace(CARD, mean=None, std=None)
    images = prepared(some, (192, 256), card, torch.device("cpu"))
    assert (images.shape, images.dtype) == ((len(some), 3, 192, 256), torch.float32)
    for image, chip in zip(images.numpy(), some, strict=True):
        rows, columns = chip.pixels.shape[1:]
        expected = (chip.pixels.astype(np.float32) - 110) / 58 if card.mean else chip.pixels
        np.testing.assert_allclose(image[:, :rows, :columns], expected, rtol=1e-6)
        assert not image[:, rows:].any() and not image[:, :, columns:].any()


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
    [core] = cores_of([tile], torch.device("cpu"))
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in raw]).clamp(0, 112)
    kept = not_elsewhere(boxes, core)
    for box, keep in zip((boxes + 40).tolist(), kept.tolist(), strict=True):
        inside_another = any(
            t != tile
            and t.core.col_off <= box[0] and box[2] <= t.core.col_end
            and t.core.row_off <= box[1] and box[3] <= t.core.row_end
            for t in plan.tiles()
        )  # fmt: skip
        if not keep:
            assert inside_another


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_proposal_that_may_become_a_box_of_this_tile_is_looked_at(seed: int) -> None:
    """Whatever a network makes of it, as long as it stays within reach."""
    g = torch.Generator().manual_seed(seed)
    tile = Tiling(core=64, halo=24).plan(Window(row_off=0, col_off=0, height=192, width=256)).tile(1, 1)
    [core] = cores_of([tile], torch.device("cpu"))
    corner = torch.rand(50, 2, generator=g) * 112
    proposals = torch.cat([corner, corner + 1 + 60 * torch.rand(50, 2, generator=g) ** 2], dim=1).clamp(0, 112)
    side = (proposals[:, 2:] - proposals[:, :2]).repeat(1, 2)
    moved = proposals + MOVES * side * (2 * torch.rand(50, 4, generator=g) - 1)
    boxes = torch.cat([torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])], dim=1)
    looked_at = may_be_here(proposals, core)
    assert looked_at[not_elsewhere(boxes.clamp(0, 112), core)].all()


def test_proposals_that_other_tiles_own_are_not_looked_at_and_nothing_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bundled model on a town, in float32: box for box the same as with all proposals."""
    monkeypatch.setattr(maskrcnn, "reduced_precision", lambda where: nullcontext())
    town = geoseg.load_model("buildings", device="cpu")
    assert isinstance(town, MaskRCNNDetector)
    some = cut(scenes.town(7, height=240, width=390, gsd_m=0.2).pixels, core=128, halo=80)
    asked: list[int] = []
    heads = town.ready.roi_heads
    counting = heads.box_roi_pool.register_forward_pre_hook(lambda _, given: asked.append(sum(map(len, given[1]))))
    found = town.predict(some)
    monkeypatch.setattr(regions, "may_be_here", lambda proposals, cores: torch.ones(len(proposals), dtype=torch.bool))
    every = town.predict(some)
    counting.remove()
    half = len(asked) // 2
    assert sum(asked[:half]) < 0.8 * sum(asked[half:])
    assert sum(map(len, every)) > 50
    for one, other in zip(found, every, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_a_tile_whose_proposals_are_all_of_others_is_empty(
    detector: MaskRCNNDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "may_be_here", lambda proposals, cores: torch.zeros(len(proposals), dtype=torch.bool))
    assert [len(found) for found in detector.predict(chips()[:3])] == [0, 0, 0]


def _shift(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Columns and rows by which outlines lie off true ones, in the middle of all pairs."""
    pairs = match(found, true, iou=0.6)
    assert len(pairs) >= 12
    centres = [shapely.get_coordinates(shapely.centroid(shapes)) for shapes in (found[pairs.pred], true[pairs.truth])]
    return np.median(centres[0] - centres[1], axis=0)


def test_masks_show_what_torchvision_taught_them() -> None:
    """What it cuts out of a mask to learn from, as the answer of a network that learnt all of it, is where it was."""
    rng = np.random.default_rng(3)
    corners = [shapely.box(0, 0, 9, 24), shapely.box(0, 0, 40, 16), shapely.Polygon([(0, 0), (30, 0), (12, 20)])]
    true = np.array([affinity.rotate(s, rng.uniform(0, 90)) for s in corners * 10], object)
    true = np.array([affinity.translate(s, *rng.uniform(50, 51, 2) - s.bounds[:2]) for s in true], object)
    planes = np.stack([rasterize([shape], out_shape=(128, 160)) for shape in true])
    boxes = torch.from_numpy(shapely.bounds(true)).float()
    taught = project_masks_on_boxes(torch.from_numpy(planes), boxes, torch.arange(len(true)), 28)
    [tile] = Tiling(core=160, halo=0).plan(Window(row_off=0, col_off=0, height=128, width=160)).tiles()
    sight = regions.Sight.of([(128, 160)], [tile], torch.device("cpu"))
    places = regions.shown(regions.Regions(boxes=boxes, chip=torch.zeros(30, dtype=torch.int64), counts=[30]), sight)
    outlines = [
        vectorize([Instances(boxes=place[None].numpy(), scores=[0.9], labels=[0], masks=[mask.numpy()])], [tile])
        for place, mask in zip(places, taught, strict=True)
    ]
    off = shapely.get_coordinates(shapely.centroid([each.geometry[0] for each in outlines]))
    off -= shapely.get_coordinates(shapely.centroid(true))
    np.testing.assert_allclose(np.median(off, axis=0), 0, atol=0.15)


def test_outlines_of_a_bundled_model_lie_true() -> None:
    town = scenes.town(7, height=320, width=480, gsd_m=0.16)
    [chip] = cut(town.pixels, core=480, halo=0)
    outlines = vectorize(geoseg.load_model("buildings", device="cpu").predict([chip]), [chip.tile])
    shift = _shift(outlines.geometry, np.array(town.polygons, object))
    assert np.abs(shift).max() < 0.35, shift


def test_masks_of_what_the_chip_cuts_still_end_on_its_edge() -> None:
    boxes = torch.tensor([[0.0, 0.3, 40, 40], [60, 30, 96, 64.0]])
    sight = regions.Sight(ends=torch.tensor([[96.0, 64.0]]), cores=torch.zeros(1, 4))
    some = regions.Regions(boxes=boxes, chip=torch.zeros(2, dtype=torch.int64), counts=[2])
    np.testing.assert_allclose(regions.shown(some, sight), [[0, 0.3, 40.5, 40.5], [60.5, 30.5, 96, 64]])


def _square(cells: slice) -> torch.Tensor:
    mask = torch.zeros(28, 28)
    mask[:, cells] = 1.0
    return mask


def test_doubles_go_and_neighbours_stay() -> None:
    boxes = torch.tensor([[0, 0, 40, 40], [1, 0, 41, 40], [0, 0, 40, 40.0]])
    masks = torch.stack([_square(slice(0, 13)), _square(slice(0, 13)), _square(slice(15, 28))])
    keep = mask_doubles(boxes, torch.tensor([0.7, 0.9, 0.8]), torch.zeros(3), masks)
    assert keep.tolist() == [False, True, True]


def test_a_part_goes_with_its_whole() -> None:
    boxes = torch.tensor([[0, 0, 40, 40], [0, 0, 40, 15.0]])
    masks = torch.ones(2, 28, 28)
    assert mask_doubles(boxes, torch.tensor([0.9, 0.6]), torch.zeros(2), masks).tolist() == [True, False]


def test_a_small_double_goes_with_a_large_mask() -> None:
    """A box of 44 pixels in one of 200 has an IoU below 0.05 with it."""
    boxes = torch.tensor([[0, 0, 200, 200], [50, 50, 94, 94.0]])
    keep = mask_doubles(boxes, torch.tensor([0.9, 0.5]), torch.zeros(2), torch.ones(2, 28, 28))
    assert keep.tolist() == [True, False]


def test_those_of_another_class_stay() -> None:
    """A ship in a dock, a car on a roof: masks that share everything are no doubles where the classes differ."""
    boxes, scores = (
        torch.tensor([[10.0, 10, 60, 40], [20, 20, 50, 35], [11, 10, 60, 40]]),
        torch.tensor([0.9, 0.8, 0.7]),
    )
    found = _instances(boxes, scores, torch.tensor([1, 2, 1]), torch.ones(3, 28, 28))
    assert found.labels.tolist() == [0, 1]


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.8]))
@settings(max_examples=40, deadline=None)
def test_what_goes_shares_enough_with_what_stays(seed: int, overlap: float) -> None:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(14, 2, generator=g) * 90
    boxes = torch.cat([corner, corner + 3 + 90 * torch.rand(14, 2, generator=g) ** 3], dim=1)
    masks = torch.nn.functional.interpolate(torch.rand(14, 1, 3, 3, generator=g), (28, 28), mode="bilinear")[:, 0]
    scores, labels = torch.rand(14, generator=g), torch.randint(2, (14,), generator=g)
    keep = mask_doubles(boxes, scores, labels, masks, overlap=overlap)
    area = (masks >= 0.5).float().mean((1, 2)) * (boxes[:, 2:] - boxes[:, :2]).prod(1)
    first, second = torch.meshgrid(torch.arange(14), torch.arange(14), indexing="ij")
    shared = suppression._shared(boxes, masks, area, first.flatten(), second.flatten()).view(14, 14)
    beats = (shared > overlap) & (scores[:, None] > scores) & (labels[:, None] == labels)
    assert torch.equal(~keep, beats[keep].any(dim=0))


def test_a_crowd_is_compared_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1000 candidates there can be half a million pairs, at some 25 KB each."""
    pairs: list[int] = []
    shared = suppression._shared
    monkeypatch.setattr(suppression, "_shared", lambda *each: (pairs.append(len(each[-1])), shared(*each))[1])
    boxes = torch.tensor([[0, 0, 40, 30.0]]).expand(100, 4)
    keep = mask_doubles(boxes, torch.linspace(0.9, 0.2, 100), torch.zeros(100), torch.ones(100, 28, 28))
    assert keep.nonzero().flatten().tolist() == [0]
    assert sum(pairs) == 4950 and max(pairs) <= suppression.AT_ONCE < 4950


@pytest.mark.parametrize("part", ["backbone.fpn", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"])
def test_a_network_of_nan_is_not_one_that_finds_nothing(part: str) -> None:
    torch.manual_seed(0)
    net = build(TINY, 1)
    for weights in net.get_submodule(part).parameters():
        torch.nn.init.constant_(weights, float("nan"))
    with pytest.raises(AnswerError, match="NaN"):
        MaskRCNNDetector.of(net, CARD, device="cpu").predict(chips()[:2])
