"""`geoseg export`: footprints as COCO instance JSON, for other tools and for training."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geoseg.cli.console import Verbose, log, start
from geoseg.cli.options import AssumeCrs, settings_with
from geoseg.paths import distinct


class Masks(StrEnum):
    """How outlines are written."""

    polygon = "polygon"
    rle = "rle"


def export(
    footprints: Annotated[
        Path, typer.Argument(metavar="FOOTPRINTS", help="Polygons: GeoPackage, GeoParquet, GeoJSON, ...")
    ],
    raster: Annotated[
        str, typer.Option(metavar="RASTER", help="The raster that they lie on; they are given in its pixels.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="COCO file to write (.json).")],
    masks: Annotated[
        Masks, typer.Option(help="polygon: as exact as they are; rle: whole pixels. Holes are always rle.")
    ] = Masks.polygon,
    assume_crs: AssumeCrs = None,
    verbose: Verbose = False,
) -> None:
    """Write footprints as COCO instance JSON, in the pixels of their raster."""
    from geoseg.coco import coco_of, write_coco
    from geoseg.evaluation import reviewed
    from geoseg.job import opened
    from geoseg.vectors import read_table

    start(verbose=verbose)
    distinct([output], [footprints, raster])
    info = opened(raster, settings_with(None, {"raster": {"assume_crs": assume_crs}}).raster)
    coco = coco_of(reviewed(read_table(footprints, "footprints")), info.grid, info.name, form=masks.value)
    for warning in coco.warnings:
        log.warning("%s", warning)
    typer.echo(write_coco(coco, output))
