"""`geoseg extract`: the main job, a raster in and footprints out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoseg.cli.console import LogFormat, LogFormatOption, Quiet, Verbose, flag, log, start
from geoseg.cli.options import (
    Again,
    Aoi,
    AssumeCrs,
    Bands,
    Config,
    Core,
    Force,
    Halo,
    KeepOverlaps,
    OutputFile,
    Processes,
    Raster,
    Regularize,
    ReportFile,
    ScalingRange,
    Scheduler,
    ScoreThreshold,
    Stretch,
    Workers,
    model_file,
    parse_bands,
    parse_scaling,
    parse_sides,
    settings_with,
)
from geoseg.cli.progress import progress
from geoseg.cli.reports import report_again, write_report
from geoseg.cli.unchanged import sketched, unchanged
from geoseg.locks import output_lock
from geoseg.paths import distinct, expanded
from geoseg.tiling import said

if TYPE_CHECKING:
    from geoseg.job import Job
    from geoseg.report import Report


def extract(
    raster: Raster,
    output: OutputFile,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="Name from `geoseg models`, or a weights file.")
    ],
    aoi: Aoi = None,
    config: Config = None,
    score_threshold: ScoreThreshold = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="auto (default), cpu, cuda, cuda:N, mps, openvino or tensorrt.")
    ] = None,
    core: Core = None,
    halo: Halo = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    processes: Processes = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Keep predictions in this folder (or URL), and use those there."),
    ] = None,
    assume_crs: AssumeCrs = None,
    bands: Bands = None,
    scaling: ScalingRange = None,
    stretch: Stretch = None,
    regularize: Regularize = None,
    keep_overlaps: KeepOverlaps = False,
    force: Force = False,
    again: Again = False,
    dry_run: Annotated[
        bool, flag("--dry-run", help="Check everything, say what would be done; write nothing.")
    ] = False,
    report: ReportFile = None,
    log_format: LogFormatOption = LogFormat.text,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Find the objects of a raster and write their footprints."""
    start(verbose=verbose, quiet=quiet, log_format=log_format)
    overrides: dict[str, dict[str, Any]] = {
        "tiling": {"core": parse_sides("--core", core), "halo": parse_sides("--halo", halo)},
        "detect": {"score_threshold": score_threshold, "device": device},
        "raster": {
            "assume_crs": assume_crs,
            "bands": parse_bands(bands),
            "scaling": parse_scaling(scaling, stretch),
        },
        "shapes": {"regularize": regularize, "resolve_overlaps": False if keep_overlaps else None},
        "engine": {"scheduler": scheduler, "workers": workers, "processes": processes},
    }
    output, report = expanded(output), expanded(report) if report else None
    distinct([output, report, store], [raster, model_file(model), aoi, config])
    settings = settings_with(config, overrides)
    from geoseg.detectors import weights_path
    from geoseg.job import Job, opened
    from geoseg.sinks import check_output
    from geoseg.sinks.atomic import check_place

    check_output(output, force=force)
    if report:
        check_place(report)
    # What is refused is refused at once, before the network is loaded.
    weights_path(model)
    info = opened(raster, settings.raster)
    with nullcontext() if dry_run else output_lock(output):
        if not again:
            job = sketched(info, model, aoi=aoi, settings=settings)
            if unchanged(job, output, store=store):
                if dry_run:
                    typer.echo(f"output     {output}: unchanged, nothing would be done")
                    return
                if report:
                    report_again(output, report)
                typer.echo(output)
                return
        # Here at last, for what is heavy in geoseg is torch and dask.
        from geoseg.detectors import load_model
        from geoseg.extraction import check_store, run_to

        detector = load_model(model, settings.detect.device)
        if dry_run:
            job = Job.of(info, detector, aoi=aoi, tiling=None, settings=settings)
            check_store(job, store)
            _describe(job, output)
            return
        with progress(quiet=quiet, plain=log_format is LogFormat.json) as advance:
            done = run_to(
                info, detector, output, aoi=aoi, settings=settings, store=store, force=force, progress=advance
            )
        if report:
            write_report(done, output, report)
    summarise(done, output)
    raise typer.Exit(done.exit_code)


def _describe(job: Job, output: Path) -> None:
    """What a run would do."""
    scope, info = job.scope, job.info
    for warning in job.warnings:
        log.warning("%s", warning)
    grid, tiling = scope.grid, job.plan.tiling
    if info is not None:
        size = f"{info.grid.height} x {info.grid.width} pixels"
        typer.echo(f"raster     {info.path}: {size}, {info.dtype}")
    typer.echo(f"grid       {grid.height} x {grid.width} pixels of {grid.gsd_m:.3g} m, {grid.crs.name}")
    typer.echo(f"model      {scope.card.name} {scope.card.version}: {', '.join(scope.card.classes)}")
    typer.echo(f"threshold  {job.threshold:g}")
    typer.echo(f"tiles      {scope.tiles} of core {said(tiling.core)} + halo {said(tiling.halo)} pixels")
    typer.echo(f"run        {job.identity}")
    typer.echo(f"output     {output}: not written, this is a dry run")


def summarise(done: Report, output: Path) -> None:
    """The run in a line, what is missing in another, and where the output is on stdout."""
    from geoseg.gaps import EXPECTED

    lost = {reason: area for reason, area in done.gaps_m2.items() if reason not in EXPECTED}
    if lost:
        areas = ", ".join(f"{area:,.0f} m2 {reason}" for reason, area in lost.items())
        fields = {"unreadable": done.tiles_unreadable, "failed": done.tiles_failed}
        log.warning("parts are missing (%s): see the gaps layer", areas, extra={"fields": fields})
    log.info(
        "%s footprints in %s (%.1f MP of %.2g m in %.1f s, %.2f MP/s)",
        *(f"{done.footprints:,}", output, done.megapixels, done.gsd_m, done.seconds, done.mp_per_s),
        extra={"fields": {"output": str(output), "footprints": done.footprints, "exit_code": done.exit_code}},
    )
    typer.echo(output)
