"""The area of interest: whatever a user has, as one (Multi)Polygon in grid pixels."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import shapely
import shapely.affinity
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.vectors import LONLAT, Shapes, from_table, read_shapes

_ALLOWED = (
    "a bounding box west,south,east,north in degrees; WKT or a shapely geometry in longitude, latitude; "
    "a GeoDataFrame with a CRS; a GeoJSON, GeoPackage, Shapefile, FlatGeobuf or GeoParquet file"
)
_NUMBER = r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*"
_BBOX = re.compile(rf"{_NUMBER}(?:,{_NUMBER}){{3}}")
_WKT = re.compile(r"\s*(?:SRID=\d+;)?\s*(MULTI)?(POLYGON|POINT|LINESTRING|GEOMETRYCOLLECTION)\b", re.IGNORECASE)
_TOLD = 10_000
"""An AOI of more vertices is summed up in a report, not told."""
_LATTICE = 33
"""Points per side at which the grid is looked at in the AOI's CRS."""
_FINER = 8
"""Edges are cut at this fraction of the lattice's step: a chord's sagitta is then far below a pixel."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Area:
    """An AOI in its own CRS."""

    geometry: shapely.Geometry
    """A valid Polygon or MultiPolygon, 2-D."""
    crs: CRS
    """Its CRS; x or longitude first."""
    what: str
    """What to call it in a message."""
    warnings: tuple[str, ...] = ()
    """What was repaired."""

    @property
    def text(self) -> str:
        """WKT that names its EPSG code and gives the same AOI again; a summary where it is too long to be told."""
        count, epsg = shapely.get_num_coordinates(self.geometry), self.crs.to_epsg()
        if count <= _TOLD and epsg:
            return f"SRID={epsg};{shapely.to_wkt(self.geometry, rounding_precision=-1)}"
        digest = hashlib.sha256(shapely.to_wkb(self.geometry, byte_order=1)).hexdigest()[:16]
        bounds = ",".join(f"{value:.9g}" for value in self.geometry.bounds)
        return f"{self.what}: {count} vertices within {bounds} ({self.crs.name}), SHA-256 {digest}"


def read_aoi(aoi: Any) -> Area:
    """An AOI as it was given.

    Args:
        aoi: a bounding box (``"west,south,east,north"`` or four numbers, degrees), WKT or a shapely geometry
            (EPSG:4326, longitude first), a GeoDataFrame or GeoSeries with a CRS, or a vector file in any CRS.

    Raises:
        ConfigError: not understood, no polygon in it, or no CRS.
    """
    if isinstance(aoi, Area):
        return aoi
    given = _understood(aoi)
    area, warnings = _polygons(given)
    # In normal form, so that the same ground told in another order is the same AOI, and the same run.
    return Area(geometry=shapely.normalize(area), crs=given.crs, what=given.what, warnings=tuple(warnings))


def load_aoi(aoi: Any, grid: Grid) -> tuple[shapely.Geometry, list[str]]:
    """An AOI in the pixels of ``grid`` (x = column, y = row), cut to it, and warnings for the user.

    Args:
        aoi: as for :func:`read_aoi`, or what that gave.
        grid: where it is wanted.

    Returns:
        The geometry (empty where AOI and grid do not meet: there is nothing to do), and warnings.

    Raises:
        ConfigError: not understood, no polygon in it, no CRS, or latitude and longitude swapped.
    """
    given = read_aoi(aoi)
    pixels, warnings = _to_pixels(given.geometry, given.crs, grid), list(given.warnings)
    if pixels.is_empty and given.crs.is_geographic:
        swapped = shapely.transform(given.geometry, lambda xy: xy[:, ::-1])
        if not _to_pixels(swapped, given.crs, grid).is_empty:
            raise ConfigError(
                f"{given.what} that misses the raster, and lies on it with its coordinates swapped",
                allowed="longitude first, then latitude (x, y)",
                remedy="Swap latitude and longitude",
            )
    _check_degrees(given)
    if pixels.is_empty:
        warnings.append(f"{given.what} does not meet the raster: there is nothing to do, and nothing will be found")
    return pixels, warnings


def _understood(aoi: Any) -> Shapes:
    if isinstance(aoi, geopandas.GeoDataFrame | geopandas.GeoSeries):
        return from_table(aoi, "the AOI table")
    if isinstance(aoi, shapely.Geometry):
        return Shapes(geometries=np.array([aoi], object), crs=LONLAT, what="the AOI geometry")
    if isinstance(aoi, str) and _BBOX.fullmatch(aoi):
        return _box([float(part) for part in aoi.split(",")])
    if isinstance(aoi, str) and _WKT.match(aoi):
        return _wkt(aoi)
    if isinstance(aoi, str | os.PathLike):
        return read_shapes(os.fspath(aoi), "AOI")
    if isinstance(aoi, Sequence | np.ndarray) and len(aoi) == 4:
        try:
            return _box([float(part) for part in aoi])
        except (TypeError, ValueError):
            pass
    raise ConfigError(f"an AOI of type {type(aoi).__name__} ({str(aoi)[:80]})", allowed=_ALLOWED)


def _box(bounds: list[float]) -> Shapes:
    """West may exceed east: the box then crosses the antimeridian, as in GeoJSON (RFC 7946, section 5.2)."""
    west, south, east, north = bounds
    what = f"the AOI box {west:g},{south:g},{east:g},{north:g}"
    if not all(np.isfinite(bounds)) or south >= north or west == east or max(abs(west), abs(east)) > 360:
        raise ConfigError(what, allowed="west,south,east,north in degrees, south < north")
    if max(abs(south), abs(north)) > 90:
        raise ConfigError(
            f"{what} with a latitude beyond 90 degrees",
            allowed="west,south,east,north in degrees",
            remedy="Put longitude first, and give degrees whatever the raster's CRS",
        )
    if west > east and west - east < 180:
        raise ConfigError(f"{what} with west > east", allowed="west < east, unless it crosses the antimeridian")
    box = shapely.box(west, south, east if west < east else east + 360, north)
    return Shapes(geometries=np.array([box], object), crs=LONLAT, what=what)


def _wkt(text: str) -> Shapes:
    match = re.match(r"\s*SRID=(\d+);", text, re.IGNORECASE)
    try:
        geometry = shapely.from_wkt(text[match.end() :] if match else text)
        crs = CRS.from_epsg(int(match.group(1))) if match else LONLAT
    except (shapely.errors.ShapelyError, CRSError) as error:
        raise ConfigError(f"WKT that cannot be read ({str(error)[:200]})", allowed=_ALLOWED) from error
    return Shapes(geometries=np.array([geometry], object), crs=crs, what="the AOI's WKT")


def _polygons(given: Shapes) -> tuple[shapely.Geometry, list[str]]:
    """All polygons as one valid geometry, 2-D; repairs are told."""
    parts = shapely.force_2d(given.geometries[~shapely.is_missing(given.geometries)])
    parts = shapely.get_parts(shapely.get_parts(parts))
    parts = parts[(shapely.get_type_id(parts) == 3) & ~shapely.is_empty(parts)]
    if not len(parts):
        raise ConfigError(f"{given.what} with no polygon in it", allowed="polygons that hold some ground")
    if not np.isfinite(shapely.get_coordinates(parts)).all():
        raise ConfigError(f"{given.what} with coordinates that are not finite", allowed="finite coordinates")
    broken = ~shapely.is_valid(parts)
    warnings = []
    if broken.any():
        reason = shapely.is_valid_reason(parts[broken][0])
        warnings.append(f"{given.what}: {int(broken.sum())} invalid polygon(s) were repaired ({reason})")
        parts[broken] = shapely.make_valid(parts[broken])
    area = _polygonal(shapely.union_all(parts))
    if area.area == 0:
        raise ConfigError(f"{given.what}, which holds no ground", allowed="polygons with an area")
    return area, warnings


def _polygonal(geometry: shapely.Geometry) -> shapely.Geometry:
    """Only the polygons of a geometry."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.MultiPolygon(list(parts[shapely.get_type_id(parts) == 3]))


def _check_degrees(given: Area) -> None:
    west, south, east, north = given.geometry.bounds
    if given.crs.is_geographic and (max(-south, north) > 90 or max(-west, east) > 540):
        raise ConfigError(
            f"{given.what} with coordinates {west:.6g}, {south:.6g}, which are not degrees",
            allowed="longitude, latitude in degrees",
            remedy="Use a file or table that names its CRS for other coordinates",
        )


def _to_pixels(area: shapely.Geometry, crs: CRS, grid: Grid) -> shapely.Geometry:
    """Clip near the grid, cut long edges, reproject, clip to the grid.

    Clipping first keeps the cut edges short where it matters, whatever the AOI's size; degrees are unwrapped
    to the grid's side of the antimeridian.
    """
    near, step = _near(area, crs, grid)
    whole = shapely.box(0, 0, grid.width, grid.height)
    if near.is_empty:
        return shapely.Polygon()
    moved = near
    if crs != grid.crs:
        transformer = Transformer.from_crs(crs, grid.crs, always_xy=True)
        moved = shapely.transform(
            shapely.segmentize(near, step),
            lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])),
        )
        if not np.isfinite(shapely.get_coordinates(moved)).all():
            raise ConfigError(
                f"an AOI that {grid.crs.name} cannot represent",
                allowed="an AOI near the raster, in a CRS that fits",
            )
    pixels = grid.geometry_to_pixel(np.array([moved], object))[0]
    return _polygonal(shapely.intersection(shapely.make_valid(pixels), whole))


def _near(area: shapely.Geometry, crs: CRS, grid: Grid) -> tuple[shapely.Geometry, float]:
    """The part of ``area`` around the grid, and the longest edge allowed there, in units of ``crs``."""
    at = np.linspace(0, 1, _LATTICE)
    x, y = grid.to_world(*np.meshgrid(at * grid.height, at * grid.width, indexing="ij"))
    try:
        x, y = Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y)
    except ProjError as error:
        raise ConfigError(f"an AOI in {crs.name}, which does not reach {grid.crs.name} ({error})") from error
    good = np.isfinite(x) & np.isfinite(y)
    if not good.any():
        return shapely.Polygon(), 1.0
    shifts: tuple[int, ...] = (0,)
    if crs.is_geographic:
        shifts, middle = (-360, 0, 360), x[good][len(x[good]) // 2]
        x[good] = (x[good] - middle + 180) % 360 - 180 + middle
    x[~good], y[~good] = np.nan, np.nan
    step = float(np.nanmedian(np.hypot(np.diff(x, axis=1), np.diff(y, axis=1))))
    pad = 2 * step
    near = []
    for shift in shifts:
        # Clipped before it is moved: a huge AOI costs no more than the part of it that lies here.
        west, east = np.nanmin(x) - pad - shift, np.nanmax(x) + pad - shift
        part = shapely.clip_by_rect(area, west, np.nanmin(y) - pad, east, np.nanmax(y) + pad)
        if not part.is_empty:
            near.append(shapely.affinity.translate(part, shift) if shift else part)
    return _polygonal(shapely.make_valid(shapely.union_all(near))), max(step / _FINER, 1e-12)
