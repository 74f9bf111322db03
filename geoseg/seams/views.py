"""How each outline stands in the window of the tile that saw it: seen whole, cut by the window, or a guest there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.outlines import Outlines
from geoseg.tiling import Plan

RIM = 6.0
"""Pixels along a window's inner edge in which a tile is not believed: a network's masks end up to about four
pixels short of the edge that cuts them, and their outline is a pixel or two off. Never more than half the halo."""
STRIP = 1.0
"""Pixels beside the border of two tiles without a halo, in which a piece has to come to be cut by it."""
SLACK = 3.0
"""Pixels by which two drawings of one border may differ. Never more than a quarter of the halo."""
CELLS = 28
"""Cells along each side of a network's mask (He et al. 2017, Mask R-CNN): it knows a border to half a cell, which is
more than ``RIM`` and ``SLACK`` where an object is some hundred pixels long, whatever the halo."""
CRUMBS = 4
"""Parts from which an outline is no view of a whole thing where none of them is half of it: a mask whose cells are
coarser than what it shows, a road or a pier across the window, leaves a row of crumbs of it, and may lose its ends."""

Boxes = NDArray[np.float64]
"""``(n, 4)`` x0, y0, x1, y1 in grid pixels."""
Sides = NDArray[np.float64]
"""``(4,)`` pixels at the sides x0, y0, x1, y1 of a tile."""


def _area_box(plan: Plan) -> Boxes:
    return np.array(plan.area.xyxy, np.float64)


def halo_of(plan: Plan) -> Sides:
    """The width of the halo at each side."""
    return np.array(plan.tiling.halo_yx[::-1] * 2, np.float64)


def rim_of(plan: Plan) -> Sides:
    """The width at each side of the rim in which a tile is not believed."""
    return np.minimum(RIM, halo_of(plan) / 2)


def slack_of(plan: Plan) -> float:
    """How far two drawings of one border may lie apart, in pixels."""
    return float(np.minimum(SLACK, halo_of(plan) / 4).min())


def cores_of(tiles: NDArray[np.int32], plan: Plan) -> Boxes:
    """The cores of tiles ``(n, 2)`` (row, col) as boxes."""
    area, size = _area_box(plan), np.array(plan.tiling.core_yx[::-1], np.float64)
    start = area[:2] + tiles[:, ::-1].astype(np.float64) * size
    return np.hstack([start, np.minimum(start + size, area[2:])])


def grown(boxes: Boxes, margin: float | Sides, plan: Plan) -> Boxes:
    """Each box with every *inner* side (one that is not the area's edge) moved outwards by ``margin`` pixels, then
    cut to the area; a negative margin shrinks."""
    area = _area_box(plan)
    out = boxes + np.where(boxes == area, 0.0, margin) * np.array([-1.0, -1.0, 1.0, 1.0])
    out[:, :2] = np.maximum(out[:, :2], area[:2])
    out[:, 2:] = np.minimum(out[:, 2:], area[2:])
    return np.asarray(out, np.float64)


def inside(boxes: Boxes, frames: Boxes) -> NDArray[np.bool_]:
    """Where a box lies within its frame, edges included."""
    within = (boxes[:, :2] >= frames[:, :2]).all(axis=1) & (boxes[:, 2:] <= frames[:, 2:]).all(axis=1)
    return np.asarray(within, np.bool_)


def meets(geometry: NDArray[Any], bounds: Boxes, frames: Boxes) -> NDArray[np.bool_]:
    """Where a polygon has ground inside its frame."""
    apart = (bounds[:, :2] >= frames[:, 2:]) | (bounds[:, 2:] <= frames[:, :2])
    out = np.asarray(~apart.any(axis=1), np.bool_)
    # What hangs together and leaves its frame along one axis alone has ground wherever its box has.
    within = (bounds[:, :2] >= frames[:, :2]) & (bounds[:, 2:] <= frames[:, 2:])
    one = shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON
    unsure = np.flatnonzero(out & ~within.all(axis=1) & ~(one & within.any(axis=1)))
    out[unsure] = shapely.intersects(geometry[unsure], shapely.box(*frames[unsure].T))
    return out


def near_seams(outlines: Outlines, plan: Plan) -> NDArray[np.bool_]:
    """Which outlines another tile may have seen too: those not deep inside their own core."""
    private = grown(cores_of(outlines.tiles, plan), -(halo_of(plan) + SLACK), plan)
    return ~inside(outlines.bounds, private)


def _crumbs(geometry: NDArray[Any], blur: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which polygons are in many parts, none of them half of it, and so long that the cells of a mask are to blame."""
    out = np.asarray((shapely.get_num_geometries(geometry) >= CRUMBS) & (blur > SLACK), np.bool_)
    many = np.flatnonzero(out)
    parts, of = shapely.get_parts(geometry[many], return_index=True)
    largest = np.zeros(len(many))
    np.maximum.at(largest, of, shapely.area(parts))
    out[many] = largest < 0.5 * shapely.area(geometry[many])
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Columns of length n, one row per outline, each a function of that row and the plan alone."""

    bounds: Boxes
    """Bounding box of the outline."""
    windows: Boxes
    """What its tile sees."""
    believed: Boxes
    """What its tile sees, without the rim along inner edges."""
    depth: NDArray[np.float64]
    """Pixels between the outline and the nearest inner edge of its window; infinite where there is none."""
    blur: NDArray[np.float64]
    """Pixels by which its border may be off, as half a cell of a mask as long as it is."""
    near: NDArray[np.bool_]
    """``(n, 4)`` True for each inner edge of its window (x0, y0, x1, y1) in whose rim it reaches, or may reach."""
    whole: NDArray[np.bool_]
    """True where it keeps clear of the rim and is not in crumbs: nothing suggests that the window cut it."""
    guest: NDArray[np.bool_]
    """True where it is cut and does not reach its own tile's core: another tile sees all this ground deeper."""
    blind: NDArray[np.bool_]
    """True where it lies wholly in the rim: no evidence of anything."""

    @staticmethod
    def of(outlines: Outlines, plan: Plan) -> Views:
        """How each of ``outlines`` stands in its tile."""
        bounds = outlines.bounds
        cores = cores_of(outlines.tiles, plan)
        windows = grown(cores, halo_of(plan), plan)
        believed = grown(windows, -rim_of(plan), plan)
        room = (bounds - windows) * np.array([1.0, 1.0, -1.0, -1.0])
        room = np.where(windows == _area_box(plan), np.inf, room)
        blur = np.asarray((bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0.0) / (2 * CELLS), np.float64)
        near = room <= (STRIP if plan.tiling.halo == 0 else np.maximum(rim_of(plan), blur[:, None]))
        whole = np.asarray(~(near.any(axis=1) | _crumbs(outlines.geometry, blur)), np.bool_)
        guest, blind = np.zeros(len(outlines), np.bool_), np.zeros(len(outlines), np.bool_)
        if plan.tiling.halo != 0:  # without a halo no ground is seen twice, and a tile is all there is to believe
            cut = np.flatnonzero(~whole)
            seen = outlines.geometry[cut]
            guest[cut] = ~meets(seen, bounds[cut], cores[cut])
            blind[cut] = ~meets(seen, bounds[cut], believed[cut])
        return Views(
            bounds=bounds,
            windows=windows,
            believed=believed,
            depth=room.min(axis=1, initial=np.inf),
            blur=blur,
            near=near,
            whole=whole,
            guest=guest,
            blind=blind,
        )

    def take(self, index: NDArray[np.int64]) -> Views:
        """The rows at ``index``."""
        return Views(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})
