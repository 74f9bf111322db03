"""Archives: many rasters through one model, unattended, each done once and recorded.

Each name below is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoseg.archive.config import RunConfig, read_run_config
    from geoseg.archive.describing import describe_run
    from geoseg.archive.manifest import Manifest
    from geoseg.archive.outcome import Outcome
    from geoseg.archive.record import Record
    from geoseg.archive.run import run_archive
    from geoseg.archive.status import Status, archive_status
    from geoseg.stac.scene import Scene

__all__ = [
    "Manifest",
    "Outcome",
    "Record",
    "RunConfig",
    "Scene",
    "Status",
    "archive_status",
    "describe_run",
    "read_run_config",
    "run_archive",
]

_HOMES = {
    "archive.config": ("RunConfig", "read_run_config"),
    "archive.describing": ("describe_run",),
    "archive.manifest": ("Manifest",),
    "archive.outcome": ("Outcome",),
    "archive.record": ("Record",),
    "archive.run": ("run_archive",),
    "archive.status": ("Status", "archive_status"),
    "stac.scene": ("Scene",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"geoseg.{home}"), name)
    raise AttributeError(f"module 'geoseg.archive' has no attribute {name!r}")
