"""Cutting training chips: one affine per chip moves the pixels and the outlines alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize
from torch import Tensor
from torch.nn import functional as F

from geoseg.training.labelled import Labelled
from geoseg.training.pixels import GREY, Pixels
from geoseg.window import Window

# Chips lie nowhere by nature. rasterio hides that warning around each call, which is for all threads at once: of
# several that burn at a time some would tell.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=r"rasterio\.features")

MIN_AREA_PX = 14.0
"""Outlines that show less of themselves in a chip are not asked for: they are beyond what 28 x 28 masks resolve."""
MIN_VISIBLE = 0.15
"""Nor are outlines of which a smaller share is inside the chip (unless they are large there)."""
MOSTLY_VALID = 0.5
"""Nor those of which no more than this share of the pixels holds anything."""


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
    ``ignore (size, size)`` uint8: 1 where nothing is punished: in such regions, where the image holds nothing, and
    on what shows of objects that are not asked for."""


def cut(image: Labelled, pose: Pose, size: int) -> Example:
    """The chip at ``pose`` with the outlines that show in it."""
    to_image = pose.chip_to_image(size)
    pixels, void = _sample(image.pixels, to_image, size)
    target, left_out = _target(image, to_image, void)
    _, regions = _near(image.ignore_tree, image.ignore, to_image, size)
    burnt = _burnt([*regions, *left_out], size) > 0
    return Example(pixels=pixels, target=target | {"ignore": (burnt | void).to(torch.uint8)})


def _sample(pixels: Pixels, to_image: Affine, size: int) -> tuple[Tensor, Tensor]:
    """Bilinear sampling on the chip's pixel centres, grey outside the image; and where the image holds nothing."""
    corners = np.array([to_image @ xy for xy in ((0, 0), (size, 0), (0, size), (size, size))])
    col0, row0 = np.floor(corners.min(axis=0)).astype(int) - 2
    col1, row1 = np.ceil(corners.max(axis=0)).astype(int) + 2
    around = Window(row_off=int(row0), col_off=int(col0), height=int(row1 - row0), width=int(col1 - col0))
    window = around.intersection(Window(row_off=0, col_off=0, height=pixels.height, width=pixels.width))
    nowhere = torch.zeros((size, size), dtype=torch.bool)
    if window.empty:
        return torch.full((3, size, size), GREY, dtype=torch.uint8), nowhere
    row0, col0 = window.row_off, window.col_off
    part, void = pixels.part(window)
    part = part.float()
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
    if void is not None:
        nowhere = F.grid_sample(void[None, None].float(), grid[None], mode="nearest", align_corners=False)[0, 0] > 0
    return sampled.round_().clamp_(0, 255).to(torch.uint8), nowhere


def _near(tree: shapely.STRtree, shapes: NDArray[np.object_], to_image: Affine, size: int) -> tuple[Any, Any]:
    """Rows of the shapes that may show in a chip, in order, and these in its pixels."""
    rim = np.array([to_image @ xy for xy in ((0, 0), (size, 0), (size, size), (0, size))])
    near = np.sort(tree.query(shapely.Polygon(rim), predicate="intersects"))
    inverse = ~to_image

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy[:, 0], xy[:, 1]
        return np.column_stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f])

    return near, shapely.transform(shapes[near], move)


def _burnt(shapes: Sequence[Any], size: int) -> Tensor:
    """``(size, size)`` int32 number from 1 of the last shape on each pixel; 0: none is there."""
    if not len(shapes):
        return torch.zeros((size, size), dtype=torch.int32)
    numbered = zip(shapes, range(1, len(shapes) + 1), strict=True)
    return torch.from_numpy(rasterize(numbered, out_shape=(size, size), dtype="int32"))


def _target(image: Labelled, to_image: Affine, void: Tensor) -> tuple[dict[str, Tensor], NDArray[np.object_]]:
    """The objects that are asked for, and what shows of the others."""
    size = len(void)
    frame = shapely.box(0, 0, size, size)
    near, whole = _near(image.tree, image.polygons, to_image, size)
    bent = ~shapely.is_valid(whole)  # a rounding can fold a needle of a traced outline over itself
    whole[bent] = shapely.buffer(whole[bent], 0)
    seen = shapely.intersection(whole, frame)
    area, full = shapely.area(seen), shapely.area(whole)
    keep = (area >= MIN_AREA_PX) & ((area >= MIN_VISIBLE * full) | (area >= 400.0))
    left_out = seen[~keep & (area > 0)]
    seen, labels = seen[keep], image.labels[near][keep]
    # Larger ones first, so that what stands inside or on top of another keeps its pixels.
    order = np.argsort(-shapely.area(seen), kind="stable")
    seen, labels = seen[order], labels[order]
    burnt = _burnt(seen, size)
    masks = burnt[None] == torch.arange(1, len(seen) + 1, dtype=torch.int32)[:, None, None]
    boxes = torch.from_numpy(np.asarray(shapely.bounds(seen), np.float32).reshape(-1, 4))
    # Of the numbers that are burnt, not of a mask each: there may be hundreds.
    pixels, valid = (torch.bincount(each.flatten(), minlength=len(seen) + 1)[1:] for each in (burnt, burnt[~void]))
    there = valid > MOSTLY_VALID * pixels
    good = there & (boxes[:, 2] - boxes[:, 0] > 1) & (boxes[:, 3] - boxes[:, 1] > 1)
    target = {
        "boxes": boxes[good],
        "labels": torch.from_numpy(labels.astype(np.int64))[good],
        "masks": masks[good].to(torch.uint8),
    }
    return target, np.concatenate([left_out, seen[~good.numpy()]])
