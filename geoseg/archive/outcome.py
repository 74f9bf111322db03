"""What a run over an archive came to, and the exit code that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.archive.manifest import Manifest
from geoseg.archive.record import BAD, WRITTEN

INTERRUPTED = 130
_ENVIRONMENT = 4


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run over an archive, ended."""

    folder: Path
    """The run's folder."""
    exit_code: int
    """0 done; 1 done with parts or scenes missing; 2 no scene could be used; 3 all are locked; 4 stopped by the
    environment, or it let through none of the scenes that were worked on; 130 interrupted."""
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
    merged_footprints: int | None
    """In that layer, each object once; None where there is no layer."""
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

    The environment is judged by what was worked on alone: where it let none of that through, trying again is what
    helps, whatever stands from earlier runs. Scenes that were refused or locked say nothing of it.
    """
    if stopped:
        return stopped
    if not manifest.count(*BAD):
        return 1 if manifest.count("parts") else 0
    codes, written = manifest.codes(), manifest.count(*WRITTEN)
    # Not "same", which is as good as the scene that it is the same as.
    if not written and len(codes) == 1:
        return codes.pop()
    return _ENVIRONMENT if written == manifest.total("unchanged") and codes - {2, 3} == {_ENVIRONMENT} else 1
