"""All footprints of a run in their one order, out of parts that are each in order: some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geoseg.work.folder import Parts
from geoseg.work.rows import KEYS, rows_schema

BATCH = 4096
"""Rows at a time."""
_END = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one part."""

    name: str
    """Of the part."""
    count: int
    """How many."""
    top: int
    """The top of the first of them, see :class:`geoseg.footprints.Keys`."""
    labels: tuple[str, ...]
    """Different labels among them."""
    bounds: tuple[float, float, float, float]
    """Around them, in the CRS of the output."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """All footprints of a run, on disk. Memory follows the parts that overlap in height, not the number of rows."""

    parts: Parts
    """Where they are."""
    rows: tuple[Rows, ...]
    """Of all parts that have any."""
    crs: Any
    """Of the geometry."""

    def __len__(self) -> int:
        return sum(rows.count for rows in self.rows)

    @property
    def schema(self) -> pa.Schema:
        """The attributes in order, then ``geometry`` as WKB."""
        return rows_schema()

    @property
    def labels(self) -> list[str]:
        """Different labels, sorted."""
        return sorted({label for rows in self.rows for label in rows.labels})

    @property
    def bounds(self) -> NDArray[np.float64]:
        """``(4,)`` around all of them, in the CRS; NaN where there are none."""
        boxes = np.array([rows.bounds for rows in self.rows], float).reshape(-1, 4)
        if not len(boxes):
            return np.full(4, np.nan)
        return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])

    def batches(self, size: int = BATCH) -> Iterator[pa.Table]:
        """Tables of ``size`` rows (the last one of fewer), in order, whatever parts they come from; ids are unique."""
        held: list[pa.Table] = []
        count = 0
        number = _Numbering()
        for table in self._runs(size):
            held.append(number.through(table))
            count += table.num_rows
            while count >= size:
                held, count = _cut(pa.concat_tables(held), size), count - size
                yield held.pop(0)  # not held here while it is written
        if count:
            yield pa.concat_tables(held).combine_chunks()

    def _runs(self, size: int) -> Iterator[pa.Table]:
        """Tables of rows in order, of any length."""
        front = _Front()
        waiting = sorted(self.rows, key=lambda rows: (rows.top, rows.name))
        for at, rows in enumerate(waiting):
            front.add(self.parts.get(rows.name).tables["rows"])
            below = waiting[at + 1].top if at + 1 < len(waiting) else _END
            if len(front) >= size or below == _END:
                yield from front.taken(below, -(-size // 8))


@dataclass(eq=False)
class _Front:
    """Parts that are open, and how far each has been taken."""

    tables: dict[int, pa.Table] = field(default_factory=dict)
    taken_of: dict[int, int] = field(default_factory=dict)
    tops: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    added: int = 0

    def __len__(self) -> int:
        return sum(len(tops) - self.taken_of[number] for number, tops in self.tops.items())

    def add(self, table: pa.Table) -> None:
        """Open one more."""
        self.tables[self.added] = table
        self.taken_of[self.added] = 0
        self.tops[self.added] = table.column(KEYS[0]).to_numpy(zero_copy_only=False)
        self.added += 1

    def taken(self, below: int, size: int) -> Iterator[pa.Table]:
        """All rows whose top is less than ``below``, in order; parts that are at their end are closed."""
        pieces = []
        for number in list(self.tables):
            start, stop = self.taken_of[number], int(np.searchsorted(self.tops[number], below))
            if stop > start:
                pieces.append(self.tables[number].slice(start, stop - start))
                self.taken_of[number] = stop
            if stop == len(self.tops[number]):
                del self.tables[number], self.taken_of[number], self.tops[number]
        if not pieces:
            return
        order = _order(pa.concat_tables(pieces))
        for start in range(0, len(order), size):
            yield _gathered(pieces, order[start : start + size]).drop_columns(list(KEYS))


def _cut(table: pa.Table, size: int) -> list[pa.Table]:
    """The first ``size`` rows, copied, and the rest."""
    return [table.slice(0, size).combine_chunks(), table.slice(size)]


def _gathered(pieces: list[pa.Table], rows: NDArray[np.int64]) -> pa.Table:
    """Some rows of tables laid end to end, in the order given. Arrow's own ``take`` copies all of a column that is in
    several pieces before it takes anything."""
    ends = np.cumsum([piece.num_rows for piece in pieces])
    rank = np.argsort(rows)
    cuts = np.searchsorted(rows[rank], ends)
    some = [
        piece.take(pa.array(rows[rank[start:stop]] - (end - piece.num_rows)))
        for piece, start, stop, end in zip(pieces, [0, *cuts[:-1]], cuts, ends, strict=True)
        if stop > start
    ]
    return pa.concat_tables(some).take(pa.array(np.argsort(rank)))


def _order(table: pa.Table) -> NDArray[np.int64]:
    """The order of :func:`geoseg.footprints.drawn`, of rows of several parts."""
    top, left = (table.column(name).to_numpy() for name in KEYS[:2])
    order = np.lexsort((left, top))
    tied = np.zeros(len(order) + 1, np.bool_)
    tied[1:-1] = (top[order[1:]] == top[order[:-1]]) & (left[order[1:]] == left[order[:-1]])
    at = np.flatnonzero(tied[1:] | tied[:-1])  # rare enough to be compared in full, one by one
    rows = order[at]
    names = (*KEYS[:2], "id", "score", "n_tiles", KEYS[2])
    some = {name: table.column(name).take(pa.array(rows)).to_pylist() for name in names}
    some["score"] = [-score for score in some["score"]]
    keys = list(zip(*(some[name] for name in names), strict=True))
    order[at] = rows[sorted(range(len(rows)), key=keys.__getitem__)]
    return np.asarray(order, np.int64)


@dataclass(eq=False)
class _Numbering:
    """Gives the second and later twins of an id a number; twins follow each other."""

    last: str = ""
    count: int = 1

    def through(self, table: pa.Table) -> pa.Table:
        """The table, its ids unique."""
        ids = table.column("id").to_pylist()
        named = []
        for name in ids:
            self.count = self.count + 1 if name == self.last else 1
            self.last = name
            named.append(name if self.count == 1 else f"{name}-{self.count}")
        if named == ids:
            return table
        return table.set_column(table.column_names.index("id"), "id", pa.array(named, pa.string()))
