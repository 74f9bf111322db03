"""Squares of blocks, joined level by level: objects made whole at seams, then brought into shape with their
neighbours, so that nobody ever holds more than what is open along the borders of some blocks.

Two rounds go up the same ladder. In the first, :class:`MergeTask` settles the outlines that no tile outside its
square can have a say in, and hands on the rest (:func:`geoseg.seams.split`). Every whole object then has a *home*:
the smallest square that holds the box in which it matters to its neighbours' shapes. In the second round,
:class:`ShapeTask` turns the groups that live in its square into footprints; a group that touches the box of an
object that lives higher up waits for it. Two objects of disjoint squares have boxes apart, so nothing is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geoseg.ground import Ground, unseamed
from geoseg.neighbourhood import influence, reached, together
from geoseg.outlines import Outlines
from geoseg.seams import Merged, split
from geoseg.shaping import Shaping, drafted
from geoseg.tiling import Plan
from geoseg.work import Part, Parts
from geoseg.work.rows import footprints_table, merged_of, merged_table, outlines_of, outlines_table

STEP = 2
"""Levels that are climbed at once: 4 x 4 blocks, or squares, are joined into one."""


@dataclass(frozen=True, kw_only=True, order=True)
class Square:
    """``2**level`` x ``2**level`` blocks."""

    level: int
    """0 is a block."""
    row: int
    """Position in the lattice of squares of this level."""
    col: int
    """Likewise."""

    def name(self, kind: str) -> str:
        """Of a part."""
        return f"{kind}-{self.level}-{self.row}-{self.col}" if self.level else f"block-{self.row}-{self.col}"


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The squares of a plan that hold blocks which are wanted."""

    plan: Plan
    """The tiling."""
    rows: range
    """Rows of blocks that are wanted."""
    cols: range
    """Columns of blocks that are wanted."""

    @property
    def rungs(self) -> list[int]:
        """The levels of squares, going up; the last holds every tile."""
        top = max(self.plan.levels, 1)
        return [*range(STEP, top, STEP), top]

    def squares(self, level: int) -> Iterator[Square]:
        """Those of a level, row by row."""
        for row, col in product(_raised(self.rows, level), _raised(self.cols, level)):
            yield Square(level=level, row=row, col=col)

    def children(self, square: Square) -> Iterator[Square]:
        """The squares (or blocks) one rung down that are in it."""
        at = self.rungs.index(square.level)
        level = self.rungs[at - 1] if at else 0
        up = square.level - level
        rows, cols = _raised(self.rows, level), _raised(self.cols, level)
        for row, col in product(_under(square.row, up, rows), _under(square.col, up, cols)):
            yield Square(level=level, row=row, col=col)

    def above(self, square: Square) -> Iterator[Square]:
        """The squares that it is in, one per higher rung."""
        for level in self.rungs[self.rungs.index(square.level) + 1 :]:
            up = level - square.level
            yield Square(level=level, row=square.row >> up, col=square.col >> up)

    def homes(self, boxes: NDArray[np.float64]) -> NDArray[np.int64]:
        """``(n,)`` rung of the smallest square that holds each box ``(n, 4)`` of grid pixels."""
        size = np.array(self.plan.tiling.core_yx[::-1] * 2, float) * self.plan.tiling.block
        start = np.array([self.plan.area.col_off, self.plan.area.row_off] * 2, float)
        last = np.array([self.plan.cols - 1, self.plan.rows - 1] * 2) // self.plan.tiling.block
        block = np.clip(np.floor((boxes - start) / size), 0, last).astype(np.int64)
        apart = np.bitwise_xor(block[:, :2], block[:, 2:]).max(axis=1, initial=0)
        level = np.ceil(np.log2(apart + 1.0)).astype(np.int64)  # bits
        return np.asarray(np.array(self.rungs)[np.searchsorted(self.rungs, level)], np.int64)


def _raised(blocks: range, level: int) -> range:
    return range(blocks.start >> level, ((blocks.stop - 1) >> level) + 1) if blocks else range(0)


def _under(place: int, up: int, wanted: range) -> range:
    return range(max(place << up, wanted.start), min((place + 1) << up, wanted.stop))


@dataclass(frozen=True, kw_only=True, eq=False)
class SquareResult:
    """What a square came to, but for what is in its part."""

    facts: dict[str, Any]
    """Of the part."""
    data: bytes | None = None
    """The part, where the worker does not see the run's folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MergeTask:
    """The first round: from open outlines to whole objects."""

    ladder: Ladder
    """The squares."""
    parts: Parts
    """Where everything is."""
    shaping: Shaping
    """Tells how far around an object it matters."""
    threshold: float
    """Objects that score less are dropped: at every seam, since outlines that score less are heard there."""

    def __call__(self, square: Square) -> SquareResult:
        """Do one square, once all of its children are done."""
        closed: list[Merged] = []
        rising: list[_Objects] = []
        waiting: list[Outlines] = []
        for child in self.ladder.children(square):
            tables = self.parts.get(child.name("merged")).tables
            waiting.append(outlines_of(tables["open"]))
            if "closed" in tables:
                closed.append(merged_of(tables["closed"]))
            else:
                rising.append(_Objects.of(tables["rising"]))
        plan = self.ladder.plan
        span = plan.square(square.row, square.col, level=square.level)
        shut, still_open = split(Outlines.concat(waiting), span, plan, least=self.threshold)
        rising.append(_Objects.whole(unseamed(Merged.concat([*closed, shut])), self.shaping))
        objects = _Objects.concat(rising)
        here = self.ladder.homes(objects.boxes) <= square.level
        part = Part(
            tables={
                "open": outlines_table(still_open),
                "rising": objects.take(~here).table(),
                "living": objects.take(here).table(),
            }
        )
        return SquareResult(facts={}, data=self.parts.put(square.name("merged"), part))


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeTask:
    """The second round: from whole objects to footprints."""

    ladder: Ladder
    """The squares."""
    parts: Parts
    """Where everything is."""
    ground: Ground
    """What becomes of objects."""

    def __call__(self, square: Square) -> SquareResult:
        """Do one square, once all of its children are done."""
        mine = [_Objects.of(self.parts.get(square.name("merged")).tables["living"])]
        if square.level > self.ladder.rungs[0]:
            for child in self.ladder.children(square):
                mine.append(_Objects.of(self.parts.get(child.name("shaped")).tables["waiting"]))
        objects = _Objects.concat(mine)
        drafts = drafted(objects.merged.outlines, self.ground.shaping)
        higher = self._meets_higher(square, objects)
        group = together(drafts, self.ground.shaping, doubtful=higher)
        unsure = np.isin(group, group[higher])
        table, keys = self.ground.footprints(objects.take(~unsure).merged, drafts.take(~unsure))
        rows = footprints_table(table, keys)
        part = Part(
            facts={
                "rows": rows.num_rows,
                "top": int(keys.top.min()) if rows.num_rows else 0,
                "labels": sorted(set(table["label"])),
                "bounds": None if table.empty else [float(edge) for edge in table.total_bounds],
            },
            tables={"rows": rows, "waiting": objects.take(unsure).table()},
        )
        return SquareResult(facts=dict(part.facts), data=self.parts.put(square.name("shaped"), part))

    def _meets_higher(self, square: Square, objects: _Objects) -> NDArray[np.bool_]:
        """Which objects may have to do with one that lives in a higher square."""
        meets = np.zeros(len(objects.boxes), np.bool_)
        if not len(meets):
            return meets
        low, high = objects.boxes[:, :2].min(axis=0), objects.boxes[:, 2:].max(axis=0)
        for higher in self.ladder.above(square):
            living = self.parts.get(higher.name("merged")).tables["living"]
            boxes = _boxes(living)
            here = ((boxes[:, :2] <= high) & (boxes[:, 2:] >= low)).all(axis=1)
            theirs = merged_of(living.filter(pa.array(here)))
            meets |= reached(objects.merged.outlines, theirs.outlines, self.ground.shaping)
        return meets


@dataclass(frozen=True, kw_only=True, eq=False)
class _Objects:
    """Whole objects, each with the box in which it matters to its neighbours' shapes."""

    merged: Merged
    boxes: NDArray[np.float64]

    @staticmethod
    def whole(merged: Merged, shaping: Shaping) -> _Objects:
        return _Objects(merged=merged, boxes=influence(merged.outlines, shaping))

    @staticmethod
    def of(table: pa.Table) -> _Objects:
        return _Objects(merged=merged_of(table), boxes=_boxes(table))

    def table(self) -> pa.Table:
        table = merged_table(self.merged)
        for at, edge in enumerate(("x0", "y0", "x1", "y1")):
            table = table.append_column(edge, pa.array(self.boxes[:, at]))
        return table

    def take(self, rows: NDArray[np.bool_]) -> _Objects:
        return _Objects(merged=self.merged.take(rows), boxes=self.boxes[rows])

    @staticmethod
    def concat(parts: list[_Objects]) -> _Objects:
        merged = [part.merged for part in parts]
        return _Objects(
            merged=Merged(
                outlines=Outlines.concat([each.outlines for each in merged]),
                n_tiles=np.concatenate([each.n_tiles for each in merged]),
                agreement=np.concatenate([each.agreement for each in merged]),
            ),
            boxes=np.concatenate([part.boxes for part in parts]),
        )


def _boxes(table: pa.Table) -> NDArray[np.float64]:
    columns = [table.column(edge).to_numpy(zero_copy_only=False) for edge in ("x0", "y0", "x1", "y1")]
    return np.column_stack(columns).astype(np.float64, copy=False)
