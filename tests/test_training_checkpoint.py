"""A checkpoint that is not the one that was written is refused, and told as what it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from geoseg.detectors.cards import DIGEST_KEY
from geoseg.detectors.weights import tensor_digest
from geoseg.errors import ConfigError
from geoseg.training.checkpoint import State, Trained, load_checkpoint, save_checkpoint

_KEY = "geoseg_checkpoint"


def trained(seed: int = 1) -> Trained:
    torch.manual_seed(seed)
    net, average = torch.nn.Linear(7, 5), torch.nn.Linear(7, 5)
    return Trained(net=net, average=average, optimiser=torch.optim.AdamW(net.parameters()))


def written(path: Path, *, compact: bool = False) -> Path:
    save_checkpoint(path, trained(), State(step=3), settings="s", compact=compact)
    return path


def rewritten(path: Path, tensors: dict[str, torch.Tensor], **changes: object) -> None:
    """Sound by its own SHA-256, as another version might have written it."""
    with safe_open(path, framework="pt") as file:
        meta = json.loads(file.metadata()[_KEY]) | changes
    told = json.dumps(meta)
    digest = hashlib.sha256(f"{told}{tensor_digest(tensors)}".encode()).hexdigest()
    save_file(tensors, path, metadata={_KEY: told, DIGEST_KEY: digest})


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), compact=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, compact: bool
) -> None:
    """Also one in the name under which the SHA-256 stands: none is as bad as a wrong one."""
    path = written(tmp_path_factory.mktemp("flip") / "a.checkpoint", compact=compact)
    whole, flipped = trained(seed=2), trained(seed=3)
    load_checkpoint(path, whole, settings="s")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        assert load_checkpoint(path, flipped, settings="s") == State(step=3)
    except ConfigError as error:
        assert "checkpoint" in str(error)
        return
    one, other = whole.net.state_dict(), flipped.net.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_damaged_weight_is_told_as_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.checkpoint")
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="SHA-256"):
        load_checkpoint(path, trained(), settings="s")


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.checkpoint")
    tensors = load_file(path)
    rewritten(path, tensors)
    assert load_checkpoint(path, trained(), settings="s").step == 3
    rewritten(path, tensors, mood="good")
    with pytest.raises(ConfigError, match="another version"):
        load_checkpoint(path, trained(), settings="s")
    written(path)
    rewritten(path, {name.replace("weight", "kernel"): tensor for name, tensor in tensors.items()})
    with pytest.raises(ConfigError, match="another version"):
        load_checkpoint(path, trained(), settings="s")


def test_weights_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_checkpoint(path, trained(), settings="s")
