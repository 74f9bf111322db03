"""Parts of one object, each of which another scene's edge cuts, put together to one footprint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS

from geoseg.measures import measure
from geoseg.turns import beside
from geoseg.vectors import LONLAT

_NEW = 0.02
"""A part adds something if this share of it lies on ground that the better ones' scenes do not cover: else they saw
what there is to see, and the outline of a worse one would only roughen theirs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenePart:
    """What one scene saw of an object."""

    geometry: Any
    """Polygon in degrees."""
    ground: Any
    """What its scene covers, likewise."""


def united(parts: Sequence[ScenePart]) -> tuple[Any, bool] | None:
    """The object of which these are parts, the best first; None where the others add nothing to the best.

    Returns:
        Its polygon in degrees, and whether an edge still cuts it.
    """
    seen, used = parts[0].ground, [parts[0].geometry]
    for part in parts[1:]:
        if shapely.area(shapely.difference(part.geometry, seen)) > _NEW * shapely.area(part.geometry):
            used.append(part.geometry)
            seen = shapely.union(seen, part.ground)
    if len(used) == 1:
        return None
    whole = shapely.union_all(used)
    return whole, not shapely.contains_properly(seen, whole)


def put_together(table: gpd.GeoDataFrame, objects: Iterable[tuple[int, Sequence[ScenePart]]]) -> gpd.GeoDataFrame:
    """A table of footprints in which rows that have parts elsewhere are the whole object, and measured as such."""
    found = [(row, whole) for row, parts in objects if (whole := united(parts)) is not None]
    if not found:
        return table
    rows = [row for row, _ in found]
    geometry = table.geometry.to_numpy().copy()
    there = shapely.get_coordinates(shapely.point_on_surface(geometry[rows]))
    shapes, _ = beside(np.array([shape for _, (shape, _) in found], object), LONLAT, CRS(table.crs), there)
    geometry[rows] = shapely.orient_polygons(shapes)
    columns = {name: table[name].to_numpy(copy=True) for name in ("cut_by_edge", *measure(geometry[:0], table.crs))}
    columns["cut_by_edge"][rows] = [cut for _, (_, cut) in found]
    for name, values in measure(geometry[rows], table.crs).items():
        columns[name][rows] = np.asarray(values)
    return table.assign(**columns).set_geometry(gpd.GeoSeries(geometry, index=table.index, crs=table.crs))
