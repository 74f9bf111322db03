"""What is done with one block of tiles: read, predict, outline, merge inside. One task on a cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.detectors.base import Detector
from geoseg.errors import GeosegError, ModelError
from geoseg.gaps import Gap
from geoseg.instances import Chip, Instances
from geoseg.outlines import Outlines
from geoseg.raster import Source, reader
from geoseg.seams import Merged, split
from geoseg.tiling import Block, Plan, Tile
from geoseg.vectorize import vectorize
from geoseg.window import Window

log = logging.getLogger("geoseg")

_AT_ONCE = 65_536
"""Tiles that are looked at together when they are counted."""
_DEVICE = threading.Lock()
"""One network call at a time per process: it keeps the device busy by itself, and detectors need not be
thread-safe. Other threads read and outline meanwhile."""


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
    failed: int
    """Tiles that the detector failed on."""
    pixels: int
    """Pixels in the cores of the examined tiles."""


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

    def __call__(self, block: Block) -> BlockResult:
        """Do one block.

        Raises:
            ModelError: the detector returns what is no set of instances.
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
            failed=sum(part.failed for part in parts),
            pixels=sum(part.pixels for part in parts),
        )

    def _rows(self, tiles: Sequence[Tile]) -> _Part:
        """Read, predict and outline some rows of tiles."""
        chips, gaps = reader(self.source).read(tiles)
        outlines, failed = [], []
        for start in range(0, len(chips), self.batch):
            batch = chips[start : start + self.batch]
            found = list(zip([chip.tile for chip in batch], predict(self.detector, batch), strict=True))
            seen = [(tile, above(each, self.threshold)) for tile, each in found if not isinstance(each, str)]
            outlines.append(vectorize([each for _, each in seen], [tile for tile, _ in seen], tolerance=self.tolerance))
            failed += [failure(tile, each) for tile, each in found if isinstance(each, str)]
        return _Part(
            outlines=Outlines.concat(outlines),
            gaps=[*gaps, *failed],
            examined=len(chips) - len(failed),
            unreadable=_unreadable(tiles, chips, gaps),
            failed=len(failed),
            pixels=sum(c.tile.core.height * c.tile.core.width for c in chips)
            - round(sum(float(gap.geometry.area) for gap in failed)),
        )

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
    failed: int
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


def predict(detector: Detector, chips: Sequence[Chip]) -> list[Instances | str]:
    """What the detector sees in each chip, or what it said where it failed.

    A call that fails, for memory or otherwise, is made again with half the chips, down to one.

    Raises:
        ModelError: it returns what is no set of instances.
    """
    try:
        with _DEVICE:
            return list(_checked(detector.predict(list(chips)), len(chips), detector))
    except GeosegError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if len(chips) == 1:
            log.warning("the detector failed on tile (%d, %d): %s", chips[0].tile.row, chips[0].tile.col, said)
            return [said]
        log.warning("the detector failed on %d chips (%s): trying with half as many", len(chips), said)
    half = len(chips) // 2
    return predict(detector, chips[:half]) + predict(detector, chips[half:])


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


def _checked(found: Any, count: int, detector: Detector) -> Sequence[Instances]:
    listed = list(found) if isinstance(found, Sequence) else [found]
    if len(listed) != count or not all(isinstance(each, Instances) for each in listed):
        got = ", ".join(type(each).__name__ for each in listed) or "nothing"
        raise ModelError(
            f"a detector that returned {got} for {count} chips",
            allowed="a list with one geoseg.Instances per chip, in order; Instances() where there is nothing",
        )
    classes = detector.card.classes
    for each in listed:
        if len(each) and each.labels.max() >= len(classes):
            raise ModelError(
                f"a detector that returned the label {each.labels.max()}",
                allowed=f"0 to {len(classes) - 1}, an index into the card's classes {classes}",
            )
    return listed


def _unreadable(tiles: Sequence[Tile], chips: Sequence[Chip], gaps: Sequence[Gap]) -> int:
    """Tiles without a chip that hold ground which could not be read."""
    lost = [gap.geometry for gap in gaps if gap.reason in ("unreadable", "suspect_missing")]
    if not lost:
        return 0
    seen = {(chip.tile.row, chip.tile.col) for chip in chips}
    cores = [shapely.box(*t.core.xyxy) for t in tiles if (t.row, t.col) not in seen]
    # Areas, not mere contact: a neighbour's gap touches along the edge.
    return sum(float(shapely.area(shapely.intersection(core, lost)).sum()) > 0 for core in cores)
