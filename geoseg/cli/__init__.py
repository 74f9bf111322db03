"""The command line: one small file per command. Heavy libraries are loaded where a command needs them."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from geoseg.allocator import keep_freed
from geoseg.cli.console import any_name, unheard, unread
from geoseg.cli.doctor import doctor
from geoseg.cli.evaluate import evaluate
from geoseg.cli.exits import ENVIRONMENT, INTERRUPTED, Commands, leave
from geoseg.cli.export import export
from geoseg.cli.extract import extract
from geoseg.cli.models import models
from geoseg.cli.plan import plan
from geoseg.cli.preview import preview
from geoseg.cli.review import review
from geoseg.cli.run import run
from geoseg.cli.stac import stac
from geoseg.cli.status import status
from geoseg.cli.train import train
from geoseg.cli.vectorize import vectorize

app = typer.Typer(
    cls=Commands,
    name="geoseg",
    help="Footprints of objects from georeferenced rasters of any size, each exactly once.",
    epilog="Exit codes: 0 done; 1 done with parts missing; 2 bad input or settings; 3 another run holds the "
    "output; 4 environment; 70 a fault in geoseg; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (extract, run, status, vectorize, plan, evaluate, preview, export, review, train, stac, doctor):
    app.command()(command)
app.add_typer(models, name="models")


def main() -> None:
    """The command ``geoseg``."""
    keep_freed()
    sys.stdout, sys.stderr = unread(sys.stdout), unheard(sys.stderr)
    any_name(sys.stdout)
    try:
        app()
    except SystemExit as end:
        if end.code in (INTERRUPTED, ENVIRONMENT):
            leave(end.code)
        raise


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"geoseg {importlib.metadata.version('geoseg')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, metavar="", help="Show the version and leave."),
    ] = False,
) -> None:
    """Options of geoseg itself."""
