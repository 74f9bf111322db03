"""One raster, from path to footprints: the place where it all meets."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any

import geopandas as gpd

from geoseg.blocks import BlockResult, failure
from geoseg.config import Settings
from geoseg.detectors.base import Detector
from geoseg.engine import map_blocks
from geoseg.errors import GeosegError, RasterError
from geoseg.gaps import Gap
from geoseg.job import Job, parse_crs
from geoseg.outlines import Outlines
from geoseg.predicting import SICK, Cause, Failure, given_up, most_common
from geoseg.raster import RasterInfo
from geoseg.report import Report, gaps_table, versions
from geoseg.seams import Merged, merge
from geoseg.tiling import Block, Tiling

log = logging.getLogger("geoseg")

Progress = Callable[[int, int], None]
"""Called with the tiles done and the tiles in all, of those with ground that is asked for."""


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
        progress: called with tiles done and tiles in all.

    Returns:
        One row per object, in the raster's CRS unless the settings name another.

    Raises:
        GeosegError: a raster, model, AOI or settings that cannot be used, or an environment that fails.

    Warns:
        IncompleteWarning: some ground could not be examined. :func:`run` also returns which, and why.
    """
    settings = settings or Settings()
    if scheduler is not None:
        engine = settings.engine.model_copy(update={"scheduler": scheduler})
        settings = settings.model_copy(update={"engine": engine})
    done = run(raster, model, aoi=aoi, tiling=tiling, settings=settings, progress=progress)
    if not done.report.complete:
        missing = {reason: round(area) for reason, area in done.report.gaps_m2.items()}
        said = f"{raster}: not all ground was examined (square metres: {missing})"
        warnings.warn(said, IncompleteWarning, stacklevel=2)
    return done.footprints


def run(
    raster: str | Path | RasterInfo,
    model: Detector,
    *,
    aoi: Any = None,
    tiling: Tiling | None = None,
    settings: Settings | None = None,
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
    began, settings = datetime.now(UTC), settings or Settings()
    job = Job.of(raster, model, aoi=aoi, tiling=tiling, settings=settings)
    for warning in job.warnings:
        log.warning("%s", warning)
    total, plan, engine = _Total(), job.task.plan, settings.engine
    tiles = job.tiles if progress else 0
    results = map_blocks(
        job.task,
        plan.blocks(within=job.within),
        scheduler=engine.scheduler,
        workers=engine.workers,
        retries=engine.retries,
        limit_s=engine.block_timeout_s,
    )
    with closing(results):
        for block, result in results:
            total.add(block, result, job)
            if progress:
                progress(total.planned, tiles)
    total.check()
    gaps = job.gaps(total.gaps)
    merged = Merged.concat([*total.closed, merge(Outlines.concat(total.open), plan)])
    footprints, table = job.footprints(merged, gaps), gaps_table(gaps, job.grid)
    report = _report(job, total, began, footprints, table)
    if settings.output.crs:
        crs = parse_crs(settings.output.crs)
        footprints, table = footprints.to_crs(crs), table.to_crs(crs)
    return Extraction(footprints=footprints, gaps=table, report=report)


class _Total:
    """What the blocks have come to so far."""

    def __init__(self) -> None:
        self.closed: list[Merged] = []
        self.open: list[Outlines] = []
        self.gaps: list[Gap] = []
        self.devices: set[str] = set()
        self.causes: Counter[Cause] = Counter()
        self.planned = self.examined = self.unreadable = self.pixels = 0

    @property
    def failed(self) -> int:
        """Tiles that failed, for whatever cause."""
        return self.causes.total()

    def add(self, block: Block, result: BlockResult | Exception, job: Job) -> None:
        """Count one block.

        Raises:
            GeosegError: the block's answer is that the run makes no sense.
        """
        if isinstance(result, GeosegError) and not isinstance(result, RasterError):
            raise result
        if isinstance(result, Exception):  # a RasterError too: a worker's file system may fail for a while
            self._lost(block, result, job)
            return
        if len(result.closed):
            self.closed.append(result.closed)
        if len(result.open):
            self.open.append(result.open)
        self.gaps += result.gaps
        self.planned += result.planned
        self.examined += result.examined
        self.unreadable += result.unreadable
        self.causes.update(result.failed)
        self.pixels += result.pixels
        self.devices |= {result.device} - {""}

    def _lost(self, block: Block, error: Exception, job: Job) -> None:
        """A block that no worker could do: all of it is a gap."""
        why = Failure.of(error)
        log.warning("block (%d, %d) failed on every try: %s", block.row, block.col, why.said)
        wanted = list(compress(block.tiles, job.task.asked(block.tiles)))
        self.gaps += [failure(tile, why.said) for tile in wanted]
        self.planned += len(wanted)
        self.causes[why.cause] += len(wanted)

    def check(self) -> None:
        """Refuse a run of which nothing came, or too little to be an accident.

        Raises:
            GeosegError: all tiles that could be read failed, or most and more than a few; typed by the cause.
        """
        told = self.failed + self.examined
        if self.failed and (not self.examined or (self.failed >= SICK and self.failed > told / 2)):
            said = min(gap.detail for gap in self.gaps if gap.reason == "failed")
            got = f"a run that failed on {self.failed} of the {told} tiles that hold data ({said})"
            raise given_up(got, most_common(self.causes), worked=self.examined > 0)


def _report(job: Job, total: _Total, began: datetime, footprints: gpd.GeoDataFrame, gaps: gpd.GeoDataFrame) -> Report:
    told = total.examined + total.unreadable + total.failed
    tiling = job.task.plan.tiling
    return Report(
        run=job.identity,
        raster=job.info.name,
        raster_key=job.info.key,
        model=job.card.name,
        model_version=job.card.version,
        started=began.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=round((datetime.now(UTC) - began).total_seconds(), 3),
        gsd_m=job.grid.gsd_m,
        model_gsd_m=job.card.gsd_m,
        core=tiling.core,
        halo=tiling.halo,
        block=tiling.block,
        score_threshold=job.task.threshold,
        aoi=job.aoi_text,
        tiles_planned=total.planned,
        tiles_examined=total.examined,
        tiles_empty=total.planned - told,
        tiles_unreadable=total.unreadable,
        tiles_failed=total.failed,
        devices=tuple(sorted(total.devices)),
        megapixels=total.pixels / 1e6,
        footprints=len(footprints),
        gaps_m2=dict(zip(gaps["reason"], gaps["area_m2"].round(2), strict=True)),
        settings=job.settings.model_dump(mode="json"),
        warnings=job.warnings,
        versions=versions(),
    )
