"""The same pieces, passed through masks as a network gives them, and through geoseg's contours."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.seams.detectors import Seen
from geoseg.instances import Instances
from geoseg.outlines import Outlines
from geoseg.tiling import Plan

CELLS, FINE = 28, 3
"""Cells of a probability mask along each side, and points along each side of a cell that make its probability."""


def probabilities(outline: Any, box: NDArray[np.float64]) -> NDArray[np.float32]:
    """28 x 28 cells over the box: the share of each cell that the outline covers."""
    inside = _points(outline, box, CELLS * FINE, CELLS * FINE)
    return np.asarray(inside.reshape(CELLS, FINE, CELLS, FINE).mean(axis=(1, 3)), np.float32)


def pixels(outline: Any, box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whole pixels whose centre the outline covers."""
    return _points(outline, box, int(box[3] - box[1]), int(box[2] - box[0]))


def _points(outline: Any, box: NDArray[np.float64], rows: int, cols: int) -> NDArray[np.bool_]:
    x = box[0] + (np.arange(cols) + 0.5) * (box[2] - box[0]) / cols
    y = box[1] + (np.arange(rows) + 0.5) * (box[3] - box[1]) / rows
    shapely.prepare(outline)
    return np.asarray(shapely.contains_xy(outline, *np.meshgrid(x, y)), np.bool_)


def through_masks(seen: Seen, plan: Plan, *, whole_pixels: bool) -> Seen:
    """Each piece as its mask shows it."""
    from geoseg.vectorize import vectorize

    table, found, truth = seen.outlines, [], []
    for row in range(len(table)):
        tile = plan.tile(*table.tiles[row].tolist())
        box = np.asarray(table.geometry[row].bounds)
        if whole_pixels:
            box = np.concatenate([np.floor(box[:2]), np.ceil(box[2:])])
        mask = (pixels if whole_pixels else probabilities)(table.geometry[row], box)
        corner = np.tile([tile.window.col_off, tile.window.row_off], 2)
        instances = Instances(
            boxes=(box - corner)[None], scores=table.scores[[row]], labels=table.labels[[row]], masks=[mask]
        )
        outline = vectorize([instances], [tile])
        found.append(outline)
        truth += [seen.truth[row]] * len(outline)
    return Seen(outlines=Outlines.concat(found), truth=np.array(truth, np.int64))
