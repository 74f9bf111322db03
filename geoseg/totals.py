"""What the blocks of a run have come to so far: counts and gaps, never outlines."""

from __future__ import annotations

import logging
from collections import Counter

from geoseg.blocks import BlockResult
from geoseg.errors import GeosegError, RasterError, StoreError, StoreWriteError
from geoseg.gaps import Gap
from geoseg.predicting import SICK, Cause, Failure, given_up, most_common
from geoseg.tiling import Block

log = logging.getLogger("geoseg")


class Totals:
    """Counts of a run."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.devices: set[str] = set()
        self.causes: Counter[Cause] = Counter()
        self.planned = self.examined = self.unreadable = self.pixels = 0
        self.halved, self.rooms = 0, set[int]()
        self.lost = 0
        """Blocks that nobody could do."""

    @property
    def failed(self) -> int:
        """Tiles that failed, for whatever cause."""
        return self.causes.total()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of how the work went."""
        if not self.halved:
            return ()
        times = "once" if self.halved == 1 else f"{self.halved} times"
        went = f"batches were halved {times}, down to {min(self.rooms)} chip(s) per call"
        return (f"there was no memory for a whole batch: {went}; a lower [detect] batch spares the failures",)

    def add(self, result: BlockResult) -> None:
        """Count one block."""
        counts = result.counts
        self.gaps += result.gaps
        self.planned += counts.planned
        self.examined += counts.examined
        self.unreadable += counts.unreadable
        self.causes.update(counts.failed)
        self.pixels += counts.pixels
        self.devices |= {counts.device} - {""}
        self.halved += counts.halved
        self.rooms |= {counts.room} - {0}

    def why(self, block: Block, error: Exception) -> Failure:
        """Why no worker could do a block.

        Raises:
            GeosegError: the block's answer is that the run makes no sense.
        """
        # A worker's file system may fail for a while, and a kept block may be damaged: gaps. The rest is an answer.
        passing = isinstance(error, RasterError | StoreError) and not isinstance(error, StoreWriteError)
        if isinstance(error, GeosegError) and not passing:
            raise error
        why = Failure.of(error)
        log.warning("block (%d, %d) failed on every try: %s", block.row, block.col, why.said)
        self.lost += 1
        return why

    def check_early(self) -> None:
        """Refuse a run of which nothing comes, once that is clear.

        Raises:
            GeosegError: many blocks are lost, and no tile was seen.
        """
        if self.lost >= SICK and not self.examined:
            self.check()

    def check(self) -> None:
        """Refuse a run of which nothing came, or too little to be an accident.

        Raises:
            GeosegError: all tiles that could be read failed, or most and more than a few; typed by the cause.
        """
        told = self.failed + self.examined
        if self.failed and (not self.examined or (self.failed >= SICK and self.failed > told / 2)):
            said = min(gap.detail for gap in self.gaps if gap.reason == "failed")
            got = f"a run that failed on {self.failed} of the {told} tiles that hold data ({said})"
            raise given_up(got, most_common(self.causes), worked=self.examined > 0)
