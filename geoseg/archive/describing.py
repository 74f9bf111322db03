"""A run over an archive as STAC: an Item beside each output, and the run's Collection."""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from geoseg.archive.manifest import Manifest
from geoseg.archive.record import WRITTEN, Record
from geoseg.archive.rules import Rules
from geoseg.config import RasterSettings, Settings
from geoseg.detectors import ModelCard, model_card, model_digest, weights_path
from geoseg.errors import ConfigError, RasterError
from geoseg.job import opened
from geoseg.paths import expanded
from geoseg.report import Report
from geoseg.stac.products import Product, relative
from geoseg.stac.writing import CollectionNote, write_collection, write_item

log = logging.getLogger("geoseg")

ITEM_SUFFIX = ".stac.json"
"""Of an Item's file."""
COLLECTION = "collection.json"


def describe_run(
    folder: str | Path, *, model: str | Path | ModelCard | None = None, note: CollectionNote | None = None
) -> Path:
    """Write the Items of what stands in a run's folder, and their Collection. May be called again at any time.

    An Item that tells of an output as it stands is left alone; for another the raster's header is read again. One that
    is gone or has changed since gets no new Item, with a warning; the Item that it has is linked still. One scene at a
    time is in memory.

    Args:
        folder: of the run.
        model: bundled model or weights file, or the card of a detector of your own, whose Items go without MLM; None:
            as the run's settings have it.
        note: what the Collection says of itself.

    Returns:
        The path of the Collection.

    Raises:
        ConfigError: no run's folder, another model than the run's, or nothing that could be described.
        ModelError: no such model.
        SinkError: an Item or the Collection cannot be written.
    """
    note = note or CollectionNote()
    with Manifest.opened(expanded(folder).absolute()) as manifest:
        merged = manifest.folder / (manifest.fact("merged") or "")  # relative to the folder, which may have been moved
        outputs = {"merged": merged} if merged.exists() and merged != manifest.folder else {}
        used = model or manifest.fact("weights") or manifest.fact("config")["archive"]["model"]
        return describe(manifest, used, replace(note, outputs={**outputs, **note.outputs}))


def describe(manifest: Manifest, model: str | Path | ModelCard, note: CollectionNote) -> Path:
    """As :func:`describe_run`, of a manifest that is open.

    Raises:
        GeosegError: as :func:`describe_run`.
    """
    used, target = _model(model), manifest.folder / COLLECTION
    _check_model(used.card, manifest)
    return write_collection(target, _written(manifest, used, target), note)


def item_path(output: Path) -> Path:
    """Where the Item of an output goes: beside it, by its name, with what a URL would not take put another way.

    Readers differ in whether they undo percent signs in links, so links to Items have none.
    """
    stem = output.stem
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", stem)
    return output.with_name((name if name == stem else f"{name}-{zlib.crc32(os.fsencode(stem)):08x}") + ITEM_SUFFIX)


@dataclass(frozen=True, kw_only=True)
class _Model:
    card: ModelCard
    weights: Path | None = None
    digest: str = ""


def _model(model: str | Path | ModelCard) -> _Model:
    if isinstance(model, ModelCard):
        return _Model(card=model)
    return _Model(card=model_card(model), weights=Path(weights_path(model)), digest=model_digest(model))


def _check_model(card: ModelCard, manifest: Manifest) -> None:
    ran = manifest.fact("model"), manifest.fact("model_version")
    if (card.name, card.version) != ran:
        raise ConfigError(
            f"the model {card.name} {card.version} for a run of {ran[0]} {ran[1]}",
            allowed="the run's own",
            remedy="Name its weights file",
        )


def _written(manifest: Manifest, model: _Model, collection: Path) -> Iterator[Path]:
    """The Item of each scene whose output stands, written where its raster is as it was."""
    config, versions = manifest.fact("config"), manifest.fact("versions")
    settings = {name: config[name] for name in Settings.model_fields if name in config}
    rules = Rules.told(RasterSettings.model_validate(config["raster"]), manifest.fact("rules") or [])
    for record in manifest.records(*WRITTEN):
        output = manifest.folder / record.output
        path = item_path(output)
        if _stands(path, output, record):
            yield path
            continue
        raster = rules.raster(record.href)
        try:
            info = opened(record.href, raster)
            if info.key != record.key:
                raise RasterError(f"{info.name}, which has changed since it was done", remedy="Run the archive again")
        except RasterError as error:
            log.warning("no new Item: %s", error)
            if path.is_file():
                yield path
            continue
        product = Product(
            report=_report(record, {**settings, "raster": raster.model_dump(mode="json")}, versions),
            info=replace(info, acquired=record.seen or info.acquired),
            card=model.card,
            outputs={"footprints": output},
            weights=model.weights,
            digest=model.digest,
            derived_from=tuple(filter(None, [record.extra.get("stac_item")])),
        )
        yield write_item(product, path, collection=collection)


def _stands(path: Path, output: Path, record: Record) -> bool:
    """Whether the Item that is there tells of this very output."""
    try:
        item = json.loads(path.read_text(encoding="utf-8"))
        told = item["properties"]
        # One run may have been written in several formats, and again with less missing: a clock need not tell.
        same = item["assets"]["footprints"]["href"] == relative(output, path.parent)
        same &= told["geoseg:run"] == record.run and told["geoseg:footprints"] == record.footprints
        same &= told["geoseg:gaps_m2"] == record.figures.get("gaps_m2")
        return same and path.stat().st_mtime_ns >= output.stat().st_mtime_ns
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _report(record: Record, settings: Mapping[str, Any], versions: Mapping[str, str]) -> Report:
    """The report of a scene, put together again from what the manifest keeps of it."""
    known = {entry.name for entry in fields(Report)}
    kept = {name: value for name, value in record.figures.items() if name in known}
    about = {"raster": record.name, "raster_key": record.key, "run": record.run, "aoi": None}
    try:
        return Report(**{**about, **kept, "settings": settings, "versions": versions})
    except TypeError as error:
        raise ConfigError(
            f"the manifest's entry of {record.name}, which is of another version of geoseg ({error})",
            remedy="Run the archive again",
        ) from error
