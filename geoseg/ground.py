"""From merged outlines to footprints: which are kept, which are cut, and how they lie on the ground."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from geoseg.config import Settings
from geoseg.errors import ConfigError
from geoseg.footprints import EDGE_PX, Keys, Told, at_edge, drawn, on_ground
from geoseg.gaps import Gap
from geoseg.grid import Grid
from geoseg.polygons import pieces, prepared
from geoseg.scope import Scope
from geoseg.seams import Merged
from geoseg.shaping import Drafts, Shaping, drafted, settled
from geoseg.turns import geographic
from geoseg.vectors import reprojected

STRAIGHT_PX = 1e-6
"""Pixels that a vertex may lie off a line and still be on it: the noise of cutting and uniting."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """All that decides what becomes of an object once it is whole. A function of each group of rows alone."""

    scope: Scope
    """What the run is of."""
    settings: Settings
    """All of them."""
    gaps: tuple[Gap, ...]
    """All ground that was not examined."""
    run: str
    """The run's identity."""

    @cached_property
    def shaping(self) -> Shaping:
        """How merged outlines are brought into shape."""
        return Shaping.of(self.settings.shapes, self.scope.card, self.scope.grid)

    @cached_property
    def _gaps(self) -> list[_Gap]:
        return [_Gap.of(gap) for gap in self.gaps]

    def footprints(self, merged: Merged, drafts: Drafts | None = None) -> tuple[gpd.GeoDataFrame, Keys]:
        """Objects with a point in the AOI and most of their area on valid ground, in shape, on the ground.

        Args:
            merged: whole groups of objects (:func:`geoseg.neighbourhood.together`), as :func:`unseamed` leaves them.
            drafts: of the same rows, where they are known.

        Returns:
            Rows in order, and what they are ordered by.
        """
        cut = self._cut(merged.outlines.geometry)  # by what was seen, not by what is drawn
        drafts = drafts or drafted(merged.outlines, self.shaping)
        merged = replace(merged, outlines=settled(drafts, self.shaping))
        there = ~shapely.is_empty(merged.outlines.geometry)
        merged, cut = merged.take(there), cut[there]
        wanted = self._wanted(merged.outlines.geometry)
        scope = self.scope
        told = Told(card=scope.card, raster=scope.name, raster_key=scope.key, acquired=scope.acquired, run=self.run)
        table, keys = drawn(merged.take(wanted), grid=scope.grid, told=told, cut=cut[wanted])
        large = table["area_m2"].to_numpy() >= self.settings.vectorize.min_area_m2
        if not large.all():
            table = table[large].reset_index(drop=True)
            keys = Keys(top=keys.top[large], left=keys.left[large], shape=keys.shape[large])
        return in_crs(table, self.settings), keys

    def _wanted(self, geometry: NDArray[Any]) -> NDArray[np.bool_]:
        keep = np.ones(len(geometry), np.bool_)
        if self.scope.grid.earth is not None:
            keep &= ~shapely.is_empty(on_ground(geometry, self.scope.grid))
        if self.scope.aoi is not None:
            # The very point of lon and lat: of the same polygon, which another order of its vertices might move.
            points = shapely.point_on_surface(on_ground(shapely.normalize(geometry), self.scope.grid))
            keep &= shapely.intersects(prepared(self.scope.aoi), self.scope.grid.geometry_to_pixel(points))
        area = shapely.area(geometry)
        for gap in self._gaps:
            if gap.reason in ("nodata", "suspect_missing"):
                keep &= gap.under(geometry) <= 0.5 * area
        return keep

    def _cut(self, geometry: NDArray[Any]) -> NDArray[np.bool_]:
        """Where an object comes to ground that was not examined and may go on there."""
        grid = self.scope.grid
        cut = at_edge(geometry, grid)
        if grid.earth is not None:
            cut |= grid.off_earth(grid.geometry_to_world(geometry))
        for gap in self._gaps:
            if gap.reason != "outside_aoi":  # around the AOI a halo's width is examined too
                cut[gap.near(geometry)] = True
        if self.scope.reach is not None:
            cut |= ~shapely.covers(prepared(self.scope.reach), geometry)
        return cut


def in_crs(table: gpd.GeoDataFrame, settings: Settings) -> gpd.GeoDataFrame:
    """A table in the CRS that the settings ask for."""
    return reprojected(table, parse_crs(settings.output.crs)) if settings.output.crs else table


def parse_crs(text: str, setting: str = "output.crs") -> CRS:
    """The CRS that a setting names.

    Raises:
        ConfigError: it names none, or one of heights or of places within the earth.
    """
    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        raise ConfigError(f"{setting} = {text!r}", allowed="a CRS such as EPSG:4326") from error
    if geographic(crs) is None:
        raise ConfigError(f"{setting} = {text!r} ({crs.type_name})", allowed="a geographic or projected CRS")
    return crs


def check_output_crs(settings: Settings, grid: Grid) -> None:
    """Refuse an output CRS in which nothing on a grid has a place.

    Raises:
        ConfigError: it is so, or it is none.
    """
    if settings.output.crs is None:
        return
    rows, cols = np.meshgrid(np.linspace(0, grid.height, 9), np.linspace(0, grid.width, 9))
    x, y = grid.to_world(rows.ravel(), cols.ravel())
    try:
        move = Transformer.from_crs(grid.crs, parse_crs(settings.output.crs), always_xy=True)
        reached = bool(np.isfinite(move.transform(x, y)).all(axis=0).any())
    except ProjError:
        reached = False
    if not reached:
        raise ConfigError(
            f"output.crs = {settings.output.crs!r}, in which no place of a raster in {grid.crs.name} lies",
            allowed="a CRS of the raster's part of the earth",
            remedy="Leave it out to keep the raster's own",
        )


def unseamed(merged: Merged) -> Merged:
    """Without the vertices that pieces leave on straight lines where they were united: an outline, and the id that
    comes from it, should not tell how the raster was tiled."""
    geometry = merged.outlines.geometry.copy()
    united = merged.n_tiles > 1
    # Normal form starts a ring at its lowest leftmost vertex, a corner: the one vertex that would not be looked at.
    geometry[united] = shapely.simplify(shapely.normalize(geometry[united]), STRAIGHT_PX)
    return replace(merged, outlines=replace(merged.outlines, geometry=geometry))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gap:
    """The polygons of a gap, to be looked up by place: very many, or one with the border of all that holds data."""

    reason: str
    parts: NDArray[Any]
    tree: shapely.STRtree

    @staticmethod
    def of(gap: Gap) -> _Gap:
        parts = pieces(np.array([gap.geometry], dtype=object))
        return _Gap(reason=gap.reason, parts=parts, tree=shapely.STRtree(parts))

    def under(self, geometry: NDArray[Any]) -> NDArray[np.float64]:
        """``(n,)`` area of each object that lies on the gap."""
        rows, of_part = self.tree.query(geometry, predicate="intersects")
        found = np.bincount(
            rows, shapely.area(shapely.intersection(geometry[rows], self.parts[of_part])), len(geometry)
        )
        return found.astype(np.float64)

    def near(self, geometry: NDArray[Any]) -> NDArray[np.int64]:
        """Rows of objects that come to the gap."""
        return np.unique(self.tree.query(geometry, predicate="dwithin", distance=EDGE_PX)[0])
