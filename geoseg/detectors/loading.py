"""From a name or a path to a detector."""

from __future__ import annotations

from pathlib import Path

from geoseg.detectors.base import Detector
from geoseg.detectors.cards import model_digest, weights_path
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.network import build
from geoseg.detectors.weights import load_state, read_weights


def load_model(model: str | Path, device: str = "auto") -> Detector:
    """A detector from a bundled name or a weights file, ready to predict.

    Args:
        model: ``"buildings"``, ``"ships"``, or a path to a ``.safetensors`` file.
        device: ``auto`` (the GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        ModelError: no such model, or a file that is damaged, a pickle, or does not fit its card.
        ResourceError: no such device.
    """
    path = weights_path(model)
    state, card = read_weights(path)
    net = build(card.architecture, len(card.classes))
    load_state(net, state, path)
    return MaskRCNNDetector.of(net, card, device=device, digest=model_digest(path))
