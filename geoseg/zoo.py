"""Models that users add: checked, given their card, and kept in a folder of the user's own under the card's name."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.detectors import ModelCard, bundled_models
from geoseg.detectors.cards import SUFFIXES, card_file, card_file_text, read_card, user_folder
from geoseg.errors import ModelError, in_a_line
from geoseg.instances import Chip
from geoseg.paths import expanded
from geoseg.sinks.atomic import replacing
from geoseg.tiling import Tiling
from geoseg.window import Window

if TYPE_CHECKING:
    from geoseg.detectors import Detector

TRIAL = (128, 160)
"""Rows and columns of the chip that a new model is tried on, where it takes any size."""


def add_model(file: str | Path, card: str | Path | None = None, *, pickled: bool = False, force: bool = False) -> Path:
    """Check a model, and keep it with its card so that its name means it from now on.

    The card's family says what ``file`` is: a safetensors state dict (``maskrcnn``, ``torchvision``), an ONNX file
    (``onnx``), or a folder that transformers saved (``mask2former``). The network is built, filled and tried on a chip
    of noise before anything is written.

    Args:
        file: the weights.
        card: TOML file with the fields of :class:`~geoseg.detectors.ModelCard`; templates are in configs/models.
            None: the card that is with the weights, as ``geoseg train`` and ``geoseg models export`` leave it.
        pickled: whether ``file`` may be a pickle (``.pth``), of which only tensors are read.
        force: replace a model of the same name that was added before.

    Returns:
        The file that was written, in :func:`~geoseg.detectors.cards.user_folder`.

    Raises:
        ModelError: a card or weights that cannot be used or do not fit each other, or a name that is taken.
        ResourceError: a package that the family needs is not installed.
        SinkError: the folder cannot be written to.
    """
    # Here, for torch is heavy.
    from geoseg.detectors.families import family_of
    from geoseg.detectors.loading import read_stated
    from geoseg.detectors.onnx_file import read_onnx

    path = expanded(file)
    if not path.exists():
        raise ModelError(f"no file at {path}", remedy="Check the path")
    what = read_card(path) if card is None else read_card_toml(card)
    place = _place(what.name, force=force)
    family = family_of(what.architecture).family
    onnx = path.suffix.lower() == ".onnx"
    if onnx != (family == "onnx"):
        raise ModelError(
            f"{path}, with a card of the family {family!r}",
            allowed="an .onnx file for the family 'onnx', tensors for others",
        )
    place.mkdir(parents=True, exist_ok=True)
    if onnx:
        return _add_onnx(read_stated(path) if card is None else read_onnx(path), what, place)
    return _add_whole(path, what, place) if card is None else _add_tensors(path, what, place, pickled=pickled)


def read_card_toml(path: str | Path) -> ModelCard:
    """A model card written by hand.

    Raises:
        ModelError: no such file, not TOML, unknown or missing keys, or values that cannot be right.
    """
    try:
        values = tomllib.loads(expanded(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the card {path}, which cannot be read ({error})") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ModelError(f"the card {path}, which is not TOML ({error})") from error
    known = {each.name for each in fields(ModelCard)}
    if set(values) - known:
        raise ModelError(
            f"the card {path} with unknown keys {', '.join(sorted(set(values) - known))}",
            allowed=", ".join(sorted(known)),
        )
    if "name" not in values or "classes" not in values:
        raise ModelError(f"the card {path} without name or classes", remedy="Give both; see configs/models")
    return ModelCard.from_json(json.dumps(values, default=str))


def _place(name: str, *, force: bool) -> Path:
    """The folder to write to.

    Raises:
        ModelError: a name that is taken.
    """
    if name in {card.name for card in bundled_models()}:
        raise ModelError(f"the name {name!r}, which a bundled model has", remedy="Give the card another name")
    folder = user_folder()
    taken = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").exists()]
    if taken and not force:
        raise ModelError(f"the name {name!r}, which {taken[0]} has", remedy="Take another name, or give --force")
    return folder


def _add_onnx(data: bytes, card: ModelCard, place: Path) -> Path:
    from geoseg.detectors.onnx_detector import OnnxDetector
    from geoseg.detectors.onnx_file import class_names

    stated = class_names(data)
    own = {name: number for number, name in enumerate(card.classes)}
    if wrong := [name for number, name in stated.items() if own.get(name, number) != number]:
        raise ModelError(
            f"a card with {wrong[0]!r} in another place than the network, which says that its classes are "
            f"{', '.join(stated.values())}",
            allowed="classes in the network's order",
            remedy="Put the card's classes in that order",
        )
    detector = OnnxDetector.of(data, card, device="cpu")
    rows, columns = detector.session.input.size
    side = card.core + 2 * card.halo
    if min(rows or side, columns or side) < side:
        raise ModelError(
            f"a card with core {card.core} and halo {card.halo}, tiles of {side} pixels, for a network that takes "
            f"{rows} x {columns}",
            remedy="Set core and halo in the card so that core + 2 halo is at most that",
        )
    bands = detector.session.input.bands
    _try(detector, (rows or TRIAL[0], columns or TRIAL[1]), bands, detector.session.input.dtype)
    target = place / f"{card.name}.onnx"
    with replacing(target, card_file(target)) as (draft, beside):
        draft.write_bytes(data)
        beside.write_text(card_file_text(card, detector.digest), encoding="utf-8")
    _clear(place, target)
    return target


def _add_whole(path: Path, card: ModelCard, place: Path) -> Path:
    """Weights with their card, as they are."""
    from geoseg.detectors import load_model

    _try(load_model(path, device="cpu"), TRIAL, None)
    target = place / f"{card.name}.safetensors"
    with replacing(target) as (draft,):
        shutil.copyfile(path, draft)
    _clear(place, target)
    return target


def _add_tensors(path: Path, card: ModelCard, place: Path, *, pickled: bool) -> Path:
    from geoseg.detectors.conversion import read_mask2former, read_state
    from geoseg.detectors.loading import detector_of
    from geoseg.detectors.weights import write_weights

    if card.architecture.get("family") == "mask2former":
        state, config = read_mask2former(path)
        card = replace(card, architecture={**card.architecture, "config": config})
    else:
        state = read_state(path, pickled=pickled)
    _try(detector_of(state, card, path, device="cpu"), TRIAL, None)
    target = place / f"{card.name}.safetensors"
    with replacing(target) as (draft,):
        write_weights(state, card, draft)
    _clear(place, target)
    return target


def _clear(place: Path, target: Path) -> None:
    """Take away a replaced model of the other kind of file, which had the same name."""
    for suffix in SUFFIXES:
        other = place / f"{target.stem}{suffix}"
        if other != target:
            other.unlink(missing_ok=True)
            card_file(other).unlink(missing_ok=True)


def _try(detector: Detector, size: tuple[int, int], bands: int | None, dtype: Any = np.uint8) -> None:
    """Ask the detector about a chip of noise: what is wrong with it comes out now, not in a run.

    Raises:
        ModelError: it fails.
    """
    card = detector.card
    count = len(card.mean or card.bands or ()) or bands or 3
    whole = Window(row_off=0, col_off=0, height=size[0], width=size[1])
    [tile] = Tiling(core=max(size), halo=0).plan(whole).tiles()
    noise = np.random.default_rng(0).integers(0, 255, (count, *size), np.uint8).astype(np.uint8 if card.mean else dtype)
    try:
        detector.predict([Chip(tile=tile, pixels=noise, valid=np.ones(size, bool))])
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"a network that fails on a chip of {count} x {size[0]} x {size[1]} ({type(error).__name__}: "
            f"{in_a_line(error)})",
            remedy="Export it for any size (dynamic axes), or check the card's bands",
        ) from error


def export_model(model: str | Path, output: str | Path) -> Path:
    """Write a Mask R-CNN as one ONNX file, with its card beside it: ``OUTPUT.json``.

    Args:
        model: a name or a weights file, of the family ``maskrcnn`` or ``torchvision``.
        output: the ``.onnx`` file to write; ``--model OUTPUT`` then runs it by onnxruntime.

    Raises:
        ModelError: no such model, one of another family, or an output that is not called ``.onnx``.
        ResourceError: the package ``onnx`` is not installed.
        SinkError: it cannot be written.
    """
    from geoseg.detectors import load_model
    from geoseg.detectors.exporting import export_onnx
    from geoseg.detectors.onnx_file import onnx_digest

    target = expanded(output)
    if target.suffix.lower() != ".onnx":
        raise ModelError(f"an export named {target.name!r}", allowed="a name that ends in .onnx")
    data, card = export_onnx(load_model(model, device="cpu"))
    with replacing(target, card_file(target)) as (draft, beside):
        draft.write_bytes(data)
        beside.write_text(card_file_text(card, onnx_digest(data)), encoding="utf-8")
    return target
