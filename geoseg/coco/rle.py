"""COCO's run lengths: a mask column by column, as the lengths of its runs of zeros and ones in turn.

The compressed text is that of pycocotools (its maskApi): each length, from the fourth on as the difference to the one
two before, in groups of five bits, the lowest first; a group is a character from ``0`` (48) on, 32 more where another
follows. Like LEB128, with six bits instead of eight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.vectorize.cells import cell_outlines

_GROUPS = 13
"""Groups of five bits that hold 64."""
_ALLOWED = "counts that are whole numbers from 0 on and come to height x width, or pycocotools' text of them"


@dataclass(frozen=True, kw_only=True, eq=False)
class Rle:
    """A mask as run lengths.

    Raises:
        ConfigError: counts that do not come to the size.
    """

    height: int
    """Rows of the mask."""
    width: int
    """Its columns."""
    counts: NDArray[np.int64]
    """``(n,)`` lengths of runs down the columns, left to right, the first of zeros (may be 0)."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"a mask of {self.height} x {self.width} pixels", allowed="at least 1 x 1")
        if len(self.counts) and (self.counts.min() < 0 or self.counts.max() > self.height * self.width):
            raise ConfigError(f"run lengths from {self.counts.min()} to {self.counts.max()}", allowed=_ALLOWED)
        if int(self.counts.sum()) != self.height * self.width:
            raise ConfigError(
                f"run lengths that come to {int(self.counts.sum())} for {self.height} x {self.width} pixels",
                allowed=_ALLOWED,
            )

    @classmethod
    def parse(cls, counts: object, *, height: int, width: int) -> Rle:
        """Counts as a file has them: a list of lengths, or compressed text.

        Raises:
            ConfigError: neither, or they do not come to the size.
        """
        if isinstance(counts, bytes):
            counts = counts.decode("ascii", "replace")
        if isinstance(counts, str):
            return cls(height=height, width=width, counts=_decompressed(counts))
        if not isinstance(counts, list) or not all(type(value) is int and 0 <= value < 2**53 for value in counts):
            raise ConfigError(f"run lengths {str(counts)[:60]!r}", allowed=_ALLOWED)
        return cls(height=height, width=width, counts=np.array(counts, np.int64))

    @classmethod
    def of_mask(cls, mask: NDArray[Any]) -> Rle:
        """The run lengths of a ``(height, width)`` mask."""
        flat = np.asarray(mask, bool).ravel(order="F")
        toggles = np.flatnonzero(np.diff(flat, prepend=False))
        return cls._of_toggles(toggles, height=mask.shape[0], width=mask.shape[1])

    @classmethod
    def of_polygon(cls, polygon: Any, *, height: int, width: int) -> Rle:
        """The pixels whose centre lies in a (Multi)Polygon in pixels, holes left out; the rest of it is cut off.

        Costs what the outline is long, not what the image is large.
        """
        column, y = _crossings(polygon, width)
        row = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
        places, count = np.unique(column * height + row, return_counts=True)
        toggles = places[(count % 2 == 1) & (places < height * width)]  # two crossings at one place undo each other
        return cls._of_toggles(toggles, height=height, width=width)

    @classmethod
    def _of_toggles(cls, toggles: NDArray[np.int64], *, height: int, width: int) -> Rle:
        counts = np.diff(np.concatenate([[0], toggles, [height * width]]))
        return cls(height=height, width=width, counts=counts.astype(np.int64))

    @property
    def text(self) -> str:
        """Compressed, as pycocotools writes it."""
        return _compressed(self.counts)

    @property
    def area(self) -> int:
        """Pixels of the mask that are set."""
        return int(self.counts[1::2].sum())

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """The smallest box around the set pixels: left, top, right, bottom; all 0 where none is."""
        first, last = self._runs()
        if not len(first):
            return 0, 0, 0, 0
        left, right = int(first[0] // self.height), int(last[-1] // self.height) + 1
        if (first // self.height != last // self.height).any():  # a run goes on in the next column
            return left, 0, right, self.height
        return left, int((first % self.height).min()), right, int((last % self.height).max()) + 1

    @property
    def outline_px(self) -> int:
        """Length of the outline in pixels, that of every part and hole: what :meth:`polygon` costs.

        Told from the runs alone, without laying the mask out.
        """
        first, last = self._runs()
        level = 2 * int((last // self.height - first // self.height + 1).sum())  # above and below, in each column
        toggles = np.concatenate([first, last + 1])
        places, count = np.unique(np.concatenate([toggles, toggles + self.height]), return_counts=True)
        changes = places[count % 2 == 1]  # where the mask differs from itself a column on
        return level + int((changes[1::2] - changes[::2]).sum())

    def mask(self) -> NDArray[np.bool_]:
        """``(height, width)`` True: set."""
        values = np.zeros(len(self.counts), bool)
        values[1::2] = True
        return np.repeat(values, self.counts).reshape(self.width, self.height).T

    def polygon(self) -> Any:
        """The exact outline of the set pixels, a valid (Multi)Polygon in pixels; empty where none is."""
        crop, left, top = self._crop()
        if not crop.size:
            return shapely.Polygon()
        parts = cell_outlines([crop])
        shapes = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, parts.xy + np.array([left, top]), (parts.rings, parts.polygons)
        )
        return shapes[0] if len(shapes) == 1 else shapely.MultiPolygon(list(shapes))

    def _crop(self) -> tuple[NDArray[np.bool_], int, int]:
        """The box around the set pixels laid out, with its left and top: an object is small, its image may be large."""
        left, top, right, bottom = self.xyxy
        rows, (first, last) = bottom - top, self._runs()
        columns = first // self.height, last // self.height
        count = columns[1] - columns[0] + 1
        run = np.repeat(np.arange(len(first)), count)
        column = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count) + columns[0][run]
        start = np.maximum(first[run] - column * self.height, top) - top
        end = np.minimum(last[run] - column * self.height, bottom - 1) - top + 1
        steps = np.zeros(rows * (right - left) + 1, np.int8)
        np.add.at(steps, (column - left) * rows + start, 1)
        np.add.at(steps, (column - left) * rows + end, -1)
        flat = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
        return flat.reshape(right - left, rows).T, left, top

    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last flat position of each run of set pixels."""
        ends = np.cumsum(self.counts)
        first, last = ends[:-1:2], ends[1::2] - 1
        first = first[: len(last)]
        some = last >= first
        return first[some], last[some]


def _crossings(polygon: Any, width: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where rings cross the middle lines of columns: column and y of each crossing."""
    rings = shapely.get_rings(shapely.get_parts(polygon))
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    (x0, y0), (x1, y1) = xy[:-1][same].T, xy[1:][same].T
    # Half-open: a vertex on a middle line belongs to one of its two edges.
    low = np.clip(np.ceil(np.minimum(x0, x1) - 0.5), 0, width).astype(np.int64)
    high = np.clip(np.ceil(np.maximum(x0, x1) - 0.5), 0, width).astype(np.int64)
    count = high - low
    edge = np.repeat(np.arange(len(low)), count)
    column = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + low[edge]
    share = (column + 0.5 - x0[edge]) / (x1 - x0)[edge]
    return column, y0[edge] + share * (y1 - y0)[edge]


def _compressed(counts: NDArray[np.int64]) -> str:
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    groups = np.zeros((len(rest), _GROUPS), np.uint8)
    used = np.zeros(groups.shape, bool)
    open_ = np.ones(len(rest), bool)
    for place in range(_GROUPS):
        group = rest & 0x1F
        rest >>= 5
        # Done once the sign bit of the group says all that is left.
        more = np.where(group & 0x10, rest != -1, rest != 0)
        groups[:, place] = group + 0x20 * more + 48
        used[:, place] = open_
        open_ = open_ & more
    return groups[used].tobytes().decode("ascii")


def _decompressed(text: str) -> NDArray[np.int64]:
    """
    Raises:
        ConfigError: characters that pycocotools does not write, a number cut off or beyond 63 bits.
    """
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if len(codes) and (codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20):
        raise ConfigError(f"run lengths {text[:60]!r}", allowed=_ALLOWED)
    last = (codes & 0x20) == 0
    number = np.cumsum(last) - last
    ends = np.flatnonzero(last)
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    place = np.arange(len(codes)) - begins[number]
    if len(place) and place.max() >= _GROUPS - 1:
        raise ConfigError(f"a run length of more than 60 bits in {text[:60]!r}", allowed=_ALLOWED)
    values = np.zeros(len(ends), np.int64)
    np.add.at(values, number, (codes & 0x1F) << (5 * place))
    negative = (codes[ends] & 0x10) != 0
    values[negative] -= 1 << (5 * (place[ends[negative]] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
