"""A rectangle of pixels."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from geoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True, order=True)
class Window:
    """A half-open rectangle of whole pixels, rows first.

    Raises:
        ConfigError: a negative height or width, or what is no whole number.
    """

    row_off: int
    """First row."""
    col_off: int
    """First column."""
    height: int
    """Rows; may be 0."""
    width: int
    """Columns; may be 0."""

    def __post_init__(self) -> None:
        for name in ("row_off", "col_off", "height", "width"):
            value = getattr(self, name)
            if type(value) is not int:  # NumPy's, say, which would overflow and cannot be written to a report
                object.__setattr__(self, name, _whole(name, value))
        if self.height < 0 or self.width < 0:
            raise ConfigError(f"window of {self.height} x {self.width} pixels", allowed="heights and widths >= 0")

    @property
    def row_end(self) -> int:
        """One past the last row."""
        return self.row_off + self.height

    @property
    def col_end(self) -> int:
        """One past the last column."""
        return self.col_off + self.width

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """Corners as ``(col_off, row_off, col_end, row_end)``: x is the column, y the row."""
        return self.col_off, self.row_off, self.col_end, self.row_end

    @property
    def empty(self) -> bool:
        """True where it holds no pixel."""
        return self.height == 0 or self.width == 0

    def intersection(self, other: Window) -> Window:
        """The pixels in both; height or width 0 where there are none."""
        row_off, col_off = max(self.row_off, other.row_off), max(self.col_off, other.col_off)
        return Window(
            row_off=row_off,
            col_off=col_off,
            height=max(0, min(self.row_end, other.row_end) - row_off),
            width=max(0, min(self.col_end, other.col_end) - col_off),
        )

    def expanded(self, rows: int, cols: int | None = None, *, within: Window) -> Window:
        """Grown by ``rows`` pixels above and below and ``cols`` (None: as many) left and right, cut to ``within``."""
        cols = rows if cols is None else cols
        grown = Window(
            row_off=self.row_off - rows,
            col_off=self.col_off - cols,
            height=self.height + 2 * rows,
            width=self.width + 2 * cols,
        )
        return grown.intersection(within)

    def contains(self, other: Window) -> bool:
        """True where every pixel of ``other`` is in this window."""
        return self.intersection(other) == other


def _whole(name: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(f"a window with {name} = {value!r}", allowed="whole numbers of pixels") from error
