"""How the roofs of a generated town look: each kind of roof is one function that paints one building."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import affinity

from geoseg.scenes.texture import Box, Floats, blend, fill, jitter
from geoseg.scenes.town_layout import Building, cut, long_axis

Rng = np.random.Generator

CONCRETE = (
    (0.60, 0.58, 0.55),
    (0.50, 0.49, 0.47),
    (0.70, 0.68, 0.63),
    (0.82, 0.81, 0.79),
    (0.66, 0.60, 0.52),
    (0.42, 0.41, 0.40),
)
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
TARPS = ((0.12, 0.38, 0.72), (0.85, 0.45, 0.16), (0.20, 0.55, 0.40), (0.86, 0.87, 0.88), (0.10, 0.55, 0.72))
TANKS = (
    (0.06, 0.06, 0.07),
    (0.06, 0.06, 0.07),
    (0.85, 0.86, 0.86),
    (0.10, 0.42, 0.34),
    (0.14, 0.33, 0.62),
    (0.72, 0.62, 0.20),
)
RUST = np.array((0.44, 0.25, 0.17), np.float32)
MOSS = np.array((0.26, 0.27, 0.22), np.float32)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the painters share: the canvas, the heights on it, noise to take pieces from, and the light."""

    canvas: Floats
    """(height, width, 3) in [0, 1]; painted in place, unshaded."""
    heights: Floats
    """(height, width), metres above ground of what is seen there; filled in place, for the shadows."""
    fine: Floats
    """(h, w) noise in [0, 1] a few pixels wide."""
    coarse: Floats
    """(h, w) noise in [0, 1] a few metres wide."""
    px_per_m: float
    """Pixels per metre."""
    light_xy: tuple[float, float]
    """Direction towards the sun in the image, length 1."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the canvas."""
        return self.heights.shape[0], self.heights.shape[1]

    def piece(self, noise: Floats, rng: Rng, box: Box) -> Floats:
        """A part of the noise as large as the box, from anywhere, centred on 0."""
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        top = int(rng.integers(0, max(noise.shape[0] - height, 0) + 1))
        left = int(rng.integers(0, max(noise.shape[1] - width, 0) + 1))
        return noise[top : top + height, left : left + width] - np.float32(0.5)

    def lay(self, polygon: shapely.Polygon, colour: Floats, height_m: float) -> tuple[Floats, Box]:
        """Paint the polygon (pixels) in one colour at one height; returns what it covers."""
        coverage, box = fill(self.shape, polygon)
        if coverage.size:
            blend(self.canvas, coverage, colour, box)
            self.heights[box][coverage > 0.5] = height_m
        return coverage, box


@dataclass(frozen=True, kw_only=True)
class RoofMix:
    """Which roofs a town has: how likely each kind is, and the sheet and concrete colours in use."""

    flat: float
    metal: float
    tile: float
    thatch: float
    unfinished: float
    roofless: float
    sheets: tuple[str, ...]
    """Keys of `SHEETS`; repeated ones are likelier."""
    rust: float
    """0 (new sheets) to 1 (rusty all over)."""
    clutter: float
    """Things on flat roofs per 10 m2."""
    dirt: float
    """How stained the roofs are, 0 to 1."""


def paint_roof(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Paint one building, outline in pixels, with a roof that suits its use and the town."""
    kinds = ("flat", "metal", "tile", "thatch", "unfinished", "roofless")
    weights = np.array([mix.flat, mix.metal, mix.tile, mix.thatch, mix.unfinished, mix.roofless])
    weights *= _SUITS[building.use]
    kind = str(rng.choice(kinds, p=weights / weights.sum())) if weights.sum() > 0 else "metal"
    _PAINTERS[kind](rng, ground, building, mix)


_SUITS = {
    "terrace": (1.0, 1.0, 1.0, 0.2, 1.0, 1.0),
    "house": (1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    "hut": (0, 0.3, 0, 3.0, 0, 0.0),
    "annex": (0.4, 3.0, 0.4, 0.5, 0.0, 0.5),
    "shed": (0.2, 3.0, 0.2, 0.8, 0.0, 1.0),
    "hall": (0.3, 3.0, 0.3, 0, 0.1, 0.0),
}


def _axes(polygon: shapely.Polygon, box: Box) -> tuple[Floats, Floats, float, float, float]:
    """Pixel coordinates along and across the roof from its middle, half its extents, and its angle in radians."""
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
) -> tuple[Floats, Floats]:
    """Brightness of each pixel from the slope it lies on, and the direction down that slope as rows of sheets.

    `kinds` holds the letters of the allowed forms: g(able), h(ip), m(ono-pitch). The second field is True where sheets run across.
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


def _metal(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Corrugated sheets: stripes down the slope, sheets of unlike age, rust in patches."""
    _sheets(rng, ground, building.outline, building.height_m, mix)


def _sheets(rng: Rng, ground: Ground, polygon: shapely.Polygon, height_m: float, mix: RoofMix) -> None:
    coverage, box = fill(ground.shape, polygon)
    if not coverage.size:
        return
    axes = _axes(polygon, box)
    u, v = axes[0], axes[1]
    px = ground.px_per_m
    small = axes[3] < 2.2 * px
    tone, across = _slopes(rng, ground, axes, "mmg" if small else "gggghm")
    name = str(rng.choice(mix.sheets))
    base = jitter(rng, SHEETS[name], 0.1, 0.02)
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
    level = (
        mix.rust * rng.uniform(-0.4, 1.3)
        if name not in ("white", "sky")
        else mix.rust * rng.uniform(-1.0, 0.6)
    )
    rust = np.clip((level - 0.55 + 0.3 * age + 0.9 * coarse + 0.5 * fine) * 1.7, 0, 0.85)
    colour += rust[..., None] * (RUST * (1 + 0.5 * fine[..., None]) - colour)
    blend(ground.canvas, coverage, np.clip(colour, 0.02, 1.0), box)
    rise = np.clip(1 - np.abs(v) / max(axes[3], 1.0), 0, 1) * 0.15 * axes[3] / px
    inside = coverage > 0.5
    ground.heights[box][inside] = (height_m + np.minimum(rise, 2.0))[inside]


def _flat(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Concrete deck: parapet, stains, and what people keep up there: tanks, a stairwell, a lean-to, plants."""
    _deck(rng, ground, building, mix)
    polygon, px = building.outline, ground.px_per_m
    area_m2 = polygon.area / px**2
    if area_m2 > 30 and rng.random() < 0.35:
        _storey(rng, ground, building, mix)
    if area_m2 > 25 and rng.random() < 0.3:
        side, _ = cut(polygon, rng.uniform(0.2, 0.55), long_axis(polygon)[0] + 90 * int(rng.integers(4)))
        for part in side:
            _sheets(rng, ground, part, building.height_m + rng.uniform(0.5, 2.5), mix)
    elif area_m2 > 40 and rng.random() < 0.45:
        _stairwell(rng, ground, building, mix)
    for _ in range(min(rng.poisson(mix.clutter * area_m2 / 10), 25)):
        _clutter(rng, ground, building)


def _deck(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    polygon, px = building.outline, ground.px_per_m
    coverage, box = fill(ground.shape, polygon)
    if not coverage.size:
        return
    base = jitter(rng, CONCRETE[rng.integers(len(CONCRETE))], 0.1, 0.015)
    fine, coarse = ground.piece(ground.fine, rng, box), ground.piece(ground.coarse, rng, box)
    tone = 1 + 0.16 * fine + (0.15 + 0.4 * mix.dirt) * coarse
    if rng.random() < 0.15:
        u, v = _axes(polygon, box)[:2]
        side = px * rng.uniform(0.6, 1.6)
        tone = tone + 0.05 * np.where((np.floor(u / side) + np.floor(v / side)) % 2 > 0, 1, -1)
    colour = base * tone[..., None]
    stain = np.clip((coarse + 0.5 * fine - 0.12) * 3, 0, 0.6) * mix.dirt
    colour += stain[..., None] * (MOSS - colour)
    blend(ground.canvas, coverage, np.clip(colour, 0.02, 1.0), box)
    ground.heights[box][coverage > 0.5] = building.height_m
    if rng.random() < 0.8:
        inner = polygon.buffer(-px * rng.uniform(0.15, 0.3), join_style="mitre")
        rim = coverage.copy()
        for part in shapely.get_parts(inner):
            inside, inner_box = fill(ground.shape, part)
            rows, cols = inner_box[0], inner_box[1]
            rim[
                rows.start - box[0].start : rows.stop - box[0].start,
                cols.start - box[1].start : cols.stop - box[1].start,
            ] -= inside
        rim = np.clip(rim, 0, 1)
        blend(ground.canvas, rim * 0.9, jitter(rng, base * rng.choice([0.8, 1.1, 1.25]), 0.05, 0.03), box)
        ground.heights[box][rim > 0.5] = building.height_m + rng.uniform(0.3, 1.0)


def _storey(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """A part of the deck one storey up."""
    turn = long_axis(building.outline)[0] + 90 * int(rng.integers(4))
    for part in cut(building.outline, rng.uniform(0.3, 0.7), turn)[0]:
        _deck(rng, ground, Building(outline=part, height_m=building.height_m + 2.8, use=building.use), mix)


def _stairwell(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """The hut over the stairs, somewhat inside the outline, with a lid of its own."""
    polygon, px = building.outline, ground.px_per_m
    lid = affinity.scale(polygon.minimum_rotated_rectangle, rng.uniform(0.25, 0.5), rng.uniform(0.25, 0.5))
    low_x, low_y, high_x, high_y = polygon.bounds
    moved = affinity.translate(
        lid, rng.uniform(-0.3, 0.3) * (high_x - low_x), rng.uniform(-0.3, 0.3) * (high_y - low_y)
    )
    for part in shapely.get_parts(moved.intersection(polygon)):
        if isinstance(part, shapely.Polygon) and part.area > 3 * px**2:
            if rng.random() < 0.5:
                _sheets(rng, ground, part, building.height_m + 2.4, mix)
            else:
                _deck(
                    rng, ground, Building(outline=part, height_m=building.height_m + 2.4, use="terrace"), mix
                )


def _clutter(rng: Rng, ground: Ground, building: Building) -> None:
    """One tank, plant pot, cloth or box, wholly inside the outline."""
    polygon, px = building.outline, ground.px_per_m
    low_x, low_y, high_x, high_y = polygon.bounds
    spot = shapely.Point(rng.uniform(low_x, high_x), rng.uniform(low_y, high_y))
    draw = rng.random()
    if draw < 0.35:
        size, colour, rise = (
            rng.uniform(0.4, 0.8),
            jitter(rng, TANKS[rng.integers(len(TANKS))]),
            rng.uniform(1.0, 2.0),
        )
        thing: shapely.Polygon = spot.buffer(size * px, quad_segs=3)
    elif draw < 0.65:
        size, colour, rise = rng.uniform(0.2, 0.7), jitter(rng, (0.22, 0.32, 0.16), 0.2, 0.03), 0.5
        thing = spot.buffer(size * px, quad_segs=2)
    else:
        half_x, half_y = rng.uniform(0.15, 1.2, 2) * px
        colour, rise = (
            jitter(
                rng, (grey := rng.uniform(0.15, 0.9), grey, grey), 0.1, float(rng.choice([0.02, 0.02, 0.2]))
            ),
            0.3,
        )
        thing = affinity.rotate(
            shapely.box(spot.x - half_x, spot.y - half_y, spot.x + half_x, spot.y + half_y),
            long_axis(polygon)[0],
        )
    if polygon.contains(thing):
        ground.lay(thing, np.asarray(colour, np.float32), building.height_m + rise)


def _tile(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Clay tiles: gable or hip, fine rows."""
    _pitched(rng, ground, building, TILES, mix.dirt)


def _thatch(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Straw or palm: hip, rough."""
    _pitched(rng, ground, building, THATCH, 0.6 + mix.dirt)


def _pitched(
    rng: Rng, ground: Ground, building: Building, colours: tuple[tuple[float, ...], ...], rough: float
) -> None:
    coverage, box = fill(ground.shape, building.outline)
    if not coverage.size:
        return
    axes = _axes(building.outline, box)
    tone, across = _slopes(rng, ground, axes, "ghh")
    fine, coarse = ground.piece(ground.fine, rng, box), ground.piece(ground.coarse, rng, box)
    rows = np.sin(
        np.where(across, axes[1], axes[0]) * np.float32(2 * np.pi / max(0.4 * ground.px_per_m, 2.6))
    )
    tone = tone * (1 + 0.05 * rows + (0.15 + 0.25 * rough) * fine + 0.3 * rough * coarse)
    base = jitter(rng, colours[rng.integers(len(colours))], 0.1, 0.02)
    blend(ground.canvas, coverage, np.clip(base * tone[..., None], 0.02, 1.0), box)
    ground.heights[box][coverage > 0.5] = building.height_m + 0.5


def _unfinished(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """A raw slab with the columns of the next storey standing out of it, and building stuff lying about."""
    bare = Building(outline=building.outline, height_m=building.height_m, use=building.use)
    _deck(rng, ground, bare, mix)
    ring = building.outline.buffer(-0.4 * ground.px_per_m).boundary
    count = int(np.clip(ring.length / (3.0 * ground.px_per_m), 0, 30))
    for k in range(count):
        spot = ring.interpolate((k + 0.5) / count, normalized=True)
        ground.lay(
            spot.buffer(0.22 * ground.px_per_m, quad_segs=1),
            jitter(rng, (0.5, 0.38, 0.32), 0.2),
            building.height_m + 1.5,
        )
    for _ in range(int(rng.integers(2, 8))):
        _clutter(rng, ground, bare)


def _roofless(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Walls alone, earth and weeds between them."""
    polygon, px = building.outline, ground.px_per_m
    ground.lay(polygon, jitter(rng, (0.60, 0.56, 0.50), 0.12), 2.4)
    cells = [polygon]
    for _ in range(int(rng.integers(0, 3))):
        cells = [
            part
            for cell in cells
            for side in cut(cell, rng.uniform(0.4, 0.6), long_axis(cell)[0])
            for part in side
        ]
    for cell in cells:
        for part in shapely.get_parts(cell.buffer(-0.2 * px, join_style="mitre")):
            coverage, box = ground.lay(
                part, jitter(rng, (0.46, 0.42, 0.32) if rng.random() < 0.5 else (0.33, 0.38, 0.2), 0.1), 0.0
            )
            if coverage.size:
                ground.canvas[box] *= 1 + 0.4 * (coverage * ground.piece(ground.fine, rng, box))[..., None]


_PAINTERS: dict[str, Callable[[Rng, Ground, Building, RoofMix], None]] = {
    "flat": _flat,
    "metal": _metal,
    "tile": _tile,
    "thatch": _thatch,
    "unfinished": _unfinished,
    "roofless": _roofless,
}
