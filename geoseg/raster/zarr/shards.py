"""Shards: files that hold many chunks, and an index of where each lies in them."""

from __future__ import annotations

import math
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from geoseg.raster.zarr.nodes import Layout, Shard
from geoseg.raster.zarr.packing import checked

_NONE = 2**64 - 1
"""What an index has for the offset and for the length of a chunk that is not there."""


def index_of(file: BinaryIO, size: int, layout: Layout, shard: Shard) -> NDArray[np.uint64]:
    """Where the chunks of a shard of ``size`` bytes lie: ``(..., 2)`` offsets and lengths, by the array's dimensions.

    Raises:
        ValueError, RuntimeError, OSError: the index is cut off, or does not fit its checksum.
    """
    length = shard.index_bytes(layout.chunk)
    if size < length:
        raise ValueError(f"{size} bytes hold no index of {length}")
    file.seek(size - length if shard.index_at_end else 0)
    data = file.read(length)
    data = checked(data) if shard.index_checked else data
    per = shard.chunks(layout.chunk)
    if len(data) != 16 * math.prod(per):
        raise ValueError("its index is cut off")
    return np.frombuffer(data, shard.index_dtype).astype(np.uint64).reshape(*per, 2)


def span_of(index: NDArray[np.uint64], inner: tuple[int, ...], size: int) -> tuple[int, int] | None:
    """Offset and length of one chunk in a shard of ``size`` bytes; None where it is not there.

    Raises:
        ValueError: they lie beyond the shard's end.
    """
    offset, length = map(int, index[inner])
    if (offset, length) == (_NONE, _NONE):
        return None
    if offset + length > size:
        raise ValueError(f"its index has a chunk at {offset} of {length} bytes, in a shard of {size}")
    return offset, length
