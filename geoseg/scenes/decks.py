"""A ship as it is painted: shadow, hull, deck, and then what stands on it."""

from __future__ import annotations

import numpy as np

from geoseg.scenes.brush import Brush
from geoseg.scenes.deck_plans import RECIPES
from geoseg.scenes.fittings import (
    BLUE,
    CREAM,
    DARK,
    GREEN,
    GREY,
    NAVY,
    ORANGE,
    OXIDE,
    RED,
    RUST,
    TAN,
    TEAK,
    TEAL,
    WHITE,
    WORKING,
    Colour,
)
from geoseg.scenes.hull import Ship
from geoseg.scenes.texture import Floats, blend, darken, jitter

_LEISURE = (WHITE, WHITE, WHITE, WHITE, CREAM, TEAK, GREY, NAVY, BLUE, RED)
DECKS: dict[str, tuple[Colour, ...]] = {
    "motorboat": _LEISURE,
    "motor yacht": (WHITE, WHITE, WHITE, CREAM, TEAK, GREY),
    "sailing yacht": (WHITE, WHITE, WHITE, CREAM, TEAK, TEAK),
    "catamaran": (WHITE, WHITE, CREAM, GREY),
    "fishing boat": (WHITE, TEAL, GREEN, BLUE, TAN, GREY, RUST, OXIDE),
    "tug": (RUST, OXIDE, GREEN, GREY, TAN, ORANGE),
    "ferry": (WHITE, WHITE, GREY, GREEN, BLUE),
    "barge": (RUST, RUST, DARK, GREY, TAN, OXIDE),
    "river ship": (RUST, DARK, GREY, GREEN, BLUE, TAN),
    "bulk carrier": WORKING,
    "container ship": (RUST, OXIDE, GREEN, GREY, DARK),
    "tanker": (*WORKING, RUST, OXIDE, ORANGE),
    "car carrier": (WHITE, WHITE, GREY, GREEN, CREAM),
    "naval ship": (GREY, GREY, (0.44, 0.47, 0.50), (0.36, 0.39, 0.42)),
}
_HULLS = (WHITE, DARK, DARK, NAVY, RED, GREY, GREEN, BLUE)


def paint_ship(rng: np.random.Generator, brush: Brush, ship: Ship, fade: float, lean_uv: tuple[float, float]) -> None:
    """The ship and its shadow.

    `fade` in 0..1 pulls its colours towards the water (age, dirt, haze). `lean_uv` is how far a metre of
    height is displaced where the camera looks from the side, metres in the ship's frame: one side of the hull
    shows.
    """
    freeboard = float(np.clip(0.025 * ship.length_m * rng.uniform(0.5, 1.6), 0.5, 12.0))
    extent = (-ship.length_m / 2, ship.length_m / 2, -ship.beam_m / 2, ship.beam_m / 2)
    found = brush.window(extent)
    under = None if found is None else brush.canvas[found[0]].copy()
    _shade_hull(brush, ship, freeboard)
    if found is None or under is None:
        return
    box, u, v = found
    whole = hull_coverage(ship, u, v, brush.frame.scale, 0.0)
    palette = DECKS[ship.kind]
    deck = jitter(rng, palette[int(rng.integers(len(palette)))], 0.12, 0.03)
    rim = (
        jitter(rng, _HULLS[int(rng.integers(len(_HULLS)))], 0.1)
        if rng.random() < 0.45
        else deck * rng.uniform(0.75, 1.2)
    )
    blend(brush.canvas, whole, np.clip(rim, 0, 1), box)
    inset = min(rng.uniform(0.15, 0.9), 0.1 * ship.beam_m)
    dirt = 1.0 + rng.uniform(0.01, 0.07) * rng.standard_normal(u.shape, dtype=np.float32)
    lit = deck * dirt[..., None]
    du = np.float32(np.clip(freeboard * lean_uv[0], -0.03 * ship.length_m, 0.03 * ship.length_m))
    dv = np.float32(np.clip(freeboard * lean_uv[1], -0.12 * ship.beam_m, 0.12 * ship.beam_m))
    blend(brush.canvas, whole * hull_coverage(ship, u - du, v - dv, brush.frame.scale, inset), lit, box)
    RECIPES[ship.kind](rng, brush, ship)
    if fade > 0:
        blend(brush.canvas, whole * np.float32(fade), under, box)


def hull_coverage(ship: Ship, u: Floats, v: Floats, scale: float, inset_m: float) -> Floats:
    """Share of each pixel inside the hull less a rim of `inset_m`, (h, w); `scale` is pixels per metre."""
    stations, half = ship.stations(), ship.half_width_m
    slope = np.gradient(half, stations)
    steep = np.sqrt(1.0 + np.minimum(slope**2, 9.0))
    width = np.interp(u, stations, half).astype(np.float32) - np.float32(inset_m)
    normal = np.interp(u, stations, steep).astype(np.float32)
    sides = np.clip((width - np.abs(v)) * np.float32(scale) / normal + 0.5, 0, 1)
    ends = np.clip((np.float32(ship.length_m / 2 - inset_m) - np.abs(u)) * np.float32(scale) + 0.5, 0, 1)
    return np.asarray(sides * ends, np.float32)


def _shade_hull(brush: Brush, ship: Ship, height_m: float) -> None:
    frame, half, beam = brush.frame, ship.length_m / 2, ship.beam_m / 2
    for part in (0.5, 1.0):
        x, y = frame.x + part * height_m * brush.sun.x_px, frame.y + part * height_m * brush.sun.y_px
        moved = brush.at(type(frame)(x=x, y=y, angle=frame.angle, scale=frame.scale))
        if (found := moved.window((-half, half, -beam, beam))) is not None:
            box, u, v = found
            cover = hull_coverage(ship, u, v, frame.scale, 0.0)
            darken(brush.canvas, cover, brush.sun.shade**0.5, box)
