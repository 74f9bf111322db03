"""Detectors that know the truth: one perfect, one as ragged as a network near the edge of what it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.seams.scenes import Scene
from geoseg.outlines import Outlines
from geoseg.tiling import Plan

OFF = (-1.0, 2.0)
"""Pixels by which a ragged outline is too small or too large."""
SHORT = 4.0
"""Pixels by which a ragged mask ends before the window's edge that cuts it, at most."""
MISSING = 0.02
"""Share of the pieces that are missing, of objects that several tiles see."""
NOTHING = shapely.Polygon()


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the tiles saw, and of which object each piece is."""

    outlines: Outlines
    """One row per piece."""
    truth: NDArray[np.int64]
    """``(n,)`` row of the scene."""


Detector = Callable[[Scene, Plan, int], Seen]
"""Scene, plan and seed to pieces."""


def _pieces(scene: Scene, plan: Plan) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Object, tile (row, col), window box (n, 4) and which of its sides are inner, of every piece."""
    tiles = list(plan.tiles())
    frames = np.array([tile.window.xyxy for tile in tiles], np.float64)
    tile, thing = shapely.STRtree(scene.geometry).query(shapely.box(*frames.T), predicate="intersects")
    order = np.lexsort((tile, thing))
    tile, thing = tile[order], thing[order]
    place = np.array([(t.row, t.col) for t in tiles], np.int32)
    inner = frames != np.array(plan.area.xyxy, np.float64)
    return thing, place[tile], frames[tile], inner[tile]


def perfect(scene: Scene, plan: Plan, seed: int) -> Seen:
    """Each object cut to each window, to the bit; scores random."""
    thing, tiles, frames, _ = _pieces(scene, plan)
    geometry = shapely.intersection(scene.geometry[thing], shapely.box(*frames.T))
    return _seen(scene, geometry, thing, tiles, np.random.default_rng(seed), least=1e-6)


def ragged(scene: Scene, plan: Plan, seed: int) -> Seen:
    """Off by -1 to +2 px, up to 4 px short of each edge that cuts, 2 % missing, scores random."""
    rng = np.random.default_rng(seed)
    thing, tiles, frames, inner = _pieces(scene, plan)
    drawn = shapely.buffer(scene.geometry[thing], rng.uniform(*OFF, len(thing)), join_style="mitre")
    reach = shapely.bounds(scene.geometry[thing])
    sign = np.array([1.0, 1.0, -1.0, -1.0])
    cut = inner & ((reach - frames) * sign < 0)
    short = frames + np.where(cut, rng.uniform(0, SHORT, frames.shape), 0.0) * sign
    geometry = shapely.intersection(drawn, shapely.box(*short.T))
    several = np.bincount(thing, minlength=len(scene))[thing] > 1
    geometry[several & (rng.uniform(size=len(thing)) < MISSING)] = NOTHING
    return _seen(scene, geometry, thing, tiles, rng, least=4.0)


def _seen(
    scene: Scene,
    geometry: NDArray[Any],
    thing: NDArray[Any],
    tiles: NDArray[Any],
    rng: np.random.Generator,
    *,
    least: float,
) -> Seen:
    keep = np.flatnonzero(shapely.area(geometry) > least)
    solid = shapely.get_dimensions(geometry[keep]) == 2
    for row in np.flatnonzero(shapely.get_type_id(geometry[keep]) == 7):  # a polygon that also touches in a line
        parts = shapely.get_parts(geometry[keep[row]])
        geometry[keep[row]] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    keep = keep[solid]
    scores = rng.uniform(0.3, 1.0, len(thing)).astype(np.float32)
    outlines = Outlines(
        geometry=geometry[keep], scores=scores[keep], labels=scene.labels[thing[keep]], tiles=tiles[keep]
    )
    return Seen(outlines=outlines, truth=thing[keep])
