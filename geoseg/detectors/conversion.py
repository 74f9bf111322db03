"""Tensors of networks that were trained elsewhere, by the names that the network itself has for them."""

from __future__ import annotations

import json
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
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers (parallel training, averaging, compilation, Lightning) put before all names, one around the other."""


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
        with opened(path, framework="pt") as file:
            try:
                values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            except SafetensorError as error:
                raise ModelError(f"{path}, which cannot be read to its end ({error})") from error
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
    try:
        # Its own, which knows the names that earlier versions gave to tensors.
        net, said = loader.from_pretrained(
            folder,
            config=Mask2FormerConfig.from_dict(config),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}, which transformers cannot load ({in_a_line(error)})") from error
    lost = sorted(map(str, [*said["missing_keys"], *said["mismatched_keys"]]))
    if lost:
        raise ModelError(f"{folder}, without usable tensors for {', '.join(lost[:3])} ({len(lost)} in all)")
    return _named(net.state_dict(), folder), config


def _unpickled(path: Path) -> Any:
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


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


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
    while wrapped := next((each for each in PREFIXES if all(name.startswith(each) for name in state)), ""):
        state = {name.removeprefix(wrapped): tensor for name, tensor in state.items()}
    return state
