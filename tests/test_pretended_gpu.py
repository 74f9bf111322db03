"""What runs on a GPU, as far as can be seen without one: nothing mixes devices, and the CPU seldom waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import cut
from pretended import GPU, Pretended, on, put, put_module
from test_training_loop import tiny

import geoseg
from geoseg import scenes
from geoseg.detectors import maskrcnn
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.instances import Chip
from geoseg.training import loop, read_train_config
from geoseg.training.loop import _Trainer
from geoseg.training.processes import Crew
from geoseg.training.sources import mix


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> MaskRCNNDetector:
    """The bundled model, on the CPU in float32."""
    monkeypatch.setattr(maskrcnn, "reduced_precision", lambda where: torch.autocast("cpu", enabled=False))
    model = geoseg.load_model("buildings", device="cpu")
    assert isinstance(model, MaskRCNNDetector)
    return model


@pytest.fixture
def chips() -> list[Chip]:
    """Chips of one canvas, and smaller ones at the edges."""
    return cut(scenes.town(7, height=264, width=330, gsd_m=0.2).pixels, core=64, halo=32)


def pretended(model: MaskRCNNDetector) -> MaskRCNNDetector:
    put_module(model.ready)
    return replace(model, where=GPU)


def test_the_pretended_gpu_refuses_to_mix_devices() -> None:
    there, here = torch.ones(3), torch.ones(3)
    put([there])
    with Pretended() as gpu:
        for wrong in (
            lambda: there + here,
            lambda: torch.cat([here, there]),
            lambda: there.numpy(),
            lambda: here[there > 0],
        ):
            with pytest.raises(AssertionError):
                wrong()
        assert on(there * 2) == on(torch.zeros(2, device="cuda")) == on(here.to(there)) == there.device == GPU
        assert on((there + torch.tensor(1.0)).cpu()) == on(torch.arange(3)) == here.device == torch.device("cpu")
        assert float(there[there > 0].sum()) == 3
    assert gpu.waits == {"copy": 1, "__getitem__": 1, "__float__": 1}


def test_a_detector_keeps_to_its_device_and_sees_the_same(town: MaskRCNNDetector, chips: list[Chip]) -> None:
    expected = town.predict(chips[:12])
    with Pretended() as gpu:
        found = pretended(town).predict(chips[:12])
    assert gpu.calls["conv2d"] > 20
    assert sum(map(len, expected)) > 20
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)  # another kernel pools
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_the_cpu_waits_twice_for_a_chip_and_seldom_for_a_batch(town: MaskRCNNDetector, chips: list[Chip]) -> None:
    inside = [chip for chip in chips if chip.pixels.shape[1:] == (128, 128)]
    waits, calls = [], []
    for n in (2, 6):
        with Pretended() as gpu:
            seen = (model := pretended(town)).look(model.pack(inside[:n]))
        assert sum(len(boxes) for batch in seen for boxes in batch.boxes) > 0
        waits.append(sum(gpu.waits.values()))
        calls.append(sum(gpu.calls.values()))
    # Once for each suppression of doubles, which torchvision does chip by chip.
    assert waits[1] - waits[0] == 2 * 4
    assert waits[0] <= 2 * 2 + 20
    assert (calls[1] - calls[0]) / 4 < 0.2 * calls[0]


def test_a_training_step_keeps_to_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "reduced_precision", lambda where: torch.autocast("cpu", enabled=False))
    config = read_train_config(tiny(tmp_path, 2))
    batches = mix(config).draw(0), mix(config).draw(1)

    def step(trainer: _Trainer) -> dict[str, float]:
        return trainer._step([list(batches)], 0.0)

    told = []
    for device in ("cpu", "cuda"):
        trainer = _Trainer(config, tmp_path / f"{device}.safetensors", torch.device("cpu"), Crew(), print)
        if device == "cpu":
            told.append(step(trainer))
            continue
        trainer.device = GPU
        put_module(trainer.losses)
        put_module(trainer.average)
        put([trainer.mean, trainer.std])
        with Pretended() as gpu:
            told.append(step(trainer))
        assert gpu.calls["conv2d"] > 20
    assert told[0] == pytest.approx(told[1], rel=1e-3)
