"""Footprints of buildings, ships and other objects from georeferenced rasters of any size, each exactly once.

``import geoseg``, then::

    model = geoseg.load_model("buildings")
    footprints = geoseg.extract("ortho.tif", model)
    geoseg.write(footprints, "buildings.gpkg")

Each name below is loaded on first use, so that ``geoseg doctor`` can tell what is wrong with a broken
installation, and torch is not imported before :func:`load_model`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoseg import archive, config, errors, extraction, neighbourhood, regularize, scenes, signals, stac  # noqa: F401
    from geoseg.archive import RunConfig, Scene, archive_status, read_run_config, run_archive
    from geoseg.config import Settings, read_settings
    from geoseg.detectors import Detector, ModelCard, bundled_models, load_model
    from geoseg.errors import GeosegError
    from geoseg.evaluation import evaluate
    from geoseg.extraction import Extraction, IncompleteWarning, extract, extract_to, run, run_store
    from geoseg.grid import Grid
    from geoseg.instances import Chip, Instances
    from geoseg.overlay import preview
    from geoseg.sinks import write
    from geoseg.tiling import Tile, Tiling
    from geoseg.training import TrainConfig, read_train_config, train
    from geoseg.window import Window

__version__: str

__all__ = [
    "Chip",
    "Detector",
    "Extraction",
    "GeosegError",
    "Grid",
    "IncompleteWarning",
    "Instances",
    "ModelCard",
    "RunConfig",
    "Scene",
    "Settings",
    "Tile",
    "Tiling",
    "TrainConfig",
    "Window",
    "__version__",
    "archive_status",
    "bundled_models",
    "errors",
    "evaluate",
    "extract",
    "extract_to",
    "load_model",
    "preview",
    "read_run_config",
    "read_settings",
    "read_train_config",
    "run",
    "run_archive",
    "run_store",
    "train",
    "write",
]

_MODULES = (
    *("archive", "config", "errors", "extraction", "neighbourhood"),
    *("regularize", "scenes", "signals", "stac"),
)
"""Modules that the documents name: they, too, are there without an import of their own."""
_HOMES = {
    "archive": ("RunConfig", "Scene", "archive_status", "read_run_config", "run_archive"),
    "config": ("Settings", "read_settings"),
    "detectors": ("Detector", "ModelCard", "bundled_models", "load_model"),
    "errors": ("GeosegError",),
    "evaluation": ("evaluate",),
    "extraction": ("Extraction", "IncompleteWarning", "extract", "extract_to", "run", "run_store"),
    "grid": ("Grid",),
    "instances": ("Chip", "Instances"),
    "overlay": ("preview",),
    "sinks": ("write",),
    "tiling": ("Tile", "Tiling"),
    "training": ("TrainConfig", "read_train_config", "train"),
    "window": ("Window",),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("geoseg")
    if name in _MODULES:
        return importlib.import_module(f"geoseg.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"geoseg.{home}"), name)
    raise AttributeError(f"module 'geoseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
