"""What chips are laid on: the shares of `[sampling]` hold over the images of a source, the balance over all sources."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
import zarr
from affine import Affine
from PIL import Image
from rasters import texture
from test_training import TINY
from zarrs import write_zarr

from geoseg.errors import ConfigError
from geoseg.training import read_train_config
from geoseg.training.chips import Example
from geoseg.training.config import Sampling, Schedule, TrainConfig
from geoseg.training.labelled import Labelled
from geoseg.training.pixels import Held
from geoseg.training.placing import anywhere
from geoseg.training.pools import Pool
from geoseg.training.sources import Mix, mix

CHIP = 64
"""Pixels, which are those of the images."""


def image(labels: list[int], *, height: int = 300, width: int = 400, **more: object) -> Labelled:
    """Boxes of 20 pixels that a chip shows alone, of the given classes; the ground has the number of the class."""
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    polygons = []
    for number, label in enumerate(labels):
        x, y = 40 + number % 3 * 150, 40 + number // 3 * 150
        pixels[:, max(y - 75, 0) : y + 75, max(x - 75, 0) : x + 75] = 10 * label
        polygons.append(shapely.box(x - 10, y - 10, x + 10, y + 10))
    return Labelled(
        pixels=Held(values=pixels),
        polygons=np.array(polygons, dtype=object),
        labels=np.array(labels, np.int64),
        gsd_m=1.0,
        **more,  # type: ignore[arg-type]
    )


def pool(*images: Labelled, classes: int = 2) -> Pool:
    counts = np.array([[(each.labels == label).sum() for label in range(1, classes + 1)] for each in images], np.int64)
    return Pool(image=images.__getitem__, counts=counts)


def chips(pools: list[Pool], count: int = 160, weights: tuple[float, ...] = (), **sampling: float) -> list[Example]:
    drawn = Mix(
        pools=tuple(pools),
        weights=weights or (1.0,) * len(pools),
        gsd_m=1.0,
        schedule=Schedule(chip=CHIP, seed=5),
        sampling=Sampling(**sampling),  # type: ignore[arg-type]
    )
    return [drawn.plain(index) for index in range(count)]


def share_of(label: int, drawn: list[Example]) -> float:
    """Of the chips that are laid near an object, those that are near one of a class."""
    return float(np.mean([int(example.pixels[0, CHIP // 2, CHIP // 2]) == 10 * label for example in drawn]))


@pytest.mark.parametrize(("balance", "expected"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
@pytest.mark.parametrize("one_each", [False, True], ids=["images", "sources"])
def test_balance_is_that_of_all_images_and_sources(balance: float, expected: float, one_each: bool) -> None:
    images = [*(image([1, 1]) for _ in range(9)), image([2])]
    pools = [pool(each) for each in images] if one_each else [pool(*images)]
    drawn = chips(pools, objects=1.0, balance=balance)
    assert share_of(2, drawn) == pytest.approx(expected, abs=0.08)


def test_balance_in_between_weights_and_within_an_image() -> None:
    # Five of class 1 and one of class 2 in one image: half the chips of either.
    drawn = chips([pool(image([1, 1, 1, 1, 1, 2]))], objects=1.0, balance=1.0)
    assert share_of(2, drawn) == pytest.approx(0.5, abs=0.08)
    # Weights decide between sources of the same class, and between all where no class is preferred.
    three = [pool(image([1])), pool(image([1, 1])), pool(image([2]))]
    for balance, expected in ((0.0, 0.1), (1.0, 0.5)):
        drawn = chips(three, weights=(6.0, 3.0, 1.0), objects=1.0, balance=balance)
        assert share_of(2, drawn) == pytest.approx(expected, abs=0.08)


def coco(folder: Path) -> TrainConfig:
    """Ten images, of which the last alone holds the second class, and the first no object."""
    annotations = []
    for number in range(10):
        pixels = np.full((100, 130, 3), 20 if number == 9 else 10, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        for col in range(0 if number == 0 else 3):
            x, y = 10 + 40 * col, 40
            ring = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
            annotations.append({"image_id": number, "category_id": 1 + (number == 9), "segmentation": [ring]})
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 100, "width": 130} for i in range(10)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": i, **each} for i, each in enumerate(annotations)],
    }
    (folder / "c.json").write_text(json.dumps(content))
    source = {"kind": "coco", "annotations": "c.json", "gsd_m": 1.0}
    values = {
        "model": {"name": "m", "classes": ["a", "b"], "gsd_m": 1.0},
        "sources": [source],
        "schedule": {"chip": CHIP},
        "sampling": {"objects": 1.0, "balance": 1.0},
        "root": folder,
    }
    return TrainConfig.model_validate(values)


def test_balance_of_a_coco_file_of_which_one_image_holds_a_class(tmp_path: Path) -> None:
    drawn = mix(coco(tmp_path))
    plain = [drawn.plain(index) for index in range(160)]
    assert share_of(2, plain) == pytest.approx(0.5, abs=0.1)
    assert all(len(example.target["boxes"]) for example in plain)
    again = mix(coco(tmp_path))
    assert all(torch.equal(again.draw(index).pixels, drawn.draw(index).pixels) for index in (7, 3))


def test_the_images_of_a_coco_file_may_be_zarrs(tmp_path: Path) -> None:
    config = coco(tmp_path)
    content = json.loads((tmp_path / "c.json").read_text())
    content["images"] = [{**image, "file_name": f"{image['id']}.zarr"} for image in content["images"]]
    (tmp_path / "c.json").write_text(json.dumps(content))
    pixels = texture(3, 100, 130)
    for number in range(10):
        path = write_zarr(tmp_path / f"{number}.zarr", pixels, transform=Affine(1, 0, 3e5, 0, -1, 3e6))
        zarr.open_array(path / "image").attrs["long_name"] = ["red", "green", "blue"]
    here = config.model_copy(update={"sources": (config.sources[0].model_copy(update={"gsd_m": None}),)})
    (source,) = mix(here).pools
    image = source.image(3)
    assert len(image.polygons) == 3 and isinstance(image.pixels, Held)
    np.testing.assert_array_equal(image.pixels.values, pixels)
    with pytest.raises(ConfigError, match="cannot be read"):  # no plain picture
        mix(config).pools[0].image(3)


def test_an_annotation_of_several_polygons_is_one_object(tmp_path: Path) -> None:
    config = coco(tmp_path)
    content = json.loads((tmp_path / "c.json").read_text())
    content["annotations"][0]["segmentation"].append([10, 80, 30, 80, 30, 90, 10, 90])
    (tmp_path / "c.json").write_text(json.dumps(content))
    (source,) = mix(config).pools
    first = source.image(1)
    assert len(first.polygons) == source.counts[1].sum() == 3
    assert shapely.bounds(first.polygons[0]).tolist() == [10, 40, 30, 90]


def near(value: int, drawn: list[Example]) -> float:
    return float(np.mean([int(example.pixels[0, CHIP // 2, CHIP // 2]) == value for example in drawn]))


def shows(drawn: list[Example]) -> float:
    return float(np.mean([len(example.target["boxes"]) > 0 for example in drawn]))


def test_shares_are_those_of_a_source_of_which_some_images_hold_nothing() -> None:
    dense = [image([1], height=80, width=81) for _ in range(6)]  # no chip there is without the object
    bare = [image([]) for _ in range(6)]
    assert shows(chips([pool(*dense, *bare)], objects=0.5, empty=0.5)) == pytest.approx(0.5, abs=0.08)
    assert shows(chips([pool(*dense, *bare)], objects=1.0)) == 1.0
    assert shows(chips([pool(*dense, *bare)], objects=0.0, empty=1.0)) == 0.0
    # Without such an image others are looked through; where there is none, it lies anywhere.
    mixed = [image([1]) if number % 2 else dense[number] for number in range(6)]
    assert shows(chips([pool(*mixed)], objects=0.0, empty=1.0)) < 0.15
    assert shows(chips([pool(*dense)], objects=0.0, empty=1.0)) == 1.0


def test_rare_empty_ground_is_found() -> None:
    boxes = [shapely.box(x, y, x + 9, y + 9) for x in range(0, 1000, 30) for y in range(0, 700, 30)]
    free = shapely.box(400, 300, 620, 520)  # chips fit in whose centres are in 3 % of the image
    kept = [box for box in boxes if not box.intersects(free)]
    crowded = Labelled(
        pixels=Held(values=torch.zeros(3, 700, 1000, dtype=torch.uint8)),
        polygons=np.array(kept, dtype=object),
        labels=np.ones(len(kept), np.int64),
        gsd_m=1.0,
    )
    assert shows(chips([pool(crowded)], count=60, objects=0.0, empty=1.0)) < 0.35


def test_hard_places_have_their_share_and_leave_the_others_theirs() -> None:
    marked = image([1, 1, 1], height=500, width=700, hard_xy=np.array([[600.0, 400.0]]))
    marked.pixels.values[:, 340:460, 540:660] = 200  # type: ignore[attr-defined]
    shares = {"hard": 0.3, "objects": 0.5, "empty": 0.2}
    drawn = chips([pool(marked)], **shares)
    told = near(200, drawn), shows(drawn)
    assert told == pytest.approx((0.3, 0.5), abs=0.08)
    drawn = chips([pool(image([1, 1, 1], height=500, width=700))], **shares)
    assert near(200, drawn) == 0.0 and 0.5 < shows(drawn) < 0.75


def test_shares_of_more_than_all_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    text = TINY.format(steps=1)
    path.write_text(text + "[sampling]\nhard = 0.5\n")
    with pytest.raises(ConfigError, match=r"line \d+: sampling.*objects \+ empty \+ hard of 1 at most, not 1\.1"):
        read_train_config(path)
    for shares in ("objects = 0.7\nempty = 0.2\nhard = 0.1", "objects = 0.1\nempty = 0.2\nhard = 0.7"):
        path.write_text(f"{text}[sampling]\n{shares}\n")
        assert read_train_config(path).sampling.objects in (0.7, 0.1)


def test_ground_that_threads_ask_after_is_not_prepared() -> None:
    """GEOS, asked by several threads at once after what is prepared, ended the process."""
    there = image([1, 2], area=shapely.MultiPolygon([shapely.box(20, 30, 180, 90), shapely.box(200, 100, 390, 280)]))
    for index in range(20):
        assert there.is_labelled(anywhere(there, np.random.default_rng(index), CHIP / 2))
    assert not shapely.is_prepared(there.parts).any()
