"""What is kept of a detector's answers, and that keeping it moves no contour."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted import BLOCKS, bits, predicted, seen_in

from geoseg.errors import AnswerError, ModelError
from geoseg.instances import Instances
from geoseg.predictions import Predictions, distances, from_distances, quantised
from geoseg.vectorize import vectorize
from geoseg.vectorize.probabilities import LEVEL, TIE

PROBABILITIES = st.floats(0, 1) | st.floats(0.4999, 0.5001) | st.floats(0, 1, width=32) | st.floats(0, 1, width=16)


def _one(mask: np.ndarray, side: float = 100.0) -> Instances:
    return Instances(boxes=[[10.5, 12.0, 10.5 + side, 12.0 + side]], scores=[0.9], labels=[0], masks=[mask])


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=PROBABILITIES))
def test_a_probability_keeps_its_side_and_its_distance_from_the_level(p: np.ndarray) -> None:
    kept = from_distances(distances(p)).astype(np.float64)
    before, after = p - LEVEL, kept - LEVEL
    tied = np.abs(before) < TIE
    assert (after[tied] == 0).all()
    assert (np.abs(after[~tied]) >= TIE).all() and (np.sign(after) == np.sign(before))[~tied].all()
    error = np.abs(after - before)[~tied]
    assert (error <= np.maximum(np.abs(before[~tied]) * 2.0**-11, 2.0**-24)).all()
    assert ((kept >= 0) & (kept <= 1)).all()


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(0, 1, width=32)))
def test_done_twice_it_changes_nothing_more(p: np.ndarray) -> None:
    once = distances(p)
    assert distances(from_distances(once)).tobytes() == once.tobytes()


@given(st.floats(0, 0.499989), st.floats(0.500011, 1))
def test_a_crossing_between_two_cells_hardly_moves(low: float, high: float) -> None:
    a, b = from_distances(distances(np.array([low, high]))).astype(np.float64)
    near = min(abs(low - LEVEL), abs(high - LEVEL)) < 2.0**-14
    moved = abs((LEVEL - a) / (b - a) - (LEVEL - low) / (high - low))
    assert moved <= (2.0**-9 if near else 2.0**-12 * 1.01)


def test_a_gentle_slope_moves_less_than_a_hundredth_of_a_pixel() -> None:
    """The case that eight bits fail: a cell of 3.6 px, a slope of a few thousandths per cell."""
    rows, cols = np.mgrid[0:28, 0:28]
    mask = 0.5 + 0.004 * (9.3 - np.hypot(rows - 13.2, cols - 13.9))
    tiles = BLOCKS[0].tiles[3:4]
    plain, kept, eight = (
        vectorize([each], tiles, tolerance=0).geometry[0]
        for each in (_one(mask), quantised(_one(mask)), _one(np.rint(mask * 255) / 255))
    )
    assert shapely.hausdorff_distance(plain, kept) < 0.01
    assert shapely.hausdorff_distance(plain, eight) > 0.3


@pytest.mark.parametrize("seed", range(5))
def test_outlines_stay_where_they_are(seed: int) -> None:
    tiles = BLOCKS[0].tiles
    found = [seen_in(tile, np.random.default_rng([seed, i]), 40) for i, tile in enumerate(tiles)]
    plain = vectorize(found, tiles, tolerance=0)
    kept = vectorize([quantised(each) for each in found], tiles, tolerance=0)
    assert len(plain) == len(kept) > 100
    assert shapely.hausdorff_distance(plain.geometry, kept.geometry).max() < 0.01


def test_cells_are_kept_exactly() -> None:
    cells = np.arange(35).reshape(5, 7) % 3 == 0
    for dtype in (np.bool_, np.uint8, np.int64):
        (kept,) = quantised(_one(cells.astype(dtype))).masks
        assert kept.dtype == np.bool_ and np.array_equal(kept, cells)


@pytest.mark.parametrize("mask", [np.zeros((2, 3)), np.ones((2, 3), np.float32), np.full((2, 3), 0.5, np.float16)])
def test_the_ends_and_the_level_are_exact(mask: np.ndarray) -> None:
    (kept,) = quantised(_one(mask)).masks
    assert kept.dtype == np.float32 and np.array_equal(kept, mask)


def test_masks_that_are_none_are_told_as_elsewhere() -> None:
    with pytest.raises(AnswerError, match="NaN"):
        quantised(_one(np.array([[0.2, np.nan]])))
    with pytest.raises(ModelError, match="probabilities in"):
        quantised(_one(np.array([[0.2, 7.0]])))


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_masks_stay_with_their_instances(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    found = seen_in(BLOCKS[0].tiles[0], rng, n)
    kept = quantised(found)
    assert [m.shape for m in kept.masks] == [m.shape for m in found.masks]
    for before, after in zip(found.masks, kept.masks, strict=True):
        assert np.abs(after.astype(float) - before.astype(float)).max() < 2.0**-11
    assert bits(quantised(kept)) == bits(kept)
    for name in ("boxes", "scores", "labels"):
        assert getattr(kept, name).tobytes() == getattr(found, name).tobytes()


def test_predictions_check_themselves() -> None:
    whole = predicted(BLOCKS[0])
    assert len(whole) == sum(len(each) for each in whole.instances)
    with pytest.raises(ValueError, match="3 tiles and 2"):
        Predictions(tiles=whole.tiles, instances=whole.instances[:2])
    with pytest.raises(ValueError, match="negative"):
        Predictions(planned=-1)
    with pytest.raises(ValueError, match="negative"):
        Predictions(failed={"other": -1})
