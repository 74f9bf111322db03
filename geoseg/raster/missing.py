"""Files whose space was reserved but not filled: their end reads as black."""

from __future__ import annotations

import os

from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader

from geoseg.raster.spread import spread_blocks

_SUSPICIOUS_TAIL = 64 * 2**10
_CHUNK = 2**20


def _data_end(path: str) -> int:
    """The byte after the last one that is not zero: where a preallocated file stopped being written."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _CHUNK)
            file.seek(start)
            written = file.read(end - start).rstrip(b"\0")
            if written:
                return start + len(written)
            end = start
    return 0


def suspicious_end(dataset: DatasetReader, name: str) -> int | None:
    """Where an uncompressed file stopped being written, if its end is a run of zeros that looks so.

    Compressed blocks of zeros fail to decode; raw ones read as black. They are suspected where the run is
    64 KiB or more, no mask is declared, and black is rare (under 1 %) among the pixels before it.
    """
    masked = any(flag != MaskFlags.all_valid for flags in dataset.mask_flag_enums for flag in flags)
    if dataset.compression is not None or masked:
        return None
    end = _data_end(name)
    if os.path.getsize(name) - end < _SUSPICIOUS_TAIL:
        return None
    return end if _black_share(dataset, end) < 0.01 else None


def _black_share(dataset: DatasetReader, end: int) -> float:
    """The share of pixels that are zero in all bands, in up to 16 file blocks written before ``end``."""
    (rows, cols), found = dataset.block_shapes[0], []
    across, down = -(-dataset.width // cols), -(-dataset.height // rows)
    for row, col in spread_blocks(down, across, 128):
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1)
        size = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1)
        if offset is None or size is None or int(offset) + int(size) > end:
            continue
        window = (
            (row * rows, min((row + 1) * rows, dataset.height)),
            (col * cols, min((col + 1) * cols, dataset.width)),
        )
        found.append(float((dataset.read(window=window) == 0).all(axis=0).mean()))
        if len(found) == 16:
            break
    return sum(found) / len(found) if found else 1.0
