"""Where scenes lie, and which of them have ground in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.aoi import Area
from geoseg.archive.manifest import Manifest
from geoseg.archive.record import WRITTEN, Record
from geoseg.polygons import united, valid
from geoseg.turns import first_turn, moved
from geoseg.vectors import LONLAT, read_gaps

_SIDES = 16
"""A side of a scene is cut into so many before it goes into degrees: of a scene of 100 km, to a metre or two."""
_TOGETHER, _MOST = 256, 100_000
"""Scenes whose grounds become one at a time, and vertices of more than which nothing is told."""


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


def seen(manifest: Manifest) -> str | None:
    """The ground that at least one scene was examined on, whatever the AOI leaves out, as WKT with an EPSG code: to a
    pixel, and without nodata and faults. A summary where it is too long to be told; None where it is not known.

    Raises:
        ConfigError: the gaps of an output cannot be read.
    """
    grounds: list[Any] = []
    for record in manifest.records(*WRITTEN):
        if not str(record.figures.get("extent") or "").startswith("SRID="):
            return None
        grounds.append(_seen(record, manifest.folder / record.output))
        if len(grounds) >= _TOGETHER:
            grounds = [united(np.array(grounds, object))]
            if shapely.get_num_coordinates(grounds[0]) > _MOST:
                break
    return Area(geometry=united(np.array(grounds, object)), crs=LONLAT, what="the ground of the scenes").text


def _seen(record: Record, output: Path) -> Any:
    """The ground that a scene was examined on, in degrees."""
    ground = first_turn(np.array([ground_of(record)], object), 360.0)[0]
    pixel = float(record.figures.get("gsd_m") or 0.0) / 111_320
    if set(record.figures.get("gaps_m2") or ()) - {"outside_aoi"} and (gaps := read_gaps(output)) is not None:
        lost = shapely.union_all(in_degrees(gaps[gaps["reason"] != "outside_aoi"]))
        # A gap beyond 180 degrees is on the first turn, where the ground goes on instead.
        for shift in (0, 360):
            ground = shapely.difference(ground, shapely.affinity.translate(lost, shift))
    parts = shapely.get_parts(valid(np.array([shapely.simplify(ground, pixel)], object)))
    return united(parts[shapely.area(parts) > pixel**2])  # without what rounding leaves along the outline


def in_degrees(table: gpd.GeoDataFrame) -> NDArray[Any]:
    """Geometries in EPSG:4326, valid, on one turn whichever their raster counts from: their western ends are in
    [-180, 180), and one across the antimeridian goes on beyond 180 instead of round the earth."""
    geometry: NDArray[Any] = table.geometry.to_crs(4326).to_numpy().copy()
    bounds = shapely.bounds(geometry)
    across = bounds[:, 2] - bounds[:, 0] > 180
    if across.any():
        geometry[across] = shapely.transform(
            geometry[across], lambda xy: np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]])
        )
    return first_turn(valid(geometry), 360.0)


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
