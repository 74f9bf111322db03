"""What is said where a cluster cannot go on."""

from __future__ import annotations

from typing import Protocol

from geoseg.errors import ClusterError, ResourceError


class Place(Protocol):
    """What is worked on has a place in a lattice, to be told by."""

    @property
    def row(self) -> int:
        """From the top."""

    @property
    def col(self) -> int:
        """From the left."""


def no_workers(patience_s: float, *, gpu: bool = False) -> ClusterError:
    """Of a cluster without workers, or without those that a task asks for."""
    resource = ' --resources "GPU=1"' if gpu else ""
    return ClusterError(
        f"a dask cluster with no workers{' that have the resource GPU' if gpu else ''} for {patience_s:g} s",
        allowed="at least one worker",
        remedy=f"Start workers (dask worker tcp://...{resource}) and run the same command again; [engine] patience_s "
        "is how long to wait for them",
    )


def silent(patience_s: float) -> ResourceError:
    """Of a scheduler that is there and does not answer."""
    return ResourceError(
        f"a dask scheduler that has not answered for {patience_s:g} s",
        remedy="Look after its process and machine, and run the same command again; [engine] patience_s is how long to "
        "wait for it",
    )


def gone() -> ResourceError:
    """Of a scheduler that is not there any more."""
    return ResourceError(
        "a dask scheduler that went away, or was restarted, while blocks were at work",
        remedy="Start it again and run the same command again",
    )


def hung(item: Place, result: Exception, count: int) -> ResourceError:
    """Of too many items that hung."""
    return ResourceError(
        f"{count} block(s) that hung, the last at row {item.row}, column {item.col} ({result})",
        remedy="Look after the disk or network of the raster, and the GPU; where blocks just take long, raise [engine] "
        "block_timeout_s or lower [tiling] block",
    )


def deadly(count: int, result: Exception) -> ResourceError:
    """Of too many items in a row that killed their workers."""
    return ResourceError(
        f"{count} blocks in a row that killed their workers ({result})",
        remedy="Look after the workers' memory (their logs say why they died); take a smaller [tiling] block "
        "or [detect] batch",
    )
