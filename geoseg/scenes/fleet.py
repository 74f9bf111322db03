"""Which ships lie where: placed one by one, never on land and never over each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.scenes.brush import Frame
from geoseg.scenes.hull import Ship, draw_ship
from geoseg.scenes.shore import Berth

_TOUCH_PX2 = 0.05
"""Overlap below this is two hulls that touch."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A ship in the scene."""

    ship: Ship
    """What it is."""
    frame: Frame
    """Origin amidships, u towards the bow."""
    outline: shapely.Polygon
    """Its hull in pixel space, not cut at the scene's edge."""
    moving: bool
    """Under way, with a wake."""


class Fleet:
    """The ships of a scene; what lies on land, on another ship or outside the scene is turned away."""

    def __init__(
        self, rng: np.random.Generator, shape_hw: tuple[int, int], land: shapely.Geometry, gsd_m: float
    ) -> None:
        self.rng = rng
        self.gsd_m = gsd_m
        self.shortest_m = 0.0  # what `draw` leaves out, metres
        self.ships: list[Placed] = []
        self._scene = shapely.box(0, 0, shape_hw[1], shape_hw[0])
        self._land = land
        shapely.prepare(self._land)
        self._bounds: NDArray[np.float64] = np.empty((64, 4))

    def add(self, ship: Ship, frame: Frame, *, moving: bool = False) -> bool:
        """Place a ship; False if there is no room for it."""
        outline = ship.outline(frame)
        if not self._scene.intersects(outline) or self._on_land(outline) or self._on_ship(outline):
            return False
        count = len(self.ships)
        if count == len(self._bounds):
            self._bounds = np.concatenate([self._bounds, np.empty_like(self._bounds)])
        self._bounds[count] = outline.bounds
        self.ships.append(Placed(ship=ship, frame=frame, outline=outline, moving=moving))
        return True

    def draw(self, kinds: tuple[str, ...], longest_m: float) -> Ship | None:
        """A ship of one of the kinds, None if none of them has one that fits."""
        for name in self.rng.permutation(kinds).tolist():
            ship = draw_ship(self.rng, name, self.gsd_m, longest_m, self.shortest_m)
            if ship is not None:
                return ship
        return None

    def gap(self) -> float:
        """Water between two hulls that lie side by side, metres: often none at all."""
        return 0.0 if self.rng.random() < 0.35 else float(self.rng.uniform(0, 2)) * self.gsd_m

    def _on_land(self, outline: shapely.Polygon) -> bool:
        return bool(self._land.intersects(outline)) and bool(self._land.intersection(outline).area > _TOUCH_PX2)

    def _on_ship(self, outline: shapely.Polygon) -> bool:
        left, top, right, bottom = outline.bounds
        near = self._bounds[: len(self.ships)]
        hits = (near[:, 0] < right) & (near[:, 2] > left) & (near[:, 1] < bottom) & (near[:, 3] > top)
        return any(self.ships[i].outline.intersection(outline).area > _TOUCH_PX2 for i in np.flatnonzero(hits))


def moor_alongside(fleet: Fleet, berth: Berth, kinds: tuple[str, ...], longest_m: float) -> None:
    """Ships in a line along the berth, here and there with others made fast outside them."""
    rng = fleet.rng
    fill = rng.uniform(0.25, 0.95)
    rafts = rng.choice([0.05, 0.2, 0.6])
    u = rng.uniform(0, 10)
    while u < berth.length_m:
        ship = fleet.draw(kinds, min(longest_m, berth.length_m - u))
        if ship is None:
            return
        if rng.random() < fill:
            turn = math.pi if rng.random() < 0.5 else 0.0
            side = rng.uniform(0, 1.5) + fleet.gsd_m * 0.2
            added = fleet.add(ship, berth.frame.moved(u + ship.length_m / 2, side + ship.beam_m / 2, turn))
            if added and rng.random() < rafts:
                middle = berth.frame.moved(u + ship.length_m / 2, side + ship.beam_m)
                raft(fleet, middle, ship, int(rng.integers(1, 5)))
        u += ship.length_m * rng.uniform(1.03, 1.25) + rng.uniform(0, 6)


def raft(fleet: Fleet, frame: Frame, like: Ship, count: int) -> None:
    """Ships of one sort side by side, the first against v = 0 of the frame and each next one outside it."""
    rng, v = fleet.rng, 0.0
    for _ in range(count):
        ship = draw_ship(rng, like.kind, fleet.gsd_m, 1.25 * like.length_m)
        if ship is None or ship.length_m < 0.5 * like.length_m:
            ship = like
        v += fleet.gap() + ship.beam_m / 2
        turn = (math.pi if rng.random() < 0.5 else 0.0) + rng.normal(0, 0.004)
        shift = rng.normal(0, 0.08) * like.length_m
        if not fleet.add(ship, frame.moved(shift, v, turn)):
            return
        v += ship.beam_m / 2


def moor_end_on(fleet: Fleet, berth: Berth, kinds: tuple[str, ...], slot_m: float) -> None:
    """Boats side by side with bow or stern to the berth, none longer than `slot_m`."""
    rng = fleet.rng
    fill = rng.uniform(0.5, 1.0)
    tight = rng.random() < 0.5
    bow_in = rng.uniform(0, 1)
    u = 0.0
    while u < berth.length_m:
        ship = fleet.draw(kinds, slot_m)
        if ship is None:
            return
        u += fleet.gap() if tight else rng.uniform(0.3, 1.5) + fleet.gsd_m
        if rng.random() < fill and ship.length_m > 0.45 * slot_m:
            turn = math.pi / 2 if rng.random() > bow_in else -math.pi / 2
            away = ship.length_m / 2 + rng.uniform(0.3, 1.5)
            fleet.add(ship, berth.frame.moved(u + ship.beam_m / 2, away, turn + rng.normal(0, 0.01)))
        u += ship.beam_m


def scatter(fleet: Fleet, shape_hw: tuple[int, int], kinds: tuple[str, ...], longest_m: float, count: int) -> None:
    """Ships on open water: at anchor, all swung to one heading and some in rafts, or under way anywhere."""
    rng, scale = fleet.rng, 1.0 / fleet.gsd_m
    heading, swing = rng.uniform(0, math.tau), rng.choice([0.05, 0.3, 3.0])
    under_way = rng.choice([0.0, 0.2, 0.8])
    rafts = rng.choice([0.0, 0.1, 0.5])
    for _ in range(count):
        ship = fleet.draw(kinds, longest_m)
        if ship is None:
            continue
        x, y = rng.uniform(-0.03, 1.03, 2) * (shape_hw[1], shape_hw[0])
        moving = bool(rng.random() < under_way) and ship.kind != "barge"
        angle = rng.uniform(0, math.tau) if moving else heading + rng.normal(0, swing)
        frame = Frame(x=float(x), y=float(y), angle=angle, scale=scale)
        if fleet.add(ship, frame, moving=moving) and not moving and rng.random() < rafts:
            raft(fleet, frame.moved(0, ship.beam_m / 2), ship, int(rng.integers(1, 6)))
