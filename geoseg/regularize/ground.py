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


def resolve_overlaps(
    geometry: NDArray[Any], *, priority: NDArray[Any] | None = None, sliver: float = 0.0
) -> NDArray[Any]:
    """Polygons that overlap nowhere and together cover the same ground.

    Ground that several polygons cover goes to the one of highest priority. Borders between neighbours come
    out with the same vertices on both sides. Polygons that touch no other are returned as they are; one that
    lies wholly under others comes back empty.

    Args:
        geometry: ``(n,)`` Polygons or MultiPolygons in pixels or metres.
        priority: ``(n,)`` higher wins, e.g. scores; the larger area where it is equal or not given.
        sliver: parts narrower than this that are left of a polygon which lost ground go to the neighbour that they
            border on most.
    """
    geometry = geometry.copy()
    if len(geometry) < 2:
        return geometry
    rank = np.lexsort((np.arange(len(geometry)), -shapely.area(geometry)))
    if priority is not None:
        rank = rank[np.argsort(-np.asarray(priority, float)[rank], kind="stable")]
    # Rounding may bring polygons together that lie this near.
    for rows in _groups(rank, neighbours(geometry, 4 * GRID)):
        geometry[rows] = _partition(geometry[rows], sliver)
    return geometry


def _groups(order: NDArray[np.int64], pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each connected group of two or more, in the given order of rows."""
    group = clusters(len(order), pairs)
    order = order[np.argsort(group[order], kind="stable")]
    return [rows for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(rows) > 1]


def close_gaps(
    geometry: NDArray[Any], before: NDArray[Any], pairs: NDArray[np.int64], *, opened: float, gap: float
) -> NDArray[Any]:
    """Polygons grown into the slivers between them.

    A sliver lies between the two polygons of a pair, and either is narrower than ``gap``, or was covered before (or
    lay in such a gap) and is at most twice ``opened`` wide. It goes to the polygon that it borders on most. The
    polygons come out with tiny overlaps, for :func:`resolve_overlaps` to settle.

    Args:
        geometry: ``(n,)`` polygons.
        before: ``(n,)`` the same before they were redrawn.
        pairs: ``(p, 2)`` rows of neighbours.
        opened: how far redrawing may have moved a border.
        gap: how wide a gap is closed wherever it is.
    """
    geometry = geometry.copy()
    near = {tuple(pair) for pair in pairs.tolist()}
    for rows in _groups(np.arange(len(geometry)), pairs):
        whole = surface(shapely.union_all(geometry[rows], grid_size=GRID))
        closed = _closed(whole, gap / 2)
        if opened > gap / 2:
            covered = _closed(surface(shapely.union_all(before[rows], grid_size=GRID)), gap / 2)
            closed = surface(shapely.union(closed, surface(shapely.intersection(_closed(whole, opened), covered))))
        slivers = shapely.get_parts(shapely.difference(closed, whole, grid_size=GRID))
        slivers = slivers[shapely.area(slivers) > GRID]  # drops lines and points too
        touching = shapely.buffer(slivers, 4 * GRID, join_style="mitre")
        sliver, member = shapely.STRtree(geometry[rows]).query(touching, predicate="intersects").reshape(2, -1)
        contact = shapely.area(shapely.intersection(touching[sliver], geometry[rows[member]]))
        for k in range(len(slivers)):
            mine = np.flatnonzero(sliver == k)
            order = rows[member[mine[np.lexsort((member[mine], -contact[mine]))]]]
            if any((min(a, b), max(a, b)) in near for i, a in enumerate(order.tolist()) for b in order[:i].tolist()):
                geometry[order[0]] = shapely.union(geometry[order[0]], touching[k])
    return geometry


def straight_borders(geometry: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """A coverage (as from :func:`resolve_overlaps`) with fewer vertices along shared borders; outer ones stay.

    A border that was two, drawn each on its own, zigzags where they crossed. Vertices go that span triangles of
    less than the square of the tolerance with their neighbours (Visvalingam and Whyatt 1993).
    """
    geometry = geometry.copy()
    for rows in _groups(np.arange(len(geometry)), neighbours(geometry, 0.0)):
        geometry[rows] = shapely.coverage_simplify(geometry[rows], tolerance, simplify_boundary=False)
    return geometry


def _closed(whole: Any, margin: float) -> Any:
    """With everything narrower than twice the margin filled in; corners stay as they are."""
    grown = shapely.buffer(whole, margin, join_style="mitre")
    closed = shapely.buffer(grown, -margin, join_style="mitre")
    # Mitred corners may cross.
    return surface(shapely.make_valid(closed, method="structure", keep_collapsed=False))


def surface(geometry: Any) -> Any:
    """Without the lines and points that an intersection may leave."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(geometry)
    return shapely.union_all(parts[shapely.area(parts) > 0])


def _partition(members: NDArray[Any], sliver: float) -> NDArray[Any]:
    """Polygons cut along all their outlines, each face given to the first member that covers it."""
    lines = shapely.union_all(shapely.boundary(members), grid_size=GRID)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    inside = shapely.point_on_surface(faces)
    face, member = shapely.STRtree(members).query(inside, predicate="intersects")
    owner = np.full(len(faces), len(members))
    np.minimum.at(owner, face, member)
    lost = np.unique(member[member != owner[face]])
    if sliver > 0 and lost.size:
        owner = _without_slivers(faces, owner, lost, sliver)
    result = _united(faces, owner, len(members))
    kept = np.flatnonzero(~shapely.is_empty(result))
    # Drops vertices on straight lines that the cutting left, but those where three polygons meet.
    result[kept] = shapely.coverage_simplify(result[kept], 2 * GRID)
    return result


def _united(faces: NDArray[Any], owner: NDArray[np.int64], n: int) -> NDArray[Any]:
    """``(n,)`` the union of the faces of each owner; those of owner ``n`` are nobody's."""
    result = np.full(n, shapely.Polygon(), dtype=object)
    order = np.argsort(owner, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        if len(own) and owner[own[0]] < n:
            result[owner[own[0]]] = faces[own[0]] if len(own) == 1 else shapely.coverage_union_all(faces[own])
    return result


def _without_slivers(
    faces: NDArray[Any], owner: NDArray[np.int64], lost: NDArray[np.int64], sliver: float
) -> NDArray[np.int64]:
    """Owners after what is left of those who lost ground, where it is narrow, has gone to one who took it."""
    result = owner.copy()
    tree, lines = shapely.STRtree(faces), shapely.boundary(faces)
    for row in lost.tolist():
        own = np.flatnonzero(owner == row)
        parts = shapely.get_parts(_united(faces[own], np.zeros(len(own), np.int64), 1))
        for part in parts[shapely.is_empty(shapely.buffer(parts, -sliver / 2))]:
            near = tree.query(part, predicate="intersects")
            near = near[owner[near] < row]
            border = shapely.length(shapely.intersection(lines[near], shapely.boundary(part)))
            total = np.bincount(owner[near], border)
            if total.max(initial=0.0) > 0:
                inner = shapely.intersects(part, shapely.point_on_surface(faces[own]))
                result[own[inner]] = int(np.argmax(total))
    return result
