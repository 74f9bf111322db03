"""Scenes of known objects of every kind that is hard at a seam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import affinity
from shapely.geometry import Polygon

from geoseg.window import Window

GAP = 6.0
"""Pixels between clusters; inside a cluster (a terrace, a fleet) there may be none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """True objects on one raster. Columns of length n."""

    area: Window
    """The raster."""
    geometry: NDArray[Any]
    """``(n,)`` true outlines in grid pixels, cut to the raster."""
    labels: NDArray[np.int64]
    """``(n,)`` class."""
    kinds: NDArray[Any]
    """``(n,)`` name of the kind of object."""

    def __len__(self) -> int:
        return len(self.geometry)


Cluster = list[tuple[Any, int]]
Maker = Callable[[np.random.Generator, float], Cluster]


def _box(width: float, height: float, x: float = 0.0, y: float = 0.0) -> Any:
    return shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def small(rng: np.random.Generator, core: float) -> Cluster:
    """Rectangles of 10 to 24 px along the axes."""
    return [(_box(rng.uniform(10, 24), rng.uniform(10, 24)), 0)]


def rotated(rng: np.random.Generator, core: float) -> Cluster:
    """Rectangles of 14 to 60 px at any angle."""
    return [(affinity.rotate(_box(rng.uniform(20, 60), rng.uniform(14, 40)), rng.uniform(0, 180)), 0)]


def ell(rng: np.random.Generator, core: float) -> Cluster:
    """L-shapes of 40 to 160 px, arms 12 px and more."""
    width, height = rng.uniform(40, 160, 2)
    arm = rng.uniform(12, 0.5 * min(width, height))
    shape = _box(width, height).difference(_box(width, height, arm, arm))
    return [(affinity.rotate(shape, rng.uniform(0, 360), origin=(0, 0)), 0)]


def large(rng: np.random.Generator, core: float) -> Cluster:
    """Halls of 0.4 to 0.9 of a tile: larger than the halo."""
    shape = _box(core * rng.uniform(0.4, 0.9), core * rng.uniform(0.25, 0.6))
    return [(affinity.rotate(shape, rng.uniform(0, 180)), 0)]


def huge(rng: np.random.Generator, core: float) -> Cluster:
    """Larger than a tile in both directions, with a bite taken out."""
    width, height = core * rng.uniform(1.2, 1.8, 2)
    shape = _box(width, height).difference(_box(width / 2, height / 2, width / 2, height / 2))
    return [(affinity.rotate(shape, rng.uniform(0, 360), origin=(0, 0)), 0)]


def strip(rng: np.random.Generator, core: float) -> Cluster:
    """10 to 24 px wide, 2 to 6 tiles long, at any angle."""
    return [(affinity.rotate(_box(core * rng.uniform(2, 6), rng.uniform(10, 24)), rng.uniform(0, 180)), 0)]


def courtyard(rng: np.random.Generator, core: float) -> Cluster:
    """A block round a yard, and a separate building in the yard."""
    width, height = rng.uniform(70, 180, 2)
    wall = rng.uniform(12, 18)
    yard = _box(width - 2 * wall, height - 2 * wall)
    block = _box(width, height).difference(yard)
    inner = _box((width - 2 * wall) * rng.uniform(0.35, 0.6), (height - 2 * wall) * rng.uniform(0.35, 0.6))
    return _turned([block, inner], rng.uniform(0, 180))


def fleet(rng: np.random.Generator, core: float) -> Cluster:
    """Hulls moored side by side at an angle, 0 to 2 px apart: their boxes overlap, they do not."""
    length, beam, gap = rng.uniform(45, 130), rng.uniform(10, 18), rng.choice([0.0, 1.0, 2.0])
    hull = Polygon(
        [
            (-length / 2, -beam / 2),
            (length * 0.35, -beam / 2),
            (length / 2, 0),
            (length * 0.35, beam / 2),
            (-length / 2, beam / 2),
        ]
    )
    hulls = [affinity.translate(hull, rng.uniform(-4, 4), k * (beam + gap)) for k in range(int(rng.integers(3, 8)))]
    return _turned(hulls, rng.uniform(0, 180))


def terrace(rng: np.random.Generator, core: float) -> Cluster:
    """Houses that share walls: no gap at all."""
    depth, widths = rng.uniform(16, 34), rng.uniform(12, 24, int(rng.integers(4, 12)))
    ends = np.concatenate([[0], np.cumsum(widths)])
    houses = [shapely.box(a, 0, b, depth) for a, b in pairwise(ends)]
    return _turned(houses, rng.choice([0.0, 90.0, rng.uniform(0, 180)]))


def pinched(rng: np.random.Generator, core: float) -> Cluster:
    """A ring that touches itself in one point."""
    size = rng.uniform(50, 140)
    shell = [(0, 0), (size, 0), (size, size), (0, size)]
    hole = [(size / 2, 0), (size * 0.75, size * 0.4), (size / 2, size * 0.7), (size * 0.25, size * 0.4)]
    return _turned([Polygon(shell, [hole])], rng.uniform(0, 360))


def overlap(rng: np.random.Generator, core: float) -> Cluster:
    """Two classes on one ground: a quay crane over a stack of containers."""
    stack = _box(rng.uniform(50, 140), rng.uniform(30, 90))
    crane = _box(rng.uniform(14, 24), rng.uniform(60, 140), rng.uniform(-20, 20), rng.uniform(-20, 20))
    angle = rng.uniform(0, 180)
    return [
        (affinity.rotate(stack, angle, origin=(0, 0)), 0),
        (affinity.rotate(crane, angle, origin=(0, 0)), 1),
    ]


def _turned(shapes: list[Any], angle: float) -> Cluster:
    return [(affinity.rotate(shape, angle, origin=(0, 0)), 0) for shape in shapes]


KINDS: dict[str, tuple[Maker, int]] = {
    "huge": (huge, 2),
    "strip": (strip, 8),
    "large": (large, 10),
    "courtyard": (courtyard, 24),
    "fleet": (fleet, 24),
    "terrace": (terrace, 22),
    "ell": (ell, 50),
    "pinched": (pinched, 24),
    "overlap": (overlap, 24),
    "rotated": (rotated, 150),
    "small": (small, 300),
}
"""Maker and number of clusters of each kind, the large first so that they find a place."""


def scene(seed: int, *, core: float = 512.0, height: int = 2900, width: int = 3700) -> Scene:
    """A scene; sizes of large objects follow ``core``, the side of a tile's core in pixels."""
    rng = np.random.default_rng(seed)
    frame = shapely.box(0, 0, width, height)
    taken: list[Any] = []
    found: list[tuple[Any, int, str]] = []
    for kind, (make, number) in KINDS.items():
        for _ in range(number):
            for _attempt in range(40):
                cluster = make(rng, core)
                shift = rng.uniform(0, width), rng.uniform(0, height)
                cluster = [(affinity.translate(shape, *shift), label) for shape, label in cluster]
                ground = shapely.union_all([shape for shape, _ in cluster])
                if not (taken and shapely.dwithin(np.array(taken), ground, GAP).any()):
                    taken.append(ground)
                    found += [(shape, label, kind) for shape, label in cluster]
                    break
    geometry = shapely.intersection(np.array([shape for shape, _, _ in found]), frame)
    inside = np.array([frame.contains_properly(shape) for shape, _, _ in found])
    # what the raster's edge leaves of an object has to be an object still
    keep = (shapely.get_num_geometries(geometry) == 1) & (shapely.area(shapely.buffer(geometry, -4)) > 0)
    kinds = np.where(inside, np.array([kind for _, _, kind in found]), "at the edge")
    return Scene(
        area=Window(row_off=0, col_off=0, height=height, width=width),
        geometry=geometry[keep],
        labels=np.array([label for _, label, _ in found], np.int64)[keep],
        kinds=kinds[keep],
    )
