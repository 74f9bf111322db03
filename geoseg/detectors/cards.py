"""Which weights files there are and what their cards say. Reads a few kilobytes of each, without torch."""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError, ModelError
from geoseg.paths import expanded

BUNDLED = Path(__file__).resolve().parent.parent / "models"
"""Where the weights that ship with geoseg are."""
CARD_KEY = "geoseg_card"
"""Metadata key of the card in a weights file."""
DIGEST_KEY = "geoseg_sha256"
"""Metadata key of the SHA-256 over all tensors."""
SUFFIXES = (".safetensors", ".onnx")
"""What weights files are called."""
REMEDY = "Use a file written by `geoseg train`, or make one: geoseg models add FILE --card CARD.toml"


def bundled_models() -> list[ModelCard]:
    """Cards of the models that ship with geoseg, by name."""
    return [read_card(path) for path in sorted(BUNDLED.glob("*.safetensors"))]


def added_models() -> tuple[list[ModelCard], list[str]]:
    """Cards of the models that the user added, by name; and what is wrong with those that cannot be read."""
    cards, faults = [], []
    for path in _added().values():
        try:
            cards.append(read_card(path))
        except ModelError as error:
            faults.append(str(error))
    return cards, faults


def user_folder() -> Path:
    """Where the models that the user adds are: ``$GEOSEG_MODELS``, else a folder of the user's own data.

    Raises:
        ConfigError: the user has no home folder, as in a container with a user id of its own.
    """
    named = os.environ.get("GEOSEG_MODELS")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expanded(named or f"{data}/geoseg/models")


def _added() -> dict[str, Path]:
    """Weights files of the user's folder by name; a bundled model's name means the bundled one."""
    try:
        files = sorted(path for path in user_folder().iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")
    except (OSError, ConfigError):  # no such folder, or no home for it
        return {}
    return {path.stem: path for path in files if not (BUNDLED / f"{path.stem}.safetensors").exists()}


def model_card(model: str | Path) -> ModelCard:
    """The card of a model that has a name, or of a weights file, without loading the network.

    Raises:
        ModelError: no such model, or no card in the file.
    """
    return read_card(weights_path(model))


def model_digest(model: str | Path) -> str:
    """The SHA-256 that a model or a weights file states, over all tensors or the whole ONNX file; empty if none.

    Two trainings of one configuration have the same card, and different digests.

    Raises:
        ModelError: no such model, or no safetensors file.
    """
    path = weights_path(model)
    if path.suffix.lower() == ".onnx":
        return str(_beside(path).get("sha256", ""))
    with opened(path, framework="numpy") as file:
        return str((file.metadata() or {}).get(DIGEST_KEY, ""))


def weights_path(model: str | Path) -> Path:
    """The weights file that a name or a path means: bundled models first, then added ones, then files.

    Raises:
        ModelError: neither.
    """
    if not isinstance(model, str | os.PathLike):
        raise ModelError(
            f"a model of type {type(model).__name__}",
            allowed="the name of a model, or the path of a .safetensors or .onnx file",
            remedy="A detector needs no loading: it is passed as it is",
        )
    names = [path.stem for path in sorted(BUNDLED.glob("*.safetensors"))]
    if str(model) in names:
        return BUNDLED / f"{model}.safetensors"
    added = _added()
    if str(model) in added:
        return added[str(model)]
    path = expanded(model)
    if path.is_file():
        return path
    names += added
    near = get_close_matches(str(model), names, n=1)
    raise ModelError(
        f"no weights file at {path}" if path.suffix.lower() in SUFFIXES else f"no model {str(model)!r}",
        allowed=f"{', '.join(names) or 'no bundled model'}, or the path of a .safetensors or .onnx file",
        remedy=f"Did you mean {near[0]!r}?" if near else "`geoseg models` lists what there is",
    )


def read_card(path: str | Path) -> ModelCard:
    """The card inside a weights file.

    Raises:
        ModelError: no safetensors file, no card in it, or no card beside an ONNX file.
    """
    if Path(path).suffix.lower() == ".onnx":
        return ModelCard.from_json(json.dumps(_beside(Path(path)).get("card")))
    with opened(path, framework="numpy") as file:
        return card_in(file, path)


def card_file(path: Path) -> Path:
    """Where the card of an ONNX file is: beside it, for such a file stays as it is, byte for byte."""
    return path.with_name(f"{path.name}.json")


def card_file_text(card: ModelCard, digest: str) -> str:
    """What is in the file beside an ONNX file: the card, and the SHA-256 of the file that it belongs to."""
    return json.dumps({"card": json.loads(card.to_json()), "sha256": digest}, indent=2, sort_keys=True) + "\n"


def _beside(path: Path) -> dict[str, Any]:
    """The contents of the card file of an ONNX file.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    try:
        values = json.loads(card_file(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}, an ONNX file without {card_file(path).name} beside it", remedy=REMEDY) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{card_file(path)}, which cannot be read ({error})", remedy=REMEDY) from error
    if not isinstance(values, dict):
        raise ModelError(f"{card_file(path)}, which holds no card", remedy=REMEDY)
    return values


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
