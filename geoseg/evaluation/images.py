"""COCO predictions against COCO truth: a scene per image."""

from __future__ import annotations

import geopandas as gpd
import numpy as np

from geoseg.coco import Annotation, Coco
from geoseg.errors import ConfigError
from geoseg.evaluation.comparison import Comparison, lay


def compare_coco(pred: Coco, truth: Coco, *, iou: float = 0.5, any_label: bool = False) -> list[Comparison]:
    """One comparison per image of the truth, in its pixels.

    With run lengths on both sides, overlaps are those of pixels, exactly.

    Args:
        pred: what :func:`geoseg.coco.read_results` gave for ``truth``.
        truth: annotations; those with ``iscrowd`` are regions to ignore.
        iou: Threshold at which a pair counts.
        any_label: Let objects of any classes pair up.

    Raises:
        ConfigError: a threshold out of range, or images that ``truth`` does not have.
    """
    if unknown := {image.id for image in pred.images} - {image.id for image in truth.images}:
        raise ConfigError(f"predictions for image {min(unknown)}", allowed="the images of the truth")
    return [
        lay(
            _table(pred.by_image.get(image.id, ()), pred),
            _table(annotations, truth),
            iou=iou,
            any_label=any_label,
        )
        for image, annotations in truth
    ]


def _table(annotations: tuple[Annotation, ...], coco: Coco) -> gpd.GeoDataFrame:
    scores = [annotation.score for annotation in annotations]
    columns = {
        "label": np.array([coco.classes[annotation.category_id] for annotation in annotations], dtype=object),
        "score": np.array([np.nan if score is None else score for score in scores], np.float64),
        "iscrowd": np.array([annotation.ignore for annotation in annotations], bool),
    }
    return gpd.GeoDataFrame(columns, geometry=[annotation.polygon for annotation in annotations])
