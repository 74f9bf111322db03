"""Reading chips: one open handle, a block of tiles in one go, every file block decoded about once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.gaps import Gap
from geoseg.instances import Chip
from geoseg.polygons import clipped
from geoseg.raster.access import STRIP_BYTES, gdal_env
from geoseg.raster.coverage import Layers, gaps_of, inside, outside
from geoseg.raster.file import OpenFile
from geoseg.raster.resample import apply, taps, touched
from geoseg.raster.source import Source
from geoseg.tiling import Tile
from geoseg.window import Window

_OPEN_PER_THREAD = 4


class Reader:
    """Reads chips of one source through one open handle. Not shared between threads: see :func:`reader`.

    A pixel's value follows from its place in the grid alone, never from the window it is read in.

    Raises:
        RasterError: the raster cannot be opened (any more).
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._file = OpenFile(source.info, source.bands)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the raster; may be called twice."""
        self._file.close()

    def read(self, tiles: Sequence[Tile]) -> tuple[list[Chip], list[Gap]]:
        """Chips of ``tiles``, in their order, and the ground in their cores that could not be examined.

        Memory follows the union of the tiles' windows: give it neighbours. Each chip is a copy of its own, free
        to be changed. A tile with no valid pixel in its core gives no chip. Never raises for what the file
        holds: that is a gap.

        Raises:
            RasterError: the file has been written to since it was opened.
        """
        aoi = self.source.aoi
        if aoi is not None and tiles:  # a big AOI is cut once per call, not once per tile
            aoi = clipped(aoi, _union([tile.window for tile in tiles]).xyxy)
        gaps = [gap for tile in tiles for gap in outside(tile.core, aoi)]
        wanted = [tile for tile in tiles if inside(tile.core, aoi)]
        if not wanted:
            return [], gaps
        whole = _union([tile.window for tile in wanted])
        layers = self._read_window(whole).limited_to(whole, aoi)
        chips = []
        for tile in wanted:
            part = layers.part(tile.window, whole)
            gaps.extend(gaps_of(part, tile, aoi))
            if layers.part(tile.core, whole).valid.any():
                # A copy, so that a detector that writes into its pixels does not change its neighbour's.
                chips.append(Chip(tile=tile, pixels=part.pixels.copy(), valid=part.valid.copy()))
        return chips, gaps

    def _read_window(self, window: Window) -> Layers:
        """One window of the model's grid, in strips of bounded size."""
        self._file.problem = ""
        with gdal_env(self.source.info.access):
            strips = [self._read_strip(strip) for strip in self._strips(window)]
            self._file.check()
        return Layers.stacked(strips, detail=self._file.problem)

    def _strips(self, window: Window) -> Iterator[Window]:
        """Cut into strips of rows, each decoding what fits GDAL's cache well, or one row of file blocks.

        Within a strip the bands are read one after another out of the cache. Strips end where rows of file
        blocks end, so that none is decoded for two of them.
        """
        info, grid = self.source.info, self.source.grid
        block_rows, block_cols = info.file_block
        factor = info.grid.height / grid.height
        cols = (window.width * info.grid.width / grid.width // block_cols + 2) * block_cols
        row_bytes = min(cols, info.grid.width) * info.bands * np.dtype(info.dtype).itemsize
        rows = max(1, int(STRIP_BYTES / row_bytes) // block_rows) * block_rows
        start = window.row_off
        while start < window.row_end:
            edge = (int(start * factor) // rows + 1) * rows
            stop = min(window.row_end, max(start + 1, int(edge / factor)))
            yield Window(row_off=start, col_off=window.col_off, height=stop - start, width=window.width)
            start = stop

    def _read_strip(self, window: Window) -> Layers:
        """One strip: read at the file's grid, coloured, resampled to the model's grid, scaled."""
        source, info, grid = self.source, self.source.info, self.source.grid
        rows = taps(window.row_off, window.row_end, size=grid.height, source_size=info.grid.height)
        cols = taps(window.col_off, window.col_end, size=grid.width, source_size=info.grid.width)
        raw = self._file.read(
            Window(
                row_off=rows.start,
                col_off=cols.start,
                height=rows.stop - rows.start,
                width=cols.stop - cols.start,
            )
        )
        pixels, valid, missing, unreadable = raw.pixels, raw.valid, raw.missing, raw.unreadable
        if source.palette is not None:
            pixels, valid = _coloured(pixels[0], valid, source.palette)
        if (grid.height, grid.width) != (info.grid.height, info.grid.width):
            pixels, valid = apply(pixels, valid, rows, cols)
            missing = touched(missing, rows, cols) & ~valid
            unreadable = touched(unreadable, rows, cols) & ~valid & ~missing
        if source.scaling is not None:
            pixels = source.scaling.apply(pixels)
        if source.zero_invalid:
            pixels[:, ~valid] = 0
        return Layers(pixels=pixels, valid=valid, missing=missing, unreadable=unreadable)


def reader(source: Source) -> Reader:
    """This thread's open reader of ``source``; the few last used stay open until the thread ends."""
    readers: OrderedDict[str, Reader] | None = getattr(_local, "readers", None)
    if readers is None:
        readers = _local.readers = OrderedDict()
    if source.identity not in readers:
        readers[source.identity] = Reader(source)
        while len(readers) > _OPEN_PER_THREAD:
            readers.popitem(last=False)[1].close()
    readers.move_to_end(source.identity)
    return readers[source.identity]


_local = threading.local()


def _union(windows: Sequence[Window]) -> Window:
    row_off, col_off = min(w.row_off for w in windows), min(w.col_off for w in windows)
    return Window(
        row_off=row_off,
        col_off=col_off,
        height=max(w.row_end for w in windows) - row_off,
        width=max(w.col_end for w in windows) - col_off,
    )


def _coloured(
    values: NDArray[Any], valid: NDArray[np.bool_], palette: Sequence[Sequence[int]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Red, green, blue of palette values; transparent colours hold nothing."""
    table = np.asarray(palette, np.uint8)
    colours: NDArray[np.uint8] = np.ascontiguousarray(table.T[:3][:, values])
    return colours, valid & (table[values, 3] != 0)
