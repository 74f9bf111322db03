"""Which ground of an image a chip shows.

Each function gives the centre of a chip in image pixels, of which ``half`` make half its side; always on labelled
ground.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.training.config import Sampling
from geoseg.training.labelled import Labelled

Shown = Literal["hard", "empty", "objects", "anywhere"]
_ASKED: tuple[Shown, ...] = ("hard", "empty", "objects", "anywhere")
XY = tuple[float, float]
_TRIES = 16
"""Places that are tried before the last one is taken."""

_EMPTY_TRIES = 64
"""Places that are tried for one without an object: enough where a twentieth of the ground will do."""


def shown(sampling: Sampling, rng: np.random.Generator) -> Shown:
    """What a chip is asked to show."""
    shares = np.cumsum([sampling.hard, sampling.empty, sampling.objects])
    return _ASKED[int(np.searchsorted(shares, rng.random(), side="right"))]


def near_object(image: Labelled, rng: np.random.Generator, half: float, label: int) -> XY:
    """Near an object of a class (from 1); where the image has none, near any."""
    rows = image.members.get(label, np.arange(len(image.polygons)))
    if not len(rows):
        return anywhere(image, rng, half)
    return _around(image.centres_xy[rows[int(rng.integers(len(rows)))]], image, rng, half)


def near_hard(image: Labelled, rng: np.random.Generator, half: float) -> XY:
    """Near something that was wrongly found; anywhere where nothing was."""
    if not len(image.hard_xy):
        return anywhere(image, rng, half)
    return _around(image.hard_xy[int(rng.integers(len(image.hard_xy)))], image, rng, half)


def on_empty(image: Labelled, rng: np.random.Generator, half: float) -> XY | None:
    """Where the chip shows no object; None where no such place was found."""
    reach = 1.42 * half  # however it is turned
    for _ in range(_EMPTY_TRIES):
        x, y = anywhere(image, rng, half)
        if not len(image.tree.query(shapely.box(x - reach, y - reach, x + reach, y + reach))):
            return x, y
    return None


def anywhere(image: Labelled, rng: np.random.Generator, half: float) -> XY:
    """On labelled ground, any with the same chance."""
    return _labelled(image, rng, half, lambda: _anywhere(image, rng))


def _around(xy: NDArray[np.float64], image: Labelled, rng: np.random.Generator, half: float) -> XY:
    """Such that the chip shows a place, mostly."""
    return _labelled(image, rng, half, lambda: xy + rng.uniform(-0.7, 0.7, 2) * half)


def _labelled(image: Labelled, rng: np.random.Generator, half: float, draw: Callable[[], NDArray[np.float64]]) -> XY:
    """A centre that is drawn until it lies on labelled ground, where need be any that does."""
    for _ in range(_TRIES):
        if image.is_labelled(centre := _within(image, draw(), half)):
            return centre
    x, y = _anywhere(image, rng)
    return float(x), float(y)


def _anywhere(image: Labelled, rng: np.random.Generator) -> NDArray[np.float64]:
    """A place on labelled ground, any with the same chance."""
    if not image.parts:
        return rng.uniform(0, 1, 2) * (image.pixels.width, image.pixels.height)
    areas = shapely.area(image.parts)
    part = image.parts[int(rng.choice(len(areas), p=areas / areas.sum()))]
    left, top, right, bottom = part.bounds
    for _ in range(_TRIES):
        xy = rng.uniform((left, top), (right, bottom))
        if shapely.contains_xy([part], *xy)[0]:  # a list, for shapely prepares what comes alone: see Labelled.parts
            return np.asarray(xy)
    return np.asarray(shapely.get_coordinates(part.representative_point())[0], np.float64)


def _within(image: Labelled, centre: NDArray[np.float64], half: float) -> XY:
    """Moved so far in that the chip shows little beyond the image."""
    limit = np.array([image.pixels.width, image.pixels.height], float)
    rim = np.minimum(0.85 * half, limit / 2)
    x, y = np.clip(centre, rim, limit - rim)
    return float(x), float(y)
