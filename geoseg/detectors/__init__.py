"""Detectors: networks behind one protocol. The only door to torch.

``load_model`` resolves on first use, so that cards can be read and custom detectors run without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoseg.detectors.base import Detector, ModelCard
from geoseg.detectors.cards import added_models, bundled_models, model_card, model_digest, weights_path

if TYPE_CHECKING:
    from geoseg.detectors.loading import load_model

__all__ = [
    "Detector",
    "ModelCard",
    "added_models",
    "bundled_models",
    "load_model",
    "model_card",
    "model_digest",
    "weights_path",
]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from geoseg.detectors.loading import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
