"""Which raster settings hold for which raster of a run: those of ``[raster]``, or of the first rule that fits it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any

from geoseg.archive.config import RunConfig
from geoseg.config import RasterSettings
from geoseg.raster.access import is_remote


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Raster settings by path."""

    plain: RasterSettings
    """Where no rule fits."""
    rules: tuple[tuple[str, RasterSettings], ...] = ()
    """Patterns, and what holds for what fits them: the first does."""

    @staticmethod
    def of(config: RunConfig) -> Rules:
        """The rules of a run, their patterns absolute where they name folders."""
        plain = config.settings.raster
        found = [(pattern_of(rule.match, config), plain.model_copy(update=rule.raster)) for rule in config.rule]
        return Rules(plain=plain, rules=tuple(found))

    def raster(self, href: str) -> RasterSettings:
        """What holds for a raster."""
        return next((raster for pattern, raster in self.rules if fits(href, pattern)), self.plain)

    def unused(self, hrefs: Iterable[str]) -> list[str]:
        """The patterns that hold for none of these."""
        used = {id(self.raster(href)) for href in hrefs} if self.rules else set()
        return [pattern for pattern, raster in self.rules if id(raster) not in used]

    def as_values(self) -> list[dict[str, Any]]:
        """As JSON holds them."""
        return [{"match": pattern, "raster": raster.model_dump(mode="json")} for pattern, raster in self.rules]

    @staticmethod
    def told(plain: RasterSettings, values: Sequence[Mapping[str, Any]]) -> Rules:
        """From :meth:`as_values`."""
        rules = ((str(each["match"]), RasterSettings.model_validate(each["raster"])) for each in values)
        return Rules(plain=plain, rules=tuple(rules))


def pattern_of(text: str, config: RunConfig) -> str:
    """A pattern of the run's file as :func:`fits` takes it: absolute where it names folders of this machine."""
    if "/" not in text or is_remote(text):
        return text
    return PurePath(os.path.normpath(config.path(text))).as_posix()  # as the paths of scenes: without ..


def fits(href: str, pattern: str) -> bool:
    """Whether a path or URL fits a pattern: as a whole or, where the pattern names no folder, by its last part.

    ``*`` and ``?`` stand for anything but ``/``, ``**`` for any number of folders. The query of a URL is left out.
    """
    path = re.split("[?#]", href)[0] if is_remote(href) else PurePath(href).as_posix()
    parts = path.split("/")
    return _fit(parts, pattern.split("/")) if "/" in pattern else fnmatchcase(parts[-1], pattern)


def _fit(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _fit(parts, pattern[1:]) or _fit(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _fit(parts[1:], pattern[1:])
