"""What a run over an archive came to, and the exit code that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.archive.manifest import Manifest
from geoseg.archive.record import BAD, WRITTEN

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run over an archive, ended."""

    folder: Path
    """The run's folder."""
    exit_code: int
    """0 done; 1 done with parts or scenes missing; 2 no scene could be used; 3 all are locked; 4 environment; 130."""
    counts: Mapping[str, int]
    """Scenes in each state."""
    unchanged: int
    """Scenes with nothing to do, of those done."""
    footprints: int
    """In all outputs of this run's scenes."""
    seconds: float
    """Wall time."""
    merged: Path | None
    """The layer over all scenes; None: not asked for, or not come to."""
    stopped: str
    """Why it ended before its end; empty: it did not."""

    @property
    def complete(self) -> bool:
        """True where nothing is missing."""
        return self.exit_code == 0


def verdict(manifest: Manifest, *, stopped: int = 0) -> int:
    """The exit code of a run.

    ``stopped`` is the code that it was stopped with, which then is the answer. A run of which something stands is
    done (0), or done with parts missing (1): bad scenes are passed by, and named in the summary. Where nothing came of
    any scene, and all for one kind of reason, that kind's code is the run's.
    """
    if stopped:
        return stopped
    if not manifest.count(*BAD):
        return 1 if manifest.count("parts") else 0
    codes = manifest.codes()
    # Not "same", which is as good as the scene that it is the same as.
    return codes.pop() if not manifest.count(*WRITTEN) and len(codes) == 1 else 1
