"""Which weights files there are and what their cards say. Reads a few kilobytes of each, without torch."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from geoseg.detectors.base import ModelCard
from geoseg.errors import ModelError

BUNDLED = Path(__file__).resolve().parent.parent / "models"
"""Where the weights that ship with geoseg are."""
CARD_KEY = "geoseg_card"
"""Metadata key of the card in a weights file."""
DIGEST_KEY = "geoseg_sha256"
"""Metadata key of the SHA-256 over all tensors."""
REMEDY = "Use a file written by `geoseg train`, or convert the weights to safetensors with a model card"


def bundled_models() -> list[ModelCard]:
    """Cards of the models that ship with geoseg, by name."""
    return [read_card(path) for path in sorted(BUNDLED.glob("*.safetensors"))]


def model_card(model: str | Path) -> ModelCard:
    """The card of a bundled model or a weights file, without loading the network.

    Raises:
        ModelError: no such model, or no card in the file.
    """
    return read_card(weights_path(model))


def model_digest(model: str | Path) -> str:
    """The SHA-256 over all tensors that a bundled model or a weights file states; empty where it states none.

    Two trainings of one configuration have the same card, and different digests.

    Raises:
        ModelError: no such model, or no safetensors file.
    """
    with opened(weights_path(model), framework="numpy") as file:
        return str((file.metadata() or {}).get(DIGEST_KEY, ""))


def weights_path(model: str | Path) -> Path:
    """The weights file that a bundled name or a path means.

    Raises:
        ModelError: neither.
    """
    names = [path.stem for path in sorted(BUNDLED.glob("*.safetensors"))]
    if str(model) in names:
        return BUNDLED / f"{model}.safetensors"
    path = Path(model).expanduser()
    if path.is_file():
        return path
    near = get_close_matches(str(model), names, n=1)
    raise ModelError(
        f"no model {str(model)!r}",
        allowed=f"{', '.join(names) or 'no bundled model'}, or the path of a .safetensors file",
        remedy=f"Did you mean {near[0]!r}?" if near else "`geoseg models` lists the bundled models",
    )


def read_card(path: str | Path) -> ModelCard:
    """The card inside a weights file.

    Raises:
        ModelError: no safetensors file, or no card in it.
    """
    with opened(path, framework="numpy") as file:
        return card_in(file, path)


def opened(path: str | Path, *, framework: str) -> Any:
    """A safetensors file, open for reading (a context manager).

    Raises:
        ModelError: no such file, or not safetensors.
    """
    if not Path(path).is_file():
        raise ModelError(f"no weights file at {path}", remedy="`geoseg models` lists the bundled models")
    try:
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}, which is no safetensors file ({error})",
            allowed="safetensors (never a pickle: .pt and .pth can run code when loaded)",
            remedy=REMEDY,
        ) from error


def card_in(file: Any, path: str | Path) -> ModelCard:
    """The card of an open weights file.

    Raises:
        ModelError: it has none.
    """
    metadata = file.metadata() or {}
    if CARD_KEY not in metadata:
        keys = json.dumps(sorted(metadata))
        raise ModelError(f"{path}, a safetensors file without a model card (metadata keys {keys})", remedy=REMEDY)
    return ModelCard.from_json(metadata[CARD_KEY])
