"""What a run would do, found out without doing any of it."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.archive.config import RunConfig
from geoseg.archive.inputs import scenes
from geoseg.archive.manifest import Manifest
from geoseg.archive.plan import Plan
from geoseg.archive.run import ordered, warned
from geoseg.detectors import Detector

SHOWN = 20
"""Scenes that are named."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A run that was not made."""

    model: str
    """Name and version."""
    folder: str
    """Where it would write."""
    scenes: int
    """How many it would go through."""
    unchanged: int
    """Those of which neither raster nor output has changed since they were done."""
    gone: int
    """Those of an earlier run that are no longer among the inputs."""
    first: tuple[tuple[str, str], ...]
    """Path and output of the first of them."""


def rehearse(config: RunConfig, *, model: Detector | None = None) -> Rehearsal:
    """Check settings, model, AOI and inputs, and say what would be done. Nothing is written, no raster opened.

    Raises:
        ConfigError: as :func:`geoseg.archive.run_archive`.
    """
    orders = ordered(config, model)
    plan = Plan.of(orders, config)
    with Manifest.copied(config.folder) as manifest:
        count = manifest.begin(scenes(config), config.archive.name, f".{config.archive.format}")
        warned(manifest, plan)
        unchanged, first = 0, list[tuple[str, str]]()
        for record in manifest.records("pending"):
            unchanged += plan.untouched(record, config.folder)
            if len(first) < SHOWN:
                first.append((record.href, "refused" if "refused" in record.extra else record.output))
        return Rehearsal(
            model=f"{orders.card.name} {orders.card.version}",
            folder=str(config.folder),
            scenes=count,
            unchanged=unchanged,
            gone=manifest.count("gone"),
            first=tuple(first),
        )
