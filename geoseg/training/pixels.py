"""Where the pixels of a training image are: in memory, or in a file that is read by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import shapely
import torch
from torch import Tensor

from geoseg.errors import ConfigError
from geoseg.gaps import Gap
from geoseg.raster import Source, reader
from geoseg.tiling import Tile
from geoseg.window import Window

GREY = 114
"""What is shown beyond the image."""
_RIM = 8
"""Pixels that an unreadable place may reach into labelled ground: at another GSD its outline is another."""


class Pixels(Protocol):
    """An image of 8-bit red, green, blue."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def part(self, window: Window) -> tuple[Tensor, Tensor | None]:
        """``(3, window.height, window.width)`` uint8 of a window inside the image, and ``(height, width)`` bool.

        The second is True where the image holds nothing (nodata), which is black as it is to a model in use; None
        where all of it holds something.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """An image in memory."""

    values: Tensor
    """``(3, height, width)`` uint8."""
    void: Tensor | None = None
    """``(height, width)`` bool, True: holds nothing; None: nowhere."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.values.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.values.shape[2])

    def part(self, window: Window) -> tuple[Tensor, Tensor | None]:
        """Views of the window."""
        rows, cols = slice(window.row_off, window.row_end), slice(window.col_off, window.col_end)
        return self.values[:, rows, cols], None if self.void is None else self.void[rows, cols]


@dataclass(frozen=True, kw_only=True, eq=False)
class Windowed:
    """A part of a raster that is read again for each chip: its memory does not follow the raster's size."""

    source: Source
    """How the raster is read."""
    area: Window
    """The part of its grid that is the image."""
    labelled: Any = None
    """(Multi)Polygon in image pixels of what is labelled; None: all of it. Only there must it be readable."""

    @property
    def height(self) -> int:
        """Rows."""
        return self.area.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.area.width

    def part(self, window: Window) -> tuple[Tensor, Tensor | None]:
        """The window, read through this thread's open handle.

        Raises:
            ConfigError: labelled ground that cannot be read, or is missing from the file.
        """
        asked = Window(
            row_off=self.area.row_off + window.row_off,
            col_off=self.area.col_off + window.col_off,
            height=window.height,
            width=window.width,
        )
        chips, gaps = reader(self.source).read([Tile(row=0, col=0, core=asked, window=asked)])
        for gap in gaps:
            if not gap.expected:
                self._refuse(gap)
        if not chips:
            shape = (window.height, window.width)
            return torch.zeros((3, *shape), dtype=torch.uint8), torch.ones(shape, dtype=torch.bool)
        void = None if chips[0].valid.all() else torch.from_numpy(~chips[0].valid)
        return torch.from_numpy(np.ascontiguousarray(chips[0].pixels)), void

    def _refuse(self, gap: Gap) -> None:
        here = shapely.transform(gap.geometry, lambda xy: xy - (self.area.col_off, self.area.row_off))
        if self.labelled is not None:
            here = shapely.buffer(shapely.intersection(here, self.labelled), -_RIM)
        if here.is_empty:
            return
        left, top, right, bottom = (round(value) for value in here.bounds)
        raise ConfigError(
            f"{self.source.info.name}, whose pixels are {gap.reason} in rows {top} to {bottom} and columns {left} to "
            f"{right} of {self.height} x {self.width} ({gap.detail})",
            allowed="labelled ground that can be read whole, with what is empty told as nodata",
            remedy="Fetch or write the file again, or leave that ground out with `aoi`",
        )


def hold(windowed: Windowed) -> Held:
    """The same in memory.

    Raises:
        ConfigError: it has no valid pixel, or some that cannot be read.
    """
    values, void = windowed.part(Window(row_off=0, col_off=0, height=windowed.height, width=windowed.width))
    if void is not None and void.all():
        raise ConfigError(
            f"{windowed.source.info.name}, which has no valid pixel in rows and columns {windowed.area.xyxy}"
        )
    return Held(values=values, void=void)
