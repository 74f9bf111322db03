"""The sea seen from above: colour, swell, wind, foam, wakes, and the clouds over it."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from geoseg.scenes.brush import Brush
from geoseg.scenes.hull import Ship
from geoseg.scenes.texture import Floats, blend, grain, value_noise

_COLOURS = np.array(
    [
        (0.08, 0.14, 0.20),
        (0.05, 0.10, 0.14),
        (0.12, 0.22, 0.24),
        (0.20, 0.31, 0.36),
        (0.10, 0.26, 0.36),
        (0.16, 0.40, 0.46),
        (0.26, 0.30, 0.24),
        (0.36, 0.34, 0.26),
        (0.10, 0.15, 0.13),
        (0.30, 0.36, 0.40),
        (0.44, 0.50, 0.54),
        (0.06, 0.16, 0.28),
    ],
    np.float32,
)


def paint_water(rng: np.random.Generator, height: int, width: int, gsd_m: float) -> Floats:
    """A canvas (height, width, 3) of nothing but water."""
    weights = rng.dirichlet(np.full(len(_COLOURS), 0.15))
    # Open water is mostly darker than anything on land.
    base = np.asarray(weights @ _COLOURS * rng.uniform(0.45, 1.0), np.float32)
    other = base * rng.uniform(0.75, 1.3) + rng.normal(0, 0.02, 3)
    murk = value_noise(rng, height, width, rng.uniform(0.2, 0.9) * max(height, width), 3)
    slope = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(rng.normal(0, 0.25))
    slope = slope + np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(rng.normal(0, 0.25))
    mix = np.clip((murk - 0.5) * np.float32(rng.uniform(0.5, 2.5)) + 0.5 + slope, 0, 1)
    light = np.ones((height, width), np.float32)
    light += np.float32(rng.uniform(0.0, 0.12)) * _swell(rng, height, width, gsd_m)
    light += np.float32(rng.uniform(0.01, 0.10)) * ndimage.gaussian_filter(
        grain(rng, height, width), rng.uniform(0.4, 1.2)
    )
    light += np.float32(rng.choice([0.0, 0.06, 0.15])) * (_streaks(rng, height, width) - 0.5)
    canvas = base + mix[..., None] * (other.astype(np.float32) - base)
    canvas *= light[..., None]
    if rng.random() < 0.25:
        _glint(rng, canvas)
    if rng.random() < 0.25:
        _whitecaps(rng, canvas, gsd_m)
    return np.asarray(np.clip(canvas, 0.0, 1.0), np.float32)


def _swell(rng: np.random.Generator, height: int, width: int, gsd_m: float) -> Floats:
    """Two or three trains of waves with wandering crests, about -1..1."""
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    wander = value_noise(rng, height, width, 60.0 / gsd_m, 2) * np.float32(rng.uniform(4, 14))
    strength = value_noise(rng, height, width, 150.0 / gsd_m, 2)
    heading = rng.uniform(0, math.tau)
    waves = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(2, 4))):
        angle = heading + rng.normal(0, 0.35)
        number = math.tau / max(rng.uniform(4.0, 45.0) / gsd_m, 3.0)
        phase = x * np.float32(number * math.cos(angle)) + y * np.float32(number * math.sin(angle))
        waves += np.sin(phase + wander)
    return np.asarray(waves * strength, np.float32)


def _streaks(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Long bands of smooth and ruffled water along the wind: noise, stretched and turned."""
    side = int(math.hypot(height, width)) // 2 + 2
    field = value_noise(rng, side, max(side // 12, 8), 14.0, 3)
    angle = rng.uniform(0, math.tau)
    cos, sin = math.cos(angle), math.sin(angle)
    rows = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(height / (2.0 * side))
    cols = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :] * np.float32(width / (2.0 * side))
    across = (rows * cos + cols * sin + 0.5) * field.shape[0]
    along = (cols * cos - rows * sin + 0.5) * field.shape[1]
    return np.asarray(ndimage.map_coordinates(field, [across, along], order=1, mode="mirror"), np.float32)


def _glint(rng: np.random.Generator, canvas: Floats) -> None:
    height, width = canvas.shape[:2]
    sparkle = np.clip(grain(rng, height, width) - np.float32(rng.uniform(1.0, 2.2)), 0, None)
    band = value_noise(rng, height, width, 0.6 * max(height, width), 1)
    canvas += (np.float32(rng.uniform(0.1, 0.4)) * band * (0.3 + sparkle))[..., None]


def _whitecaps(rng: np.random.Generator, canvas: Floats, gsd_m: float) -> None:
    """Short bright crests, a pixel or two wide."""
    height, width = canvas.shape[:2]
    count = int(height * width * min(gsd_m * gsd_m, 1.0) / rng.uniform(800, 8000))
    spots = np.zeros((height, width), np.float32)
    spots[rng.integers(0, height, count), rng.integers(0, width, count)] = rng.uniform(0.5, 3.0, count)
    long, short = rng.uniform(0.8, 2.2), rng.uniform(0.4, 0.7)
    foam = ndimage.gaussian_filter(spots, (long, short) if rng.random() < 0.5 else (short, long))
    blend(canvas, np.clip(foam, 0, 0.9), (0.9, 0.93, 0.95), (slice(None), slice(None)))


def paint_wake(rng: np.random.Generator, brush: Brush, ship: Ship, foam: Floats) -> None:
    """The track of a ship under way, in the ship's frame: churned water behind it and the V of its waves.

    `foam` is noise (height, width) in [0, 1] over the whole canvas.
    """
    half, beam = ship.length_m / 2, ship.beam_m
    reach = ship.length_m * rng.uniform(1.0, 6.0)
    spread = rng.uniform(0.10, 0.30)
    flank = beam / 2 + spread * (reach + half)
    if (found := brush.window((-half - reach, half + beam, -flank - beam, flank + beam))) is None:
        return
    box, u, v = found
    noise = foam[box]
    behind = np.clip((-half - u) / np.float32(reach), 0, 1)
    lit = (u < -half + 0.1 * ship.length_m) & (u > -half - reach)
    width = np.float32(beam) * (0.3 + 0.6 * np.sqrt(behind))
    core = np.exp(-((v / width) ** 2)) * (1 - behind) ** np.float32(rng.uniform(0.7, 2.0)) * lit
    strength = rng.uniform(0.3, 1.0)
    cover = np.clip(core * (noise * 1.5 + 0.15), 0, 1) * np.float32(strength)
    from_bow = half - u
    arm = (
        np.abs(np.abs(v) - np.float32(spread) * np.clip(from_bow, 0, None))
        / np.float32(min(0.2 * beam, 3.0))
        / (1 + 0.01 * np.clip(from_bow, 0, None))
    )
    fade = np.clip(1 - from_bow / np.float32(reach + 2 * half), 0, 1) ** 2 * (from_bow > 0)
    cover = np.maximum(cover, np.exp(-(arm**2)) * fade * noise * np.float32(rng.uniform(0.1, 0.9) * strength))
    blend(brush.canvas, cover, rng.uniform(0.75, 0.97) * np.array([0.95, 0.99, 1.0]), box)


def paint_clouds(rng: np.random.Generator, canvas: Floats) -> Floats:
    """Small clouds and their shadows, in place; gives their opacity (height, width) in [0, 1]."""
    height, width = canvas.shape[:2]
    field = value_noise(rng, height, width, rng.uniform(150, 450), 6)
    level = float(np.quantile(field[::8, ::8], rng.uniform(0.86, 0.98)))
    opacity = np.clip((field - np.float32(level)) * np.float32(rng.uniform(6, 14)), 0, 0.97)
    shift = (int(rng.integers(-80, 80)), int(rng.integers(-80, 80)))
    shade = ndimage.shift(opacity, shift, order=0, mode="mirror") * np.float32(rng.uniform(0.2, 0.6))
    canvas *= (1 - shade)[..., None]
    blend(canvas, opacity, (0.93, 0.95, 0.97), (slice(None), slice(None)))
    return np.asarray(opacity, np.float32)
