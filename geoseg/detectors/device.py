"""Which device, and at what precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import torch

from geoseg.errors import ResourceError


def pick_device(name: str = "auto") -> torch.device:
    """The device that ``name`` means: ``auto`` is the GPU where there is one, else the CPU.

    Raises:
        ResourceError: a device that this machine, or this torch, does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ResourceError(
            f"the device {name!r}", allowed="auto, cpu, cuda, cuda:N, mps, and openvino for Mask R-CNNs and ONNX models"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            f"the device {name!r}, where torch {torch.__version__} sees {torch.cuda.device_count()} GPU(s)",
            remedy="Use --device cpu, or see `geoseg doctor`",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("the device 'mps', which this machine does not have", remedy="Use --device cpu")
    return device


def reduced_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where the hardware multiplies it natively; elsewhere float32.

    bfloat16 that is emulated would be slower. float16, which GPUs before Ampere multiply natively, ends at 65,504: a
    network that goes beyond gives infinity, and trains only with scaled losses.
    """
    fast = gpu_has_bf16(device) if device.type == "cuda" else device.type == "cpu" and cpu_has_bf16()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)


def gpu_has_bf16(device: torch.device) -> bool:
    """Whether this very GPU multiplies bfloat16 natively: from compute capability 8.0 (Ampere) on.

    ``torch.cuda.is_bf16_supported`` asks the current GPU, whichever that is, and counts emulation.
    """
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 natively (AVX-512 BF16 or AMX): measured 1.9x faster than float32; without
    either 2-3x slower."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
