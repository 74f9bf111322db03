"""Training: chips and their truth move together, the same seed gives the same chips, and a resume goes on."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from geoseg.detectors import ModelCard, load_model, model_card
from geoseg.detectors.cards import card_file_text
from geoseg.detectors.network import build
from geoseg.detectors.weights import save_weights
from geoseg.errors import ConfigError
from geoseg.scenes.scene import Scene
from geoseg.training import read_train_config, train
from geoseg.training.augment import photometric
from geoseg.training.chips import Pose, cut
from geoseg.training.labelled import Labelled
from geoseg.training.sources import mix
from geoseg.training.starting import untrained

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "train"

TINY = """
[model]
name = "tiny"
classes = ["building"]
gsd_m = 0.3
[model.architecture]
fpn_channels = 16
box_head = 16
mask_head = [8]
[schedule]
steps = {steps}
batch = 2
chip = 96
warmup = 1
checkpoint_every = 2
seed = 4
threads = 1
[[sources]]
kind = "generated"
scene = "town"
scenes = 2
height = 160
width = 224
"""
_ARCHITECTURE = ("[model.architecture]", "fpn_channels", "box_head", "mask_head")


def painted() -> Labelled:
    """An L and a rectangle, bright on dark, in a 140 x 200 image."""
    polygons = (
        shapely.Polygon([(40, 30), (80, 30), (80, 50), (60, 50), (60, 90), (40, 90)]),
        shapely.box(110, 40, 170, 75),
    )
    pixels = np.full((3, 140, 200), 20, np.uint8)
    pixels[:, 30:50, 40:80] = pixels[:, 50:90, 40:60] = pixels[:, 40:75, 110:170] = 220
    scene = Scene(pixels=pixels, polygons=polygons, labels=("building", "building"), gsd_m=0.3)
    return Labelled.of_scene(scene, ("building",))


@given(
    x=st.floats(40, 160), y=st.floats(30, 110), step=st.floats(0.6, 1.2), angle=st.floats(0, 360), flip=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_pixels_and_masks_move_together(x: float, y: float, step: float, angle: float, flip: bool) -> None:
    pose = Pose(centre_xy=(x, y), step=step, angle_deg=angle, flip=flip)
    example = cut(painted(), pose, 96)
    masks = example.target["masks"].bool()
    bright = example.pixels[0] > 120
    inside = masks.any(dim=0)
    # They may differ along the outlines (interpolation), and where a sliver was too small to be asked for.
    assert (inside & ~bright).float().mean() < 0.02
    assert (bright & ~inside).float().mean() < 0.02 + 2 * 400 / 96**2
    for box, mask in zip(example.target["boxes"], masks, strict=True):
        rows, cols = torch.where(mask)
        assert box[0] - 1 <= cols.min() and cols.max() + 1 <= box[2] + 1
        assert box[1] - 1 <= rows.min() and rows.max() + 1 <= box[3] + 1


def test_a_chip_beyond_the_image_is_grey_and_empty() -> None:
    pose = Pose(centre_xy=(5000.0, -3000.0), step=1.0, angle_deg=10.0, flip=False)
    example = cut(painted(), pose, 64)
    assert (example.pixels == 114).all()
    assert example.target["boxes"].shape == (0, 4)


def test_photometric_keeps_shape_and_range() -> None:
    pixels = torch.randint(0, 255, (3, 40, 56), dtype=torch.uint8)
    for seed in range(12):
        out = photometric(pixels, np.random.default_rng(seed))
        assert out.shape == pixels.shape and out.dtype == torch.uint8


def test_scenes_of_another_class_are_refused(tmp_path: Path) -> None:
    path = _config(tmp_path, 1)
    path.write_text(path.read_text().replace('"building"', '"boat"'))
    with pytest.raises(ConfigError, match="'building' with town"):
        mix(read_train_config(path)).draw(0)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    train(read_train_config(_config(tmp_path, 1)), out, device="cpu", log=lambda line: None)
    other = tmp_path / "other.toml"
    other.write_text(TINY.format(steps=2).replace("box_head = 16", "box_head = 24"))
    with pytest.raises(ConfigError, match="other settings"):
        train(read_train_config(other), out, device="cpu", log=lambda line: None)


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ('["building", "shed", "building"]', "different names, not 'building' twice"),
        ("[]", "one name or more"),
        ('[""]', "one name or more"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(tmp_path: Path, classes: str, told: str) -> None:
    path = _config(tmp_path, 1)
    path.write_text(path.read_text().replace('["building"]', classes))
    with pytest.raises(ConfigError, match=rf"model\.classes = .*Allowed: {told}"):
        read_train_config(path)


def test_a_start_of_another_number_of_classes_is_told_as_such(tmp_path: Path) -> None:
    """The bundled file was said not to fit its own card."""
    path = _config(tmp_path, 1)
    text = path.read_text().replace('["building"]', '["house", "hall"]\nstart = "buildings"')
    path.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith(_ARCHITECTURE)))
    with pytest.raises(ConfigError, match=r"\(house, hall\) to train from buildings, which has 1 \(building\)"):
        untrained(read_train_config(path))


def test_a_class_in_another_place_than_in_the_start_is_refused(tmp_path: Path) -> None:
    """What one class had learned was given to the other, unsaid."""
    one = tmp_path / "one.safetensors"
    small = {"fpn_channels": 16, "box_head": 16, "mask_head": [8]}
    save_weights(build(small, 2), ModelCard(classes=("house", "hall"), gsd_m=0.3, architecture=small), one)
    path = _config(tmp_path, 1)
    for classes, moved in (
        ('"hall", "house"', "hall"),
        ('"shed", "house"', "house"),
        ('"house", "hall"', None),
        ('"house", "shed"', None),
        ('"ship", "shed"', None),  # others go on from them by place
    ):
        path.write_text(TINY.format(steps=1).replace('"building"]', f'{classes}]\nstart = "{one}"'))
        with pytest.raises(ConfigError, match=f"'{moved}' in another place") if moved else nullcontext():
            untrained(read_train_config(path))


def test_a_start_of_another_family_is_told_as_such(tmp_path: Path) -> None:
    """It was told as keys of an architecture that nobody had written."""
    (tmp_path / "other.onnx").write_bytes(b"not looked into")
    card = ModelCard(classes=("building",), architecture={"family": "onnx", "head": {"kind": "yolo"}})
    (tmp_path / "other.onnx.json").write_text(card_file_text(card, "0"))
    path = tmp_path / "t.toml"
    path.write_text(TINY.format(steps=1).replace('["building"]', '["building"]\nstart = "other.onnx"'))
    with pytest.raises(ConfigError, match=r"the start 'other\.onnx', a model of the family 'onnx'"):
        read_train_config(path)


def test_what_an_architecture_leaves_out_is_that_of_the_start(tmp_path: Path) -> None:
    """One key in it made the anchors those of a new network, which no tensor tells."""
    path = _config(tmp_path, 1)
    text = path.read_text().replace("fpn_channels = 16\nbox_head = 16\nmask_head = [8]", "detections = 2000")
    path.write_text(text.replace('["building"]', '["building"]\nstart = "ships"'))
    assert read_train_config(path).model.architecture == model_card("ships").architecture | {"detections": 2000}


def test_right_angles_are_taken_over_for_the_same_classes_alone(tmp_path: Path) -> None:
    assert model_card("buildings").regularize == "buildings"
    path = _config(tmp_path, 1)
    for name, way in (("building", "buildings"), ("tree", "none")):
        path.write_text(TINY.format(steps=1).replace('["building"]', f'["{name}"]\nstart = "buildings"'))
        assert read_train_config(path).model.regularize == way


def _config(folder: Path, steps: int) -> Path:
    path = folder / f"tiny_{steps}.toml"
    path.write_text(TINY.format(steps=steps))
    return path


def test_the_same_index_gives_the_same_chip(tmp_path: Path) -> None:
    config = read_train_config(_config(tmp_path, 1))
    first, second = mix(config).draw(7), mix(config).draw(7)
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(first.target["masks"], second.target["masks"])
    assert not torch.equal(first.pixels, mix(config).draw(8).pixels)


def test_trains_resumes_and_loads(tmp_path: Path) -> None:
    quiet: list[str] = []
    out = tmp_path / "tiny.safetensors"
    train(read_train_config(_config(tmp_path, 2)), out, device="cpu", log=quiet.append)
    before = load_file(f"{out}.checkpoint")
    train(read_train_config(_config(tmp_path, 4)), out, device="cpu", log=quiet.append)
    after = load_file(f"{out}.checkpoint")
    assert any("going on from step 2" in line for line in quiet)
    assert not torch.equal(before["net.rpn.head.cls_logits.weight"], after["net.rpn.head.cls_logits.weight"])
    card = load_model(out, device="cpu").card
    assert (card.name, card.classes, card.gsd_m) == ("tiny", ("building",), 0.3)


_MODEL = TINY.format(steps=1).split("[[sources]]")[0]
RASTER = _MODEL + '[[sources]]\nkind = "raster"\nraster = "a.tif"\nlabels = "a.gpkg"\n'
REVIEW = _MODEL + '[[sources]]\nkind = "review"\nraster = "a.tif"\nfootprints = "a.gpkg"\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "model"),
        ("[schedule]\nsteps = 5\n", "model is missing"),
        (TINY.format(steps=1).replace('["building"]', '1\nstart = "buildings"'), r"line 4: model\.classes = 1"),
        (TINY.format(steps=1).replace("gsd_m", "gsd"), r"line 5.*model.gsd is no setting.*gsd_m"),
        (TINY.format(steps=1) + "higth = 5\n", r"line 24.*sources\.higth is no setting\. .*Did you mean height"),
        (TINY.format(steps=-1), "steps"),
        (TINY.format(steps=1).replace('"town"', '"city"'), "scene"),
        (TINY.format(steps=1).replace("seed = 4", "scale = [0.0, 1.0]"), "scale.*greater than 0"),
        (TINY.format(steps=1).replace("seed = 4", "scale = [1.4, 0.7]"), "scale.*smaller first"),
        (TINY.format(steps=1).replace("height = 160", "height = -5"), "line 22.*height = -5"),
        (TINY.format(steps=1) + "first_seed = -5000\n", "first_seed = -5000"),
        (TINY.format(steps=1) + "gsd_m = [-0.2, 0.35]\n", "gsd_m.*greater than 0"),
        (TINY.format(steps=1) + "gsd_m = [0.5, 0.35]\n", "gsd_m.*smaller first"),
        (TINY.format(steps='"1"'), "line 11.*steps = '1'.*valid integer"),
        (TINY.format(steps="true"), "line 11.*steps = True.*valid integer"),  # trained one step
        (TINY.format(steps=1).replace("gsd_m = 0.3", 'gsd_m = "0.3"'), "line 5.*gsd_m = '0.3'.*valid number"),
        (TINY.format(steps=1).replace("seed = 4", "scale = [0.7]"), r"line 16.*scale = \[0.7\]. Allowed: a list of 2"),
        (RASTER.replace("gsd_m", "mean = [9]\ngsd_m", 1), r"mean = \[9\]. Allowed: a list of 3"),
        ('root = "/data"\n' + RASTER, "root is no setting. Allowed: model, .*validation. Take"),
        (RASTER.replace('kind = "raster"', ""), "Allowed: a table with a key 'kind'"),
        (RASTER.replace('kind = "raster"', 'kind = "rasters"'), "Allowed: tables whose 'kind' is one of 'raster', "),
        ("[model\n", "line 1"),
        (RASTER + 'label_column = "k"\nignore_labels = ["tree", "building"]\n', "as 'building' is"),
        (RASTER + 'ignore_labels = ["tree"]\n', "only with label_column"),
        (RASTER + 'label = "building"\nlabel_column = "k"\n', "either label.*or label_column"),
        (REVIEW + "keep_above = 0.3\nwrong_below = 0.9\n", "a score between the two"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_train_config(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    config = read_train_config(path)
    assert config.model.name == ("mine" if path.stem == "finetune" else path.stem.split("_")[0])
    json.dumps(config.model.architecture)
    if path.stem != "finetune":  # where the next part looks for it, and over no bundled weights
        command = f"geoseg train configs/train/{path.name} -o runs/{path.stem}.safetensors\n"
        assert command in path.read_text().split("[model]")[0]


def test_real_rasters_line_up_with_their_labels(shared_data: Path, tmp_path: Path) -> None:
    text = TINY.format(steps=1).split("[[sources]]")[0] + (
        f'[[sources]]\nkind = "raster"\nraster = "{shared_data}/buildings/catanduanes_0.tif"\n'
        f'labels = "{shared_data}/buildings/catanduanes_0.geojson"\n'
    )
    path = tmp_path / "real.toml"
    path.write_text(text)
    source = mix(read_train_config(path))
    assert sum(len(source.draw(i).target["boxes"]) for i in range(8)) > 8
