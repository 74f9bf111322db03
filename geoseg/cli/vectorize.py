"""`geoseg vectorize`: footprints from kept predictions, without raster or network."""

from __future__ import annotations

from typing import Annotated

import typer

from geoseg.cli.console import LogFormat, LogFormatOption, Quiet, Verbose, start
from geoseg.cli.extract import summarise
from geoseg.cli.options import (
    Again,
    Config,
    Force,
    KeepOverlaps,
    OutputFile,
    Processes,
    Regularize,
    ReportFile,
    Scheduler,
    ScoreThreshold,
    Workers,
    settings_with,
)
from geoseg.cli.progress import progress
from geoseg.cli.reports import report_again, write_report
from geoseg.cli.unchanged import unchanged
from geoseg.locks import output_lock
from geoseg.paths import distinct, expanded


def vectorize(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="Folder or URL that `geoseg extract --store` has filled.")
    ],
    output: OutputFile,
    config: Config = None,
    score_threshold: ScoreThreshold = None,
    regularize: Regularize = None,
    keep_overlaps: KeepOverlaps = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    processes: Processes = None,
    force: Force = False,
    again: Again = False,
    report: ReportFile = None,
    log_format: LogFormatOption = LogFormat.text,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make footprints again from kept predictions, with another threshold, outline or output."""
    start(verbose=verbose, quiet=quiet, log_format=log_format)
    output, report = expanded(output), expanded(report) if report else None
    distinct([output, report], [store, config])
    settings = settings_with(
        config,
        {
            "detect": {"score_threshold": score_threshold},
            "shapes": {"regularize": regularize, "resolve_overlaps": False if keep_overlaps else None},
            "engine": {"scheduler": scheduler, "workers": workers, "processes": processes},
        },
    )
    from geoseg.extraction import run_store_to
    from geoseg.job import Job
    from geoseg.sinks import check_output
    from geoseg.sinks.atomic import check_place

    check_output(output, force=force)
    if report:
        check_place(report)
    from geoseg.store import Store

    kept = Store.open(store)
    with output_lock(output):
        if not again and unchanged(Job.of_store(kept, settings), output):
            if report:
                report_again(output, report)
            typer.echo(output)
            return
        with progress(quiet=quiet, plain=log_format is LogFormat.json) as advance:
            done = run_store_to(kept.path, output, settings=settings, force=force, progress=advance)
        if report:
            write_report(done, output, report)
    summarise(done, output)
    raise typer.Exit(done.exit_code)
