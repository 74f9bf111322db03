"""`geoseg plan`: the tiles as polygons to look at, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoseg.cli.console import Quiet, Verbose, log, start
from geoseg.cli.options import settings_with
from geoseg.errors import ConfigError

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.config import Settings
    from geoseg.detectors import ModelCard
    from geoseg.grid import Grid
    from geoseg.instances import Chip, Instances
    from geoseg.tiling import Plan
    from geoseg.window import Window

_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}


def plan(
    raster: Annotated[str, typer.Argument(help="The raster.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .gpkg (two layers), .fgb, .geojson.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Take GSD, core and halo from its card; it is not loaded."),
    ] = None,
    aoi: Annotated[
        str | None, typer.Option(help="Only this area: a vector file, or w,s,e,n in degrees.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings (TOML); options here win over it.")] = None,
    core: Annotated[int | None, typer.Option(help="Side of a tile's core, in pixels the model sees.")] = None,
    halo: Annotated[int | None, typer.Option(help="Rim around the core, in the same pixels.")] = None,
    assume_crs: Annotated[str | None, typer.Option(help="CRS of a raster that states none.")] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write the cores and the windows of all tiles as polygons; no network is loaded."""
    start(verbose=verbose, quiet=quiet)
    if output.suffix.lower() not in _DRIVERS:
        raise ConfigError(
            f"an output named {output.name!r}", allowed=f"names that end in {', '.join(_DRIVERS)}"
        )
    settings = settings_with(
        config, {"tiling": {"core": core, "halo": halo}, "raster": {"assume_crs": assume_crs}}
    )
    grid, tiles, within = _lay_out(raster, model, aoi, settings)
    layers = tile_polygons(tiles, grid, within)
    write_tiles(layers, output)
    log.info(
        "%s tiles of core %s + halo %s px at %.3g m: %s",
        *(len(layers["cores"]), tiles.tiling.core, tiles.tiling.halo, grid.gsd_m, output),
    )


def _lay_out(
    raster: str, model: str | None, aoi: str | None, settings: Settings
) -> tuple[Grid, Plan, Window]:
    """The grid that the model sees, its tiles, and the part in which tiles are wanted: as a run has them."""
    from dataclasses import replace

    from geoseg.detectors import ModelCard, model_card
    from geoseg.job import Job

    card = model_card(model) if model else ModelCard(classes=("any",))
    # Tiles depend on the GSD alone: the bands and values that the model wants are no reason to refuse.
    sketch = _Sketch(card=replace(card, bands=None, mean=None, std=None))
    job = Job.of(raster, sketch, aoi=aoi, tiling=None, settings=settings)
    for warning in job.warnings:
        log.warning("%s", warning)
    return job.grid, job.task.plan, job.within


@dataclass(frozen=True, kw_only=True)
class _Sketch:
    """A detector of which only the card is asked."""

    card: ModelCard

    def predict(self, chips: list[Chip]) -> Sequence[Instances]:
        """Never asked: a plan reads no pixel."""
        raise AssertionError("a plan detects nothing")


def tile_polygons(tiles: Plan, grid: Grid, within: Window) -> dict[str, gpd.GeoDataFrame]:
    """Layers ``cores`` and ``windows``: a polygon on the ground per tile of the blocks that meet ``within``.

    Columns: ``kind``, ``row`` and ``col`` (place in the lattice), ``block_row`` and ``block_col``,
    ``row_off``, ``col_off``, ``height`` and ``width`` (pixels of the grid).
    """
    import geopandas as gpd
    import numpy as np
    import shapely

    wanted = [(block, tile) for block in tiles.blocks(within=within) for tile in block.tiles]
    places = {
        "row": [tile.row for _, tile in wanted],
        "col": [tile.col for _, tile in wanted],
        "block_row": [block.row for block, _ in wanted],
        "block_col": [block.col for block, _ in wanted],
    }
    layers = {}
    for kind in ("core", "window"):
        windows: list[Window] = [getattr(tile, kind) for _, tile in wanted]
        pixels = shapely.box(*np.array([window.xyxy for window in windows], float).reshape(-1, 4).T)
        sizes = {
            name: [getattr(w, name) for w in windows] for name in ("row_off", "col_off", "height", "width")
        }
        layers[f"{kind}s"] = gpd.GeoDataFrame(
            {"kind": kind, **places, **sizes}, geometry=grid.geometry_to_world(pixels), crs=grid.crs
        )
    return layers


def write_tiles(layers: dict[str, gpd.GeoDataFrame], output: Path) -> None:
    """Write the layers; formats of one layer get both in it, told apart by ``kind``.

    Raises:
        SinkError: it cannot be written.
    """
    import pandas as pd
    import pyogrio

    from geoseg.sinks.atomic import replacing

    driver = _DRIVERS[output.suffix.lower()]
    if driver != "GPKG":
        both = pd.concat(list(layers.values()), ignore_index=True)
        layers = {"tiles": both.to_crs(4326) if driver == "GeoJSON" else both}
    with replacing(output, library_errors=(pyogrio.errors.DataSourceError, pyogrio.errors.FeatureError)) as (
        draft,
    ):
        for name, table in layers.items():
            pyogrio.write_dataframe(table, draft, layer=name, driver=driver)
