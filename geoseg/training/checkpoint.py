"""Checkpoints: everything that a training goes on from, in one safetensors file. No pickle.

``exact`` keeps network, averaged network and both moments of AdamW as they are, 16 bytes a parameter. ``compact``
takes 4:

- the averaged weights in 16-bit floats, as the weights file has them;
- the network as what it differs from them by, in 8 bits (rounded to 1/254 of the largest difference in each 256);
- the logarithm of the second moment in 8 bits, between the extremes of each 256: within a few per cent;
- the first moment not at all: with AdamW's decay of 0.9 it is that of the last ten steps, and grows again in as many.

The metadata holds a SHA-256 of all that, checked before anything is gone on from: a flipped byte would be a weight.

Blocks of 256 with a scale each are an idea of 8-bit optimisers (T. Dettmers et al., "8-bit Optimizers via Block-wise
Quantization", ICLR 2022).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from geoseg.detectors.cards import DIGEST_KEY
from geoseg.detectors.weights import tensor_digest
from geoseg.errors import ConfigError
from geoseg.sinks.atomic import replacing

_BLOCK = 256
_META = "geoseg_checkpoint"


@dataclass(kw_only=True)
class State:
    """What a checkpoint holds besides the tensors."""

    step: int = 0
    """Optimiser steps done."""
    seconds: float = 0.0
    """Training time spent, over all resumed pieces."""
    best: float = -1.0
    """Highest figure of the validation so far; -1: none yet."""
    best_step: int = 0
    """The step that had it."""
    best_weights: str = ""
    """SHA-256 that the weights file of that step states; empty: not known."""
    start_weights: str = ""
    """SHA-256 that the weights it began with state; empty: not known."""
    judged_by: str = ""
    """The validation that gave it, :meth:`TrainConfig.judged_by`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What is trained, and saved and restored together."""

    net: nn.Module
    """The network."""
    average: nn.Module
    """Its averaged weights: the same network."""
    optimiser: AdamW
    """Over the network's parameters."""


def checkpoint_of(weights: Path) -> Path:
    """Where the checkpoint of a training that writes ``weights`` is."""
    return weights.with_name(weights.name + ".checkpoint")


def save_checkpoint(path: Path, trained: Trained, state: State, *, settings: str, compact: bool) -> None:
    """Write a checkpoint, by rename; ``settings`` is the fingerprint that it must be resumed with.

    Raises:
        SinkError: it cannot be written; the one before is intact.
    """
    found = _compact(trained) if compact else _exact(trained)
    tensors = {name: t.contiguous() for name, t in found.items()}
    meta = json.dumps({"settings": settings, "form": "compact" if compact else "exact", **asdict(state)})
    data = save(tensors, metadata={_META: meta, DIGEST_KEY: _digest(meta, tensors)})
    with replacing(path) as (draft,):
        draft.write_bytes(data)


def load_checkpoint(path: Path, trained: Trained, *, settings: str) -> State:
    """Put everything back where it was.

    Raises:
        ConfigError: no checkpoint, a damaged one, one of other settings, or of another version of geoseg.
    """
    meta, tensors = _read(path)
    if meta.pop("settings") != settings:
        raise ConfigError(
            f"the checkpoint {path}, which was made with other settings or other labels",
            allowed="a change of steps, minutes, threads, checkpoints, learning rate, validation or the card's texts",
            remedy="Move it away to start afresh, or give another output",
        )
    form = meta.pop("form")
    known = {field.name for field in fields(State)}
    if not known.issuperset(meta) or set(trained.net.state_dict()) != _names(tensors):
        raise ConfigError(
            f"the checkpoint {path}, which another version of geoseg or torchvision wrote",
            allowed="one of a network and a state that this version has",
            remedy="Go on with the version that began it, or move it away to start afresh",
        )
    (_from_compact if form == "compact" else _from_exact)(trained, tensors, meta["step"])
    return State(**meta)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint says of itself, and its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if _META not in told:
            raise ValueError("it is no checkpoint of a training")
        if told.get(DIGEST_KEY) != _digest(told[_META], tensors):
            raise ValueError("its content differs from its stored SHA-256")
        return json.loads(told[_META]), tensors
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            f"the checkpoint {path}, which cannot be read ({error})", remedy="Move it away to start afresh"
        ) from error


def _digest(meta: str, tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(f"{meta}{tensor_digest(tensors)}".encode()).hexdigest()


def _names(tensors: dict[str, Tensor]) -> set[str]:
    """Those of the network's state, in either form."""
    return {*_under("net.", tensors), *_under("average.", tensors)}


def _moments(trained: Trained) -> list[tuple[str, nn.Parameter, dict[str, Tensor]]]:
    return [(name, p, trained.optimiser.state.get(p, {})) for name, p in trained.net.named_parameters()]


def _exact(trained: Trained) -> dict[str, Tensor]:
    tensors = {f"net.{name}": t for name, t in trained.net.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in trained.average.state_dict().items()}
    for name, _, moments in _moments(trained):
        tensors |= {f"{key}.{name}": moments[key] for key in ("exp_avg", "exp_avg_sq") if key in moments}
    return {name: t.detach().cpu() for name, t in tensors.items()}


def _from_exact(trained: Trained, tensors: dict[str, Tensor], step: int) -> None:
    trained.net.load_state_dict(_under("net.", tensors))
    trained.average.load_state_dict(_under("average.", tensors))
    for name, p, _ in _moments(trained):
        if f"exp_avg.{name}" in tensors:
            _set_moments(trained, p, step, tensors[f"exp_avg.{name}"], tensors[f"exp_avg_sq.{name}"])


def _compact(trained: Trained) -> dict[str, Tensor]:
    tensors, averaged = {}, trained.average.state_dict()
    for name, current in trained.net.state_dict().items():
        if not current.is_floating_point():
            tensors[f"net.{name}"] = current.cpu()
            continue
        mean = averaged[name].half().cpu()
        codes, scales = _differences(current.cpu() - mean.float())
        tensors |= {f"average.{name}": mean, f"codes.{name}": codes, f"scales.{name}": scales}
    for name, _, moments in _moments(trained):
        if "exp_avg_sq" in moments:
            codes, ends = _logarithms(moments["exp_avg_sq"].cpu())
            tensors |= {f"square.{name}": codes, f"ends.{name}": ends}
    return tensors


def _from_compact(trained: Trained, tensors: dict[str, Tensor], step: int) -> None:
    average = {name: t.float() for name, t in _under("average.", tensors).items()}
    codes, scales, whole = (_under(part, tensors) for part in ("codes.", "scales.", "net."))
    net = {name: mean + _blocks(codes[name], scales[name], mean.shape) for name, mean in average.items()}
    trained.net.load_state_dict(net | whole)
    trained.average.load_state_dict(average | whole)
    for name, p, _ in _moments(trained):
        if f"square.{name}" in tensors:
            square = _powers(tensors[f"square.{name}"], tensors[f"ends.{name}"], p.shape)
            _set_moments(trained, p, step, torch.zeros_like(square), square)


def _set_moments(trained: Trained, p: nn.Parameter, step: int, first: Tensor, second: Tensor) -> None:
    trained.optimiser.state[p] = {
        "step": torch.tensor(float(step)),
        "exp_avg": torch.empty_like(p).copy_(first),
        "exp_avg_sq": torch.empty_like(p).copy_(second),
    }


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _in_blocks(values: Tensor) -> Tensor:
    """``(blocks, 256)``, the last filled up with zeros."""
    flat = values.float().flatten()
    return F.pad(flat, (0, -len(flat) % _BLOCK)).view(-1, _BLOCK)


def _differences(values: Tensor) -> tuple[Tensor, Tensor]:
    """8-bit codes and the largest value of each block."""
    blocks = _in_blocks(values)
    scale = blocks.abs().amax(dim=1, keepdim=True)
    codes = (blocks / scale.clamp(min=1e-38) * 127).round().to(torch.int8)
    return codes.flatten()[: values.numel()].clone(), scale.flatten()


def _blocks(codes: Tensor, scales: Tensor, shape: torch.Size) -> Tensor:
    values = _in_blocks(codes) / 127 * scales[:, None]
    return values.flatten()[: codes.numel()].view(shape)


def _logarithms(values: Tensor) -> tuple[Tensor, Tensor]:
    """8-bit codes, 0 for zero, and the least and largest logarithm of each block, ``(blocks, 2)``."""
    blocks = _in_blocks(values)
    logs = blocks.clamp(min=1e-38).log2()
    there = blocks > 1e-38
    low = torch.where(there, logs, torch.inf).amin(dim=1, keepdim=True)
    high = torch.where(there, logs, -torch.inf).amax(dim=1, keepdim=True)
    low, high = (torch.where(there.any(dim=1, keepdim=True), end, 0.0) for end in (low, high))
    codes = 1 + ((logs - low) / (high - low).clamp(min=1e-6) * 254).round().clamp(0, 254)
    codes = torch.where(there, codes, 0.0).to(torch.uint8)
    return codes.flatten()[: values.numel()].clone(), torch.cat([low, high], dim=1)


def _powers(codes: Tensor, ends: Tensor, shape: torch.Size) -> Tensor:
    blocks = _in_blocks(codes)
    low, high = ends[:, :1], ends[:, 1:]
    values = torch.where(blocks > 0, torch.exp2(low + (blocks - 1) / 254 * (high - low)), 0.0)
    return values.flatten()[: codes.numel()].view(shape)
