"""From a name or a path to a detector."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from geoseg.detectors.base import Detector, ModelCard
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.network import build
from geoseg.detectors.weights import load_state, read_card, read_weights
from geoseg.errors import ModelError

BUNDLED = Path(__file__).resolve().parent.parent / "models"
"""Where the weights that ship with geoseg are."""


def bundled_models() -> list[ModelCard]:
    """Cards of the models that ship with geoseg, by name."""
    return [read_card(path) for path in sorted(BUNDLED.glob("*.safetensors"))]


def weights_path(model: str | Path) -> Path:
    """The weights file that a bundled name or a path means.

    Raises:
        ModelError: neither.
    """
    named = BUNDLED / f"{model}.safetensors"
    if isinstance(model, str) and "/" not in model and named.is_file():
        return named
    if Path(model).is_file():
        return Path(model)
    names = [path.stem for path in sorted(BUNDLED.glob("*.safetensors"))]
    near = get_close_matches(str(model), names, n=1)
    raise ModelError(
        f"no model {str(model)!r}",
        allowed=f"{', '.join(names) or 'no bundled model'}, or the path of a .safetensors file",
        remedy=f"Did you mean {near[0]!r}?" if near else "`geoseg models` lists the bundled models",
    )


def model_card(model: str | Path) -> ModelCard:
    """The card of a bundled model or a weights file, without loading the network.

    Raises:
        ModelError: no such model, or no card in the file.
    """
    return read_card(weights_path(model))


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
    return MaskRCNNDetector.of(net, card, device=device)
