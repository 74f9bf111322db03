"""Which rasters a run is over: patterns, paths, lists, indexes of footprints and searches, told as scenes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from geoseg.archive.config import RunConfig
from geoseg.archive.globs import matching
from geoseg.archive.rules import fits, pattern_of
from geoseg.errors import ConfigError, GeosegError
from geoseg.job import access_of
from geoseg.raster.access import is_remote, name_of
from geoseg.stac.filters import on_earth
from geoseg.stac.reach import shown
from geoseg.stac.scene import Scene
from geoseg.stac.search import search
from geoseg.stac.settings import StacSettings
from geoseg.turns import moved
from geoseg.vectors import LONLAT, read_table

log = logging.getLogger("geoseg")


def scenes(config: RunConfig) -> Iterator[Scene]:
    """All scenes of a run but what it excludes, in the order of the settings; one that is named twice comes twice.

    Raises:
        ConfigError: a list or an index that cannot be used, a pattern in a folder that is not there, or a catalogue
            that is none or leads where it may not.
        ResourceError: a catalogue's server fails.
    """
    patterns, left_out = [pattern_of(text, config) for text in config.input.exclude], 0
    for scene in _named(config):
        if any(fits(scene.href, pattern) for pattern in patterns):
            left_out += 1
        else:
            yield scene
    if patterns:
        log.info("%s left out by [input] exclude", f"{left_out:,} scene{'' if left_out == 1 else 's'}")


def _named(config: RunConfig) -> Iterator[Scene]:
    given = config.input
    for pattern in given.globs:
        yield from _globbed(config.path(pattern))
    for path in given.paths:
        yield at(path, config)
    if given.list is not None:
        yield from _listed(config.path(given.list), config)
    if given.index is not None:
        yield from _indexed(config.path(given.index), given.index_column, config)
    if given.stac is not None:
        yield from _searched(_rooted(given.stac, config), config)


def at(path: str, config: RunConfig, **known: Any) -> Scene:
    """The scene at a path or URL; one in an unknown ``~user`` is as written, and found out as a bad one in its turn."""
    try:
        href = path if is_remote(path) else os.path.normpath(config.path(path))
    except ConfigError:
        href = path
    return Scene(href=href, name=name_of(href) or href, **known)


def _globbed(pattern: Path) -> Iterator[Scene]:
    # Sorted, so that a run goes through an archive, and names what collides, in the same order every time.
    found = matching(pattern)
    for path in found:
        yield Scene(href=os.path.normpath(path), name=name_of(path))
    if not found:
        log.warning("no file matches %s", pattern)


def _listed(path: Path, config: RunConfig) -> Iterator[Scene]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
            for line in lines:
                if "\0" in line:  # in no path; in every line of UTF-16, which PowerShell writes
                    raise ConfigError(
                        f"the list {path}, which is no text in UTF-8",
                        allowed="a text file of paths, one per line",
                        remedy="Save it as UTF-8",
                    )
                text = line.strip()
                if text and not text.startswith("#"):
                    yield at(text, config)
    except OSError as error:
        raise ConfigError(
            f"the list {path}, which cannot be read ({error.strerror})",
            allowed="a text file of paths, one per line",
            remedy="Mend [input] list",
        ) from error


def _indexed(path: Path, column: str, config: RunConfig) -> Iterator[Scene]:
    """The scenes of an index: ``datetime`` or ``acquired`` dates them, and the footprint is kept as their extent."""
    table = read_table(path, "index")
    if column not in table.columns:
        raise ConfigError(
            f"the index {path} without a column {column!r}",
            allowed=f"one of its columns: {', '.join(map(str, table.columns[:20]))}",
            remedy="Set [input] index_column",
        )
    extents = _extents(table)
    dates = next((name for name in ("acquired", "datetime") if name in table.columns), None)
    paths = table[column].to_numpy(dtype=object)
    moments = table[dates].to_numpy(dtype=object) if dates else [None] * len(table)
    for text, moment, extent in zip(paths, moments, extents, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(
                f"the index {path} with an empty path in a row", remedy="Fill the column, or drop the row"
            )
        yield at(text.strip(), config, acquired=_moment(moment), extra={"extent": extent} if extent else {})


def _rooted(wanted: StacSettings, config: RunConfig) -> StacSettings:
    """A search with paths that start where the run's do: a URL is no such path, nor is an AOI in words."""
    moved = {}
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", wanted.url):
        moved["url"] = str(config.path(wanted.url))
    if wanted.aoi is not None and (aoi := config.file(wanted.aoi)) is not None:
        moved["aoi"] = str(aoi)
    return wanted.model_copy(update=moved)


def _searched(wanted: StacSettings, config: RunConfig) -> Iterator[Scene]:
    """What a search finds; the items that are wanted and give no scene last, as scenes that are refused: their ground
    is not examined, which the run has to say."""
    passed: list[Scene] = []

    def passed_by(item: str, error: GeosegError) -> None:
        log.warning("passed by: %s", error)
        name = item or f"item {len(passed)}"
        passed.append(Scene(href=f"{shown(wanted.url)}/{name}", name=name, extra={"refused": str(error)}))

    yield from search(wanted, access_of(config.raster), passed_by=passed_by)
    yield from passed


def _extents(table: Any) -> list[list[float] | None]:
    """West, south, east, north of each footprint, in degrees, west being east of east across the antimeridian; None
    where it has none, or lies nowhere on the earth."""
    bounds = shapely.bounds((table.geometry if table.crs is None else table.geometry.to_crs(4326)).to_numpy())
    bounds[~np.isfinite(bounds)] = np.nan
    for i in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180):
        shape = table.geometry.iloc[i]
        bounds[i, [0, 2]] = _span(shape if table.crs is None else moved(shape, CRS(table.crs), LONLAT))
    return [[float(edge) for edge in row] if on_earth(row) else None for row in bounds]


def _span(shape: Any) -> tuple[float, float]:
    """West and east of degrees; of what is cut at the antimeridian as of one piece."""
    west, _, east, _ = shapely.bounds(shapely.get_parts(shape)).T
    if west.min() + 180 < east.max() and (east - west <= 180).all():
        on = 360 * (east <= 0)
        west, east = west + on, east + on
    return float(west.min() + 360 * (west.min() < -180)), float(east.max() - 360 * (east.max() > 180))


def _moment(value: Any) -> datetime | None:
    """A date of an index; None where it is empty. A number is a year, or a day as 20260304: never a clock's count."""
    if value is None or pd.isna(value) or not (text := str(value).strip()):
        return None
    try:
        if not re.match(r"\d{4}([-/\d]|$)", text):
            raise ValueError(text)  # pandas takes "now" for a date, and 2026.5 for May
        stamp: datetime = pd.to_datetime(text, format="ISO8601").to_pydatetime()
        return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"a date {value!r} in the index", allowed="ISO 8601, or nothing") from error
