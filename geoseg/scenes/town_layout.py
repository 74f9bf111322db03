"""Where a generated town has its blocks, lots and buildings: geometry only, in metres.

Terraces fill their lots from wall to wall; detached houses stand within their plots, with annexes and sheds
about them. Nothing overlaps because every building stays in its lot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely import affinity

from geoseg.scenes.town_bodies import body_of, buildable, outline, terrace
from geoseg.scenes.town_cuts import Rng, cut_blocks, cut_lots, long_axis, pieces, row_lots, snapped, sound


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What `lay_out` draws its town by."""

    block_m: float
    """Length of a block, metres; blocks are cut until their long side is below it."""
    street_m: float
    """Width of the streets between blocks, metres."""
    curves: int
    """Number of curved main roads."""
    terraces: float
    """Share of the blocks with terraces."""
    open_ground: float
    """Share of the blocks without houses."""
    lot_m2: float
    """Typical area of a terrace's lot."""
    plot_m2: float
    """Typical area of a detached house's plot."""
    storeys: float
    """Typical number of storeys in terraces."""
    skew_deg: float
    """How far, typically, cuts depart from the right angle."""


@dataclass(frozen=True, kw_only=True)
class Building:
    """A building as seen from above."""

    outline: shapely.Polygon
    """Its roof."""
    height_m: float
    """Eaves above ground."""
    use: str
    """"terrace", "house", "annex", "shed", "hall" or "hut": decides the roof."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A town on paper, in metres, the origin at the corner of the scene."""

    blocks: tuple[shapely.Polygon, ...]
    """Ground between the streets."""
    open_blocks: tuple[shapely.Polygon, ...]
    """Those of the blocks, or parts of them, that stay free: fields, yards, parks."""
    roads: tuple[shapely.LineString, ...]
    """Centre lines of the main roads."""
    buildings: tuple[Building, ...]


def lay_out(rng: Rng, layout: Layout, width_m: float, height_m: float) -> Plan:
    """Draw a town over (0, 0, width_m, height_m) and a little beyond: the frame cuts buildings."""
    frame = shapely.box(-15, -15, width_m + 15, height_m + 15)
    reach = float(np.hypot(width_m, height_m)) / 2 + 20
    square = shapely.box(width_m / 2 - reach, height_m / 2 - reach, width_m / 2 + reach, height_m / 2 + reach)
    start = affinity.rotate(square, rng.uniform(0, 90))
    roads = tuple(_curve(rng, width_m, height_m) for _ in range(layout.curves))
    road_ground = shapely.union_all([road.buffer(layout.street_m * rng.uniform(0.6, 1.0)) for road in roads])
    blocks: list[shapely.Polygon] = []
    for block in cut_blocks(rng, start, layout.block_m, layout.street_m, layout.skew_deg):
        if not block.intersects(frame):
            continue
        blocks.extend(part for part in pieces(block.difference(road_ground)) if part.area > 20)
    open_blocks: list[shapely.Polygon] = []
    buildings: list[Building] = []
    for block in blocks:
        draw = rng.random()
        if draw < layout.open_ground:
            open_blocks.append(block)
        elif draw < layout.open_ground + (1 - layout.open_ground) * layout.terraces:
            buildings.extend(_terraces(rng, block, layout, open_blocks))
        else:
            buildings.extend(_detached(rng, block, layout, open_blocks))
    kept = tuple(b for b in buildings if frame.intersects(b.outline))
    return Plan(blocks=tuple(blocks), open_blocks=tuple(open_blocks), roads=roads, buildings=kept)


def _curve(rng: Rng, width_m: float, height_m: float) -> shapely.LineString:
    t = np.linspace(-0.2, 1.2, 60)
    reach = max(width_m, height_m)
    bend = rng.normal(0, 0.1, 3)
    y = sum(b * np.sin(2 * np.pi * (k + 1) * 0.7 * t + rng.uniform(0, 6)) for k, b in enumerate(bend)) * reach / 2
    line = shapely.LineString(np.column_stack([(t - 0.5) * reach * 1.4, y]))
    line = affinity.rotate(line, rng.uniform(0, 180), origin=(0, 0))
    return affinity.translate(line, width_m * rng.uniform(0.15, 0.85), height_m * rng.uniform(0.15, 0.85))


def _terraces(rng: Rng, block: shapely.Polygon, layout: Layout, free: list[shapely.Polygon]) -> Iterator[Building]:
    """Lots built over from wall to wall, with yards, set-backs, notches and courtyards."""
    gap_m = float(rng.choice([0.0, 0.0, 0.0, 0.3, 0.8]))
    yards = rng.uniform(0.02, 0.18)
    lots = row_lots if rng.random() < 0.5 else cut_lots
    for lot in lots(rng, block, layout.lot_m2 * rng.uniform(0.7, 1.4), layout.skew_deg):
        _, along, across = long_axis(lot)
        pointed = lot.area < rng.uniform(0.5, 0.7) * along * across
        if pointed or rng.random() < yards:
            free.append(lot)
            yield from _sheds(rng, lot, None, shapely.Polygon())
            continue
        storeys = max(1.0, layout.storeys + rng.normal(0, 0.9))
        built = terrace(rng, lot)
        if gap_m > 0:
            # The mitred offset can put spikes where edges are nearly in line: only what lies in the lot
            # counts.
            built = built.intersection(built.buffer(-gap_m / 2, join_style="mitre"))
        for part in buildable(built):
            if part.area > 2:
                yield Building(outline=part, height_m=3.0 * storeys + rng.uniform(-0.5, 0.5), use="terrace")


_SHEDS = (0.5, 0.25, 0.15, 0.1)
"""How often a house has none, one, two or three outbuildings."""


def _detached(rng: Rng, block: shapely.Polygon, layout: Layout, free: list[shapely.Polygon]) -> Iterator[Building]:
    """Plots with a house somewhere in each, annexes on its walls and sheds about it; at times one hall."""
    any_angle = rng.random() < 0.3
    for plot in cut_lots(rng, block, layout.plot_m2 * rng.uniform(0.6, 1.6), layout.skew_deg):
        if rng.random() < 0.2:
            free.append(plot)
            continue
        angle, along, across = long_axis(plot)
        hall = plot.area > 350 and rng.random() < 0.15
        share = rng.uniform(0.5, 0.85) if hall else rng.uniform(0.36, 0.66)
        long = float(np.clip(along * share, 3, 60 if hall else 16))
        wide = float(
            np.clip(
                across * share * rng.uniform(0.8, 1.2),
                2.5,
                30 if hall else 12,
            )
        )
        turn = rng.uniform(0, 180) if any_angle else angle + rng.normal(0, 3)
        body = "box" if hall else body_of(rng, long, wide)
        house = _placed(rng, outline(body, long, wide, rng), turn, plot)
        taken: shapely.Geometry = house
        for part in buildable(house):
            use = "hall" if hall else "hut" if body == "round" else "house"
            if part.area > 2.5:
                yield Building(outline=part, height_m=rng.uniform(4, 8) if hall else rng.uniform(2.5, 5.5), use=use)
                sheds = list(_sheds(rng, plot, part, taken))
                taken = shapely.union_all([taken, *(shed.outline for shed in sheds)])
                yield from sheds


def _placed(rng: Rng, body: shapely.Polygon, turn_deg: float, plot: shapely.Polygon) -> shapely.Geometry:
    """The body turned and moved into the plot; what would reach over the plot's edge is cut off."""
    low_x, low_y, high_x, high_y = plot.bounds
    x = plot.centroid.x + rng.normal(0, 0.08) * (high_x - low_x)
    y = plot.centroid.y + rng.normal(0, 0.08) * (high_y - low_y)
    turned = affinity.rotate(body, turn_deg, origin=(0, 0))
    return affinity.translate(turned, x, y).intersection(plot.buffer(-0.4, join_style="mitre"))


def _sheds(
    rng: Rng, plot: shapely.Polygon, house: shapely.Polygon | None, taken: shapely.Geometry
) -> Iterator[Building]:
    """Small outbuildings in the plot, some flush against the house's wall, none over what is taken."""
    inside = plot.buffer(-0.3, join_style="mitre")
    turn = long_axis(plot if house is None else house)[0]
    for _ in range(int(rng.choice(4, p=_SHEDS))):
        annex = house is not None and rng.random() < 0.55
        long, wide = rng.uniform(1.5, 6.5), rng.uniform(1.3, 4.0)
        if house is not None and annex:
            spot = house.exterior.interpolate(rng.random(), normalized=True)
        else:
            low_x, low_y, high_x, high_y = plot.bounds
            spot = shapely.Point(rng.uniform(low_x, high_x), rng.uniform(low_y, high_y))
        shed = affinity.rotate(
            shapely.box(-long / 2, -wide / 2, long / 2, wide / 2), turn + (0 if annex else rng.normal(0, 15))
        )
        room = affinity.translate(shed, spot.x, spot.y).intersection(inside).difference(taken)
        for part in buildable(room):
            if part.area > 2.0 and part.area > 0.3 * long * wide and not part.interiors:
                yield Building(outline=part, height_m=rng.uniform(1.8, 3.0), use="annex" if annex else "shed")
                taken = taken.union(part)


def to_pixels(plan: Plan, px_per_m: float) -> Plan:
    """The same plan in pixels (heights stay metres), less the few broken outlines."""

    def scaled(polygon: shapely.Polygon) -> shapely.Polygon:
        return affinity.affine_transform(polygon, (px_per_m, 0, 0, px_per_m, 0, 0))

    outlines = [snapped(scaled(building.outline)) for building in plan.buildings]
    whole = sound(outlines)
    return Plan(
        blocks=tuple(scaled(block) for block in plan.blocks),
        open_blocks=tuple(scaled(block) for block in plan.open_blocks),
        roads=tuple(affinity.scale(road, px_per_m, px_per_m, origin=(0, 0)) for road in plan.roads),
        buildings=tuple(replace(plan.buildings[k], outline=outlines[k]) for k in range(len(outlines)) if whole[k]),
    )
