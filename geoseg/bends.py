"""Edges that are straight in one CRS and bent in another: vertices between their ends keep them where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

_BEND_M = 0.01
"""Metres that an edge may run beside where it lies: as fine as GeoJSON's decimals."""
_HALVINGS = 16
"""At most, of one edge: through a pole there is no end to them."""
_AREAS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def bending(geometries: NDArray[Any], source: CRS, target: CRS) -> NDArray[Any]:
    """Polygons with vertices enough for their edges to stay within 1 cm of where they lie when moved to another CRS.

    Edges are halved, each by itself: what neighbours share they share afterwards as well, to the bit.

    Args:
        geometries: ``(n,)``; may hold None. What is no polygon stays as it is.
        source: their CRS, in which the result is too.
        target: the other.
    """
    if source == target or target.ellipsoid is None:
        return geometries
    result = geometries.copy()
    areas = np.isin(shapely.get_type_id(geometries), _AREAS) & ~shapely.is_empty(geometries)
    for high in (False, True):
        at = np.flatnonzero(areas & (shapely.has_z(geometries) == high))
        if len(at):
            result[at] = _finer(geometries[at], source, target)
    return result


def _finer(shapes: NDArray[Any], source: CRS, target: CRS) -> NDArray[Any]:
    """The same of (Multi)Polygons that all have heights or all have none."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    parts, owner = parts[~shapely.is_empty(parts)], owner[~shapely.is_empty(parts)]
    kind, xy, (rings, polygons) = shapely.to_ragged_array(parts)
    move = Transformer.from_crs(source, target, always_xy=True)
    unit = float(target.axis_info[0].unit_conversion_factor)

    def places(xy: NDArray[np.float64]) -> NDArray[np.float64]:  # in the other CRS, in metres or radians
        return np.column_stack(move.transform(xy[:, 0], xy[:, 1])) * unit

    ends = places(xy)
    begun = np.setdiff1d(np.arange(len(xy) - 1), rings[1:] - 1)  # first ends of the edges that are looked at
    for _ in range(_HALVINGS):
        middle = (xy[begun] + xy[begun + 1]) / 2
        between = places(middle)
        bent = _bent(ends[begun], between, ends[begun + 1], target)
        if not bent.any():
            break
        begun, middle, between = begun[bent], middle[bent], between[bent]
        xy, ends = (np.insert(old, begun + 1, new, axis=0) for old, new in ((xy, middle), (ends, between)))
        rings = rings + np.searchsorted(begun + 1, rings)
        begun = begun + np.arange(len(begun))
        begun = np.sort(np.concatenate([begun, begun + 1]))
    finer = np.asarray(shapely.from_ragged_array(kind, xy, (rings, polygons)), object)
    result = shapes.copy()
    for i in np.unique(owner[shapely.get_num_coordinates(finer) > shapely.get_num_coordinates(parts)]):
        mine = finer[slice(*np.searchsorted(owner, (i, i + 1)))]
        result[i] = mine[0] if shapes[i].geom_type == "Polygon" else shapely.multipolygons(mine)
    return result


def _bent(a: NDArray[Any], middle: NDArray[Any], b: NDArray[Any], crs: CRS) -> NDArray[np.bool_]:
    """Which edges from ``a`` to ``b`` run too far beside their ``middle``; none that leaps to the map's other end."""
    radius = float(crs.ellipsoid.semi_major_metre) if crs.ellipsoid else 0.0
    with np.errstate(invalid="ignore"):  # infinite where the other CRS has no such place
        there, on = middle - a, b - middle
        if crs.is_geographic:
            for step in (there, on):
                step[:, 0] = np.remainder(step[:, 0] + np.pi, 2 * np.pi) - np.pi
                step[:, 0] *= np.cos(middle[:, 1])
                step *= radius
        off = np.hypot(*((there - on) / 2).T)
        return np.asarray((off > _BEND_M) & (off < radius))
