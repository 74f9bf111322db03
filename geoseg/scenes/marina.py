"""Marinas: pontoons with fingers between boats that lie side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geoseg.scenes.brush import Brush, Extent, Frame
from geoseg.scenes.fleet import Fleet, moor_end_on
from geoseg.scenes.shore import Berth
from geoseg.scenes.texture import jitter

_KINDS = (
    ("motorboat", "motorboat", "motor yacht"),
    ("sailing yacht", "sailing yacht", "motorboat"),
    ("motorboat", "sailing yacht", "catamaran", "motor yacht"),
    ("fishing boat", "motorboat"),
)

_MOST_BOATS = 400
"""A scene need not hold more: the rest of the water stays open."""


@dataclass(frozen=True, kw_only=True)
class Marina:
    """Walkways that float."""

    frame: Frame
    """u along the waterfront, v out to the water."""
    walkways: tuple[Extent, ...]
    """Rectangles in the frame, pontoons first."""


def lay_out_marina(rng: np.random.Generator, fleet: Fleet, frame: Frame, span_m: float) -> Marina:
    """Parallel pontoons out from the waterfront, boats end-on along both sides of each."""
    walkways: list[Extent] = []
    kinds = _KINDS[int(rng.integers(len(_KINDS)))]
    fingers = rng.random() < 0.6
    reach = min(rng.uniform(0.1, 0.34) * span_m, 260.0)
    u = -span_m / 2 + rng.uniform(0, 40)
    spread = rng.uniform(0.6, 1.0) * span_m / 2
    while u < spread and len(fleet.ships) < _MOST_BOATS:
        slot = max(float(rng.uniform(8, 20)), 16.0 * fleet.gsd_m)
        wide = rng.uniform(1.8, 4.0)
        start = rng.uniform(4, 20)
        end = reach * rng.uniform(0.8, 1.1)
        u += 1.2 * slot
        walkways.append((u, u + wide, -2.0, end))
        left = Berth(frame=frame.moved(u, start, math.pi / 2), length_m=end - start)
        right = Berth(frame=frame.moved(u + wide, end, -math.pi / 2), length_m=end - start)
        for berth in (left, right):
            moor_end_on(fleet, berth, kinds, slot)
        if fingers:
            for v in np.arange(start, end, rng.uniform(0.6, 0.9) * slot).tolist():
                walkways.append((u - 0.8 * slot, u + wide + 0.8 * slot, v - 0.4, v + 0.4))
        u += wide + slot * rng.uniform(1.6, 2.4)
    return Marina(frame=frame, walkways=tuple(walkways))


def paint_pontoons(rng: np.random.Generator, brush: Brush, marina: Marina) -> None:
    """The walkways; boats are painted over them."""
    colour = jitter(rng, ((0.70, 0.69, 0.66), (0.55, 0.48, 0.40), (0.80, 0.80, 0.79))[int(rng.integers(3))], 0.1)
    here = brush.at(marina.frame)
    for walkway in marina.walkways:
        here.block(walkway, 0.8, jitter(rng, colour, 0.03))
