"""What is to be done with each scene of a run, as a hash: where it is the same, and so are the files, nothing is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from geoseg.archive.config import RunConfig
from geoseg.archive.record import Record
from geoseg.archive.rules import Rules
from geoseg.archive.signature import signature
from geoseg.archive.worker import Orders
from geoseg.report import versions

_CARD, _WEIGHTS, _GROUND = "the card of the model", "the weights of the model", "the ground of the AOI"
_LONG = 60


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does with its scenes."""

    text: str
    """A hash of all that decides what comes of a raster but the raster: 32 hex digits."""
    parts: Mapping[str, Any]
    """What it is a hash of: values by the keys of the run's file, and hashes of what is too long to be told."""
    rules: Rules
    """What a raster may be, raster by raster."""

    @staticmethod
    def of(orders: Orders, config: RunConfig) -> Plan:
        """The plan of a run."""
        settings = orders.settings.model_dump(mode="json", exclude={"engine", "store"})
        del settings["tiling"]["block"], settings["detect"]["batch"], settings["detect"]["device"]
        aoi = orders.aoi
        parts = {
            "archive.model": f"{orders.card.name} {orders.card.version}",
            "archive.aoi": None if aoi is None else aoi.what,
            "archive.format": config.archive.format,
            _CARD: _hash(orders.card.to_json()),
            _WEIGHTS: orders.digest,
            _GROUND: None if aoi is None else _hash([shapely.to_wkb(aoi.geometry, hex=True), aoi.crs.to_wkt()]),
            "the version of geoseg": versions().get("geoseg"),
            **dict(_leaves(settings)),
        }
        return Plan(text=_hash(parts), parts=parts, rules=Rules.of(config))

    def changed(self, before: Mapping[str, Any]) -> list[str]:
        """What is not as it was, from the ``parts`` of the plan before: each by its key, and what it was and is."""
        keys = [key for key in {**self.parts, **before} if self.parts.get(key) != before.get(key)]
        for whole, its in (("archive.model", (_CARD, _WEIGHTS)), ("archive.aoi", (_GROUND,))):
            if whole in keys:
                keys = [key for key in keys if key not in its]
        hashes = (_CARD, _WEIGHTS, _GROUND)
        return [
            key if key in hashes else f"{key} ({_shown(before.get(key))} -> {_shown(self.parts.get(key))})"
            for key in keys
        ]

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


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """``section.key`` and value, however deep."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _shown(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
