"""What of a window was examined: slicing it for tiles, and turning the rest into gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes
from scipy import ndimage

from geoseg.gaps import Gap, Reason
from geoseg.polygons import clipped
from geoseg.tiling import Tile
from geoseg.window import Window

SPECK = 64
"""Nodata that hangs together (by sides) over fewer pixels, off the raster's edge, is no gap, though not valid: dead
pixels, pure black in a shadow. A halo of as many pixels sees every speck of a core whole."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """Pixels of one window of the grid and what became of each."""

    pixels: NDArray[Any]
    """``(bands, h, w)``."""
    valid: NDArray[np.bool_]
    """``(h, w)`` True: holds something and is asked for."""
    missing: NDArray[np.bool_]
    """``(h, w)`` True: reads as zeros where the file holds no data."""
    unreadable: NDArray[np.bool_]
    """``(h, w)`` True: could not be decoded."""
    wanted: NDArray[np.bool_] | None = None
    """``(h, w)`` True: touched by the AOI; None: all of it."""
    detail: str = ""
    """What was said of the first part that could not be decoded."""

    @classmethod
    def stacked(cls, strips: Sequence[Layers], *, detail: str) -> Layers:
        """Strips from top to bottom as one."""
        if len(strips) == 1:
            return replace(strips[0], detail=detail)
        return cls(
            pixels=np.concatenate([strip.pixels for strip in strips], axis=1),
            valid=np.concatenate([strip.valid for strip in strips]),
            missing=np.concatenate([strip.missing for strip in strips]),
            unreadable=np.concatenate([strip.unreadable for strip in strips]),
            detail=detail,
        )

    def limited_to(self, window: Window, aoi: shapely.Geometry | None) -> Layers:
        """Valid only where the AOI touches the pixel; pixels outside keep their values, as context."""
        if aoi is None:
            return self
        wanted = _painted(aoi, window)
        return replace(self, valid=self.valid & wanted, wanted=wanted)

    def part(self, window: Window, whole: Window) -> Layers:
        """Views of the part in ``window``, of layers that lie in ``whole``."""
        rows, cols = _slices(window, whole)
        return replace(
            self,
            pixels=self.pixels[:, rows, cols],
            valid=self.valid[rows, cols],
            missing=self.missing[rows, cols],
            unreadable=self.unreadable[rows, cols],
            wanted=None if self.wanted is None else self.wanted[rows, cols],
        )


def inside(core: Window, aoi: shapely.Geometry | None) -> bool:
    """Whether any of a core's ground is asked for."""
    return aoi is None or bool(clipped(aoi, core.xyxy).area > 0)


def outside(core: Window, aoi: shapely.Geometry | None) -> Iterator[Gap]:
    """What of a core the AOI leaves out."""
    if aoi is None:
        return
    rest = shapely.difference(shapely.box(*core.xyxy), clipped(aoi, core.xyxy))
    if rest.area > 0:
        yield Gap(geometry=rest, reason="outside_aoi")


def gaps_of(layers: Layers, tile: Tile, aoi: shapely.Geometry | None) -> Iterator[Gap]:
    """What of a tile's core (and of the AOI) holds nothing or could not be read; ``layers`` are its window's.

    Specks of nodata are left out, see :data:`SPECK`; what is a fault never is, nor a core that holds nothing else.
    """
    core = _slices(tile.core, tile.window)
    nodata = ~(layers.valid | layers.missing | layers.unreadable)
    if layers.wanted is not None:
        nodata &= layers.wanted
    if nodata.any() and layers.valid[core].any():
        nodata &= _sieved(~layers.valid)
    reasons: tuple[tuple[Reason, NDArray[np.bool_], str], ...] = (
        ("unreadable", layers.unreadable, layers.detail),
        ("suspect_missing", layers.missing, "the file holds no data here, and reads as zeros"),
        ("nodata", nodata, ""),
    )
    for reason, mask, detail in reasons:
        if mask[core].any():
            geometry = _outline(mask[core], tile.core)
            if aoi is not None:
                geometry = shapely.intersection(geometry, clipped(aoi, tile.core.xyxy))
            if geometry.area > 0:
                yield Gap(geometry=geometry, reason=reason, detail=detail)


def _sieved(void: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The true cells of ``(h, w)`` without specks.

    A speck is told by the pixels of a whole window, not of a core, so that cores do not cut holes into specks. What
    meets a side of the window may go on beyond it and stays; at the raster's own edge it is a collar, however narrow.
    """
    labels, count = ndimage.label(void)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= SPECK
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        keep[side] = True
    keep[0] = False
    return np.asarray(keep[labels], bool)


def _outline(mask: NDArray[np.bool_], window: Window) -> Any:
    """The true cells of ``(h, w)`` as a (Multi)Polygon in grid pixels.

    An outline of more corners than twice the pixels around the window is drawn by cells of 2, 4, 8, ... pixels, each
    true where at least half of it is.
    """
    if mask.all():
        return shapely.box(*window.xyxy)
    size, cells = 1, mask
    while _corners(cells) > 4 * (window.height + window.width):
        size *= 2
        cells = _coarser(mask, size)
    move = Affine.translation(window.col_off, window.row_off) @ Affine.scale(size)
    found = shapes(cells.astype(np.uint8), mask=cells, transform=move)
    rings = [shapely.geometry.shape(shape) for shape, _ in found]
    whole = rings[0] if len(rings) == 1 else shapely.MultiPolygon(rings)
    return whole if size == 1 else shapely.intersection(whole, shapely.box(*window.xyxy))


def _corners(mask: NDArray[np.bool_]) -> int:
    """How many corners the outline of the true cells has."""
    m = np.pad(mask, 1)
    a, b, c, d = m[:-1, :-1], m[:-1, 1:], m[1:, :-1], m[1:, 1:]
    return int(np.count_nonzero(a ^ b ^ c ^ d) + 2 * np.count_nonzero((a == d) & (b == c) & (a != b)))


def _coarser(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Cells of ``size`` x ``size``, True where at least half of what of them lies in the mask is."""
    rows, cols = (np.arange(0, n, size) for n in mask.shape)
    total = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int64), cols, axis=1)
    heights, widths = np.diff(rows, append=mask.shape[0]), np.diff(cols, append=mask.shape[1])
    return np.asarray(2 * total >= heights[:, None] * widths, bool)


def _slices(window: Window, whole: Window) -> tuple[slice, slice]:
    """Where ``window`` lies in an array that spans ``whole``."""
    return (
        slice(window.row_off - whole.row_off, window.row_end - whole.row_off),
        slice(window.col_off - whole.col_off, window.col_end - whole.col_off),
    )


def _painted(aoi: shapely.Geometry, window: Window) -> NDArray[np.bool_]:
    """``(h, w)`` True for every pixel that the AOI touches."""
    shape, near = (window.height, window.width), clipped(aoi, window.xyxy)
    if near.is_empty:
        return np.zeros(shape, bool)
    if near.equals(shapely.box(*window.xyxy)):
        return np.ones(shape, bool)
    move = Affine.translation(window.col_off, window.row_off)
    return np.asarray(rasterize([near], shape, transform=move, all_touched=True, dtype=np.uint8), bool)
