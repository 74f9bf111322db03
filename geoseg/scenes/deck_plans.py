"""What stands on the deck of each kind of ship, in the ship's frame: u forward, v to starboard, metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geoseg.scenes.brush import Brush
from geoseg.scenes.fittings import (
    BLUE,
    CREAM,
    DARK,
    GREEN,
    GREY,
    NAVY,
    ORANGE,
    PAINTS,
    RED,
    RUST,
    TAN,
    TEAK,
    WHITE,
    WORKING,
    container_colours,
    hatch_covers,
    helipad,
    house,
)
from geoseg.scenes.hull import Ship
from geoseg.scenes.texture import jitter

Recipe = Callable[[np.random.Generator, Brush, Ship], None]


def _motorboat(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    cockpit = jitter(rng, (TEAK, GREY, DARK, BLUE, CREAM)[int(rng.integers(5))])
    brush.rectangle((-0.46 * length, -0.12 * length, -0.34 * beam, 0.34 * beam), cockpit, rng.uniform(0.3, 1.0))
    if rng.random() < 0.75:
        roof = jitter(rng, (WHITE, WHITE, CREAM, BLUE, DARK)[int(rng.integers(5))])
        u0 = rng.uniform(-0.25, -0.05) * length
        brush.block((u0, u0 + rng.uniform(0.2, 0.35) * length, -0.36 * beam, 0.36 * beam), 1.4, roof)
        brush.rectangle(
            (u0 + 0.24 * length, u0 + 0.33 * length, -0.32 * beam, 0.32 * beam), DARK, rng.uniform(0.2, 0.9)
        )
    if rng.random() < 0.3:
        brush.rectangle((-0.5 * length, -0.43 * length, -0.2 * beam, 0.2 * beam), DARK)


def _motor_yacht(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    brush.rectangle((-0.48 * length, -0.28 * length, -0.4 * beam, 0.4 * beam), jitter(rng, TEAK), rng.uniform(0.4, 1))
    u0, u1, half = -0.32, 0.22, 0.4
    for _ in range(int(rng.integers(2, 4))):
        brush.block((u0 * length, u1 * length, -half * beam, half * beam), 0.06 * length, jitter(rng, WHITE, 0.05))
        brush.rectangle(((u1 - 0.03) * length, u1 * length, -half * beam, half * beam), DARK, 0.7)
        u0, u1, half = u0 + 0.06, u1 - rng.uniform(0.08, 0.13), half * 0.8
    if ship.length_m > 35 and rng.random() < 0.4:
        helipad(brush, 0.32 * length, 0.18 * beam)


def _sailing_yacht(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    brush.rectangle((-0.46 * length, -0.18 * length, -0.24 * beam, 0.24 * beam), jitter(rng, TEAK), rng.uniform(0.3, 1))
    brush.block((-0.18 * length, 0.2 * length, -0.22 * beam, 0.22 * beam), 0.5, jitter(rng, WHITE, 0.05))
    brush.rectangle((-0.1 * length, 0.1 * length, -0.16 * beam, 0.16 * beam), DARK, rng.uniform(0.0, 0.5))
    mast = (0.08 * length, 0.08 * length + 0.25, -0.12, 0.13)
    brush.shade_rectangle(mast, 1.25 * length)
    cover = jitter(rng, (BLUE, NAVY, WHITE, CREAM, RED, DARK)[int(rng.integers(6))])
    brush.rectangle((-0.34 * length, 0.08 * length, -0.18, 0.18), cover)
    brush.rectangle(mast, WHITE)


def _catamaran(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    brush.rectangle((0.15 * length, 0.5 * length, -0.22 * beam, 0.22 * beam), DARK, rng.uniform(0.4, 0.8))
    brush.block((-0.32 * length, 0.14 * length, -0.36 * beam, 0.36 * beam), 1.2, jitter(rng, WHITE))
    brush.rectangle((0.06 * length, 0.13 * length, -0.3 * beam, 0.3 * beam), DARK, 0.6)
    brush.shade_rectangle((0.1 * length, 0.1 * length + 0.25, -0.12, 0.13), 1.3 * length)


def _fishing_boat(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    at = 0.18 if rng.random() < 0.6 else -0.28
    house(rng, brush, at * length, (rng.uniform(0.16, 0.26) * length, 0.6 * beam, 0.12 * length))
    clutter = max(2, int(length / 4))
    for _ in range(clutter):
        u = rng.uniform(-0.42, 0.02 if at > 0 else 0.3) * length
        v, size = rng.uniform(-0.25, 0.25) * beam, rng.uniform(0.4, 1.6)
        brush.block((u, u + size, v - size / 2, v + size / 2), 0.8, jitter(rng, PAINTS[int(rng.integers(12))]))
    brush.rectangle((-0.3 * length, 0.3 * length, -0.12, 0.12), GREY, 0.7)
    if rng.random() < 0.3:
        brush.rectangle((-0.1 * length, -0.1 * length + 0.3, -0.45 * beam, 0.45 * beam), WHITE, 0.8)


def _tug(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    house(rng, brush, 0.1 * length, (0.36 * length, 0.55 * beam, 5.0))
    brush.disc(-0.2 * length, 0.0, 0.07 * length, DARK)
    brush.disc(0.1 * length, 0.18 * beam, 0.05 * length, jitter(rng, RED))


def _ferry(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    u0, u1 = -0.44 * length, rng.uniform(0.22, 0.34) * length
    roof = jitter(rng, (WHITE, WHITE, GREY, GREEN, CREAM)[int(rng.integers(5))])
    brush.block((u0, u1, -0.42 * beam, 0.42 * beam), 0.06 * length, roof)
    brush.block((u0 + 0.1 * length, u1 - 0.06 * length, -0.3 * beam, 0.3 * beam), 2.5, jitter(rng, roof, 0.1))
    for side in (-1, 1):
        _lifeboats(rng, brush, ship, side * 0.39 * beam, (u0, u1))
    brush.rectangle((u1 - 0.03 * length, u1, -0.42 * beam, 0.42 * beam), DARK, 0.6)
    funnel = -0.15 * length
    brush.block(
        (funnel, funnel + 0.07 * length, -0.09 * beam, 0.09 * beam),
        5.0,
        jitter(rng, RED if rng.random() < 0.5 else NAVY),
    )


def _lifeboats(rng: np.random.Generator, brush: Brush, ship: Ship, v: float, span: tuple[float, float]) -> None:
    step = max(0.07 * ship.length_m, 9.0)
    for u in np.arange(span[0] + step, span[1] - step, step).tolist():
        brush.rectangle((u, u + 0.55 * step, v - 1.1, v + 1.1), ORANGE if rng.random() < 0.8 else WHITE)


def _barge(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    hold = (-0.44 * length, 0.42 * length, -0.4 * beam, 0.4 * beam)
    drawn = rng.random()
    if drawn < 0.4:
        cargo = np.array((TAN, DARK, RUST, GREY)[int(rng.integers(4))], np.float32)
        heaps = np.stack([jitter(rng, cargo, 0.15) for _ in range(30)]).reshape(10, 3, 3)
        brush.rectangle(hold, DARK)
        brush.cells((hold[0] + 1, hold[1] - 1, hold[2] + 0.5, hold[3] - 0.5), heaps)
    elif drawn < 0.7:
        brush.cells(hold, hatch_covers(rng, int(rng.integers(3, 9)), 1))
    elif drawn < 0.85:
        brush.rectangle(hold, DARK, 0.8)
    if rng.random() < 0.3:
        house(rng, brush, -0.42 * length, (0.1 * length, 0.6 * beam, 4.0))


def _river_ship(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    hold = (-0.3 * length, 0.4 * length, -0.38 * beam, 0.38 * beam)
    drawn = rng.random()
    if drawn < 0.35:
        brush.cells(hold, hatch_covers(rng, int(rng.integers(8, 20)), 1))
    elif drawn < 0.6:
        brush.cells(hold, container_colours(rng, int(length / 13), 4))
    else:
        brush.rectangle(hold, jitter(rng, (DARK, TAN, RUST)[int(rng.integers(3))], 0.2))
    house(rng, brush, -0.39 * length, (0.1 * length, 0.75 * beam, 5.0))


def _bulk_carrier(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    count = int(np.clip(length / 28 + rng.normal(0, 1), 3, 10))
    hatch = jitter(rng, WORKING[int(rng.integers(len(WORKING)))], 0.2)
    opened = rng.random() < 0.25
    start, stop = -0.36 * length, 0.41 * length
    pitch, half = (stop - start) / count, rng.uniform(0.24, 0.33) * beam
    cranes = rng.random() < 0.5 and length < 220
    for i in range(count):
        u = start + pitch * i
        top = np.array(DARK, np.float32) if opened and rng.random() < 0.6 else jitter(rng, hatch, 0.05)
        brush.block((u + 0.14 * pitch, u + 0.86 * pitch, -half, half), 2.0, top)
        brush.rectangle((u + 0.14 * pitch, u + 0.86 * pitch, -0.25, 0.25), DARK, 0.4)
        if cranes and i % 2:
            brush.block((u - 0.1 * pitch, u + 0.1 * pitch, -0.08 * beam, 0.08 * beam), 14.0, jitter(rng, CREAM))
            brush.block((u, u + 0.9 * pitch, -0.03 * beam, 0.03 * beam), 12.0, jitter(rng, CREAM))
    house(rng, brush, -0.425 * length, (min(0.09 * length, 18), 0.8 * beam, min(0.14 * length, 26)))
    brush.rectangle((0.43 * length, 0.45 * length, -0.1 * beam, 0.1 * beam), GREY, 0.7)


def _container_ship(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    house_at = -0.38 if length < 240 or rng.random() < 0.3 else rng.choice([-0.25, 0.1])
    across = max(3, int(0.9 * beam / 2.5))
    load = rng.uniform(0.3, 1.0)
    for u in np.arange(-0.47 * length, 0.38 * length, 14.0).tolist():
        if abs(u + 6 - house_at * length) < 16 or rng.random() > load:
            brush.rectangle((u, u + 12.6, -0.36 * beam, 0.36 * beam), DARK, 0.35)
            continue
        bow = np.clip((0.5 * length - u - 12) / (0.3 * length), 0.45, 1.0)
        half = 0.46 * beam * float(bow) * (1.0 if rng.random() < 0.8 else 0.7)
        brush.shade_rectangle((u, u + 12.6, -half, half), rng.uniform(2, 16))
        brush.cells((u, u + 12.6, -half, half), container_colours(rng, 1 if rng.random() < 0.7 else 2, across))
    house(rng, brush, house_at * length, (14.0 if length > 150 else 9.0, 0.92 * beam, min(0.15 * length, 38)))


def _tanker(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    pipe = jitter(rng, (GREY, WHITE, DARK, RED, TAN)[int(rng.integers(5))], 0.15)
    for v in np.linspace(-0.05, 0.05, int(rng.integers(1, 4))).tolist():
        brush.rectangle((-0.34 * length, 0.42 * length, v * beam - 0.5, v * beam + 0.5), pipe)
    manifold = rng.uniform(-0.02, 0.06) * length
    for du in (-0.02, 0.0, 0.02):
        u = manifold + du * length
        brush.rectangle((u - 0.4, u + 0.4, -0.4 * beam, 0.4 * beam), pipe)
    brush.block((manifold - 1, manifold + 1, -1.5, 1.5), 10, jitter(rng, WHITE))
    for u in np.linspace(-0.3, 0.36, int(rng.integers(4, 9))).tolist():
        brush.rectangle((u * length - 0.4, u * length + 0.4, -0.46 * beam, 0.46 * beam), pipe, rng.uniform(0.1, 0.5))
    if rng.random() < 0.12:
        for u in np.linspace(-0.2, 0.28, 4).tolist():
            brush.shade_disc(u * length, 0, 0.42 * beam, 10.0)
            brush.disc(u * length, 0, 0.42 * beam, jitter(rng, WHITE))
    house(rng, brush, -0.41 * length, (min(0.12 * length, 26), 0.82 * beam, min(0.14 * length, 28)))
    if length > 120 and rng.random() < 0.4:
        helipad(brush, 0.2 * length, 0.25 * beam)


def _car_carrier(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    for u in np.arange(-0.45, 0.4, rng.uniform(0.05, 0.12)).tolist():
        brush.rectangle((u * length, u * length + 0.5, -0.47 * beam, 0.47 * beam), DARK, rng.uniform(0.05, 0.3))
    for _ in range(int(rng.integers(6, 20))):
        u, v = rng.uniform(-0.45, 0.3) * length, rng.uniform(-0.4, 0.4) * beam
        brush.block((u, u + rng.uniform(1, 4), v - 1, v + 1), 2.0, jitter(rng, GREY, 0.3))
    house(rng, brush, 0.36 * length, (0.06 * length, 0.8 * beam, 5.0))


def _naval_ship(rng: np.random.Generator, brush: Brush, ship: Ship) -> None:
    length, beam = ship.length_m, ship.beam_m
    tone = jitter(rng, (0.58, 0.60, 0.62), 0.12)
    u = -0.22 * length
    while u < 0.2 * length:
        long = rng.uniform(0.08, 0.2) * length
        half = rng.uniform(0.22, 0.4) * beam
        brush.block((u, u + long, -half, half), rng.uniform(3, 9), jitter(rng, tone, 0.08))
        brush.block(
            (u + 0.3 * long, u + 0.5 * long, -0.1 * beam, 0.1 * beam),
            rng.uniform(4, 12),
            jitter(rng, DARK, 0.3),
        )
        u += long + rng.uniform(0.0, 0.05) * length
    for at in (0.26, 0.33)[: int(rng.integers(1, 3))]:
        brush.disc(at * length, 0, 0.16 * beam, tone * 0.8)
        brush.rectangle((at * length, at * length + 0.05 * length, -0.4, 0.4), tone * 0.6)
    helipad(brush, -0.36 * length, 0.3 * beam)


RECIPES: dict[str, Recipe] = {
    "motorboat": _motorboat,
    "motor yacht": _motor_yacht,
    "sailing yacht": _sailing_yacht,
    "catamaran": _catamaran,
    "fishing boat": _fishing_boat,
    "tug": _tug,
    "ferry": _ferry,
    "barge": _barge,
    "river ship": _river_ship,
    "bulk carrier": _bulk_carrier,
    "container ship": _container_ship,
    "tanker": _tanker,
    "car carrier": _car_carrier,
    "naval ship": _naval_ship,
}
