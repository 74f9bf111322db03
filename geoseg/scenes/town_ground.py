"""What lies between the houses of a generated town: streets, yards, fields, trees, vehicles, and things mistaken for roofs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely import affinity

from geoseg.scenes.texture import Floats, blend, fill, jitter, value_noise
from geoseg.scenes.town_layout import Plan, Rng, cut, long_axis
from geoseg.scenes.town_roofs import TARPS, Ground

SOIL = ((0.55, 0.48, 0.38), (0.62, 0.53, 0.40), (0.50, 0.38, 0.29), (0.60, 0.56, 0.50))
GRASS = ((0.34, 0.42, 0.20), (0.42, 0.47, 0.25), (0.27, 0.36, 0.17))
STREET = ((0.45, 0.44, 0.43), (0.56, 0.53, 0.49), (0.60, 0.51, 0.41), (0.70, 0.67, 0.62), (0.50, 0.36, 0.28))
YARD = ((0.58, 0.55, 0.50), (0.48, 0.46, 0.42), (0.66, 0.63, 0.58), (0.52, 0.44, 0.35))
CROWN = ((0.17, 0.27, 0.11), (0.23, 0.33, 0.13), (0.30, 0.40, 0.17), (0.14, 0.22, 0.11), (0.36, 0.41, 0.20))
CARS = (
    (0.92, 0.92, 0.92),
    (0.75, 0.76, 0.78),
    (0.10, 0.10, 0.11),
    (0.55, 0.10, 0.10),
    (0.12, 0.20, 0.45),
    (0.6, 0.6, 0.6),
)
MARKINGS = np.array((0.85, 0.85, 0.82), np.float32)


@dataclass(frozen=True, kw_only=True)
class Land:
    """What the ground of a town is like."""

    green: float
    """Share of natural ground under grass rather than bare, 0 to 1."""
    trees_per_ha: float
    """Trees and shrubs where no house stands."""
    crown_m: float
    """Typical crown radius, metres."""
    palms: float
    """Share of the trees that are palms."""
    litter_per_ha: float
    """Specks on the ground and on the roofs."""
    cars_per_ha: float
    """Vehicles at the street's edge."""
    paved: float
    """Share of the blocks whose yards are paved or trodden bare."""


def paint_ground(rng: Rng, ground: Ground, plan: Plan, land: Land) -> None:
    """Fill the canvas with streets, blocks, open ground and distractors; `plan` in pixels."""
    height, width = ground.shape
    street = jitter(rng, STREET[rng.integers(len(STREET))], 0.1)
    rough = value_noise(rng, height, width, 12 * ground.px_per_m, 6) - 0.5
    ground.canvas[:] = street * (1 + rng.uniform(0.2, 0.8) * rough + 0.14 * (ground.fine - 0.5))[..., None]
    if rng.random() < 0.4:
        _mark_roads(ground, plan)
    natural = _natural(rng, height, width, land.green, ground.px_per_m)
    natural *= (1 + 0.3 * (ground.fine - 0.5) + 0.1 * (ground.coarse - 0.5))[..., None]
    verge = rng.uniform(0.5, 3.0)
    for block in plan.blocks:
        soft, box = fill(ground.shape, block)
        if soft.size == 0:
            continue
        ragged = np.clip(soft * (1.0 + verge * 0.2 * ground.piece(ground.coarse, rng, box)), 0, 1)
        colour = natural[box]
        if rng.random() < land.paved:
            yard = (
                jitter(rng, YARD[rng.integers(len(YARD))], 0.1)
                * (1 + 0.5 * ground.piece(ground.coarse, rng, box))[..., None]
            )
            share = np.clip(rng.uniform(0.5, 1.3) + 1.5 * ground.piece(ground.coarse, rng, box), 0, 1)[
                ..., None
            ]
            colour = share * yard + (1 - share) * colour
        blend(ground.canvas, ragged, colour, box)
    for free in plan.open_blocks:
        _open(rng, ground, free)
    _heaps(rng, ground)


def _natural(rng: Rng, height: int, width: int, green: float, px_per_m: float) -> Floats:
    """Soil and grass in patches, (height, width, 3)."""
    soil, grass = (
        jitter(rng, SOIL[rng.integers(len(SOIL))], 0.1),
        jitter(rng, GRASS[rng.integers(len(GRASS))], 0.12, 0.02),
    )
    patches = value_noise(rng, height, width, rng.uniform(8, 40) * px_per_m, 6)
    share = np.clip((patches - (0.75 - 0.5 * green)) * rng.uniform(3, 10) + 0.5, 0, 1)[..., None]
    shade = 1 + 0.5 * (value_noise(rng, height, width, 6 * px_per_m, 4) - 0.5)[..., None]
    leaves = (
        rng.uniform(0.3, 1.4)
        * (value_noise(rng, height, width, max(1.2 * px_per_m, 3), 3) - 0.5)[..., None]
        * share
    )
    return np.asarray((soil + share * (grass - soil)) * (shade + leaves), np.float32)


def _mark_roads(ground: Ground, plan: Plan) -> None:
    for road in plan.roads:
        line = road.buffer(0.08 * ground.px_per_m)
        if isinstance(line, shapely.Polygon):
            coverage, box = fill(ground.shape, line)
            blend(ground.canvas, coverage * 0.7, MARKINGS, box)


def _open(rng: Rng, ground: Ground, free: shapely.Polygon) -> None:
    """Ground without houses becomes a field, a garden, a paved yard, a court, a pond, or stays as it is."""
    area_m2 = free.area / ground.px_per_m**2
    draw = rng.random()
    if draw < 0.3:
        plots = [free]
        for _ in range(int(rng.integers(0, 4)) if area_m2 > 300 else 0):
            plots = [
                part
                for plot in plots
                for side in cut(plot, rng.uniform(0.3, 0.7), long_axis(plot)[0] + rng.normal(0, 4))
                for part in side
            ]
        for plot in plots:
            _field(rng, ground, plot)
    elif draw < 0.45:
        _yard(rng, ground, free)
    elif draw < 0.53 and area_m2 > 250:
        _court(rng, ground, free)
    elif draw < 0.6 and area_m2 > 60:
        _pond(rng, ground, free)
    if rng.random() < 0.25:
        _wall(rng, ground, free)


def _whole(shape: shapely.Geometry) -> bool:
    return isinstance(shape, shapely.Polygon) and not shape.is_empty


def _field(rng: Rng, ground: Ground, plot: shapely.Polygon) -> None:
    """Rows of crops, or ploughed earth."""
    coverage, box = fill(ground.shape, plot)
    if not coverage.size:
        return
    turn = np.radians(long_axis(plot)[0] + 90 * int(rng.integers(2)))
    rows = np.arange(coverage.shape[0], dtype=np.float32)[:, None]
    cols = np.arange(coverage.shape[1], dtype=np.float32)[None, :]
    period = max(rng.uniform(0.5, 2.5) * ground.px_per_m, 3.0)
    wave = np.sin(
        (rows * np.float32(np.cos(turn)) - cols * np.float32(np.sin(turn))) * np.float32(2 * np.pi / period)
    )
    earth = jitter(rng, SOIL[rng.integers(len(SOIL))], 0.12)
    crop = jitter(rng, GRASS[rng.integers(len(GRASS))], 0.15, 0.03)
    share = np.clip(rng.uniform(0.0, 1.0) + 0.3 * wave + 1.2 * ground.piece(ground.coarse, rng, box), 0, 1)[
        ..., None
    ]
    colour = (earth + share * (crop - earth)) * (1 + 0.3 * ground.piece(ground.fine, rng, box))[..., None]
    blend(ground.canvas, coverage * 0.9, colour, box)


def _yard(rng: Rng, ground: Ground, free: shapely.Polygon) -> None:
    """Bare concrete or earth at ground level, the flat roof's double."""
    inside = free.buffer(-0.4 * ground.px_per_m)
    if not _whole(inside):
        return
    coverage, box = fill(ground.shape, inside)
    spotted = (
        1
        + (0.5 * ground.piece(ground.coarse, rng, box) + 0.15 * ground.piece(ground.fine, rng, box))[
            ..., None
        ]
    )
    blend(ground.canvas, coverage, jitter(rng, YARD[rng.integers(len(YARD))], 0.15) * spotted, box)


def _court(rng: Rng, ground: Ground, free: shapely.Polygon) -> None:
    """A sports court: coloured or grey concrete with lines."""
    px = ground.px_per_m
    spot, turn = free.representative_point(), long_axis(free)[0]
    court = affinity.rotate(
        shapely.box(spot.x - 13 * px, spot.y - 7 * px, spot.x + 13 * px, spot.y + 7 * px), turn, origin=spot
    )
    if not free.contains(court):
        return
    colours = ((0.62, 0.60, 0.56), (0.30, 0.45, 0.36), (0.58, 0.32, 0.26), (0.28, 0.40, 0.55))
    ground.lay(court, jitter(rng, colours[rng.integers(4)], 0.1), 0.0)
    middle = affinity.rotate(
        shapely.LineString([(spot.x, spot.y - 7 * px), (spot.x, spot.y + 7 * px)]), turn, origin=spot
    )
    for line in (court.buffer(-0.6 * px).exterior, middle, spot.buffer(1.8 * px).exterior):
        coverage, box = fill(ground.shape, line.buffer(0.06 * px))
        blend(ground.canvas, coverage * 0.8, MARKINGS, box)


def _pond(rng: Rng, ground: Ground, free: shapely.Polygon) -> None:
    water = free.buffer(-2.0 * ground.px_per_m).buffer(1.0 * ground.px_per_m)
    if not _whole(water):
        return
    coverage, box = fill(ground.shape, water)
    colour = jitter(rng, ((0.30, 0.33, 0.26), (0.42, 0.40, 0.32), (0.22, 0.28, 0.28))[rng.integers(3)], 0.1)
    blend(ground.canvas, coverage, colour * (1 + 0.1 * ground.piece(ground.coarse, rng, box))[..., None], box)


def _wall(rng: Rng, ground: Ground, free: shapely.Polygon) -> None:
    """A garden wall about a free plot."""
    inside = free.buffer(-0.3 * ground.px_per_m)
    if not _whole(inside):
        return
    coverage, box = fill(ground.shape, inside.exterior.buffer(0.12 * ground.px_per_m))
    blend(ground.canvas, coverage, jitter(rng, (0.6, 0.56, 0.5), 0.15), box)
    ground.heights[box][coverage > 0.4] = 1.8


def _heaps(rng: Rng, ground: Ground) -> None:
    """Tarpaulins, heaps, crates and containers on free ground and along blocks: no roofs, and not labelled."""
    px = ground.px_per_m
    area_ha = ground.shape[0] * ground.shape[1] / px**2 / 1e4
    for _ in range(rng.poisson(rng.uniform(2, 25) * area_ha)):
        x, y = rng.uniform(0, ground.shape[1]), rng.uniform(0, ground.shape[0])
        draw = rng.random()
        half = rng.uniform(0.2, 1.4, 2) * px if draw < 0.8 else np.array([3.0, 1.2]) * px
        colour = jitter(
            rng, TARPS[rng.integers(len(TARPS))] if draw < 0.3 else YARD[rng.integers(len(YARD))], 0.25, 0.05
        )
        thing = affinity.rotate(
            shapely.box(x - half[0], y - half[1], x + half[0], y + half[1]), rng.uniform(0, 180)
        )
        if 0.3 < draw < 0.55:
            thing = shapely.Point(x, y).buffer(float(half[0]), quad_segs=3)
        ground.lay(thing, colour, 0.3 if draw < 0.8 else 2.4)


def paint_litter(rng: Rng, ground: Ground, per_ha: float) -> None:
    """People, stones, sacks, weeds: specks of every colour, mostly dull, on the ground and on roofs."""
    px = ground.px_per_m
    count = min(int(per_ha * ground.heights.size / px**2 / 1e4), 6000)
    rows, cols = rng.integers(0, ground.shape[0], count), rng.integers(0, ground.shape[1], count)
    sizes = np.maximum(rng.gamma(1.6, 0.22, (count, 1)) * rng.uniform(0.6, 1.6, (count, 2)) * px, 1.0).astype(
        int
    )
    greys = np.clip(rng.normal(0.42, 0.2, (count, 1)) + rng.normal(0, 0.05, (count, 3)), 0.03, 0.95).astype(
        np.float32
    )
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


def paint_trees(rng: Rng, ground: Ground, land: Land) -> None:
    """Crowns in woods and singly, their stems mostly on free ground; some reach over roofs."""
    height, width = ground.shape
    px = ground.px_per_m
    woods = value_noise(rng, height, width, 40 * px, 3)
    edge = rng.uniform(0.35, 0.6)
    floor_heights = ground.heights.copy()
    for _ in range(min(rng.poisson(land.trees_per_ha * height * width / px**2 / 1e4), 1500)):
        row, col = int(rng.integers(height)), int(rng.integers(width))
        if (
            rng.random() > np.clip((woods[row, col] - edge) * 6 + 0.5, 0.08, 1)
            or floor_heights[row, col] > 0.8
            and rng.random() > 0.01
        ):
            continue
        radius_m = float(np.clip(land.crown_m * rng.lognormal(0, 0.5), 0.4, 8.0))
        palm = rng.random() < land.palms
        _crown(rng, ground, (row, col), (radius_m * px, 1.6 * radius_m + 1.5), palm)


def _crown(rng: Rng, ground: Ground, at: tuple[int, int], size: tuple[float, float], palm: bool) -> None:
    """One crown of radius size[0] pixels, size[1] metres high: a lumpy disc, or a palm's star, lit from the sun's side."""
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
    edge = np.ones_like(angle)
    for k in range(2, 7):
        edge += rng.normal(0, 0.22 / k) * np.cos(k * angle + np.float32(rng.uniform(0, 6.28)))
    fine, coarse = ground.piece(ground.fine, rng, box), ground.piece(ground.coarse, rng, box)
    if palm:
        leaves = int(rng.integers(8, 14))
        edge *= 0.25 + 0.85 * np.abs(np.cos(angle * leaves / 2 + np.float32(rng.uniform(0, 6.28)))) ** 1.5
    edge += 0.35 * coarse + 0.3 * fine
    coverage = np.clip((edge - distance) * np.float32(radius / 1.5), 0, 1)
    lit = (
        1
        + 0.45 * (x * ground.light_xy[0] + y * ground.light_xy[1])
        + 0.9 * fine
        + 0.9 * coarse
        - 0.25 * distance**2
    )
    colour = jitter(rng, CROWN[rng.integers(len(CROWN))], 0.15, 0.02) * np.clip(lit, 0.25, 2.0)[..., None]
    blend(ground.canvas, coverage, np.clip(colour, 0.02, 0.95), box)
    dome = np.float32(high) * np.sqrt(np.clip(1.0 - 0.8 * distance**2, 0.05, 1.0))
    part = ground.heights[box]
    np.maximum(part, np.where(coverage > 0.5, dome, 0), out=part)
