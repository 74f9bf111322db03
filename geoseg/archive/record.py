"""What a run knows of one of its scenes, and what a scene came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["pending", "running", "done", "parts", "same", "refused", "locked", "failed", "gone"]
"""``pending`` (left), ``running``, ``done``, ``parts`` (done with parts missing), ``same`` (the content of another
scene), ``refused`` (a raster that cannot be used), ``locked`` (another run holds its output), ``failed`` (crash,
memory, device, disk, hung, a fault), ``gone`` (an earlier run's, no longer among the inputs)."""

RunState = Literal["running", "ended", "interrupted", "stopped"]
"""Of a whole run, as its manifest says: ``stopped`` by an error."""
WRITTEN: tuple[State, ...] = ("done", "parts")
"""States with an output."""
BAD: tuple[State, ...] = ("refused", "locked", "failed")
"""States without one that should have one."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One scene in the manifest."""

    id: int
    """Number in the manifest, in the order of the inputs; stays the same from run to run."""
    href: str
    """Path or URL."""
    name: str
    """As the input calls it."""
    output: str
    """Its output, relative to the run's folder."""
    state: State
    """How far it is."""
    last: State | None = None
    """The state that it ended with last, in this run or an earlier one; None: never yet."""
    acquired: datetime | None = None
    """As the input says, UTC."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """As the input says."""
    plan: str | None = None
    """What was to be done with it (model, settings, AOI, version), as a hash."""
    signature: str | None = None
    """Size, times and inode of the raster's file when it was looked at; None: it says nothing of this raster."""
    stamp: str | None = None
    """The same of the output."""
    key: str | None = None
    """Content key of the raster."""
    run: str | None = None
    """Identity of the run of this raster that its figures are of; its output names it too. None: not known."""
    same_as: int | None = None
    """The scene that has the same content."""
    extent: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; west is east of east where it crosses the antimeridian."""
    seen: datetime | None = None
    """When it was taken, as the outputs have it: the input's date, or else the raster's."""
    footprints: int | None = None
    """Rows of its output."""
    seconds: float | None = None
    """Wall time of what was done with it."""
    started: datetime | None = None
    """UTC."""
    ended: datetime | None = None
    """UTC."""
    tries: int = 0
    """How often it was begun, in the run at hand."""
    unchanged: bool = False
    """There was nothing to do in the run at hand."""
    tiles: tuple[int, int] | None = None
    """Tiles done and in all, while it runs."""
    code: int = 0
    """Exit code that its outcome would have alone."""
    error: str | None = None
    """What is wrong, in one message."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Its report in short: tiles, megapixels, gaps_m2, warnings, devices, ..."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a scene is, before it is decided whether anything has to be done with it."""

    key: str
    """Content key."""
    run: str
    """Identity of the run that it would be."""
    extent: tuple[float, float, float, float]
    """West, south, east, north in degrees."""
    seen: datetime | None
    """When it was taken."""
    plain: bool
    """Whether the raster is one local file, whose size and times tell when it changes."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A scene whose output stands."""

    figures: Mapping[str, Any]
    """The report in short."""
    run: str
    """Identity of its run."""
    footprints: int
    """Rows."""
    code: int
    """0 or 1."""


@dataclass(frozen=True, kw_only=True)
class Died:
    """A process that ended in the middle of a scene, or is of no use any more: another one may do better."""

    why: str
    """What happened."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A scene that came to nothing."""

    code: int
    """Exit code of the error."""
    error: str
    """The message."""
    fatal: bool = False
    """No other scene will fare better: the model cannot be loaded, the disk is full, the cluster is not there."""
    alone: bool = False
    """It says nothing of other scenes: the server that this one is on is away."""

    @property
    def state(self) -> State:
        """The state that it means."""
        return "refused" if self.code == 2 else "locked" if self.code == 3 else "failed"
