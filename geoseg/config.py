"""Run settings: TOML to frozen, checked values. A key that geoseg does not know is refused, never ignored."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from geoseg.errors import ConfigError

Pixels = Annotated[int, Field(ge=0, le=65_536)]
Count = Annotated[int, Field(ge=1, le=1024)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_numbers(value: object) -> object:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else _as_tuple(value)


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_as_numbers)]
Pair = Annotated[tuple[float, float], BeforeValidator(_as_tuple)]


class _Section(BaseModel):
    # strict: TOML has types, so "0.5" for a number is a mistake to tell, not to mend.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TilingSettings(_Section):
    """How the raster is cut."""

    core: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Side of a tile's core, in pixels of the grid that the model sees. Unset: the model's."""
    halo: Pixels | None = None
    """Rim around the core, in the same pixels, at most core. Unset: the model's."""
    block: Annotated[int, Field(ge=1, le=64)] = 4
    """Side of a block (the unit of work), in tiles."""


class DetectSettings(_Section):
    """How the network is run."""

    score_threshold: Fraction | None = None
    """Objects that score less are dropped; 0 to 1, no unit. Unset: the model's."""
    batch: Count = 4
    """Chips per call of the network."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?|mps)$")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""


class VectorizeSettings(_Section):
    """How masks become polygons."""

    tolerance_px: Annotated[float, Field(ge=0.0, le=100.0)] = 0.25
    """How much outlines are simplified, in pixels: no point moves farther than twice this; 0: untouched."""
    min_area_m2: NotNegative = 0.0
    """Footprints smaller than this are dropped, in square metres."""


class ScalingSettings(_Section):
    """The rule that brings values that are not 8-bit to 0-255, for every tile: a range or percentiles."""

    low: Numbers | None = None
    """Raster value that becomes 0, in the raster's own unit: one number, or one per band."""
    high: Numbers | None = None
    """Raster value that becomes 255, in the raster's own unit: as many."""
    percentiles: Pair | None = None
    """[2, 98]: the range between these percentiles of the raster's values, measured once per raster."""


class RasterSettings(_Section):
    """What a raster may be, and what is said about it that its file does not say."""

    assume_crs: str | None = None
    """CRS of a raster that carries none, such as EPSG:32645. Unset: such a raster is refused."""
    bands: dict[str, Annotated[int, Field(ge=1)]] | None = None
    """Band number (from 1) of each role, such as {red = 3, green = 2, blue = 1}. Unset: as the file says."""
    scaling: ScalingSettings | None = None
    """{low, high} or {percentiles}: how values become 8-bit. Unset: they stay as they are."""
    allow_remote: bool = False
    """Whether a raster may reach the network (http, s3, ...)."""
    roots: Names = ()
    """Folders that a raster may reach besides its own."""
    max_pixels: Annotated[int, Field(ge=1)] = 10**12
    """Most pixels (rows x columns) of a raster."""
    max_block_bytes: Annotated[int, Field(ge=1)] = 256 * 2**20
    """Most bytes of one decoded block of the file: what the smallest read costs."""


class EngineSettings(_Section):
    """Where the work is done. Changes nothing in the result."""

    scheduler: str | None = None
    """Address of a dask scheduler, such as tcp://host:8786. Unset: threads of this process."""
    workers: Count | None = None
    """Threads when in this process. Unset: one per CPU, 8 at most."""
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Further tries of a block that failed by accident."""
    block_timeout_s: Annotated[float, Field(gt=0.0, le=1e7)] = 3600.0
    """Seconds that one block may take once it has begun; it is then given up as hung."""


class OutputSettings(_Section):
    """What the output is like."""

    crs: str | None = None
    """CRS of the output, such as EPSG:4326. Unset: the raster's. Measures are in metres either way."""


class Settings(_Section):
    """Everything about a run that is not the raster, the model or the AOI.

    ``None`` everywhere means: as the model card, or the raster, says.
    """

    tiling: TilingSettings = TilingSettings()
    """How the raster is cut."""
    detect: DetectSettings = DetectSettings()
    """How the network is run."""
    vectorize: VectorizeSettings = VectorizeSettings()
    """How masks become polygons."""
    raster: RasterSettings = RasterSettings()
    """What a raster may be."""
    engine: EngineSettings = EngineSettings()
    """Where the work is done."""
    output: OutputSettings = OutputSettings()
    """What the output is like."""


def read_settings(path: str | Path) -> Settings:
    """Settings from a TOML file.

    Raises:
        ConfigError: no such file, not TOML, a key twice, an unknown key, a value of the wrong type or out of
            range, or no settings at all; names the file, the line and the nearest valid name.
    """
    try:
        text = Path(path).expanduser().read_bytes().decode("utf-8-sig")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"the settings file {path}, which cannot be read ({error.strerror})", allowed="a TOML file"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path}, which is not valid TOML ({error})",
            allowed="UTF-8 text with each key once, as in configs/runs/default.toml",
            remedy="Mend that line",
        ) from error
    if not values:
        raise ConfigError(
            f"{path}, which holds no settings",
            allowed=f"the sections {_listed(Settings)}",
            remedy="Leave out the settings file to run with the defaults",
        )
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _explained(error, str(path), text) from error


def json_schema() -> str:
    """The JSON schema of a settings file, as JSON text, for editors that check TOML."""
    return json.dumps(Settings.model_json_schema(), indent=2, sort_keys=True)


def _explained(error: ValidationError, path: str, text: str) -> ConfigError:
    """The first thing that is wrong, with its line; how many more there are."""
    # An unknown key first: a misspelt name also leaves the true one missing.
    problems = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    first = problems[0]
    keys = tuple(str(part) for part in first["loc"] if not isinstance(part, int))
    line = _line_of(text, keys)
    where = f"{path}, line {line}" if line else path
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        section = _model_at(keys[:-1])
        near = difflib.get_close_matches(keys[-1], _every_name(section), n=1, cutoff=0.5)
        return ConfigError(
            f"{where}: {'.'.join(keys)} is no setting{more}",
            allowed=_listed(section),
            remedy=f"Did you mean {_where_is(near[0], section)}?" if near else "Take the line out",
        )
    got = repr(first["input"]) if first["type"] != "missing" else "nothing"
    return ConfigError(f"{where}: {'.'.join(keys)} = {got}{more}", allowed=first["msg"][0].lower() + first["msg"][1:])


def _model_at(keys: tuple[str, ...]) -> type[BaseModel]:
    """The section that holds a key."""
    model: type[BaseModel] = Settings
    for key in keys:
        field = model.model_fields.get(key)
        if field is None:
            break
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), model)
    return model


def _every_name(section: type[BaseModel]) -> list[str]:
    """Names valid here, then those of all sections: a key in the wrong section is a common slip."""
    names = list(section.model_fields)
    for key in Settings.model_fields:
        names += [name for name in _model_at((key,)).model_fields if name not in names]
    return names


def _where_is(name: str, section: type[BaseModel]) -> str:
    if name in section.model_fields:
        return name
    home = next(key for key in Settings.model_fields if name in _model_at((key,)).model_fields)
    return f"{name} in [{home}]"


def _listed(section: type[BaseModel]) -> str:
    return ", ".join(section.model_fields)


_HEADER = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"""^\s*(["']?[A-Za-z0-9_-]+["']?(?:\s*\.\s*["']?[A-Za-z0-9_-]+["']?)*)\s*=""")


def _line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """The line (from 1) that sets ``keys`` or, where that is inside a value, the nearest one above it."""
    section: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = found = _split(header[1])
        elif key := _KEY.match(line):
            found = (*section, *_split(key[1]))
        else:
            continue
        if keys[: len(found)] == found and (best is None or len(found) > best[0]):
            best = len(found), number
        elif found[: len(keys)] == keys and best is None:
            best = len(keys), number
    return best[1] if best else None


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
