"""Archives: many rasters through one model, unattended, each done once and recorded.

The small values are here at once; what runs an archive is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from geoseg.archive.scene import Scene

if TYPE_CHECKING:
    from geoseg.archive.config import RunConfig, read_run_config
    from geoseg.archive.manifest import Manifest
    from geoseg.archive.outcome import Outcome
    from geoseg.archive.record import Record
    from geoseg.archive.run import run_archive
    from geoseg.archive.status import Status, archive_status

__all__ = [
    "Manifest",
    "Outcome",
    "Record",
    "RunConfig",
    "Scene",
    "Status",
    "archive_status",
    "read_run_config",
    "run_archive",
]

_HOMES = {
    "config": ("RunConfig", "read_run_config"),
    "manifest": ("Manifest",),
    "outcome": ("Outcome",),
    "record": ("Record",),
    "run": ("run_archive",),
    "status": ("Status", "archive_status"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"geoseg.archive.{home}"), name)
    raise AttributeError(f"module 'geoseg.archive' has no attribute {name!r}")
