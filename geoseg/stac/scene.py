"""A scene: one raster of an archive, before anything is known of it but where it is said to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One raster to be looked at, as an input names it."""

    href: str
    """Path of a local raster, absolute; or a URL (http, s3, ...)."""
    name: str
    """What to call it, as the input does: a file's name, or an item's id. Need not be unique, nor fit for a file."""
    acquired: datetime | None = None
    """When it was taken, UTC; None: as the raster's header says."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the input knows of it, as JSON: kept with the scene's record, and of no effect on its footprints."""

    def __post_init__(self) -> None:
        if not self.href or not self.name:
            raise ValueError(f"a scene needs a path and a name, not {self.href!r} and {self.name!r}")
        if self.acquired is not None:
            moment = self.acquired
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            object.__setattr__(self, "acquired", moment)
