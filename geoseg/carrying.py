"""How a run is carried out: its blocks, then the squares over them, on whatever workers there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, Generic, TypeVar

import geopandas as gpd

from geoseg.blocks import BlockResult, lost_block, name_of
from geoseg.engine import Engine
from geoseg.errors import GeosegError, ResourceError
from geoseg.gaps import Gap
from geoseg.ground import Ground
from geoseg.job import Job
from geoseg.report import Report, Start, extent_text, versions
from geoseg.sinks.dataset import write_piece
from geoseg.squares import Ladder, MergeTask, ShapeTask, Square, SquareResult
from geoseg.store import Store
from geoseg.tiling import Block
from geoseg.totals import Totals
from geoseg.work import Parts, Rows, Stream

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Called with the tiles done and the tiles in all, of those with ground that is asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Carried:
    """What a run came to."""

    stream: Stream
    """The footprints, on disk."""
    squares: tuple[Square, ...]
    """Whose rows they are: one for each part of the stream, in order."""
    gaps: list[Gap]
    """All ground that was not examined, a gap per reason, in grid pixels."""
    totals: Totals
    """The counts."""

    def clear(self) -> None:
        """Remove the parts of squares, which are made anew each time: those of blocks are left."""
        _clear(self.stream.parts)


def open_engine(job: Job) -> AbstractContextManager[Engine]:
    """The workers that the settings ask for."""
    asked = job.settings.engine
    return Engine.open(
        scheduler=asked.scheduler,
        workers=asked.workers,
        processes=asked.processes,
        patience_s=asked.patience_s,
        retries=asked.retries,
        limit_s=asked.block_timeout_s,
    )


def carry_out(job: Job, parts: Parts, store: Store | None, engine: Engine, progress: Progress | None = None) -> Carried:
    """Do all blocks that are not done yet, then the squares.

    Raises:
        GeosegError: as :func:`geoseg.extract`.
    """
    totals = _blocks(job, parts, store, engine, progress)
    totals.check()
    _clear(parts)
    gaps = job.gaps(totals.gaps)
    found = _squares(job, parts, job.ground(gaps), engine)
    stream = Stream(parts=parts, rows=tuple(rows for _, rows in found), crs=job.output_crs)
    return Carried(stream=stream, squares=tuple(square for square, _ in found), gaps=gaps, totals=totals)


def _clear(parts: Parts) -> None:
    for squares in ("merged-", "shaped-"):
        parts.clear(squares)


def write_pieces(carried: Carried, folder: Path, run: Mapping[str, Any], engine: Engine) -> None:
    """Have the workers write the footprints to a folder, a file per square; one file where there are none.

    Raises:
        SinkError: a file cannot be written.
    """
    rows = dict(zip(carried.squares, carried.stream.rows, strict=True))
    task = PieceTask(stream=replace(carried.stream, rows=()), rows=rows, folder=folder, run=run)
    if not carried.squares:
        task(Square(level=0, row=0, col=0))
    for square, result in _mapped(engine, task, carried.stream.parts, iter(carried.squares)):
        _checked(square, result)


@dataclass(frozen=True, kw_only=True, eq=False)
class PieceTask:
    """Writes one file of a dataset."""

    stream: Stream
    """Where footprints are; of no rows."""
    rows: Mapping[Square, Rows]
    """Those of each square that has some."""
    folder: Path
    """Where the files go."""
    run: Mapping[str, Any]
    """Provenance."""

    def __call__(self, square: Square) -> None:
        """Write the rows of one square.

        Raises:
            SinkError: they cannot be written.
        """
        piece = replace(self.stream, rows=(self.rows[square],) if square in self.rows else ())
        write_piece(self.folder / f"part-{square.level}-{square.row}-{square.col}.parquet", piece, self.run)


def _blocks(job: Job, parts: Parts, store: Store | None, engine: Engine, progress: Progress | None) -> Totals:
    totals, scope = Totals(), job.scope
    tiles, told = scope.tiles if progress else 0, False

    def to_do() -> Iterator[Block]:
        for block in job.plan.blocks(within=scope.within):
            part = parts.find(name_of(block))
            result = None if part is None else BlockResult.of(part)
            if result is not None and result.final:
                totals.add(result)
            else:
                yield block

    results = engine.map(job.task(parts, store), to_do(), gpu=job.examiner is not None)
    with closing(results):
        for block, result in results:
            if isinstance(result, Exception):
                why = totals.why(block, result)
                result, part = lost_block(block, why, list(compress(block.tiles, scope.asked(block.tiles))))
                parts.put(name_of(block), part)
            elif result.data is not None:
                parts.save(name_of(block), result.data)
            totals.add(result)
            totals.check_early()
            if progress:
                progress(totals.planned, tiles)
                told = True
    if progress and not told:  # nothing was left to do
        progress(totals.planned, tiles)
    return totals


def _squares(job: Job, parts: Parts, ground: Ground, engine: Engine) -> list[tuple[Square, Rows]]:
    """Both rounds; the squares with rows, in a fixed order."""
    rows, cols = job.scope.blocks
    ladder = Ladder(plan=job.plan, rows=rows, cols=cols)
    merge = MergeTask(ladder=ladder, parts=parts, shaping=ground.shaping, threshold=job.threshold)
    shape = ShapeTask(ladder=ladder, parts=parts, ground=ground)
    found: list[tuple[Square, Rows]] = []
    for level in ladder.rungs:
        for _ in _done(engine, merge, ladder.squares(level), parts, "merged"):
            pass
    for level in ladder.rungs:
        for square, facts in _done(engine, shape, ladder.squares(level), parts, "shaped"):
            if facts["rows"]:
                found.append((square, _rows(square.name("shaped"), facts)))
    return sorted(found, key=lambda pair: pair[0])


def _done(
    engine: Engine, task: Callable[[Square], SquareResult], squares: Iterator[Square], parts: Parts, kind: str
) -> Iterator[tuple[Square, dict[str, Any]]]:
    """Squares of one rung as they are done."""
    for square, result in _mapped(engine, task, parts, squares):
        done = _checked(square, result)
        if done.data is not None:
            parts.save(square.name(kind), done.data)
        yield square, done.facts


class _Unseen:
    """What a worker answers that does not see the run's folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seeing(Generic[T]):
    """A task for those who see the folder. Who does may change with each run, and from worker to worker."""

    task: Callable[[Square], T]
    parts: Parts

    def __call__(self, square: Square) -> T | _Unseen:
        return self.task(square) if self.parts.shared else _Unseen()


def _mapped(
    engine: Engine, task: Callable[[Square], T], parts: Parts, squares: Iterator[Square]
) -> Iterator[tuple[Square, T | Exception]]:
    """On the workers; here what comes to one that does not see the folder."""
    results = engine.map(_Seeing(task=task, parts=parts), squares)
    with closing(results):
        for square, result in results:
            yield square, task(square) if isinstance(result, _Unseen) else result


def _checked(square: Square, result: T | Exception) -> T:
    """What was made of a square: nothing can be left out here.

    Raises:
        GeosegError: it could not be made.
    """
    if not isinstance(result, Exception):
        return result
    if isinstance(result, GeosegError):
        raise result
    raise ResourceError(
        f"seams that could not be merged or written, at row {square.row}, column {square.col} of level {square.level} "
        f"({type(result).__name__}: {result})",
        remedy="Look after the workers' memory and disk, and run the same command again: it goes on from here",
    ) from result


def _rows(name: str, facts: dict[str, Any]) -> Rows:
    return Rows(
        name=name, count=facts["rows"], top=facts["top"], labels=tuple(facts["labels"]), bounds=tuple(facts["bounds"])
    )


def report_of(job: Job, carried: Carried, began: Start, gaps: gpd.GeoDataFrame) -> Report:
    """A run in numbers, once it is done."""
    total, scope, tiling = carried.totals, job.scope, job.plan.tiling
    told = total.examined + total.unreadable + total.failed
    areas: Mapping[str, float] = dict(zip(gaps["reason"], gaps["area_m2"].round(2), strict=True))
    return Report(
        run=job.identity,
        raster=scope.name,
        raster_key=scope.key,
        model=scope.card.name,
        model_version=scope.card.version,
        started=began.moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=began.seconds,
        gsd_m=scope.grid.gsd_m,
        model_gsd_m=scope.card.gsd_m,
        core=tiling.core,
        halo=tiling.halo,
        block=tiling.block,
        score_threshold=job.threshold,
        aoi=scope.aoi_text,
        extent=extent_text(scope.grid),
        tiles_planned=total.planned,
        tiles_examined=total.examined,
        tiles_empty=total.planned - told,
        tiles_unreadable=total.unreadable,
        tiles_failed=total.failed,
        devices=tuple(sorted(total.devices)),
        megapixels=total.pixels / 1e6,
        footprints=len(carried.stream),
        gaps_m2=areas,
        settings=job.settings.model_dump(mode="json"),
        warnings=(*job.warnings, *total.warnings),
        versions=versions(),
    )
