"""A model card in the words of the MLM extension (https://github.com/stac-extensions/mlm)."""

from __future__ import annotations

import re
from typing import Any

from geoseg.detectors.base import ModelCard

TASK = "instance-segmentation"
_FAMILIES = {"maskrcnn": "Mask R-CNN"}


def model_fields(card: ModelCard) -> dict[str, Any]:
    """The ``mlm:`` fields of an Item, and the ``bands`` that they refer to."""
    fields: dict[str, Any] = {
        "mlm:name": _named(card.name),
        "mlm:architecture": architecture(card),
        "mlm:framework": "PyTorch",
        "mlm:tasks": [TASK],
        "mlm:input": [_input(card)],
        "mlm:output": [_output(card)],
        "mlm:hyperparameters": {
            "version": card.version,
            "score_threshold": card.score_threshold,
            "halo": card.halo,
            **({"gsd_m": card.gsd_m} if card.gsd_m else {}),
        },
    }
    if card.bands:
        fields["bands"] = [{"name": band} for band in card.bands]
    return fields


def architecture(card: ModelCard) -> str:
    """The architecture's name in the literature; ``unknown`` where the card does not say."""
    family = str(card.architecture.get("family") or ("maskrcnn" if card.architecture else "unknown"))
    return _FAMILIES.get(family, family)


def _input(card: ModelCard) -> dict[str, Any]:
    side = card.core + 2 * card.halo
    made: dict[str, Any] = {
        "name": "chip",
        "bands": list(card.bands or ()),
        "input": {
            "shape": [-1, len(card.bands) if card.bands else -1, side, side],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "uint8" if card.mean else "other",
        },
        "description": "A tile's core with its halo; chips at the raster's edge are smaller.",
    }
    if card.gsd_m:
        made["resize_type"] = "interpolation-area"
    if card.mean and card.std:
        made["value_scaling"] = [
            {"type": "z-score", "mean": mean, "stddev": std} for mean, std in zip(card.mean, card.std, strict=True)
        ]
    return made


def _output(card: ModelCard) -> dict[str, Any]:
    return {
        "name": "instances",
        "tasks": [TASK],
        "result": {"shape": [-1, 4], "dim_order": ["instance", "box"], "data_type": "float32"},
        "description": "Box, score, label and a box-local mask of each object; vectorized and merged across tiles.",
        "classification:classes": [
            {"value": value, "name": _class(name), "description": name} for value, name in enumerate(card.classes)
        ],
    }


def _named(name: str) -> str:
    """A name as the extension allows them: begins with a letter, ends with a letter or digit, 3 or more."""
    if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", name):
        return name
    return f"model-{name.rstrip('_.-')}"


def _class(name: str) -> str:
    """A class name as the Classification extension allows them."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name).strip("_") or "class"
