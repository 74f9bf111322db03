"""Straight walls at any angle."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.polygons import gather
from geoseg.vectorize.simplify import simplify_rings


def straighten(geometry: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Polygons redrawn from few straight walls, each the line that fits the stretch of outline along it best.

    Corners are where neighbouring walls cross, so rounded corners become sharp. Where that gives no valid
    polygon, as in thin or ragged ones, some of its own vertices are kept instead (Douglas and Peucker 1973).
    """
    parts, owner = shapely.get_parts(geometry, return_index=True)
    if not len(parts):
        return geometry
    _, xy, (rings, polygons) = shapely.to_ragged_array(parts)
    xy, rings, _ = simplify_rings(xy, rings.astype(np.int64), tolerance)
    drawn = shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy, (rings, polygons))
    whole = gather(drawn, owner, len(geometry))
    crossed = ~shapely.is_valid(whole)
    whole[crossed] = shapely.simplify(geometry[crossed], tolerance)
    return whole
