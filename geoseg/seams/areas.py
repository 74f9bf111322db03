"""The area of polygons inside boxes, without cutting them: by Green's theorem along their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.seams.views import Boxes, inside


def area_inside(geometry: NDArray[Any], boxes: Boxes, *, bounds: Boxes | None = None) -> NDArray[np.float64]:
    """Area of each polygon inside its own box ``(n, 4)``; lines and points have none. ``bounds``: the polygons', if
    known.

    The area of a ring inside a box is the integral of ``clamp(y, y0, y1) - y0`` along it, over x within x0 to x1: the
    derivative of the integrand by y is 1 inside the box and 0 outside. Several times faster than cutting.
    """
    out = np.asarray(shapely.area(geometry), np.float64)
    bounds = shapely.bounds(geometry).reshape(-1, 4) if bounds is None else bounds
    over = np.flatnonzero((out > 0) & ~inside(bounds, boxes))
    out[over] = _cut_area(geometry[over], boxes[over])
    return out


def simple(geometry: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a polygon is one ring: of one part, without holes."""
    one = shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON
    return np.asarray(one & (shapely.get_num_interior_rings(geometry) == 0), np.bool_)


def rings_of(geometry: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_]]:
    """The rings of polygons, polygon by polygon: each of them, whose it is, and whether it is a hole. A polygon that is
    one ring stands for it."""
    alone = simple(geometry)
    others = np.flatnonzero(~alone)
    if not len(others):
        return geometry, np.arange(len(geometry)), np.zeros(len(geometry), np.bool_)
    parts, of_part = shapely.get_parts(geometry[others], return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    hole = np.zeros(len(rings), np.bool_)
    hole[1:] = of_ring[1:] == of_ring[:-1]
    ones = np.flatnonzero(alone)
    owner = np.concatenate([ones, others[of_part[of_ring]]])
    order = np.argsort(owner, kind="stable")
    return (
        np.concatenate([geometry[ones], rings])[order],
        owner[order],
        np.concatenate([np.zeros(len(ones), np.bool_), hole])[order],
    )


def _cut_area(geometry: NDArray[Any], boxes: Boxes) -> NDArray[np.float64]:
    rings, owner, hole = rings_of(geometry)
    area = _ring_area(rings, boxes[owner]) * np.where(hole, -1.0, 1.0)
    return np.asarray(np.bincount(owner, area, minlength=len(geometry)), np.float64)


def _ring_area(rings: NDArray[Any], boxes: Boxes) -> NDArray[np.float64]:
    """Area inside its box of what each ring encloses; rings, or polygons of one ring."""
    xy, of_point = shapely.get_coordinates(rings, return_index=True)
    edge = np.flatnonzero(of_point[1:] == of_point[:-1])
    of_edge = of_point[edge]
    along = np.bincount(of_edge, _integral(xy[edge], xy[edge + 1], boxes[of_edge]), minlength=len(rings))
    return np.asarray(np.abs(along), np.float64)


def _integral(start: NDArray[np.float64], end: NDArray[np.float64], frames: Boxes) -> NDArray[np.float64]:
    """Integral of ``clamp(y, y0, y1) - y0`` by x along each edge, as far as it lies between x0 and x1."""
    run = end[:, 0] - start[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(run == 0, 0.0, (end[:, 1] - start[:, 1]) / run)
    x_start, x_end = (np.clip(point[:, 0], frames[:, 0], frames[:, 2]) for point in (start, end))
    height = frames[:, 3] - frames[:, 1]
    low = start[:, 1] + slope * (x_start - start[:, 0]) - frames[:, 1]
    high = start[:, 1] + slope * (x_end - start[:, 0]) - frames[:, 1]
    rise = high - low
    flat = np.abs(rise) <= 1e-9
    mean = np.where(
        flat,
        np.clip((low + high) / 2, 0.0, height),
        (_primitive(high, height) - _primitive(low, height)) / np.where(flat, 1.0, rise),
    )
    return np.asarray((x_end - x_start) * mean, np.float64)


def _primitive(y: NDArray[np.float64], height: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral of ``clamp(u, 0, height)`` from 0 to y."""
    inside = np.clip(y, 0.0, height)
    return np.asarray(inside * inside / 2 + height * np.maximum(y - height, 0.0), np.float64)
