"""Ships: a hull with a bow, its length, its beam and its axis."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BOWS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""How far the bow tapers, as shares of the length."""

STERNS = ((0.0, 1.0), (0.1, 0.5), (0.2, 0.5), (0.1, 0.0), (0.3, 0.0))
"""How far the stern tapers, as shares of the length, and its breadth at the end, as shares of the beam."""

_TURN = 0.01
"""A hull that points the other way has to fit (IoU) by so much better."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Hulls:
    """Fitted hulls. A table of columns of length n."""

    geometry: NDArray[Any]
    """``(n,)`` Polygon of 4 to 8 corners, symmetric about the axis."""
    length: Floats
    """``(n,)`` along the axis, in the units of the frame."""
    beam: Floats
    """``(n,)`` across it."""
    axis: Floats
    """``(n,)`` direction of the axis towards the bow, 0 <= radians < 2 pi, counted from x towards y."""


def fit_hulls(geometry: NDArray[Any]) -> Hulls:
    """Hulls with the length and the beam of the outlines, and the bow and stern that fit them best.

    The axis is the long side of the smallest rectangle around an outline. Of a few bows and sterns, the pair of
    the highest IoU is taken. The bow points away from the outline's centre of area (a bow is slimmer than a
    stern), unless the other way round fits clearly better.

    Args:
        geometry: ``(n,)`` Polygons or MultiPolygons with area, in a frame with square units (pixels or metres).
    """
    geometry = np.asarray(geometry, dtype=object)
    corners = shapely.get_coordinates(shapely.oriented_envelope(geometry)).reshape(-1, 5, 2)
    sides = corners[:, 1:3] - corners[:, 0:2]
    size = np.hypot(sides[..., 0], sides[..., 1])
    longest = np.argmax(size, axis=1)
    every = np.arange(len(geometry))
    length, beam = size[every, longest], size[every, 1 - longest]
    along = sides[every, longest] / length[:, None]
    middle = corners[:, :4].mean(axis=1)
    centre = shapely.get_coordinates(shapely.centroid(geometry)).reshape(-1, 2)
    ahead = ((middle - centre) * along).sum(axis=1)
    along = np.where(ahead[:, None] < 0, -along, along)
    best, fit = _best(geometry, middle, along, length, beam)
    turned, turned_fit = _best(geometry, middle, -along, length, beam)
    turn = turned_fit > fit + _TURN
    along = np.where(turn[:, None], -along, along)
    return Hulls(
        geometry=np.where(turn, turned, best),
        length=length,
        beam=beam,
        axis=np.arctan2(along[:, 1], along[:, 0]) % (2 * np.pi),
    )


def _best(
    geometry: NDArray[Any], middle: Floats, along: Floats, length: Floats, beam: Floats
) -> tuple[NDArray[Any], Floats]:
    """The hull of the best fit for each outline, and its IoU."""
    best, fit = np.full(len(geometry), shapely.Polygon(), dtype=object), np.full(len(geometry), -1.0)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    for bow, (stern, breadth) in product(BOWS, STERNS):
        forward, aside = _corners(bow, stern, breadth)
        xy = middle[:, None] + (length[:, None] * forward)[..., None] * along[:, None]
        xy = xy + (beam[:, None] * aside)[..., None] * across[:, None]
        hull = shapely.polygons(xy)
        both = shapely.area(shapely.intersection(hull, geometry))
        iou = both / (shapely.area(hull) + shapely.area(geometry) - both)
        better = iou > fit
        best, fit = np.where(better, hull, best), np.where(better, iou, fit)
    return best, fit


def _corners(bow: float, stern: float, breadth: float) -> tuple[Floats, Floats]:
    """A closed ring about the middle: shares of the length ahead, shares of the beam to the left."""
    left = [(-0.5, breadth / 2), (stern - 0.5, 0.5), (0.5 - bow, 0.5)]
    tip = [(0.5, 0.0)] if bow else []
    ring = list(dict.fromkeys([*left, *tip, *((f, -a) for f, a in reversed(left))]))
    forward, aside = np.array([*ring, ring[0]]).T
    return forward, aside
