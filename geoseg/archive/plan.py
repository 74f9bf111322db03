"""What is to be done with each scene of a run, as a hash: where it is the same, and so are the files, nothing is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.archive.config import RunConfig
from geoseg.archive.record import Record
from geoseg.archive.rules import Rules
from geoseg.archive.signature import signature
from geoseg.archive.worker import Orders
from geoseg.report import versions


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does with its scenes."""

    text: str
    """A hash of all that decides what comes of a raster but the raster: 32 hex digits."""
    rules: Rules
    """What a raster may be, raster by raster."""

    @staticmethod
    def of(orders: Orders, config: RunConfig) -> Plan:
        """The plan of a run."""
        settings = orders.settings.model_dump(mode="json", exclude={"engine", "store"})
        del settings["tiling"]["block"], settings["detect"]["batch"], settings["detect"]["device"]
        parts = {
            "card": orders.card.to_json(),
            "digest": orders.digest,
            "settings": settings,
            "aoi": None if orders.aoi is None else hashlib.sha256(orders.aoi.geometry.wkb).hexdigest(),
            "aoi_crs": None if orders.aoi is None else orders.aoi.crs.to_wkt(),
            "format": config.archive.format,
            "version": versions().get("geoseg"),
        }
        return Plan(text=_hash(parts), rules=Rules.of(config))

    def scene(self, record: Record) -> str:
        """The plan for one scene: its date, where the input gives one, goes into the output too. Its checksum decides
        whether it is used."""
        raster = self.rules.raster(record.href)
        ruled = "" if raster is self.rules.plain else f" {_hash(raster.model_dump(mode='json'))}"
        stated = f" {record.extra['checksum']}" if "checksum" in record.extra else ""
        return f"{self.text} {record.acquired}{ruled}{stated}"

    def known(self, record: Record, now: str | None) -> bool:
        """Whether what was found out of a raster still holds, its file's signature being ``now``."""
        same = now is not None and now == record.signature and record.plan == self.scene(record)
        return same and record.key is not None and record.last in ("done", "same")

    def untouched(self, record: Record, folder: Path) -> bool:
        """Whether a scene is done, by this plan, and neither its raster nor its output has changed since."""
        done = record.last == "done" and self.known(record, signature(record.href))
        return done and record.stamp is not None and signature(folder / record.output) == record.stamp


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
