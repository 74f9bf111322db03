"""COCO JSON read with every value checked: nothing in it can lead out of its folder or ask for much memory."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from geoseg.coco.dataset import Annotation, Coco, Image, outlined
from geoseg.coco.rle import Rle
from geoseg.errors import ConfigError
from geoseg.paths import expanded

MAX_BYTES = 2**30
"""Size of a file that is read; JSON takes about ten times that in memory."""
MAX_PIXELS = 10**10
"""Pixels of an image whose masks are run lengths."""
MAX_BOX = 25 * 10**6
"""Pixels of the box around one mask, which is laid out in memory to outline it: 300 MB."""
MAX_OUTLINE = 2 * 10**6
"""Length of the outline of one mask in pixels: 200 MB more, while it is drawn."""
_ALLOWED = "COCO instance JSON: images, categories, annotations with polygons or run lengths"
_RESULTS = "a JSON list of {image_id, category_id, segmentation, score}"
_FLAT = 1e-6
"""Square pixels: what encloses less is no object."""
_HALF = re.compile("[\ud800-\udfff]")
"""Halves of characters, which JSON can say and nothing can show or write."""
_FAR = 1e9
"""Pixels: coordinates beyond are no place in an image."""


def read_coco(path: str | Path) -> Coco:
    """A file of images, categories and annotations.

    An annotation without a usable outline (fewer than three points, no pixel, or none at all) is a region to ignore
    where it has a box, for something is there; else it is left out. Both are told in the warnings.

    Raises:
        ConfigError: absent, not sound JSON, or it says what cannot be; the message names the place.
    """
    what, content = _loaded(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise ConfigError(f"{what}, which is JSON of another kind", allowed=_ALLOWED)
    try:
        images = tuple(_image(value, f"images[{i}]") for i, value in enumerate(content["images"]))
        classes = _classes(content)
        _unique([image.id for image in images], "images")
        known = {image.id: image for image in images}
        annotations, warnings = _annotations(content["annotations"], known, classes, boxes=True)
    except _Wrong as wrong:
        raise ConfigError(f"{what}, in which {wrong}", allowed=_ALLOWED) from None
    return Coco(images=images, classes=classes, annotations=annotations, warnings=warnings)


def read_results(path: str | Path, truth: Coco) -> Coco:
    """Predictions for the images of ``truth``, as detectors write them for pycocotools: a list, or a whole file.

    A whole file's own images must be those of ``truth``, and its classes are told by their names: those that ``truth``
    does not have keep theirs, and are told in the warnings.

    Raises:
        ConfigError: as :func:`read_coco`, an image that ``truth`` does not have, the number of no class, or no score.
    """
    what, content = _loaded(path)
    head = content if isinstance(content, dict) else {}
    content = head.get("annotations") if head else content
    if not isinstance(content, list):
        raise ConfigError(f"{what}, which is JSON of another kind", allowed=_RESULTS)
    try:
        _same_images(head, truth)
        classes = _classes(head) or truth.classes
        for i, value in enumerate(content):
            if isinstance(value, dict):
                value["id"] = i + 1  # as pycocotools does: what detectors write there means nothing
                _number(value.get("score"), f"[{i}].score")
        found, warnings = _annotations(content, {image.id: image for image in truth.images}, classes)
    except _Wrong as wrong:
        raise ConfigError(f"{what}, in which {wrong}", allowed=_RESULTS) from None
    numbers = _numbers(classes, truth)
    found = tuple(replace(each, category_id=numbers[classes[each.category_id]]) for each in found)
    every = {number: name for name, number in numbers.items()} | dict(truth.classes)
    alone = Counter(every[each.category_id] for each in found if each.category_id not in truth.classes)
    warnings += tuple(f"{count} of the class {name!r}, which the truth does not have" for name, count in alone.items())
    return replace(truth, classes=every, annotations=found, warnings=warnings)


def _same_images(head: dict[str, Any], truth: Coco) -> None:
    own = {image.id: image for image in truth.images}
    for i, value in enumerate(_list(head.get("images") or [], "images")):
        image = _image(value, f"images[{i}]")
        if image != own.get(image.id):
            told = f"{image.id}: {image.file_name[:80]}, {image.height} x {image.width} pixels"
            _refuse(f"images[{i}]", f"no image of the truth ({told})")


def _numbers(classes: Mapping[int, str], truth: Coco) -> dict[str, int]:
    """Class -> its number in the truth, or one of its own after those."""
    numbers = {name: number for number, name in truth.classes.items()}
    for name in classes.values():
        numbers.setdefault(name, max(numbers.values(), default=0) + 1)
    return numbers


def _classes(content: dict[str, Any]) -> dict[int, str]:
    given = content.get("categories") or []
    classes = dict(_class(value, f"categories[{i}]") for i, value in enumerate(_list(given, "categories")))
    if len(classes) != len(given):
        _refuse("categories", "two with one id")
    return classes


class _Wrong(ValueError):
    """What is wrong with a value, and where."""


def _refuse(where: str, what: str) -> NoReturn:
    raise _Wrong(f"{where} is {what}")


def _loaded(path: str | Path) -> tuple[str, Any]:
    """What to call the file, and its content."""
    name = os.path.abspath(expanded(path))
    what = f"the COCO file {name}"
    if not os.path.isfile(name):
        state = "is a folder" if os.path.isdir(name) else "does not exist"
        raise ConfigError(f"{what}, which {state}", allowed=_ALLOWED)
    if (size := os.path.getsize(name)) > MAX_BYTES:
        raise ConfigError(f"{what} of {size} bytes", allowed=f"at most {MAX_BYTES}", remedy="Cut it into several")
    try:
        return what, json.loads(Path(name).read_text(encoding="utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what}, which is not sound JSON ({str(error)[:200]})", allowed=_ALLOWED) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _image(value: Any, where: str) -> Image:
    value = _object(value, where)
    height, width = (_whole(value.get(k), f"{where}.{k}", least=1) for k in ("height", "width"))
    name = _file_name(value.get("file_name"), f"{where}.file_name")
    return Image(id=_whole(value.get("id"), f"{where}.id"), file_name=name, height=height, width=width)


def _class(value: Any, where: str) -> tuple[int, str]:
    value = _object(value, where)
    name = value.get("name")
    if not isinstance(name, str) or not name or _HALF.search(name):
        _refuse(f"{where}.name", f"{str(name)[:40]!r}, not a name")
    return _whole(value.get("id"), f"{where}.id"), name


def _file_name(name: Any, where: str) -> str:
    """A relative path that stays in its folder: the text of a file must not choose what else is opened."""
    if not isinstance(name, str) or not name or "\0" in name or _HALF.search(name):
        _refuse(where, f"{str(name)[:40]!r}, not a file name")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name):
        _refuse(where, f"{name[:80]!r}, which leads out of the folder of images")
    return str(path)


def _annotations(
    values: list[Any], images: dict[int, Image], classes: Any, *, boxes: bool = False
) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    found, left_out, boxed = [], Counter[str](), Counter[str]()
    for i, value in enumerate(values):
        where = f"annotations[{i}]"
        try:
            found.append(_annotation(_object(value, where), where, images, classes))
        except _Unusable as reason:
            region = _in_its_box(value, where, images, classes) if boxes else None
            found += [] if region is None else [region]
            (left_out if region is None else boxed)[str(reason)] += 1
    _unique([annotation.id for annotation in found], "annotations")
    told = [f"{count} annotations left out: {reason}" for reason, count in left_out.items()]
    told += [f"{count} annotations with a box alone are regions to ignore: {reason}" for reason, count in boxed.items()]
    return tuple(found), tuple(told)


def _in_its_box(value: dict[str, Any], where: str, images: dict[int, Image], classes: Any) -> Annotation | None:
    """The box of an annotation as a region to ignore; None where it has none of a pixel at least."""
    box = value.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return None
    left, top, width, height = (_number(number, f"{where}.bbox") for number in box)
    if width < 1 or height < 1:
        return None
    right, bottom = left + width, top + height
    ring = [left, top, right, top, right, bottom, left, bottom]
    return _annotation({**value, "segmentation": [ring], "iscrowd": 1}, where, images, classes)


class _Unusable(Exception):
    """An annotation that is sound JSON but outlines nothing."""


def _annotation(value: dict[str, Any], where: str, images: dict[int, Image], classes: Any) -> Annotation:
    image_id = _known(value.get("image_id"), images, f"{where}.image_id")
    score = value.get("score")
    return Annotation(
        id=_whole(value.get("id"), f"{where}.id"),
        image_id=image_id,
        category_id=_known(value.get("category_id"), classes, f"{where}.category_id"),
        segmentation=_segmentation(value.get("segmentation"), images[image_id], f"{where}.segmentation"),
        ignore=_flag(value, "iscrowd", where) or _flag(value, "ignore", where),
        score=None if score is None else _number(score, f"{where}.score"),
    )


def _segmentation(value: Any, image: Image, where: str) -> Any:
    if value is None or value == []:
        raise _Unusable("no segmentation")
    if isinstance(value, dict):
        size = _list(value.get("size"), f"{where}.size")
        if size != [image.height, image.width]:
            _refuse(f"{where}.size", f"{str(size)[:40]} for an image of {image.height} x {image.width}")
        if image.height * image.width > MAX_PIXELS:
            _refuse(where, f"run lengths for more than {MAX_PIXELS} pixels")
        try:
            rle = Rle.parse(value.get("counts"), height=image.height, width=image.width)
        except ConfigError as error:
            _refuse(where, error.got)
        if not rle.area:
            raise _Unusable("a mask without a pixel")
        left, top, right, bottom = rle.xyxy
        if (right - left) * (bottom - top) > MAX_BOX:
            _refuse(where, f"one mask over a box of more than {MAX_BOX} pixels")
        if rle.outline_px > MAX_OUTLINE:
            _refuse(where, f"one mask with an outline of more than {MAX_OUTLINE} pixels")
        return rle
    rings = [_ring(part, f"{where}[{i}]") for i, part in enumerate(_list(value, where))]
    usable = tuple(ring for ring in rings if len(ring) >= 3)
    if not usable:
        raise _Unusable("fewer than three points")
    if not any(_encloses(ring) for ring in usable):
        raise _Unusable("an outline around nothing")
    return usable


def _ring(value: Any, where: str) -> Any:
    numbers = _list(value, where)
    if len(numbers) % 2:
        _refuse(where, f"{len(numbers)} numbers, not pairs of x and y")
    # Types are checked one by one: numpy would take text, true and nested lists of numbers.
    if not all(type(number) in (int, float) and abs(number) < _FAR for number in numbers):
        _refuse(where, "coordinates that are no finite numbers of pixels")
    return np.array(numbers, np.float64).reshape(-1, 2)


def _encloses(ring: Any) -> bool:
    """Whether there is any ground in a ring: not so where its points lie on a line."""
    x, y = (ring - ring[0]).T
    # Repairing each would take ten times as long as reading it; only a figure of eight or the like comes to zero.
    signed = float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y))
    return abs(signed) > _FLAT or bool(outlined((ring,)).area > _FLAT)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, f"{str(value)[:40]!r}, not an object")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(where, f"{str(value)[:40]!r}, not a list")
    return value


def _whole(value: Any, where: str, *, least: int = 0) -> int:
    if type(value) is not int or not least <= value < 2**53:
        _refuse(where, f"{str(value)[:40]!r}, not a whole number from {least} on")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not abs(value) < _FAR:  # not so for NaN either
        _refuse(where, f"{str(value)[:40]!r}, not a number")
    return float(value)


def _flag(value: dict[str, Any], name: str, where: str) -> bool:
    flag = value.get(name, 0)
    if flag not in (0, 1):
        _refuse(f"{where}.{name}", f"{str(flag)[:40]!r}, not 0 or 1")
    return bool(flag)


def _known(value: Any, known: Any, where: str) -> int:
    number = _whole(value, where)
    if number not in known:
        _refuse(where, f"{number}, which the file does not define")
    return number


def _unique(numbers: list[int], where: str) -> None:
    if len(set(numbers)) != len(numbers):
        twice = next(number for number, count in Counter(numbers).items() if count > 1)
        _refuse(where, f"no list of different ids: {twice} is there twice")


def is_coco(path: str | Path) -> bool:
    """Whether a file named ``.json`` has what :func:`read_coco` asks for first; others are not looked into."""
    name = expanded(path)
    if name.suffix.lower() != ".json" or not name.is_file():
        return False
    try:
        _, content = _loaded(name)
    except ConfigError:
        return False
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)
