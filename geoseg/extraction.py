"""One raster, from path to footprints: the place where it all meets."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd

from geoseg.carrying import Progress, carry_out, open_engine, report_of, write_pieces
from geoseg.config import Settings, settled
from geoseg.detectors.base import Detector
from geoseg.errors import ConfigError
from geoseg.ground import in_crs
from geoseg.job import Job
from geoseg.locks import output_lock
from geoseg.paths import distinct
from geoseg.predicting import check_not_asked
from geoseg.raster import RasterInfo
from geoseg.report import Report, Start, gaps_table
from geoseg.sinks import check_output, write_stream
from geoseg.sinks.atomic import printable
from geoseg.sinks.dataset import finish, is_dataset
from geoseg.store import Store
from geoseg.store.places import Place
from geoseg.tiling import Tiling
from geoseg.work import Parts, WorkFolder
from geoseg.work.rows import footprints_of

__all__ = ["Extraction", "IncompleteWarning", "Progress", "extract", "extract_to", "run", "run_store", "run_to"]

log = logging.getLogger("geoseg")


class IncompleteWarning(UserWarning):
    """Some ground that was asked for could not be examined; :func:`run` tells which."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Extraction:
    """What a run came to."""

    footprints: gpd.GeoDataFrame
    """The objects, in the schema of :data:`geoseg.footprints.COLUMNS`."""
    gaps: gpd.GeoDataFrame
    """Ground that was not examined: ``reason``, ``detail``, ``area_m2``, a row per reason."""
    report: Report
    """The run in numbers."""


def extract(
    raster: str | Path,
    model: Detector,
    *,
    aoi: Any = None,
    tiling: Tiling | None = None,
    settings: Settings | None = None,
    scheduler: str | None = None,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> gpd.GeoDataFrame:
    """Footprints of what ``model`` sees in ``raster``, each object once.

    Args:
        raster: path of a GeoTIFF, COG, JPEG 2000 or VRT.
        model: from :func:`geoseg.load_model`, or any object with ``card`` and ``predict``.
        aoi: only objects that have their inner point (``lon``, ``lat``) in here: a vector file,
            ``"w,s,e,n"`` in degrees, WKT or a shapely geometry in EPSG:4326, or a GeoDataFrame. They come whole
            as far as a halo around it; one that reaches farther out is cut there, its inner point is that of the
            part that was seen, and ``cut_by_edge`` is set.
        tiling: how the raster is cut; None: as the settings, or else the model's card, say.
        settings: everything else; None: the defaults.
        scheduler: address of a dask scheduler, over that of the settings.
        store: where predictions are kept (a folder or URL), and taken from if they are there; None: nowhere.
        progress: called with tiles done and tiles in all.

    Returns:
        One row per object, in the raster's CRS unless the settings name another.

    Raises:
        GeosegError: a raster, model, AOI or settings that cannot be used, or an environment that fails.

    Warns:
        IncompleteWarning: some ground could not be examined. :func:`run` also returns which, and why.
    """
    settings = _scheduled(settled(settings), scheduler)
    done = run(raster, model, aoi=aoi, tiling=tiling, settings=settings, store=store, progress=progress)
    _warn(done.report)
    return done.footprints


def extract_to(
    raster: str | Path,
    model: Detector,
    output: str | Path,
    *,
    aoi: Any = None,
    tiling: Tiling | None = None,
    settings: Settings | None = None,
    scheduler: str | None = None,
    store: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """As :func:`extract`, written to a file without ever being in memory together; a call that was killed is taken
    up where it was by the same call, and where parts are missing the same call tries those alone.

    Args:
        raster: as in :func:`extract`, and so are the others that are not named here.
        model: likewise.
        output: as in :func:`geoseg.write`; or a folder (no suffix), for a partitioned GeoParquet dataset.
        force: as in :func:`geoseg.write`.

    Returns:
        The run in numbers.

    Raises:
        GeosegError: as :func:`extract` and :func:`geoseg.write`.
        LockedError: another run is writing that output.
    """
    settings = _scheduled(settled(settings), scheduler)
    target = check_output(output, force=force)  # before the lock, which would make the folder that is missing
    with output_lock(target):
        report = run_to(
            raster,
            model,
            output,
            aoi=aoi,
            tiling=tiling,
            settings=settings,
            store=store,
            force=force,
            progress=progress,
        )
    _warn(report)
    return report


def run(
    raster: str | Path | RasterInfo,
    model: Detector,
    *,
    aoi: Any = None,
    tiling: Tiling | None = None,
    settings: Settings | None = None,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """As :func:`extract`, with the gaps and the report. The raster may also be one that is open already.

    The footprints are a pure function of the raster, the model, the AOI, the tiling's core and halo, and the
    settings but for ``[engine]``, ``detect.batch`` and ``tiling.block``: to the bit for a detector that is itself
    a pure function of the chip. A network is one up to the arithmetic of its library, whose last bits follow the
    device, the library's version and how many chips are computed together, hence ``detect.batch`` and
    ``tiling.block``; the report says ``devices`` and ``versions``.

    Raises:
        GeosegError: as :func:`extract`.
    """
    job = Job.of(raster, model, aoi=aoi, tiling=tiling, settings=settled(settings))
    return _in_memory(job, _kept(job, store), progress)


def run_to(
    raster: str | Path | RasterInfo,
    model: Detector,
    output: str | Path,
    *,
    aoi: Any = None,
    tiling: Tiling | None = None,
    settings: Settings | None = None,
    store: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """As :func:`extract_to`, for a caller that holds :func:`geoseg.locks.output_lock`. The raster may be one that is
    open already.

    Raises:
        GeosegError: as :func:`extract_to`.
    """
    distinct([output], [raster.path if isinstance(raster, RasterInfo) else raster])
    job = Job.of(raster, model, aoi=aoi, tiling=tiling, settings=settled(settings))
    return _to_disk(job, output, store, force=force, progress=progress)


def run_store(store: str | Path, *, settings: Settings | None = None, progress: Progress | None = None) -> Extraction:
    """As :func:`run`, from kept predictions alone: no raster, no network. Tiling, AOI and how the raster was read are
    those that the predictions were made with, whatever the settings say.

    Args:
        store: what ``extract(..., store=...)`` has left there.
        settings: threshold, outlines, shapes, output.
        progress: called with tiles done and tiles in all.

    Raises:
        GeosegError: as :func:`run`.
        StoreError: there is no such store.
    """
    kept = Store.open(store)
    return _in_memory(Job.of_store(kept, settled(settings)), kept, progress)


def run_store_to(
    store: str | Path,
    output: str | Path,
    *,
    settings: Settings | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """As :func:`run_to`, from kept predictions alone, see :func:`run_store`.

    Raises:
        GeosegError: as :func:`run_store` and :func:`run_to`.
    """
    kept = Store.open(store)
    return _to_disk(Job.of_store(kept, settled(settings)), output, kept, force=force, progress=progress)


def _in_memory(job: Job, store: Store | None, progress: Progress | None) -> Extraction:
    began = _begin(job)
    with _passing_parts(job) as parts, open_engine(job) as engine:
        carried = carry_out(job, parts, store, engine, progress)
        footprints = footprints_of(list(carried.stream.batches()), job.output_crs)
    gaps = gaps_table(carried.gaps, job.scope.grid)
    report = report_of(job, carried, began, gaps)
    return Extraction(footprints=footprints, gaps=in_crs(gaps, job.settings), report=report)


def _to_disk(
    job: Job, output: str | Path, store: str | Path | Store | None, *, force: bool, progress: Progress | None
) -> Report:
    began = _begin(job)
    target = check_output(output, force=force)
    if is_dataset(target):
        _check_apart(target, Place.of(store.path) if isinstance(store, Store) else _store_place(job, store))
    kept = store if isinstance(store, Store) else _kept(job, store)
    folder = WorkFolder.claim(WorkFolder.beside(target), key=job.predictions_key)
    kept = kept or _kept(job, folder.store)
    parts = folder.parts(f"{job.identity}-{job.plan.tiling.block}")
    with open_engine(job) as engine:
        carried = carry_out(job, parts, kept, engine, progress)
        gaps = gaps_table(carried.gaps, job.scope.grid)
        report = report_of(job, carried, began, gaps)
        told: dict[str, Any] = {"gaps": in_crs(gaps, job.settings), "run": report.as_dict(), "force": force}
        if is_dataset(target):
            draft = folder.dataset()
            write_pieces(carried, draft, report.as_dict(), engine)
            finish(draft, target, **told)
        else:
            write_stream(carried.stream, target, **told)
    if report.complete or job.examiner is None:
        folder.remove()
    else:  # what failed may fare better the next time, and the rest need not be done again
        carried.clear()
        log.warning(
            "run the same again to try what is missing, and only that: the rest is kept in %s", printable(folder.path)
        )
    return report


def _begin(job: Job) -> Start:
    check_not_asked()
    for warning in job.warnings:
        log.warning("%s", warning)
    return Start()


def _kept(job: Job, store: str | Path | None) -> Store | None:
    """The store, made where there is none.

    Raises:
        StoreError: what is there is of something else.
    """
    place = _checked_place(job, store)
    return None if place is None else Store.create_or_open(place.path, job.predictions_key, job.scope.as_header())


def check_store(job: Job, store: str | Path | None) -> None:
    """Find out before the work whether a run can keep its predictions where it is asked to; errors as for the run."""
    place = _checked_place(job, store)
    if place is not None:
        Store.check(place.path, job.predictions_key)


def _checked_place(job: Job, store: str | Path | None) -> Place | None:
    place = _store_place(job, store)
    if place is not None and store is not None:  # a folder of stores, which the settings name, is made
        place.check()
    return place


def _store_place(job: Job, store: str | Path | None) -> Place | None:
    asked = job.store(store)
    return None if asked is None else Place.of(asked)


def _check_apart(target: Path, store: Place | None) -> None:
    """Refuse a folder to write that holds the store, or lies in it: it is replaced as a whole."""
    if store is None or not store.local:
        return
    one, other = (Path(os.path.realpath(path)) for path in (target, store.path))
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise ConfigError(
            f"the output folder {printable(target)} and the store {printable(store.path)}, one inside the other",
            allowed="two folders apart: the output is replaced as a whole",
        )


@contextmanager
def _passing_parts(job: Job) -> Iterator[Parts]:
    """Parts in a folder that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="geoseg-", ignore_cleanup_errors=True) as home:
        yield WorkFolder(path=Path(home)).parts(job.identity, lasting=False)


def _scheduled(settings: Settings, scheduler: str | None) -> Settings:
    return settings.model_copy(update={"engine": settings.engine.at(scheduler)})


def _warn(report: Report) -> None:
    if not report.complete:
        missing = {reason: round(area) for reason, area in report.gaps_m2.items()}
        said = f"{report.raster}: not all ground was examined (square metres: {missing})"
        warnings.warn(said, IncompleteWarning, stacklevel=3)
