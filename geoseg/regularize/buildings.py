"""Buildings with straight walls and right angles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.regularize.frame import Floats, apart, dominant_angles, turned
from geoseg.regularize.ground import close_gaps, clusters, neighbours, resolve_overlaps
from geoseg.regularize.straight import straighten
from geoseg.regularize.walls import Walls, find_walls, join_walls, rebuild

ONE_FRAME = np.radians(4.0)
"""Neighbours whose walls differ by less in direction are drawn in one common direction."""

SHORTEST = 3.0
"""Walls shorter than this many tolerances are never drawn."""

PLAIN = 0.15
"""Walls shorter than this share of a building's size (the root of its area) are drawn only where it pays."""

CORNERS = 0.005
"""Drawing those pays where it raises the IoU with the outline by this."""

ANGLES = 0.015
"""Walls at any angle, not only right ones, pay where they raise it by this."""

LEAST_IOU = 0.9
"""A redrawn outline that fits worse than this (round or very small objects) is not used at all."""


def regularize_buildings(
    geometry: NDArray[Any], *, tolerance: float = 1.0, priority: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Right-angled outlines of buildings.

    Overlaps are resolved first. Each outline is then redrawn from straight walls along its dominant direction
    and across it; walls that neighbours have back to back become one shared wall. Outlines that right angles
    do not fit are drawn with straight walls at any angle, and those that straight walls do not fit (round,
    tiny) stay as they are. Slivers that this opens between neighbours are closed. No overlaps come out;
    borders between neighbours have the same vertices on both sides.

    Args:
        geometry: ``(n,)`` valid Polygons or MultiPolygons in a frame with square units (pixels or metres).
        tolerance: how far a wall may move, in those units; walls shorter than three times it are left out.
        priority: ``(n,)`` who keeps ground that several cover (scores); larger areas first if not given.

    Returns:
        ``(n,)`` polygons; empty where an outline lay wholly under others.
    """
    whole = resolve_overlaps(np.asarray(geometry, dtype=object), priority=priority)
    rows = np.flatnonzero(~shapely.is_empty(whole))
    if not rows.size:
        return whole
    pairs = neighbours(whole[rows], tolerance)
    drawn = close_gaps(_redrawn(whole[rows], pairs, tolerance), whole[rows], pairs, tolerance)
    whole[rows] = resolve_overlaps(drawn, priority=None if priority is None else np.asarray(priority)[rows])
    return whole


def _redrawn(outlines: NDArray[Any], pairs: NDArray[np.int64], tolerance: float) -> NDArray[Any]:
    """Right-angled where that fits, else with walls at any angle, else as it was."""
    oblique = straighten(outlines, tolerance)
    angle, pairs = _common_angles(dominant_angles(oblique), shapely.length(oblique), pairs)
    upright = turned(outlines, -angle)
    walls = find_walls(upright, tolerance)
    walls = replace(walls, offset=join_walls(walls, pairs, 1.5 * tolerance))
    least = np.full(len(outlines), SHORTEST * tolerance)
    plain = np.maximum(least, PLAIN * np.sqrt(shapely.area(outlines)))
    # From the plainest drawing to the freest: a plainer one is kept until a freer one fits clearly better.
    drawn = _right_angled(upright, walls, plain, angle)
    fit = _iou(drawn, outlines)
    freer = (
        (_right_angled(upright, walls, least, angle), CORNERS),
        (oblique, ANGLES),
    )
    for other, worth in freer:
        other_fit = _iou(other, outlines)
        better = other_fit > fit + worth
        drawn, fit = np.where(better, other, drawn), np.where(better, other_fit, fit)
    return np.where(fit >= LEAST_IOU, drawn, outlines)


def _right_angled(upright: NDArray[Any], walls: Walls, least: Floats, angle: Floats) -> NDArray[Any]:
    """Outlines rebuilt from their walls no shorter than ``least``, turned back by the angle."""
    drawn = np.empty(len(upright), dtype=object)
    for row, outline in enumerate(upright):
        own = walls.of(row)
        long = walls.length[own] >= least[row]
        at, stands = walls.offset[own][long], walls.upright[own][long]
        drawn[row] = rebuild(outline, at[stands], at[~stands])
    return turned(drawn, angle)


def _iou(one: NDArray[Any], other: NDArray[Any]) -> Floats:
    both = shapely.area(shapely.intersection(one, other))
    return np.asarray(both / (shapely.area(one) + shapely.area(other) - both), np.float64)


def _common_angles(angle: Floats, weight: Floats, pairs: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """One direction for neighbours that nearly agree, and the pairs that do."""
    pairs = pairs[apart(angle[pairs[:, 0]], angle[pairs[:, 1]]) <= ONE_FRAME]
    group = clusters(len(angle), pairs)
    mean = np.bincount(group, weight * np.cos(4 * angle)) + 1j * np.bincount(group, weight * np.sin(4 * angle))
    common = (np.angle(mean) / 4 % (np.pi / 2))[group]
    # A long curved row may have drifted too far from its mean: those keep their own direction.
    common = np.where(apart(common, angle) <= ONE_FRAME, common, angle)
    same = apart(common[pairs[:, 0]], common[pairs[:, 1]]) < 1e-9
    return common, pairs[same]
