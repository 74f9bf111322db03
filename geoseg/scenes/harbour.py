"""Generated harbours with every hull's outline: open sea, anchorages, ports, canals, coasts, marinas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.scenes.brush import Brush, Frame, Sun
from geoseg.scenes.decks import paint_ship
from geoseg.scenes.fleet import Fleet, Placed, moor_alongside, moor_end_on, scatter
from geoseg.scenes.hull import KINDS
from geoseg.scenes.marina import Marina, lay_out_marina, paint_pontoons
from geoseg.scenes.scene import Scene
from geoseg.scenes.shore import Shore, canal, coast, open_sea, port, with_breakwater
from geoseg.scenes.texture import Floats, sensor, value_noise
from geoseg.scenes.water import paint_clouds, paint_wake, paint_water
from geoseg.scenes.yards import paint_cranes, paint_land

_MIN_AREA_PX = 12.0
_SMALL = ("motorboat", "motorboat", "sailing yacht", "catamaran", "fishing boat", "motor yacht")
_WORKING = ("fishing boat", "tug", "barge", "ferry", "naval ship", "river ship", "motor yacht")
_LARGE = (
    "bulk carrier",
    "container ship",
    "tanker",
    "bulk carrier",
    "tanker",
    "car carrier",
    "ferry",
    "naval ship",
)
_ALL = tuple(KINDS)
_FLEETS = (_SMALL, _WORKING, _LARGE, _LARGE, _ALL, _ALL)
_SETTINGS = {"sea": 0.10, "anchorage": 0.25, "port": 0.25, "canal": 0.10, "coast": 0.12, "marina": 0.18}


def harbour(seed: int, *, height: int, width: int, gsd_m: float = 0.75) -> Scene:
    """A scene (3, height, width) of water, ships and mostly some land; the same seed gives the same scene.

    Every polygon is the outline of one hull, without wake or shadow, cut at the edge of the scene; polygons
    may touch but not overlap. All labels are "ship". `gsd_m` is metres a pixel, any from 0.3 to 5: hulls too
    small to be seen are left out.
    """
    rng = np.random.default_rng(seed)
    setting = str(rng.choice(list(_SETTINGS), p=list(_SETTINGS.values())))
    if setting == "marina" and gsd_m > 1.2:
        setting = "port"
    shore = _shore(rng, setting, (height, width), gsd_m)
    fleet = Fleet(rng, (height, width), shore.land, gsd_m)
    marina = _man(rng, fleet, shore, setting, (height, width))
    canvas = _paint(rng, fleet, shore, marina, (height, width))
    kept = fleet.ships
    if rng.random() < 0.1:
        opacity = paint_clouds(rng, canvas)
        kept = [placed for placed in kept if _seen(placed.outline, opacity)]
    polygons = _truth(kept, height, width)
    pixels = sensor(rng, canvas)
    return Scene(pixels=pixels, polygons=polygons, labels=("ship",) * len(polygons), gsd_m=gsd_m)


def _shore(rng: np.random.Generator, setting: str, shape_hw: tuple[int, int], gsd_m: float) -> Shore:
    height, width = shape_hw
    span = math.hypot(height, width) * gsd_m
    angle = rng.uniform(0, math.tau)
    # The waterfront passes on either side of the middle: land covers anything from a corner to most of it.
    off = rng.uniform(-0.3, 0.28) * min(height, width)
    if setting == "canal":
        off -= 0.1 * min(height, width)
    frame = Frame(
        x=width / 2 - off * math.sin(angle),
        y=height / 2 + off * math.cos(angle),
        angle=angle,
        scale=1.0 / gsd_m,
    )
    if setting in ("sea", "anchorage"):
        shore = open_sea(frame)
    elif setting == "canal":
        shore = canal(rng, frame, span)
    elif setting == "coast":
        shore = coast(rng, frame, span)
    elif setting == "marina":
        frame = frame.moved(0.0, -0.2 * span)
        shore = replace(port(rng, frame, span), wild=False) if rng.random() < 0.3 else _plain_quay(rng, frame, span)
    else:
        shore = port(rng, frame, span)
    breakwater = {"anchorage": 0.2, "port": 0.2, "coast": 0.3, "marina": 0.4}.get(setting, 0.0)
    return with_breakwater(rng, shore, span) if rng.random() < breakwater else shore


def _plain_quay(rng: np.random.Generator, frame: Frame, span_m: float) -> Shore:
    land = shapely.Polygon(frame.corners((-span_m, span_m, -2 * span_m, 0.0)))
    return Shore(frame=frame, land=land, banks=(frame,), wild=bool(rng.random() < 0.5))


def _man(
    rng: np.random.Generator, fleet: Fleet, shore: Shore, setting: str, shape_hw: tuple[int, int]
) -> Marina | None:
    """Fill berths and open water with ships."""
    span = math.hypot(*shape_hw) * fleet.gsd_m
    longest = min(360.0, span * rng.uniform(0.15, 0.6))
    # Boats of 10 m are not to be seen in pixels of 2 m.
    kinds = _FLEETS[int(rng.integers(fleet.gsd_m > 1.5, len(_FLEETS)))]
    # In every other scene there are ships of about one size only, lest large ones drown in boats.
    fleet.shortest_m = float(rng.choice([0.0, rng.uniform(0.2, 0.6)])) * longest
    marina = None
    if setting == "marina":
        marina = lay_out_marina(rng, fleet, shore.frame, span)
        fleet.shortest_m = 0.0
        kinds, longest = _SMALL, min(longest, 40.0)
    for berth in shore.berths:
        if rng.random() < 0.2:
            continue
        if kinds is _SMALL or (rng.random() < 0.12 and fleet.gsd_m < 1.5):
            moor_end_on(fleet, berth, _SMALL, rng.uniform(9, 20) * max(1.0, fleet.gsd_m))
        else:
            moor_alongside(fleet, berth, kinds, longest)
    # Counted in scenes of 1024 x 1024 pixels.
    share = shape_hw[0] * shape_hw[1] / 1024**2
    most = {"sea": 4, "anchorage": 26, "port": 8, "canal": 4, "coast": 16, "marina": 10}[setting]
    count = int(np.ceil(rng.uniform(0, most) * max(share, 0.4)))
    scatter(fleet, shape_hw, kinds, longest, count)
    if rng.random() < 0.3:
        scatter(fleet, shape_hw, _ALL, longest, max(1, count // 3))
    return marina


def _paint(
    rng: np.random.Generator, fleet: Fleet, shore: Shore, marina: Marina | None, shape_hw: tuple[int, int]
) -> Floats:
    height, width = shape_hw
    scale = 1.0 / fleet.gsd_m
    azimuth, reach = rng.uniform(0, math.tau), rng.uniform(0.2, 1.4) * scale
    sun = Sun(x_px=reach * math.cos(azimuth), y_px=reach * math.sin(azimuth), shade=float(rng.uniform(0.35, 0.85)))
    canvas = paint_water(rng, height, width, fleet.gsd_m)
    brush = Brush(canvas=canvas, frame=shore.frame, sun=sun)
    foam = value_noise(rng, height, width, 6.0 * max(scale, 0.5), 3)
    _paint_decoys(rng, fleet, brush, foam)
    for placed in fleet.ships:
        if placed.moving:
            paint_wake(rng, brush.at(placed.frame), placed.ship, foam)
    paint_land(rng, brush, shore)
    if marina is not None:
        paint_pontoons(rng, brush, marina)
    fade = float(rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0.3, 0.65)], p=[0.3, 0.4, 0.3]))
    view, tilt = rng.uniform(0, math.tau), rng.uniform(0, 0.5)
    for placed in fleet.ships:
        turned = view - placed.frame.angle
        lean = (tilt * math.cos(turned), tilt * math.sin(turned))
        paint_ship(rng, brush.at(placed.frame), placed.ship, fade * rng.uniform(0.5, 1.0), lean)
    for berth in shore.berths:
        if berth.length_m > 100 and rng.random() < 0.2:
            paint_cranes(rng, brush.at(berth.frame), berth.length_m)
    return np.clip(canvas, 0.0, 1.0)


def _paint_decoys(rng: np.random.Generator, fleet: Fleet, brush: Brush, foam: Floats) -> None:
    """What is not a ship: wakes whose boat is gone, buoys, floating booms."""
    height, width = brush.canvas.shape[:2]
    scale = brush.frame.scale

    def anywhere() -> Frame:
        return Frame(x=rng.uniform(0, width), y=rng.uniform(0, height), angle=rng.uniform(0, math.tau), scale=scale)

    for _ in range(int(rng.integers(0, 3))):
        if (boat := fleet.draw(_SMALL + _WORKING, 60.0 * max(1.0, fleet.gsd_m))) is not None:
            paint_wake(rng, brush.at(anywhere()), boat, foam)
    for _ in range(int(rng.integers(0, 12))):
        colour = ((0.9, 0.9, 0.9), (0.8, 0.3, 0.15), (0.85, 0.7, 0.2))[int(rng.integers(3))]
        brush.at(anywhere()).disc(0, 0, rng.uniform(0.5, 1.6), colour)
    for _ in range(int(rng.integers(0, 3)) * int(rng.random() < 0.4)):
        brush.at(anywhere()).rectangle((0, rng.uniform(20, 150), 0, 0.8), (0.8, 0.5, 0.25), 0.8)


def _seen(outline: shapely.Polygon, opacity: Floats) -> bool:
    """Whether a ship can be seen under the clouds, judged by its outline's corners and its middle."""
    points = np.concatenate([np.asarray(outline.exterior.coords), [outline.centroid.coords[0]] * 20])
    rows, cols = points[:, 1].astype(np.intp), points[:, 0].astype(np.intp)
    inside = (rows >= 0) & (rows < opacity.shape[0]) & (cols >= 0) & (cols < opacity.shape[1])
    return not inside.any() or float(opacity[rows[inside], cols[inside]].mean()) < 0.55


def _truth(ships: list[Placed], height: int, width: int) -> tuple[shapely.Polygon, ...]:
    """Outlines cut at the edge of the scene; slivers left out."""
    outlines: NDArray[np.object_] = np.array([placed.outline for placed in ships], dtype=object)
    cut = shapely.clip_by_rect(outlines, 0, 0, width, height) if len(outlines) else outlines
    parts = shapely.get_parts(cut)
    return tuple(part for part in parts if isinstance(part, shapely.Polygon) and part.area >= _MIN_AREA_PX)
