"""What is done with one block of tiles: read, predict, outline, merge inside. One task on a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.detectors.base import Detector
from geoseg.errors import AnswerError
from geoseg.gaps import Gap
from geoseg.instances import Chip, Instances
from geoseg.outlines import Outlines
from geoseg.predicting import Cause, Failure, Health, predict
from geoseg.raster import Source, reader
from geoseg.seams import Merged, split
from geoseg.tiling import Block, Plan, Tile
from geoseg.vectorize import vectorize
from geoseg.window import Window

_AT_ONCE = 65_536
"""Tiles that are looked at together when they are counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockResult:
    """What one block came to."""

    closed: Merged
    """Objects that no tile outside the block can have seen."""
    open: Outlines
    """The rest, to be merged with other blocks' rows."""
    gaps: list[Gap]
    """Ground in the block's cores that was not examined."""
    planned: int
    """Tiles whose core is asked for."""
    examined: int
    """Tiles that the detector saw."""
    unreadable: int
    """Tiles that gave nothing at all because the file could not be read there."""
    failed: Mapping[Cause, int]
    """Tiles that the detector failed on, by cause."""
    pixels: int
    """Pixels in the cores of the examined tiles."""
    device: str
    """Where the detector ran, if it says."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockTask:
    """All that a block needs, wherever it is done. Calling it is a pure function of the block."""

    source: Source
    """How the raster is read."""
    detector: Detector
    """What finds the objects."""
    plan: Plan
    """The tiling that blocks refer to."""
    threshold: float
    """Instances that score less are dropped."""
    batch: int
    """Chips per call of the detector, at most."""
    tolerance: float
    """How much outlines are simplified, in pixels: no point moves farther than twice this; 0: untouched."""
    health: Health = field(default_factory=Health)
    """How the detector has fared in this process; decides when to give up, and nothing in a result."""

    def __call__(self, block: Block) -> BlockResult:
        """Do one block.

        Raises:
            RasterError: the raster cannot be opened here, or not any more.
            GeosegError: the detector returns what is no set of instances, or fails again and again.
        """
        parts = [self._rows(tiles) for tiles in rows_of(block, at_least=self.batch)]
        closed, still_open = split(Outlines.concat([part.outlines for part in parts]), block, self.plan)
        return BlockResult(
            closed=closed,
            open=still_open,
            gaps=[gap for part in parts for gap in part.gaps],
            planned=int(self.asked(block.tiles).sum()),
            examined=sum(part.examined for part in parts),
            unreadable=sum(part.unreadable for part in parts),
            failed=Counter(each.cause for part in parts for each in part.failures),
            pixels=sum(part.pixels for part in parts),
            device=str(getattr(self.detector, "device", "")),
        )

    def _rows(self, tiles: Sequence[Tile]) -> _Part:
        """Read, predict and outline some rows of tiles."""
        chips, gaps = reader(self.source).read(tiles)
        outlines, failures, failed = [], [], []
        for start in range(0, len(chips), self.batch):
            batch = chips[start : start + self.batch]
            found = predict(self.detector, batch, self.health)
            told, rows = self._outlined([chip.tile for chip in batch], found)
            outlines += rows
            failures += [each for each in told if each is not None]
            failed += [failure(c.tile, each.said) for c, each in zip(batch, told, strict=True) if each is not None]
        return _Part(
            outlines=Outlines.concat(outlines),
            gaps=[*gaps, *failed],
            examined=len(chips) - len(failed),
            unreadable=_unreadable(tiles, chips, gaps),
            failures=failures,
            pixels=sum(c.tile.core.height * c.tile.core.width for c in chips)
            - round(sum(float(gap.geometry.area) for gap in failed)),
        )

    def _outlined(
        self, tiles: Sequence[Tile], found: Sequence[Instances | Failure]
    ) -> tuple[list[Failure | None], list[Outlines]]:
        """What failed, tile by tile, and the outlines of the rest: together or, where one cannot be drawn, each alone.

        What a tile gives does not depend on what it is drawn with.
        """
        told = [each if isinstance(each, Failure) else None for each in found]
        seen = [(i, above(each, self.threshold)) for i, each in enumerate(found) if not isinstance(each, Failure)]
        try:
            drawn = vectorize([each for _, each in seen], [tiles[i] for i, _ in seen], tolerance=self.tolerance)
            return told, [drawn]
        except (AnswerError, shapely.errors.ShapelyError):
            rows = []
        for i, each in seen:
            try:
                rows.append(vectorize([each], [tiles[i]], tolerance=self.tolerance))
            except (AnswerError, shapely.errors.ShapelyError) as error:
                told[i] = Failure(cause="answer", said=Failure.of(error).said)
        return told, rows

    def asked(self, tiles: Sequence[Tile]) -> NDArray[np.bool_]:
        """``(n,)`` True for tiles that have some of their core in the area of interest."""
        aoi = self.source.aoi
        if aoi is None:
            return np.ones(len(tiles), np.bool_)
        cores = shapely.box(*np.array([tile.core.xyxy for tile in tiles], float).reshape(-1, 4).T)
        found = np.zeros(len(tiles), np.bool_)
        # A tree's query prepares the AOI for itself: one of a million vertices costs as much for all tiles as for one.
        found[shapely.STRtree(cores).query(aoi, predicate="intersects")] = True
        return found

    def count(self, *, within: Window) -> int:
        """Tiles that are asked for, in the blocks that meet a window: as many as the results will tell."""
        if self.source.aoi is None:
            return self.plan.count(within=within)
        tiles = (tile for block in self.plan.blocks(within=within) for tile in block.tiles)
        total = 0
        while some := list(islice(tiles, _AT_ONCE)):
            total += int(self.asked(some).sum())
        return total


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What some rows of a block came to; fields as in :class:`BlockResult`."""

    outlines: Outlines
    gaps: list[Gap]
    examined: int
    unreadable: int
    failures: list[Failure]
    pixels: int


def rows_of(block: Block, *, at_least: int) -> Iterator[Sequence[Tile]]:
    """Whole rows of a block's tiles, with ``at_least`` so many tiles each time until the last.

    A block is read in such strips: its pixels are never in memory together, and what two strips share comes
    out of the raster's cache, so that a block of the file is still decoded once.
    """
    width = sum(tile.row == block.tiles[0].row for tile in block.tiles)
    step = width * -(-at_least // width)
    for start in range(0, len(block.tiles), step):
        yield block.tiles[start : start + step]


def failure(tile: Tile, said: str) -> Gap:
    """The gap that a tile leaves that could not be done."""
    return Gap(geometry=shapely.box(*tile.core.xyxy), reason="failed", detail=said)


def above(instances: Instances, threshold: float) -> Instances:
    """The instances that score ``threshold`` or more."""
    keep = np.flatnonzero(instances.scores >= threshold)
    if len(keep) == len(instances):
        return instances
    return Instances(
        boxes=instances.boxes[keep],
        scores=instances.scores[keep],
        labels=instances.labels[keep],
        masks=[instances.masks[int(i)] for i in keep],
    )


def _unreadable(tiles: Sequence[Tile], chips: Sequence[Chip], gaps: Sequence[Gap]) -> int:
    """Tiles without a chip that hold ground which could not be read."""
    lost = [gap.geometry for gap in gaps if gap.reason in ("unreadable", "suspect_missing")]
    if not lost:
        return 0
    seen = {(chip.tile.row, chip.tile.col) for chip in chips}
    cores = [shapely.box(*t.core.xyxy) for t in tiles if (t.row, t.col) not in seen]
    # Areas, not mere contact: a neighbour's gap touches along the edge.
    return sum(float(shapely.area(shapely.intersection(core, lost)).sum()) > 0 for core in cores)
