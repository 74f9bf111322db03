"""Colours of ships and what many kinds of them carry: superstructures, helipads, hatches, containers."""

from __future__ import annotations

import numpy as np

from geoseg.scenes.brush import Brush
from geoseg.scenes.texture import Floats, jitter

Colour = tuple[float, float, float]

WHITE: Colour = (0.90, 0.91, 0.90)
GREY: Colour = (0.55, 0.57, 0.58)
DARK: Colour = (0.16, 0.17, 0.19)
RUST: Colour = (0.48, 0.25, 0.19)
OXIDE: Colour = (0.58, 0.30, 0.24)
RED: Colour = (0.70, 0.20, 0.14)
ORANGE: Colour = (0.82, 0.42, 0.20)
GREEN: Colour = (0.24, 0.42, 0.34)
TEAL: Colour = (0.34, 0.54, 0.52)
BLUE: Colour = (0.20, 0.33, 0.52)
TAN: Colour = (0.68, 0.60, 0.46)
TEAK: Colour = (0.62, 0.48, 0.34)
CREAM: Colour = (0.86, 0.82, 0.72)
NAVY: Colour = (0.14, 0.20, 0.32)

WORKING = (RUST, RUST, OXIDE, OXIDE, RED, GREEN, GREEN, TEAL, TEAL, GREY, GREY, BLUE, TAN, DARK)
"""Decks of cargo ships, the common ones more than once."""
PAINTS = (RED, OXIDE, BLUE, (0.2, 0.42, 0.66), GREEN, TEAL, GREY, WHITE, ORANGE, TAN, DARK, RUST)
"""Containers, funnels, gear."""


def house(rng: np.random.Generator, brush: Brush, middle_u: float, size: tuple[float, float, float]) -> None:
    """A superstructure of (length, width, height): block, bridge with dark windows, funnel or mast."""
    length, width, height = size
    colour = jitter(rng, WHITE if rng.random() < 0.8 else CREAM, 0.06)
    u0, u1 = middle_u - length / 2, middle_u + length / 2
    brush.block((u0, u1, -width / 2, width / 2), height, colour)
    bridge = (u1 - 0.45 * length, u1 - 0.08 * length, -0.42 * width, 0.42 * width)
    brush.block(bridge, 0.3 * height, np.clip(colour * rng.uniform(0.85, 1.1), 0, 1))
    brush.rectangle((u1 - 0.1 * length, u1, -0.42 * width, 0.42 * width), DARK, 0.6)
    if rng.random() < 0.7:
        funnel = jitter(rng, PAINTS[int(rng.integers(len(PAINTS)))])
        across = 0.15 * width
        brush.block((u0 + 0.1 * length, u0 + 0.35 * length, -across, across), 0.4 * height, funnel)


def helipad(brush: Brush, u_m: float, radius_m: float) -> None:
    """A round landing deck with its circle and bar."""
    brush.disc(u_m, 0, radius_m, WHITE, 0.8)
    brush.disc(u_m, 0, 0.85 * radius_m, (0.30, 0.40, 0.36))
    brush.rectangle((u_m - 0.3 * radius_m, u_m + 0.3 * radius_m, -0.1 * radius_m, 0.1 * radius_m), WHITE)


def hatch_covers(rng: np.random.Generator, rows: int, cols: int) -> Floats:
    """Colours (rows, cols, 3) of covers of one paint, each a little different."""
    base = jitter(rng, WORKING[int(rng.integers(len(WORKING)))], 0.2)
    return np.stack([jitter(rng, base, 0.05) for _ in range(rows * cols)]).reshape(rows, cols, 3)


def container_colours(rng: np.random.Generator, rows: int, cols: int) -> Floats:
    """Colours (rows, cols, 3) of containers, some owners more common than others."""
    palette = np.array(PAINTS, np.float32) * rng.uniform(0.75, 1.05)
    weights = rng.dirichlet(np.full(len(palette), 0.6))
    picks = rng.choice(len(palette), (max(rows, 1), max(cols, 1)), p=weights)
    return np.clip(palette[picks] * rng.normal(1, 0.08, (*picks.shape, 1)), 0, 1).astype(np.float32)
