"""`geoseg preview`: an overlay to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoseg.cli.console import Verbose, start
from geoseg.cli.options import AssumeCrs, Raster, settings_with
from geoseg.paths import distinct


def preview(
    raster: Raster,
    footprints: Annotated[Path, typer.Argument(metavar="FOOTPRINTS", help="Footprints to draw on it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="PNG to write.")],
    truth: Annotated[Path | None, typer.Option(metavar="FILE", help="True outlines to draw as well.")] = None,
    max_side: Annotated[int, typer.Option(min=64, metavar="PIXELS", help="Longer side of the picture.")] = 1600,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings (TOML) of the run: its raster section counts.")
    ] = None,
    assume_crs: AssumeCrs = None,
    verbose: Verbose = False,
) -> None:
    """Draw footprints over the raster, as a PNG, with the AOI's border and what could not be examined."""
    from geoseg.evaluation.reviewed import objects
    from geoseg.overlay import preview as draw
    from geoseg.vectors import read_gaps, read_table

    start(verbose=verbose)
    distinct([output], [raster, footprints, truth, config])
    settings = settings_with(config, {"raster": {"assume_crs": assume_crs}})
    known = objects(read_table(truth, "truth")) if truth else None
    found = read_table(footprints, "footprints")
    gaps = read_gaps(footprints)
    typer.echo(draw(raster, found, output, truth=known, gaps=gaps, max_side=max_side, settings=settings))
