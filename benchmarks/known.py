"""Objects of known outline, and how a network draws them.

A network with 28 x 28 masks sees a building through a box that is off by a pixel or so, with rounded corners, and
with walls that wander: :func:`drawn` samples true outlines onto such masks, blurs them, adds noise that is smooth
along the walls, and makes polygons of them with ``geoseg.vectorize``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from shapely.affinity import rotate, translate

from geoseg.instances import Instances
from geoseg.outlines import Outlines
from geoseg.regularize import resolve_overlaps
from geoseg.tiling import Tile
from geoseg.vectorize import vectorize
from geoseg.window import Window

MASK = 28
PITCH = 130
AREA = Window(row_off=0, col_off=0, height=8000, width=6000)

Geometries = NDArray[Any]


def one_building(kind: str, rng: np.random.Generator) -> list[Any]:
    """A building about the origin, or a row of them that share walls."""
    length, width = rng.uniform(30, 62), rng.uniform(24, 46)
    whole = shapely.box(0, 0, length, width)
    if kind == "L":
        whole -= shapely.box(length * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6), 99, 99)
    elif kind == "U":
        whole -= shapely.box(length * 0.33, width * rng.uniform(0.4, 0.6), length * 0.67, 99)
    elif kind == "courtyard":
        whole = shapely.box(0, 0, length + 15, width + 20)
        whole -= shapely.box(length * 0.35, width * 0.35, length * 0.65 + 15, width * 0.65 + 20)
    elif kind == "terrace":
        return terrace(rng)
    return [whole]


def terrace(rng: np.random.Generator) -> list[Any]:
    """Four to six houses of different depths in a row that share their party walls exactly; a third of the rows bend,
    and their houses are trapezes between party walls that bisect the bends."""
    bend = float(rng.choice([0.0, 0.0, 0.1]))
    n = int(rng.integers(4, 7))
    bearing = bend * np.arange(n)
    step = rng.uniform(13, 20, n)[:, None] * np.column_stack([np.cos(bearing), np.sin(bearing)])
    front = np.vstack([np.zeros(2), np.cumsum(step, axis=0)])
    wall = np.append(bearing, bearing[-1] + bend) - bend / 2 + np.pi / 2
    away = np.column_stack([np.cos(wall), np.sin(wall)])
    depth = rng.uniform(26, 40, n)
    return [
        shapely.Polygon([front[k], front[k + 1], front[k + 1] + depth[k] * away[k + 1], front[k] + depth[k] * away[k]])
        for k in range(n)
    ]


def buildings(n: int, seed: int) -> tuple[Geometries, NDArray[np.str_], NDArray[np.float64]]:
    """At least ``n`` buildings in a lattice of plots, each at its own angle; their kinds and directions (radians)."""
    rng = np.random.default_rng(seed)
    shapes: list[Any] = []
    kinds, angles = [], []
    plot = 0
    while len(shapes) < n:
        kind = ("rectangle", "L", "U", "courtyard", "terrace")[plot % 5]
        degrees, row = rng.uniform(0, 360), one_building(kind, rng)
        middle = shapely.union_all(row).centroid
        columns = AREA.width // PITCH - 1
        at = PITCH * (1 + np.array([plot % columns, plot // columns])) + rng.uniform(0, 1, 2)
        moved = [translate(rotate(each, degrees, origin=middle), *(at - [middle.x, middle.y])) for each in row]
        shapes += moved
        kinds += [kind] * len(row)
        angles += [np.radians(degrees)] * len(row)
        plot += 1
    truth = np.empty(len(shapes), dtype=object)
    truth[:] = shapes
    return resolve_overlaps(truth), np.array(kinds), np.array(angles)


def ships(n: int, seed: int) -> tuple[Geometries, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Hulls of 30 to 90 px with a bow and a tapered or square stern; their length, beam and heading (radians)."""
    rng = np.random.default_rng(seed)
    length, beam = rng.uniform(30, 90, n), np.zeros(n)
    beam = length * rng.uniform(0.15, 0.3, n)
    heading = rng.uniform(0, 2 * np.pi, n)
    truth = np.empty(n, dtype=object)
    for i in range(n):
        bow, stern, transom = rng.uniform(0.12, 0.3), rng.uniform(0.0, 0.12), rng.uniform(0.6, 1.0)
        t = np.linspace(0, 1, 9)
        side = [(bow * (1 - t[k]), np.sin(np.pi / 2 * (1 - t[k])) / 2) for k in range(8, -1, -1)]
        left = [(0.5 - x, y) for x, y in sorted(side)] + [(stern - 0.5, 0.5), (-0.5, transom / 2)]
        ring = np.array([*left, *((x, -y) for x, y in reversed(left))]) * [length[i], beam[i]]
        hull = shapely.make_valid(shapely.Polygon(ring))
        at = PITCH * (1 + np.array([i % 40, i // 40])) + rng.uniform(0, 1, 2)
        truth[i] = translate(rotate(hull, heading[i], origin=(0, 0), use_radians=True), *at)
    return truth, length, beam, heading


def drawn(truth: Geometries, seed: int, *, ragged: float = 0.7, tolerance: float = 0.25) -> Outlines:
    """As a network draws them: one outline per object, in the same order; ``ragged`` 0 is a perfect one."""
    rng = np.random.default_rng(seed)
    masks, boxes = [], []
    for shape in truth:
        box = np.array(shape.bounds) + np.array([-1.5, -1.5, 1.5, 1.5])
        xs, ys = np.linspace(*box[[0, 2]], MASK + 1), np.linspace(*box[[1, 3]], MASK + 1)
        cells = shapely.box(xs[None, :-1], ys[:-1, None], xs[None, 1:], ys[1:, None])
        share = shapely.area(shapely.intersection(cells, shape)) / ((xs[1] - xs[0]) * (ys[1] - ys[0]))
        noise = gaussian_filter(rng.normal(size=share.shape), 1.2)
        share = gaussian_filter(share, 0.7 * ragged) + 0.1 * ragged * noise / noise.std()
        masks.append(np.clip(share, 0, 1).astype(np.float32))
        boxes.append(box + rng.normal(0, 0.5 * ragged, 4))
    n = len(truth)
    chip = Instances(boxes=boxes, scores=rng.uniform(0.5, 1, n), labels=np.arange(n), masks=masks)
    found = vectorize([chip], [Tile(row=0, col=0, core=AREA, window=AREA)], tolerance=tolerance)
    if not np.array_equal(found.labels, np.arange(n)):
        raise AssertionError("an object was not seen")
    return Outlines(geometry=found.geometry, scores=found.scores, labels=np.zeros(n, np.int64), tiles=found.tiles)
