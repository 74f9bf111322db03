"""Cutting ground into smaller ground: halves, blocks, lots. Geometry only.

Nothing is lost and nothing overlaps: neighbours out of one cut share its line exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

Rng = np.random.Generator


def pieces(shape: shapely.Geometry) -> list[shapely.Polygon]:
    """The polygons of any geometry."""
    return [part for part in shapely.get_parts(shape) if isinstance(part, shapely.Polygon) and not part.is_empty]


def long_axis(polygon: shapely.Polygon) -> tuple[float, float, float]:
    """Angle in degrees of the polygon's long direction, and its extents along and across it.

    Of the directions of its longest edge and the one across: cheaper than the smallest rectangle, same for
    buildings.
    """
    xy = np.asarray(polygon.exterior.coords)
    edges = np.diff(xy, axis=0)
    longest = edges[np.argmax((edges**2).sum(axis=1))]
    unit = longest / max(float(np.hypot(*longest)), 1e-9)
    along, across = float(np.ptp(xy @ unit)), float(np.ptp(xy @ np.array([-unit[1], unit[0]])))
    angle = float(np.degrees(np.arctan2(unit[1], unit[0])))
    return (angle, along, across) if along >= across else (angle + 90.0, across, along)


def halves(
    polygon: shapely.Polygon, share: float, angle_deg: float, gap_m: float = 0.0
) -> tuple[shapely.Polygon, shapely.Polygon]:
    """The plane before and after a line across the polygon, as far as it matters to the polygon.

    The line lies at `share` of the polygon's extent in the direction `angle_deg`, at right angles to it; a
    strip of width `gap_m` around it is left out.
    """
    normal = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    reach = np.asarray(polygon.exterior.coords) @ normal
    at = reach.min() + share * np.ptp(reach)
    centre = np.array([polygon.centroid.x, polygon.centroid.y])
    foot = centre + (at - centre @ normal) * normal
    far = 2.0 * polygon.length * np.array([-normal[1], normal[0]])
    sides = []
    for sign in (-1.0, 1.0):
        near = foot + sign * gap_m / 2 * normal
        deep = near + sign * 2.0 * polygon.length * normal
        sides.append(shapely.Polygon([near - far, near + far, deep + far, deep - far]))
    return sides[0], sides[1]


def cut(
    polygon: shapely.Polygon, share: float, angle_deg: float, gap_m: float = 0.0
) -> tuple[list[shapely.Polygon], list[shapely.Polygon]]:
    """The pieces of the polygon before and after the line that `halves` draws."""
    before, after = halves(polygon, share, angle_deg, gap_m)
    return pieces(polygon.intersection(before)), pieces(polygon.intersection(after))


def cut_blocks(
    rng: Rng, ground: shapely.Polygon, length_m: float, street_m: float, skew_deg: float
) -> Iterator[shapely.Polygon]:
    """The ground less its streets: blocks up to about `length_m` long."""
    waiting = [ground]
    while waiting:
        block = waiting.pop()
        angle, along, across = long_axis(block)
        small = along < length_m * rng.uniform(0.7, 1.4) and across < length_m * 0.8
        if small or along < 12:
            yield block
            continue
        width = street_m * rng.choice([0.3, 0.45, 0.7, 1.2])
        for side in cut(block, rng.uniform(0.35, 0.65), angle + rng.normal(0, skew_deg), width):
            waiting.extend(side)


def cut_lots(rng: Rng, block: shapely.Polygon, area_m2: float, skew_deg: float) -> Iterator[shapely.Polygon]:
    """Lots of about that area, each cut at right angles, or nearly, to the length of what it was cut from."""
    waiting = [block]
    while waiting:
        lot = waiting.pop()
        angle, along, across = long_axis(lot)
        small = lot.area < area_m2 * rng.uniform(0.6, 2.2) and along < 3.0 * across
        if small or lot.area < 3:
            yield lot
            continue
        for side in cut(lot, rng.uniform(0.36, 0.64), angle + rng.normal(0, skew_deg / 2)):
            waiting.extend(side)


def strips(rng: Rng, shape: shapely.Polygon, angle_deg: float, width_m: float) -> Iterator[shapely.Polygon]:
    """Halves of halves, side by side in the direction given, until each is about `width_m` wide."""
    normal = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    waiting = [shape]
    while waiting:
        strip = waiting.pop()
        if float(np.ptp(np.asarray(strip.exterior.coords) @ normal)) < width_m * rng.uniform(1.2, 1.8):
            yield strip
            continue
        for side in cut(strip, rng.uniform(0.42, 0.58), angle_deg):
            waiting.extend(side)


def row_lots(rng: Rng, block: shapely.Polygon, area_m2: float, skew_deg: float) -> Iterator[shapely.Polygon]:
    """Rows back to back along the block, each of narrow lots side by side."""
    angle = long_axis(block)[0]
    depth = np.sqrt(area_m2 * rng.uniform(1.0, 2.5))
    for row in strips(rng, block, angle + 90, depth):
        yield from strips(rng, row, angle + rng.normal(0, skew_deg), area_m2 / depth)


GRID_PX = 1.0 / 1024
"""Outlines are rounded to this: walls of neighbours then run apart by under 0.001 px. Edges in
line to within 1e-13, as cuts leave them, make GEOS return areas that are wrong altogether."""


def snapped(outline: shapely.Polygon) -> shapely.Geometry:
    """The outline rounded to `GRID_PX`; an empty polygon where the cutting left no valid one."""
    return shapely.set_precision(outline, GRID_PX) if outline.is_valid else shapely.Polygon()


def sound(outlines: list[shapely.Polygon]) -> NDArray[np.bool_]:
    """Which outlines, (n,), are valid and share no area with an earlier one.

    Overlay on coordinates in floating point goes wrong once in a few thousand cuts where edges are nearly
    in line: a court that meets a wall in a point, a difference that takes nothing away.
    """
    shapes = np.array(outlines, dtype=object)
    polygons = shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON
    sound = np.asarray(polygons & shapely.is_valid(shapes) & (shapely.area(shapes) > 0), dtype=np.bool_)
    ids = np.flatnonzero(sound)
    first, second = ids[shapely.STRtree(shapes[ids]).query(shapes[ids], predicate="intersects")]
    pairs = first < second
    first, second = first[pairs], second[pairs]
    sound[second[shapely.area(shapely.intersection(shapes[first], shapes[second])) > 0.1]] = False
    return sound
