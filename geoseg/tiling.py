"""Cutting a grid into tiles, and tiles into blocks. Pure geometry."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from geoseg.errors import ConfigError
from geoseg.window import Window


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One piece of the grid as a network sees it.

    The cores of all tiles are an exact partition of the tiled area; the window is the core plus the halo, cut
    at the edge of that area and never snapped.

    Raises:
        ConfigError: a core that reaches out of the window.
    """

    row: int
    """Position in the lattice of tiles."""
    col: int
    """Position in the lattice of tiles."""
    core: Window
    """What this tile owns, in grid pixels."""
    window: Window
    """What this tile sees, in grid pixels."""

    def __post_init__(self) -> None:
        if not self.window.contains(self.core):
            raise ConfigError(
                f"a tile with the core {self.core} in the window {self.window}", allowed="a core inside it"
            )


@dataclass(frozen=True, kw_only=True, order=True)
class TileRange:
    """A half-open rectangle of the lattice of tiles. Holds no list: one of 10^5 tiles costs nothing."""

    row: int
    """First tile row."""
    row_end: int
    """One past the last tile row."""
    col: int
    """First tile column."""
    col_end: int
    """One past the last tile column."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A rectangle of neighbouring tiles: the unit of work, of distribution and of resume."""

    row: int
    """Position in the lattice of blocks."""
    col: int
    """Position in the lattice of blocks."""
    tiles: tuple[Tile, ...]
    """In reading order: row by row."""

    @property
    def span(self) -> TileRange:
        """Its place in the lattice of tiles."""
        first, last = self.tiles[0], self.tiles[-1]
        return TileRange(row=first.row, row_end=last.row + 1, col=first.col, col_end=last.col + 1)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a grid is cut: ``Tiling(core=512, halo=64)``, or ``Tiling(core=(384, 640), halo=(48, 64))``, rows first.

    Raises:
        ConfigError: sizes that cannot tile, a halo wider than a core (a tile would then see past its
            neighbour, which gains nothing and breaks the bound on who can have seen an object), or a halo in
            one direction alone.
    """

    core: int | tuple[int, int] = 512
    """Sides of a tile's core, rows and columns, in pixels of the grid that the model sees; one number: both."""
    halo: int | tuple[int, int] = 64
    """Width of the rim around the core, above and below, left and right, in the same pixels; one number: both."""
    block: int = 4
    """Side of a block, in tiles: a block is at most ``block`` x ``block`` tiles."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "core", _shortest(self.core))
        object.__setattr__(self, "halo", _shortest(self.halo))
        object.__setattr__(self, "block", _whole(self.block))
        sides = list(zip(self.core_yx, self.halo_yx, strict=True))
        if self.block < 1 or any(core < 1 or halo < 0 or halo > core for core, halo in sides):
            raise ConfigError(
                f"tiling with core {said(self.core)}, halo {said(self.halo)}, block {self.block}",
                allowed="core >= 1, 0 <= halo <= core, block >= 1 (core and halo in pixels, block in tiles)",
            )
        if (self.halo_yx[0] == 0) != (self.halo_yx[1] == 0):
            raise ConfigError(
                f"tiling with a halo of {said(self.halo)}",
                allowed="a halo on all sides, or on none",
                remedy="Where there is one tile in that direction a halo costs nothing: it is cut at the raster's edge",
            )

    @property
    def core_yx(self) -> tuple[int, int]:
        """Sides of a core: rows, columns."""
        return _pair(self.core)

    @property
    def halo_yx(self) -> tuple[int, int]:
        """Widths of the halo: in rows (above and below), in columns (left and right)."""
        return _pair(self.halo)

    def plan(self, area: Window) -> Plan:
        """The tiles that cover ``area``."""
        return Plan(tiling=self, area=area)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The lattice of tiles over one area. Holds no list: tiles are computed when asked for."""

    tiling: Tiling
    """How it is cut."""
    area: Window
    """What is cut, in grid pixels."""

    @property
    def rows(self) -> int:
        """Tile rows."""
        return -(-self.area.height // self.tiling.core_yx[0])

    @property
    def cols(self) -> int:
        """Tile columns."""
        return -(-self.area.width // self.tiling.core_yx[1])

    def __len__(self) -> int:
        return self.rows * self.cols

    def tile(self, row: int, col: int) -> Tile:
        """The tile at a place of the lattice.

        Raises:
            IndexError: outside the lattice.
        """
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise IndexError(f"tile ({row}, {col}) of {self.rows} x {self.cols}")
        height, width = self.tiling.core_yx
        top, left = self.area.row_off + row * height, self.area.col_off + col * width
        whole = Window(row_off=top, col_off=left, height=height, width=width)
        core = whole.intersection(self.area)
        return Tile(row=row, col=col, core=core, window=core.expanded(*self.tiling.halo_yx, within=self.area))

    def tiles(self) -> Iterator[Tile]:
        """All tiles, row by row."""
        return (self.tile(row, col) for row in range(self.rows) for col in range(self.cols))

    def blocks(self, *, within: Window | None = None) -> Iterator[Block]:
        """All tiles as blocks, row by row; with ``within``, only the blocks whose cores meet that window."""
        step = self.tiling.block
        rows, cols = self.span(within if within is not None else self.area)
        for block_row in rows:
            for block_col in cols:
                row, col = block_row * step, block_col * step
                tiles = tuple(
                    self.tile(r, c)
                    for r in range(row, min(row + step, self.rows))
                    for c in range(col, min(col + step, self.cols))
                )
                yield Block(row=block_row, col=block_col, tiles=tiles)

    @property
    def levels(self) -> int:
        """How often blocks are joined two by two until one is left that holds every tile."""
        step = self.tiling.block
        return max(-(-self.rows // step) - 1, -(-self.cols // step) - 1, 0).bit_length()

    def square(self, row: int, col: int, *, level: int) -> TileRange:
        """The tiles of a square of ``2**level`` x ``2**level`` blocks: ``level`` 0 is a block, and one level up
        (``row // 2, col // 2``) holds four of this one, fewer at the area's edge.

        Raises:
            IndexError: no tile of the lattice is in it.
        """
        step = self.tiling.block << level
        top, left = row * step, col * step
        if not (0 <= top < self.rows and 0 <= left < self.cols):
            raise IndexError(f"square ({row}, {col}) of level {level} in {self.rows} x {self.cols} tiles")
        return TileRange(row=top, row_end=min(top + step, self.rows), col=left, col_end=min(left + step, self.cols))

    def count(self, *, within: Window) -> int:
        """Tiles in the blocks whose cores meet a window."""
        step = self.tiling.block
        rows, cols = self.span(within)
        height = min(rows.stop * step, self.rows) - rows.start * step
        width = min(cols.stop * step, self.cols) - cols.start * step
        return height * width

    def span(self, window: Window) -> tuple[range, range]:
        """Rows and columns of the lattice of blocks that meet a window."""
        seen = window.intersection(self.area)
        if seen.empty:
            return range(0), range(0)
        height, width = (side * self.tiling.block for side in self.tiling.core_yx)
        top, left = seen.row_off - self.area.row_off, seen.col_off - self.area.col_off
        return (
            range(top // height, (top + seen.height - 1) // height + 1),
            range(left // width, (left + seen.width - 1) // width + 1),
        )


def said(sides: int | tuple[int, int]) -> str:
    """Sides of a core or halo in words: ``512``, ``384 x 640`` (rows x columns)."""
    return " x ".join(map(str, sides)) if isinstance(sides, tuple) else str(sides)


def _pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    return sides if isinstance(sides, tuple) else (sides, sides)


def _shortest(sides: int | Sequence[int]) -> int | tuple[int, int]:
    """One number where both are equal, so that equal tilings compare equal however they were written."""
    if not isinstance(sides, Sequence) or isinstance(sides, str):
        return _whole(sides)
    if len(sides) != 2:
        raise ConfigError(f"{len(sides)} sides of a tile", allowed="one number, or two: rows and columns")
    rows, cols = map(_whole, sides)
    return rows if rows == cols else (rows, cols)


def _whole(value: Any) -> int:
    """A number of pixels or tiles: Python's own, for NumPy's cannot be written to a report.

    Raises:
        ConfigError: it is no whole number.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise ConfigError(
            f"a tiling with {value!r}", allowed="whole numbers: one, or two (rows and columns) for core and halo"
        ) from error
