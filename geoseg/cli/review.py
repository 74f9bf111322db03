"""`geoseg review`: a copy of footprints to correct in QGIS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoseg.cli.console import Verbose, flag, start
from geoseg.paths import expanded


def review(
    footprints: Annotated[
        Path, typer.Argument(metavar="FOOTPRINTS", help="GeoPackage that geoseg wrote; it stays as it is.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Copy to write. Unset: FOOTPRINTS.review.gpkg beside it."),
    ] = None,
    force: Annotated[bool, flag("--force", help="Replace a copy that may hold corrections.")] = False,
    verbose: Verbose = False,
) -> None:
    """Copy footprints for review in QGIS: a field with keep, wrong, edited or added, to train on afterwards."""
    start(verbose=verbose)
    from geoseg.sinks.review import review_path, write_review

    footprints = expanded(footprints)
    target = expanded(output) if output else review_path(footprints)
    typer.echo(write_review(footprints, target, force=force))
