"""Ships: a hull with a bow, its length, its beam and its axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BLUNT = 0.45
"""Longest taper of one end, as a share of the length; an outline with less area is tapered at both ends."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Hulls:
    """Fitted hulls. A table of columns of length n."""

    geometry: NDArray[Any]
    """``(n,)`` Polygon of 5 corners (a stern and a bow) or 6 (pointed at both ends)."""
    length: Floats
    """``(n,)`` along the axis, in the units of the frame."""
    beam: Floats
    """``(n,)`` across it."""
    axis: Floats
    """``(n,)`` direction of the axis towards the bow, 0 <= radians < 2 pi, counted from x towards y."""


def fit_hulls(geometry: NDArray[Any]) -> Hulls:
    """Hulls with the length, the beam and (where it is in reach) the area of the outlines.

    The axis is the long side of the smallest rectangle around an outline. The bow is the end that the
    outline's centre of area lies farther from: a bow tapers, a stern does not. How far it tapers follows from
    the area.

    Args:
        geometry: ``(n,)`` Polygons or MultiPolygons with area, in a frame with square units (pixels or
        metres).
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
    ahead = np.einsum("ij,ij->i", middle - centre, along)
    along = np.where(ahead[:, None] < 0, -along, along)
    return Hulls(
        geometry=_hulls(middle, along, length, beam, shapely.area(geometry)),
        length=length,
        beam=beam,
        axis=np.arctan2(along[:, 1], along[:, 0]) % (2 * np.pi),
    )


def _hulls(middle: Floats, along: Floats, length: Floats, beam: Floats, area: Floats) -> NDArray[Any]:
    # A tapered end of length t takes beam * t / 2 from the rectangle.
    taper = 2 * np.maximum(length - area / beam, 0.0)
    both = taper > _BLUNT * length
    taper = np.where(both, np.minimum(taper / 2, length / 2), taper)
    half = length / 2
    zero = np.zeros(len(length))
    # Along and across, in halves of length and beam, from the port quarter round the bow; the stern's tip
    # last.
    forward = np.column_stack([-half + np.where(both, taper, 0), half - taper, half, half - taper])
    forward = np.column_stack([forward, -half + np.where(both, taper, 0), -half])
    aside = np.column_stack([beam / 2, beam / 2, zero, -beam / 2, -beam / 2, np.where(both, zero, -beam / 2)])
    across = np.column_stack([-along[:, 1], along[:, 0]])
    xy = middle[:, None] + forward[..., None] * along[:, None] + aside[..., None] * across[:, None]
    rings = np.concatenate([xy, xy[:, :1]], axis=1)
    return np.asarray(shapely.remove_repeated_points(shapely.polygons(rings)), dtype=object)
