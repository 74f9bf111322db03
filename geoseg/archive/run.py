"""A run over an archive: find, skip what is done, work, record, merge, report."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geoseg.aoi import Area, read_aoi
from geoseg.archive.beat import beating
from geoseg.archive.config import RunConfig
from geoseg.archive.drive import Drive, Stopped
from geoseg.archive.inputs import Search, scenes
from geoseg.archive.manifest import Manifest
from geoseg.archive.merging import merge_scenes
from geoseg.archive.outcome import INTERRUPTED, Outcome, verdict
from geoseg.archive.summary import write_summary
from geoseg.archive.worker import Orders
from geoseg.detectors import Detector, model_card, model_digest, weights_path
from geoseg.errors import ConfigError, GeosegError, SinkError, exit_code
from geoseg.ground import parse_crs
from geoseg.job import card_of, tiling_of
from geoseg.locks import output_lock
from geoseg.report import versions
from geoseg.sinks import check_suffix

log = logging.getLogger("geoseg")

Progress = Callable[[int, int], None]
"""Called with the scenes done and the scenes in all."""


def run_archive(
    config: RunConfig,
    *,
    model: Detector | None = None,
    search: Search | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Every raster of ``config`` through one model: those done already are skipped, bad ones recorded and passed by.

    What is done is in the manifest as soon as it is; killed at any moment, the same call goes on from there. In a
    script it has to stand under ``if __name__ == "__main__":``, for it starts processes.

    Args:
        config: from :func:`read_run_config`.
        model: a detector of one's own instead of ``[archive] model``; it is pickled to the processes that work.
        search: what ``[input] stac`` is looked up with: ``geoseg.stac.search``.
        progress: called with scenes done and scenes in all.

    Raises:
        ConfigError: settings, inputs, model or AOI that cannot be used: nothing was begun.
        LockedError: another run has the folder.
        SinkError: the folder, the manifest or the summary cannot be written.
        KeyboardInterrupt: it was stopped; what was done is recorded.
    """
    orders = ordered(config, model)
    folder = _made(config.folder)
    with output_lock(folder / "run"), beating(folder), Manifest.opened(folder, create=True) as manifest:
        began = time.monotonic()
        archive = config.archive
        count = manifest.begin(scenes(config, search), archive.name, f".{archive.format}")
        manifest.note(**_facts(config, orders), count=count, warnings=[])
        if not count:
            log.warning("no scene is among the inputs: there is nothing to do")
            manifest.note(warnings=["no scene is among the inputs"])
        stopped, why, merged = 0, "", None
        try:
            with Drive(manifest, orders, config, plan_of(orders, config), progress) as drive:
                drive.run()
            merged = _merged(config, manifest)
        except Stopped as error:
            stopped, why = error.code, str(error)
        except GeosegError as error:  # such as a merged layer that cannot be written
            stopped, why = error.exit_code, str(error)
        except BaseException as error:
            stopped, why = exit_code(error), f"{type(error).__name__}: {error}"
            if isinstance(error, KeyboardInterrupt):
                stopped, why = INTERRUPTED, "interrupted"
            raise
        finally:
            manifest.reopen()
            outcome = _ended(manifest, stopped, why, merged, time.monotonic() - began)
            write_summary(manifest, outcome)
        return outcome


def ordered(config: RunConfig, model: Detector | None) -> Orders:
    """All that was given, looked at: refused now or never.

    Raises:
        GeosegError: a model, an AOI or settings that cannot be used.
    """
    settings = config.settings
    for crs in (settings.output.crs, config.merge.crs):
        if crs:
            parse_crs(crs)
    if config.merge.output and Path(config.merge.output).suffix:
        check_suffix(config.merge.output)
    if model is None:
        name = config.archive.model
        there = config.path(name)
        which = str(there) if there.is_file() else name
        weights_path(which)
        card, digest, model_or_name = model_card(which), model_digest(which), which
        tiling_of(settings, card)
        return Orders(model=model_or_name, card=card, digest=digest, settings=settings, aoi=_aoi(config))
    return Orders(
        model=model, card=card_of(model), digest=getattr(model, "digest", ""), settings=settings, aoi=_aoi(config)
    )


def plan_of(orders: Orders, config: RunConfig) -> str:
    """A hash of all that decides what comes of a raster but the raster: 32 hex digits."""
    settings = orders.settings.model_dump(mode="json", exclude={"engine"})
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
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _aoi(config: RunConfig) -> Area | None:
    aoi = config.archive.aoi
    if aoi is None:
        return None
    there = config.path(aoi) if len(aoi) < 4096 else None
    return read_aoi(str(there) if there is not None and _is_file(there) else aoi)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have: a long WKT
        return False


def _made(folder: Path) -> Path:
    try:
        (folder / "scenes").mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"[archive] folder = {folder}, where a file is", allowed="a folder") from error
    except OSError as error:
        raise SinkError(f"the folder {folder} cannot be made ({error.strerror})", remedy="Write elsewhere") from error
    return folder


def _facts(config: RunConfig, orders: Orders) -> dict[str, Any]:
    return {
        "model": orders.card.name,
        "model_version": orders.card.version,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "ended": None,
        "state": "running",
        "exit_code": None,
        "stopped": "",
        "merged": None,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "processes": config.archive.at_once,
        "config": config.model_dump(mode="json"),
        "versions": versions(),
    }


def _merged(config: RunConfig, manifest: Manifest) -> Path | None:
    if config.merge.output is None or not manifest.count("done", "parts"):
        return None  # where nothing came of any scene, an earlier layer stays
    target = manifest.folder / Path(config.merge.output).expanduser()
    return merge_scenes(manifest, config.merge, target)


def _ended(manifest: Manifest, stopped: int, why: str, merged: Path | None, seconds: float) -> Outcome:
    """Note how a run ended."""
    code = verdict(manifest, stopped=stopped)
    state = "interrupted" if code == INTERRUPTED else "stopped" if stopped else "ended"
    manifest.note(
        state=state,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        exit_code=code,
        stopped=why,
        seconds=round(seconds, 3),
        merged=None if merged is None else str(merged),
    )
    return Outcome(
        folder=manifest.folder,
        exit_code=code,
        counts=manifest.counts(),
        unchanged=round(manifest.total("unchanged")),
        footprints=round(manifest.total("footprints")),
        seconds=seconds,
        merged=merged,
        stopped=why,
    )
