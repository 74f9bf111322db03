"""From instances in window pixels to outlines in grid pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import AnswerError, ModelError
from geoseg.instances import Instances
from geoseg.outlines import Outlines
from geoseg.polygons import gather, polygonal, valid
from geoseg.tiling import Tile
from geoseg.vectorize.cells import cell_outlines
from geoseg.vectorize.mosaic import Parts
from geoseg.vectorize.probabilities import contours
from geoseg.vectorize.simplify import simplify_rings

Masks = Sequence[NDArray[Any]]
Floats = NDArray[np.float64]

CUT_PX = 0.5
"""A box that ends this near to the edge of its window, in pixels, is taken as cut by it."""

AT_ONCE = 128
"""Crops that are drawn together: what they need stays in the processor's cache."""


def vectorize(instances: Sequence[Instances], tiles: Sequence[Tile], *, tolerance: float = 0.25) -> Outlines:
    """Polygons of all instances of a batch.

    A crop spans its box. Probabilities are contoured at 0.5, linear between cell centres; a bool crop is a
    set of cells and gives their outline (cells joined along edges, not corners). Both are simplified, then
    cut to the tile's window. Holes are kept, an object of several parts is one MultiPolygon, all polygons are
    valid, and an instance with nothing inside is left out. What an instance gives does not depend on the rest
    of the batch.

    Args:
        instances: what the detector saw, one per tile.
        tiles: the tiles, in the same order.
        tolerance: of the simplification, in pixels: no point of an outline moves farther than twice this; 0
            leaves it untouched.

    Raises:
        AnswerError: a crop of probabilities with NaN or infinity in it.
        ModelError: not one set of instances per tile, or a crop that holds neither bool nor probabilities.
    """
    if len(instances) != len(tiles):
        raise ModelError(
            f"{len(instances)} sets of instances for {len(tiles)} chips",
            allowed="one Instances per chip, in the same order",
            remedy="Return an empty Instances() where a chip shows nothing",
        )
    count = [len(each) for each in instances]
    if not sum(count):
        return Outlines()
    window = np.array([tile.window.xyxy for tile in tiles], np.float64).repeat(count, axis=0)
    boxes = np.concatenate([each.boxes for each in instances]).astype(np.float64) + np.tile(window[:, :2], 2)
    masks = [mask for each in instances for mask in each.masks]
    geometry = _cut(_polygons(masks, boxes, window, tolerance), window)
    outlines = Outlines(
        geometry=geometry,
        scores=np.concatenate([each.scores for each in instances]),
        labels=np.concatenate([each.labels for each in instances]),
        tiles=np.array([(tile.row, tile.col) for tile in tiles], np.int32).repeat(count, axis=0),
    )
    return outlines.take(np.flatnonzero(shapely.area(geometry) > 0))


def _polygons(masks: Masks, boxes: Floats, window: Floats, tolerance: float) -> NDArray[Any]:
    """``(n,)`` valid (Multi)Polygons in grid pixels, empty where a crop has nothing inside."""
    cells = _cells(masks)
    geometry = np.full(len(masks), shapely.Polygon(), dtype=object)
    for kind in (np.flatnonzero(cells), np.flatnonzero(~cells)):
        for start in range(0, len(kind), AT_ONCE):
            index = kind[start : start + AT_ONCE]
            crops, places = [masks[i] for i in index.tolist()], boxes[index]
            cut = np.abs(places - window[index]) < CUT_PX
            parts = cell_outlines(crops) if cells[index[0]] else contours(crops, cut)
            geometry[index] = _features(_placed(parts, crops, places), len(crops), tolerance)
    return geometry


def _cells(masks: Masks) -> NDArray[np.bool_]:
    """:func:`is_cells` of each; at once where all are sound probabilities."""
    if all(mask.dtype.kind == "f" for mask in masks):
        values = np.concatenate([mask.ravel() for mask in masks])
        if values.min() >= 0.0 and values.max() <= 1.0:
            return np.zeros(len(masks), np.bool_)
    return np.array([is_cells(mask) for mask in masks])


def is_cells(mask: NDArray[Any]) -> bool:
    """True for a set of cells, False for probabilities.

    Raises:
        AnswerError: probabilities with NaN or infinity among them.
        ModelError: neither.
    """
    kind = mask.dtype.kind
    if kind == "b":
        return True
    low, high = mask.min(), mask.max()
    if kind == "f" and low >= 0.0 and high <= 1.0:
        return False
    if kind in "iu" and low >= 0 and high <= 1:
        return True
    finite = kind != "f" or np.isfinite([low, high]).all()  # of one chip, where other numbers are those of all
    broken = ModelError if finite else AnswerError
    raise broken(
        f"a mask crop of {mask.dtype} with values from {low} to {high}",
        allowed="probabilities in [0, 1], or bool",
        remedy="Apply the sigmoid to logits; divide 8-bit masks by 255; replace NaN and infinity by 0",
    )


def _placed(parts: Parts, crops: Masks, boxes: Floats) -> Parts:
    """The same with the cells of each crop spread over its box."""
    shapes = np.array([crop.shape[::-1] for crop in crops], np.float64)
    each = parts.point_owner
    xy = boxes[each, :2] + parts.xy * (boxes[:, 2:] - boxes[:, :2])[each] / shapes[each]
    return replace(parts, xy=xy)


def _features(parts: Parts, n: int, tolerance: float) -> NDArray[Any]:
    """``(n,)`` simplified geometries, one per crop.

    Rings are simplified one by one, ten times faster than with their topology watched; the few features where
    that leaves rings that cross or vanish are then done again with it watched. Tolerance 0 drops only points
    that lie on the line between their neighbours.
    """
    if not len(parts.owner):
        return np.full(n, shapely.Polygon(), dtype=object)
    xy, offsets, small = simplify_rings(parts.xy, parts.rings, tolerance)
    geometry = _from_rings(replace(parts, xy=xy, rings=offsets), n)
    again = ~shapely.is_valid(geometry)
    ring_owner = np.repeat(parts.owner, np.diff(parts.polygons))
    again[ring_owner[small]] = True
    if again.any():
        whole = valid(_from_rings(parts, n)[again])
        geometry[again] = valid(shapely.simplify(whole, tolerance, preserve_topology=True))
    return geometry


def _from_rings(parts: Parts, n: int) -> NDArray[Any]:
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, parts.xy, (parts.rings, parts.polygons))
    return gather(polygons, parts.owner, n)


def _cut(geometry: NDArray[Any], window: Floats) -> NDArray[Any]:
    """Cut to the window (x1, y1, x2, y2): a detector may draw boxes that reach out of its chip."""
    bounds = shapely.bounds(geometry)
    with np.errstate(invalid="ignore"):
        out = np.flatnonzero((bounds[:, :2] < window[:, :2]).any(1) | (bounds[:, 2:] > window[:, 2:]).any(1))
    if out.size:
        geometry[out] = polygonal(shapely.intersection(geometry[out], shapely.box(*window[out].T)))
    return geometry
