"""Buildings with straight walls and right angles."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.components import components
from geoseg.errors import ConfigError
from geoseg.polygons import gather, without_holes
from geoseg.regularize.cells import rebuild
from geoseg.regularize.frame import Floats, apart, dominant_angles, turned
from geoseg.regularize.ground import close_gaps, closed, neighbours, resolve_overlaps
from geoseg.regularize.straight import straighten
from geoseg.regularize.walls import Walls, find_walls, join_walls
from geoseg.seams.overlaps import iou

ONE_FRAME = np.radians(2.5)
"""Neighbours whose walls differ by less in direction are drawn in one common direction."""

SHORTEST = 3.0
"""Walls shorter than this many tolerances are never drawn."""

PLAIN = 0.15
"""Walls shorter than this share of a building's size (the root of its area) are drawn only where it pays."""

CORNERS = 0.01
"""Drawing those pays where the outline strays without (see ``RAGGED``) and it raises the IoU by this."""

MISFIT = 0.15
"""Walls at any angle pay where they leave at most this share of the misfit (1 - IoU) that right angles leave. Of what
mappers draw four angles in five and more are right, while a mask follows its own noise at any angle: of what the
bundled model finds, outlines with a share below this were nearer to the mappers' at any angle, the others at right ones
(``python -m benchmarks.regularize_real``)."""

BESIDE = 0.03
"""Beside a neighbour in another direction (a row that bends), where right angles would tear the wall between the two
open, and in round outlines they pay where they raise the IoU by this."""

ROUND = 0.82, 0.95
"""An outline that fills less of the smallest rectangle around it than the first (a disc: 0.79) and more of its convex
hull than the second is round: a convex one of right angles would be a rectangle."""

NOTCH = 0.5
"""Notches and holes of less than this many squares of the tolerance are left to the straightening of walls."""

RAGGED = 2.0
"""An outline strays where a point of it or of its drawing is farther from the other than this many tolerances, ..."""

ROUNDED = 0.1
"""... and this share of a building's size: the corners of a mask are rounder the fewer cells it has."""

LEAST_IOU = 0.8
"""A redrawn outline that fits worse than this (very small objects) is not used at all."""

AWAY = 0.08
"""Nor one that reaches farther out of the old one than twice the tolerance and this share of its size."""


def regularize_buildings(
    geometry: NDArray[Any], *, tolerance: float = 1.0, priority: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Right-angled outlines of buildings.

    Overlaps are resolved first. Each outline is then redrawn from straight walls along its dominant direction
    and across it; walls that neighbours have back to back become one shared wall. Outlines that right angles
    do not fit (round ones) are drawn with straight walls at any angle, and those that straight walls do not fit
    (tiny ones) stay as they are. Slivers that this opens between neighbours are closed. No overlaps come out;
    borders between neighbours have the same vertices on both sides.

    Args:
        geometry: ``(n,)`` valid Polygons or MultiPolygons in a frame with square units (pixels or metres).
        tolerance: how far a wall may move, in those units; walls shorter than three times it are left out.
        priority: ``(n,)`` who keeps ground that several cover (scores); larger areas first if not given.

    Returns:
        ``(n,)`` polygons; empty where an outline lay wholly under others.

    Raises:
        ConfigError: a tolerance below 0, and as :func:`resolve_overlaps`.
    """
    if not isinstance(tolerance, Real) or not 0 <= tolerance < np.inf:
        raise ConfigError(f"a tolerance of {tolerance!r}", allowed="a number, 0 or more")
    whole = resolve_overlaps(geometry, priority=priority)
    rows = np.flatnonzero(~shapely.is_empty(whole))
    if not rows.size:
        return whole
    pairs = neighbours(whole[rows], tolerance)
    drawn = redrawn(whole[rows], pairs, tolerance)
    drawn = close_gaps(drawn, whole[rows], pairs, opened=tolerance, gap=tolerance / 2)
    whole[rows] = resolve_overlaps(drawn, priority=None if priority is None else np.asarray(priority)[rows])
    return whole


def redrawn(outlines: NDArray[Any], pairs: NDArray[np.int64], tolerance: float) -> NDArray[Any]:
    """Each outline right-angled where that fits, else with walls at any angle, else as it was.

    Walls that the two outlines of a pair have back to back become one; overlaps and slivers may remain.

    Args:
        outlines: ``(n,)`` valid Polygons or MultiPolygons, none empty.
        pairs: ``(p, 2)`` rows of neighbours.
        tolerance: as of :func:`regularize_buildings`.
    """
    clean = _without_notches(outlines, tolerance)
    oblique = straighten(clean, tolerance)
    angle, same = _common_angles(dominant_angles(oblique), shapely.length(oblique), pairs)
    askew = np.zeros(len(outlines), np.bool_)
    askew[pairs[~same]] = True
    upright = turned(clean, -angle)
    walls = find_walls(upright, tolerance)
    walls = replace(walls, offset=join_walls(walls, pairs[same], 1.5 * tolerance))
    drawn, fit = _right_angled(upright, walls, tolerance)
    drawn = turned(drawn, angle)
    squared = _usable(drawn, fit, clean, outlines, tolerance)
    rows = np.flatnonzero(~squared | (fit + BESIDE < 1))
    angled = _without_notches(oblique[rows], tolerance)  # walls that meet at an acute angle may cut deep
    other = iou(angled, clean[rows])
    better = 1 - other <= MISFIT * (1 - fit[rows])
    some = np.flatnonzero(~better & (other > fit[rows] + BESIDE))
    better[some] = askew[rows[some]] | _round(clean[rows[some]])
    used = better | ~squared[rows]
    used[used] = _usable(angled[used], other[used], clean[rows[used]], outlines[rows[used]], tolerance)
    result = outlines.copy()
    result[squared] = drawn[squared]
    result[rows[used]] = angled[used]
    return result


def _without_notches(outlines: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Outlines with small holes filled, and notches narrower than two tolerances or at acute angles; notches stay
    where they come to nothing, or where nearly all of the outline is that narrow."""
    whole = without_holes(outlines, (SHORTEST * tolerance) ** 2)
    # No more is filled than the convex hull has: of outlines at any angle, half need no look.
    rows = np.flatnonzero(shapely.area(shapely.convex_hull(whole)) > shapely.area(whole) + NOTCH * tolerance**2)
    filled, clean = closed(whole[rows], tolerance, sharpest=1.5), whole.copy()
    before, after = shapely.area(whole[rows]), shapely.area(filled)
    used = (after > before + NOTCH * tolerance**2) & (before >= LEAST_IOU * after)
    clean[rows[used]] = filled[used]
    return np.where(shapely.area(outlines) >= LEAST_IOU * shapely.area(clean), clean, outlines)


def _round(outlines: NDArray[Any]) -> NDArray[np.bool_]:
    area, (fills, convex) = shapely.area(outlines), ROUND
    rectangle, hull = shapely.oriented_envelope(outlines), shapely.convex_hull(outlines)
    return np.asarray((area < fills * shapely.area(rectangle)) & (area > convex * shapely.area(hull)))


def _usable(
    drawn: NDArray[Any], fit: Floats, clean: NDArray[Any], outlines: NDArray[Any], tolerance: float
) -> NDArray[np.bool_]:
    """Drawings that fit their outlines and keep near them; ``fit`` is their IoU with the clean ones."""
    fit, other = fit.copy(), np.array([a is not b for a, b in zip(clean, outlines, strict=True)], np.bool_)
    fit[other] = iou(drawn[other], outlines[other])
    usable = fit >= LEAST_IOU
    usable[usable] = shapely.covers(around(outlines[usable], reach(outlines[usable], tolerance)), drawn[usable])
    return usable


def around(outlines: NDArray[Any], margin: Floats) -> NDArray[Any]:
    """Outlines grown by their margins. Of several parts each is grown alone: GEOS compares all of them with all."""
    parts, of = shapely.get_parts(outlines, return_index=True)
    pieces, part = shapely.get_parts(shapely.buffer(parts, margin[of], quad_segs=2), return_index=True)
    grown = gather(pieces, of[part], len(outlines))  # GEOS may leave a speck apart from what a part has grown to
    several = shapely.get_num_geometries(grown) > 1
    grown[several] = shapely.union_all(grown[several, None], axis=1)
    return grown


def reach(outlines: NDArray[Any], tolerance: float) -> Floats:
    """``(n,)`` how far out of its outline a redrawn building may reach at most."""
    return np.asarray(2 * tolerance + AWAY * np.sqrt(shapely.area(outlines)), np.float64)


def _stray(outlines: NDArray[Any], tolerance: float) -> Floats:
    """How far a drawing may lie from its outline, somewhere: as far as raggedness and rounded corners explain."""
    return np.asarray(RAGGED * tolerance + ROUNDED * np.sqrt(shapely.area(outlines)), np.float64)


def _strays(drawn: NDArray[Any], outlines: NDArray[Any], most: Floats) -> NDArray[np.bool_]:
    """Where a vertex of either lies farther than ``most`` from the other, or nothing is drawn."""
    out = np.zeros(len(drawn), np.bool_)
    for one, other in ((drawn, outlines), (outlines, drawn)):
        lines = shapely.boundary(other)
        shapely.prepare(lines)  # the Hausdorff distance takes time with the product of the vertices of both
        xy, of = shapely.get_coordinates(one, return_index=True)
        out[of[~shapely.dwithin(lines[of], shapely.points(xy), most[of])]] = True
    return out


def _right_angled(upright: NDArray[Any], walls: Walls, tolerance: float) -> tuple[NDArray[Any], Floats]:
    """Outlines rebuilt from their walls, without the short ones unless it pays; their IoU with the outlines."""
    least = SHORTEST * tolerance
    plain = np.maximum(least, PLAIN * np.sqrt(shapely.area(upright)))
    long, longer = walls.length >= least, walls.length >= plain[walls.owner]
    drawn, fit = rebuild(upright, walls.owner[longer], walls.upright[longer], walls.offset[longer])
    left_out = np.unique(walls.owner[long & ~longer])
    ask = left_out[fit[left_out] + CORNERS < 1]
    ask = ask[_strays(drawn[ask], upright[ask], _stray(upright[ask], tolerance))]
    again = np.flatnonzero(long & np.isin(walls.owner, ask))
    freer, freer_fit = rebuild(
        upright[ask], np.searchsorted(ask, walls.owner[again]), walls.upright[again], walls.offset[again]
    )
    pays = freer_fit > fit[ask] + CORNERS
    drawn[ask[pays]], fit[ask[pays]] = freer[pays], freer_fit[pays]
    return drawn, fit


def _common_angles(angle: Floats, weight: Floats, pairs: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    """One direction for neighbours that nearly agree, and which pairs do."""
    agree = apart(angle[pairs[:, 0]], angle[pairs[:, 1]]) <= ONE_FRAME
    group = components(len(angle), *pairs[agree].T)
    mean = np.bincount(group, weight * np.cos(4 * angle)) + 1j * np.bincount(group, weight * np.sin(4 * angle))
    common = (np.angle(mean) / 4 % (np.pi / 2))[group]
    # A long curved row may have drifted too far from its mean: those keep their own direction.
    common = np.where(apart(common, angle) <= ONE_FRAME, common, angle)
    return common, agree & (apart(common[pairs[:, 0]], common[pairs[:, 1]]) < 1e-9)
