"""`geoseg plan`: the tiles as polygons to look at, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoseg.cli.console import Quiet, Verbose, log, start
from geoseg.cli.options import (
    Aoi,
    AssumeCrs,
    Bands,
    Config,
    Core,
    Force,
    Halo,
    Raster,
    ScalingRange,
    Stretch,
    model_file,
    parse_bands,
    parse_scaling,
    parse_sides,
    settings_with,
)
from geoseg.errors import ConfigError
from geoseg.paths import distinct, expanded
from geoseg.tiling import said

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.config import Settings
    from geoseg.job import Job

_SIDES = attrgetter("row_off", "col_off", "height", "width")
_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}


def plan(
    raster: Raster,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="To write: .gpkg (two layers), .fgb, .geojson.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Take GSD, core and halo from its card, and refuse what it would; it is not loaded.",
        ),
    ] = None,
    aoi: Aoi = None,
    config: Config = None,
    core: Core = None,
    halo: Halo = None,
    assume_crs: AssumeCrs = None,
    bands: Bands = None,
    scaling: ScalingRange = None,
    stretch: Stretch = None,
    force: Force = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write the cores and the windows of all tiles as polygons; no network is loaded."""
    start(verbose=verbose, quiet=quiet)
    output = expanded(output)
    distinct([output], [raster, model_file(model), aoi, config])
    if output.suffix.lower() not in _DRIVERS:
        raise ConfigError(f"an output named {output.name!r}", allowed=f"names that end in {', '.join(_DRIVERS)}")
    from geoseg.sinks.atomic import check_place
    from geoseg.sinks.gpkg import OF_A_PLAN, check_replaceable

    check_place(output)
    if output.suffix.lower() == ".gpkg":
        check_replaceable(output, OF_A_PLAN, force=force)
    tiles = {"core": parse_sides("--core", core), "halo": parse_sides("--halo", halo)}
    said_of_it = {"assume_crs": assume_crs, "bands": parse_bands(bands), "scaling": parse_scaling(scaling, stretch)}
    settings = settings_with(config, {"tiling": tiles, "raster": said_of_it})
    job = _job(raster, model, aoi, settings)
    layers = tile_polygons(job)
    write_tiles(layers, output, force=force)
    tiling = job.plan.tiling
    log.info(
        "%s tiles of core %s + halo %s px at %.3g m: %s",
        *(len(layers["cores"]), said(tiling.core), said(tiling.halo), job.scope.grid.gsd_m, output),
    )
    typer.echo(output)


def _job(raster: str, model: str | None, aoi: str | None, settings: Settings) -> Job:
    """What a run would do."""
    from geoseg.config import ScalingSettings
    from geoseg.detectors import ModelCard, model_card, model_digest
    from geoseg.job import Job, Sketch

    card = model_card(model) if model else ModelCard(classes=("any",))
    sketch = Sketch(card=card, digest=model_digest(model) if model else "")
    rules: dict[str, Any] = {}
    # Bands and scaling are a model's: without one they are no reason to refuse.
    if model is None:
        rules = {"bands": None, "scaling": None}
    elif settings.raster.scaling is not None and settings.raster.scaling.percentiles:
        rules = {"scaling": ScalingSettings(low=(0.0,), high=(1.0,))}  # any range, for no pixel is read to measure it
    settings = settings.model_copy(update={"raster": settings.raster.model_copy(update=rules)})
    job = Job.of(raster, sketch, aoi=aoi, tiling=None, settings=settings)
    for warning in job.warnings:
        log.warning("%s", warning)
    return job


def tile_polygons(job: Job) -> dict[str, gpd.GeoDataFrame]:
    """Layers ``cores`` and ``windows``: a polygon on the ground per tile that a run would plan.

    Columns: ``kind``, ``row`` and ``col`` (place in the lattice), ``block_row`` and ``block_col``,
    ``row_off``, ``col_off``, ``height`` and ``width`` (pixels of the grid).
    """
    import geopandas as gpd
    import numpy as np
    import shapely

    def numbers() -> Iterator[tuple[int, ...]]:
        for block in job.plan.blocks(within=job.scope.within):
            for tile in compress(block.tiles, job.scope.asked(block.tiles)):
                yield tile.row, tile.col, block.row, block.col, *_SIDES(tile.core), *_SIDES(tile.window)

    # As numbers, for a tile with its windows takes a kilobyte, and a grid may have a million.
    found, grid = np.fromiter(numbers(), np.dtype((np.int64, 12))), job.scope.grid
    places = dict(zip(("row", "col", "block_row", "block_col"), found[:, :4].T, strict=True))
    layers = {}
    for kind, sides in (("core", found[:, 4:8].T), ("window", found[:, 8:].T)):
        row_off, col_off, height, width = sides
        pixels = shapely.box(*np.array([col_off, row_off, col_off + width, row_off + height], float))
        sizes = {"row_off": row_off, "col_off": col_off, "height": height, "width": width}
        layers[f"{kind}s"] = gpd.GeoDataFrame(
            {"kind": kind, **places, **sizes}, geometry=grid.on_earth(grid.geometry_to_world(pixels)), crs=grid.crs
        )
    return layers


def write_tiles(layers: dict[str, gpd.GeoDataFrame], output: Path, *, force: bool) -> None:
    """Write the layers; formats of one layer get both in it, told apart by ``kind``.

    Raises:
        SinkError: it cannot be written, or a GeoPackage that holds other layers stands there and is not forced to go.
    """
    import pandas as pd

    from geoseg.sinks import gpkg
    from geoseg.sinks.atomic import replacing
    from geoseg.sinks.tables import GDAL_ERRORS, write_layer
    from geoseg.vectors import LONLAT, reprojected

    driver = _DRIVERS[output.suffix.lower()]
    if driver == "GPKG":
        gpkg.write_tiles(output, layers, force=force)
        return
    both = pd.concat(list(layers.values()), ignore_index=True)
    tiles = reprojected(both, LONLAT) if driver == "GeoJSON" else both
    with replacing(output, library_errors=GDAL_ERRORS) as (draft,):
        # FlatGeobuf takes the declared kind alone, which is MultiPolygon.
        write_layer(tiles, draft, layer="tiles", driver=driver, multi=driver == "FlatGeobuf")
