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

from geoseg.gaps import Gap, Reason
from geoseg.window import Window


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
        rows = slice(window.row_off - whole.row_off, window.row_end - whole.row_off)
        cols = slice(window.col_off - whole.col_off, window.col_end - whole.col_off)
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
    return aoi is None or bool(shapely.clip_by_rect(aoi, *core.xyxy).area > 0)


def outside(core: Window, aoi: shapely.Geometry | None) -> Iterator[Gap]:
    """What of a core the AOI leaves out."""
    if aoi is None:
        return
    rest = shapely.difference(shapely.box(*core.xyxy), shapely.clip_by_rect(aoi, *core.xyxy))
    if rest.area > 0:
        yield Gap(geometry=rest, reason="outside_aoi")


def gaps_of(layers: Layers, core: Window, aoi: shapely.Geometry | None) -> Iterator[Gap]:
    """What of a core (and of the AOI) holds nothing or could not be read; ``layers`` are the core's."""
    nodata = ~(layers.valid | layers.missing | layers.unreadable)
    if layers.wanted is not None:
        nodata &= layers.wanted
    reasons: tuple[tuple[Reason, NDArray[np.bool_], str], ...] = (
        ("unreadable", layers.unreadable, layers.detail),
        ("suspect_missing", layers.missing, "the file holds no data here, and reads as zeros"),
        ("nodata", nodata, ""),
    )
    for reason, mask, detail in reasons:
        if mask.any():
            geometry = _outline(mask, core)
            if aoi is not None:
                geometry = shapely.intersection(geometry, shapely.clip_by_rect(aoi, *core.xyxy))
            if geometry.area > 0:
                yield Gap(geometry=geometry, reason=reason, detail=detail)


def _outline(mask: NDArray[np.bool_], window: Window) -> Any:
    """The true cells of ``(h, w)`` as a (Multi)Polygon in grid pixels."""
    if mask.all():
        return shapely.box(*window.xyxy)
    move = Affine.translation(window.col_off, window.row_off)
    rings = [
        shapely.geometry.shape(shape) for shape, _ in shapes(mask.astype(np.uint8), mask=mask, transform=move)
    ]
    return rings[0] if len(rings) == 1 else shapely.MultiPolygon(rings)


def _painted(aoi: shapely.Geometry, window: Window) -> NDArray[np.bool_]:
    """``(h, w)`` True for every pixel that the AOI touches."""
    shape, near = (window.height, window.width), shapely.clip_by_rect(aoi, *window.xyxy)
    if near.is_empty:
        return np.zeros(shape, bool)
    if near.equals(shapely.box(*window.xyxy)):
        return np.ones(shape, bool)
    move = Affine.translation(window.col_off, window.row_off)
    return np.asarray(rasterize([near], shape, transform=move, all_touched=True, dtype=np.uint8), bool)
