"""What goes into a detector and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg.errors import AnswerError, ModelError
from geoseg.tiling import Tile


@dataclass(frozen=True, kw_only=True, eq=False)
class Chip:
    """The pixels of one tile's window.

    Raises:
        ModelError: what is no array, or of another shape than the window.
    """

    tile: Tile
    """Which tile; ``tile.window`` says where it lies in the grid."""
    pixels: NDArray[Any]
    """``(bands, height, width)``, the raster's own values unless the model's card declares a rule."""
    valid: NDArray[np.bool_]
    """``(height, width)``, True = valid (not nodata, inside the raster, inside the AOI)."""

    def __post_init__(self) -> None:
        given: tuple[Any, ...] = (self.pixels, self.valid)
        if not all(isinstance(each, np.ndarray) for each in given) or self.valid.dtype != np.bool_:
            kinds = " and ".join(type(each).__name__ for each in given)
            raise ModelError(
                f"a chip with pixels and valid of type {kinds}", allowed="NumPy arrays, valid one of bools"
            )
        shape = (self.tile.window.height, self.tile.window.width)
        if self.pixels.ndim != 3 or self.pixels.shape[1:] != shape or self.valid.shape != shape:
            raise ModelError(
                f"a chip with pixels {self.pixels.shape} and valid {self.valid.shape} for a window of {shape}",
                allowed="pixels (bands, height, width) and valid (height, width) of the tile's window",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Instances:
    """The objects that a detector saw in one chip. ``n`` may be 0; it is never None.

    Raises:
        AnswerError: boxes that are empty or not finite, scores outside [0, 1] or not finite: bad values.
        ModelError: boxes, scores or labels that are no numbers (text is none), boxes of another shape, lengths that
            differ, labels that are negative or no whole numbers, a mask that is not 2-D: no set of instances at all.
    """

    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    """``(n, 4)`` x1, y1, x2, y2 in window pixels (fractions allowed), (0, 0) = corner of the corner pixel."""
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """``(n,)`` in [0, 1]."""
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """``(n,)`` index into the card's ``classes``, from 0."""
    masks: Sequence[NDArray[Any]] = ()
    """``n`` box-local crops, 2-D of any size: probabilities in [0, 1] or bool. Cell (r, c) of an (h, w) crop
    covers that fraction of the box."""

    if TYPE_CHECKING:  # what may be given, of which the fields are made

        def __init__(
            self,
            *,
            boxes: ArrayLike = ...,
            scores: ArrayLike = ...,
            labels: ArrayLike = ...,
            masks: Iterable[ArrayLike] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        boxes, scores = _numbers(self.boxes, "boxes"), _numbers(self.scores, "scores")
        labels = _numbers(self.labels, "labels", np.float64)  # exact up to 2^53
        if boxes.size and boxes.shape[-1:] != (4,):  # (4, n), too, has room for n boxes: other ones
            raise ModelError(f"boxes of shape {boxes.shape}", allowed="(n, 4): x1, y1, x2, y2 of each")
        if not (labels == np.rint(labels)).all():
            raise ModelError("labels that are no whole numbers", allowed="an index into the card's classes, from 0")
        object.__setattr__(self, "boxes", boxes.reshape(-1, 4))
        object.__setattr__(self, "scores", scores.reshape(-1))
        object.__setattr__(self, "labels", labels.astype(np.int64).reshape(-1))
        if not isinstance(self.masks, Iterable):
            raise ModelError(f"masks of type {type(self.masks).__name__}", allowed="a crop per box; none: ()")
        object.__setattr__(self, "masks", tuple(_array(mask, "masks") for mask in self.masks))
        n = len(self.boxes)
        if not (len(self.scores) == len(self.labels) == len(self.masks) == n):
            raise ModelError(
                f"instances with {n} boxes, {len(self.scores)} scores, {len(self.labels)} labels, "
                f"{len(self.masks)} masks",
                allowed="as many of each",
            )
        bad = ~(np.isfinite(self.boxes).all(axis=1) & (self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1))
        if bad.any():
            box = ", ".join(f"{value:g}" for value in self.boxes[bad][0])
            raise AnswerError(
                f"a box that is empty or not finite: {box}", allowed="x1, y1, x2, y2 with x1 < x2, y1 < y2"
            )
        bad = ~((self.scores >= 0) & (self.scores <= 1))
        if bad.any():
            raise AnswerError(f"a score of {self.scores[bad][0]:g}", allowed="0 <= score <= 1")
        if n and (self.labels < 0).any():
            raise ModelError("a negative label", allowed="an index into the card's classes, from 0")
        for mask in self.masks:
            if mask.ndim != 2 or 0 in mask.shape:
                raise ModelError(f"a mask crop of shape {mask.shape}", allowed="2-D, at least 1 x 1")

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: NDArray[np.int64]) -> Instances:
        """Those at ``rows`` (positions), in that order; sound, as they have been looked at."""
        some = object.__new__(Instances)
        for name in ("boxes", "scores", "labels"):
            object.__setattr__(some, name, getattr(self, name)[rows])
        object.__setattr__(some, "masks", tuple(self.masks[row] for row in rows.tolist()))
        return some


def _numbers(values: Any, what: str, kind: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    given = _array(values, what)
    if given.dtype.kind not in "biuf":  # text, too, would be taken for the numbers that it says, and None for NaN
        said = f"{what} that are no array of numbers (of type {given.dtype})"
        raise ModelError(said, allowed="numbers; a label is an index into the card's classes, from 0")
    return given.astype(kind, copy=False)


def _array(values: Any, what: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths; a tensor on a GPU
        raise ModelError(f"{what} that are no array ({error})", allowed="NumPy arrays, or lists of numbers") from error
