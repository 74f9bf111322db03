"""A generated town: streets, houses, all that hides or mimics them, and the outline of every roof."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.scenes.scene import Scene
from geoseg.scenes.texture import blend, cast, darken, fill, fill_rings, jitter, sensor, swept, value_noise
from geoseg.scenes.town_canvas import Ground, RoofMix
from geoseg.scenes.town_cuts import Rng, pieces, snapped
from geoseg.scenes.town_ground import Land, paint_ground
from geoseg.scenes.town_layout import Layout, Plan, lay_out, to_pixels
from geoseg.scenes.town_roofs import paint_roof
from geoseg.scenes.town_things import paint_heaps, paint_litter, paint_trees, paint_vehicles

_MIN_AREA_PX = 12.0
_MIN_AREA_M2 = 6.0
"""Smaller outbuildings are drawn but not in the truth: of the roofs that mappers outlined in aerial imagery of towns
(OpenStreetMap, four places), all but a hundredth are larger."""
_MAX_HIDDEN = 0.75
"""Share of a roof under trees from which on nobody could outline it."""
_MAX_LOTS = 1800
"""Lots of one scene at most: bounds the time a scene of fine lots at a coarse GSD takes."""


@dataclass(frozen=True, kw_only=True)
class SceneStyle:
    """What one scene has in common all over: drawn once from its seed."""

    layout: Layout
    roofs: RoofMix
    land: Land
    shadow_xy_per_m: tuple[float, float]
    """Where the shadow of a point one metre up falls, in metres."""
    shade: tuple[float, float, float]
    """What is left of the light in the shade, by band."""
    lean_xy_per_m: tuple[float, float]
    """How far roofs are displaced from their walls' feet, metres per metre of height, as seen at a slant."""


def town(seed: int, *, height: int, width: int, gsd_m: float = 0.25) -> Scene:
    """Draw the town of this number: same arguments, same scene; each seed has its own town, light and camera.

    Labels are all "building". Polygons are the roofs as drawn, whatever trees reach over them, less those
    hidden by trees all but wholly and sheds below 6 m2; they may touch, do not overlap, are cut by the frame, and are
    at least 12 px large. Raises `ConfigError` for a size or GSD that cannot be drawn.
    """
    if height < 16 or width < 16 or not 0.05 <= gsd_m <= 2.0:
        raise ConfigError(
            f"town of {height} x {width} px at {gsd_m} m; allowed: at least 16 x 16 px, GSD 0.05 to 2 m; "
            "change the size or gsd_m"
        )
    rng = np.random.default_rng(seed)
    style = _draw_style(rng, height * width * gsd_m**2)
    plan = to_pixels(lay_out(rng, style.layout, width * gsd_m, height * gsd_m), 1.0 / gsd_m)
    ground = _bare(rng, style, (height, width), 1.0 / gsd_m)
    paint_ground(rng, ground, plan, style.land)
    paint_heaps(rng, ground)
    _paint_walls(rng, ground, plan, style)
    for building in sorted(plan.buildings, key=lambda b: b.height_m):
        paint_roof(rng, ground, building, style.roofs)
    paint_litter(rng, ground, style.land.litter_per_ha)
    paint_vehicles(rng, ground, plan, style.land)
    hidden = paint_trees(rng, ground, style.land)
    _shade(ground, style)
    polygons = _truth(plan, hidden, _MIN_AREA_M2 / gsd_m**2)
    return Scene(
        pixels=sensor(rng, ground.canvas),
        polygons=polygons,
        labels=("building",) * len(polygons),
        gsd_m=gsd_m,
    )


def _bare(rng: Rng, style: SceneStyle, shape: tuple[int, int], px_per_m: float) -> Ground:
    light = -np.asarray(style.shadow_xy_per_m) / np.hypot(*style.shadow_xy_per_m)
    fine = 0.5 + rng.uniform(0.8, 2.4) * (value_noise(rng, *shape, 2.5, 2) - 0.5)
    return Ground(
        canvas=np.zeros((*shape, 3), np.float32),
        heights=np.zeros(shape, np.float32),
        fine=np.asarray(fine, np.float32),
        coarse=value_noise(rng, *shape, 4.0 * px_per_m, 5),
        px_per_m=px_per_m,
        light_xy=(float(light[0]), float(light[1])),
    )


def _paint_walls(rng: Rng, ground: Ground, plan: Plan, style: SceneStyle) -> None:
    """Facades that a slanted view shows; they lie under all roofs, so that the truth stays what is seen."""
    lean = np.asarray(style.lean_xy_per_m) * ground.px_per_m
    if not lean.any():
        return
    for building in plan.buildings:
        coverage, box = fill_rings(ground.shape, swept(building.outline, -lean * building.height_m))
        blend(ground.canvas, coverage, jitter(rng, (0.52, 0.46, 0.42), 0.25, 0.04), box)
        ground.heights[box][coverage > 0.5] = building.height_m / 2


def _shade(ground: Ground, style: SceneStyle) -> None:
    reach = np.asarray(style.shadow_xy_per_m) * ground.px_per_m
    everywhere = slice(0, ground.shape[0]), slice(0, ground.shape[1])
    darken(ground.canvas, cast(ground.heights, reach, soft_px=0.7), style.shade, everywhere)


def _truth(plan: Plan, hidden: NDArray[np.bool_], least: float) -> tuple[shapely.Polygon, ...]:
    """Roofs of `least` square pixels and more, cut by the frame, less slivers and those all but hidden by trees."""
    height, width = hidden.shape
    frame = shapely.box(0, 0, width, height)
    polygons: list[shapely.Polygon] = []
    for building in plan.buildings:
        for part in pieces(snapped(building.outline.intersection(frame))):
            if part.is_valid and part.area >= _MIN_AREA_PX and building.outline.area >= least:
                coverage, box = fill((height, width), part)
                if float(coverage[hidden[box]].sum()) < _MAX_HIDDEN * float(coverage.sum()):
                    polygons.append(part)
    return tuple(polygons)


def _draw_style(rng: Rng, area_m2: float) -> SceneStyle:
    setting = str(rng.choice(["dense", "slum", "mixed", "suburb", "rural"], p=[0.3, 0.07, 0.24, 0.22, 0.17]))
    sun, low = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 1.1)
    cloudy = rng.random() < 0.3
    left = rng.uniform(0.65, 0.85) if cloudy else rng.uniform(0.3, 0.6)
    lean = rng.uniform(0.02, 0.25) if rng.random() < 0.5 else 0.0
    way = rng.uniform(0, 2 * np.pi)
    return SceneStyle(
        layout=_draw_layout(rng, setting, area_m2),
        roofs=_draw_roofs(rng, setting),
        land=_draw_land(rng, setting),
        shadow_xy_per_m=(float(low * np.cos(sun)), float(low * np.sin(sun))),
        shade=(left * 0.95, left, min(left * 1.1, 1.0)),
        lean_xy_per_m=(float(lean * np.cos(way)), float(lean * np.sin(way))),
    )


def _draw_layout(rng: Rng, setting: str, area_m2: float) -> Layout:
    block, street, terraces, free, lot, plot = {
        "dense": (60.0, 4.5, 0.85, 0.08, 85.0, 180.0),
        "slum": (45.0, 2.5, 0.97, 0.03, 22.0, 70.0),
        "mixed": (65.0, 6.0, 0.4, 0.15, 90.0, 170.0),
        "suburb": (75.0, 7.0, 0.05, 0.15, 120.0, 220.0),
        "rural": (140.0, 4.0, 0.0, 0.5, 100.0, 700.0),
    }[setting]
    return Layout(
        block_m=block * rng.uniform(0.7, 1.4),
        street_m=street * rng.uniform(0.6, 1.5),
        curves=int(rng.integers(0, 3)),
        terraces=terraces,
        open_ground=free,
        lot_m2=max(lot * rng.uniform(0.6, 1.6), area_m2 / _MAX_LOTS),
        plot_m2=max(plot * rng.uniform(0.6, 1.7), area_m2 / _MAX_LOTS),
        storeys=rng.uniform(1.0, 1.6) if setting == "slum" else rng.uniform(1.2, 4.0),
        skew_deg=rng.uniform(0.5, 7.0),
    )


def _draw_roofs(rng: Rng, setting: str) -> RoofMix:
    flat, metal, tile, thatch = {
        "dense": (0.6, 0.4, 0.05, 0.0),
        "slum": (0.15, 0.85, 0.02, 0.02),
        "mixed": (0.4, 0.5, 0.1, 0.02),
        "suburb": (0.2, 0.65, 0.15, 0.02),
        "rural": (0.08, 0.7, 0.1, 0.12),
    }[setting]
    names = ("silver", "white", "grey", "rust", "brown", "blue", "sky", "green", "red", "maroon", "turquoise")
    common, others = rng.choice(names[:5], 3), rng.choice(names[1:], 5)
    return RoofMix(
        flat=flat * rng.uniform(0.3, 2),
        metal=metal * rng.uniform(0.4, 2),
        tile=tile * rng.choice([0.0, 1.0, 4.0]),
        thatch=thatch * rng.choice([0.0, 1.0, 3.0]),
        unfinished=0.05 * rng.random() * flat * 4,
        sheets=(*map(str, common), *(int(rng.integers(1, 6)) * tuple(map(str, common))), *map(str, others)),
        rust=float(rng.beta(1.2, 1.6)),
        clutter=rng.uniform(0.1, 1.4),
        dirt=float(rng.beta(2, 2)),
    )


def _draw_land(rng: Rng, setting: str) -> Land:
    trees, cars, paved, litter = {
        "dense": (70, 12, 0.8, 900),
        "slum": (30, 4, 0.85, 900),
        "mixed": (120, 12, 0.5, 600),
        "suburb": (200, 10, 0.3, 400),
        "rural": (350, 2, 0.05, 200),
    }[setting]
    return Land(
        green=float(rng.beta(1.5, 1.5)),
        litter_per_ha=litter * rng.uniform(0.2, 2.5),
        trees_per_ha=trees * rng.uniform(0.2, 2.0),
        crown_m=rng.uniform(1.2, 3.2),
        palms=rng.choice([0.0, 0.05, 0.4]) if setting != "dense" else 0.0,
        cars_per_ha=cars * rng.uniform(0.2, 2.0),
        paved=paved,
    )
