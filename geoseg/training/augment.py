"""Changes of colour and sharpness that a real sensor, haze or season makes. Geometry is chips.py's."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from geoseg.training.config import Augment


def photometric(pixels: Tensor, rng: np.random.Generator, how: Augment = Augment()) -> Tensor:  # noqa: B008 - frozen
    """A ``(3, h, w)`` uint8 chip as another sensor, season or compression would have it, as much as ``how`` says."""
    strength = how.strength
    if rng.random() < how.colour:
        pixels = _curves(pixels, rng, strength)
    if rng.random() < how.saturation:
        pixels = _saturation(pixels, 1 + strength * float(rng.uniform(-0.8, 0.4)))
    if rng.random() < how.shadow:
        pixels = _shadow(pixels, rng, strength)
    if rng.random() < how.haze:
        pixels = _haze(pixels, rng, strength)
    if rng.random() < how.blur:
        pixels = _soften(pixels, 1 + strength * float(rng.uniform(0.2, 1.2)))
    if rng.random() < how.noise:
        noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32)) * float(rng.uniform(2, 10))
        pixels = _whole(pixels.float() + strength * noise)
    if rng.random() < how.jpeg and strength > 0:
        pixels = _jpeg(pixels, round(95 - 30 * min(strength, 2.0) * float(rng.random())))
    return pixels


def _whole(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)


def _curves(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Brightness, contrast, gamma and white balance as one lookup table per band."""
    x = np.linspace(0, 1, 256)
    gamma = float(np.exp(strength * rng.uniform(np.log(0.7), np.log(1.4))))
    contrast, offset = 1 + strength * rng.uniform(-0.35, 0.35), strength * rng.uniform(-0.15, 0.15)
    tables = []
    for gain in 1 + strength * rng.uniform(-0.12, 0.12, 3):
        y = ((x**gamma - 0.45) * contrast + 0.45 + offset) * gain
        tables.append(np.clip(np.round(y * 255), 0, 255).astype(np.uint8))
    table = torch.from_numpy(np.stack(tables))
    flat = torch.gather(table, 1, pixels.reshape(3, -1).long())
    return flat.reshape(pixels.shape)


def _haze(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """A bright veil of uneven thickness: light scattered into the view, and less of the ground's own."""
    coarse = torch.from_numpy(rng.uniform(0.3, 1.0, (1, 1, 4, 5)).astype(np.float32))
    veil = F.interpolate(coarse, size=pixels.shape[-2:], mode="bicubic", align_corners=False)[0]
    share = (veil * strength * float(rng.uniform(0.1, 0.5))).clamp_(0, 0.85)
    light = torch.tensor([215.0, 222.0, 232.0]).view(3, 1, 1) + float(rng.uniform(-15, 15))
    return _whole(pixels.float() * (1 - share) + light * share)


def _shadow(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """The shade of a cloud or a tall thing: a band across the chip, darker and a little bluer, with a soft rim."""
    height, width = pixels.shape[-2:]
    angle, reach = float(rng.uniform(0, 2 * np.pi)), float(np.hypot(height, width))
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    across = x * float(np.cos(angle)) + y * float(np.sin(angle)) + float(rng.uniform(-0.4, 0.4)) * reach
    half, rim = float(rng.uniform(0.05, 0.35)) * reach, float(rng.uniform(1, 12))
    depth = torch.sigmoid((half - across.abs()) / rim) * min(0.8, strength * float(rng.uniform(0.2, 0.6)))
    tint = torch.tensor([1.0, 0.96, 0.85]).view(3, 1, 1)
    return _whole(pixels.float() * (1 - depth * tint))


def _jpeg(pixels: Tensor, quality: int) -> Tensor:
    """Written as JPEG and read again, in memory."""
    held = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())).save(held, "JPEG", quality=quality)
    with Image.open(held) as image:
        return torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))


def _saturation(pixels: Tensor, amount: float) -> Tensor:
    x = pixels.float()
    grey = x.mean(dim=0, keepdim=True)
    return _whole(grey + (x - grey) * amount)


def _soften(pixels: Tensor, factor: float) -> Tensor:
    """As seen at a coarser GSD: resampled down and up again."""
    size = pixels.shape[-2:]
    small = [max(8, round(s / factor)) for s in size]
    x = F.interpolate(pixels[None].float(), size=small, mode="area")
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)[0]
    return _whole(x)
