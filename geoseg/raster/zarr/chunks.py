"""Chunks of a Zarr array: found, decoded about once, and laid together; what is not there is told."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import in_a_line
from geoseg.raster.access import CACHE_BYTES
from geoseg.raster.zarr.nodes import Folder, Layout
from geoseg.raster.zarr.packing import ERRORS, checked, unpacked
from geoseg.raster.zarr.shards import index_of, span_of


class Chunks:
    """An array as ``(bands, rows, columns)``. Of dimensions that are none of these, the first place is read.

    Args:
        folder: what may be read.
        path: where the array lies.
        layout: how it is stored.
        axes: which of its dimensions are bands, rows and columns; None: it has none such, and is one there.
    """

    def __init__(self, folder: Folder, path: str, layout: Layout, axes: Sequence[int | None]) -> None:
        self._folder, self._path, self._layout, self._axes = folder, path, layout, tuple(axes)
        self.shape, self.chunk = self._of(layout.shape), self._of(layout.chunk)
        self.file = self._of(layout.shard.size) if layout.shard else self.chunk
        """What lies in one file: a chunk, or the many of a shard."""
        # All that a decoded chunk depends on besides its file; not the fill value: a NaN is like no other NaN.
        self._as = layout.chunk, layout.shard, layout.dtype, layout.packing, layout.checked, self._axes

    def _of(self, sizes: Sequence[int]) -> tuple[int, int, int]:
        bands, rows, cols = (1 if axis is None else sizes[axis] for axis in self._axes)
        return bands, rows, cols

    def read(self, bands: Sequence[int], rows: range, cols: range) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(bands, h, w)``, and ``(h, w)`` True where a chunk of any of them is not there.

        Raises:
            OSError: a chunk that is there cannot be decoded.
        """
        kind = self._layout.dtype.newbyteorder("=")
        values = np.full((len(bands), len(rows), len(cols)), self._layout.fill or 0, kind)
        absent = np.zeros(values.shape[1:], bool)
        for deep in sorted({band // self.chunk[0] for band in bands}):
            places = [place for place, band in enumerate(bands) if band // self.chunk[0] == deep]
            inner = [bands[place] % self.chunk[0] for place in places]
            for row, here, there in _cut(rows, self.chunk[1]):
                for col, left, right in _cut(cols, self.chunk[2]):
                    found = self._decoded((deep, row, col))
                    if found is None:
                        absent[here, left] = True
                    else:
                        values[places, here, left] = found[inner, there, right]
        return values, absent

    def file_of(self, place: Sequence[int]) -> str:
        """Where a file lies, or would lie, by its number among bands, rows and columns."""
        begin, mark = self._layout.key
        full = map(str, self._full(place))
        return os.path.join(self._path, mark.join([begin, *full] if begin else full))

    def _full(self, place: Sequence[int]) -> tuple[int, ...]:
        """A number among bands, rows and columns as one among all dimensions: the first place in the others."""
        full = [0] * len(self._layout.shape)
        for axis, number in zip(self._axes, place, strict=True):
            if axis is not None:
                full[axis] = number
        return tuple(full)

    def _decoded(self, place: tuple[int, int, int]) -> NDArray[Any] | None:
        """A chunk, of its full size; None where there is none."""
        per = [file // chunk for file, chunk in zip(self.file, self.chunk, strict=True)]
        path = self.file_of([number // each for number, each in zip(place, per, strict=True)])
        try:
            found = self._folder.find(path)
            if found is None:
                return None
            inner = self._full([number % each for number, each in zip(place, per, strict=True)])
            key = (self._as, found[0], found[1].st_ino, found[1].st_size, found[1].st_mtime_ns)
            chunk = _cache.get((*key, inner))
            if chunk is None:
                with open(found[0], "rb") as file:
                    data = self._packed(file, key, inner)
                if data is None:
                    return None
                chunk = _cache.put((*key, inner), self._unpacked(data))
            return chunk
        except ERRORS as error:
            raise OSError(f"{path} cannot be decoded ({in_a_line(error)})") from None

    def _packed(self, file: BinaryIO, key: tuple[object, ...], inner: tuple[int, ...]) -> bytes | None:
        """The bytes of a chunk in an open file; None where a shard has none. ``key`` tells the file from others."""
        most, shard = 2 * self._bytes + 2**16, self._layout.shard
        if shard is None:
            return file.read(most)
        size = file.seek(0, os.SEEK_END)
        index = _cache.get(key)
        if index is None:
            index = _cache.put(key, index_of(file, size, self._layout, shard))
        span = span_of(index, inner, size)
        if span is None:
            return None
        file.seek(span[0])
        return file.read(min(span[1], most))

    @property
    def _bytes(self) -> int:
        return math.prod(self._layout.chunk) * self._layout.dtype.itemsize

    def _unpacked(self, data: bytes) -> NDArray[Any]:
        data = unpacked(checked(data) if self._layout.checked else data, self._layout.packing, self._bytes)
        whole = np.frombuffer(data, self._layout.dtype).reshape(self._layout.chunk)
        left = [axis for axis in range(whole.ndim) if axis in self._axes]
        first = whole[tuple(slice(None) if axis in left else 0 for axis in range(whole.ndim))]
        chunk = first.transpose([left.index(axis) for axis in self._axes if axis is not None]).reshape(self.chunk)
        return chunk if chunk.size == whole.size else chunk.copy()


def _cut(span: range, size: int) -> Iterator[tuple[int, slice, slice]]:
    """The chunks that a span meets: number, where it lies in the span, and which part of the chunk that is."""
    for number in range(span.start // size, -(-span.stop // size)):
        first, last = max(span.start, number * size), min(span.stop, (number + 1) * size)
        yield number, slice(first - span.start, last - span.start), slice(first - number * size, last - number * size)


class _Cache:
    """Decoded chunks last used, and indexes of shards, of all arrays and threads of a process; at least one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], NDArray[Any]] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def get(self, key: tuple[object, ...]) -> NDArray[Any] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[object, ...], chunk: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = chunk
                self._bytes += chunk.nbytes
            while self._bytes > CACHE_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return chunk


_cache = _Cache()
