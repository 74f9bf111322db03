"""Pieces on two sides of a tile that missed its own: a strip of ten tiles is one object, nine of them suffice.

A piece has an *open end* where its window cuts it and no tile that looks past that edge has anything to say about it.
Two pieces with open ends are bridged where their common convex hull adds ground that neither of their tiles saw
(the missing tile's), hardly any that one of them saw and left out, and not much in all. One tile
that missed an object is likelier than two objects, each cut where the other would go on, both missed.
The ground between is not filled in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.outlines import Outlines
from geoseg.seams.areas import area_inside
from geoseg.seams.pairs import Index, Links, Pairs
from geoseg.seams.robust import intersection
from geoseg.seams.views import RIM, Views, halo_of
from geoseg.tiling import Plan

GUESS = 2.0
"""Ground that the hull may add in all, as a multiple of what the two pieces cover."""
BEND = 0.35
"""Ground that the hull may add where a tile looked, as a share of what the piece covers there."""
REACH = 2
"""Tiles, along rows and columns, between the tiles of two pieces that are bridged: one missed its own."""

SPARE = 32.0
"""Pixels added to the gap that a missing tile leaves, for masks that end short and cross it at an angle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spans(Links):
    """Columns of length m: pairs of rows i < j that may be bridged."""

    added: NDArray[np.float64]
    """Ground that their common hull adds, as a share of what they cover."""


def open_ends(outlines: Outlines, views: Views, pairs: Pairs, plan: Plan) -> NDArray[np.bool_]:
    """Rows cut by a side of their window past which no other tile that looks there has seen them."""
    out = np.zeros(len(outlines), np.bool_)
    if plan.tiling.halo == 0:  # no tile looks past another's edge
        return out
    for side in range(4):  # x0, y0, x1, y1
        low, high = _heard(views, pairs, side)
        along = [1 - side % 2, 3 - side % 2]  # the coordinates along this side
        cut = np.flatnonzero(views.near[:, side] & ~views.blind)
        ends = views.bounds[cut]
        unsure = (low[cut] > ends[:, along[0]]) | (high[cut] < ends[:, along[1]])
        cut = cut[unsure]
        strip = views.windows[cut].copy()
        strip[:, side - 2] = strip[:, side] + np.maximum(2 * RIM, views.blur[cut]) * (1 if side < 2 else -1)
        ends = shapely.bounds(intersection(outlines.geometry[cut], shapely.box(*strip.T))).reshape(-1, 4)
        out[cut[(low[cut] > ends[:, along[0]]) | (high[cut] < ends[:, along[1]])]] = True
    return out


def _heard(views: Views, pairs: Pairs, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From where to where along a side of its window each outline is known to a tile that looks past that side."""
    low, high = np.full(len(views.whole), np.inf), np.full(len(views.whole), -np.inf)
    pairs = pairs.take(pairs.iou > 0)  # one that lies beside it within the slack says nothing of where it goes on
    for k, other in ((pairs.i, pairs.j), (pairs.j, pairs.i)):
        past = (views.windows[other, side] - views.windows[k, side]) * (-1 if side < 2 else 1) > 0
        np.minimum.at(low, k[past], views.windows[other[past], 1 - side % 2])
        np.maximum.at(high, k[past], views.windows[other[past], 3 - side % 2])
    return low, high


def bridges(outlines: Outlines, views: Views, ends: NDArray[np.bool_], plan: Plan) -> Spans:
    """Pairs of rows i < j that may be bridged."""
    at = np.flatnonzero(ends)
    core, halo = np.array(plan.tiling.core_yx[::-1] * 2), halo_of(plan)
    gap = np.maximum(core - 2 * halo, 0) + SPARE
    reach = views.bounds[at] + gap * np.array([-1.0, -1.0, 1.0, 1.0])
    a, b = shapely.STRtree(outlines.geometry[at]).query(shapely.box(*reach.T))
    i, j = at[a], at[b]
    step = np.abs(outlines.tiles[i] - outlines.tiles[j]).max(axis=1, initial=0)
    fits = (i < j) & (outlines.labels[i] == outlines.labels[j]) & (step > 0) & (step <= REACH)
    i, j = i[fits], j[fits]
    both = np.column_stack([outlines.geometry[i], outlines.geometry[j]])
    hull = shapely.convex_hull(shapely.geometrycollections(both))
    covered = shapely.area(both).sum(axis=1)
    added = shapely.area(hull) / covered - 1
    straight = (added <= GUESS) & _agreed(hull, outlines, views, i) & _agreed(hull, outlines, views, j)
    return Spans(i=i[straight], j=j[straight], added=added[straight])


def _agreed(hull: NDArray[np.object_], outlines: Outlines, views: Views, rows: Index) -> NDArray[np.bool_]:
    """Where a hull adds little to an outline on the ground that its tile believes."""
    seen = views.believed[rows]
    mine = area_inside(outlines.geometry[rows], seen, bounds=views.bounds[rows])
    return np.asarray(area_inside(hull, seen) <= (1 + BEND) * mine, np.bool_)
