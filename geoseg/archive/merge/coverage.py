"""Where scenes lie, and which of them have ground in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.archive.record import Record
from geoseg.turns import moved
from geoseg.vectors import LONLAT

_SIDES = 16
"""A side of a scene is cut into so many before it goes into degrees: of a scene of 100 km, to a metre or two."""


def ground_of(record: Record) -> Any:
    """The outline of a scene as a polygon in degrees; the box around it where nothing better is known."""
    text = str(record.figures.get("extent") or "")
    if text.startswith("SRID="):
        srid, _, wkt = text.removeprefix("SRID=").partition(";")
        outline = shapely.from_wkt(wkt)
        step = max(shapely.length(outline) / (4 * _SIDES), 1e-9)
        outline = moved(shapely.segmentize(outline, step), CRS.from_epsg(int(srid)), LONLAT)
        left, _, right, _ = outline.bounds
        if right - left <= 180:
            return shapely.make_valid(outline)
    west, south, east, north = record.extent or (-180, -90, 180, 90)
    return shapely.box(west, south, east if west <= east else east + 360, north)


class Coverage:
    """Where scenes lie: four numbers of each."""

    def __init__(self, scenes: Iterable[Record]) -> None:
        boxes, owners = [], []
        for record in scenes:
            west, south, east, north = record.extent or (-180, -90, 180, 90)
            spans = _spans(west, east)
            boxes += [(left, south, right, north) for left, right in spans]
            owners += [record.id] * len(spans)
        self._owners = np.array(owners, np.int64)
        self._boxes = shapely.box(*np.array(boxes, float).reshape(-1, 4).T)
        self._tree = shapely.STRtree(self._boxes)
        first, second = self._tree.query(self._boxes, predicate="intersects")
        several = self._owners[first] != self._owners[second]
        self._crossed = set(self._owners[first[several]].tolist())

    def crossed(self, scene: int) -> bool:
        """Whether another scene has ground in common with this one."""
        return scene in self._crossed

    def by_another(self, geometry: NDArray[Any], scene: int) -> NDArray[np.intp]:
        """Rows of geometries of ``scene`` that reach ground of another; degrees, their western ends in [-180, 180)."""
        bounds = shapely.bounds(geometry)
        beyond = np.flatnonzero(bounds[:, 2] > 180)
        reach = shapely.box(*np.concatenate([bounds, bounds[beyond] - (360, 0, 360, 0)]).T)
        rows, found = self._tree.query(reach, predicate="intersects")
        rows = np.concatenate([np.arange(len(bounds)), beyond])[rows]
        return np.unique(rows[self._owners[found] != scene])


def _spans(west: float, east: float) -> list[tuple[float, float]]:
    """Longitudes on the first turn, those across the antimeridian also in two; west > east lies across it."""
    east = east if west <= east else east + 360
    turns = np.floor((west + 180) / 360)
    west, east = west - 360 * turns, east - 360 * turns
    return [(west, east)] if east <= 180 else [(west, 180.0), (-180.0, east - 360), (west, east)]
