"""Where scenes lie, and which of them have ground in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.archive.record import Record

_SIDES = 16
"""A side of a scene is cut into so many before it goes into degrees: of a scene of 100 km, to a metre or two."""


def ground_of(record: Record) -> Any:
    """The outline of a scene as a polygon in degrees; the box around it where nothing better is known."""
    text = str(record.figures.get("extent") or "")
    if text.startswith("SRID="):
        srid, _, wkt = text.removeprefix("SRID=").partition(";")
        outline = shapely.from_wkt(wkt)
        step = max(shapely.length(outline) / (4 * _SIDES), 1e-9)
        outline = gpd.GeoSeries([shapely.segmentize(outline, step)], crs=int(srid)).to_crs(4326).iloc[0]
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
            spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east), (west, east + 360.0)]
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
        """Rows of geometries of ``scene`` that reach ground of another."""
        reach = shapely.box(*shapely.bounds(geometry).T)
        rows, found = self._tree.query(reach, predicate="intersects")
        return np.unique(rows[self._owners[found] != scene])
