"""Training images from COCO instance JSON."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from geoseg.coco import Annotation, Image, read_coco
from geoseg.errors import ConfigError, RasterError
from geoseg.raster.access import is_zarr
from geoseg.training.config import TrainConfig
from geoseg.training.keeping import Kept
from geoseg.training.labelled import Labelled, named
from geoseg.training.pixels import Held
from geoseg.training.rasters import Marks, assembled, inside, raster_window
from geoseg.training.source_config import CocoSource

_log = logging.getLogger(__name__)
_KEPT = 16
"""Images that stay in memory, those last drawn."""
_ORIENTATION = 0x0112
"""EXIF's tag of how a picture is to be turned or mirrored when it is shown; 1: not at all."""
_TURNED, _ON_ITS_SIDE = range(2, 9), range(5, 9)
"""Its values that turn or mirror, and those of them that swap height and width."""


class CocoImages:
    """The images of a COCO file, each read when it is drawn.

    Raises:
        ConfigError: a file that cannot be used, categories that are no class of the model, or images that are absent.
    """

    def __init__(self, source: CocoSource, config: TrainConfig) -> None:
        self.source, self.config = source, config
        path = config.path(source.annotations)
        self.folder = config.path(source.images) if source.images else path.parent
        self.coco = read_coco(path)
        names = [image.file_name for image in self.coco.images]
        absent = [name for name in names if not ((self.folder / name).is_file() or is_zarr(str(self.folder / name)))]
        if absent or not self.coco.images:
            told = f"{len(absent)} images that are not in {self.folder}, such as {absent[0]}" if absent else "no image"
            raise ConfigError(f"{path} with {told}", allowed="images beside the annotations, or in the folder `images`")
        for warning in self.coco.warnings:
            _log.warning("%s: %s", source.annotations, warning)
        objects = [annotation for annotation in self.coco.annotations if not annotation.ignore]
        if self.coco.warnings and not objects:
            raise ConfigError(
                f"{path}, whose annotations outline nothing: {self.coco.warnings[0]}",
                allowed="annotations with a segmentation: boxes alone teach no outlines",
            )
        self.labels = {number: self._label(number) for number in {a.category_id for a in objects}}
        self._image = Kept(self._read, most=_KEPT)

    def __call__(self, number: int) -> Labelled:
        """The image of a number."""
        return self._image(number)

    @property
    def counts(self) -> NDArray[np.int64]:
        """``(images, classes)`` objects in each, as annotated."""
        counts = np.zeros((len(self.coco.images), len(self.config.model.classes)), np.int64)
        for number, image in enumerate(self.coco.images):
            for annotation in self.coco.by_image[image.id]:
                if (label := self._class(annotation)) > 0:
                    counts[number, label - 1] += 1
        return counts

    def _class(self, annotation: Annotation) -> int:
        return 0 if annotation.ignore else self.labels[annotation.category_id]

    def _label(self, category: int) -> int:
        name = self.coco.classes[category]
        if name not in self.source.ignore_labels:  # which holds of categories, whatever the others are called
            name = self.source.label or name
        return int(named([name], self.config.model.classes, self.source.ignore_labels, self.source.annotations)[0])

    def _read(self, number: int) -> Labelled:
        image = self.coco.images[number]
        path = self.folder / image.file_name
        annotations = self.coco.by_image[image.id]
        if self.source.gsd_m is None:
            return self._georeferenced(path, image, annotations)
        pixels = _opened(path, image)
        marks = inside(self._marks(annotations), shapely.box(0, 0, image.width, image.height))
        objects = marks.where(marks.labels > 0)
        return Labelled(
            pixels=Held(values=pixels),
            polygons=objects.geometries,
            labels=objects.labels,
            gsd_m=self.source.gsd_m,
            ignore=shapely.get_parts(marks.where(marks.labels == 0).geometries),
        )

    def _georeferenced(self, path: Path, image: Image, annotations: tuple[Annotation, ...]) -> Labelled:
        try:
            window = raster_window(str(path), self.config)
        except RasterError as error:
            remedy = (
                "Make georeferenced 8-bit images of red, green and blue of them, e.g. with gdal_translate (a source of "
                "the kind 'coco' has no bands and no scaling), or give it a gsd_m, which takes them as plain pictures"
            )
            raise RasterError(error.got, allowed=error.allowed, remedy=remedy) from error
        own = window.source.info.grid
        _same_size(path, image, own.height, own.width)
        scale = np.array([window.width / own.width, window.height / own.height])
        marks = self._marks(annotations)
        scaled = shapely.transform(marks.geometries, lambda xy: xy * scale)
        return assembled(window, replace(marks, geometries=scaled), area=None, config=self.config)

    def _marks(self, annotations: tuple[Annotation, ...]) -> Marks:
        return Marks(
            geometries=np.array([a.polygon for a in annotations], dtype=object),
            labels=np.array([self._class(a) for a in annotations], np.int64),
        )


def _same_size(path: Path, image: Image, height: int, width: int) -> None:
    if (height, width) != (image.height, image.width):
        raise ConfigError(
            f"{path} of {height} x {width} pixels, which the annotations say has {image.height} x {image.width}",
            remedy="Use the images that were annotated",
        )


def _check_upright(path: Path, image: Image, file: Pillow.Image) -> None:
    """Refuse a picture that is shown otherwise than it is stored, unless its sides tell that it was annotated as it is
    stored: some annotation tools turn it, some do not, and the file of annotations does not say."""
    turn = file.getexif().get(_ORIENTATION, 1)
    sides_tell = turn in _ON_ITS_SIDE and file.height != file.width == image.width
    if turn in _TURNED and not sides_tell:
        raise ConfigError(
            f"{path}, which its EXIF says is to be turned when it is shown (orientation {turn})",
            allowed="images that are stored as they are shown",
            remedy="Turn it (mogrify -auto-orient) where the outlines fit it as it is shown, else take its EXIF away",
        )


def _opened(path: Path, image: Image) -> torch.Tensor:
    """``(3, height, width)`` uint8 of a PNG, JPEG or the like."""
    try:
        with Pillow.open(path) as file:
            _check_upright(path, image, file)
            _same_size(path, image, file.height, file.width)
            if file.mode not in ("RGB", "RGBA", "L", "P"):
                raise ConfigError(f"{path} of the mode {file.mode}", allowed="8-bit colour, grey or palette images")
            values = np.asarray(file.convert("RGB"))
    except (OSError, Pillow.DecompressionBombError) as error:
        raise ConfigError(f"the image {path}, which cannot be read ({error})") from error
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
