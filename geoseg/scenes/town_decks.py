"""Roofs without slopes: concrete decks and what stands on them, and raw slabs."""

from __future__ import annotations

import numpy as np
import shapely
from shapely import affinity

from geoseg.scenes.texture import blend, fill, jitter
from geoseg.scenes.town_canvas import Ground, RoofMix
from geoseg.scenes.town_cuts import Rng, cut, long_axis, pieces
from geoseg.scenes.town_layout import Building
from geoseg.scenes.town_sheets import paint_sheets, roof_axes

CONCRETE = (
    (0.60, 0.58, 0.55),
    (0.50, 0.49, 0.47),
    (0.70, 0.68, 0.63),
    (0.82, 0.81, 0.79),
    (0.66, 0.60, 0.52),
    (0.42, 0.41, 0.40),
)
TANKS = (
    (0.06, 0.06, 0.07),
    (0.06, 0.06, 0.07),
    (0.85, 0.86, 0.86),
    (0.10, 0.42, 0.34),
    (0.14, 0.33, 0.62),
    (0.72, 0.62, 0.20),
)
MOSS = np.array((0.26, 0.27, 0.22), np.float32)


def paint_flat(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Concrete deck: parapet, stains, and what is kept up there: tanks, a stairwell, a lean-to, plants."""
    _deck(rng, ground, building, mix)
    polygon, px = building.outline, ground.px_per_m
    area_m2 = polygon.area / px**2
    if area_m2 > 30 and rng.random() < 0.35:
        _storey(rng, ground, building, mix)
    if area_m2 > 25 and rng.random() < 0.3:
        _lean_to(rng, ground, building, mix)
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
        u, v = roof_axes(polygon, box)[:2]
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


def _lean_to(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Sheets over a part of the deck, inside its parapet: flush with the walls they would look like the roof of a
    neighbour."""
    turn = long_axis(building.outline)[0] + 90 * int(rng.integers(4))
    inside = building.outline.buffer(-ground.px_per_m * rng.uniform(0.3, 0.8), join_style="mitre")
    for whole in pieces(inside):
        for part in cut(whole, rng.uniform(0.2, 0.55), turn)[0]:
            paint_sheets(rng, ground, part, building.height_m + rng.uniform(0.5, 2.5), mix)


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
                paint_sheets(rng, ground, part, building.height_m + 2.4, mix)
            else:
                _deck(rng, ground, Building(outline=part, height_m=building.height_m + 2.4, use="terrace"), mix)


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
            jitter(rng, (grey := rng.uniform(0.15, 0.9), grey, grey), 0.1, float(rng.choice([0.02, 0.02, 0.2]))),
            0.3,
        )
        thing = affinity.rotate(
            shapely.box(spot.x - half_x, spot.y - half_y, spot.x + half_x, spot.y + half_y),
            long_axis(polygon)[0],
        )
    if polygon.contains(thing):
        ground.lay(thing, np.asarray(colour, np.float32), building.height_m + rise)


def paint_unfinished(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
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
