"""Which ground of an image a chip shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.training.config import Sampling
from geoseg.training.labelled import Labelled

_TRIES = 16
"""Places that are tried before the last one is taken."""


def place(image: Labelled, rng: np.random.Generator, *, half: float, sampling: Sampling) -> tuple[float, float]:
    """Centre of a chip in image pixels, of which ``half`` make half its side; always on labelled ground."""
    luck = rng.random()
    if len(image.hard_xy) and luck < sampling.hard:
        return _around(image.hard_xy[int(rng.integers(len(image.hard_xy)))], image, rng, half)
    luck -= sampling.hard if len(image.hard_xy) else 0.0
    if luck < sampling.empty:
        return _empty(image, rng, half)
    if len(image.polygons) and luck - sampling.empty < sampling.objects:
        return _around(image.centres_xy[_object(image, rng, sampling.balance)], image, rng, half)
    return _labelled(image, rng, half, lambda: _anywhere(image, rng))


def _around(xy: NDArray[np.float64], image: Labelled, rng: np.random.Generator, half: float) -> tuple[float, float]:
    """Such that the chip shows a place, mostly."""
    return _labelled(image, rng, half, lambda: xy + rng.uniform(-0.7, 0.7, 2) * half)


def _labelled(
    image: Labelled, rng: np.random.Generator, half: float, draw: Callable[[], NDArray[np.float64]]
) -> tuple[float, float]:
    """A centre that is drawn until it lies on labelled ground, where need be any that does."""
    for _ in range(_TRIES):
        if image.is_labelled(centre := _within(image, draw(), half)):
            return centre
    x, y = _anywhere(image, rng)
    return float(x), float(y)


def _object(image: Labelled, rng: np.random.Generator, balance: float) -> int:
    """An object: any with the same chance, or with ``balance`` 1 any class."""
    counts = np.array([len(rows) for rows in image.members], float) ** (1 - balance)
    rows = image.members[int(rng.choice(len(counts), p=counts / counts.sum()))]
    return int(rows[int(rng.integers(len(rows)))])


def _anywhere(image: Labelled, rng: np.random.Generator) -> NDArray[np.float64]:
    """A place on labelled ground, any with the same chance."""
    if not image.parts:
        return rng.uniform(0, 1, 2) * (image.pixels.width, image.pixels.height)
    areas = shapely.area(image.parts)
    part = image.parts[int(rng.choice(len(areas), p=areas / areas.sum()))]
    left, top, right, bottom = part.bounds
    for _ in range(_TRIES):
        xy = rng.uniform((left, top), (right, bottom))
        if shapely.contains_xy(part, *xy):
            return np.asarray(xy)
    return np.asarray(shapely.get_coordinates(part.representative_point())[0], np.float64)


def _empty(image: Labelled, rng: np.random.Generator, half: float) -> tuple[float, float]:
    for _ in range(_TRIES):
        x, y = _labelled(image, rng, half, lambda: _anywhere(image, rng))
        reach = 1.42 * half  # however it is turned
        if not len(image.tree.query(shapely.box(x - reach, y - reach, x + reach, y + reach))):
            break
    return x, y


def _within(image: Labelled, centre: NDArray[np.float64], half: float) -> tuple[float, float]:
    """Moved so far in that the chip shows little beyond the image."""
    limit = np.array([image.pixels.width, image.pixels.height], float)
    rim = np.minimum(0.85 * half, limit / 2)
    x, y = np.clip(centre, rim, limit - rim)
    return float(x), float(y)
