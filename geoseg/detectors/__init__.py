"""Detectors: networks behind one protocol. The only door to torch.

Names resolve on first use, so that cards can be read and custom detectors run without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoseg.detectors.base import Detector, ModelCard

if TYPE_CHECKING:
    from geoseg.detectors.loading import bundled_models, load_model, model_card, weights_path

__all__ = ["Detector", "ModelCard", "bundled_models", "load_model", "model_card", "weights_path"]


def __getattr__(name: str) -> Any:
    if name in ("bundled_models", "load_model", "model_card", "weights_path"):
        from geoseg.detectors import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
