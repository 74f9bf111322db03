"""Roofs with slopes: corrugated sheets, clay tiles, thatch."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.scenes.texture import Box, Floats, blend, fill, jitter
from geoseg.scenes.town_canvas import Ground, RoofMix
from geoseg.scenes.town_cuts import Rng, long_axis
from geoseg.scenes.town_layout import Building

SHEETS = {
    "silver": (0.70, 0.73, 0.75),
    "white": (0.90, 0.92, 0.93),
    "grey": (0.48, 0.50, 0.51),
    "rust": (0.46, 0.32, 0.26),
    "brown": (0.36, 0.27, 0.24),
    "blue": (0.20, 0.40, 0.66),
    "sky": (0.33, 0.62, 0.78),
    "green": (0.22, 0.42, 0.34),
    "red": (0.62, 0.20, 0.20),
    "maroon": (0.42, 0.17, 0.19),
    "turquoise": (0.35, 0.66, 0.66),
}
TILES = ((0.66, 0.34, 0.23), (0.56, 0.27, 0.20), (0.72, 0.45, 0.32), (0.40, 0.28, 0.25))
THATCH = ((0.47, 0.40, 0.30), (0.38, 0.34, 0.28), (0.56, 0.48, 0.34))
RUST = np.array((0.44, 0.25, 0.17), np.float32)


def roof_axes(polygon: shapely.Polygon, box: Box) -> tuple[Floats, Floats, float, float, float]:
    """Pixel coordinates along and across the roof from its middle, half its extents, its angle (radians)."""
    angle, along, across = long_axis(polygon)
    turn = np.radians(angle)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    xy = np.asarray(polygon.exterior.coords)
    u, v = xy @ np.array([cos, sin]), xy @ np.array([-sin, cos])
    rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] + 0.5
    cols = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :] + 0.5
    grid_u = cols * cos + rows * sin - np.float32((u.min() + u.max()) / 2)
    grid_v = rows * cos - cols * sin - np.float32((v.min() + v.max()) / 2)
    return grid_u, grid_v, along / 2, across / 2, float(turn)


def _slopes(
    rng: Rng, ground: Ground, axes: tuple[Floats, Floats, float, float, float], kinds: str
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Brightness of each pixel from the slope it lies on, and where sheets run across the roof.

    `kinds` holds the letters of the allowed forms: g(able), h(ip), m(ono-pitch). The second field is True
    where sheets run across.
    """
    u, v, half_u, half_v, turn = axes
    form = rng.choice(list(kinds))
    steep = rng.uniform(0.1, 0.3)
    light_u = ground.light_xy[0] * np.cos(turn) + ground.light_xy[1] * np.sin(turn)
    light_v = -ground.light_xy[0] * np.sin(turn) + ground.light_xy[1] * np.cos(turn)
    side_v = 1 + steep * np.sign(v) * np.float32(light_v)
    across = np.ones_like(u, dtype=bool)
    if form == "m":
        return np.full_like(u, 1 + steep * rng.choice([-0.5, 0.5]) * light_v), across
    ridge = v - np.float32(rng.choice([0.0, 0.0, 0.3]) * half_v * rng.choice([-1, 1])) if form == "g" else v
    if form == "g":
        tone = 1 + steep * np.sign(ridge) * np.float32(light_v)
        return np.where(np.abs(ridge) < 0.12 * ground.px_per_m, tone * rng.uniform(0.85, 1.2), tone), across
    ends = half_u - np.abs(u) < half_v - np.abs(v)
    tone = np.where(ends, 1 + steep * np.sign(u) * np.float32(light_u), side_v)
    seam = np.abs((half_u - np.abs(u)) - (half_v - np.abs(v))) < 0.15 * ground.px_per_m
    return np.where(seam, tone * np.float32(rng.uniform(0.85, 1.2)), tone), ~ends


def paint_sheets(rng: Rng, ground: Ground, polygon: shapely.Polygon, height_m: float, mix: RoofMix) -> None:
    """Corrugated sheets over an outline: stripes down the slope, sheets of unlike age, rust in patches."""
    coverage, box = fill(ground.shape, polygon)
    if not coverage.size:
        return
    axes = roof_axes(polygon, box)
    u, v = axes[0], axes[1]
    px = ground.px_per_m
    small = axes[3] < 2.2 * px
    tone, across = _slopes(rng, ground, axes, "mmg" if small else "gggghm")
    name = str(rng.choice(mix.sheets))
    base = jitter(rng, SHEETS[name], 0.1, 0.02)
    eave = np.minimum(axes[2] - np.abs(u), axes[3] - np.abs(v)) < max(0.12 * px, 0.8)
    tone = np.where(eave, tone * rng.uniform(0.7, 1.05), tone)
    run = np.where(across, u, v)
    down = np.where(across, v, u)
    period = px * rng.uniform(0.3, 1.0)
    if period > 2.5:
        tone = tone * (1 + rng.uniform(0.02, 0.16) * np.sin(np.float32(2 * np.pi / period) * run))
    sheet_u = np.floor(run / np.float32(px * rng.uniform(0.7, 1.1))).astype(int) % 32
    sheet_v = np.floor(down / np.float32(px * rng.uniform(1.8, 3.6))).astype(int) % 32
    age = rng.standard_normal((32, 32)).astype(np.float32)[sheet_u, sheet_v]
    fine, coarse = ground.piece(ground.fine, rng, box), ground.piece(ground.coarse, rng, box)
    patchy = rng.uniform(0.01, 0.12) * (0.4 + mix.dirt)
    tone = tone * (1 + patchy * age + 0.10 * fine + 0.22 * mix.dirt * coarse)
    colour = base * tone[..., None]
    level = mix.rust * rng.uniform(-0.4, 1.3) if name not in ("white", "sky") else mix.rust * rng.uniform(-1.0, 0.6)
    rust = np.clip((level - 0.55 + 0.3 * age + 0.9 * coarse + 0.5 * fine) * 1.7, 0, 0.85)
    colour += rust[..., None] * (RUST * (1 + 0.5 * fine[..., None]) - colour)
    blend(ground.canvas, coverage, np.clip(colour, 0.02, 1.0), box)
    rise = np.clip(1 - np.abs(v) / max(axes[3], 1.0), 0, 1) * 0.15 * axes[3] / px
    inside = coverage > 0.5
    ground.heights[box][inside] = (height_m + np.minimum(rise, 2.0))[inside]


def paint_pitched(
    rng: Rng, ground: Ground, building: Building, colours: tuple[tuple[float, ...], ...], rough: float
) -> None:
    """Tiles or straw over an outline: fine rows, gable or hip; `rough` 0 (new tiles) to 1.6 (old straw)."""
    coverage, box = fill(ground.shape, building.outline)
    if not coverage.size:
        return
    axes = roof_axes(building.outline, box)
    tone, across = _slopes(rng, ground, axes, "ghh")
    fine, coarse = ground.piece(ground.fine, rng, box), ground.piece(ground.coarse, rng, box)
    rows = np.sin(np.where(across, axes[1], axes[0]) * np.float32(2 * np.pi / max(0.4 * ground.px_per_m, 2.6)))
    tone = tone * (1 + 0.05 * rows + (0.15 + 0.25 * rough) * fine + 0.3 * rough * coarse)
    base = jitter(rng, colours[rng.integers(len(colours))], 0.1, 0.02)
    blend(ground.canvas, coverage, np.clip(base * tone[..., None], 0.02, 1.0), box)
    ground.heights[box][coverage > 0.5] = building.height_m + 0.5
