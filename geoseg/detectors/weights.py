"""Weights files: one safetensors file whose metadata is the model card. No pickle, no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from geoseg.detectors.base import ModelCard
from geoseg.detectors.cards import CARD_KEY, DIGEST_KEY, card_in, opened
from geoseg.errors import ModelError


def save_weights(net: nn.Module, card: ModelCard, path: str | Path) -> Path:
    """Write the network's state and the card to ``path``; floats are stored as 16-bit.

    Raises:
        ModelError: a number that 16 bits cannot hold.
    """
    tensors = {name: t for name, t in net.state_dict().items() if "num_batches_tracked" not in name}
    state = {name: _compact(name, tensor) for name, tensor in tensors.items()}
    return write_weights(state, card, path)


def write_weights(state: dict[str, Tensor], card: ModelCard, path: str | Path) -> Path:
    """Write tensors as they are, contiguous and on the CPU, and the card to ``path``."""
    target = Path(path)
    # Not save_file, which makes a file that only its owner may read.
    data = save(state, metadata={CARD_KEY: card.to_json(), DIGEST_KEY: tensor_digest(state)})
    target.write_bytes(_ordered(data))
    return target


def _ordered(data: bytes) -> bytes:
    """A safetensors file with the keys of its header sorted: the library puts metadata in another order each time."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], ModelCard]:
    """All tensors (as float32) and the card, checked against the digest stored with them.

    Raises:
        ModelError: not a safetensors file, truncated, damaged, or without a card.
    """
    with opened(path, framework="pt") as file:
        card = card_in(file, path)
        try:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except SafetensorError as error:
            said = f"{path}, which cannot be read to its end ({error})"
            raise ModelError(said, remedy="Get the file again") from error
        if (file.metadata() or {}).get(DIGEST_KEY) != tensor_digest(state):
            raise ModelError(f"{path}, whose tensors differ from their stored SHA-256", remedy="Get the file again")
    return {name: t.float() if t.is_floating_point() else t for name, t in state.items()}, card


def load_state(net: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Fill ``net`` with ``state``.

    Raises:
        ModelError: names or shapes that differ from the network's, named one by one.
    """
    check_fit(net, state, path)
    net.load_state_dict(state, strict=False)


def check_fit(net: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Refuse tensors that are not those of ``net``, which may be on torch's ``meta`` device and hold none itself.

    Raises:
        ModelError: names or shapes that differ from the network's, named one by one.
    """
    own = {name: t for name, t in net.state_dict().items() if "num_batches_tracked" not in name}
    wrong = [
        *_some("without", sorted(set(own) - set(state))),
        *_some("with", sorted(set(state) - set(own))),
        *(
            f"{name} {_form(state[name])} for {_form(own[name])}"
            for name in sorted(set(own) & set(state))
            if _form(own[name]) != _form(state[name])
        ),
    ]
    if wrong:
        raise ModelError(
            f"{path}, whose tensors do not fit its card's architecture and classes: {'; '.join(wrong[:3])}",
            allowed="tensors of exactly the network that the card describes",
        )


def _some(how: str, names: Sequence[str]) -> list[str]:
    """The first of some names, and how many more there are."""
    if not names:
        return []
    return [f"{how} {', '.join(names[:2])}" + (f" and {len(names) - 2} more" if len(names) > 2 else "")]


def _form(tensor: Tensor) -> str:
    """Shape, and whether its numbers are whole ones: what was stored as such for floats is no weight of the network."""
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else f" of {tensor.dtype}")


def _compact(name: str, tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    compact = tensor.half() if tensor.is_floating_point() else tensor
    if not compact.isfinite().all():
        raise ModelError(
            f"a network with {float(tensor.abs().max()):g} in {name}",
            allowed="numbers up to 65504, which 16 bits hold",
            remedy="Train it again at a lower learning rate",
        )
    return compact


def tensor_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of tensors on the CPU: their names, shapes and bytes."""
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(str(tuple(state[name].shape)).encode())
        sha.update(state[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
