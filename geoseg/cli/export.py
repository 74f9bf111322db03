"""`geoseg export`: footprints for programs that know no ground: COCO instance JSON; PMTiles for web maps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geoseg.cli.console import Verbose, log, start
from geoseg.cli.options import AssumeCrs, settings_with
from geoseg.errors import ConfigError
from geoseg.paths import distinct

_MAP = ".pmtiles"


class Masks(StrEnum):
    """How outlines are written."""

    polygon = "polygon"
    rle = "rle"


def export(
    footprints: Annotated[
        Path, typer.Argument(metavar="FOOTPRINTS", help="Polygons: GeoPackage, GeoParquet, GeoJSON, ...")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="File to write: COCO (.json) or a web map (.pmtiles)."),
    ],
    raster: Annotated[
        str | None, typer.Option(metavar="RASTER", help="COCO: the raster that they lie on, in whose pixels it is.")
    ] = None,
    masks: Annotated[
        Masks | None,
        typer.Option(
            help="COCO: polygon, as exact as they are; or rle, whole pixels. Holes are always rle. Unset: polygon."
        ),
    ] = None,
    assume_crs: AssumeCrs = None,
    verbose: Verbose = False,
) -> None:
    """Write footprints as COCO instance JSON, in the pixels of their raster; or as PMTiles, for a map on the web."""
    start(verbose=verbose)
    distinct([output], [footprints, raster])
    if output.suffix.lower() == _MAP:
        given = {"--raster": raster, "--masks": masks, "--assume-crs": assume_crs}
        if needless := [name for name, value in given.items() if value is not None]:
            raise ConfigError(
                f"{', '.join(needless)} with a map (.pmtiles)", allowed="with COCO (.json)", remedy="Leave it out"
            )
        typer.echo(_export_map(footprints, output))
        return
    if raster is None or output.suffix.lower() != ".json":
        raise ConfigError(
            f"an export to {output.name}" + (" without --raster" if raster is None else ""),
            allowed=f"COCO (.json) with the raster in whose pixels it is; a map ({_MAP}) without",
        )
    typer.echo(_export_coco(footprints, output, raster, masks or Masks.polygon, assume_crs))


def _export_map(footprints: Path, output: Path) -> Path:
    from geoseg.evaluation import reviewed
    from geoseg.sinks.pmtiles import write_pmtiles
    from geoseg.vectors import read_table

    table = reviewed(read_table(footprints, "footprints"))
    if table.empty:
        log.warning("%s holds no footprints: the map has no tiles", footprints)
    return write_pmtiles(table, output)


def _export_coco(footprints: Path, output: Path, raster: str, masks: Masks, assume_crs: str | None) -> Path:
    from geoseg.coco import coco_of, write_coco
    from geoseg.evaluation import reviewed
    from geoseg.job import opened
    from geoseg.vectors import read_table

    info = opened(raster, settings_with(None, {"raster": {"assume_crs": assume_crs}}).raster)
    coco = coco_of(reviewed(read_table(footprints, "footprints")), info.grid, info.name, form=masks.value)
    for warning in coco.warnings:
        log.warning("%s", warning)
    return write_coco(coco, output)
