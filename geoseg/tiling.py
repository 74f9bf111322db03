"""Cutting a grid into tiles, and tiles into blocks. Pure geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.errors import ConfigError
from geoseg.window import Window


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One piece of the grid as a network sees it.

    The cores of all tiles are an exact partition of the tiled area; the window is the core plus the halo, cut
    at the edge of that area and never snapped.
    """

    row: int
    """Position in the lattice of tiles."""
    col: int
    """Position in the lattice of tiles."""
    core: Window
    """What this tile owns, in grid pixels."""
    window: Window
    """What this tile sees, in grid pixels."""


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
    def window(self) -> Window:
        """The union of its tiles' windows (a rectangle), in grid pixels."""
        first, last = self.tiles[0].window, self.tiles[-1].window
        return Window(
            row_off=first.row_off,
            col_off=first.col_off,
            height=last.row_end - first.row_off,
            width=last.col_end - first.col_off,
        )


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a grid is cut: ``Tiling(core=512, halo=64)``.

    Raises:
        ConfigError: sizes that cannot tile, or a halo wider than a core (a tile would then see past its
            neighbour, which gains nothing and breaks the bound on who can have seen an object).
    """

    core: int = 512
    """Side of a tile's core, in pixels of the grid that the model sees."""
    halo: int = 64
    """Width of the rim around the core, in the same pixels."""
    block: int = 4
    """Side of a block, in tiles: a block is at most ``block`` x ``block`` tiles."""

    def __post_init__(self) -> None:
        if self.core < 1 or self.halo < 0 or self.block < 1 or self.halo > self.core:
            raise ConfigError(
                f"tiling with core {self.core}, halo {self.halo}, block {self.block}",
                allowed="core >= 1, 0 <= halo <= core, block >= 1 (core and halo in pixels, block in tiles)",
            )

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
        return -(-self.area.height // self.tiling.core)

    @property
    def cols(self) -> int:
        """Tile columns."""
        return -(-self.area.width // self.tiling.core)

    def __len__(self) -> int:
        return self.rows * self.cols

    def tile(self, row: int, col: int) -> Tile:
        """The tile at a place of the lattice.

        Raises:
            IndexError: outside the lattice.
        """
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise IndexError(f"tile ({row}, {col}) of {self.rows} x {self.cols}")
        size = self.tiling.core
        top, left = self.area.row_off + row * size, self.area.col_off + col * size
        whole = Window(row_off=top, col_off=left, height=size, width=size)
        core = whole.intersection(self.area)
        return Tile(row=row, col=col, core=core, window=core.expanded(self.tiling.halo, within=self.area))

    def tiles(self) -> Iterator[Tile]:
        """All tiles, row by row."""
        return (self.tile(row, col) for row in range(self.rows) for col in range(self.cols))

    def blocks(self, *, within: Window | None = None) -> Iterator[Block]:
        """All tiles as blocks, row by row; with ``within``, only the blocks whose cores meet that window."""
        step = self.tiling.block
        rows, cols = self._span(within if within is not None else self.area)
        for block_row in rows:
            for block_col in cols:
                row, col = block_row * step, block_col * step
                tiles = tuple(
                    self.tile(r, c)
                    for r in range(row, min(row + step, self.rows))
                    for c in range(col, min(col + step, self.cols))
                )
                yield Block(row=block_row, col=block_col, tiles=tiles)

    def count(self, *, within: Window) -> int:
        """Tiles in the blocks whose cores meet a window."""
        step = self.tiling.block
        rows, cols = self._span(within)
        height = min(rows.stop * step, self.rows) - rows.start * step
        width = min(cols.stop * step, self.cols) - cols.start * step
        return height * width

    def _span(self, window: Window) -> tuple[range, range]:
        """Rows and columns of the lattice of blocks that meet a window."""
        seen, size = window.intersection(self.area), self.tiling.core * self.tiling.block
        if seen.empty:
            return range(0), range(0)
        top, left = seen.row_off - self.area.row_off, seen.col_off - self.area.col_off
        return (
            range(top // size, (top + seen.height - 1) // size + 1),
            range(left // size, (left + seen.width - 1) // size + 1),
        )
