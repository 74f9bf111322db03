"""Ships as they are seen from above: kinds, sizes, and the outline of the hull."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.scenes.brush import Frame
from geoseg.scenes.texture import Floats

_STATIONS = 33
_MIN_LENGTH_PX, _MIN_BEAM_PX = 10.0, 3.2
"""Below this nobody can tell a hull from a wave."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the ships of a kind have in common; every pair is a range (low, high)."""

    length_m: tuple[float, float]
    """Over all."""
    slenderness: tuple[float, float]
    """Length over beam."""
    bow_start: tuple[float, float]
    """Where the hull starts to narrow towards the bow, share of the length from the stern."""
    bow_power: tuple[float, float]
    """1: straight lines to the stem; 3: full, round shoulders."""
    bow_width: float
    """Width left at the very stem, share of the beam: 0 is pointed."""
    stern_width: tuple[float, float]
    """Width of the transom, share of the beam."""
    stern_length: tuple[float, float]
    """Over what share of the length the hull widens from the transom to the full beam."""


def _kind(*ranges: tuple[float, float], bow_width: float = 0.0) -> Kind:
    length, slenderness, start, power, stern, run = ranges
    return Kind(
        length_m=length,
        slenderness=slenderness,
        bow_start=start,
        bow_power=power,
        bow_width=bow_width,
        stern_width=stern,
        stern_length=run,
    )


# Rounded from common size classes of ships (Handysize to VLCC, feeder to 24,000 TEU).
KINDS: dict[str, Kind] = {
    "motorboat": _kind((6, 16), (2.5, 3.5), (0.35, 0.6), (1.7, 2.6), (0.8, 0.98), (0.05, 0.3)),
    "motor yacht": _kind((15, 60), (3.8, 5.2), (0.45, 0.6), (1.7, 2.4), (0.75, 0.95), (0.05, 0.25)),
    "sailing yacht": _kind((7, 24), (2.9, 3.9), (0.35, 0.5), (1.5, 2.1), (0.4, 0.9), (0.3, 0.45)),
    "catamaran": _kind((9, 20), (1.7, 2.2), (0.6, 0.8), (2.0, 3.0), (0.9, 1.0), (0.03, 0.1), bow_width=0.55),
    "fishing boat": _kind((9, 45), (2.8, 4.0), (0.55, 0.75), (1.8, 2.6), (0.7, 0.95), (0.05, 0.2)),
    "tug": _kind((16, 40), (2.5, 3.3), (0.65, 0.75), (2.0, 2.8), (0.6, 0.85), (0.1, 0.25)),
    "ferry": _kind((25, 200), (4.0, 6.8), (0.65, 0.85), (1.8, 2.6), (0.75, 0.98), (0.03, 0.12)),
    "barge": _kind((20, 90), (3.2, 6.0), (0.92, 0.97), (2.0, 3.0), (0.85, 1.0), (0.02, 0.06), bow_width=0.75),
    "river ship": _kind((55, 135), (7.5, 10.5), (0.88, 0.95), (1.8, 2.6), (0.55, 0.85), (0.03, 0.08)),
    "bulk carrier": _kind((70, 300), (5.6, 7.0), (0.84, 0.91), (1.9, 2.7), (0.6, 0.85), (0.06, 0.14)),
    "container ship": _kind((90, 366), (6.0, 7.8), (0.72, 0.85), (1.7, 2.3), (0.8, 0.98), (0.03, 0.1)),
    "tanker": _kind((60, 350), (5.4, 6.6), (0.85, 0.92), (1.9, 2.7), (0.55, 0.8), (0.07, 0.15)),
    "car carrier": _kind((110, 230), (5.6, 6.8), (0.86, 0.93), (2.2, 3.0), (0.9, 1.0), (0.02, 0.06)),
    "naval ship": _kind((40, 180), (7.0, 9.5), (0.4, 0.6), (1.6, 2.2), (0.65, 0.85), (0.15, 0.35)),
}


@dataclass(frozen=True, kw_only=True)
class Ship:
    """One hull, in metres: u from the stern (-length/2) to the bow (+length/2), v to starboard."""

    kind: str
    """A key of `KINDS`."""
    length_m: float
    """Over all, metres."""
    beam_m: float
    """Greatest width, metres."""
    half_width_m: Floats
    """(n,), half the hull's width at n stations, equally spaced in u from stern to bow."""

    def stations(self) -> Floats:
        """(n,), u of the stations, metres."""
        return np.linspace(-self.length_m / 2, self.length_m / 2, len(self.half_width_m), dtype=np.float32)

    def outline(self, frame: Frame) -> shapely.Polygon:
        """The hull as a polygon in pixel space, for a ship whose middle lies at the frame's origin."""
        u, half = self.stations(), self.half_width_m
        uv = np.concatenate([np.column_stack([u, half]), np.column_stack([u, -half])[::-1]])
        return shapely.Polygon(frame.to_pixels(uv))


def smallest_length(kind: Kind, gsd_m: float) -> float:
    """Shortest length, metres, at which the slimmest ship of the kind still has enough pixels to be seen."""
    return max(kind.length_m[0], _MIN_LENGTH_PX * gsd_m, _MIN_BEAM_PX * gsd_m * kind.slenderness[0])


def draw_ship(
    rng: np.random.Generator, name: str, gsd_m: float, longest_m: float = 1e9, shortest_m: float = 0.0
) -> Ship | None:
    """A ship of that kind, long enough to be seen at `gsd_m`, at most `longest_m`; None if there is none.

    Lengths are drawn evenly in the logarithm: small ships are the common ones. Those below `shortest_m` are
    left out if the kind has longer ones.
    """
    kind = KINDS[name]
    low, high = smallest_length(kind, gsd_m), min(kind.length_m[1], longest_m)
    if low >= high:
        return None
    low = max(low, min(shortest_m, 0.7 * high))
    length = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    slender = min(rng.uniform(*kind.slenderness), length / (_MIN_BEAM_PX * gsd_m))
    beam = length / max(slender, kind.slenderness[0])
    return Ship(kind=name, length_m=length, beam_m=beam, half_width_m=_half_widths(rng, kind, beam))


def _half_widths(rng: np.random.Generator, kind: Kind, beam_m: float) -> Floats:
    t: NDArray[np.float64] = np.linspace(0.0, 1.0, _STATIONS)
    start, power = rng.uniform(*kind.bow_start), rng.uniform(*kind.bow_power)
    stern, run = rng.uniform(*kind.stern_width), rng.uniform(*kind.stern_length)
    fore = np.clip((t - start) / (1.0 - start), 0.0, 1.0)
    bow = kind.bow_width + (1.0 - kind.bow_width) * (1.0 - fore**power)
    aft = np.clip(1.0 - t / run, 0.0, 1.0)
    width = bow * (stern + (1.0 - stern) * np.sqrt(1.0 - aft**2))
    # The stem is never a needle at the scale of an image.
    width = np.maximum(width, 0.04)
    return np.asarray(width * beam_m / 2, np.float32)
