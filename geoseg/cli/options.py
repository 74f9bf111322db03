"""Options of a run as settings: the command line wins over the settings file, which wins over defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoseg.cli.console import flag
from geoseg.errors import ConfigError
from geoseg.paths import expanded

if TYPE_CHECKING:
    from geoseg.config import Settings

# What several commands take, said once.
RunFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a run of `geoseg run`.")]
Aoi = Annotated[
    str | None,
    typer.Option(
        metavar="AREA",
        help="Only objects in this area, whole as far as a halo around it. A vector file, west,south,east,north in "
        "degrees, or WKT in longitude, latitude.",
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Settings (TOML); options given here win over it.")]
OutputFile = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="PATH", help="File to write (.gpkg, .parquet, .fgb, .geojson), or a folder (Parquet)."
    ),
]
ScoreThreshold = Annotated[
    float | None, typer.Option(metavar="0..1", help="Drop what scores less. Unset: the model's threshold.")
]
Regularize = Annotated[
    str | None,
    typer.Option(
        metavar="HOW", help="Redraw outlines: none, buildings (right angles) or ships (hulls). Unset: the model's way."
    ),
]
KeepOverlaps = Annotated[
    bool, flag("--keep-overlaps", help="Let footprints of a class overlap; else each square metre belongs to one.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Dask scheduler, e.g. tcp://host:8786. Unset: the settings', else threads of this process.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Threads of each process on this machine. Unset: one per CPU, 2 to 8; with --processes, 2."
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(metavar="N", help="Processes on this machine, each with a network of its own. Unset: this one alone."),
]
Core = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Side of a tile's core, in pixels the model sees; ROWS,COLS where they differ. Unset: the model's.",
    ),
]
Halo = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Rim around the core, in the same pixels; ROWS,COLS where they differ. Unset: the model's."
    ),
]
AssumeCrs = Annotated[str | None, typer.Option(metavar="CRS", help="CRS of a raster that states none: EPSG:32645.")]
Bands = Annotated[str | None, typer.Option(metavar="BANDS", help="Which band is which, from 1: red=3,green=2,blue=1.")]
ScalingRange = Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="Raster values that become 0 and 255.")]
Stretch = Annotated[
    str | None, typer.Option(metavar="LOW,HIGH", help="The same by percentiles, measured once per raster: 2,98.")
]
Raster = Annotated[
    str, typer.Argument(metavar="RASTER", help="GeoTIFF, COG, JPEG 2000, a VRT of local GeoTIFFs, or a Zarr.")
]
Again = Annotated[
    bool, flag("--again", help="Work even where the output is whole and comes from this very run already.")
]
Force = Annotated[
    bool, flag("--force", help="Replace a GeoPackage that looks open for editing, or holds layers of yours.")
]
ReportFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the run's report, as JSON.")]


def settings_with(file: Path | None, overrides: dict[str, dict[str, Any]]) -> Settings:
    """Settings of ``file`` (or the defaults) with every override that is not None.

    Args:
        file: TOML file, or None.
        overrides: section -> key -> value, None where the command line says nothing.

    Raises:
        ConfigError: the file or an override cannot be used.
    """
    from pydantic import ValidationError

    from geoseg.config import Settings, read_settings
    from geoseg.tomls import said

    values = (read_settings(file) if file else Settings()).model_dump()
    places = [key for key in ("scheduler", "processes") if overrides.get("engine", {}).get(key) is not None]
    if len(places) == 2:
        raise ConfigError(
            "--scheduler and --processes together",
            allowed="one of them",
            remedy="With a scheduler its own workers work",
        )
    if places:  # one takes the place of the other, too, in the file
        values["engine"].update(scheduler=None, processes=None)
    for section, keys in overrides.items():
        values[section].update({key: value for key, value in keys.items() if value is not None})
    try:
        return Settings.model_validate(values)
    except ConfigError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        first = error.__cause__.errors(include_url=False)[0]
        names = [str(part) for part in first["loc"] if not isinstance(part, int)]
        option = "--" + names[1].replace("_", "-") if len(names) > 1 else names[0]
        raise ConfigError(f"{option} {first['input']}", allowed=said(first).removeprefix("Input should be ")) from error


def model_file(model: str | None) -> Path | None:
    """The weights file that is read, of a model that is told by its path: a model's name is no path, and an output may
    have it, too."""
    path = expanded(model) if model else None
    return path if path and path.is_file() else None


def parse_sides(option: str, text: str | None) -> int | tuple[int, ...] | None:
    """``512``, or ``384,640`` (rows, columns), as the settings have it.

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return None
    try:
        sides = tuple(int(part) for part in text.split(","))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2):
        raise ConfigError(f"{option} {text!r}", allowed="one whole number, or two: rows,columns, e.g. 384,640")
    return sides[0] if len(sides) == 1 else sides


def parse_bands(text: str | None) -> dict[str, int] | None:
    """``red=3,green=2,blue=1`` as a mapping.

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return None
    try:
        pairs = [part.split("=") for part in text.split(",")]
        bands = {role.strip(): int(number) for role, number in pairs}
    except ValueError:
        bands = {}
    if not bands or min(bands.values()) < 1 or len(bands) != text.count("=") or not all(bands):
        raise ConfigError(f"--bands {text!r}", allowed="roles with band numbers from 1, e.g. red=3,green=2,blue=1")
    return bands


def parse_scaling(scaling: str | None, stretch: str | None) -> dict[str, tuple[float, ...]] | None:
    """``--scaling LOW,HIGH`` (values) or ``--stretch LOW,HIGH`` (percentiles) as the settings have them.

    Raises:
        ConfigError: both, or no range.
    """
    if scaling is None and stretch is None:
        return None
    if scaling is not None and stretch is not None:
        raise ConfigError("--scaling and --stretch together", allowed="one of them")
    option, text = ("--scaling", scaling) if scaling is not None else ("--stretch", stretch)
    try:
        low, high = (float(part) for part in str(text).split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high or (option == "--stretch" and not 0 <= low < high <= 100):
        raise ConfigError(
            f"{option} {text!r}",
            allowed="two numbers, the lower first: --scaling 0,3000 (values of the raster) or --stretch 2,98 "
            "(percentiles, 0 to 100)",
        )
    return {"low": (low,), "high": (high,)} if option == "--scaling" else {"percentiles": (low, high)}
