"""The ground between the houses of a generated town: streets, blocks, and what free ground is used for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely import affinity

from geoseg.scenes.texture import Floats, blend, fill, jitter, value_noise
from geoseg.scenes.town_canvas import Ground
from geoseg.scenes.town_cuts import Rng, cut, long_axis
from geoseg.scenes.town_layout import Plan

SOIL = ((0.55, 0.48, 0.38), (0.62, 0.53, 0.40), (0.50, 0.38, 0.29), (0.60, 0.56, 0.50))
GRASS = ((0.34, 0.42, 0.20), (0.42, 0.47, 0.25), (0.27, 0.36, 0.17))
STREET = ((0.45, 0.44, 0.43), (0.56, 0.53, 0.49), (0.60, 0.51, 0.41), (0.70, 0.67, 0.62), (0.50, 0.36, 0.28))
YARD = ((0.58, 0.55, 0.50), (0.48, 0.46, 0.42), (0.66, 0.63, 0.58), (0.52, 0.44, 0.35))
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
            share = np.clip(rng.uniform(0.5, 1.3) + 1.5 * ground.piece(ground.coarse, rng, box), 0, 1)[..., None]
            colour = share * yard + (1 - share) * colour
        blend(ground.canvas, ragged, colour, box)
    for free in plan.open_blocks:
        _open(rng, ground, free)


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
        rng.uniform(0.3, 1.4) * (value_noise(rng, height, width, max(1.2 * px_per_m, 3), 3) - 0.5)[..., None] * share
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
    wave = np.sin((rows * np.float32(np.cos(turn)) - cols * np.float32(np.sin(turn))) * np.float32(2 * np.pi / period))
    earth = jitter(rng, SOIL[rng.integers(len(SOIL))], 0.12)
    crop = jitter(rng, GRASS[rng.integers(len(GRASS))], 0.15, 0.03)
    share = np.clip(rng.uniform(0.0, 1.0) + 0.3 * wave + 1.2 * ground.piece(ground.coarse, rng, box), 0, 1)[..., None]
    colour = (earth + share * (crop - earth)) * (1 + 0.3 * ground.piece(ground.fine, rng, box))[..., None]
    blend(ground.canvas, coverage * 0.9, colour, box)


def _yard(rng: Rng, ground: Ground, free: shapely.Polygon) -> None:
    """Bare concrete or earth at ground level, the flat roof's double."""
    inside = free.buffer(-0.4 * ground.px_per_m)
    if not _whole(inside):
        return
    coverage, box = fill(ground.shape, inside)
    spotted = 1 + (0.5 * ground.piece(ground.coarse, rng, box) + 0.15 * ground.piece(ground.fine, rng, box))[..., None]
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
