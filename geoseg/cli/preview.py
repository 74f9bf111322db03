"""`geoseg preview`: an overlay to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoseg.cli.console import Verbose, start
from geoseg.cli.vectors import read_footprints


def preview(
    raster: Annotated[Path, typer.Argument(help="The raster.")],
    footprints: Annotated[Path, typer.Argument(help="Footprints to draw on it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")],
    truth: Annotated[Path | None, typer.Option(help="True outlines to draw as well.")] = None,
    max_side: Annotated[int, typer.Option(min=64, help="Longer side of the picture, in pixels.")] = 1600,
    verbose: Verbose = False,
) -> None:
    """Draw footprints over the raster, as a PNG."""
    from geoseg.preview import preview as draw

    start(verbose=verbose)
    known = read_footprints(truth) if truth else None
    typer.echo(draw(raster, read_footprints(footprints), output, truth=known, max_side=max_side))
