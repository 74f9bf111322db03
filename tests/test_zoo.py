"""Models that users add: one command from a file of theirs to `--model NAME`, and what is refused on the way."""

from __future__ import annotations

import json
import pickle
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import geopandas as gpd
import pytest
import torch
from commands import cli
from networks import Yolo, chips, exported
from rasters import texture, write
from safetensors.torch import save_file

from geoseg.detectors import added_models, load_model, model_card, model_digest, weights_path
from geoseg.detectors.cards import user_folder
from geoseg.detectors.conversion import read_mask2former, read_state
from geoseg.detectors.network import build
from geoseg.detectors.weights import write_weights
from geoseg.errors import ModelError
from geoseg.zoo import add_model, read_card_toml

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parent.parent
YOLO = """
name = "mine"
classes = ["building", "shed"]
bands = ["red", "green", "blue"]
mean = [0, 0, 0]
std = [255, 255, 255]
score_threshold = 0.3
core = 96
halo = 16
[architecture]
family = "onnx"
[architecture.head]
kind = "yolo"
"""
COMPACT = """
name = "compact"
classes = ["building"]
bands = ["red", "green", "blue"]
mean = [110, 110, 110]
std = [58, 58, 58]
[architecture]
family = "maskrcnn"
fpn_channels = 16
box_head = 16
mask_head = [8]
"""
TINY = {"fpn_channels": 16, "box_head": 16, "mask_head": [8]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def yolo() -> bytes:
    torch.manual_seed(7)
    return exported(Yolo(), (96, 128), outputs=["output0", "output1"])


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return dict(build(TINY, 1).state_dict())


def given(folder: Path, name: str, contents: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path


def test_an_onnx_file_becomes_a_model_with_a_name(tmp_path: Path, yolo: bytes, folder: Path) -> None:
    file, card = given(tmp_path, "export.onnx", yolo), given(tmp_path, "card.toml", YOLO)
    added = cli("models", "add", file, "--card", card)
    assert added.exit_code == 0, added.output
    assert added.stdout.strip() == str(folder / "mine.onnx")
    assert (folder / "mine.onnx").read_bytes() == yolo
    assert "mine" in [c["name"] for c in json.loads(cli("models", "--json").stdout)]
    assert "building, shed" in cli("models").stdout
    assert model_card("mine").score_threshold == 0.3
    assert load_model("mine", device="cpu").digest == model_digest("mine") != ""  # type: ignore[attr-defined]
    raster = write(tmp_path / "town.tif", texture(3, 150, 210), photometric="rgb")
    done = cli("extract", raster, "-o", tmp_path / "out.gpkg", "--model", "mine", "-q")
    assert done.exit_code == 0, done.output
    found = gpd.read_file(tmp_path / "out.gpkg", layer="footprints")
    assert len(found) > 0 and set(found["model"]) == {"mine"}
    assert set(found["label"]) <= {"building", "shed"}


def test_classes_in_another_order_than_the_network_says_are_refused(tmp_path: Path, yolo: bytes) -> None:
    """What is a shed came out as a building."""
    model = onnx.load_model_from_string(yolo)
    names = model.metadata_props.add(key="names")
    card = given(tmp_path, "card.toml", YOLO)
    for text, refused in (
        ("{0: 'shed', 1: 'building'}", True),
        ("{0: 'building', 1: \"farmer's shed\"}", False),
        ("{0: __import__('os').abort()}", False),
    ):
        names.value = text
        with pytest.raises(ModelError, match="are shed, building") if refused else nullcontext():
            add_model(given(tmp_path, "export.onnx", model.SerializeToString()), card, force=True)


def test_a_state_dict_becomes_a_model(tmp_path: Path, state: dict[str, torch.Tensor], folder: Path) -> None:
    save_file({f"module.{name}": t for name, t in state.items()}, tmp_path / "mine.safetensors")
    add_model(tmp_path / "mine.safetensors", given(tmp_path, "card.toml", COMPACT))
    detector = load_model("compact", device="cpu")
    torch.testing.assert_close(
        detector.net.backbone.body.conv1.weight,  # type: ignore[attr-defined]
        state["backbone.body.conv1.weight"],
    )
    assert len(model_digest("compact")) == 64
    # Stored again as it was, not rounded to 16 bits.
    assert (folder / "compact.safetensors").stat().st_size > 4 * sum(t.numel() for t in state.values()) - 10_000


@pytest.mark.parametrize("wrapped", ["model.", "_orig_mod.module.", "model.module._orig_mod.", "net."])
def test_what_wraps_a_network_is_taken_off_its_names(tmp_path: Path, wrapped: str) -> None:
    """Those of Lightning, and of two wrappers in the other order, were said not to be the network's."""
    tensors = {f"{wrapped}{name}": torch.ones(2) for name in ("backbone.weight", "model.bias")}
    save_file({**tensors, "n_averaged": torch.tensor(3)}, tmp_path / "mine.safetensors")
    assert set(read_state(tmp_path / "mine.safetensors")) == {"backbone.weight", "model.bias"}


def test_counters_alone_are_no_weights(tmp_path: Path) -> None:
    """What wraps no name at all was taken off for ever."""
    save_file({"n_averaged": torch.tensor(3)}, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match="holds no weights"):
        read_state(tmp_path / "mine.safetensors")


def test_weights_bring_their_own_card(tmp_path: Path, state: dict[str, torch.Tensor], folder: Path) -> None:
    save_file(state, tmp_path / "bare.safetensors")
    refused = cli("models", "add", tmp_path / "bare.safetensors")
    assert refused.exit_code == 2 and "without a model card" in refused.stderr and "--card" in refused.stderr
    card = replace(read_card_toml(given(tmp_path, "card.toml", COMPACT)), name="sheds")
    trained = {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}
    write_weights(trained, card, tmp_path / "trained.safetensors")
    assert cli("models", "add", tmp_path / "trained.safetensors").exit_code == 0
    assert model_card("sheds") == card and model_digest("sheds") == model_digest(tmp_path / "trained.safetensors")
    assert cli("models", "export", "sheds", "-o", tmp_path / "out.onnx").exit_code == 0
    again = cli("models", "add", tmp_path / "out.onnx", "--force")
    assert again.exit_code == 0 and weights_path("sheds") == folder / "sheds.onnx"


def test_a_pickle_is_read_only_where_that_is_said(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file, card = tmp_path / "mine.pth", given(tmp_path, "card.toml", COMPACT)
    torch.save({"model": state, "epoch": 3}, file)
    refused = cli("models", "add", file, "--card", card)
    assert refused.exit_code == 2 and "--pickle" in refused.stderr
    assert cli("models", "add", file, "--card", card, "--pickle").exit_code == 0
    assert weights_path("compact").suffix == ".safetensors"


def test_code_in_a_pickle_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    card = given(tmp_path, "card.toml", COMPACT)
    torch.save({"model": Bomb()}, tmp_path / "zip.pth")
    given(tmp_path, "old.pth", pickle.dumps(Bomb()))
    for name in ("zip.pth", "old.pth"):
        with pytest.raises(ModelError, match="more than tensors"):
            add_model(tmp_path / name, card, pickled=True)
    assert not trace.exists() and not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_is_cut_short_or_holds_other_things_is_refused(tmp_path: Path, zipped: bool) -> None:
    """torch has many errors for damaged ones, some of which ended the command with exit code 70."""
    file = tmp_path / "mine.pth"
    torch.save({"model": {"a": torch.rand(3, 4), "b": torch.arange(5)}}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for size in range(0, len(whole) - 1, 3 if zipped else 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="holds more than tensors or is damaged"):
            read_state(file, pickled=True)
    torch.save({"model": {"a": torch.zeros(2)}, "args": Namespace()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"damaged \(Unsupported global: GLOBAL argparse.Namespace [^.]*\)"):
        read_state(file, pickled=True)
    for other in ({1: torch.zeros(2)}, {"a": torch.eye(3).to_sparse()}):
        torch.save(other, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ModelError, match="holds no state dict"):
            read_state(file, pickled=True)


def test_a_pickle_that_would_swell_is_refused(tmp_path: Path) -> None:
    """Some kilobytes came to be as much memory as they said."""
    numbers = torch.zeros(500, 500)
    torch.save({"a": numbers}, tmp_path / "plain.pth")
    with ZipFile(tmp_path / "plain.pth") as plain, ZipFile(tmp_path / "zipped.pth", "w", ZIP_DEFLATED) as zipped:
        for entry in plain.infolist():
            zipped.writestr(entry.filename, plain.read(entry))
    torch.save({"a": numbers[:1, :1].expand(10**6, 10**6)}, tmp_path / "repeated.pth")
    torch.save({"a": torch.zeros(4, device="meta")}, tmp_path / "meta.pth")
    assert (tmp_path / "zipped.pth").stat().st_size < 10_000
    assert torch.equal(read_state(tmp_path / "plain.pth", pickled=True)["a"], numbers)
    for name, said in (("zipped", "more than its own size"), ("repeated", "no state dict"), ("meta", "no state dict")):
        with pytest.raises(ModelError, match=said):
            read_state(tmp_path / f"{name}.pth", pickled=True)


def test_a_folder_of_transformers_becomes_a_model(tmp_path: Path) -> None:
    from test_families import tiny_config

    from geoseg.detectors.mask2former import build_mask2former

    torch.manual_seed(4)
    net: Any = build_mask2former(tiny_config(), 2)
    net.save_pretrained(tmp_path / "theirs")
    text = YOLO.split("[architecture]")[0] + '[architecture]\nfamily = "mask2former"\n'
    add_model(tmp_path / "theirs", given(tmp_path, "card.toml", text))
    detector: Any = load_model("mine", device="cpu")
    assert detector.card.architecture["config"]["num_queries"] == 12
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(detector.net.state_dict()[name], tensor)
    assert len(detector.predict(chips(64, 96))) == 1


def test_a_folder_of_several_files_names_none_outside(tmp_path: Path) -> None:
    from test_families import tiny_config

    from geoseg.detectors.mask2former import build_mask2former

    folder = tmp_path / "theirs"
    net: Any = build_mask2former(tiny_config(), 2)
    net.save_pretrained(folder, max_shard_size="200KB")
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    shards = sorted(set(listed["weight_map"].values()))
    assert len(shards) > 1
    state, _ = read_mask2former(folder)
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items() if name in state)
    (folder / shards[0]).rename(tmp_path / "other.safetensors")
    for name in ("../other.safetensors", str(tmp_path / "other.safetensors")):
        moved = {key: name if file == shards[0] else file for key, file in listed["weight_map"].items()}
        index.write_text(json.dumps(listed | {"weight_map": moved}))
        with pytest.raises(ModelError, match=r"which names '.*files that lie beside it"):
            read_mask2former(folder)
    index.write_text("[]")
    with pytest.raises(ModelError, match="names no files"):
        read_mask2former(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("encoder_layers", 0, r"no place for \S+encoder\.layers\.0\."),  # what was learnt there was left out, unsaid
        ("num_queries", 7, "without usable tensors for .*queries"),
        ("hidden_dim", "wide", "which transformers cannot load .*hidden_dim"),
    ],
)
def test_a_config_that_is_not_that_of_the_weights_is_refused(tmp_path: Path, key: str, value: Any, said: str) -> None:
    from test_families import tiny_config

    from geoseg.detectors.mask2former import build_mask2former

    folder = tmp_path / "theirs"
    net: Any = build_mask2former(tiny_config(), 2)
    net.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ModelError, match=said):
        read_mask2former(folder)


def test_names_that_are_taken(tmp_path: Path, yolo: bytes) -> None:
    file = given(tmp_path, "x.onnx", yolo)
    with pytest.raises(ModelError, match="bundled"):
        add_model(file, given(tmp_path, "b.toml", YOLO.replace('"mine"', '"buildings"')))
    card = given(tmp_path, "card.toml", YOLO)
    add_model(file, card)
    with pytest.raises(ModelError, match="--force"):
        add_model(file, card)
    with pytest.raises(ModelError, match=r"no file at .*typo\.onnx"):  # not of the name, which another has
        add_model(tmp_path / "typo.onnx", card)
    assert add_model(file, card, force=True).exists()


def test_a_file_that_changed_after_it_was_added_is_refused(tmp_path: Path, yolo: bytes, folder: Path) -> None:
    add_model(given(tmp_path, "x.onnx", yolo), given(tmp_path, "card.toml", YOLO))
    (folder / "mine.onnx").write_bytes(yolo[:-1] + b"!")
    with pytest.raises(ModelError, match=r"SHA-256|no ONNX file"):
        load_model("mine", device="cpu")


def test_a_card_beside_another_file_is_not_taken_for_this_one(tmp_path: Path, yolo: bytes, folder: Path) -> None:
    """`models add` took the card, and wrote the digest of whatever lay there now."""
    add_model(given(tmp_path, "x.onnx", yolo), given(tmp_path, "card.toml", YOLO))
    given(tmp_path, "y.onnx.json", (folder / "mine.onnx.json").read_text())
    torch.manual_seed(8)
    other = given(tmp_path, "y.onnx", exported(Yolo(), (96, 128), outputs=["output0", "output1"]))
    with pytest.raises(ModelError, match="differs from the SHA-256 in its card's file"):
        add_model(other, force=True)
    assert (folder / "mine.onnx").read_bytes() == yolo
    assert add_model(other, tmp_path / "card.toml", force=True).read_bytes() != yolo


def test_what_cannot_be_read_is_told_and_the_rest_is_listed(tmp_path: Path, yolo: bytes, folder: Path) -> None:
    add_model(given(tmp_path, "x.onnx", yolo), given(tmp_path, "card.toml", YOLO))
    given(folder, "broken.safetensors", "no")
    given(folder, "alone.onnx", yolo)
    cards, faults = added_models()
    assert [card.name for card in cards] == ["mine"]
    assert len(faults) == 2 and "alone.onnx.json" in faults[0]
    listed = cli("models")
    assert listed.exit_code == 0 and "broken.safetensors" in listed.stderr


def test_notes_of_somebody_else_are_shown_as_they_are(tmp_path: Path, yolo: bytes) -> None:
    card = YOLO.replace("core = 96", 'core = 96\nnotes = "good [/at] [bold]roofs[/bold] :house:"')
    add_model(given(tmp_path, "x.onnx", yolo), given(tmp_path, "card.toml", card))
    listed = cli("models")
    assert listed.exit_code == 0 and "good [/at] [bold]roofs[/bold] :house:" in listed.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (YOLO.replace("score_threshold", "scorethreshold"), "scorethreshold"),
        (YOLO.replace('["building", "shed"]', '"building"'), "a list"),
        (YOLO.replace('name = "mine"', ""), "without name"),
        (YOLO.replace('name = "mine"', 'name = "../up"'), "model name"),
        (YOLO.replace('["building", "shed"]', '["building"]'), "numbers per box"),
        (YOLO.replace('"onnx"', '"maskrcnn"'), "maskrcnn|cannot be built"),
        (YOLO.replace("= 16", "= "), "not TOML"),
        ("x = " + "[" * 5000, "not TOML"),
        (YOLO.replace("= 96", "= 96.5"), "whole pixels"),
        (YOLO.replace("= 96", '= "96"'), "whole pixels"),
        (YOLO.replace("= 0.3", '= "0.3"'), "a number"),
        (YOLO.replace('"shed"', '"sh\\u001b[31med"'), "control characters"),
        ("version = 2\n" + YOLO, r"2 as version.*in quotes"),
        (YOLO.replace("[0, 0, 0]", f"[0, 0, {10**400}]"), "as mean.*a number"),
        (YOLO + 'notes = "x"', "notes"),
        (YOLO.replace("[0, 0, 0]", "[0, 0]"), "means"),
    ],
)
def test_cards_that_cannot_be_right_are_refused_before_anything_is_written(
    tmp_path: Path, yolo: bytes, folder: Path, text: str, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        add_model(given(tmp_path, "x.onnx", yolo), given(tmp_path, "card.toml", text))
    assert not list(folder.glob("*"))


def test_a_card_without_end_spoils_no_list(folder: Path) -> None:
    """A whole number beyond all floats, or half a character, ended `geoseg models` with exit code 70."""
    folder.mkdir()
    for name, part in (("huge", f'"mean": [{10**400}], "std": [1]'), ("half", '"notes": "\\ud800"')):
        given(folder, f"{name}.onnx", b"")
        given(folder, f"{name}.onnx.json", f'{{"card": {{"name": "{name}", "classes": ["a"], {part}}}}}')
    listed = cli("models")
    assert listed.exit_code == 0 and "buildings" in listed.stdout
    assert "as mean" in listed.stderr and "as notes" in listed.stderr


def test_a_network_of_one_size_needs_tiles_that_fit(tmp_path: Path) -> None:
    torch.manual_seed(7)
    data = exported(Yolo(), (96, 128), outputs=["output0", "output1"], dynamic=False)
    with pytest.raises(ModelError, match="tiles of 128 pixels, for a network that takes 96 x 128"):
        add_model(given(tmp_path, "x.onnx", data), given(tmp_path, "card.toml", YOLO))
    small = YOLO.replace("core = 96", "core = 64")
    assert add_model(given(tmp_path, "x.onnx", data), given(tmp_path, "card.toml", small)).exists()


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEOSEG_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "geoseg" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert user_folder() == Path.home() / ".local" / "share" / "geoseg" / "models"
    assert added_models() == ([], []) or user_folder().exists()


def test_a_user_without_a_home_has_the_bundled_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEOSEG_MODELS", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as for a user id that the system has no name for
    assert weights_path("buildings").is_file() and added_models() == ([], [])


@pytest.mark.parametrize("template", sorted((ROOT / "configs" / "models").glob("*.toml")), ids=lambda p: p.stem)
def test_templates_are_cards_of_families_that_there_are(template: Path) -> None:
    from geoseg.detectors.families import family_of

    card = read_card_toml(template)
    assert template.stem.startswith(family_of(card.architecture).family)
