"""How far a run is: from its manifest alone, while it goes on, after it, and after a crash."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from geoseg.archive.beat import SILENT_S, last_beat
from geoseg.archive.manifest import Manifest
from geoseg.archive.record import BAD
from geoseg.errors import ConfigError
from geoseg.paths import expanded


@dataclass(frozen=True, kw_only=True)
class Status:
    """A run over an archive, at one moment."""

    folder: str
    """The run's folder."""
    state: Literal["running", "suspended", "ended", "interrupted", "stopped", "killed"]
    """``suspended``: its process is stopped (Ctrl-Z, a batch system that makes room) and may go on; ``stopped`` by an
    error, ``killed`` without having been able to say so."""
    model: str
    """Name and version; empty while a first run looks for its scenes."""
    started: str
    """UTC, ISO 8601; likewise."""
    ended: str | None
    """The same; None: not yet, or killed."""
    exit_code: int | None
    """Once it ended."""
    stopped: str
    """Why it was stopped."""
    scenes: int
    """All of the run."""
    counts: Mapping[str, int]
    """Scenes in each state."""
    unchanged: int
    """Scenes with nothing to do, of those done."""
    left: int
    """Scenes not begun yet."""
    footprints: int
    """In the outputs that stand, those of an earlier run that this one has not come to yet among them."""
    earlier: int
    """Of these, in outputs that earlier settings made: they are done anew in their turn."""
    running: tuple[Mapping[str, Any], ...]
    """Scenes at work: ``name``, ``seconds``, ``tiles_done``, ``tiles``."""
    failed: tuple[Mapping[str, Any], ...]
    """The first hundred of which nothing came: ``name``, ``state``, ``error``."""
    eta_s: float | None
    """Seconds to go, at the pace so far; None: not known."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)


def archive_status(folder: str | Path) -> Status:
    """How far the run in ``folder`` is.

    Raises:
        ConfigError: no run was begun there.
    """
    folder = expanded(folder)
    with Manifest.opened(folder) as manifest:
        if manifest.fact("state") is None and not _beats(folder):  # it ended before there was anything to note
            raise ConfigError(f"{folder}, in which no run was begun", allowed="the folder of a run that was begun")
        counts = {state: n for state, n in manifest.counts().items() if state != "gone"}
        state = _state(manifest)
        alive = state in ("running", "suspended")
        left = counts.get("pending", 0)
        bad = [
            {"name": record.name, "state": record.state, "error": record.error}
            for record, _ in zip(manifest.records(*BAD), range(100), strict=False)
        ]
        return Status(
            folder=str(folder),
            state=state,
            model=f"{manifest.fact('model') or ''} {manifest.fact('model_version') or ''}".strip(),
            started=manifest.fact("started") or "",
            ended=manifest.fact("ended"),
            exit_code=manifest.fact("exit_code"),
            stopped=manifest.fact("stopped") or "",
            scenes=sum(counts.values()),
            counts=counts,
            unchanged=round(manifest.total("unchanged")),
            left=left,
            footprints=manifest.standing(),
            earlier=manifest.earlier(),
            running=tuple(_at_work(manifest)) if alive else (),
            failed=tuple(bad),
            eta_s=_eta(manifest, counts) if state == "running" else None,
        )


def _state(manifest: Manifest) -> Any:
    said = manifest.fact("state") or "running"  # nothing is said yet while a first run looks for its scenes
    if said != "running":
        return said
    alive = _beats(manifest.folder)
    pid, started = manifest.fact("pid"), manifest.fact("started")
    if pid is not None and manifest.fact("host") == socket.gethostname():
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_STOPPED and _is_of(process, started):
                return "suspended"
            alive = alive or _is_of(process, started)
        except (psutil.NoSuchProcess, ValueError):  # the number of none, or no process's number
            return "killed"
        except psutil.Error:  # somebody else's: it is there
            pass
    return "running" if alive else "killed"


def _beats(folder: Path) -> bool:
    return time.time() - last_beat(folder) < SILENT_S


def _is_of(process: psutil.Process, started: str | None) -> bool:
    """Whether a process is that of a run which began then, and not a later one that got its number."""
    try:
        return started is not None and process.create_time() <= datetime.fromisoformat(started).timestamp() + 1.0
    except ValueError:  # not as geoseg writes it
        return False


def _at_work(manifest: Manifest) -> Any:
    now = datetime.now(UTC)
    for record in manifest.records("running"):
        done, total = record.tiles or (None, None)
        seconds = None if record.started is None else round(max(0.0, (now - record.started).total_seconds()), 1)
        yield {"name": record.name, "seconds": seconds, "tiles_done": done, "tiles": total}


def _eta(manifest: Manifest, counts: Mapping[str, int]) -> float | None:
    """What is left, over the run's processes: a scene that is new or at work at the mean time of those that were worked
    on, as it will be, and another at the mean time of all, of which many are unchanged."""
    settled = sum(n for state, n in counts.items() if state not in ("pending", "running"))
    worked = settled - counts.get("same", 0) - round(manifest.total("unchanged"))
    new = manifest.new()
    if not settled or (new and not worked):
        return None
    known, now = counts.get("pending", 0) - new, new + counts.get("running", 0) / 2
    seconds = manifest.total("seconds")
    left = known * seconds / settled + now * seconds / max(worked, 1)
    return round(left / int(manifest.fact("processes") or 1), 1)
