"""Each square metre to one footprint: overlaps resolved, borders shared exactly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.components import components
from geoseg.errors import ConfigError
from geoseg.polygons import as_polygons, come_near, valid

GRID = 2.0**-10
"""Coordinates of neighbours are rounded to this step, so that shared borders are equal to the last bit."""

AT_ONCE = 2000
"""Polygons that are cut along each other's outlines at a time, or some more: what that takes in memory is many times
the polygons themselves."""


RIM = 0.1
"""What is left of a polygon, of less than this share of it, is its rim where it is narrower than two slivers."""


def neighbours(geometry: NDArray[Any], distance: float) -> NDArray[np.int64]:
    """``(p, 2)`` rows of polygons no farther apart than ``distance``, each pair once, sorted."""
    reach = shapely.bounds(geometry).reshape(-1, 4) + distance * np.array([-1.0, -1.0, 1.0, 1.0])
    one, other = shapely.STRtree(geometry).query(shapely.box(*reach.T))
    pairs = np.column_stack([one, other])[one < other]
    pairs = pairs[come_near(geometry, pairs, distance)]
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], np.int64)


def resolve_overlaps(
    geometry: NDArray[Any],
    *,
    priority: NDArray[Any] | None = None,
    sliver: float = 0.0,
    changed: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Polygons that overlap nowhere and together cover the same ground.

    Ground that several polygons cover goes to the one of highest priority. Borders between neighbours come
    out with the same vertices on both sides. Polygons that touch no other are returned as they are; one that
    lies wholly under others comes back empty.

    Args:
        geometry: ``(n,)`` Polygons or MultiPolygons in pixels or metres: an array, a list or a GeoSeries.
        priority: ``(n,)`` higher wins, e.g. scores; the larger area where it is equal or not given.
        sliver: parts narrower than this that are left of a polygon which lost ground go to the neighbour that they
            border on most; so do those up to twice as wide that are hardly any of it (``RIM``), such as the rim of a
            second drawing under the first.
        changed: ``(n,)`` False for polygons as this function left them: those that touch no other are returned as
            they are, too. None: all are new.

    Raises:
        ConfigError: what is no table of polygons, or not one priority for each.
    """
    geometry = as_polygons(geometry).copy()
    if priority is not None and np.shape(priority) != geometry.shape:
        raise ConfigError(f"{np.size(priority)} priorities for {len(geometry)} polygons", allowed="one for each")
    if len(geometry) < 2:
        return geometry
    rank = np.lexsort((np.arange(len(geometry)), -shapely.area(geometry)))
    if priority is not None:
        rank = rank[np.argsort(-np.asarray(priority, float)[rank], kind="stable")]
    # Rounding may bring polygons together that lie this near.
    rows, group = _grouped(rank, neighbours(geometry, 4 * GRID))
    if changed is not None:
        again = np.isin(group, group[changed[rows]])
        rows, group = rows[again], group[again]
    for some in _batches(group):
        geometry[rows[some]] = _partition(geometry[rows[some]], sliver)
    return geometry


def _grouped(order: NDArray[np.int64], pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in connected groups of two or more, group by group, within each in the given order of rows; and the number
    (0, 1, ...) of the group of each."""
    group = components(len(order), *pairs.T)
    order = order[np.bincount(group)[group[order]] > 1]
    order = order[np.argsort(group[order], kind="stable")]
    return order, np.unique(group[order], return_inverse=True)[1]


def _batches(group: NDArray[np.int64]) -> Iterator[slice]:
    """Some whole groups at a time, of a sorted column of their numbers."""
    ends = np.searchsorted(group, group[AT_ONCE - 1 :: AT_ONCE], side="right")
    for first, last in pairwise(np.unique(np.r_[0, ends, len(group)]).tolist()):
        yield slice(first, last)


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
    rows, group = _grouped(np.arange(len(geometry)), pairs)
    if not rows.size:
        return geometry
    whole = _united(geometry[rows], group)
    filled = closed(whole, gap / 2)
    if opened > gap / 2:
        covered = closed(_united(before[rows], group), gap / 2)
        filled = surfaces(shapely.union(filled, surfaces(shapely.intersection(closed(whole, opened), covered))))
    slivers, of = shapely.get_parts(shapely.difference(filled, whole, grid_size=GRID), return_index=True)
    large = shapely.area(slivers) > GRID  # drops lines and points too
    slivers, of = slivers[large], of[large]
    touching = shapely.buffer(slivers, 4 * GRID, join_style="mitre")
    member, sliver = shapely.STRtree(touching).query(geometry[rows], predicate="intersects").reshape(2, -1)
    own = of[sliver] == group[member]
    sliver, member = sliver[own], rows[member[own]]
    contact = shapely.area(shapely.intersection(touching[sliver], geometry[member]))
    order = np.lexsort((member, -contact, sliver))
    near = {tuple(pair) for pair in pairs.tolist()}
    for k, mine in _runs(sliver[order], member[order]):
        if any((min(a, b), max(a, b)) in near for a, b in combinations(mine, 2)):
            geometry[mine[0]] = shapely.union(geometry[mine[0]], touching[k])
    return geometry


def _runs(key: NDArray[np.int64], value: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    """Each key of a sorted column, and the values that stand beside it."""
    keys, first = np.unique(key, return_index=True)
    for k, values in zip(keys.tolist(), np.split(value, first[1:]), strict=False):
        yield k, values.tolist()


def straight_borders(geometry: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """A coverage (as from :func:`resolve_overlaps`) with fewer vertices along shared borders; outer ones stay.

    A border that was two, drawn each on its own, zigzags where they crossed. Vertices go that span triangles of
    less than the square of the tolerance with their neighbours (Visvalingam and Whyatt 1993).
    """
    geometry = geometry.copy()
    rows, _ = _grouped(np.arange(len(geometry)), neighbours(geometry, 0.0))
    geometry[rows] = shapely.coverage_simplify(geometry[rows], tolerance, simplify_boundary=False)
    return geometry


def _united(geometry: NDArray[Any], group: NDArray[np.int64]) -> NDArray[Any]:
    """The ground of each group (0, 1, ... in order)."""
    together = shapely.geometrycollections(geometry, indices=group)
    return surfaces(shapely.union_all(together[:, None], axis=1, grid_size=GRID))


def closed(whole: NDArray[Any], margin: float, *, sharpest: float = 5.0) -> NDArray[Any]:
    """With everything narrower than twice the margin filled in; corners stay as they are.

    Args:
        whole: polygons.
        margin: in their units.
        sharpest: inner corners are cut off where they reach farther in than this many margins (the mitre limit of an
            offset curve; a right angle reaches 1.42).
    """
    grown = shapely.buffer(whole, margin, join_style="mitre")
    with np.errstate(divide="ignore", invalid="ignore"):  # GEOS divides by 0 for a mitre now and then, and does without
        shrunk = shapely.buffer(grown, -margin, join_style="mitre", mitre_limit=sharpest)
    return valid(shrunk)  # mitred corners may cross


def surfaces(geometry: NDArray[Any]) -> NDArray[Any]:
    """:func:`surface` of each."""
    kinds = shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON
    for row in np.flatnonzero(~np.isin(shapely.get_type_id(geometry), kinds)):
        geometry[row] = surface(geometry[row])
    return geometry


def surface(geometry: Any) -> Any:
    """Without the lines and points that an intersection may leave."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(geometry)
    return shapely.union_all(parts[shapely.area(parts) > 0])


def _partition(members: NDArray[Any], sliver: float) -> NDArray[Any]:
    """Polygons cut along all their outlines, each face given to the first member that covers it.

    Members that do not come near each other do not change a bit of each other's result.
    """
    faces, inside = _faces(members)
    member, face = shapely.STRtree(inside).query(members, predicate="intersects")  # so members are indexed
    owner = np.full(len(faces), len(members))
    np.minimum.at(owner, face, member)
    lost = np.unique(member[member != owner[face]])
    if sliver > 0 and lost.size:
        owner = _without_slivers(faces, inside, owner, members, lost, sliver)
    result = _joined(faces, owner, len(members))
    kept = np.flatnonzero(~shapely.is_empty(result))
    # Drops vertices on straight lines that the cutting left, but those where three polygons meet.
    result[kept] = shapely.coverage_simplify(result[kept], 2 * GRID)
    return result


def _faces(members: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The faces between all outlines, and a point in each; in an order, and each begun at a vertex, that follows from
    the face alone."""
    lines = shapely.union_all(shapely.boundary(members), grid_size=GRID)
    faces = shapely.normalize(shapely.get_parts(shapely.polygonize(shapely.get_parts(lines))))
    inside = shapely.point_on_surface(faces)
    order = np.lexsort((shapely.get_x(inside), shapely.get_y(inside)))
    return faces[order], inside[order]


def _joined(faces: NDArray[Any], owner: NDArray[np.int64], n: int) -> NDArray[Any]:
    """``(n,)`` the union of the faces of each owner; those of owner ``n`` are nobody's."""
    result = np.full(n, shapely.Polygon(), dtype=object)
    order = np.argsort(owner, kind="stable")
    order = order[owner[order] < n]
    rows, number, count = np.unique(owner[order], return_inverse=True, return_counts=True)
    alone = count[number] == 1
    result[rows[count == 1]] = faces[order[alone]]
    if not alone.all():
        several = np.unique(number[~alone], return_inverse=True)[1]
        together = shapely.geometrycollections(faces[order[~alone]], indices=several)
        result[rows[count > 1]] = shapely.normalize(shapely.coverage_union_all(together[:, None], axis=1))
    return result


def _without_slivers(
    faces: NDArray[Any],
    inside: NDArray[Any],
    owner: NDArray[np.int64],
    members: NDArray[Any],
    lost: NDArray[np.int64],
    sliver: float,
) -> NDArray[np.int64]:
    """Owners after what is left of those who lost ground, where it is narrow, has gone to one who took it."""
    result = owner.copy()
    left = _joined(faces, np.where(np.isin(owner, lost), owner, np.iinfo(np.int64).max), int(lost.max()) + 1)[lost]
    parts, of = shapely.get_parts(left, return_index=True)
    hardly = shapely.area(parts) < RIM * shapely.area(members)[lost[of]]
    thin = np.flatnonzero(shapely.is_empty(shapely.buffer(parts, np.where(hardly, -sliver, -sliver / 2))))
    tree, lines = shapely.STRtree(faces), shapely.boundary(faces)
    for part, row in zip(parts[thin], lost[of[thin]].tolist(), strict=True):
        near = np.sort(tree.query(part, predicate="intersects"))
        own, near = near[owner[near] == row], near[owner[near] < row]
        border = shapely.length(shapely.intersection(lines[near], shapely.boundary(part)))
        total = np.bincount(owner[near], border)
        if total.max(initial=0.0) > 0:
            result[own[shapely.intersects(part, inside[own])]] = int(np.argmax(total))
    return result
