"""Shapes: how near to the truth, how many corners, what overlaps and slivers, how fast.

Buildings and ships of known outline (rectangles, L and U shapes, courtyards, terraces that share walls; hulls) are
drawn as a network draws them (``benchmarks/known.py``). Each way of shaping then sees the same outlines:

- raw: as they come from ``geoseg.vectorize``
- geoseg, none: ``geoseg.shaping`` with ``regularize = "none"``: overlaps resolved, borders shared
- geoseg, buildings: the same with ``regularize = "buildings"``
- buildingregulariser (where it is installed: extra ``peers``), with its defaults, and with its neighbour alignment

and once more for terraces that do not overlap to begin with. Figures are medians and means over objects, in pixels.

    python -m benchmarks.regularize [--objects 1452] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from benchmarks.known import AREA, Geometries, buildings, drawn, ships
from geoseg.config import ShapesSettings
from geoseg.detectors.base import ModelCard
from geoseg.grid import Grid
from geoseg.outlines import Outlines
from geoseg.regularize import fit_hulls
from geoseg.regularize.frame import apart, dominant_angles
from geoseg.regularize.ground import GRID
from geoseg.shaping import Shaping, shaped

GSD_M = 0.3
"""Metres to a pixel."""

TOUCH = 0.05
"""Square pixels that two outlines have in common before they count as overlapping; a sliver's least area too."""

Floats = NDArray[np.float64]
Way = Callable[[Outlines], Geometries]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--objects", type=int, default=1452)
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()
    truth, kinds, angles = buildings(options.objects, options.seed)
    seen = drawn(truth, options.seed)
    print(f"{len(truth)} buildings as a network draws them, {_pairs(truth)} pairs that share a wall")
    table(ways(), seen, truth, kinds, angles)
    row = np.flatnonzero(kinds == "terrace")
    clean = Outlines(geometry=truth, scores=seen.scores, labels=seen.labels, tiles=seen.tiles).take(row)
    print(f"\n{len(row)} terraced houses as they are, without a single overlap")
    table(ways(), clean, truth[row], kinds[row], angles[row])
    fleet(options.objects // 3, options.seed)


def ways() -> dict[str, Way]:
    """What is compared."""
    found: dict[str, Way] = {"raw": lambda outlines: outlines.geometry}
    found["geoseg, none"] = partial(_geoseg, way="none")
    found["geoseg, buildings"] = partial(_geoseg, way="buildings")
    try:
        from buildingregulariser import regularize_geodataframe
    except ImportError:
        print("buildingregulariser is not installed (extra `peers`): left out")
        return found
    found["buildingregulariser"] = partial(_peer, regularize_geodataframe, neighbor_alignment=False)
    found["... aligned"] = partial(_peer, regularize_geodataframe, neighbor_alignment=True)
    return found


def shaping_of(way: str) -> Shaping:
    """A rule for square pixels of 0.3 m."""
    grid = Grid(
        crs=CRS.from_epsg(32633), transform=Affine(GSD_M, 0, 5e5, 0, -GSD_M, 5e6), height=AREA.height, width=AREA.width
    )
    settings = ShapesSettings.model_validate({"regularize": way})
    return Shaping.of(settings, ModelCard(classes=("building",)), grid)


def _geoseg(outlines: Outlines, *, way: str) -> Geometries:
    return shaped(outlines, shaping_of(way)).geometry


def _peer(regularize: Any, outlines: Outlines, *, neighbor_alignment: bool) -> Geometries:
    import geopandas

    # In metres, which its defaults are meant for.
    ground = shapely.transform(outlines.geometry, lambda xy: xy * GSD_M)
    frame = geopandas.GeoDataFrame({"row": np.arange(len(outlines))}, geometry=ground, crs="EPSG:32633")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "low IoU with original polygon": it returns that then
        found = regularize(frame, num_cores=1, neighbor_alignment=neighbor_alignment)
    result = np.full(len(outlines), shapely.Polygon(), dtype=object)
    result[found["row"].to_numpy()] = shapely.transform(found.geometry.to_numpy(), lambda xy: xy / GSD_M)
    return result


def table(compared: dict[str, Way], seen: Outlines, truth: Geometries, kinds: Any, angles: Floats) -> None:
    """All ways, side by side."""
    print(f"{'':22}{'IoU raw':>8}{'IoU':>7}{'dist.':>7}{'Hausd.':>8}{'angle':>7}{'corners':>9}", end="")
    print(f"{'rect. 4':>9}{'overlaps':>10}{'slivers':>9}{'lost':>6}{'obj/s':>9}")
    for name, way in compared.items():
        began = time.process_time()
        found = way(seen)
        seconds = time.process_time() - began
        rate = f"{len(truth) / seconds:9,.0f}" if name != "raw" else ""
        print(f"{name:22}{score(found, seen.geometry, truth, kinds, angles)}{rate}")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One way, in figures."""

    iou_raw: float
    """Median IoU with the outlines that went in."""
    iou: float
    """Mean IoU with the truth."""
    distance: float
    """Mean distance between the boundaries, both ways, in pixels."""
    hausdorff: float
    """Mean of the greatest distance."""
    angle: float
    """Mean error of the dominant direction in degrees."""
    corners: float
    """Share of objects with as many corners as the truth."""
    rectangles: float
    """Share of true rectangles that come out with four corners."""
    overlaps: int
    """Pairs that overlap."""
    slivers: int
    """Gaps narrower than half a pixel between neighbours."""
    lost: int
    """Objects of which nothing is left."""

    def __str__(self) -> str:
        return (
            f"{self.iou_raw:8.3f}{self.iou:7.3f}{self.distance:7.2f}{self.hausdorff:8.2f}{self.angle:7.2f}"
            f"{self.corners:9.1%}{self.rectangles:9.1%}{self.overlaps:10,}{self.slivers:9,}{self.lost:6}"
        )


def score(found: Geometries, raw: Geometries, truth: Geometries, kinds: Any, angles: Floats) -> Score:
    """Compare with what went in and with the truth."""
    kept = np.flatnonzero(~shapely.is_empty(found))
    f, t = found[kept], truth[kept]
    right = corners(f) == corners(t)
    rectangle = kinds[kept] == "rectangle"
    distance, hausdorff = boundary_distance(f, t)
    straight = kinds[kept] != "terrace"
    return Score(
        iou_raw=float(np.median(iou(f, raw[kept]))),
        iou=float(iou(f, t).mean()),
        distance=float(distance.mean()),
        hausdorff=float(hausdorff.mean()),
        angle=float(np.degrees(apart(dominant_angles(f[straight]), angles[kept][straight])).mean())
        if straight.any()
        else 0.0,
        corners=float(right.mean()),
        rectangles=float(right[rectangle].mean()) if rectangle.any() else float("nan"),
        overlaps=overlapping(f),
        slivers=slivers(f),
        lost=len(found) - len(kept),
    )


def iou(one: Geometries, other: Geometries) -> Floats:
    both = shapely.area(shapely.intersection(one, other))
    return np.asarray(both / (shapely.area(one) + shapely.area(other) - both))


def corners(geometry: Geometries) -> NDArray[np.int64]:
    """Corners of each: vertices where the outline turns by more than ten degrees (a wall that ends at a neighbour's
    wall has a vertex there, and is no corner)."""
    parts, of = shapely.get_parts(geometry, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    owner = of[part]
    count = np.zeros(len(geometry), np.int64)
    for ring, row in zip(rings, owner, strict=True):
        step = np.diff(shapely.get_coordinates(ring), axis=0)
        step = step[np.hypot(*step.T) > 4 * GRID]
        angle = np.arctan2(step[:, 1], step[:, 0])
        turn = np.abs((np.diff(angle, append=angle[:1]) + np.pi) % (2 * np.pi) - np.pi)
        count[row] += int((turn > np.radians(10)).sum())
    return count


def boundary_distance(one: Geometries, other: Geometries) -> tuple[Floats, Floats]:
    """Mean and greatest distance between boundaries, sampled every half pixel, the worse of both directions."""
    mean, most = np.zeros(len(one)), np.zeros(len(one))
    for a, b in ((one, other), (other, one)):
        xy, owner = shapely.get_coordinates(shapely.segmentize(shapely.boundary(a), 0.5), return_index=True)
        away = shapely.distance(shapely.points(xy), shapely.boundary(b)[owner])
        mean = np.maximum(mean, np.bincount(owner, away, len(one)) / np.bincount(owner, minlength=len(one)))
        top = np.zeros(len(one))
        np.maximum.at(top, owner, away)
        most = np.maximum(most, top)
    return mean, most


def overlapping(geometry: Geometries) -> int:
    one, other = shapely.STRtree(geometry).query(geometry, predicate="intersects")
    pair = one < other
    shared = shapely.area(shapely.intersection(geometry[one[pair]], geometry[other[pair]]))
    return int((shared > TOUCH).sum())


def slivers(geometry: Geometries) -> int:
    """Gaps between two or more outlines that are narrower than half a pixel."""
    whole = shapely.union_all(geometry)
    closed = shapely.buffer(shapely.buffer(whole, 0.25, join_style="mitre"), -0.25, join_style="mitre")
    gaps = shapely.get_parts(shapely.difference(closed, whole))
    gaps = gaps[shapely.area(gaps) > TOUCH]
    gap, _ = shapely.STRtree(geometry).query(shapely.buffer(gaps, 0.01), predicate="intersects").reshape(2, -1)
    return int((np.bincount(gap, minlength=len(gaps)) > 1).sum())


def _pairs(truth: Geometries) -> int:
    """Pairs that have a wall in common."""
    one, other = shapely.STRtree(truth).query(truth, predicate="intersects")
    pair = one < other
    return int((shapely.length(shapely.intersection(truth[one[pair]], truth[other[pair]])) > 1).sum())


def fleet(n: int, seed: int) -> None:
    """Hulls against the smallest rectangle around the outline."""
    truth, length, beam, heading = ships(n, seed)
    raw = drawn(truth, seed).geometry
    began = time.process_time()
    hulls = fit_hulls(raw)
    rate = n / (time.process_time() - began)
    corner = shapely.get_coordinates(shapely.oriented_envelope(raw)).reshape(-1, 5, 2)
    side = np.diff(corner[:, :3], axis=1)
    size = np.hypot(side[..., 0], side[..., 1])
    longest = side[np.arange(n), size.argmax(axis=1)]
    print(
        f"\n{n} ships: hulls {rate:,.0f} objects/s, {np.median(iou(hulls.geometry, raw)):.3f} median IoU with the raw"
    )
    print(f"{'':22}{'IoU':>7}{'dist.':>7}{'length':>9}{'beam':>9}{'axis':>8}{'bow right':>11}")
    true_axis = heading % np.pi
    for name, shape, sizes, axis, ahead in (
        ("smallest rectangle", raw, size, np.arctan2(longest[:, 1], longest[:, 0]), None),
        ("geoseg, ships", hulls.geometry, np.column_stack([hulls.length, hulls.beam]), hulls.axis, hulls.axis),
    ):
        off = np.degrees(np.abs((axis - true_axis + np.pi / 2) % np.pi - np.pi / 2))
        right = float("nan") if ahead is None else (np.cos(ahead - heading) > 0).mean()
        errors = [np.abs(s / t - 1).mean() for s, t in ((sizes.max(axis=1), length), (sizes.min(axis=1), beam))]
        print(f"{name:22}{iou(shape, truth).mean():7.3f}{boundary_distance(shape, truth)[0].mean():7.2f}", end="")
        print(f"{errors[0]:9.2%}{errors[1]:9.2%}{off.mean():7.2f}°{right:11.1%}")


if __name__ == "__main__":
    main()
