"""Merged outlines brought into shape: no overlaps, shared borders, straight walls or hulls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.config import ShapesSettings
from geoseg.detectors.base import ModelCard
from geoseg.grid import Grid
from geoseg.outlines import Outlines
from geoseg.polygons import come_near, gather, valid, without_holes
from geoseg.regularize import fit_hulls
from geoseg.regularize.buildings import reach, redrawn
from geoseg.regularize.ground import GRID, close_gaps, neighbours, resolve_overlaps, straight_borders, surface
from geoseg.seams.merging import canonical_order

SLIVER_PX = 1.0
"""Pixels: what is left of a footprint that lost ground, where it is narrower than this, is no footprint."""

PINHOLE_PX = 0.5
"""Square pixels: a smaller hole is noise of a mask between its pixels, or left between united pieces; one that a mask
of pixels can show has one at least."""

LEAST_HULL = 0.75
"""A hull that fits worse (IoU) than this is not used: rafts of boats, docks."""

MOST_TAKEN = 0.3
"""A drawing that covers a greater share of another outline than this is not used."""

ISOTROPIC = 0.005
"""Pixels whose steps differ by less, as a share, and cross at right angles within as many radians, are square."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shaping:
    """What is done to outlines, decided before a run begins."""

    grid: Grid
    """The grid that outlines lie in: tells how pixels lie on the ground, and where the raster ends."""
    settings: ShapesSettings
    """The settings; ``regularize`` is set."""

    @classmethod
    def of(cls, settings: ShapesSettings, card: ModelCard, grid: Grid) -> Shaping:
        """The card's way to regularize where the settings name none."""
        way = settings.regularize or card.regularize
        return cls(grid=grid, settings=settings.model_copy(update={"regularize": way}))

    @cached_property
    def frame(self) -> NDArray[np.float64] | None:
        """``(2, 2)`` symmetric matrix of determinant 1 that takes pixels to a plane in which angles are those on the
        ground; None where they are so in pixels, or nothing asks. One for the whole grid, from its centre."""
        if self.settings.regularize == "none":
            return None
        x, y = self.grid.gsd_xy_m
        cross = _cross_angle(self.grid)
        if abs(x / y - 1) < ISOTROPIC and abs(cross - np.pi / 2) < ISOTROPIC:
            return None
        # The square root of the metric tensor; that of a 2 x 2 matrix is (M + sqrt(det) I) / sqrt(trace + 2 sqrt(det)).
        metric = np.array([[x * x, x * y * np.cos(cross)], [x * y * np.cos(cross), y * y]]) / (x * y * np.sin(cross))
        return np.asarray((metric + np.eye(2)) / np.sqrt(np.trace(metric) + 2), np.float64)

    @property
    def touch(self) -> float:
        """How far around a shape its neighbours are those that come as far around theirs, in pixels."""
        return self.settings.gap_px / 2 + 2 * GRID

    def margin(self, geometry: NDArray[Any]) -> NDArray[np.float64]:
        """``(n,)`` how far around an outline its shape, and what it does to others, may reach, in pixels."""
        margin = np.full(len(geometry), self.touch)
        if self.settings.regularize != "none":
            margin += reach(geometry, self.settings.tolerance_px) + self.settings.tolerance_px
        return margin


@dataclass(frozen=True, kw_only=True, eq=False)
class Drafts:
    """Outlines half way to their shapes: each drawn anew on the ground that is left to it, beside neighbours that are
    drawn so, too, and may come into its way. A table of columns of length n; geometry is in the frame of right angles.
    """

    outlines: Outlines
    """As they were merged, without specks."""
    old: NDArray[Any]
    """``(n,)`` the same in the frame."""
    before: NDArray[Any]
    """``(n,)`` with overlaps resolved, if the settings say so; empty where nothing is left."""
    after: NDArray[Any]
    """``(n,)`` drawn anew."""

    def take(self, rows: NDArray[Any]) -> Drafts:
        """The rows at ``rows`` (positions or a bool mask)."""
        return Drafts(
            outlines=self.outlines.take(rows), old=self.old[rows], before=self.before[rows], after=self.after[rows]
        )


def shaped(outlines: Outlines, shaping: Shaping) -> Outlines:
    """The same rows with their geometry in shape; empty where an object lay under others and nothing is left of it.

    A pure function of the set of rows: neither their order nor rows of other groups
    (:func:`geoseg.neighbourhood.together`) change a bit of the result. Outlines that nothing is done to are returned
    as they are.

    Args:
        outlines: merged objects, in grid pixels.
        shaping: what is to be done.
    """
    return settled(drafted(outlines, shaping), shaping)


def drafted(outlines: Outlines, shaping: Shaping) -> Drafts:
    """The first half of :func:`shaped`, in which a row has to do with those alone that it meets or nearly meets."""
    geometry = without_holes(outlines.geometry, PINHOLE_PX)
    outlines = replace(outlines, geometry=_without_specks(geometry, shaping.settings.min_part))
    old = shapely.normalize(moved(outlines.geometry, shaping.frame))
    before, after = old.copy(), old.copy()
    for rows in _classes(outlines):
        pairs = np.zeros((0, 2), np.int64)
        if shaping.settings.resolve_overlaps:
            before[rows] = resolve_overlaps(old[rows], priority=outlines.scores[rows], sliver=SLIVER_PX)
            after[rows] = before[rows]
            rows = rows[~shapely.is_empty(before[rows])]
            pairs = neighbours(before[rows], shaping.settings.gap_px)
        after[rows] = _redrawn(before[rows], pairs, shaping)
    return Drafts(outlines=outlines, old=old, before=before, after=after)


def settled(drafts: Drafts, shaping: Shaping) -> Outlines:
    """The second half of :func:`shaped`: gaps between neighbours closed, ground given to one of them."""
    outlines, geometry = drafts.outlines, drafts.outlines.geometry.copy()
    for rows in _classes(outlines):
        some = drafts.take(rows)
        new = _without_specks(_in_place(some, shaping), shaping.settings.min_part)
        new = without_holes(new, PINHOLE_PX, others=new if shaping.settings.resolve_overlaps else None)
        touched = _changed(new, some.old)
        geometry[rows[touched]] = valid(_back(new[touched], shaping))
    return replace(outlines, geometry=geometry)


def _classes(outlines: Outlines) -> Iterator[NDArray[np.int64]]:
    """Rows of each class, in canonical order."""
    order = canonical_order(outlines)
    for label in np.unique(outlines.labels).tolist():
        yield order[outlines.labels[order] == label]


def _changed(now: NDArray[Any], before: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows of which something else was made, equal or not."""
    return np.array([a is not b for a, b in zip(now, before, strict=True)], np.bool_)


def _without_specks(geometry: NDArray[Any], share: float) -> NDArray[Any]:
    """Without parts that are smaller than ``share`` of the largest part of the same row."""
    parts, of = shapely.get_parts(geometry, return_index=True)
    area = shapely.area(parts)
    largest = np.zeros(len(geometry))
    np.maximum.at(largest, of, area)
    speck = area < share * largest[of]
    hit = np.unique(of[speck])
    left = np.isin(of, hit) & ~speck
    geometry = geometry.copy()
    geometry[hit] = gather(parts[left], of[left], len(geometry))[hit]
    return geometry


def _in_place(drafts: Drafts, shaping: Shaping) -> NDArray[Any]:
    """One class, in canonical order."""
    if not shaping.settings.resolve_overlaps:
        return _inside(drafts.after, shaping)
    whole = drafts.before.copy()
    rows = np.flatnonzero(~shapely.is_empty(whole))
    before, scores = whole[rows], drafts.outlines.scores[rows]
    after = _beside(drafts.after[rows], before)
    gap, way, tolerance = shaping.settings.gap_px, shaping.settings.regularize, shaping.settings.tolerance_px
    if way != "ships" and (gap > 0 or way == "buildings"):
        pairs = neighbours(before, gap)
        if way == "buildings":
            pairs = np.unique(np.concatenate([pairs, neighbours(after, gap)]), axis=0)
        after = close_gaps(after, before, pairs, opened=tolerance if way == "buildings" else 0.0, gap=gap)
    after = _inside(after, shaping)
    after = resolve_overlaps(after, priority=scores, sliver=SLIVER_PX, changed=_changed(after, before))
    if way != "ships" and gap > 0:
        kept = np.flatnonzero(~shapely.is_empty(after))
        after[kept] = straight_borders(after[kept], gap)
    whole[rows] = after
    return whole


def _beside(after: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
    """Drawings without those that take much of another's ground, as where it stands in a notch that they fill."""
    one, other = shapely.STRtree(before).query(after)
    pairs = np.column_stack([one, other])[(one != other) & _changed(after, before)[one]]
    met = come_near(np.concatenate([after, before]), pairs + np.array([0, len(after)]), 0.0)
    one, other = pairs[met].T
    taken = shapely.area(shapely.intersection(after[one], before[other]))
    after = after.copy()
    back = one[taken > MOST_TAKEN * shapely.area(before[other])]
    after[back] = before[back]
    return after


def _redrawn(geometry: NDArray[Any], pairs: NDArray[np.int64], shaping: Shaping) -> NDArray[Any]:
    if not len(geometry):
        return geometry
    if shaping.settings.regularize == "buildings":
        return redrawn(geometry, pairs, shaping.settings.tolerance_px)
    if shaping.settings.regularize == "ships":
        hulls = fit_hulls(geometry)
        most = shapely.buffer(shapely.oriented_envelope(geometry), reach(geometry, shaping.settings.tolerance_px))
        good = (hulls.fit >= LEAST_HULL) & shapely.is_valid(hulls.geometry) & shapely.covers(most, hulls.geometry)
        return np.where(good, hulls.geometry, geometry)
    return geometry


def _inside(geometry: NDArray[Any], shaping: Shaping) -> NDArray[Any]:
    """Cut at the raster's edge, which redrawing may have passed."""
    ground = moved(np.array([shapely.box(*shaping.grid.window.xyxy)], dtype=object), shaping.frame)[0]
    out = np.flatnonzero(~shapely.covers(ground, geometry))
    geometry = geometry.copy()
    geometry[out] = [surface(part) for part in shapely.intersection(geometry[out], ground)]
    return geometry


def _back(geometry: NDArray[Any], shaping: Shaping) -> NDArray[Any]:
    """From the frame to pixels. Where it is none of pixels, its lattice may round vertices past the raster's edge."""
    if shaping.frame is None:
        return geometry
    left, top, right, bottom = shaping.grid.window.xyxy
    there = moved(geometry, shaping.frame, back=True)
    return np.asarray(shapely.transform(there, lambda xy: np.clip(xy, (left, top), (right, bottom))), dtype=object)


def moved(geometry: NDArray[Any], frame: NDArray[np.float64] | None, *, back: bool = False) -> NDArray[Any]:
    """From pixels to the frame, or back; equal vertices come out equal."""
    if frame is None:
        return geometry
    (a, b), (_, d) = np.linalg.inv(frame) if back else frame

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([a * xy[:, 0] + b * xy[:, 1], b * xy[:, 0] + d * xy[:, 1]])

    return np.asarray(shapely.transform(geometry, move), dtype=object)


def _cross_angle(grid: Grid) -> float:
    """Angle on the ground, in radians, between the steps along columns and along rows, at the centre."""
    col, row = grid.width / 2, grid.height / 2
    half = [
        max(0.5, min(n / 4, 500.0, 5000.0 / m)) for n, m in zip((grid.width, grid.height), grid.gsd_xy_m, strict=True)
    ]
    lon, lat = grid.to_lonlat([row, row, row, row + half[1]], [col, col + half[0], col, col])
    away, _, _ = grid.geod.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
    return float(abs((np.radians(away[1] - away[0]) + np.pi) % (2 * np.pi) - np.pi))
