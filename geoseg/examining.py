"""What one block's tiles give: read, and shown to the detector. Reading goes on while the detector is at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.detectors.base import Detector
from geoseg.errors import AnswerError
from geoseg.gaps import Gap
from geoseg.instances import Chip, Instances
from geoseg.predicting import Cause, Failure, Health, predict
from geoseg.predictions import Predictions, quantised
from geoseg.raster import Source, reader
from geoseg.tiling import Block, Tile
from geoseg.watch import aside


@dataclass(frozen=True, kw_only=True, eq=False)
class Examiner:
    """Reads blocks and asks the detector. What it gives is a pure function of the block, wherever it is asked."""

    source: Source
    """How the raster is read."""
    detector: Detector
    """What finds the objects."""
    batch: int
    """Chips per call of the detector, at most."""
    health: Health = field(default_factory=Health)
    """How the detector has fared in this process; decides when to give up, and nothing in a result."""

    def strips(self, block: Block) -> Iterator[Predictions]:
        """What the block gives, some rows of tiles at a time: while these are shown to the detector, another thread
        reads the next.

        Raises:
            RasterError: the raster cannot be opened here, or not any more.
            GeosegError: the detector returns what is no set of instances, or fails again and again.
        """
        rows = list(rows_of(block, at_least=self.batch))
        ahead = aside("reading").call(self._read, rows[0])
        for number, tiles in enumerate(rows, start=1):
            chips, gaps = ahead.result()
            if number < len(rows):
                ahead = aside("reading").call(self._read, rows[number])
            yield self._seen(tiles, chips, gaps)

    def _read(self, tiles: Sequence[Tile]) -> tuple[list[Chip], list[Gap]]:
        return reader(self.source).read(tiles)

    def _seen(self, tiles: Sequence[Tile], chips: Sequence[Chip], gaps: Sequence[Gap]) -> Predictions:
        """What the detector says of some rows of tiles, as a store would give it back."""
        found: list[Instances | Failure] = []
        for start in range(0, len(chips), self.batch):
            found += map(_usable, predict(self.detector, chips[start : start + self.batch], self.health))
        both = list(zip(chips, found, strict=True))
        lost = [(chip.tile, each) for chip, each in both if isinstance(each, Failure)]
        seen = [(chip.tile, each) for chip, each in both if not isinstance(each, Failure)]
        return Predictions(
            tiles=tuple(tile for tile, _ in seen),
            instances=tuple(each for _, each in seen),
            gaps=(*gaps, *(failure(tile, each.said) for tile, each in lost)),
            planned=int(asked(tiles, self.source.aoi).sum()),
            examined=len(seen),
            unreadable=_unreadable(tiles, chips, gaps),
            failed=Counter(each.cause for _, each in lost),
            pixels=sum(tile.core.height * tile.core.width for tile, _ in seen),
            device=str(getattr(self.detector, "device", "")),
        )


def together(strips: Sequence[Predictions]) -> Predictions:
    """Those of all strips of a block as one."""
    failed: Counter[Cause] = Counter()
    for strip in strips:
        failed.update(strip.failed)
    return replace(
        strips[0],
        tiles=tuple(tile for strip in strips for tile in strip.tiles),
        instances=tuple(each for strip in strips for each in strip.instances),
        gaps=tuple(gap for strip in strips for gap in strip.gaps),
        planned=sum(strip.planned for strip in strips),
        examined=sum(strip.examined for strip in strips),
        unreadable=sum(strip.unreadable for strip in strips),
        failed=failed,
        pixels=sum(strip.pixels for strip in strips),
    )


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


def asked(tiles: Sequence[Tile], aoi: shapely.Geometry | None) -> NDArray[np.bool_]:
    """``(n,)`` True for tiles that have some of their core in the area of interest (grid pixels; None: everything)."""
    if aoi is None:
        return np.ones(len(tiles), np.bool_)
    cores = shapely.box(*np.array([tile.core.xyxy for tile in tiles], float).reshape(-1, 4).T)
    found = np.zeros(len(tiles), np.bool_)
    # A tree's query prepares the AOI for itself: one of a million vertices costs as much for all tiles as for one.
    found[shapely.STRtree(cores).query(aoi, predicate="intersects")] = True
    return found


def _usable(found: Instances | Failure) -> Instances | Failure:
    """As a store would give it back, so that it makes no difference whether there is one."""
    if isinstance(found, Failure):
        return found
    try:
        return quantised(found)
    except AnswerError as error:
        return Failure(cause="answer", said=Failure.of(error).said)


def _unreadable(tiles: Sequence[Tile], chips: Sequence[Chip], gaps: Sequence[Gap]) -> int:
    """Tiles without a chip that hold ground which could not be read."""
    lost = [gap.geometry for gap in gaps if gap.reason in ("unreadable", "suspect_missing")]
    if not lost:
        return 0
    seen = {(chip.tile.row, chip.tile.col) for chip in chips}
    cores = [shapely.box(*t.core.xyxy) for t in tiles if (t.row, t.col) not in seen]
    # Areas, not mere contact: a neighbour's gap touches along the edge.
    return sum(float(shapely.area(shapely.intersection(core, lost)).sum()) > 0 for core in cores)
