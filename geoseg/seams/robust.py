"""Intersections and unions that no outline, however broken, brings to a halt.

GEOS refuses some geometry: a ring that crosses itself, coordinates that lie too close. A whole run is not to be
lost for it. Rows are worked on all at once; where that fails, by halves down to the rows at fault, and those are
repaired. What comes of a row depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

GRID = 1 / 1024
"""Pixels to which coordinates are rounded where GEOS finds no other way."""

Geometries = NDArray[Any]


def intersection(one: Geometries, other: Geometries) -> Geometries:
    """The intersection of each pair of geometries; empty where there is none to be had."""
    return _tried(shapely.intersection, one, other)


def share_ground(one: Geometries, other: Geometries) -> NDArray[np.bool_]:
    """Whether each pair of geometries has ground in common, and not a border alone; False where it cannot be told.
    Several times as fast as cutting, more so where many rows have one object as ``other``."""
    shapely.prepare(other)
    return _tried(lambda one, other: shapely.relate_pattern(other, one, "T********"), one, other).astype(bool)


def union(pieces: Geometries, group: NDArray[np.int64]) -> Geometries:
    """The union of the polygons of each group (0, 1, ... in order); the largest piece where there is none to be had."""
    return _tried(
        lambda row: shapely.union_all(row[:, None], axis=1), shapely.geometrycollections(pieces, indices=group)
    )


def _tried(work: Callable[..., Geometries], *columns: Geometries) -> Geometries:
    try:
        return np.asarray(work(*columns), object)
    except shapely.GEOSException:
        half = len(columns[0]) // 2
    if half == 0:
        return _mended(work, *columns)
    parts = [_tried(work, *(column[rows] for column in columns)) for rows in (slice(half), slice(half, None))]
    return np.concatenate(parts)


def _mended(work: Callable[..., Geometries], *row: Geometries) -> Geometries:
    """The same of a row that GEOS refused, its polygons made valid, then rounded."""
    for mend in (_valid, _rounded):
        try:
            return np.asarray(work(*(mend(column) for column in row)), object)
        except shapely.GEOSException:
            continue
    parts = shapely.get_parts(row[0])
    largest = parts[np.argsort(-shapely.area(parts), kind="stable")[:1]]
    return largest if len(row) == 1 and len(largest) else np.array([shapely.Polygon()])


def _valid(geometry: Geometries) -> Geometries:
    """Each geometry's polygons, made valid."""
    out = np.empty(len(geometry), object)
    for row, shape in enumerate(geometry):
        parts = shapely.get_parts(shapely.make_valid(shapely.get_parts(shape)))
        parts = shapely.get_parts(parts)  # make_valid may give a collection of a multipolygon and lines
        out[row] = shapely.union_all(parts[shapely.area(parts) > 0])
    return out


def _rounded(geometry: Geometries) -> Geometries:
    """Each geometry's polygons, made valid, with rounded coordinates."""
    return np.asarray(shapely.set_precision(_valid(geometry), GRID), object)
