"""Each square metre to one footprint: overlaps resolved, borders shared exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

GRID = 2.0**-10
"""Coordinates of neighbours are rounded to this step, so that shared borders are equal to the last bit."""


def neighbours(geometry: NDArray[Any], distance: float) -> NDArray[np.int64]:
    """``(p, 2)`` rows of polygons no farther apart than ``distance``, each pair once, sorted."""
    tree = shapely.STRtree(geometry)
    one, other = tree.query(geometry, predicate="dwithin", distance=distance)
    pairs = np.column_stack([one, other])[one < other]
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], np.int64)


def clusters(n: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(n,)`` number of the connected group of each row."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def resolve_overlaps(geometry: NDArray[Any], *, priority: NDArray[Any] | None = None) -> NDArray[Any]:
    """Polygons that overlap nowhere and together cover the same ground.

    Ground that several polygons cover goes to the one of highest priority. Borders between neighbours come
    out with the same vertices on both sides. Polygons that touch no other are returned as they are; one that
    lies wholly under others comes back empty.

    Args:
        geometry: ``(n,)`` Polygons or MultiPolygons in pixels or metres.
        priority: ``(n,)`` higher wins, e.g. scores; the larger area where it is equal or not given.
    """
    geometry = geometry.copy()
    if len(geometry) < 2:
        return geometry
    rank = np.lexsort((np.arange(len(geometry)), -shapely.area(geometry)))
    if priority is not None:
        rank = rank[np.argsort(-np.asarray(priority, float)[rank], kind="stable")]
    # Rounding may bring polygons together that lie this near.
    for rows in _groups(rank, neighbours(geometry, 4 * GRID)):
        geometry[rows] = _partition(geometry[rows])
    return geometry


def _groups(order: NDArray[np.int64], pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each connected group of two or more, in the given order of rows."""
    group = clusters(len(order), pairs)
    order = order[np.argsort(group[order], kind="stable")]
    return [rows for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(rows) > 1]


def close_gaps(
    geometry: NDArray[Any], before: NDArray[Any], pairs: NDArray[np.int64], tolerance: float
) -> NDArray[Any]:
    """Polygons grown into the slivers that redrawing has opened between them.

    A sliver is ground between the two polygons of a pair, at most twice the tolerance wide, that was covered
    before (or lay in a gap narrower than half the tolerance). It goes to the polygon that it borders on most.
    """
    geometry = geometry.copy()
    near = {tuple(pair) for pair in pairs.tolist()}
    for rows in _groups(np.arange(len(geometry)), pairs):
        whole = shapely.union_all(geometry[rows], grid_size=GRID)
        opened = shapely.difference(_closed(whole, tolerance), whole, grid_size=GRID)
        covered = _closed(shapely.union_all(before[rows], grid_size=GRID), tolerance / 4)
        slivers = shapely.get_parts(shapely.intersection(opened, covered))
        slivers = slivers[shapely.area(slivers) > GRID * tolerance]  # drops lines and points too
        touching = shapely.buffer(slivers, 4 * GRID, join_style="mitre")
        sliver, member = shapely.STRtree(geometry[rows]).query(touching, predicate="intersects").reshape(2, -1)
        contact = shapely.area(shapely.intersection(touching[sliver], geometry[rows[member]]))
        for k in range(len(slivers)):
            mine = np.flatnonzero(sliver == k)
            order = rows[member[mine[np.argsort(-contact[mine], kind="stable")]]]
            if any((min(a, b), max(a, b)) in near for i, a in enumerate(order.tolist()) for b in order[:i].tolist()):
                geometry[order[0]] = shapely.union(geometry[order[0]], touching[k])
    return geometry


def _closed(whole: Any, margin: float) -> Any:
    """With everything narrower than twice the margin filled in; corners stay as they are."""
    grown = shapely.buffer(whole, margin, join_style="mitre")
    closed = shapely.buffer(grown, -margin, join_style="mitre")
    return shapely.make_valid(closed, method="structure", keep_collapsed=False)  # mitred corners may cross


def _partition(members: NDArray[Any]) -> NDArray[Any]:
    """Polygons cut along all their outlines, each face given to the first member that covers it."""
    lines = shapely.union_all(shapely.boundary(members), grid_size=GRID)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    inside = shapely.point_on_surface(faces)
    face, member = shapely.STRtree(members).query(inside, predicate="intersects")
    owner = np.full(len(faces), len(members))
    np.minimum.at(owner, face, member)
    result = np.full(len(members), shapely.Polygon(), dtype=object)
    for row in range(len(members)):
        own = faces[owner == row]
        if len(own):
            result[row] = own[0] if len(own) == 1 else shapely.coverage_union_all(own)
    kept = np.flatnonzero(~shapely.is_empty(result))
    # Drops vertices on straight lines that the cutting left, but those where three polygons meet.
    result[kept] = shapely.coverage_simplify(result[kept], 2 * GRID)
    return result
