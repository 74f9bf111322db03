"""`geoseg stac`: what a run over an archive produced, as STAC."""

from __future__ import annotations

from typing import Annotated

import typer

from geoseg.cli.console import LogFormat, LogFormatOption, Quiet, Verbose, start
from geoseg.cli.options import RunFolder


def stac(
    folder: RunFolder,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The run's model, where its weights have moved.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", metavar="SPDX", help="Licence of the outputs.")] = "other",
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Title of the Collection, one line.")] = "",
    log_format: LogFormatOption = LogFormat.text,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write a STAC Item beside each output of a run, and the run's Collection."""
    start(verbose=verbose, quiet=quiet, log_format=log_format)
    from geoseg.archive import describe_run
    from geoseg.stac import CollectionNote

    typer.echo(describe_run(folder, model=model, note=CollectionNote(title=title, licence=licence)))
