"""What is done with one block of tiles: predict, or take what is kept; outline; merge inside. One task on a cluster."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import shapely

from geoseg.errors import AnswerError, StoreError
from geoseg.examining import Examiner, failure, together
from geoseg.gaps import Gap
from geoseg.instances import Instances
from geoseg.outlines import Outlines
from geoseg.predicting import Cause, Failure
from geoseg.predictions import Predictions
from geoseg.seams import Merged, heard, split
from geoseg.store import Store
from geoseg.tiling import Block, Plan, Tile
from geoseg.vectorize import vectorize
from geoseg.watch import aside
from geoseg.work import Part, Parts
from geoseg.work.rows import gaps_of, gaps_table, merged_table, outlines_table


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of a block's tiles."""

    planned: int = 0
    """Tiles whose core is asked for."""
    examined: int = 0
    """Tiles that the detector saw."""
    unreadable: int = 0
    """Tiles that gave nothing at all because the file could not be read there."""
    failed: Mapping[Cause, int]
    """Tiles that the detector failed on, by cause."""
    pixels: int = 0
    """Pixels in the cores of the examined tiles."""
    device: str = ""
    """Where the detector ran, if it says."""
    halved: int = 0
    """How often memory had no room for a batch, and it was halved for good."""
    room: int = 0
    """Chips per call that it had room for then; 0: as many as were asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockResult:
    """What one block came to, but for its outlines, which are in a part."""

    counts: Counts
    """What became of its tiles."""
    gaps: list[Gap]
    """Ground in the block's cores that was not examined."""
    data: bytes | None = None
    """The part, where the worker does not see the run's folder."""

    @property
    def final(self) -> bool:
        """True where there is nothing to try again: no tile failed, and all that was asked for could be read."""
        return _final(self.counts, self.gaps)

    @staticmethod
    def of(part: Part) -> BlockResult:
        """What a part that was kept says."""
        return BlockResult(counts=Counts(**part.facts["counts"]), gaps=gaps_of(part.tables["gaps"]))


def name_of(block: Block) -> str:
    """Of a block's part."""
    return f"block-{block.row}-{block.col}"


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockTask:
    """All that a block needs, wherever it is done. Doing it twice is harmless."""

    plan: Plan
    """The tiling that blocks refer to."""
    parts: Parts
    """Where the outlines go."""
    threshold: float
    """Objects that score less are dropped."""
    tolerance: float
    """How much outlines are simplified, in pixels: no point moves farther than twice this; 0: untouched."""
    examiner: Examiner | None
    """Reads and predicts; None: the store is all there is."""
    store: Store | None
    """What is kept of predictions; None: nothing."""

    def __call__(self, block: Block) -> BlockResult:
        """Do one block.

        Raises:
            RasterError: the raster cannot be opened here, or not any more.
            GeosegError: the detector returns what is no set of instances, or fails again and again; or nothing can
                be written.
        """
        strips, drawn = self._drawn(block)
        lost = [each for strip in drawn for each in strip.lost]
        counts, gaps = _summed(strips, lost)
        if self.examiner is not None:
            halved, room = self.examiner.health.told()
            counts = replace(counts, halved=halved, room=room)
        outlines = Outlines.concat([strip.outlines for strip in drawn])
        closed, still_open = split(outlines, block.span, self.plan, least=self.threshold)
        data = self.parts.put(name_of(block), _part(counts, gaps, closed, still_open))
        return BlockResult(counts=counts, gaps=gaps, data=data)

    def _drawn(self, block: Block) -> tuple[Sequence[Predictions], list[_Drawn]]:
        """What the block's tiles gave, and its outlines: drawn by another thread while the network is at work."""
        kept = None if self.store is None or not self._reached(self.store) else self.store.get(block)
        if kept is not None and (self.examiner is None or _final(kept, kept.gaps)):
            return [kept], [self._outlined(kept)]
        if self.examiner is None:
            raise StoreError(f"no whole block ({block.row}, {block.col}) in the store", remedy="Run extract again")
        strips, drawing = [], []
        for strip in self.examiner.strips(block):
            strips.append(strip)
            drawing.append(aside("outlining").call(self._outlined, strip))
        if self.store is not None and self._reached(self.store):
            self.store.write(block, together(strips))
        return strips, [each.result() for each in drawing]

    def _reached(self, store: Store) -> bool:
        """Whether this process may keep predictions there: a store in the run's own folder only where it is seen."""
        return not store.path.startswith(f"{self.parts.path.parent}{os.sep}") or self.parts.shared

    def _outlined(self, strip: Predictions) -> _Drawn:
        """The outlines of some tiles: together or, where one cannot be drawn, each alone.

        What a tile gives does not depend on what it is drawn with.
        """
        seen = [above(each, heard(self.threshold)) for each in strip.instances]
        try:
            return _Drawn(outlines=vectorize(seen, strip.tiles, tolerance=self.tolerance), lost=[])
        except (AnswerError, shapely.errors.ShapelyError):
            rows, lost = [], []
        for tile, each in zip(strip.tiles, seen, strict=True):
            try:
                rows.append(vectorize([each], [tile], tolerance=self.tolerance))
            except (AnswerError, shapely.errors.ShapelyError) as error:
                lost.append((tile, Failure.of(error).said))
        return _Drawn(outlines=Outlines.concat(rows), lost=lost)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """Outlines, and the tiles of which there are none because they could not be drawn, with what was said."""

    outlines: Outlines
    lost: list[tuple[Tile, str]]


def lost_block(block: Block, why: Failure, wanted: Sequence[Tile]) -> tuple[BlockResult, Part]:
    """What a block comes to that no worker could do: all of it is a gap."""
    counts = Counts(planned=len(wanted), failed={why.cause: len(wanted)})
    gaps = [failure(tile, why.said) for tile in wanted]
    return BlockResult(counts=counts, gaps=gaps), _part(counts, gaps, Merged.concat([]), Outlines())


def above(instances: Instances, threshold: float) -> Instances:
    """The instances that score ``threshold`` or more."""
    keep = np.flatnonzero(instances.scores >= threshold)
    return instances if len(keep) == len(instances) else instances.take(keep)


def _final(counts: Counts | Predictions, gaps: Iterable[Gap]) -> bool:
    lost = counts.unreadable or any(counts.failed.values())
    return not lost and all(gap.expected for gap in gaps)


def _summed(strips: Sequence[Predictions], lost: Sequence[tuple[Tile, str]]) -> tuple[Counts, list[Gap]]:
    """What became of the tiles of all strips, those taken out that could not be drawn."""
    whole = together(strips)
    failed = Counter(whole.failed)
    failed.update({"answer": len(lost)} if lost else {})
    counts = Counts(
        planned=whole.planned,
        examined=whole.examined - len(lost),
        unreadable=whole.unreadable,
        failed=dict(failed),
        pixels=whole.pixels - sum(tile.core.height * tile.core.width for tile, _ in lost),
        device=whole.device,
    )
    return counts, [*whole.gaps, *(failure(tile, said) for tile, said in lost)]


def _part(counts: Counts, gaps: list[Gap], closed: Merged, still_open: Outlines) -> Part:
    tables = {"closed": merged_table(closed), "open": outlines_table(still_open), "gaps": gaps_table(gaps)}
    return Part(facts={"counts": asdict(counts)}, tables=tables)
