"""Another ground sampling distance: separable, with a fixed phase for every pixel of the model's grid.

GDAL's own decimated reading starts its kernel at the window's corner, so a pixel's value depends on the
window it is read in. Here a pixel's taps and weights follow from its place in the grid alone, they are summed
in a fixed order, and so every window gives the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Taps:
    """Which source pixels make each output pixel along one axis, and by how much."""

    index: NDArray[np.int64]
    """``(n, k)`` source positions, counted from ``start``; in ascending order of position."""
    weight: NDArray[np.float32]
    """``(n, k)``, each row sums to 1; unused taps weigh 0."""
    start: int
    """First source pixel used by any."""
    stop: int
    """One past the last."""


def taps(first: int, last: int, *, size: int, source_size: int) -> Taps:
    """Taps for outputs ``first`` to ``last`` (half-open) of an axis of ``size`` pixels over ``source_size``.

    Area average where the output is coarser, linear between centres (edges repeated) where it is finer, a
    plain copy where both have the same size.
    """
    scale = source_size / size
    at = np.arange(first, last, dtype=np.float64)
    if size == source_size:
        index, weight = at[:, None].astype(np.int64), np.ones((len(at), 1))
    elif scale > 1:
        index, weight = _average(at * scale, (at + 1) * scale, math.ceil(scale) + 1)
    else:
        centre = (at + 0.5) * scale - 0.5
        low = np.floor(centre)
        index = np.stack([low, low + 1], axis=1).astype(np.int64)
        weight = np.stack([1 - (centre - low), centre - low], axis=1)
    index = np.clip(index, 0, source_size - 1)
    start, stop = int(index.min()), int(index.max()) + 1
    return Taps(index=index - start, weight=weight.astype(np.float32), start=start, stop=stop)


def _average(
    low: NDArray[np.float64], high: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Overlap of [low, high) with each of the ``k`` source pixels from floor(low) on, normalised."""
    index = np.floor(low)[:, None] + np.arange(k)
    overlap = np.minimum(index + 1, high[:, None]) - np.maximum(index, low[:, None])
    weight = np.clip(overlap, 0, None)
    weight[weight < 1e-9] = 0.0  # an output edge that meets a source edge, but for rounding
    return index.astype(np.int64), weight / weight.sum(axis=1, keepdims=True)


def apply(
    pixels: NDArray[Any], valid: NDArray[np.bool_], rows: Taps, cols: Taps
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Resample ``(bands, h, w)`` and its validity; invalid pixels have no say.

    An output pixel is valid where at least half of its weight fell on valid pixels. Integers are rounded to
    the nearest and keep their dtype.
    """
    kind = np.float64 if pixels.dtype.itemsize >= 4 and pixels.dtype != np.float32 else np.float32
    if valid.all():
        values = _separable(pixels, rows, cols, kind)
        return _cast(values, pixels.dtype), np.ones(values.shape[1:], bool)
    values = _separable(np.where(valid, pixels, pixels.dtype.type(0)), rows, cols, kind)
    weight = _separable(valid[None], rows, cols, kind)[0]
    # A pixel whose taps are all valid is left undivided, exactly as in a window that holds no invalid pixel.
    whole = weight == _separable(np.ones_like(valid)[None], rows, cols, kind)[0]
    np.divide(values, weight, out=values, where=~whole & (weight > 0))
    good = whole | (weight >= 0.5)
    values[:, ~good] = 0
    return _cast(values, pixels.dtype), good


def touched(mask: NDArray[np.bool_], rows: Taps, cols: Taps) -> NDArray[np.bool_]:
    """``(h, w)`` True where any tap of an output pixel lies in ``mask``."""
    if not mask.any():
        return np.zeros((len(rows.index), len(cols.index)), bool)
    tall = np.logical_or.reduce([mask[rows.index[:, tap]] for tap in range(rows.index.shape[1])])
    wide = [tall[:, cols.index[:, tap]] for tap in range(cols.index.shape[1])]
    return np.asarray(np.logical_or.reduce(wide))


def _separable(pixels: NDArray[Any], rows: Taps, cols: Taps, kind: type[np.floating[Any]]) -> NDArray[Any]:
    """Rows first, then columns; one tap after the other, so that sums have one order."""
    height, width = len(rows.index), len(cols.index)
    tall = np.zeros((len(pixels), height, pixels.shape[2]), kind)
    for tap in range(rows.index.shape[1]):
        tall += pixels[:, rows.index[:, tap]] * rows.weight[:, tap, None].astype(kind)
    out = np.zeros((len(pixels), height, width), kind)
    for tap in range(cols.index.shape[1]):
        out += tall[:, :, cols.index[:, tap]] * cols.weight[:, tap].astype(kind)
    return out


def _cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    rounded: NDArray[Any] = np.clip(np.rint(values, out=values), limits.min, limits.max).astype(dtype)
    return rounded
