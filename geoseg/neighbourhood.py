"""Which objects have to do with each other's shapes, so that they can be shaped group by group."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.components import components
from geoseg.outlines import Outlines
from geoseg.polygons import come_near
from geoseg.shaping import Drafts, Shaping, moved


def influence(outlines: Outlines, shaping: Shaping) -> NDArray[np.float64]:
    """``(n, 4)`` x0, y0, x1, y1 in grid pixels: outlines whose boxes are apart have nothing to do with each other.

    Each box follows from its own row alone: it holds whatever may be drawn there.
    """
    if not shaping.settings.resolve_overlaps or not len(outlines):
        return np.asarray(shapely.bounds(outlines.geometry).reshape(-1, 4), np.float64)
    ground, margin = _at_most(moved(outlines.geometry, shaping.frame), shaping)
    # In a frame of its own a box is a parallelogram in pixels: the box around that.
    boxes = moved(shapely.box(*_around(ground, margin).T), shaping.frame, back=True)
    return np.asarray(shapely.bounds(boxes).reshape(-1, 4), np.float64)


def reached(outlines: Outlines, others: Outlines, shaping: Shaping) -> NDArray[np.bool_]:
    """``(n,)`` which outlines may have to do with any of the others, whatever may be drawn there: told by the ground of
    each and not by boxes, for what winds through a city has all of it in its box."""
    if not shaping.settings.resolve_overlaps or not len(outlines) or not len(others):
        return np.zeros(len(outlines), np.bool_)
    both = Outlines.concat([outlines, others])
    ground, margin = _at_most(moved(both.geometry, shaping.frame), shaping)
    boxes = shapely.box(*_around(ground, margin).T)
    other, one = shapely.STRtree(boxes[: len(outlines)]).query(boxes[len(outlines) :])
    other += len(outlines)
    alike = both.labels[one] == both.labels[other]
    found = np.zeros(len(outlines), np.bool_)
    found[_near(ground, margin, np.column_stack([one, other])[alike])[:, 0]] = True
    return found


def together(drafts: Drafts, shaping: Shaping, doubtful: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """``(n,)`` number of the group that each outline belongs to: groups can be settled one by one.

    ``settled`` of any rows that are whole groups gives those rows of ``settled`` of all. What is drawn decides: by
    what might have been drawn, a whole city would be one group.

    Args:
        drafts: of all rows, :func:`geoseg.shaping.drafted` together.
        shaping: what is to be done.
        doubtful: ``(n,)`` True where a row may have to do with others that are not here: its draft, and those of rows
            that it meets, may come out otherwise, as far as :func:`reached` goes. None: all are here.
    """
    n = len(drafts.old)
    if not shaping.settings.resolve_overlaps or n < 2:
        return np.arange(n)
    labels, ground, margin = drafts.outlines.labels, drafts.old.copy(), np.full(n, shaping.touch)
    doubtful = np.zeros(n, np.bool_) if doubtful is None else doubtful
    if shaping.settings.regularize != "none":
        meet = components(n, *_pairs(ground, margin, labels).T)
        doubtful = np.isin(meet, meet[doubtful])
        drawn = ~doubtful & ~shapely.is_empty(drafts.after)
        ground[drawn] = shapely.geometrycollections(np.column_stack([drafts.old[drawn], drafts.after[drawn]]))
    ground[doubtful], margin[doubtful] = _at_most(drafts.old[doubtful], shaping)
    return components(n, *_pairs(ground, margin, labels).T)


def _pairs(ground: NDArray[Any], margin: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(p, 2)`` rows of a class that come within their margins of each other."""
    boxes = shapely.box(*_around(ground, margin).T)
    one, other = shapely.STRtree(boxes).query(boxes)
    pair = (one < other) & (labels[one] == labels[other])
    return _near(ground, margin, np.column_stack([one, other])[pair])


def _near(ground: NDArray[Any], margin: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return pairs[come_near(ground, pairs, margin[pairs].sum(axis=1))]


def _at_most(geometry: NDArray[Any], shaping: Shaping) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The ground around which each outline may be drawn, in the frame, and how far around it."""
    ground = shapely.oriented_envelope(geometry) if shaping.settings.regularize == "ships" else geometry
    return ground, shaping.margin(geometry)


def _around(ground: NDArray[Any], margin: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(shapely.bounds(ground).reshape(-1, 4) + margin[:, None] * np.array([-1.0, -1.0, 1.0, 1.0]))
