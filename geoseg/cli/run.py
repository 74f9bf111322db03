"""`geoseg run`: a whole archive, unattended; each raster once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoseg.cli.console import LogFormat, LogFormatOption, Quiet, Verbose, flag, log, start
from geoseg.cli.options import Scheduler
from geoseg.cli.progress import progress

if TYPE_CHECKING:
    from geoseg.archive import Outcome, RunConfig


def run(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="The run (TOML); configs/runs/archive.toml has every key.")
    ],
    dry_run: Annotated[
        bool, flag("--dry-run", help="Check the settings, name the scenes; open no raster, write nothing.")
    ] = False,
    scheduler: Scheduler = None,
    log_format: LogFormatOption = LogFormat.text,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Find the objects of every raster of an archive; what is done already is skipped."""
    start(verbose=verbose, quiet=quiet, log_format=log_format)
    from geoseg.archive import read_run_config

    settings = read_run_config(config).scheduled(scheduler)
    if dry_run:
        _describe(settings)
        return
    from geoseg.archive import run_archive

    with progress(quiet=quiet, plain=log_format is LogFormat.json, unit="scenes") as advance:
        done = run_archive(settings, progress=advance)
    _summarise(done)
    raise typer.Exit(done.exit_code)


def _describe(settings: RunConfig) -> None:
    """What a run would do."""
    from geoseg.archive.names import plain
    from geoseg.archive.rehearsal import rehearse

    found = rehearse(settings)
    typer.echo(f"model      {found.model}")
    typer.echo(f"folder     {found.folder}")
    typer.echo(f"scenes     {found.scenes}")
    typer.echo(f"unchanged  {found.unchanged} since they were done; the others would be looked at")
    typer.echo(f"gone       {found.gone} of an earlier run are no longer among the inputs")
    for name, output in found.first:
        typer.echo(f"  {plain(name)} -> {output}")
    if found.scenes > len(found.first):
        typer.echo(f"  ... and {found.scenes - len(found.first)} more")
    typer.echo("nothing was written: this is a dry run")


def _summarise(done: Outcome) -> None:
    counts = {state: number for state, number in done.counts.items() if state != "gone"}
    said = ", ".join(f"{number:,} {state}" for state, number in counts.items()) or "none"
    if done.unchanged:
        said += f" ({done.unchanged:,} unchanged)"
    page = done.folder / "summary.html"
    fields = {
        "counts": counts,
        "footprints": done.footprints,
        "merged_footprints": done.merged_footprints,
        "exit_code": done.exit_code,
        "summary": str(page),
    }
    if done.stopped:
        log.error("stopped: %s", done.stopped)
    if done.counts.get("parts"):
        log.warning(
            "run the same again to try the parts that are missing, and only those; of a damaged file no more comes: "
            "fetch it anew, or leave it out by [input] exclude"
        )
    once = "" if done.merged_footprints is None else f" ({done.merged_footprints:,} in the merged layer)"
    text = f"scenes: {said}; {done.footprints:,} footprints{once} in {done.seconds:.1f} s; see {page}"
    log.info("%s", text, extra={"fields": fields})
