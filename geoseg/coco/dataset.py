"""What a COCO instance file says: images, classes, and the outlines of objects in image pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.coco.rle import Rle


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a COCO file."""

    id: int
    """Its number in the file."""
    file_name: str
    """Path relative to the folder of images, with ``/``; never leads out of it."""
    height: int
    """Rows."""
    width: int
    """Columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotation:
    """One object in one image."""

    id: int
    """Its number in the file."""
    image_id: int
    """The image that shows it."""
    category_id: int
    """Its class, a key of :attr:`Coco.classes`."""
    segmentation: Rle | tuple[NDArray[np.float64], ...]
    """Run lengths, or rings ``(n, 2)`` of x (column) and y (row) in pixels, not closed; (0, 0) is the outer corner of
    the corner pixel."""
    ignore: bool = False
    """True for COCO's ``iscrowd`` (or ``ignore``): a region in which predictions count neither way."""
    score: float | None = None
    """Confidence of a prediction, 0 to 1; None for the truth."""

    @cached_property
    def polygon(self) -> Any:
        """A valid (Multi)Polygon in image pixels; of run lengths, the exact outline of the pixels.

        Several rings are united: COCO's polygons have no holes.
        """
        if isinstance(self.segmentation, Rle):
            return self.segmentation.polygon()
        return outlined(self.segmentation)


def outlined(rings: Iterable[NDArray[np.float64]]) -> Any:
    """The valid (Multi)Polygon that rings ``(n, 2)`` outline together; empty where they enclose nothing."""
    shapes = np.array([shapely.Polygon(ring) for ring in rings], dtype=object)
    whole = shapely.union_all(shapely.make_valid(shapes, method="structure", keep_collapsed=False))
    return whole if whole.geom_type in ("Polygon", "MultiPolygon") else shapely.Polygon()


@dataclass(frozen=True, kw_only=True, eq=False)
class Coco:
    """A COCO instance file."""

    images: tuple[Image, ...]
    """In the order of the file."""
    classes: Mapping[int, str]
    """Number of a class -> its name."""
    annotations: tuple[Annotation, ...]
    """In the order of the file."""
    warnings: tuple[str, ...] = ()
    """What was left out on reading, and why."""

    @cached_property
    def by_image(self) -> Mapping[int, tuple[Annotation, ...]]:
        """Image number -> its annotations; an image without any has an empty tuple."""
        found: dict[int, list[Annotation]] = {image.id: [] for image in self.images}
        for annotation in self.annotations:
            found[annotation.image_id].append(annotation)
        return {number: tuple(those) for number, those in found.items()}

    def __iter__(self) -> Iterator[tuple[Image, tuple[Annotation, ...]]]:
        """Every image with its annotations."""
        return ((image, self.by_image[image.id]) for image in self.images)
