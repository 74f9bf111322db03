"""Polygons out of what cutting, moving and repairing make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import ConfigError

_LARGE = 256
"""Vertices from which an index pays, where a polygon is asked for more than one place."""


def as_polygons(geometry: Any) -> NDArray[Any]:
    """``(n,)`` polygons, some of them empty, given as an array, a list or a GeoSeries; without heights.

    Raises:
        ConfigError: it is no table of polygons.
    """
    table = np.asarray(geometry, dtype=object)
    if table.ndim != 1 or not shapely.is_geometry(table).all() or not _areas(table).all():
        raise ConfigError(
            f"geometry of type {type(geometry).__name__} that does not hold polygons alone",
            allowed="an array, a list or a GeoSeries of Polygons and MultiPolygons",
            remedy="Of a table take table.geometry, and leave out other shapes and rows without one",
        )
    return np.asarray(shapely.force_2d(table), object) if shapely.has_z(table).any() else table


def _areas(geometry: NDArray[Any]) -> NDArray[np.bool_]:
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    return np.asarray(np.isin(shapely.get_type_id(geometry), kinds) | shapely.is_empty(geometry))


def prepared(geometry: shapely.Geometry) -> shapely.Geometry:
    """A copy that answers many questions quickly, for one thread alone: what several ask at once of one that is
    prepared corrupts memory in GEOS, and all threads of a run share its AOI."""
    own = shapely.from_wkb(shapely.to_wkb(geometry))
    shapely.prepare(own)
    return own


def valid(geometry: NDArray[Any]) -> NDArray[Any]:
    """Valid polygons: the few that are not are repaired, keeping only what has area."""
    bad = np.flatnonzero(~shapely.is_valid(geometry))
    if bad.size:
        geometry = geometry.copy()
        geometry[bad] = polygonal(shapely.make_valid(geometry[bad], method="structure", keep_collapsed=False))
    return geometry


def clipped(area: shapely.Geometry, xyxy: Sequence[float]) -> shapely.Geometry:
    """The polygons of a valid area in the rectangle (x0, y0, x1, y1), valid; empty where it is not there."""
    # Where a vertex of the area lies on the line of a side, clipping may break rings or leave parts out, and to clip
    # broken ones again may give what is beside the area. The sound way takes some twenty times as long.
    on_line = (shapely.get_coordinates(area)[:, None] == np.reshape(xyxy, (2, 2))).any()
    found = shapely.clip_by_rect(area, *xyxy)
    if on_line or not shapely.is_valid(found):
        found = shapely.intersection(area, shapely.box(*xyxy))
    return polygonal(np.array([found], dtype=object))[0]


def united(areas: NDArray[Any]) -> shapely.Geometry:
    """The ground of valid areas together. Of what lies apart nothing is cut: that of 100,000 parcels takes minutes."""
    return shapely.disjoint_subset_union_all(shapely.get_parts(areas))


def pieces(areas: NDArray[Any], most: int = _LARGE) -> NDArray[Any]:
    """The polygons of valid areas in pixels, cut so that hardly any has more than ``most`` vertices: what is asked of a
    place then costs what is there, and not all of the border. Those that cutting makes no simpler stay as they are."""
    waiting, done = list(shapely.get_parts(areas)), []
    while waiting:
        area = waiting.pop()
        count, (x0, y0, x1, y1) = shapely.get_num_coordinates(area), area.bounds
        halves: list[Any] = []
        if count > most and max(x1 - x0, y1 - y0) > 1:
            # Between the corners of pixels, and where a float is exact: areas on pixels come out as they were.
            x, y = (np.floor((low + high) / 2) + 0.25 for low, high in ((x0, x1), (y0, y1)))
            cut = ((x, y1 + 1), (x, y0 - 1)) if x1 - x0 > y1 - y0 else ((x1 + 1, y), (x0 - 1, y))
            halves = [clipped(area, (x0 - 1, y0 - 1, *cut[0])), clipped(area, (*cut[1], x1 + 1, y1 + 1))]
        if halves and shapely.get_num_coordinates(halves).sum() < 1.5 * count:
            waiting.extend(shapely.get_parts(halves))
        else:
            done.append(area)
    return np.array(done, dtype=object)


def come_near(geometry: NDArray[Any], pairs: NDArray[np.int64], distance: Any) -> NDArray[np.bool_]:
    """``(p,)`` whether the two rows of each pair ``(p, 2)`` are no farther apart than ``distance``, one or ``(p,)``.

    Of two the larger one is asked, by an index of its own: a river among a thousand houses is gone through once, not a
    thousand times.
    """
    size = shapely.get_num_coordinates(geometry)
    large = np.flatnonzero(size > _LARGE)
    if large.size:  # copies, see :func:`prepared`
        geometry = geometry.copy()
        geometry[large] = shapely.from_wkb(shapely.to_wkb(geometry[large]))
        shapely.prepare(geometry[large])
    larger = size[pairs[:, 1]] > size[pairs[:, 0]]
    one, other = (geometry[pairs[np.arange(len(pairs)), at]] for at in (larger.astype(int), (~larger).astype(int)))
    return np.asarray(shapely.dwithin(one, other, distance), np.bool_)


def share_inside(geometry: NDArray[Any], area: Any) -> NDArray[np.float64]:
    """``(n,)`` the share of each polygon's area that lies in a valid ``area``, 0 to 1; of one without ground 0."""
    share = np.zeros(len(geometry))
    if not len(geometry) or area.is_empty:
        return share
    # Piece by piece, as it may be of very many; and asked from the area's side, whose index then serves all.
    parts = pieces(np.array([area], dtype=object))
    share[shapely.STRtree(geometry).query(parts, predicate="covers")[1]] = 1.0
    rest = np.flatnonzero(share == 0)
    row, within = cut_by(geometry[rest], parts)
    whole = shapely.area(geometry[rest])
    share[rest] = np.divide(
        np.bincount(row, shapely.area(within), len(rest)), whole, out=np.zeros(len(rest)), where=whole > 0
    )
    return share


def cut_by(geometry: NDArray[Any], areas: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """What of each polygon lies in each of some valid areas: ``(k,)`` its row, and ``(k,)`` (Multi)Polygons of some
    area."""
    area, row = shapely.STRtree(geometry).query(areas, predicate="intersects")
    found = polygonal(shapely.intersection(geometry[row], areas[area]))
    keep = shapely.area(found) > 0
    return row[keep], found[keep]


def polygonal(geometry: NDArray[Any]) -> NDArray[Any]:
    """Geometries with points and lines taken out of collections (what cutting may leave along an edge)."""
    parts, owner = shapely.get_parts(geometry, return_index=True)
    inner, of_part = shapely.get_parts(parts, return_index=True)  # MultiPolygons within collections
    keep = (shapely.get_type_id(inner) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(inner)
    return gather(inner[keep], owner[of_part[keep]], len(geometry))


def gather(polygons: NDArray[Any], owner: NDArray[np.int64], n: int) -> NDArray[Any]:
    """``(n,)`` geometries of Polygons and the row that each belongs to: one is kept as it is, several make a
    MultiPolygon, none an empty Polygon."""
    geometry = np.full(n, shapely.Polygon(), dtype=object)
    count = np.bincount(owner, minlength=n)
    order = np.argsort(owner, kind="stable")
    single = count[owner] == 1
    geometry[owner[single]] = polygons[single]
    order = order[~single[order]]
    rows, index = np.unique(owner[order], return_inverse=True)
    if rows.size:
        geometry[rows] = shapely.multipolygons(polygons[order], indices=index)
    return geometry


def without_holes(geometry: NDArray[Any], least: float, *, others: NDArray[Any] | None = None) -> NDArray[Any]:
    """Polygons without their holes of less area than ``least``, but for those in which one of the ``others`` stands;
    rows that have none are returned as they are."""
    parts, of = shapely.get_parts(geometry, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    small = np.flatnonzero(np.diff(of_part, prepend=-1) == 0)  # the first ring of a part is around it
    small = small[shapely.area(shapely.polygons(rings[small])) < least]
    if others is not None:
        holes = shapely.polygons(rings[small])
        hole, other = shapely.STRtree(others).query(holes, predicate="intersects")
        taken = shapely.area(shapely.intersection(holes[hole], others[other])) > 0
        small = np.delete(small, hole[taken])
    hit = np.unique(of_part[small])
    left = np.isin(of_part, hit)
    left[small] = False
    parts[hit] = shapely.polygons(rings[left], indices=np.unique(of_part[left], return_inverse=True)[1])
    rows, geometry = np.unique(of[hit]), geometry.copy()
    geometry[rows] = gather(parts, of, len(geometry))[rows]
    return geometry
