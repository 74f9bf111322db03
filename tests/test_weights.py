"""Weights files: card and tensors survive, anything else is refused and runs no code."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geoseg.detectors import ModelCard, load_model, model_card, model_digest
from geoseg.detectors.network import build
from geoseg.detectors.weights import check_fit, read_weights, save_weights
from geoseg.errors import ModelError

TINY = {"fpn_channels": 16, "box_head": 16, "mask_head": [8]}
CARD = ModelCard(
    name="tiny", classes=("building", "shed"), gsd_m=0.4, bands=("red", "green", "blue"), mean=(110, 110, 110),
    std=(58, 58, 58), architecture=TINY, licence="Apache-2.0", training_data="none: random weights",
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    return save_weights(build(TINY, 2), CARD, tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def test_card_and_tensors_come_back(weights: Path) -> None:
    state, card = read_weights(weights)
    assert card == CARD == model_card(weights)
    torch.manual_seed(3)
    for name, tensor in build(TINY, 2).state_dict().items():
        if "num_batches_tracked" not in name:
            torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-4)


def test_loads_as_a_detector(weights: Path) -> None:
    detector = load_model(weights, device="cpu")
    assert detector.card == CARD


def test_two_trainings_of_one_card_are_told_apart(weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    other = save_weights(build(TINY, 2), CARD, tmp_path / "other.safetensors")
    again = tmp_path / "copy.safetensors"
    again.write_bytes(weights.read_bytes())
    assert len(model_digest(weights)) == 64 and model_digest(again) == model_digest(weights) != model_digest(other)
    assert load_model(other, device="cpu").digest == model_digest(other)  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [70_000.0, -70_000.0, float("nan")])
def test_what_16_bits_cannot_hold_is_not_written(tmp_path: Path, value: float) -> None:
    """A running variance of 70000 would come back as infinity, and the network would find nothing, without a word."""
    net = build(TINY, 2)
    name = next(name for name in net.state_dict() if name.endswith("running_var"))
    net.state_dict()[name][0] = value
    with pytest.raises(ModelError, match=f"in {name}. Allowed: numbers up to 65504"):
        save_weights(net, CARD, tmp_path / "w.safetensors")
    assert not any(tmp_path.iterdir())


def test_pickle_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ModelError, match="safetensors"):
            load_model(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("cut", [0, 5, 1000, -1])
def test_truncated_is_refused(weights: Path, tmp_path: Path, cut: int) -> None:
    broken = tmp_path / "cut.safetensors"
    broken.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(ModelError):
        load_model(broken)


def test_flipped_byte_is_refused(weights: Path, tmp_path: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-1001] ^= 0x10
    broken = tmp_path / "flipped.safetensors"
    broken.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(broken)


def test_wrong_classes_are_refused(tmp_path: Path) -> None:
    path = save_weights(build(TINY, 5), CARD, tmp_path / "five.safetensors")
    with pytest.raises(ModelError, match="cls_score"):
        load_model(path)


def test_what_does_not_fit_is_told_from_both_sides() -> None:
    """Names of the network alone, where the file has them under another prefix, told nobody which."""
    net = build(TINY, 2)
    state = {name: tensor for name, tensor in net.state_dict().items() if "num_batches_tracked" not in name}
    check_fit(net, state, "w")
    renamed = {f"{'a.' if 'rpn' in name else ''}{name}": tensor for name, tensor in state.items()}
    with pytest.raises(ModelError, match=r"without rpn\.\S+, rpn\.\S+ and \d+ more; with a\.rpn\.\S+, a\.rpn"):
        check_fit(net, renamed, "w")
    whole = {name: (tensor * 9).to(torch.int8) for name, tensor in state.items()}
    with pytest.raises(ModelError, match=r"of torch\.int8 for \("):
        check_fit(net, whole, "w")


def test_no_card_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match="without a model card"):
        load_model(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("wrong", [None, CARD], ids=lambda v: type(v).__name__)
def test_what_is_no_name_is_told_as_such(wrong: Any) -> None:
    with pytest.raises(ModelError, match=f"of type {type(wrong).__name__}"):
        load_model(wrong)


def test_a_device_of_torch_will_do(weights: Path) -> None:
    assert load_model(weights, device=torch.device("cpu")).card == load_model(weights, device="cpu").card


def test_a_fork_of_a_process_that_had_loaded_a_model_is_refused_and_does_not_wait_for_ever() -> None:
    code = (
        "import os, signal, torch, geoseg, warnings\n"
        "warnings.simplefilter('ignore')\n"  # newer Pythons warn of forks beside threads
        "torch.set_num_threads(2)\n"
        "geoseg.load_model('ships', device='cpu')\n"
        "if not os.fork():\n"
        "    signal.alarm(100)\n"
        "    try:\n"
        "        geoseg.load_model('ships', device='cpu')\n"
        "    except geoseg.errors.ResourceError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "forked" in done.stdout and "spawn" in done.stdout and done.stdout.endswith("\n0\n")


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="'buildings'"):
        load_model("bilding")


@pytest.mark.parametrize("name", ["mine.safetensors", "MINE.ONNX"])
def test_a_weights_file_that_is_not_there_is_told_by_its_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no weights file at") as told:
        load_model(tmp_path / name)
    assert str(tmp_path / name) in told.value.got


@pytest.mark.parametrize(
    "wrong",
    [
        *({"fpn_channels": 10_000_000}, {"box_head": "x"}, {"backbone": "vgg"}, {"anchor_sizes": [8, 16]}),
        *({"layers": 3}, {"anchor_sizes": [0, 28, 56, 112, 224]}, {"anchor_ratios": [1.0, -1.0]}),
        *({"mask_head": [10**12]}, {"mask_head": [-3]}, {"anchor_ratios": [float("nan")]}),
    ],
)
def test_architectures_that_cannot_be_built_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        build(wrong, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"core": -5},
        {"halo": 600},
        {"mean": (1, 2)},
        {"bands": ()},
        {"bands": ("red", ""), "mean": (1, 2), "std": (1, 2)},
        {"bands": None, "mean": (), "std": ()},
        {"std": (1, 0, 1)},
        {"mean": None},
        {"gsd_m": 0.0},
        {"classes": ()},
        {"classes": ("ship", " ")},
        {"classes": ("ship", "quay", "ship")},
    ],
)
def test_cards_that_cannot_be_right_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        replace(CARD, **wrong)


def test_a_question_needs_no_full_stop() -> None:
    assert str(ModelError("a word", allowed="others", remedy="Did you mean 'that'?")) == (
        "a word. Allowed: others. Did you mean 'that'?"
    )


@pytest.mark.parametrize(
    "values",
    [
        {"classes": "building"},
        {"bands": "red"},
        {"bands": []},
        {"classes": None},
        {"classes": [1, 2]},
        {"classes": ["a\x1b[31m"]},
        {"notes": "\x1b]0;a title\x07"},
        {"version": 2},
        {"core": 512.5},
        {"halo": True},
        {"gsd_m": "0.3"},
        {"score_threshold": None},
        {"mean": ["a"], "std": ["b"]},
        {"architecture": ["maskrcnn"]},
    ],
    ids=lambda v: next(iter(v)),
)
def test_a_card_holds_what_it_says(values: dict[str, Any]) -> None:
    """Text is no list of letters, and somebody else's notes do not steer the terminal that shows them."""
    with pytest.raises(ModelError):
        ModelCard(**{"classes": ("a",), **values})
    with pytest.raises(ModelError):
        ModelCard.from_json(json.dumps({"classes": ["a"], **values}))


def test_a_card_takes_numbers_of_numpy() -> None:
    """Means are taken of arrays; a card travels as JSON, which knows Python's own numbers."""
    mean = np.array([90, 80, 70], np.float32)
    told: dict[str, Any] = {
        "gsd_m": np.float32(0.5),
        "mean": mean,
        "std": mean,
        "core": np.int64(64),
        "halo": np.uint8(8),
    }
    card = ModelCard(classes=("a",), **told)
    assert card.mean == (90, 80, 70) and card.gsd_m == 0.5
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize("values", [{"mean": np.float32(3), "std": (1,)}, {"classes": 3}], ids=lambda v: next(iter(v)))
def test_a_number_is_no_list(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="a list"):
        ModelCard(**{"classes": ("a",), **values})


def test_a_card_nested_without_end_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ModelCard.from_json('{"classes": ["a"], "architecture": ' + "[" * 100_000 + "]" * 100_000 + "}")
