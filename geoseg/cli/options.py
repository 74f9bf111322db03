"""Options of a run as settings: what the command line says wins over the settings file, which wins over defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import ConfigError

if TYPE_CHECKING:
    from geoseg.config import Settings


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
    for section, keys in overrides.items():
        values[section].update({key: value for key, value in keys.items() if value is not None})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where} = {first['input']!r}", allowed=str(first["msg"])) from error


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
        raise ConfigError(
            f"--bands {text!r}", allowed="roles with band numbers from 1, e.g. red=3,green=2,blue=1"
        )
    return bands


def parse_range(text: str | None) -> dict[str, float] | None:
    """``0,3000`` as the low and high of a scaling.

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--scaling {text!r}", allowed="two numbers LOW,HIGH in the raster's own unit, e.g. 0,3000"
        ) from None
    return {"low": low, "high": high}
