"""`geoseg vectorize`: footprints from kept predictions, without raster or network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoseg.cli.console import LogFormat, LogFormatOption, Quiet, Verbose, start
from geoseg.cli.exits import stoppable
from geoseg.cli.extract import summarise, write_report
from geoseg.cli.options import distinct, settings_with
from geoseg.cli.progress import progress
from geoseg.locks import output_lock


def vectorize(
    store: Annotated[str, typer.Argument(help="Folder or URL that `geoseg extract --store` has filled.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.gpkg, .parquet, .fgb, .geojson), or folder.")
    ],
    config: Annotated[Path | None, typer.Option(help="Settings (TOML); options here win over it.")] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Drop what scores less, 0 to 1.")] = None,
    regularize: Annotated[
        str | None, typer.Option(help="Redraw outlines: none, buildings (right angles) or ships (hulls).")
    ] = None,
    keep_overlaps: Annotated[bool, typer.Option("--keep-overlaps", help="Let footprints of a class overlap.")] = False,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler, e.g. tcp://host:8786.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads on this machine, of each process.")] = None,
    processes: Annotated[int | None, typer.Option(help="Processes on this machine; unset: only this one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that looks open elsewhere.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write the run's report, as JSON.")] = None,
    log_format: LogFormatOption = LogFormat.text,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make footprints again from kept predictions, with another threshold, outline or output."""
    start(verbose=verbose, quiet=quiet, log_format=log_format)
    output, report = output.expanduser(), report.expanduser() if report else None
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
    from geoseg.sinks import check_output
    from geoseg.sinks.atomic import check_place

    check_output(output, force=force)
    if report:
        check_place(report)
    with (
        stoppable(),
        output_lock(output),
        progress(quiet=quiet, plain=log_format is LogFormat.json) as advance,
    ):
        done = run_store_to(store, output, settings=settings, force=force, progress=advance)
        if report:
            write_report(done, output, report)
    summarise(done, output)
    raise typer.Exit(done.exit_code)
