"""What turns tiles' outlines into objects: geoseg, what others do, and the best that could be done."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.seams.detectors import Seen
from geoseg.components import components
from geoseg.outlines import Outlines
from geoseg.seams import merge
from geoseg.tiling import Plan

Objects = tuple[NDArray[Any], NDArray[np.int64]]
"""Geometry and label of each object."""
Merge = Callable[[Seen, Plan], Objects]


def ours(seen: Seen, plan: Plan) -> Objects:
    """geoseg."""
    merged = merge(seen.outlines, plan)
    return merged.outlines.geometry, merged.outlines.labels


def ceiling(seen: Seen, plan: Plan) -> Objects:
    """The union of all pieces of each object, told by the truth: what is lost here no merge can find."""
    objects = np.unique(seen.truth)
    geometry = [shapely.union_all(seen.outlines.geometry[seen.truth == k]) for k in objects]
    first = np.unique(seen.truth, return_index=True)[1]
    return np.array(geometry, object), seen.outlines.labels[first]


def centre(seen: Seen, plan: Plan) -> Objects:
    """Keep what has its centre in its own tile's core: exact for small objects whole in their window."""
    table = seen.outlines
    x, y = shapely.get_coordinates(shapely.centroid(table.geometry)).T
    height, width = plan.tiling.core_yx
    row, col = ((y - plan.area.row_off) // height), ((x - plan.area.col_off) // width)
    own = (row == table.tiles[:, 0]) & (col == table.tiles[:, 1])
    return table.geometry[own], table.labels[own]


def nms(seen: Seen, plan: Plan) -> Objects:
    """Greedy NMS of boxes, IoU 0.5, per class."""
    kept = [group[0] for group in _greedy(seen.outlines, over_smaller=False)]
    return seen.outlines.geometry[kept], seen.outlines.labels[kept]


def nmm(seen: Seen, plan: Plan) -> Objects:
    """Greedy merging of boxes, intersection over the smaller 0.5, per class; masks united."""
    groups = _greedy(seen.outlines, over_smaller=True)
    geometry = [shapely.union_all(seen.outlines.geometry[group]) for group in groups]
    return np.array(geometry, object), seen.outlines.labels[[group[0] for group in groups]]


def dissolve(seen: Seen, plan: Plan) -> Objects:
    """Union of all that overlaps, per class."""
    table, geometry, labels = seen.outlines, [], []
    for label in np.unique(table.labels):
        parts = shapely.get_parts(shapely.union_all(table.geometry[table.labels == label]))
        geometry.append(parts)
        labels.append(np.full(len(parts), label))
    return np.concatenate(geometry), np.concatenate(labels)


def masks(seen: Seen, plan: Plan) -> Objects:
    """Union of all masks of different tiles with an IoU of 0.5 or more as they are, not cut to shared ground."""
    table = seen.outlines
    i, j = shapely.STRtree(table.geometry).query(table.geometry, predicate="intersects")
    other = (table.tiles[i] != table.tiles[j]).any(axis=1) & (table.labels[i] == table.labels[j]) & (i < j)
    i, j = i[other], j[other]
    shared = shapely.area(shapely.intersection(table.geometry[i], table.geometry[j]))
    area = shapely.area(table.geometry)
    link = shared >= 0.5 * (area[i] + area[j] - shared)
    group = components(len(table), i[link], j[link])
    geometry = [shapely.union_all(table.geometry[group == k]) for k in range(int(group.max()) + 1)]
    return np.array(geometry, object), table.labels[np.unique(group, return_index=True)[1]]


def _greedy(table: Outlines, *, over_smaller: bool) -> list[list[int]]:
    """From the highest score down: each row left, and all rows left whose box overlaps it enough."""
    bounds = shapely.bounds(table.geometry)
    boxes = shapely.box(*bounds.T)
    size = shapely.area(boxes)
    i, j = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    sides = np.minimum(bounds[i, 2:], bounds[j, 2:]) - np.maximum(bounds[i, :2], bounds[j, :2])
    shared = sides.clip(0).prod(axis=1)
    against = np.minimum(size[i], size[j]) if over_smaller else size[i] + size[j] - shared
    hit = (shared >= 0.5 * against) & (table.labels[i] == table.labels[j]) & (i != j)
    near: dict[int, list[int]] = {}
    for a, b in zip(i[hit].tolist(), j[hit].tolist(), strict=True):
        near.setdefault(a, []).append(b)
    done, groups = np.zeros(len(table), np.bool_), []
    for row in np.argsort(-table.scores, kind="stable").tolist():
        if not done[row]:
            group = [row, *(k for k in near.get(row, []) if not done[k])]
            done[group] = True
            groups.append(group)
    return groups


def sahi(seen: Seen, plan: Plan) -> Objects:
    """``sahi``'s GREEDYNMM with its default match, intersection over the smaller of boxes, 0.5; per class."""
    combine = importlib.import_module("sahi.postprocess.combine")
    prediction = importlib.import_module("sahi.prediction").ObjectPrediction
    area = plan.area
    table, predictions = seen.outlines, []
    for geometry, score, label in zip(table.geometry, table.scores, table.labels, strict=True):
        rings = [np.asarray(part.exterior.coords)[:-1] for part in shapely.get_parts(geometry)]  # it knows no holes
        # It rounds to whole pixels, and fails altogether where that leaves a sliver no area.
        rings = [ring for ring in rings if len(ring) > 2 and shapely.Polygon(ring.astype(np.int64)).buffer(0).area > 0]
        if not rings:
            continue
        predictions.append(
            prediction(
                segmentation=[ring.ravel().tolist() for ring in rings],
                category_id=int(label),
                score=float(score),
                full_shape=[area.row_end, area.col_end],
            )
        )
    found = combine.GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=False)(predictions)
    geometry = [
        shapely.union_all(
            [shapely.make_valid(shapely.Polygon(np.reshape(ring, (-1, 2)))) for ring in item.mask.segmentation]
        )
        for item in found
    ]
    return np.array(geometry, object), np.array([item.category.id for item in found], np.int64)


def supervision(seen: Seen, plan: Plan) -> Objects:
    """``supervision``'s non-max suppression, as its InferenceSlicer does by default (IoU 0.5 of boxes); per class. Its
    masks are planes as large as the raster, so that it is given boxes here."""
    sv = importlib.import_module("supervision")
    table = seen.outlines
    boxes = np.column_stack([shapely.bounds(table.geometry), table.scores, table.labels])
    kept = sv.box_non_max_suppression(boxes, iou_threshold=0.5)
    return table.geometry[kept], table.labels[kept]


def supervision_nmm(seen: Seen, plan: Plan) -> Objects:
    """``supervision``'s non-max merge (IoU 0.5 of boxes), masks of a group united; per class."""
    sv = importlib.import_module("supervision")
    table = seen.outlines
    boxes = np.column_stack([shapely.bounds(table.geometry), table.scores, table.labels])
    groups = sv.box_non_max_merge(boxes, iou_threshold=0.5)
    geometry = [shapely.union_all(table.geometry[group]) for group in groups]
    return np.array(geometry, object), table.labels[[group[0] for group in groups]]


MERGES: dict[str, Merge] = {
    "geoseg": ours,
    "centre in core": centre,
    "mask IoU": masks,
    "box NMS": nms,
    "box NMM": nmm,
    "dissolve": dissolve,
}
PEERS: dict[str, tuple[str, Merge]] = {
    "sahi": ("sahi", sahi),
    "supervision NMS": ("supervision", supervision),
    "supervision NMM": ("supervision", supervision_nmm),
}


def available() -> dict[str, Merge]:
    """All merges, the peers' where they are installed, and the ceiling."""
    peers = {name: work for name, (module, work) in PEERS.items() if importlib.util.find_spec(module)}
    return {**MERGES, **peers, "(ceiling)": ceiling}
