"""Cutting training chips: one affine per chip moves the pixels and the outlines alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from torch import Tensor
from torch.nn import functional as F

from geoseg.training.labelled import Labelled
from geoseg.training.pixels import GREY, Pixels
from geoseg.window import Window

MIN_AREA_PX = 14.0
"""Outlines that show less of themselves in a chip are not asked for: they are beyond what 28 x 28 masks resolve."""
MIN_VISIBLE = 0.15
"""Nor are outlines of which a smaller share is inside the chip (unless they are large there)."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a chip lies in a labelled image."""

    centre_xy: tuple[float, float]
    """Centre of the chip in image pixels."""
    step: float
    """Image pixels per chip pixel."""
    angle_deg: float
    """Rotation."""
    flip: bool
    """Mirrored."""

    def chip_to_image(self, size: int) -> Affine:
        """Affine from chip pixels to image pixels (x = column, y = row)."""
        mirror = Affine.scale(-1.0 if self.flip else 1.0, 1.0)
        return (
            Affine.translation(*self.centre_xy)
            @ Affine.rotation(self.angle_deg)
            @ Affine.scale(self.step)
            @ mirror
            @ Affine.translation(-size / 2, -size / 2)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One chip with its truth, as torchvision's detection models want it."""

    pixels: Tensor
    """``(3, size, size)`` uint8."""
    target: dict[str, Tensor]
    """``boxes (n, 4)`` float32 xyxy, ``labels (n,)`` int64 from 1, ``masks (n, size, size)`` uint8, and
    ``ignore (size, size)`` uint8: 1 where nothing is punished."""


def cut(image: Labelled, pose: Pose, size: int) -> Example:
    """The chip at ``pose`` with the outlines that show in it."""
    to_image = pose.chip_to_image(size)
    target = _target(image, to_image, size) | {"ignore": _ignored(image, to_image, size)}
    return Example(pixels=_sample(image.pixels, to_image, size), target=target)


def _sample(pixels: Pixels, to_image: Affine, size: int) -> Tensor:
    """Bilinear sampling on the chip's pixel centres; grey outside the image."""
    corners = np.array([to_image @ xy for xy in ((0, 0), (size, 0), (0, size), (size, size))])
    col0, row0 = np.floor(corners.min(axis=0)).astype(int) - 2
    col1, row1 = np.ceil(corners.max(axis=0)).astype(int) + 2
    around = Window(row_off=int(row0), col_off=int(col0), height=int(row1 - row0), width=int(col1 - col0))
    window = around.intersection(Window(row_off=0, col_off=0, height=pixels.height, width=pixels.width))
    if window.empty:
        return torch.full((3, size, size), GREY, dtype=torch.uint8)
    row0, col0 = window.row_off, window.col_off
    part = pixels.part(window).float()
    step = np.hypot(to_image.a, to_image.d)
    if step > 1.3:  # coarser than the image: average first, or fine texture aliases
        width_px = int(2 * round(step / 2) + 1)
        part = F.avg_pool2d(part, width_px, stride=1, padding=width_px // 2, count_include_pad=False)
    at = torch.arange(size, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    col = to_image.a * x + to_image.b * y + (to_image.c - col0)
    row = to_image.d * x + to_image.e * y + (to_image.f - row0)
    grid = torch.stack([col * (2.0 / part.shape[2]) - 1, row * (2.0 / part.shape[1]) - 1], dim=-1)
    sampled = F.grid_sample(part[None] - GREY, grid[None], align_corners=False)[0] + GREY
    return sampled.round_().clamp_(0, 255).to(torch.uint8)


def _near(tree: shapely.STRtree, shapes: NDArray[np.object_], to_image: Affine, size: int) -> tuple[Any, Any]:
    """Rows of the shapes that may show in a chip, in order, and these in its pixels."""
    rim = np.array([to_image @ xy for xy in ((0, 0), (size, 0), (size, size), (0, size))])
    near = np.sort(tree.query(shapely.Polygon(rim), predicate="intersects"))
    inverse = ~to_image

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy[:, 0], xy[:, 1]
        return np.column_stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f])

    return near, shapely.transform(shapes[near], move)


def _ignored(image: Labelled, to_image: Affine, size: int) -> Tensor:
    """``(size, size)`` uint8, 1 where nothing is punished."""
    _, regions = _near(image.ignore_tree, image.ignore, to_image, size)
    if not len(regions):
        return torch.zeros((size, size), dtype=torch.uint8)
    return torch.from_numpy(rasterize(list(regions), out_shape=(size, size), dtype="uint8"))


def _target(image: Labelled, to_image: Affine, size: int) -> dict[str, Tensor]:
    frame = shapely.box(0, 0, size, size)
    near, whole = _near(image.tree, image.polygons, to_image, size)
    bent = ~shapely.is_valid(whole)  # a rounding can fold a needle of a traced outline over itself
    whole[bent] = shapely.buffer(whole[bent], 0)
    seen = shapely.intersection(whole, frame)
    area, full = shapely.area(seen), shapely.area(whole)
    keep = (area >= MIN_AREA_PX) & ((area >= MIN_VISIBLE * full) | (area >= 400.0))
    seen, labels = seen[keep], image.labels[near][keep]
    # Larger ones first, so that what stands inside or on top of another keeps its pixels.
    order = np.argsort(-shapely.area(seen), kind="stable")
    seen, labels = seen[order], labels[order]
    ids = np.zeros((size, size), np.int32)
    if len(seen):
        ids = rasterize(zip(seen, range(1, len(seen) + 1), strict=True), out_shape=(size, size), dtype="int32")
    id_map = torch.from_numpy(ids)
    masks = id_map[None] == torch.arange(1, len(seen) + 1, dtype=torch.int32)[:, None, None]
    boxes = torch.from_numpy(np.asarray(shapely.bounds(seen), np.float32).reshape(-1, 4))
    good = masks.flatten(1).any(dim=1) & (boxes[:, 2] - boxes[:, 0] > 1) & (boxes[:, 3] - boxes[:, 1] > 1)
    return {
        "boxes": boxes[good],
        "labels": torch.from_numpy(labels.astype(np.int64))[good],
        "masks": masks[good].to(torch.uint8),
    }
