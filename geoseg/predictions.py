"""What a detector said of one block: before any threshold, contour or merge. What is kept, so that it is asked once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.gaps import Gap
from geoseg.instances import Instances
from geoseg.predicting import Cause
from geoseg.tiling import Tile
from geoseg.vectorize.outline import is_cells
from geoseg.vectorize.probabilities import LEVEL, TIE

Halves = NDArray[np.float16]

_NEAREST = np.float16(np.ceil(TIE * 2**24) / 2**24)
"""The half-precision number next above the contour's tie: nothing is rounded across it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What the tiles of one block gave.

    Raises:
        ValueError: not one set of instances per tile, or a negative count.
    """

    tiles: tuple[Tile, ...] = ()
    """The tiles that the detector saw, row by row."""
    instances: tuple[Instances, ...] = ()
    """What it saw in each, in window pixels, from its lowest score up."""
    gaps: tuple[Gap, ...] = ()
    """Ground in the block's cores that was not examined, in grid pixels: which pixels were not valid, and why."""
    planned: int = 0
    """Tiles whose core is asked for."""
    examined: int = 0
    """Tiles that the detector saw."""
    unreadable: int = 0
    """Tiles that gave nothing at all because the file could not be read there."""
    failed: Mapping[Cause, int] = field(default_factory=dict)
    """Tiles that the detector failed on, by cause."""
    pixels: int = 0
    """Pixels in the cores of the examined tiles."""
    device: str = ""
    """Where the detector ran, if it says."""

    def __post_init__(self) -> None:
        if len(self.tiles) != len(self.instances):
            raise ValueError(f"predictions with {len(self.tiles)} tiles and {len(self.instances)} sets of instances")
        counts = (self.planned, self.examined, self.unreadable, self.pixels, *self.failed.values())
        if min(counts) < 0:
            raise ValueError(f"predictions with a negative count among {counts}")

    def __len__(self) -> int:
        """Instances in all tiles."""
        return sum(map(len, self.instances))

    def quantised(self) -> Predictions:
        """The same as a store gives it back: every mask as :func:`quantised` leaves it.

        Raises:
            AnswerError: a mask of probabilities with NaN in it.
            ModelError: a mask that holds neither bool nor probabilities.
        """
        return replace(self, instances=tuple(quantised(each) for each in self.instances))


def quantised(instances: Instances) -> Instances:
    """The instances with their masks as a store keeps them; done twice it changes nothing more.

    Cells (bool, or whole numbers 0 and 1) become bool, exactly. Of probabilities, the distance from the contour's
    level is rounded to half precision, and the sum is float32, exactly. A contour point lies between two cells
    where these distances balance, so it is their ratio that counts, however gentle the slope: half precision
    keeps a distance to one part in 2**11, and a point thereby moves by at most 2**-12 of a cell (2**-9 where one
    is below 2**-14). Which cells are inside, and which count as being on the level, stays the same. (Where four
    cells meet in a saddle, contours join one pair or the other by the mean of the four; one as near to the level
    as the rounding may turn.)

    Raises:
        AnswerError: a mask of probabilities with NaN in it.
        ModelError: a mask that holds neither bool nor probabilities.
    """
    cells = [is_cells(mask) for mask in instances.masks]
    soft = [mask for mask, hard in zip(instances.masks, cells, strict=True) if not hard]
    rounded: Iterator[NDArray[np.float32]] = iter(())
    if soft:
        flat = from_distances(distances(np.concatenate([mask.ravel() for mask in soft])))
        ends = np.cumsum([mask.size for mask in soft])[:-1]
        rounded = (part.reshape(mask.shape) for part, mask in zip(np.split(flat, ends), soft, strict=True))
    masks = [
        mask.astype(np.bool_) if hard else next(rounded) for mask, hard in zip(instances.masks, cells, strict=True)
    ]
    return replace(instances, masks=masks)


def distances(probabilities: NDArray[np.floating]) -> Halves:
    """How far probabilities are from the contour's level, in half precision: 0 where they count as on it.

    The inverse of :func:`from_distances` on what that gives.
    """
    distance = probabilities.astype(np.float64) - LEVEL
    size = np.abs(distance)
    rounded = np.copysign(np.maximum(size.astype(np.float16), _NEAREST), distance).astype(np.float16)
    rounded[size < TIE] = 0
    return rounded


def from_distances(distance: Halves) -> NDArray[np.float32]:
    """Probabilities at half-precision distances from the contour's level: exact, all are multiples of 2**-24."""
    return distance.astype(np.float32) + np.float32(LEVEL)
