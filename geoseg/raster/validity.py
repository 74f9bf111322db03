"""Which pixels of a raster hold something: nodata, alpha, masks, NaN, and blocks never written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window as RioWindow

from geoseg.raster.info import RasterInfo
from geoseg.raster.zarr.dataset import ZarrRaster


def read_with_validity(
    dataset: DatasetReader,
    mask: DatasetReader | None,
    info: RasterInfo,
    bands: Sequence[int],
    window: RioWindow,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels ``(bands, h, w)`` as the file has them, and ``(h, w)`` True where they hold something.

    A pixel is nodata where *all* bands read equal the nodata value (a dark roof has a 0 in one band, a collar
    in all), where alpha or a mask is 0, or where any band is not finite.
    """
    indexes = [*bands, *([info.alpha] if info.alpha else [])]
    pixels = dataset.read(indexes, window=window)
    valid = np.ones(pixels.shape[1:], bool)
    if info.alpha:
        valid &= pixels[-1] != 0
        pixels = pixels[:-1]
    flags = dataset.mask_flag_enums[0]
    if mask is not None:
        valid &= mask.read(1, window=window) != 0
    elif MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:  # an internal mask, which may stand by alpha
        valid &= dataset.read_masks(1, window=window) != 0
    if info.nodata is not None and not math.isnan(info.nodata):
        valid &= ~(pixels == info.nodata).all(axis=0)
    if np.issubdtype(pixels.dtype, np.floating):
        valid &= np.isfinite(pixels).all(axis=0)
    return pixels, valid


def unwritten(
    dataset: DatasetReader, info: RasterInfo, bands: Sequence[int], window: RioWindow, pixels: NDArray[Any]
) -> NDArray[np.bool_] | None:
    """``(h, w)`` True for zeros in file blocks that hold nothing, or reserved space, and where a chunk of a Zarr is not
    there; None if there are none.

    Only blocks that end in a zero pixel are looked up, so imagery costs nothing; where bands are stored apart, it is
    enough that one of them was never written.
    """
    if isinstance(dataset, ZarrRaster):
        return dataset.absent
    if info.driver != "GTiff":
        return None
    (rows, cols), found = info.file_block, None
    top, left = int(window.row_off), int(window.col_off)
    height, width = pixels.shape[1:]
    apart = info.data_end is not None and dataset.interleaving == Interleaving.band
    for row in range(top // rows, -(-(top + height) // rows)):
        here = slice(max(row * rows - top, 0), min((row + 1) * rows - top, height))
        for col in range(left // cols, -(-(left + width) // cols)):
            there = slice(max(col * cols - left, 0), min((col + 1) * cols - left, width))
            zero = pixels[:, here.stop - 1, there.stop - 1] == 0
            if not zero.all() and not (apart and zero.any()):
                continue
            lost = [each for each, band in enumerate(bands) if zero[each] and _absent(dataset, info, band, row, col)]
            if lost:
                found = np.zeros((height, width), bool) if found is None else found
                # Of a block that a sparse file lacks in one band alone, the other bands tell that it is black.
                zero_here = pixels[:, here, there] == 0
                found[here, there] = zero_here[lost].any(axis=0) if apart else zero_here.all(axis=0)
    return found


def _absent(dataset: DatasetReader, info: RasterInfo, band: int, row: int, col: int) -> bool:
    """True where a band's file block has no bytes, or reaches past the end of what was written."""
    offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
    size = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
    return offset is None or (info.data_end is not None and int(offset) + int(size or 0) > info.data_end)
