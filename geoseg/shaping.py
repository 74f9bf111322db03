"""Merged outlines brought into shape: no overlaps, shared borders, straight walls or hulls."""

from __future__ import annotations

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
from geoseg.polygons import valid, without_holes
from geoseg.regularize import fit_hulls
from geoseg.regularize.buildings import reach, redrawn
from geoseg.regularize.ground import GRID, close_gaps, clusters, neighbours, resolve_overlaps, straight_borders, surface
from geoseg.seams.merging import canonical_order

SLIVER_PX = 1.0
"""Pixels: what is left of a footprint that lost ground, where it is narrower than this, is no footprint."""

PINHOLE_PX = 0.5
"""Square pixels: a smaller hole is noise of a mask between its pixels, or left between united pieces; one that a mask
of pixels can show has one at least."""

LEAST_HULL = 0.75
"""A hull that fits worse (IoU) than this is not used: rafts of boats, docks."""

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

    def margin(self, geometry: NDArray[Any]) -> NDArray[np.float64]:
        """``(n,)`` how far around an outline its shape, and what it does to others, may reach, in pixels."""
        margin = np.full(len(geometry), self.settings.gap_px / 2 + 2 * GRID)
        if self.settings.regularize != "none":
            margin += reach(geometry, self.settings.tolerance_px) + self.settings.tolerance_px
        return margin


def together(outlines: Outlines, shaping: Shaping) -> NDArray[np.int64]:
    """``(n,)`` number of the group that each outline belongs to: groups can be shaped one by one.

    ``shaped`` of any rows that are whole groups gives those rows of ``shaped`` of all.
    """
    n = len(outlines)
    if not shaping.settings.resolve_overlaps or n < 2:
        return np.arange(n)
    ground, margin, bounds = _touched(outlines, shaping)
    boxes = shapely.box(*bounds.T)
    one, other = shapely.STRtree(boxes).query(boxes)
    pair = (one < other) & (outlines.labels[one] == outlines.labels[other])
    one, other = one[pair], other[pair]
    near = shapely.distance(ground[one], ground[other]) <= margin[one] + margin[other]
    return clusters(n, np.column_stack([one[near], other[near]]))


def influence(outlines: Outlines, shaping: Shaping) -> NDArray[np.float64]:
    """``(n, 4)`` x0, y0, x1, y1 in grid pixels: outlines whose boxes are apart have nothing to do with each other.

    Each box follows from its own row alone.
    """
    if not shaping.settings.resolve_overlaps or not len(outlines):
        return np.asarray(shapely.bounds(outlines.geometry).reshape(-1, 4), np.float64)
    _, _, bounds = _touched(outlines, shaping)
    # In a frame of its own a box is a parallelogram in pixels: the box around that.
    boxes = _moved(shapely.box(*bounds.T), shaping.frame, back=True)
    return np.asarray(shapely.bounds(boxes).reshape(-1, 4), np.float64)


def _touched(outlines: Outlines, shaping: Shaping) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """The ground of each outline in the frame, how far around it it matters, and the box ``(n, 4)`` around both."""
    geometry = _moved(outlines.geometry, shaping.frame)
    margin = shaping.margin(geometry)
    ground = shapely.oriented_envelope(geometry) if shaping.settings.regularize == "ships" else geometry
    return ground, margin, shapely.bounds(ground) + margin[:, None] * np.array([-1.0, -1.0, 1.0, 1.0])


def shaped(outlines: Outlines, shaping: Shaping) -> Outlines:
    """The same rows with their geometry in shape; empty where an object lay under others and nothing is left of it.

    A pure function of the set of rows: neither their order nor rows of other groups (:func:`together`) change a
    bit of the result. Outlines that nothing is done to are returned as they are.

    Args:
        outlines: merged objects, in grid pixels.
        shaping: what is to be done.
    """
    geometry = outlines.geometry.copy()
    geometry = _without_specks(geometry, shaping.settings.min_part)
    order = canonical_order(outlines)
    for label in np.unique(outlines.labels).tolist():
        rows = order[outlines.labels[order] == label]
        old = shapely.normalize(_moved(geometry[rows], shaping.frame))
        new = _without_specks(_in_shape(old, outlines.scores[rows], shaping), shaping.settings.min_part)
        touched = _changed(new, old)
        geometry[rows[touched]] = valid(_moved(new[touched], shaping.frame, back=True))
    return replace(outlines, geometry=geometry)


def _changed(now: NDArray[Any], before: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows of which something else was made, equal or not."""
    return np.array([a is not b for a, b in zip(now, before, strict=True)], np.bool_)


def _without_specks(geometry: NDArray[Any], share: float) -> NDArray[Any]:
    """Without parts that are smaller than ``share`` of the largest part of the same row, and without pinholes."""
    geometry = without_holes(geometry, PINHOLE_PX)
    parts, of = shapely.get_parts(geometry, return_index=True)
    area = shapely.area(parts)
    largest = np.zeros(len(geometry))
    np.maximum.at(largest, of, area)
    speck = area < share * largest[of]
    hit = np.unique(of[speck])
    left = np.isin(of, hit) & ~speck
    geometry = geometry.copy()
    geometry[hit] = shapely.multipolygons(parts[left], indices=np.unique(of[left], return_inverse=True)[1])
    single = hit[shapely.get_num_geometries(geometry[hit]) == 1]
    geometry[single] = shapely.get_geometry(geometry[single], 0)
    return geometry


def _in_shape(geometry: NDArray[Any], scores: NDArray[np.float32], shaping: Shaping) -> NDArray[Any]:
    """One class, in canonical order, in the frame of right angles."""
    if not shaping.settings.resolve_overlaps:
        return _inside(_redrawn(geometry, np.zeros((0, 2), np.int64), shaping), shaping)
    whole = resolve_overlaps(geometry, priority=scores, sliver=SLIVER_PX)
    rows = np.flatnonzero(~shapely.is_empty(whole))
    before, scores = whole[rows], scores[rows]
    gap, way, tolerance = shaping.settings.gap_px, shaping.settings.regularize, shaping.settings.tolerance_px
    pairs = neighbours(before, gap)
    after = _redrawn(before, pairs, shaping)
    if way != "ships" and (gap > 0 or way == "buildings"):
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
    ground = _moved(np.array([shapely.box(*shaping.grid.window.xyxy)], dtype=object), shaping.frame)[0]
    out = np.flatnonzero(~shapely.covers(ground, geometry))
    geometry = geometry.copy()
    geometry[out] = [surface(part) for part in shapely.intersection(geometry[out], ground)]
    return geometry


def _moved(geometry: NDArray[Any], frame: NDArray[np.float64] | None, *, back: bool = False) -> NDArray[Any]:
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
