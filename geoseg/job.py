"""A run before and after its blocks: what was given, checked; what came out, sifted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoseg.aoi import load_aoi, read_aoi
from geoseg.blocks import BlockTask
from geoseg.config import RasterSettings, Settings
from geoseg.detectors.base import Detector, ModelCard
from geoseg.errors import ConfigError, ModelError
from geoseg.footprints import EDGE_PX, assemble, on_ground
from geoseg.gaps import Gap
from geoseg.grid import Grid
from geoseg.instances import Chip, Instances
from geoseg.raster import Access, RasterInfo, Scaling, model_grid, open_raster, source_for
from geoseg.report import dissolved, versions
from geoseg.seams import Merged
from geoseg.tiling import Tiling
from geoseg.window import Window

STRAIGHT_PX = 1e-6
"""Pixels that a vertex may lie off a line and still be on it: the noise of cutting and uniting."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A run, checked and ready to start, and what is done with what comes out of its blocks."""

    info: RasterInfo
    """The raster."""
    card: ModelCard
    """The model's."""
    grid: Grid
    """The grid that the model sees."""
    task: BlockTask
    """What is done with each block."""
    settings: Settings
    """All of them."""
    aoi: Any
    """Shapely geometry in grid pixels, cut to the grid; None: everything."""
    aoi_text: str | None
    """The AOI as it was given, as WKT with its EPSG code; None: everything."""
    warnings: tuple[str, ...]
    """What a user should know."""

    @classmethod
    def of(
        cls, raster: str | Path | RasterInfo, model: Detector, *, aoi: Any, tiling: Tiling | None, settings: Settings
    ) -> Job:
        """Look at all that was given, and refuse it now or never. A raster that was opened by :func:`opened` is not
        opened, and hashed, again.

        Raises:
            GeosegError: a raster, model, AOI or settings that cannot be used.
        """
        card = card_of(model)
        if settings.output.crs:
            parse_crs(settings.output.crs)  # refused before any work
        tiling = tiling or tiling_of(settings, card)
        info = raster if isinstance(raster, RasterInfo) else opened(raster, settings)
        grid = model_grid(info, card)
        given = None if aoi is None else read_aoi(aoi)
        area, warnings = (None, []) if given is None else load_aoi(given, grid)
        source = source_for(
            info,
            card,
            scaling=_scaling(settings.raster),
            bands=settings.raster.bands,
            aoi=None if area is None else _reach(area, tiling.halo),
        )
        threshold = settings.detect.score_threshold
        task = BlockTask(
            source=source,
            detector=model,
            plan=tiling.plan(grid.window),
            threshold=card.score_threshold if threshold is None else threshold,
            batch=settings.detect.batch,
            tolerance=settings.vectorize.tolerance_px,
        )
        return cls(
            info=info,
            card=card,
            grid=grid,
            task=task,
            settings=settings,
            aoi=area,
            aoi_text=None if given is None else given.text,
            warnings=(*warnings, *source.warnings),
        )

    @property
    def within(self) -> Window:
        """The part of the grid in which tiles are wanted."""
        return pixel_window(self.task.source.aoi, self.grid)

    @cached_property
    def tiles(self) -> int:
        """Tiles with ground that is asked for."""
        return self.task.count(within=self.within)

    def gaps(self, found: list[Gap]) -> list[Gap]:
        """All ground that was not examined, a gap per reason."""
        found = [gap for gap in found if gap.reason != "outside_aoi"]
        if self.aoi is not None:
            rest = shapely.difference(shapely.box(*self.grid.window.xyxy), self.aoi)
            found.append(Gap(geometry=rest, reason="outside_aoi"))
        return dissolved(found, within=self.aoi)

    def footprints(self, merged: Merged, gaps: list[Gap]) -> gpd.GeoDataFrame:
        """Objects with a point in the AOI and most of their area on valid ground, on the ground."""
        merged = unseamed(merged)
        merged = merged.take(self._wanted(merged.outlines.geometry, gaps))
        table = assemble(
            merged,
            grid=self.grid,
            area=self.grid.window,
            card=self.card,
            raster=self.info.name,
            raster_key=self.info.key,
            acquired=self.info.acquired,
            run=self.identity,
            cut=self._cut(merged.outlines.geometry, gaps),
        )
        least = self.settings.vectorize.min_area_m2
        return table[table["area_m2"] >= least].reset_index(drop=True) if least > 0 else table

    def _wanted(self, geometry: Any, gaps: list[Gap]) -> Any:
        keep = np.ones(len(geometry), bool)
        if self.aoi is not None:
            # The very point of lon and lat: of the same polygon, which another order of its vertices might move.
            points = shapely.point_on_surface(on_ground(shapely.normalize(geometry), self.grid))
            shapely.prepare(self.aoi)
            keep &= shapely.intersects(self.aoi, self.grid.geometry_to_pixel(points))
        area = shapely.area(geometry)
        for gap in gaps:
            if gap.reason in ("nodata", "suspect_missing"):
                keep &= _on_gap(geometry, gap) <= 0.5 * area
        return keep

    def _cut(self, geometry: Any, gaps: list[Gap]) -> Any:
        """Where an object comes to ground that was not examined and may go on there."""
        cut = np.zeros(len(geometry), bool)
        for gap in gaps:
            if gap.reason != "outside_aoi":  # around the AOI a halo's width is examined too
                cut[_near(geometry, gap)] = True
        if self.task.source.aoi is not None:
            shapely.prepare(self.task.source.aoi)
            cut |= ~shapely.covers(self.task.source.aoi, geometry)
        return cut

    @property
    def identity(self) -> str:
        """16 hex digits that are the same for the same raster, card, weights, AOI, settings and version."""
        settings = self.settings.model_dump(mode="json")
        del settings["engine"], settings["tiling"], settings["detect"]
        task = self.task
        parts = {
            "raster": self.info.key,
            "model": self.card.to_json(),
            "weights": _digest(task.detector),
            "tiling": [task.plan.tiling.core, task.plan.tiling.halo],
            "threshold": task.threshold,
            "settings": settings,
            "aoi": None if self.aoi is None else shapely.to_wkb(self.aoi, hex=True),
            "version": versions().get("geoseg"),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A detector of which only the card is asked: a job of it has the tiles and the identity, without the network."""

    card: ModelCard
    """The card."""
    digest: str = ""
    """The digest of its weights."""

    def predict(self, chips: list[Chip]) -> Sequence[Instances]:
        """Never asked: a job that is not run reads no chip."""
        raise AssertionError("a sketch detects nothing")


def unseamed(merged: Merged) -> Merged:
    """Without the vertices that pieces leave on straight lines where they were united: an outline, and the id that
    comes from it, should not tell how the raster was tiled."""
    geometry = merged.outlines.geometry.copy()
    united = merged.n_tiles > 1
    # Normal form starts a ring at its lowest leftmost vertex, a corner: the one vertex that would not be looked at.
    geometry[united] = shapely.simplify(shapely.normalize(geometry[united]), STRAIGHT_PX)
    return replace(merged, outlines=replace(merged.outlines, geometry=geometry))


def card_of(model: object) -> ModelCard:
    """The card of a detector.

    Raises:
        ModelError: it is no detector.
    """
    if not isinstance(model, Detector) or not isinstance(model.card, ModelCard):
        raise ModelError(
            f"a model of type {type(model).__name__}",
            allowed="an object with .card (geoseg.ModelCard) and .predict(list of Chip) -> list of Instances",
            remedy="Load a bundled one with geoseg.load_model('buildings')",
        )
    return model.card


def tiling_of(settings: Settings, card: ModelCard) -> Tiling:
    """The tiling that the settings, or else the card, ask for.

    Raises:
        ConfigError: a halo wider than the core.
    """
    core = card.core if settings.tiling.core is None else settings.tiling.core
    halo = min(card.halo, core) if settings.tiling.halo is None else settings.tiling.halo
    return Tiling(core=core, halo=halo, block=settings.tiling.block)


def opened(raster: str | Path, settings: Settings) -> RasterInfo:
    """A raster's header, read as the settings allow.

    Raises:
        RasterError: it is refused.
    """
    return open_raster(raster, access=access_of(settings.raster), assume_crs=settings.raster.assume_crs)


def access_of(raster: RasterSettings) -> Access:
    """What a raster may reach, by the settings."""
    return Access(
        allow_remote=raster.allow_remote,
        roots=raster.roots,
        max_pixels=raster.max_pixels,
        max_block_bytes=raster.max_block_bytes,
    )


def pixel_window(area: Any, grid: Grid) -> Window:
    """The smallest window of the grid around ``area`` (grid pixels; None: all of the grid)."""
    if area is None:
        return grid.window
    in_pixels = replace(grid, transform=type(grid.transform).identity())
    return in_pixels.window_of(area)


def _scaling(raster: RasterSettings) -> Scaling | None:
    rule = raster.scaling
    if rule is None:
        return None
    return Scaling(low=rule.low or (), high=rule.high or (), percentiles=rule.percentiles)


def _reach(area: Any, halo: int) -> Any:
    """Around the AOI a halo more is examined, so that objects on its border are seen whole."""
    # Simplified first: an AOI of a million vertices would be slow to buffer, and this border may be rough.
    return area if area.is_empty else shapely.buffer(shapely.simplify(area, halo / 8), halo * 9 / 8, quad_segs=2)


def _digest(model: object) -> str:
    """What tells weights of equal cards apart; empty where a detector does not say."""
    digest = getattr(model, "digest", "")
    return digest if isinstance(digest, str) else ""


def _on_gap(geometry: Any, gap: Gap) -> Any:
    """``(n,)`` area of each object that lies on a gap. Part by part: a gap may be of very many."""
    parts = shapely.get_parts(gap.geometry)
    rows, of_part = shapely.STRtree(parts).query(geometry, predicate="intersects")
    return np.bincount(rows, shapely.area(shapely.intersection(geometry[rows], parts[of_part])), len(geometry))


def _near(geometry: Any, gap: Gap) -> Any:
    """Rows of objects that come to a gap."""
    parts = shapely.get_parts(gap.geometry)
    return np.unique(shapely.STRtree(geometry).query(parts, predicate="dwithin", distance=EDGE_PX)[1])


def parse_crs(text: str) -> CRS:
    """The CRS that a setting names.

    Raises:
        ConfigError: it names none.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise ConfigError(f"output.crs = {text!r}", allowed="a CRS such as EPSG:4326") from error
