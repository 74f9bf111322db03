"""Tensors of networks that were trained elsewhere, by the names that the network itself has for them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from geoseg.detectors.cards import opened
from geoseg.errors import ModelError, ResourceError, in_a_line

NESTED = ("model", "state_dict", "model_state_dict")
"""Under which of its keys a training's checkpoint holds the network's tensors."""
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
"""How transformers calls the tensors in one file, and the list of the files where there are several."""


def read_state(path: Path, *, pickled: bool = False) -> dict[str, Tensor]:
    """The tensors of a state dict, contiguous and on the CPU; counters of batch normalisation are left out.

    Args:
        path: a ``.safetensors`` file; or a ``.pth`` or ``.pt`` file, if ``pickled`` says so.
        pickled: whether a pickle may be read. Only tensors and plain containers are then taken from it
            (``torch.load`` with ``weights_only``), so no code of it runs; but a file of an unknown source is still
            better had as safetensors.

    Raises:
        ModelError: not such a file, or no tensors in it.
    """
    if path.suffix.lower() in (".pth", ".pt", ".bin", ".ckpt"):
        if not pickled:
            raise ModelError(
                f"{path}, a pickle by its name",
                allowed="safetensors, or a pickle that you say you trust",
                remedy="Say so with --pickle: only tensors are read from it, and they are stored as safetensors",
            )
        values: Any = _unpickled(path)
    else:
        values = _tensors(path)
    return _named(values, path)


def read_mask2former(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the config of a Mask2Former that transformers saved: ``config.json`` and safetensors.

    Args:
        path: the folder, or a file in it.

    Raises:
        ModelError: not such a folder, a config that reaches for anything outside it, or tensors that do not fit it.
        ResourceError: transformers is not installed.
    """
    from geoseg.detectors.mask2former import checked_config

    folder = path if path.is_dir() else path.parent
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder}, without a config.json that can be read ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'}, which is no object")
    checked_config(config)
    try:
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
    except ImportError as error:
        raise ResourceError("no transformers", remedy="pip install 'geoseg[transformers]'") from error
    loader: Any = Mask2FormerForUniversalSegmentation
    tensors = {name: tensor for file in _files(folder) for name, tensor in _tensors(file).items()}
    try:
        # Its own, which knows the names that earlier versions gave to tensors; but never given the folder, whose files
        # may name others anywhere.
        net, said = loader.from_pretrained(
            None,
            config=Mask2FormerConfig.from_dict(config),
            state_dict=tensors,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except Exception as error:  # what transformers raises at configs that cannot be has no common base
        raise ModelError(f"{folder}, which transformers cannot load ({in_a_line(error)})") from error
    lost = sorted(map(str, [*said["missing_keys"], *said["mismatched_keys"]]))
    if lost:
        raise ModelError(f"{folder}, without usable tensors for {', '.join(lost[:3])} ({len(lost)} in all)")
    # What was learnt has these names; buffers of other versions of transformers may be there beside it.
    spare = sorted(name for name in map(str, said["unexpected_keys"]) if name.endswith((".weight", ".bias")))
    if spare:
        raise ModelError(
            f"{folder}, whose config.json has no place for {', '.join(spare[:3])} ({len(spare)} in all)",
            allowed="the config.json that was saved with the weights",
        )
    return _named(net.state_dict(), folder), config


def _tensors(path: Path) -> dict[str, Tensor]:
    """Those of a safetensors file."""
    with opened(path, framework="pt") as file:
        try:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except SafetensorError as error:
            raise ModelError(f"{path}, which cannot be read to its end ({error})") from error


def _files(folder: Path) -> list[Path]:
    """The safetensors files of a folder that transformers wrote: one, or those that its index names."""
    index = folder / _INDEX
    if (folder / _WHOLE).exists() or not index.exists():
        return [folder / _WHOLE]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}, which names no files ({in_a_line(error)})") from error
    if outside := [name for name in names if not isinstance(name, str) or {*"/\\\0"} & {*name}]:
        raise ModelError(f"{index}, which names {str(outside[0])[:80]!r}", allowed="files that lie beside it")
    return [folder / name for name in names]


def _unpickled(path: Path) -> Any:
    if _swells(path):
        raise ModelError(
            f"{path}, a zip file that holds more than its own size", allowed="what torch.save wrote: not compressed"
        )
    try:
        # Said outright, for the environment could turn the default around.
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"no weights file at {path}") from None
    except Exception as error:  # what torch raises at damaged ones has no common base: IndexError, struct.error, ...
        # Around the cause torch tells how to read it unsafely.
        said = str(error).rpartition("WeightsUnpickler error:")[2].partition(". ")[0]
        raise ModelError(
            f"{path}, which holds more than tensors or is damaged ({in_a_line(said, 200)})",
            allowed="a state dict: torch.save(net.state_dict(), FILE)",
        ) from error


def _swells(path: Path) -> bool:
    """Whether a zip file, as ``torch.save`` writes them, is larger inside: a small one could fill any memory."""
    try:
        with zipfile.ZipFile(path) as file:
            return sum(entry.file_size for entry in file.infolist()) > path.stat().st_size
    except Exception:  # no zip file, or a damaged one: torch says so
        return False


def _is_plain(value: Any) -> bool:
    """A tensor with a number of its own in every place: one that repeats a few may be of any size."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _named(values: Any, path: Path) -> dict[str, Tensor]:
    for key in NESTED:
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
            break
    tensors = values if isinstance(values, Mapping) else {}
    if not tensors or not all(isinstance(name, str) and _is_plain(t) for name, t in tensors.items()):
        raise ModelError(f"{path}, which holds no state dict", allowed="tensors by name, or those under 'model'")
    # Cloned, for safetensors takes no two names for one memory.
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
        if "num_batches_tracked" not in name and name != "n_averaged"  # torch's count of what it averaged
    }
    if not state:
        raise ModelError(f"{path}, which holds no weights", allowed="tensors by name, or those under 'model'")
    # What wrappers (parallel training, averaging, compilation, Lightning) put before all names, one around the other.
    while len({name.partition(".")[0] for name in state}) == 1 and all("." in name for name in state):
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return state
