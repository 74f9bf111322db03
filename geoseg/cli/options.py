"""Options of a run as settings: the command line wins over the settings file, which wins over defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoseg.cli.console import flag
from geoseg.errors import ConfigError
from geoseg.paths import expanded

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from geoseg.config import Settings

# What several commands take, said once.
Raster = Annotated[str, typer.Argument(help="The raster.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, as its file names it.")]
Aoi = Annotated[
    str | None,
    typer.Option(
        help="Only objects with a point inside in this area, whole: a vector file, w,s,e,n in degrees, or WKT."
    ),
]
AssumeCrs = Annotated[str | None, typer.Option(help="CRS of a raster that states none.")]
Config = Annotated[Path | None, typer.Option(help="Settings (TOML); options here win over it.")]
OutputFile = Annotated[
    Path, typer.Option("--output", "-o", help="File to write (.gpkg, .parquet, .fgb, .geojson), or folder.")
]
Core = Annotated[
    str | None, typer.Option(help="Side of a tile's core, in pixels the model sees; ROWS,COLUMNS where they differ.")
]
Halo = Annotated[str | None, typer.Option(help="Rim around the core, in the same pixels; likewise.")]
ScoreThreshold = Annotated[float | None, typer.Option(help="Drop what scores less, 0 to 1.")]
Regularize = Annotated[
    str | None,
    typer.Option(help="Redraw outlines: none, buildings (right angles) or ships (hulls); unset: as the model asks."),
]
KeepOverlaps = Annotated[bool, flag("--keep-overlaps", help="Let footprints of a class overlap.")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, e.g. tcp://host:8786.")]
Workers = Annotated[int | None, typer.Option(help="Threads on this machine, of each process.")]
Processes = Annotated[int | None, typer.Option(help="Processes on this machine; unset: only this one.")]
DryRun = Annotated[bool, flag("--dry-run", help="Check everything, say what would be done.")]
Again = Annotated[bool, flag("--again", help="Work even where OUTPUT is whole and of this very run already.")]
Force = Annotated[bool, flag("--force", help="Replace an output that looks open elsewhere.")]
ReportFile = Annotated[Path | None, typer.Option(help="Also write the run's report, as JSON.")]


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
        raise ConfigError(f"{option} {first['input']}", allowed=_allowed(first)) from error


def _allowed(problem: ErrorDetails) -> str:
    """What pydantic says of a value, in words for somebody at a command line."""
    from geoseg.tomls import said

    bounds = problem.get("ctx", {})
    if "pattern" in bounds and "device" in problem["loc"]:
        return "auto, cpu, cuda, cuda:N, mps, openvino (Mask R-CNNs, ONNX models), tensorrt (ONNX models)"
    return said(problem).removeprefix("Input should be ")


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
        ConfigError: both, or no two numbers.
    """
    if scaling is None and stretch is None:
        return None
    if scaling is not None and stretch is not None:
        raise ConfigError("--scaling and --stretch together", allowed="one of them")
    option, text = ("--scaling", scaling) if scaling is not None else ("--stretch", stretch)
    try:
        low, high = (float(part) for part in str(text).split(","))
    except ValueError:
        raise ConfigError(
            f"{option} {text!r}",
            allowed="two numbers: --scaling 0,3000 (values of the raster) or --stretch 2,98 (percentiles)",
        ) from None
    return {"low": (low,), "high": (high,)} if option == "--scaling" else {"percentiles": (low, high)}
