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
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.polygons import clipped, united
from geoseg.turns import Floats, moved, transformed, turn, unwrapped
from geoseg.vectors import LONLAT, Shapes, from_table, read_shapes

_ALLOWED = (
    "a bounding box west,south,east,north in degrees; WKT or a shapely geometry in longitude, latitude; "
    "a GeoDataFrame with a CRS; a GeoJSON, GeoPackage, Shapefile, FlatGeobuf or GeoParquet file"
)
_NUMBER = r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*"
_NUMBERS = re.compile(rf"{_NUMBER}(?:,{_NUMBER})+")
# A file may be called polygon.geojson, and "polygon (1).geojson" where a browser had one before: WKT has no suffix.
_WKT = re.compile(
    r"\s*(?:SRID=\d+;)?\s*(?:MULTI)?(?:POLYGON|POINT|LINESTRING|GEOMETRYCOLLECTION)\s*[ZM]{0,2}\s*(?:\(|EMPTY\b)"
    r"(?!.*\.[A-Z]\w*\s*$)",
    re.IGNORECASE | re.DOTALL,
)
_TOLD = 10_000
"""An AOI of more vertices is summed up in a report, not told."""
_LARGER = 10.0
"""An AOI that meets a raster only with its coordinates swapped was meant for it where it is up to so many times as wide
and as high."""
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
        ConfigError: not understood, no polygon in it, no CRS, or latitude and longitude swapped: where it is about as
            large as the grid; of a larger one that may be chance, and a warning tells.
    """
    given = read_aoi(aoi)
    pixels, warnings, hint = _to_pixels(given.geometry, given.crs, grid), list(given.warnings), ""
    if pixels.is_empty and given.crs.is_geographic and np.abs(given.geometry.bounds[::2]).max() <= 90:
        swapped = shapely.transform(given.geometry, lambda xy: xy[:, ::-1])
        if not _to_pixels(swapped, given.crs, grid).is_empty:
            hint = " (it would with its coordinates swapped: longitude comes first)"
            if np.abs(given.geometry.bounds[1::2]).max() > 90 or _of_a_size(swapped, given.crs, grid):
                raise ConfigError(
                    f"{given.what} that misses the raster, and lies on it with its coordinates swapped",
                    allowed="longitude first, then latitude (x, y)",
                    remedy="Swap latitude and longitude",
                )
    _check_degrees(given)
    if pixels.is_empty:
        nothing = "there is nothing to do, and nothing will be found"
        warnings.append(f"{given.what} does not meet the raster{hint}: {nothing}")
    return pixels, warnings


def _understood(aoi: Any) -> Shapes:
    if isinstance(aoi, geopandas.GeoDataFrame | geopandas.GeoSeries):
        return from_table(aoi, "the AOI table")
    if isinstance(aoi, shapely.Geometry):
        return Shapes(geometries=np.array([aoi], object), crs=LONLAT, what="the AOI geometry")
    if isinstance(aoi, str) and _NUMBERS.fullmatch(aoi):
        return _box([float(part) for part in aoi.split(",")])
    if isinstance(aoi, str) and _WKT.match(aoi):
        return _wkt(aoi)
    if isinstance(aoi, str | os.PathLike):
        return read_shapes(os.fspath(aoi), "AOI")
    if isinstance(aoi, Sequence | np.ndarray) and np.ndim(np.asarray(aoi, object)) and len(aoi) == 4:
        try:
            return _box([float(part) for part in aoi])
        except (TypeError, ValueError):
            pass
    raise ConfigError(f"an AOI of type {type(aoi).__name__} ({str(aoi)[:80]})", allowed=_ALLOWED)


def _box(bounds: list[float]) -> Shapes:
    """West may exceed east: the box then crosses the antimeridian, as in GeoJSON (RFC 7946, section 5.2)."""
    if len(bounds) != 4:
        raise ConfigError(f"an AOI of {len(bounds)} numbers ({str(bounds)[:80]})", allowed=_ALLOWED)
    west, south, east, north = bounds
    what = "the AOI box " + ",".join(f"{value:.15g}" for value in bounds)
    if max(abs(south), abs(north)) > 90 or max(abs(west), abs(east)) > 360:
        raise ConfigError(
            f"{what}, which is not in degrees",
            allowed="west,south,east,north in degrees, whatever the raster's CRS",
            remedy="Put longitude first; coordinates of another CRS take WKT (SRID=32645;POLYGON ((...))) or a file",
        )
    if not all(np.isfinite(bounds)) or south >= north or west == east:
        raise ConfigError(what, allowed="west,south,east,north in degrees, south < north")
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
    area = _polygonal(united(parts))
    if area.area == 0:
        raise ConfigError(f"{given.what}, which holds no ground", allowed="polygons with an area")
    return area, warnings


def _polygonal(geometry: shapely.Geometry) -> shapely.Geometry:
    """Only the polygons of a geometry."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.MultiPolygon(list(parts[shapely.get_type_id(parts) == 3]))


def _of_a_size(area: shapely.Geometry, crs: CRS, grid: Grid) -> bool:
    """Whether an area is about as large as the grid. One that is far larger, such as a district of which an archive has
    a hundred scenes, may well have its mirror image on some scene of another place."""
    x, y, _ = _lattice(crs, grid)
    west, south, east, north = area.bounds
    width, height = (float(np.nanmax(values) - np.nanmin(values)) for values in (x, y))
    return bool(east - west <= _LARGER * width and north - south <= _LARGER * height)


def _check_degrees(given: Area) -> None:
    west, south, east, north = given.geometry.bounds
    whole = turn(given.crs)
    if whole and (max(-south, north) > whole / 4 or max(-west, east) > 1.5 * whole):
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
    x, y, there_and_back = _lattice(crs, grid)
    near, step = _near(area, crs, x, y)
    if near.is_empty:
        return shapely.Polygon()
    there = near
    if crs != grid.crs:
        fine = shapely.segmentize(near, step)
        if not there_and_back:  # the grid reaches beyond 180 degrees: by way of longitudes, which can be unwrapped
            degrees = moved(fine, crs, LONLAT)
            _check_whole(degrees, 180.0, crs, grid)
            return _to_pixels(shapely.make_valid(degrees), LONLAT, grid)
        there = moved(fine, crs, grid.crs)
        if not np.isfinite(shapely.get_coordinates(there)).all():
            raise ConfigError(
                f"an AOI that {grid.crs.name} cannot represent",
                allowed="an AOI near the raster, in a CRS that fits",
            )
    pixels = grid.geometry_to_pixel(np.array([there], object))[0]
    if crs != grid.crs and not crs.is_geographic:
        _check_whole(pixels, max(grid.height, grid.width) / 2, crs, grid)
    return _polygonal(shapely.intersection(shapely.make_valid(pixels), shapely.box(0, 0, grid.width, grid.height)))


def _check_whole(area: shapely.Geometry, longest: float, crs: CRS, grid: Grid) -> None:
    """Refuse an AOI of which an edge that was cut finely is now long: one end of it went to the other side."""
    xy, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(area)), return_index=True)
    edges = np.hypot(*np.diff(xy, axis=0).T)[np.diff(ring) == 0]
    if edges.max(initial=0.0) > longest:
        raise ConfigError(
            f"an AOI in {crs.name} that is torn apart on the way to {grid.crs.name}",
            allowed="an AOI in degrees, or one that keeps to one side of the antimeridian",
            remedy="Reproject it to EPSG:4326, or cut it in two there",
        )


def _lattice(crs: CRS, grid: Grid) -> tuple[Floats, Floats, bool]:
    """Points over the grid, ``(33, 33)`` x and y in ``crs``, NaN where it has none; and whether they lead back.

    Those in another projection do not where that, or the grid's own, counts them from the other side of the earth.
    """
    at = np.linspace(0, 1, _LATTICE)
    ground = np.array(grid.to_world(*np.meshgrid(at * grid.height, at * grid.width, indexing="ij")))
    try:
        x, y = transformed(grid.crs, crs, *ground)
        back = ground if crs.is_geographic else np.array(transformed(crs, grid.crs, x, y))
    except ProjError as error:
        raise ConfigError(f"an AOI in {crs.name}, which does not reach {grid.crs.name} ({error})") from error
    good = np.isfinite(x) & np.isfinite(y)
    extent = np.ptp(ground, axis=(1, 2)).max()
    return (
        np.where(good, x, np.nan),
        np.where(good, y, np.nan),
        not good.any() or bool((np.abs(back - ground)[:, good] < extent / 2).all()),
    )


def _near(area: shapely.Geometry, crs: CRS, x: Floats, y: Floats) -> tuple[shapely.Geometry, float]:
    """The part of ``area`` around the grid's points, and the longest edge allowed there, in units of ``crs``."""
    if np.isnan(x).all():
        return shapely.Polygon(), 1.0
    whole = turn(crs)
    x, round_a_pole = unwrapped(x, whole) if whole else (x, False)
    step = float(np.nanmedian(np.hypot(np.diff(x, axis=1), np.diff(y, axis=1))))
    pad = 2 * step
    (west, east), (south, north) = ((np.nanmin(values) - pad, np.nanmax(values) + pad) for values in (x, y))
    if round_a_pole:  # each meridian once: ground that is covered twice would count as not covered
        west, east = (west + east - whole) / 2, (west + east + whole) / 2
    near = []
    for shift in (-whole, 0.0, whole) if whole else (0.0,):
        # Clipped before it is moved: a huge AOI costs no more than the part of it that lies here.
        part = clipped(area, (west - shift, south, east - shift, north))
        if not part.is_empty:
            near.append(shapely.affinity.translate(part, shift) if shift else part)
    return _polygonal(shapely.make_valid(united(np.array(near, object)))), max(step / _FINER, 1e-12)
