"""Which roof a building of a generated town gets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geoseg.scenes.town_canvas import Ground, RoofMix
from geoseg.scenes.town_cuts import Rng
from geoseg.scenes.town_decks import paint_flat, paint_unfinished
from geoseg.scenes.town_layout import Building
from geoseg.scenes.town_sheets import THATCH, TILES, paint_pitched, paint_sheets


def paint_roof(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Paint one building, outline in pixels, with a roof that suits its use and the town."""
    kinds = ("flat", "metal", "tile", "thatch", "unfinished")
    weights = np.array([mix.flat, mix.metal, mix.tile, mix.thatch, mix.unfinished])
    weights *= _SUITS[building.use]
    kind = str(rng.choice(kinds, p=weights / weights.sum())) if weights.sum() > 0 else "metal"
    _PAINTERS[kind](rng, ground, building, mix)


_SUITS = {
    "terrace": (1.0, 1.0, 1.0, 0.2, 1.0),
    "house": (1.0, 1.0, 1.0, 1.0, 1.0),
    "hut": (0, 0.3, 0, 3.0, 0),
    "annex": (0.4, 3.0, 0.4, 0.5, 0.0),
    "shed": (0.2, 3.0, 0.2, 0.8, 0.0),
    "hall": (0.3, 3.0, 0.3, 0, 0.1),
}


def _metal(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Corrugated sheets: stripes down the slope, sheets of unlike age, rust in patches."""
    paint_sheets(rng, ground, building.outline, building.height_m, mix)


def _tile(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Clay tiles: gable or hip, fine rows."""
    paint_pitched(rng, ground, building, TILES, mix.dirt)


def _thatch(rng: Rng, ground: Ground, building: Building, mix: RoofMix) -> None:
    """Straw or palm: hip, rough."""
    paint_pitched(rng, ground, building, THATCH, 0.6 + mix.dirt)


_PAINTERS: dict[str, Callable[[Rng, Ground, Building, RoofMix], None]] = {
    "flat": paint_flat,
    "metal": _metal,
    "tile": _tile,
    "thatch": _thatch,
    "unfinished": paint_unfinished,
}
