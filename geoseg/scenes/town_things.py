"""What stands and lies about in a generated town and is no building: heaps, litter, vehicles, trees."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely import affinity

from geoseg.scenes.texture import Floats, blend, jitter, value_noise
from geoseg.scenes.town_canvas import Ground
from geoseg.scenes.town_cuts import Rng
from geoseg.scenes.town_ground import YARD, Land
from geoseg.scenes.town_layout import Plan

CROWN = ((0.17, 0.27, 0.11), (0.23, 0.33, 0.13), (0.30, 0.40, 0.17), (0.14, 0.22, 0.11), (0.36, 0.41, 0.20))
TARPS = ((0.12, 0.38, 0.72), (0.85, 0.45, 0.16), (0.20, 0.55, 0.40), (0.86, 0.87, 0.88), (0.10, 0.55, 0.72))
CARS = (
    (0.92, 0.92, 0.92),
    (0.75, 0.76, 0.78),
    (0.10, 0.10, 0.11),
    (0.55, 0.10, 0.10),
    (0.12, 0.20, 0.45),
    (0.6, 0.6, 0.6),
)


def paint_heaps(rng: Rng, ground: Ground) -> None:
    """Tarpaulins, heaps, crates and containers anywhere on the ground: not roofs, not labelled."""
    px = ground.px_per_m
    area_ha = ground.shape[0] * ground.shape[1] / px**2 / 1e4
    for _ in range(rng.poisson(rng.uniform(2, 25) * area_ha)):
        x, y = rng.uniform(0, ground.shape[1]), rng.uniform(0, ground.shape[0])
        draw = rng.random()
        half = rng.uniform(0.2, 1.4, 2) * px if draw < 0.8 else np.array([3.0, 1.2]) * px
        colour = jitter(
            rng, TARPS[rng.integers(len(TARPS))] if draw < 0.3 else YARD[rng.integers(len(YARD))], 0.25, 0.05
        )
        thing = affinity.rotate(shapely.box(x - half[0], y - half[1], x + half[0], y + half[1]), rng.uniform(0, 180))
        if 0.3 < draw < 0.55:
            thing = shapely.Point(x, y).buffer(float(half[0]), quad_segs=3)
        ground.lay(thing, colour, 0.3 if draw < 0.8 else 2.4)


def paint_litter(rng: Rng, ground: Ground, per_ha: float) -> None:
    """People, stones, sacks, weeds: specks of every colour, mostly dull, on the ground and on roofs."""
    px = ground.px_per_m
    count = min(int(per_ha * ground.heights.size / px**2 / 1e4), 6000)
    rows, cols = rng.integers(0, ground.shape[0], count), rng.integers(0, ground.shape[1], count)
    sizes = np.maximum(rng.gamma(1.6, 0.22, (count, 1)) * rng.uniform(0.6, 1.6, (count, 2)) * px, 1.0).astype(int)
    greys = np.clip(rng.normal(0.42, 0.2, (count, 1)) + rng.normal(0, 0.05, (count, 3)), 0.03, 0.95).astype(np.float32)
    bright = rng.random(count) < 0.06
    greys[bright] = rng.uniform(0.1, 0.9, (int(bright.sum()), 3))
    leafy = rng.random(count) < 0.3
    greys[leafy] = np.asarray(CROWN, np.float32)[rng.integers(0, len(CROWN), int(leafy.sum()))]
    for row, col, (tall, wide), grey in zip(rows, cols, sizes, greys, strict=True):
        part = ground.canvas[row : row + tall, col : col + wide]
        part += np.float32(0.75) * (grey - part)


def paint_vehicles(rng: Rng, ground: Ground, plan: Plan, land: Land) -> None:
    """Cars and lorries along the edges of blocks, where no building stands."""
    px = ground.px_per_m
    area_ha = ground.shape[0] * ground.shape[1] / px**2 / 1e4
    for _ in range(rng.poisson(land.cars_per_ha * area_ha) if plan.blocks else 0):
        ring = plan.blocks[rng.integers(len(plan.blocks))].exterior
        at = rng.random() * ring.length
        a, b = ring.interpolate(at), ring.interpolate(at + 0.5 * px)
        along = np.degrees(np.arctan2(b.y - a.y, b.x - a.x))
        away = rng.uniform(-2.5, 3.5) * px
        x, y = a.x + away * np.sin(np.radians(along)), a.y - away * np.cos(np.radians(along))
        row, col = int(y), int(x)
        if 0 <= row < ground.shape[0] and 0 <= col < ground.shape[1] and ground.heights[row, col] < 0.5:
            _vehicle(rng, ground, (x, y), float(along + rng.normal(0, 6)))


def _vehicle(rng: Rng, ground: Ground, xy: tuple[float, float], along_deg: float) -> None:
    px = ground.px_per_m
    lorry = rng.random() < 0.15
    long, wide = (rng.uniform(5, 10), 2.4) if lorry else (rng.uniform(3.4, 4.8), rng.uniform(1.5, 1.9))
    colour = jitter(rng, CARS[rng.integers(len(CARS))], 0.1, 0.02)
    parts = (
        (0.0, long, wide, colour, 1.2),
        (0.0, long * 0.5, wide * 0.92, colour * 0.25, 1.4),
        (0.0, long * 0.36, wide * 0.85, colour, 1.5),
    )
    if lorry:
        parts = (
            (0.0, long, wide, colour, 2.5),
            (long * 0.36, long * 0.2, wide, jitter(rng, (0.3, 0.4, 0.6), 0.4, 0.1), 2.0),
            (long * 0.44, 0.5, wide * 0.8, colour * 0.2, 2.0),
        )
    for shift, length, width, paint, rise in parts:
        half_u, half_v = length * px / 2, width * px / 2
        body = shapely.box(shift * px - half_u, -half_v, shift * px + half_u, half_v)
        ground.lay(affinity.translate(affinity.rotate(body, along_deg, origin=(0, 0)), *xy), paint, rise)


def paint_trees(rng: Rng, ground: Ground, land: Land) -> NDArray[np.bool_]:
    """Crowns in woods and singly; some reach over a roof. Returns where they are, (height, width)."""
    height, width = ground.shape
    px = ground.px_per_m
    woods = value_noise(rng, height, width, 40 * px, 3)
    edge = rng.uniform(0.35, 0.6)
    clear = ndimage.distance_transform_edt(ground.heights < 0.8)
    hidden = np.zeros((height, width), dtype=np.bool_)
    for _ in range(min(rng.poisson(land.trees_per_ha * height * width / px**2 / 1e4), 1500)):
        row, col = int(rng.integers(height)), int(rng.integers(width))
        likely = np.clip((woods[row, col] - edge) * 6 + 0.5, 0.08, 1)
        if clear[row, col] == 0 or rng.random() > likely:
            continue
        room_m = float(clear[row, col]) / px * rng.uniform(1.0, 1.7) + 0.3
        radius_m = min(float(np.clip(land.crown_m * rng.lognormal(0, 0.5), 0.4, 8.0)), room_m)
        palm = rng.random() < land.palms
        _crown(rng, ground, (row, col), (radius_m * px, 1.6 * radius_m + 1.5), palm, hidden)
    return hidden


def _crown(
    rng: Rng,
    ground: Ground,
    at: tuple[int, int],
    size: tuple[float, float],
    palm: bool,
    hidden: NDArray[np.bool_],
) -> None:
    """One crown of radius size[0] pixels, size[1] metres high: a lumpy disc or a palm's star."""
    radius, high = size
    reach = int(np.ceil(radius * 1.35)) + 1
    top, left = max(at[0] - reach, 0), max(at[1] - reach, 0)
    box = (
        slice(top, min(at[0] + reach + 1, ground.shape[0])),
        slice(left, min(at[1] + reach + 1, ground.shape[1])),
    )
    y = (np.arange(box[0].start, box[0].stop, dtype=np.float32) - at[0])[:, None] / np.float32(radius)
    x = (np.arange(box[1].start, box[1].stop, dtype=np.float32) - at[1])[None, :] / np.float32(radius)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    fine, coarse = ground.piece(ground.fine, rng, box), ground.piece(ground.coarse, rng, box)
    edge = _crown_edge(rng, angle, palm) + 0.35 * coarse + 0.3 * fine
    coverage = np.clip((edge - distance) * np.float32(radius / 1.5), 0, 1)
    lit = 1 + 0.45 * (x * ground.light_xy[0] + y * ground.light_xy[1]) + 0.9 * fine + 0.9 * coarse - 0.25 * distance**2
    colour = jitter(rng, CROWN[rng.integers(len(CROWN))], 0.15, 0.02) * np.clip(lit, 0.25, 2.0)[..., None]
    blend(ground.canvas, coverage, np.clip(colour, 0.02, 0.95), box)
    dome = np.float32(high) * np.sqrt(np.clip(1.0 - 0.8 * distance**2, 0.05, 1.0))
    hidden[box] |= coverage > 0.5
    part = ground.heights[box]
    np.maximum(part, np.where(coverage > 0.5, dome, 0), out=part)


def _crown_edge(rng: Rng, angle: Floats, palm: bool) -> Floats:
    """How far out the crown reaches in each direction, in radii."""
    edge = np.ones_like(angle)
    for k in range(2, 7):
        edge += np.float32(rng.normal(0, 0.22 / k)) * np.cos(k * angle + np.float32(rng.uniform(0, 6.28)))
    if palm:
        leaves = int(rng.integers(8, 14))
        edge *= 0.25 + 0.85 * np.abs(np.cos(angle * leaves / 2 + np.float32(rng.uniform(0, 6.28)))) ** 1.5
    return edge
