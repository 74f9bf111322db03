"""Which device a network runs on, and at what precision."""

from __future__ import annotations

import pytest
import torch

from geoseg.detectors.device import gpu_has_bf16, reduced_precision

CAPABILITIES = {"V100": (7, 0), "T4": (7, 5), "A100": (8, 0), "L4": (8, 9), "H200": (9, 0), "B200": (10, 0)}


def test_bfloat16_is_for_gpus_that_multiply_it_and_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: torch is told of several, of which the first is the current one."""
    names = list(CAPABILITIES)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: CAPABILITIES[names[torch.device(device).index or 0]]
    )
    native = {name: gpu_has_bf16(torch.device("cuda", at)) for at, name in enumerate(names)}
    assert native == {"V100": False, "T4": False, "A100": True, "L4": True, "H200": True, "B200": True}
    asked: list[bool] = []
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: asked.append(enabled))
    for at in range(len(names)):
        reduced_precision(torch.device("cuda", at))
    assert asked == list(native.values())
