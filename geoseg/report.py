"""What a run did and what it could not do: the gaps as a table, and the report that decides the exit code."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from itertools import compress
from typing import Any, get_args

import geopandas as gpd
import numpy as np
import shapely
from pyproj.exceptions import ProjError

from geoseg.gaps import EXPECTED, Gap, Reason
from geoseg.grid import Grid
from geoseg.measures import measure
from geoseg.polygons import polygonal, united
from geoseg.vectors import LONLAT, reprojected

_VERSIONS = ("geoseg", "numpy", "shapely", "rasterio", "pyproj", "torch", "torchvision")


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run, in numbers."""

    run: str
    """Identity: the same raster, model, AOI, settings and version give the same."""
    raster: str
    """File name."""
    raster_key: str
    """Content key of the raster."""
    model: str
    """Name in the model's card."""
    model_version: str
    """Version in the model's card."""
    started: str
    """UTC, ISO 8601."""
    seconds: float
    """Wall time."""
    gsd_m: float
    """Ground sampling distance of the grid that the model saw, in metres."""
    model_gsd_m: float | None
    """The one that the model's card names; None: it takes rasters as they are."""
    core: int | tuple[int, int]
    """Side of a tile's core, or its rows and columns, in pixels of that grid, as the run had it."""
    halo: int | tuple[int, int]
    """Rim around the core, in the same pixels."""
    block: int
    """Side of a block, in tiles; changes nothing in what is asked of the detector, but how many chips at once."""
    score_threshold: float
    """What scored less was dropped."""
    aoi: str | None
    """The AOI as WKT with its EPSG code, which gives the same run again (one of very many vertices is only summed
    up); None: all of the raster."""
    tiles_planned: int
    """Tiles with ground that was asked for."""
    tiles_examined: int
    """Tiles that the model saw."""
    tiles_empty: int
    """Tiles without a valid pixel."""
    tiles_unreadable: int
    """Tiles that could not be read at all."""
    tiles_failed: int
    """Tiles that the model failed on."""
    devices: tuple[str, ...]
    """Where the model ran, as far as it says: ``cpu``, ``cuda``, ...; of a network, the last bits depend on it."""
    megapixels: float
    """Million pixels in the cores of the examined tiles."""
    footprints: int
    """Rows in the result."""
    gaps_m2: Mapping[str, float]
    """Square metres not examined, by reason."""
    extent: str | None = None
    """The raster's outline as WKT with its EPSG code (longitude and latitude where its CRS has none); None where
    those would be of another planet."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the run."""
    warnings: tuple[str, ...] = ()
    """What a user should know."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of what it stands on."""

    @classmethod
    def of_text(cls, noted: Mapping[str, str | None]) -> Report:
        """The report that an output tells of its run, where every value is text (:func:`geoseg.sinks.written_run`).

        Raises:
            KeyError, ValueError: it is not whole, or no report's.
        """
        plain = {each.name for each in fields(cls) if str(each.type).startswith("str")}
        names = [each.name for each in fields(cls)]
        values: dict[str, Any] = {name: noted[name] for name in names}
        return cls(**{k: v if v is None or k in plain else json.loads(v) for k, v in values.items()})

    @property
    def complete(self) -> bool:
        """True where all ground that was asked for and holds data was examined."""
        return all(reason in EXPECTED for reason in self.gaps_m2)

    @property
    def exit_code(self) -> int:
        """0: done; 1: done with parts missing."""
        return 0 if self.complete else 1

    @property
    def mp_per_s(self) -> float:
        """Million pixels a second, all told."""
        return self.megapixels / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All of it as one flat mapping, for a ``run`` table or JSON."""
        return {**asdict(self), "mp_per_s": round(self.mp_per_s, 3), "complete": self.complete}


@dataclass(frozen=True, kw_only=True)
class Start:
    """When a run began: by the calendar, and by a clock that nobody sets."""

    moment: datetime = field(default_factory=lambda: datetime.now(UTC))
    """UTC."""
    clock: float = field(default_factory=time.monotonic)
    """Seconds since some moment of this machine's."""

    @property
    def seconds(self) -> float:
        """Since then."""
        return round(time.monotonic() - self.clock, 3)


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = []
    for name in _VERSIONS:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def versions() -> dict[str, str]:
    """Versions of geoseg and of what decides its results."""
    return dict(_versions())


def extent_text(grid: Grid) -> str | None:
    """The outline of a grid as WKT with an EPSG code; its own, or else in longitude and latitude, finely cut, in two at
    180 degrees. None where that code is none of its planet's."""
    frame, epsg = shapely.box(0, 0, grid.width, grid.height), grid.crs.to_epsg()
    if not epsg:
        frame = shapely.segmentize(frame, max(grid.height, grid.width) / 16)
    [ground] = grid.on_earth(grid.geometry_to_world(np.array([frame], dtype=object)))
    if not epsg:
        try:
            ground = reprojected(gpd.GeoDataFrame(geometry=[ground], crs=grid.crs), LONLAT).geometry.iloc[0]
        except ProjError:
            return None
    return f"SRID={epsg or 4326};{shapely.to_wkt(ground, rounding_precision=-1)}"


def dissolved(gaps: Iterable[Gap], *, within: shapely.Geometry | None) -> list[Gap]:
    """One gap per reason that comes to anything, in a fixed order, cut to ``within`` (grid pixels)."""
    parts: dict[str, list[Any]] = {}
    details: dict[str, set[str]] = {}
    for gap in gaps:
        parts.setdefault(gap.reason, []).append(gap.geometry)
        details.setdefault(gap.reason, set()).update({gap.detail} - {""})
    found: list[Gap] = []
    for reason in get_args(Reason):
        if reason not in parts:
            continue
        # By what they are, not by which block was done first: the order decides where vertices of a union lie.
        pieces = sorted(shapely.normalize(shapely.get_parts(parts[reason])), key=shapely.to_wkb)
        whole = united(np.array(pieces, dtype=object))
        if within is not None and reason != "outside_aoi":
            whole = shapely.intersection(whole, within)
        # "failed" comes as whole cores; what of them holds nothing has its own reason already.
        if reason == "failed" and found:
            whole = shapely.difference(whole, shapely.union_all([gap.geometry for gap in found]))
        whole = shapely.normalize(polygonal(np.array([whole], dtype=object))[0])
        if whole.area > 0:
            found.append(Gap(geometry=whole, reason=reason, detail="; ".join(sorted(details[reason])[:3])))
    return found


def gaps_table(gaps: list[Gap], grid: Grid) -> gpd.GeoDataFrame:
    """Gaps on the ground: ``reason``, ``detail``, ``area_m2`` and the geometry, a row each."""
    pixels = np.empty(len(gaps), dtype=object)
    pixels[:] = [gap.geometry for gap in gaps]
    ground = grid.on_earth(grid.geometry_to_world(pixels)) if len(gaps) else pixels
    there = ~shapely.is_empty(ground)
    gaps, ground = list(compress(gaps, there)), ground[there]
    return gpd.GeoDataFrame(
        {
            "reason": np.array([gap.reason for gap in gaps], dtype=object),
            "detail": np.array([gap.detail for gap in gaps], dtype=object),
            "area_m2": measure(ground, grid.crs)["area_m2"] if len(gaps) else np.zeros(0),
        },
        geometry=gpd.GeoSeries(ground, crs=grid.crs),
        crs=grid.crs,
    )
