"""What all families do the same with chips: group and prepare them, and leave out what other tiles report."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from geoseg.detectors.base import ModelCard
from geoseg.detectors.suppression import mask_doubles
from geoseg.errors import AnswerError, ModelError
from geoseg.instances import Chip, Instances
from geoseg.tiling import Tile

log = logging.getLogger("geoseg")

FLOOR = 0.1
"""Lowest score that is ever returned, whatever threshold the card or the settings ask for."""
SMALLEST = 0.5
"""Sides of boxes that are not longer than this, in pixels, hold nothing."""
MOVES = 0.5
"""How far a box may reach beyond its proposal on each side, as a share of the proposal's own side: networks learn to
make boxes of proposals that share half of their ground with them, or more."""
_TOLD_FULL: set[str] = set()
"""Models that have been said to be at their limit, in this process."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What a network was shown: a chip in the upper left, padded to the canvas."""

    tile: Tile
    """Whose chip it is."""
    height: int
    """Rows that the network saw, the padding included."""
    width: int
    """Columns, likewise."""
    classes: int
    """Number of classes of the model's card."""
    model: str
    """Name of the model, for messages."""

    @classmethod
    def of(cls, chip: Chip, size: tuple[int, int], card: ModelCard) -> Canvas:
        """Of a chip that a model was shown on a canvas of ``(rows, columns)``."""
        return cls(tile=chip.tile, height=size[0], width=size[1], classes=len(card.classes), model=card.name)

    @property
    def chip_size(self) -> tuple[int, int]:
        """Rows and columns of the chip."""
        return self.tile.window.height, self.tile.window.width

    def clipped(self, boxes: Tensor) -> Tensor:
        """``(n, 4)`` xyxy boxes, cut at the chip's edges."""
        height, width = self.chip_size
        return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def by_canvas(
    chips: Sequence[Chip], *, stride: int, fixed: tuple[int | None, int | None] = (None, None)
) -> dict[tuple[int, int], list[int]]:
    """Indices of chips by the size ``(rows, columns)`` of the canvas that each needs: chips run only with others of
    their own size, so no result depends on what else is in the call.

    Args:
        chips: of any sizes.
        stride: rows and columns are filled up to a multiple of it.
        fixed: rows and columns of a network that takes no other; None: it takes any.

    Raises:
        ModelError: a chip larger than the network takes.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, chip in enumerate(chips):
        size = chip.pixels.shape[1:]
        rows, columns = (f or -(-s // stride) * stride for f, s in zip(fixed, size, strict=True))
        if size[0] > rows or size[1] > columns:
            raise ModelError(
                f"a chip of {size[0]} x {size[1]} pixels for a network that takes {rows} x {columns}",
                remedy="Set [tiling] core and halo (or the model card's) so that core + 2 halo is at most that",
            )
        groups[rows, columns].append(i)
    return groups


def prepared(chips: Sequence[Chip], size: tuple[int, int], card: ModelCard, device: torch.device) -> Tensor:
    """``(n, bands, *size)`` float32 on the device, normalised there as the card says; the padding is the mean.

    Raises:
        ModelError: pixels that are not what the card says.
    """
    sizes = [(chip.pixels.shape[1], chip.pixels.shape[2]) for chip in chips]
    return normalised(packed(chips, size, card, device), sizes, card, device)


def packed(chips: Sequence[Chip], size: tuple[int, int], card: ModelCard, device: torch.device) -> Tensor:
    """``(n, bands, *size)`` raw values in the host's memory, 8-bit ones as such: they travel to the device in one
    piece, and the CPU does not wait for a GPU to have them. Beside a chip they are 0.

    Raises:
        ModelError: pixels that are not what the card says.
    """
    for chip in chips:
        _check(chip, card)
    eight_bit = all(chip.pixels.dtype == np.uint8 for chip in chips)
    shape = (len(chips), chips[0].pixels.shape[0], *size)
    dtype = torch.uint8 if eight_bit else torch.float32
    host = torch.zeros(shape, dtype=dtype, pin_memory=device.type == "cuda")  # memory that the GPU reads by itself
    for place, chip in zip(host.numpy(), chips, strict=True):
        place[:, : chip.pixels.shape[1], : chip.pixels.shape[2]] = chip.pixels
    return host


def normalised(host: Tensor, sizes: Sequence[tuple[int, int]], card: ModelCard, device: torch.device) -> Tensor:
    """``(n, bands, h, w)`` float32 on the device: values as ``packed`` gives them, less the card's mean and over its
    deviation; beside chips of the given ``(rows, columns)`` 0, which is the mean."""
    mean = torch.tensor(card.mean or (0.0,), device=device).view(-1, 1, 1)
    std = torch.tensor(card.std or (1.0,), device=device).view(-1, 1, 1)
    out = (host.to(device, non_blocking=True).float() - mean) / std
    for image, (rows, columns) in zip(out, sizes, strict=True):
        image[:, rows:] = 0.0
        image[:, :, columns:] = 0.0
    return out


def _check(chip: Chip, card: ModelCard) -> None:
    bands = len(card.mean or card.bands or ()) or chip.pixels.shape[0]
    if chip.pixels.shape[0] != bands or (card.mean is not None and chip.pixels.dtype != np.uint8):
        raise ModelError(
            f"{chip.pixels.shape[0]} band(s) of {chip.pixels.dtype} for the model {card.name!r}",
            allowed=f"{bands} bands" + (" of uint8" if card.mean is not None else ""),
            remedy="Declare bands and scaling in the settings ([raster] bands, scaling)",
        )


def check_finite(what: str, *tensors: Tensor) -> None:
    """Refuse answers that are no numbers, which every comparison would take for nothing found.

    A sum is finite only where all of its terms are, and is the cheapest look at them all.

    Args:
        what: they are, for the message.
        tensors: on one device.

    Raises:
        AnswerError: NaN or infinity in one of them.
    """
    if not torch.stack([tensor.sum(dtype=torch.float32) for tensor in tensors]).isfinite().all():
        raise AnswerError(
            f"{what} with NaN or infinity among them",
            allowed="finite numbers",
            remedy="Look into the weights, and the precision that the network runs in",
        )


def cores_of(tiles: Sequence[Tile], device: torch.device) -> Tensor:
    """``(n, 4)`` float32 xyxy of the core of each tile, in pixels of its own window."""
    corner = [(tile.window.col_off, tile.window.row_off) * 2 for tile in tiles]
    whole = np.array([tile.core.xyxy for tile in tiles]) - np.array(corner)
    return torch.from_numpy(whole.astype(np.float32)).to(device)


def not_elsewhere(boxes: Tensor, cores: Tensor) -> Tensor:
    """``(n,)`` False for boxes ``(n, 4)`` xyxy in window pixels that lie wholly in the core of one neighbouring tile,
    which sees them at least as well.

    Args:
        boxes: of one tile, or of several.
        cores: ``(4,)`` of the tile, or ``(n, 4)`` of each box's own (:func:`cores_of`).
    """
    left, top, right, bottom = cores.unbind(dim=-1)
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    beside = (x2 < left) | (x1 > right)
    one_column = beside | ((x1 >= left) & (x2 <= right))
    above = (y2 < top) | (y1 > bottom)
    one_row = above | ((y1 >= top) & (y2 <= bottom))
    return ~((beside & one_row) | (above & one_column))


def may_be_here(proposals: Tensor, cores: Tensor) -> Tensor:
    """``(n,)`` False for proposals ``(n, 4)`` of which nothing would be kept: so far inside the core of one
    neighbouring tile that a box made of one would lie wholly in there, too (:func:`not_elsewhere`)."""
    reach = MOVES * (proposals[:, 2:] - proposals[:, :2])
    return not_elsewhere(torch.cat([proposals[:, :2] - reach, proposals[:, 2:] + reach], dim=1), cores)


def of_this_tile(boxes: Tensor, tile: Tile) -> Tensor:
    """``(n,)`` True for boxes ``(n, 4)`` that hold something and that no neighbour reports instead."""
    return ((boxes[:, 2:] - boxes[:, :2]) > SMALLEST).all(dim=1) & not_elsewhere(
        boxes, cores_of([tile], boxes.device)[0]
    )


def without_doubles(found: Instances, overlap: float) -> Instances:
    """Of two instances of one class, the lower-scored goes where their masks share more than ``overlap`` of the
    smaller; with 1 all stay."""
    if overlap >= 1 or len(found) < 2:
        return found
    boxes, scores, labels = (torch.from_numpy(a) for a in (found.boxes, found.scores, found.labels))
    equal = torch.cat(
        [F.interpolate(torch.from_numpy(m).float()[None, None], (28, 28), mode="bilinear")[0] for m in found.masks]
    )
    keep = mask_doubles(boxes, scores, labels, equal, overlap=overlap).numpy()
    return Instances(
        boxes=found.boxes[keep],
        scores=found.scores[keep],
        labels=found.labels[keep],
        masks=tuple(mask for mask, kept in zip(found.masks, keep.tolist(), strict=True) if kept),
    )


def warn_full(name: str, most: int, tile: Tile) -> None:
    """Say once per process and model that a tile is full: where one is, most are."""
    if name not in _TOLD_FULL:
        _TOLD_FULL.add(name)
        log.warning(
            "tile %s holds %d candidates, the most that %s gives per tile, and others may too (this is said once): "
            "take a smaller [tiling] core",
            *((tile.row, tile.col), most, name),
        )
