"""Where the pixels of a training image are: in memory, or in a file that is read by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geoseg.errors import ConfigError
from geoseg.raster import Source, reader
from geoseg.tiling import Tile
from geoseg.window import Window

GREY = 114
"""What is shown where there is no image."""


class Pixels(Protocol):
    """An image of 8-bit red, green, blue."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def part(self, window: Window) -> Tensor:
        """``(3, window.height, window.width)`` uint8 of a window inside the image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """An image in memory."""

    values: Tensor
    """``(3, height, width)`` uint8."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.values.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.values.shape[2])

    def part(self, window: Window) -> Tensor:
        """A view of the window."""
        return self.values[:, window.row_off : window.row_end, window.col_off : window.col_end]


@dataclass(frozen=True, kw_only=True, eq=False)
class Windowed:
    """A part of a raster that is read again for each chip: its memory does not follow the raster's size."""

    source: Source
    """How the raster is read."""
    area: Window
    """The part of its grid that is the image."""

    @property
    def height(self) -> int:
        """Rows."""
        return self.area.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.area.width

    def part(self, window: Window) -> Tensor:
        """The window, read through this thread's open handle; grey where no pixel is valid."""
        asked = Window(
            row_off=self.area.row_off + window.row_off,
            col_off=self.area.col_off + window.col_off,
            height=window.height,
            width=window.width,
        )
        chips, _ = reader(self.source).read([Tile(row=0, col=0, core=asked, window=asked)])
        if not chips:
            return torch.full((3, window.height, window.width), GREY, dtype=torch.uint8)
        return torch.from_numpy(np.ascontiguousarray(chips[0].pixels))


def hold(windowed: Windowed) -> Held:
    """The same in memory.

    Raises:
        ConfigError: it has no valid pixel.
    """
    tile = Tile(row=0, col=0, core=windowed.area, window=windowed.area)
    chips, _ = reader(windowed.source).read([tile])
    if not chips:
        raise ConfigError(
            f"{windowed.source.info.name}, which has no valid pixel in rows and columns {windowed.area.xyxy}"
        )
    return Held(values=torch.from_numpy(np.ascontiguousarray(chips[0].pixels)))
