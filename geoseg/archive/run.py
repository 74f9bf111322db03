"""A run over an archive: find, skip what is done, work, record, merge, report."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geoseg.aoi import Area, read_aoi
from geoseg.archive.beat import beating
from geoseg.archive.config import RunConfig
from geoseg.archive.crew import NAME
from geoseg.archive.describing import COLLECTION, describe
from geoseg.archive.drive import Drive, Stopped
from geoseg.archive.heard import hearing
from geoseg.archive.inputs import scenes
from geoseg.archive.manifest import OUTPUTS, Manifest
from geoseg.archive.merge import merge_scenes
from geoseg.archive.outcome import INTERRUPTED, Outcome, verdict
from geoseg.archive.plan import Plan
from geoseg.archive.record import WRITTEN
from geoseg.archive.summary import write_summary
from geoseg.archive.worker import Orders
from geoseg.detectors import Detector, model_card, model_digest, weights_path
from geoseg.errors import ConfigError, GeosegError, SinkError, exit_code
from geoseg.ground import parse_crs
from geoseg.job import card_of, tiling_of
from geoseg.locks import output_lock
from geoseg.paths import distinct, expanded
from geoseg.report import versions
from geoseg.sinks import check_output, check_suffix, written_run
from geoseg.sinks.atomic import signals_held
from geoseg.stac.writing import CollectionNote

log = logging.getLogger("geoseg")

Progress = Callable[[int, int], None]
"""Called with the scenes done and the scenes in all."""


def run_archive(
    config: RunConfig,
    *,
    model: Detector | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Every raster of ``config`` through one model: those done already are skipped, bad ones recorded and passed by.

    What is done is in the manifest as soon as it is; killed at any moment, the same call goes on from there. In a
    script it has to stand under ``if __name__ == "__main__":``, for it starts processes.

    Args:
        config: from :func:`read_run_config`.
        model: a detector of one's own instead of ``[archive] model``; it is pickled to the processes that work.
        scheduler: address of a Dask scheduler, on whose workers the blocks of each raster are done; None: as the
            settings have it.
        progress: called with scenes done and scenes in all.

    Raises:
        ConfigError: settings, inputs, model or AOI that cannot be used: nothing was begun.
        LockedError: another run has the folder, or the merged layer.
        SinkError: the folder, the manifest or the summary cannot be written.
        KeyboardInterrupt: it was stopped; what was done is recorded.
    """
    if multiprocessing.current_process().name == NAME:  # which imports the script that began it
        raise ConfigError(
            "run_archive called where a script is imported by the processes that run_archive starts",
            allowed='a call under if __name__ == "__main__":',
        )
    if not isinstance(config, RunConfig):
        raise ConfigError(
            f"a run of type {type(config).__name__}",
            allowed="a geoseg.RunConfig",
            remedy="Of a file make one with geoseg.read_run_config(path)",
        )
    config = config.scheduled(scheduler)
    orders = ordered(config, model)
    plan = Plan.of(orders, config)
    folder = _made(config.folder)
    with _held(folder, config), beating(folder), Manifest.opened(folder, create=True) as manifest:
        began = time.monotonic()
        archive = config.archive
        with hearing() as heard:
            manifest.begin(scenes(config), archive.name, f".{archive.format}", **_facts(config, orders, plan))
        manifest.note(warnings=[*heard.taken(), *warned(manifest, plan)], plan=plan.text, planned=plan.parts)
        stopped, why, merged = 0, "", None
        try:
            with Drive(manifest, orders, config, plan, progress) as drive:
                drive.run()
            merged = _merged(config, manifest)
            _described(config, manifest, orders, merged)
        except Stopped as error:
            stopped, why = error.code, str(error)
        except GeosegError as error:  # such as a merged layer that cannot be written
            stopped, why = error.exit_code, str(error)
        except BaseException as error:
            # The manifest's own fault is a disk's, and leaves here as the SinkError that Manifest.opened makes of it.
            stopped = SinkError.exit_code if isinstance(error, sqlite3.Error) else exit_code(error)
            why = f"{type(error).__name__}: {error}"
            if stopped == INTERRUPTED:
                why = "interrupted"
            raise
        finally:
            with signals_held():  # a second one: the manifest says in any case how it ended
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
    standing = next(path for path in (config.folder, *config.folder.parents) if path.exists())
    if not standing.is_dir():
        raise ConfigError(f"[archive] folder = {config.folder}, where {standing} is a file", allowed="a folder")
    named = {"output.crs": settings.output.crs, "merge.crs": config.merge.crs}
    named |= {"raster.assume_crs": settings.raster.assume_crs}
    named |= {f"assume_crs of the rule for {rule.match!r}": rule.assume_crs for rule in config.rule}
    for setting, crs in named.items():
        if crs:
            parse_crs(crs, setting)
    _check_apart(config)
    if config.merge.output:
        _check_merged(config)
    if model is None:
        which = str(config.file(config.archive.model) or config.archive.model)
        weights_path(which)
        card = model_card(which)
        tiling_of(settings, card)
        return Orders(model=which, card=card, digest=model_digest(which), settings=settings, aoi=_aoi(config))
    return Orders(
        model=model, card=card_of(model), digest=getattr(model, "digest", ""), settings=settings, aoi=_aoi(config)
    )


def _check_apart(config: RunConfig) -> None:
    """Refuse to write over what the run reads."""
    given, stac = config.input, config.input.stac
    named = [config.archive.model, config.archive.aoi, given.list, given.index, *((stac.url, stac.aoi) if stac else ())]
    written = [merged_path(config) if config.merge.output else None]
    written += [config.folder / COLLECTION if config.stac.write else None]
    distinct(written, [*(config.file(text) for text in named if text), config.settings.store.folder])


def _check_merged(config: RunConfig) -> None:
    """Refuse a layer that would take the place of something else."""
    target = merged_path(config)
    if config.folder.is_relative_to(target):
        raise ConfigError(
            f"[merge] output = {target}, the run's own folder or one around it", allowed="a file or a folder in it"
        )
    if config.folder / OUTPUTS in target.parents:
        raise ConfigError(
            f"[merge] output = {target}, among the scenes' own outputs",
            allowed=f"a path outside of {config.folder / OUTPUTS}",
        )
    if target.parent.is_dir():
        check_output(target)
    elif not _own(target, config):  # folders in its own one the run makes, and no others
        raise ConfigError(f"[merge] output = {target}, whose folder does not exist", remedy="Create the folder first")
    elif target.suffix:
        check_suffix(target)


def warned(manifest: Manifest, plan: Plan) -> list[str]:
    """What a user should know of the inputs, told."""
    found = [] if manifest.count("pending") else ["no scene is among the inputs: there is nothing to do"]
    known = manifest.count("pending") > manifest.new()
    if known and manifest.fact("plan") not in (None, plan.text):  # or two runs that take turns in one folder
        what = ", ".join(plan.changed(before)) if (before := manifest.fact("planned")) else "model, AOI or settings"
        found.append(f"changed since the run before in this folder: {what}. Scenes are done anew, outputs replaced")
    unused = plan.rules.unused(record.href for record in manifest.records())
    found += [f"no raster fits the rule for {pattern!r} ([[rule]] match)" for pattern in unused]
    for warning in found:
        log.warning("%s", warning)
    return found


def _aoi(config: RunConfig) -> Area | None:
    aoi = config.archive.aoi
    if aoi is None:
        return None
    return read_aoi(str(config.file(aoi) or aoi))


def _own(target: Path, config: RunConfig) -> bool:
    """Whether a merged layer lies in the run's own folder."""
    return target.is_relative_to(os.path.normpath(config.folder))


@contextmanager
def _held(folder: Path, config: RunConfig) -> Iterator[None]:
    """Hold what a run writes: its folder, and the merged layer where that lies elsewhere, as another run's may."""
    with ExitStack() as stack:
        stack.enter_context(output_lock(folder / "run"))
        if config.merge.output and not _own(target := merged_path(config), config):
            stack.enter_context(output_lock(target))
        yield


def _made(folder: Path) -> Path:
    try:
        (folder / "scenes").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"the folder {folder} cannot be made ({error.strerror})", remedy="Write elsewhere") from error
    return folder


def _facts(config: RunConfig, orders: Orders, plan: Plan) -> dict[str, Any]:
    return {
        "model": orders.card.name,
        "model_version": orders.card.version,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "ended": None,
        "state": "running",
        "exit_code": None,
        "stopped": "",
        "merged": None,
        "warnings": [],
        "aoi": None if orders.aoi is None else orders.aoi.text,
        "weights": orders.model if isinstance(orders.model, str) else None,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "processes": config.archive.at_once,
        "config": config.model_dump(mode="json"),
        "rules": plan.rules.as_values(),
        "versions": versions(),
    }


def _merged(config: RunConfig, manifest: Manifest) -> Path | None:
    if config.merge.output is None or not manifest.count(*WRITTEN):
        return None  # where nothing came of any scene, an earlier layer stays
    return merge_scenes(manifest, config.merge, merged_path(config))


def merged_path(config: RunConfig) -> Path:
    """Where the layer over all scenes goes; to be asked only where there is to be one. Without .., which would be
    another place once the run's folder is there than before."""
    return Path(os.path.normpath(config.folder / expanded(config.merge.output or "")))


def _described(config: RunConfig, manifest: Manifest, orders: Orders, merged: Path | None) -> None:
    """Tell of what was produced as STAC, where that is asked for and there is something."""
    if not config.stac.write or not manifest.count(*WRITTEN):
        return
    model = orders.model if isinstance(orders.model, str) else orders.card
    outputs = {} if merged is None else {"merged": merged}
    note = CollectionNote(title=config.stac.title, licence=config.stac.licence, outputs=outputs)
    describe(manifest, model, note)


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
        merged=None if merged is None else str(_within(manifest.folder, merged)),
    )
    return Outcome(
        folder=manifest.folder,
        exit_code=code,
        counts=manifest.counts(),
        unchanged=round(manifest.total("unchanged")),
        footprints=round(manifest.total("footprints")),
        seconds=seconds,
        merged=merged,
        merged_footprints=None if merged is None else int(written_run(merged).get("footprints") or 0),
        stopped=why,
    )


def _within(folder: Path, path: Path) -> Path:
    """A path as it is found from a folder, also once that is moved with what is in it."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path
