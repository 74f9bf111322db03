"""Where the land of a harbour ends and where ships can moor along it: geometry only, nothing is painted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import shapely

from geoseg.scenes.brush import Extent, Frame
from geoseg.scenes.texture import value_noise

_QUARTER = math.pi / 2


@dataclass(frozen=True, kw_only=True)
class Berth:
    """An edge to moor at: ships lie at v > 0 of the frame, between u = 0 and `length_m`."""

    frame: Frame
    """Origin at one end of the edge, u along it, v into the water."""
    length_m: float
    """Length of the edge, metres."""


@dataclass(frozen=True, kw_only=True)
class Shore:
    """The solid ground of a scene."""

    frame: Frame
    """u along the waterfront, v out to the water; land is at v < 0."""
    land: shapely.Geometry
    """Union of all solid ground in pixel space; empty on the open sea."""
    berths: tuple[Berth, ...] = ()
    """Edges to moor at."""
    piers: tuple[Extent, ...] = ()
    """Rectangles of the land that are bare concrete, in `frame`."""
    banks: tuple[Frame, ...] = ()
    """Frames with land at v < 0 where yards are laid out."""
    breakwaters: tuple[shapely.Polygon, ...] = field(default=())
    """Strips of rubble, part of the land, pixel space."""
    wild: bool = False
    """No port: a natural coast."""


def open_sea(frame: Frame) -> Shore:
    """No land at all."""
    return Shore(frame=frame, land=shapely.Polygon())


def port(rng: np.random.Generator, frame: Frame, span_m: float) -> Shore:
    """A straight quay with piers that stand out and basins cut into it; `span_m` is the scene's diagonal."""
    land = _rectangle(frame, (-span_m, span_m, -2 * span_m, 0.0))
    berths: list[Berth] = []
    piers: list[Extent] = []
    size = span_m * rng.uniform(0.7, 1.1)
    u = -span_m / 2 - rng.uniform(0, 0.3) * size
    quay_from = u
    while u < span_m / 2:
        width, reach = rng.uniform(0.03, 0.12) * size, rng.uniform(0.1, 0.35) * size
        drawn = rng.random()
        if drawn < 0.7:
            berths.append(Berth(frame=frame.moved(quay_from, 0.0), length_m=u - quay_from))
        if drawn < 0.35:
            extent = (u, u + width, -1.0, reach)
            piers.append(extent)
            land = land.union(_rectangle(frame, extent))
            berths.append(Berth(frame=frame.moved(u, 0.0, _QUARTER), length_m=reach))
            berths.append(Berth(frame=frame.moved(u + width, reach, -_QUARTER), length_m=reach))
        elif drawn < 0.7:
            width *= 2.0
            land = land.difference(_rectangle(frame, (u, u + width, -reach, 1.0)))
            berths.append(Berth(frame=frame.moved(u, 0.0, -_QUARTER), length_m=reach))
            berths.append(Berth(frame=frame.moved(u + width, -reach, _QUARTER), length_m=reach))
            berths.append(Berth(frame=frame.moved(u, -reach), length_m=width))
        if drawn < 0.7:
            quay_from = u + width
        u += width + rng.uniform(0.1, 0.4) * size
    berths.append(Berth(frame=frame.moved(quay_from, 0.0), length_m=max(span_m - quay_from, 1.0)))
    return Shore(frame=frame, land=land, berths=tuple(berths), piers=tuple(piers), banks=(frame,))


def canal(rng: np.random.Generator, frame: Frame, span_m: float) -> Shore:
    """Two banks, quays on both."""
    width = span_m * rng.uniform(0.1, 0.3)
    far = frame.moved(0.0, width, math.pi + rng.normal(0, 0.06))
    land = _rectangle(frame, (-span_m, span_m, -2 * span_m, 0.0)).union(
        _rectangle(far, (-span_m, span_m, -2 * span_m, 0.0))
    )
    berths = tuple(Berth(frame=bank.moved(-span_m / 2, 0.0), length_m=span_m) for bank in (frame, far))
    return Shore(frame=frame, land=land, berths=berths, banks=(frame, far))


def coast(rng: np.random.Generator, frame: Frame, span_m: float) -> Shore:
    """A natural shore with islets, rocks and a jetty or two."""
    u = np.linspace(-span_m, span_m, 240)
    noise = value_noise(rng, 1, len(u), float(rng.uniform(20, 80)), 5)[0].astype(np.float64)
    v = (noise - 0.5) * rng.uniform(0.1, 0.6) * span_m
    ring = np.concatenate([np.column_stack([u, v]), [(span_m, -2 * span_m), (-span_m, -2 * span_m)]])
    land: shapely.Geometry = shapely.Polygon(frame.to_pixels(ring)).buffer(0)
    for _ in range(int(rng.integers(0, 7))):
        centre = (rng.uniform(-0.5, 0.5) * span_m, rng.uniform(0.02, 0.5) * span_m)
        land = land.union(_rock(rng, frame.moved(*centre), rng.uniform(0.003, 0.03) * span_m))
    berths: list[Berth] = []
    piers: list[Extent] = []
    for _ in range(int(rng.integers(0, 4))):
        at = rng.uniform(-0.4, 0.4) * span_m
        width, reach = rng.uniform(2.0, 7.0), rng.uniform(0.04, 0.15) * span_m
        root = float(np.interp(at, u, v))
        extent = (at, at + width, root - 10.0, root + reach)
        piers.append(extent)
        land = land.union(_rectangle(frame, extent))
        start = 0.3 * reach
        berths.append(Berth(frame=frame.moved(at, root + start, _QUARTER), length_m=reach - start))
        berths.append(Berth(frame=frame.moved(at + width, root + reach, -_QUARTER), length_m=reach - start))
    return Shore(frame=frame, land=land, berths=tuple(berths), piers=tuple(piers), banks=(frame,), wild=True)


def with_breakwater(rng: np.random.Generator, shore: Shore, span_m: float) -> Shore:
    """The same shore behind a bent wall of rubble."""
    away = rng.uniform(0.38, 0.5) * span_m
    u = np.linspace(rng.uniform(-0.7, -0.1), rng.uniform(0.1, 0.7), 5) * span_m
    line = shapely.LineString(shore.frame.to_pixels(np.column_stack([u, away + rng.normal(0, 0.02 * span_m, 5)])))
    wall = line.buffer(rng.uniform(4.0, 14.0) * shore.frame.scale, cap_style="round")
    return Shore(
        frame=shore.frame,
        land=shore.land.union(wall),
        berths=shore.berths,
        piers=shore.piers,
        banks=shore.banks,
        breakwaters=(wall,),
        wild=shore.wild,
    )


def _rectangle(frame: Frame, extent: Extent) -> shapely.Polygon:
    return shapely.Polygon(frame.corners(extent))


def _rock(rng: np.random.Generator, frame: Frame, radius_m: float) -> shapely.Polygon:
    angle = np.linspace(0, math.tau, 18, endpoint=False)
    radius = radius_m * rng.uniform(0.5, 1.3, 18)
    return shapely.Polygon(frame.to_pixels(np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None])).buffer(0)
