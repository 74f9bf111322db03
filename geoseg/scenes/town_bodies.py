"""What shapes the buildings of a generated town have: small ones plain, large ones with wings, steps and courts.

How often which departs from the rectangle follows what mappers outlined in aerial imagery of towns (OpenStreetMap,
four places, 2,900 roofs). Of those from 5 to 40 m2, one in twenty-five fills less than four fifths of the smallest
rectangle around it; of those above 160 m2, one in five, and two in three have more than five corners. None is narrower
than a metre.
"""

from __future__ import annotations

import numpy as np
import shapely
from shapely import affinity

from geoseg.scenes.town_cuts import Rng, halves, long_axis, pieces

_NARROWEST_M = 1.2
"""What is narrower is no part of a building."""
_PLAIN_M2 = 40.0
"""Up to this a roof is one rectangle, or nearly."""
_COMPACT = 0.75
"""Share of the smallest rectangle around it that a roof of up to `_PLAIN_M2` fills; a round hut fills 0.785."""
_LOOSE = 0.5
"""Likewise, of a larger one."""

_SMALL = {"box": 0.9, "step": 0.04, "round": 0.06}
_MIDDLE = {"box": 0.54, "L": 0.17, "T": 0.06, "U": 0.04, "step": 0.16, "round": 0.03}
_LARGE = {"box": 0.32, "L": 0.24, "T": 0.12, "U": 0.1, "step": 0.14, "O": 0.08}


def body_of(rng: Rng, long: float, wide: float) -> str:
    """What a detached house of `long` by `wide` metres is: a word that `outline` knows."""
    area, least = long * wide, min(long, wide)
    bodies = _SMALL if area < _PLAIN_M2 or least < 5 else _MIDDLE if area < 100 or least < 7 else _LARGE
    return str(rng.choice(list(bodies), p=list(bodies.values())))


def outline(body: str, long: float, wide: float, rng: Rng) -> shapely.Polygon:
    """A building's body around (0, 0), `long` by `wide` metres: box, L, T, U, step, round, or O, with a court."""
    whole = shapely.box(-long / 2, -wide / 2, long / 2, wide / 2)
    x, y = rng.uniform(-0.15, 0.2) * long, rng.uniform(-0.2, 0.2) * wide
    if body == "L":
        return whole.difference(shapely.box(x, y, long, wide))
    if body == "T":
        return whole.difference(shapely.box(-long, y, -long / 6, wide)).difference(shapely.box(long / 6, y, long, wide))
    if body == "U":
        return whole.difference(shapely.box(-long / 5, y, long / 5, wide))
    if body == "step":
        return whole.difference(shapely.box(0.3 * long, 0.25 * wide, long, wide))
    if body == "O":
        return whole.difference(shapely.box(-long / 6, -wide / 6, long / 6, wide / 6))
    if body == "round":
        return shapely.Point(0, 0).buffer(min(long, wide, 6.0) / 2)
    return whole


def terrace(rng: Rng, lot: shapely.Polygon) -> shapely.Geometry:
    """What is built over of a lot from wall to wall: all of it, or all but its rear, corners or a court."""
    angle, along, across = long_axis(lot)
    parts = float(np.interp(lot.area, (_PLAIN_M2, 200.0), (0.06, 0.6)))
    draw = rng.random()
    if draw >= parts or min(along, across) < 4:
        if draw >= parts + 0.27 or min(along, across) < 2.5:
            return lot
        return lot.intersection(halves(lot, rng.uniform(0.65, 0.95), angle + 90 * int(rng.integers(4)))[0])
    if draw < 0.65 * parts or lot.area < 110:
        built = lot
        for _ in range(int(rng.integers(1, 3)) if lot.area > 80 else 1):
            # Half planes reach out of the lot: a corner piece cut from it would end on its edge only to within
            # rounding.
            beyond = halves(lot, rng.uniform(0.2, 0.5), angle + 180 * int(rng.integers(2)))[0]
            beside = halves(lot, rng.uniform(0.25, 0.6), angle + 90 + 180 * int(rng.integers(2)))[0]
            built = built.difference(beyond.intersection(beside))
        return built
    inner = affinity.scale(lot, rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5))
    return lot.difference(lot.buffer(-1.5, join_style="mitre").intersection(inner))


def buildable(shape: shapely.Geometry) -> list[shapely.Polygon]:
    """Its parts that somebody would roof over: wide enough throughout, and the smaller the more compact."""
    parts: list[shapely.Polygon] = []
    for whole in pieces(shape):
        wide = whole.buffer(-_NARROWEST_M / 2, join_style="mitre").buffer(_NARROWEST_M / 2, join_style="mitre")
        # As it was but for rounding: neighbours then go on to share their wall exactly.
        kept = whole if wide.area > 0.99 * whole.area else whole.intersection(wide)
        parts.extend(part for part in pieces(kept) if _compact(part))
    return parts


def _compact(part: shapely.Polygon) -> bool:
    around = part.minimum_rotated_rectangle.area
    return bool(part.area > (_COMPACT if part.area < _PLAIN_M2 else _LOOSE) * around)
