"""One open file, read at its own grid: pixels, and what became of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RioWindow

from geoseg.errors import RasterError
from geoseg.raster.access import READ_ERRORS, gdal_env, one_line, open_dataset
from geoseg.raster.info import RasterInfo, key_of, open_source
from geoseg.raster.keys import QUICK
from geoseg.raster.validity import read_with_validity, unwritten
from geoseg.raster.zarr.dataset import ZarrRaster
from geoseg.window import Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Raw:
    """Pixels of one window of a file."""

    pixels: NDArray[Any]
    """``(bands, h, w)`` as the file has them; 0 where unreadable."""
    valid: NDArray[np.bool_]
    """``(h, w)`` True: holds something."""
    missing: NDArray[np.bool_]
    """``(h, w)`` True: reads as zeros where the file holds no data."""
    unreadable: NDArray[np.bool_]
    """``(h, w)`` True: could not be decoded."""


class OpenFile:
    """A raster and its mask file, open. Call :meth:`read` inside ``gdal_env``.

    Its content key is taken again, so that another file under the same path, on another machine or put there since,
    is never mixed in.

    Raises:
        RasterError: it cannot be opened, or is not what it was when its header was read.
    """

    def __init__(self, info: RasterInfo, bands: Sequence[int]) -> None:
        self.info, self.bands = info, bands
        self.problem = ""
        """What was said of the first block that could not be decoded."""
        self._stack = ExitStack()
        with gdal_env(info.access):
            opening = open_source(info.path, info.driver, info.access)
            self._dataset, mosaic = self._stack.enter_context(opening)
            self._mask = None
            if info.mask_file:
                self._mask = self._stack.enter_context(open_dataset(info.mask_file, "GTiff"))
        self._mosaic = mosaic
        self._covered = np.array(mosaic.covered) if mosaic else None
        self._files = self._dataset.files(QUICK) if isinstance(self._dataset, ZarrRaster) else [info.path]
        self._stamp = self._stamped()
        try:
            self._check_seal()
        except RasterError:
            self.close()
            raise

    def check(self) -> None:
        """Look whether the file has been written to since it was opened: what was read may be of either then.

        Raises:
            RasterError: it has been, and is not what it was.
        """
        stamp = self._stamped()
        if stamp not in ([None], self._stamp):  # a file that is gone is read to its end
            self._check_seal()
            self._stamp = stamp

    def _stamped(self) -> list[tuple[int, ...] | None]:
        return [_stamp(path) for path in self._files]

    def _check_seal(self) -> None:
        if key_of(self.info.path, self._dataset, self._mosaic, self.info.mask_file, most=QUICK) != self.info.seal:
            raise RasterError(
                f"{self.info.path}, which has changed since it was first opened, or is another file on this machine",
                allowed="the same bytes throughout a run, on every machine that works on it",
                remedy="Put the same file everywhere, leave it alone, and start again",
            )

    def close(self) -> None:
        """May be called twice."""
        self._stack.close()

    def read(self, window: Window) -> Raw:
        """One window of the file. What cannot be decoded is narrowed down to file blocks, by halving."""
        box = RioWindow(window.col_off, window.row_off, window.width, window.height)
        try:
            pixels, valid = read_with_validity(self._dataset, self._mask, self.info, self.bands, box)
        except READ_ERRORS as error:
            self.problem = self.problem or one_line(error)
            halves = _halves(window, self.info.file_block)
            if len(halves) == 2:
                return _joined(window, halves, [self.read(half) for half in halves])
            return _nothing(window, self.info, len(self.bands))
        if self._covered is not None:
            valid &= _under(self._covered, window)
        missing = unwritten(self._dataset, self.info, self.bands, box, pixels)
        missing = np.zeros_like(valid) if missing is None else missing & valid
        return Raw(pixels=pixels, valid=valid & ~missing, missing=missing, unreadable=np.zeros_like(valid))


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:  # remote, or gone
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _nothing(window: Window, info: RasterInfo, bands: int) -> Raw:
    shape = (window.height, window.width)
    return Raw(
        pixels=np.zeros((bands, *shape), info.dtype),
        valid=np.zeros(shape, bool),
        missing=np.zeros(shape, bool),
        unreadable=np.ones(shape, bool),
    )


def _halves(window: Window, block: tuple[int, int]) -> list[Window]:
    """Two parts, cut at a file block's edge near the middle of the longer side; or the window alone."""
    first = (window.row_off // block[0], window.col_off // block[1])
    rows = (window.row_end - 1) // block[0] - first[0] + 1
    cols = (window.col_end - 1) // block[1] - first[1] + 1
    if max(rows, cols) == 1:
        return [window]
    if rows >= cols:
        cut = (first[0] + rows // 2) * block[0]
        upper = replace(window, height=cut - window.row_off)
        return [upper, replace(window, row_off=cut, height=window.height - upper.height)]
    cut = (first[1] + cols // 2) * block[1]
    left = replace(window, width=cut - window.col_off)
    return [left, replace(window, col_off=cut, width=window.width - left.width)]


def _joined(window: Window, halves: Sequence[Window], parts: Sequence[Raw]) -> Raw:
    axis = 0 if halves[0].height < window.height else 1
    return Raw(
        pixels=np.concatenate([part.pixels for part in parts], axis=axis + 1),
        valid=np.concatenate([part.valid for part in parts], axis=axis),
        missing=np.concatenate([part.missing for part in parts], axis=axis),
        unreadable=np.concatenate([part.unreadable for part in parts], axis=axis),
    )


def _under(covered: NDArray[np.float64], window: Window) -> NDArray[np.bool_]:
    """``(h, w)`` True where a source of the mosaic lies, by pixel centres; ``covered`` is ``(n, 4)``, as in Mosaic."""
    mask = np.zeros((window.height, window.width), bool)
    left, top, right, bottom = covered.T
    near = (left < window.col_end) & (right > window.col_off) & (top < window.row_end) & (bottom > window.row_off)
    for x0, y0, x1, y1 in covered[near]:
        rows = _centres(y0, y1, window.row_off, window.height)
        cols = _centres(x0, x1, window.col_off, window.width)
        mask[rows, cols] = True
    return mask


def _centres(low: float, high: float, start: int, size: int) -> slice:
    first, last = np.clip(np.ceil(np.array([low, high]) - 0.5) - start, 0, size)
    return slice(int(first), int(last))
