"""What a sensor, haze, shade or compression does to a chip, and what it leaves as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from geoseg.training.augment import photometric
from geoseg.training.config import Augment

HEIGHT, WIDTH = 72, 104
KINDS = ("colour", "saturation", "shadow", "haze", "blur", "noise", "jpeg")
NONE = dict.fromkeys(KINDS, 0.0)
seeds = st.integers(0, 10**6)


def only(kind: str, strength: float = 1.0) -> Augment:
    return Augment(**{**NONE, kind: 1.0}, strength=strength)


def ground(seed: int = 1) -> Tensor:
    """A chip with smooth ground, edges and grain."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(60, 160, (1, 3, 6, 9)).astype(np.float32))
    chip = F.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0]
    chip[:, 20:45, 30:70] += 40
    chip += torch.from_numpy(rng.normal(0, 4, chip.shape).astype(np.float32))
    return chip.round().clamp(0, 255).to(torch.uint8)


def changed(kind: str, seed: int, chip: Tensor, strength: float = 1.0) -> Tensor:
    return photometric(chip, np.random.default_rng(seed), only(kind, strength))


@given(seed=seeds, strength=st.floats(0, 2))
@settings(max_examples=40)
def test_all_together_give_a_chip_of_the_same_kind_and_the_same_one_again(seed: int, strength: float) -> None:
    chip, how = ground(seed % 7), Augment(**dict.fromkeys(KINDS, 1.0), strength=strength)
    before = chip.clone()
    one, other = (photometric(chip, np.random.default_rng(seed), how) for _ in range(2))
    assert one.dtype == torch.uint8 and one.shape == chip.shape
    assert torch.equal(one, other)
    assert torch.equal(chip, before)  # the chip itself is not written to


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_changes_nothing(kind: str) -> None:
    chip = ground()
    # Resampling to the same size, and a gamma of 1, may round by one.
    difference = (changed(kind, 3, chip, strength=0.0).int() - chip.int()).abs().max()
    assert difference <= 1


def test_shares_of_zero_leave_the_chip_alone() -> None:
    assert torch.equal(photometric(ground(), np.random.default_rng(0), Augment(**NONE)), ground())


@given(seed=seeds)
@settings(max_examples=30)
def test_colour_keeps_the_order_of_values_in_each_band(seed: int) -> None:
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, -1, -1).contiguous()
    out = changed("colour", seed, ramp).reshape(3, -1).int()
    assert (out.diff(dim=1) >= 0).all()
    assert (out.amax(dim=1) - out.amin(dim=1) > 80).all()  # still a picture


@given(seed=seeds)
@settings(max_examples=30)
def test_saturation_leaves_grey_as_it_is(seed: int) -> None:
    grey = ground()[:1].expand(3, -1, -1).contiguous()
    assert (changed("saturation", seed, grey).int() - grey.int()).abs().max() <= 1


@given(seed=seeds)
@settings(max_examples=30)
def test_haze_brightens_dark_ground_and_takes_contrast(seed: int) -> None:
    chip = ground()
    hazy = changed("haze", seed, chip)
    dark = chip < 150
    assert (hazy[dark] >= chip[dark]).all()
    edge, softer = (float(x[:, 22:43, 32:68].float().mean() - x[:, :18].float().mean()) for x in (chip, hazy))
    noise, less = (float((x[:, 1:].float() - x[:, :-1].float()).abs().mean()) for x in (chip, hazy))
    assert softer < edge + 8  # the veil is uneven: it may tilt, not add an edge
    assert 0.1 * noise < less < noise


@given(seed=seeds)
@settings(max_examples=30)
def test_shade_darkens_part_of_the_chip_and_blue_the_least(seed: int) -> None:
    flat = torch.full((3, HEIGHT, WIDTH), 150, dtype=torch.uint8)
    shaded = changed("shadow", seed, flat)
    loss = (flat.int() - shaded.int()).float()
    assert (loss >= 0).all()
    assert loss.amax() >= 10
    assert loss.amax() <= 0.8 * 150 + 1
    deep = loss[0] > 10
    assert (loss[2][deep] <= loss[1][deep]).all() and (loss[1][deep] <= loss[0][deep]).all()


def test_shade_has_an_edge_on_most_chips() -> None:
    flat = torch.full((3, HEIGHT, WIDTH), 150, dtype=torch.uint8)
    edges = [float((s := changed("shadow", seed, flat)[0].float()).amax() - s.amin()) for seed in range(40)]
    assert np.mean(np.array(edges) > 15) > 0.9


@given(seed=seeds)
@settings(max_examples=20)
def test_blur_takes_detail_and_keeps_the_mean(seed: int) -> None:
    chip = ground()
    soft = changed("blur", seed, chip)

    def detail(x: Tensor) -> float:
        return float((x[:, 1:].float() - x[:, :-1].float()).abs().mean())

    assert detail(soft) < detail(chip)
    assert float(soft.float().mean()) == pytest.approx(float(chip.float().mean()), abs=1.0)


@given(seed=seeds)
@settings(max_examples=20)
def test_noise_is_centred_and_of_the_size_it_says(seed: int) -> None:
    flat = torch.full((3, HEIGHT, WIDTH), 128, dtype=torch.uint8)
    added = changed("noise", seed, flat).float() - 128
    assert abs(float(added.mean())) < 0.6
    assert 1.7 < float(added.std()) < 11


@given(seed=seeds)
@settings(max_examples=20)
def test_jpeg_is_near_the_chip_and_rougher_with_more_strength(seed: int) -> None:
    chip = ground()

    def error(strength: float) -> float:
        return float(((changed("jpeg", seed, chip, strength).float() - chip.float()) ** 2).mean())

    assert 0 < error(0.2) < 200  # 25 dB
    assert error(0.2) <= error(2.0) * 1.05


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_is_how_often(kind: str) -> None:
    chip, rng = ground(), np.random.default_rng(5)
    values: dict[str, Any] = {**NONE, kind: 0.3}
    how = Augment(**values)
    times = sum(not torch.equal(photometric(chip, rng, how), chip) for _ in range(200))
    assert 30 < times < 95
