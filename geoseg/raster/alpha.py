"""Bands that are marked as alpha and hold imagery: GDAL calls the fourth of four 8-bit bands so unless it is told
otherwise, and near infrared it is as a rule."""

from __future__ import annotations

import numpy as np
from rasterio.io import DatasetReader
from rasterio.windows import Window as RioWindow

from geoseg.raster.access import READ_ERRORS
from geoseg.raster.spread import spread_blocks

_BLOCKS, _PIXELS = 16, 2**22
"""How much is looked at: so many file blocks, or as many as have so many pixels; one at least."""
_VALUES, _SHARE = 16, 0.5
"""A mask is 0 and the greatest number, or another throughout, but along blurred edges. What has more values than so
many between the two, in more than this share of what it does not leave out, is none."""


def looks_like_imagery(dataset: DatasetReader, band: int) -> int | None:
    """How many values between 0 and the greatest an alpha band takes in a few of its blocks, where they are too many
    for a mask; None where they are not, or it is not of 8 or 16 bits. Blocks that cannot be read tell nothing."""
    if dataset.dtypes[band - 1] not in ("uint8", "uint16"):
        return None
    most = np.iinfo(dataset.dtypes[band - 1]).max
    rows, cols = dataset.block_shapes[band - 1]
    down, across = -(-dataset.height // rows), -(-dataset.width // cols)
    counts = np.zeros(most + 1, np.int64)
    for row, col in spread_blocks(down, across, max(1, min(_BLOCKS, _PIXELS // (rows * cols)))):
        window = RioWindow(
            col * cols, row * rows, min(cols, dataset.width - col * cols), min(rows, dataset.height - row * rows)
        )
        try:
            counts += np.bincount(dataset.read(band, window=window).ravel(), minlength=most + 1)
        except READ_ERRORS:
            continue
    between = counts[1:most]
    values = int(np.count_nonzero(between))
    return values if values > _VALUES and between.sum() > _SHARE * counts[1:].sum() else None
