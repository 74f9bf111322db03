"""What became of each true object."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.seams.scenes import Scene

VERDICTS = ("exact", "duplicated", "split", "partial", "merged", "lost")


def verdicts(scene: Scene, geometry: NDArray[Any], labels: NDArray[np.int64], *, iou: float) -> NDArray[Any]:
    """One of ``VERDICTS`` per true object.

    An output belongs to the object that it shares most ground with. An object is *merged* where an output that
    covers half of it covers half of another of its class too; else *exact* where one output belongs to it, and its
    IoU is above ``iou``; *duplicated* with such an output and others beside it; *split* with several outputs and
    none so good; *partial* with one that is not; *lost* with none.
    """
    n = len(scene)
    out, true = shapely.STRtree(scene.geometry).query(geometry, predicate="intersects")
    mine = labels[out] == scene.labels[true]
    out, true = out[mine], true[mine]
    shared = shapely.area(shapely.intersection(geometry[out], scene.geometry[true]))
    area_out, area_true = shapely.area(geometry), shapely.area(scene.geometry)
    overlap = shared / (area_out[out] + area_true[true] - shared)

    covers = shared >= 0.5 * area_true[true]
    fused = np.bincount(out[covers], minlength=len(geometry)) > 1
    merged = np.zeros(n, np.bool_)
    merged[true[covers & fused[out]]] = True

    order = np.lexsort((true, -shared, out))
    order = order[shared[order] > 0]
    first = order[np.unique(out[order], return_index=True)[1]]  # each output's own object
    count = np.bincount(true[first], minlength=n)
    best = np.zeros(n)
    np.maximum.at(best, true[first], overlap[first])
    good = best > iou
    return np.select(
        [merged, good & (count == 1), good, count > 1, count == 1],
        ["merged", "exact", "duplicated", "split", "partial"],
        "lost",
    )
