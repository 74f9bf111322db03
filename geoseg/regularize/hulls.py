"""Ships: a hull with a bow, its length, its beam and its axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.polygons import as_polygons
from geoseg.regularize.cells import covered
from geoseg.regularize.frame import Floats, edges, turned
from geoseg.seams.overlaps import iou

STATIONS = 40
"""Slices across the axis in which the breadth of a ship is taken."""

PLAIN = 0.03
"""Corners of the hull's outline go that lie so near, as a share of the beam, to the line between others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Hulls:
    """Fitted hulls. A table of columns of length n."""

    geometry: NDArray[Any]
    """``(n,)`` Polygon, symmetric about the axis."""
    length: Floats
    """``(n,)`` along the axis, in the units of the frame."""
    beam: Floats
    """``(n,)`` across it."""
    axis: Floats
    """``(n,)`` direction of the axis towards the bow, 0 <= radians < 2 pi, counted from x towards y."""
    fit: Floats
    """``(n,)`` IoU with the outline."""


def fit_hulls(geometry: NDArray[Any]) -> Hulls:
    """Hulls that are alike on both sides of the axis, with the length, the breadths and the area of the outlines.

    The axis is at first the long side of the smallest rectangle around an outline. Across it the breadth is taken,
    slice by slice, and the middle of each slice: the axis is then laid through the middles. Half the breadths, with
    few corners, are the hull's side. The bow points away from the outline's centre of area: a bow is slimmer than a
    stern.

    Args:
        geometry: ``(n,)`` Polygons or MultiPolygons with area, in a frame with square units (pixels or metres).

    Raises:
        ConfigError: an outline without area, or what is no table of polygons.
    """
    geometry = as_polygons(geometry)
    if not (shapely.area(geometry) > 0).all():
        raise ConfigError("outlines without area", allowed="Polygons or MultiPolygons with area")
    angle = _axes(geometry)
    angle = angle + _tilt(geometry, angle)
    level = turned(geometry, -angle)
    n = len(geometry)
    drawn, beam, length = np.empty(n, dtype=object), np.zeros(n), np.zeros(n)
    for row, (xs, half, middle) in enumerate(_slices(level)):
        ring = _outline(xs, half, float(np.average(middle, weights=half)))
        drawn[row], length[row], beam[row] = shapely.Polygon(ring), xs[-1] - xs[0], np.ptp(ring[:, 1])
    behind = shapely.get_x(shapely.centroid(level)) > shapely.bounds(drawn)[:, [0, 2]].mean(axis=1)
    hulls = turned(drawn, angle)
    return Hulls(
        geometry=hulls,
        length=length,
        beam=beam,
        axis=(angle + np.where(behind, np.pi, 0.0)) % (2 * np.pi),
        fit=iou(hulls, geometry),
    )


def _axes(geometry: NDArray[Any]) -> Floats:
    """Direction in radians of the long side of the smallest rectangle around each outline."""
    corners = shapely.get_coordinates(shapely.oriented_envelope(geometry)).reshape(-1, 5, 2)
    sides = corners[:, 1:3] - corners[:, 0:2]
    size = np.hypot(sides[..., 0], sides[..., 1])
    along = sides[np.arange(len(geometry)), np.argmax(size, axis=1)]
    return np.asarray(np.arctan2(along[:, 1], along[:, 0]), np.float64)


def _tilt(geometry: NDArray[Any], angle: Floats) -> Floats:
    """How far each axis has to turn, in radians, to run through the middles of the slices."""
    level = turned(geometry, -angle)
    slope = np.zeros(len(level))
    for row, (xs, half, middle) in enumerate(_slices(level)):
        at = (xs[1:] + xs[:-1]) / 2
        at = at - np.average(at, weights=half)
        slope[row] = (half * at * middle).sum() / (half * at * at).sum()
    return np.asarray(np.arctan(slope), np.float64)


def _slices(level: NDArray[Any]) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Of each outline the borders of slices along x, and in each half the breadth and the middle."""
    box = shapely.bounds(level).reshape(-1, 4)
    row, centre = np.arange(len(level))[:, None], (box[:, 1] + box[:, 3]) / 2
    borders = np.linspace(box[:, 0], box[:, 2], STATIONS + 1, axis=1)
    across = np.column_stack([box[:, 1], centre, box[:, 3]])
    shares = covered(*edges(level), (row + 1j * borders).ravel(), (row + 1j * across).ravel(), len(level))
    for xs, middle, share in zip(borders, centre, shares, strict=True):
        below, above = share / np.diff(xs)
        yield xs, np.maximum(below + above, 1e-9) / 2, middle + (above - below) / 2


def _outline(xs: Floats, half: Floats, middle: float) -> Floats:
    """A closed ring about y = middle, with few corners and the area of the slices."""
    ends = np.maximum([1.5 * half[0] - 0.5 * half[1], 1.5 * half[-1] - 0.5 * half[-2]], 0.0)
    side = np.column_stack([np.r_[xs[0], (xs[1:] + xs[:-1]) / 2, xs[-1]], np.r_[ends[0], half, ends[1]]])
    beam = 2 * half.max()
    side = shapely.get_coordinates(shapely.simplify(shapely.LineString(side), PLAIN * beam))
    # Simplifying a convex side cuts its corners: the area that is lost is given back.
    side[:, 1] *= (half * np.diff(xs)).sum() / np.trapezoid(side[:, 1], side[:, 0])
    side[side[:, 1] < PLAIN * beam, 1] = 0.0
    other = side[::-1] * [1.0, -1.0]
    ring = np.concatenate([side, other[other[:, 1] < 0]])
    ring = np.concatenate([ring, ring[:1]])
    ring[:, 1] += middle
    return ring
