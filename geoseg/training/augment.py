"""Changes of colour and sharpness that a real sensor, haze or season makes. Geometry is chips.py's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def photometric(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """A ``(3, h, w)`` uint8 chip with random gain, offset, gamma, saturation, blur and noise."""
    if rng.random() < 0.9:
        pixels = _curves(pixels, rng)
    if rng.random() < 0.5:
        pixels = _saturation(pixels, float(rng.uniform(0.2, 1.4)))
    if rng.random() < 0.3:
        pixels = _soften(pixels, float(rng.uniform(1.2, 2.2)))
    if rng.random() < 0.4:
        noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32)) * float(rng.uniform(2, 10))
        pixels = (pixels.float() + noise).round_().clamp_(0, 255).to(torch.uint8)
    return pixels


def _curves(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, gamma and white balance as one lookup table per band."""
    x = np.linspace(0, 1, 256)
    gamma, contrast, offset = rng.uniform(0.7, 1.4), rng.uniform(0.65, 1.35), rng.uniform(-0.15, 0.15)
    tables = []
    for gain in rng.uniform(0.88, 1.12, 3):
        y = ((x**gamma - 0.45) * contrast + 0.45 + offset) * gain
        tables.append(np.clip(np.round(y * 255), 0, 255).astype(np.uint8))
    table = torch.from_numpy(np.stack(tables))
    flat = torch.gather(table, 1, pixels.reshape(3, -1).long())
    return flat.reshape(pixels.shape)


def _saturation(pixels: Tensor, amount: float) -> Tensor:
    x = pixels.float()
    grey = x.mean(dim=0, keepdim=True)
    return (grey + (x - grey) * amount).round_().clamp_(0, 255).to(torch.uint8)


def _soften(pixels: Tensor, factor: float) -> Tensor:
    """As seen at a coarser GSD: resampled down and up again."""
    size = pixels.shape[-2:]
    small = [max(8, round(s / factor)) for s in size]
    x = F.interpolate(pixels[None].float(), size=small, mode="area")
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)[0]
    return x.round_().clamp_(0, 255).to(torch.uint8)
