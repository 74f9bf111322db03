"""Where pixels lie on the ground."""

from __future__ import annotations

import math
import operator
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyproj.network
import shapely
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError

from geoseg.errors import ConfigError, RasterError
from geoseg.polygons import gather, polygonal
from geoseg.turns import geographic
from geoseg.window import Window

# A result must not follow from what a server answers, so no datum shift grid is ever fetched: pyproj is told, and
# by the environment GDAL, which has no setting of its own for it, and the processes that are started from here.
pyproj.network.set_network_enabled(False)  # type: ignore[attr-defined]
os.environ["PROJ_NETWORK"] = "OFF"

_RAYS, _HALVINGS = 1024, 50
"""How finely the rim of the earth is looked for: chords of so many rays are within 1e-5 of a circle's area."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A raster's pixel lattice: CRS, transform and size. Knows nothing of pixel values.

    Raises:
        RasterError: an empty size, a transform that cannot be inverted, or what is no CRS, transform or size at all.
    """

    crs: CRS
    """Coordinate reference system of the ground coordinates; anything that pyproj takes for one becomes one."""
    transform: Affine
    """Pixel (col, row) to ground (x, y); (0, 0) is the outer corner of the corner pixel."""
    height: int
    """Rows."""
    width: int
    """Columns."""

    def __post_init__(self) -> None:
        if not isinstance(self.crs, CRS):
            object.__setattr__(self, "crs", _understood(self.crs))
        if not isinstance(self.transform, Affine):
            said = f"a transform of type {type(self.transform).__name__}"
            raise RasterError(said, allowed="an affine.Affine, such as that of an open rasterio dataset")
        for name in ("height", "width"):
            try:
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            except TypeError as error:
                raise RasterError(
                    f"a grid with {name} = {getattr(self, name)!r}", allowed="whole numbers of pixels"
                ) from error
        if self.height < 1 or self.width < 1:
            raise RasterError(f"a raster of {self.height} x {self.width} pixels", allowed="at least 1 x 1")
        determinant = self.transform.determinant
        if not math.isfinite(determinant) or determinant == 0.0:
            raise RasterError(
                f"a transform that maps pixels onto a line or nowhere ({tuple(self.transform)[:6]})",
                allowed="an invertible affine transform",
                remedy="Georeference the raster first, e.g. with gdalwarp",
            )

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(row_off=0, col_off=0, height=self.height, width=self.width)

    @cached_property
    def gsd_xy_m(self) -> tuple[float, float]:
        """Ground length in metres of one pixel step along columns and along rows, at the centre.

        Geodesic distance on the CRS's ellipsoid, so right for degrees and for EPSG:3857 too. It is taken over many
        pixels but at most 1000 and some 10 km, across which a geodesic is as long as the lattice's own line.

        Raises:
            RasterError: the centre has no longitude and latitude in this CRS, or a pixel no length.
        """
        # A span of many pixels keeps the differences well above the noise of the projection's arithmetic; one pixel is
        # enough to say how many those may be.
        step = self._steps_m(0.5, 0.5)
        sizes = (self.width, self.height)
        return self._steps_m(*(max(0.5, min(n / 4, 500.0, 5000.0 / m)) for n, m in zip(sizes, step, strict=True)))

    def _steps_m(self, half_cols: float, half_rows: float) -> tuple[float, float]:
        """Ground length of a pixel step, over so many pixels to both sides of the centre."""
        col, row = self.width / 2.0, self.height / 2.0
        cols = np.array([col - half_cols, col + half_cols, col, col])
        rows = np.array([row, row, row - half_rows, row + half_rows])
        lon, lat = self.to_lonlat(rows, cols)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            raise RasterError(
                f"a raster whose centre lies outside {self.crs.name}",
                allowed="coordinates inside the CRS's area of use",
                remedy="Check its CRS with gdalinfo; if that is wrong, set the true one with gdal_edit -a_srs",
            )
        _, _, length = self.geod.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
        if not length.all():
            raise RasterError(
                f"a raster whose pixels have no length on the ground (a transform of {tuple(self.transform)[:6]})",
                allowed="pixels that coordinates of 64 bits can tell apart",
                remedy="Check its size of a pixel and the units of its CRS with gdalinfo; georeference it anew, e.g. "
                "with gdal_translate -a_ullr and -a_srs",
            )
        return float(length[0]) / (2 * half_cols), float(length[1]) / (2 * half_rows)

    @property
    def gsd_m(self) -> float:
        """Ground sampling distance in metres: the geometric mean of both pixel steps."""
        x, y = self.gsd_xy_m
        return math.sqrt(x * y)

    @cached_property
    def geod(self) -> Geod:
        """The CRS's ellipsoid, for lengths and areas."""
        return self.crs.get_geod() or Geod(ellps="WGS84")

    @cached_property
    def earth(self) -> shapely.Geometry | None:
        """What of its ground lies on the earth (ground coordinates), as seen from its centre; None: all of it.

        The corners of a world in an oval (Mollweide), or of a satellite's view of the whole disk, lie nowhere.
        """
        if geographic(self.crs) is None:
            return None
        at = np.linspace(0.0, 1.0, _RAYS // 4, endpoint=False)
        rows = (np.concatenate([at * 0, at, at * 0 + 1, 1 - at]) - 0.5) * self.height
        cols = (np.concatenate([at, at * 0 + 1, 1 - at, at * 0]) - 0.5) * self.width

        def there(share: NDArray[np.float64]) -> NDArray[np.bool_]:
            lon, lat = self.to_lonlat(self.height / 2 + share * rows, self.width / 2 + share * cols)
            return np.asarray(np.isfinite(lon) & np.isfinite(lat), np.bool_)

        far = np.ones(_RAYS)
        near = there(far).astype(np.float64)
        if near.all():
            return None
        for _ in range(_HALVINGS):
            good = there(middle := (near + far) / 2)
            near, far = np.where(good, middle, near), np.where(good, far, middle)
        near[far < 1] *= 1 - 1e-6  # at the very rim projections are unsound, and rounding may go beyond it
        ground = self.to_world(self.height / 2 + near * rows, self.width / 2 + near * cols)
        return shapely.Polygon(np.column_stack(ground))

    def on_earth(self, geometry: NDArray[Any]) -> NDArray[Any]:
        """``(n,)`` valid polygons on the ground without what lies nowhere on the earth; empty where nothing is left."""
        if self.earth is None:
            return geometry
        parts, owner = shapely.get_parts(geometry, return_index=True)
        lost = self.off_earth(parts)
        if not lost.any():
            return geometry
        # These alone: behind the gaps of an interrupted projection there is ground that the centre does not see.
        cut, of = shapely.get_parts(polygonal(shapely.intersection(parts[lost], self.earth)), return_index=True)
        there = ~shapely.is_empty(cut)
        found = np.concatenate([parts[~lost], cut[there]]), np.concatenate([owner[~lost], owner[lost][of[there]]])
        return gather(*found, len(geometry))

    def off_earth(self, geometry: NDArray[Any]) -> NDArray[np.bool_]:
        """``(n,)`` True for geometries on the ground of which a vertex lies nowhere on the earth."""
        off = np.zeros(len(geometry), np.bool_)
        if self.earth is not None:
            xy, owner = shapely.get_coordinates(geometry, return_index=True)
            lon, lat = lonlat(self.crs, xy[:, 0], xy[:, 1])
            off[owner[~(np.isfinite(lon) & np.isfinite(lat))]] = True
        return off

    def to_world(self, rows: ArrayLike, cols: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ground ``(x, y)`` of pixel positions; fractions count from the outer corner of a pixel."""
        t, r, c = self.transform, np.asarray(rows, float), np.asarray(cols, float)
        return t.a * c + t.b * r + t.c, t.d * c + t.e * r + t.f

    def to_pixel(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel ``(rows, cols)`` of ground positions: the inverse of :meth:`to_world`."""
        t, gx, gy = ~self.transform, np.asarray(x, float), np.asarray(y, float)
        return t.d * gx + t.e * gy + t.f, t.a * gx + t.b * gy + t.c

    def to_lonlat(self, rows: ArrayLike, cols: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude in degrees on the CRS's own datum; infinite where there is none."""
        x, y = self.to_world(rows, cols)
        return lonlat(self.crs, x, y)

    def at_gsd(self, gsd_m: float) -> Grid:
        """The same ground with square ground pixels of about ``gsd_m`` metres.

        The extent is kept exactly, so the GSD is rounded to a whole number of pixels.

        Raises:
            ConfigError: not above 0, or not finite.
        """
        if not 0 < gsd_m < math.inf:
            raise ConfigError(f"a GSD of {gsd_m:g} m", allowed="metres on the ground, more than 0")
        x, y = self.gsd_xy_m
        height, width = max(1, round(self.height * y / gsd_m)), max(1, round(self.width * x / gsd_m))
        return self.resized(height=height, width=width)

    def resized(self, *, height: int, width: int) -> Grid:
        """The same ground cut into ``height`` x ``width`` pixels."""
        scale = Affine.scale(self.width / width, self.height / height)
        return replace(self, transform=self.transform @ scale, height=height, width=width)

    def crop(self, window: Window) -> Grid:
        """The part in ``window``."""
        shift = Affine.translation(window.col_off, window.row_off)
        return replace(self, transform=self.transform @ shift, height=window.height, width=window.width)

    def window_of(self, area: shapely.Geometry) -> Window:
        """The smallest window that holds ``area`` (ground coordinates of this CRS), cut to the grid.

        Height or width is 0 where they do not meet.
        """
        if area.is_empty:
            return Window(row_off=0, col_off=0, height=0, width=0)
        xy = shapely.get_coordinates(area)
        rows, cols = self.to_pixel(xy[:, 0], xy[:, 1])
        row_off, col_off = math.floor(rows.min()), math.floor(cols.min())
        whole = Window(
            row_off=row_off,
            col_off=col_off,
            height=max(math.ceil(rows.max()) - row_off, 0),
            width=max(math.ceil(cols.max()) - col_off, 0),
        )
        return whole.intersection(self.window)

    def geometry_to_world(self, geometries: NDArray[Any]) -> NDArray[Any]:
        """Shapely geometries from pixel space (x = column, y = row) to the ground, by the one transform."""

        def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(self.to_world(xy[:, 1], xy[:, 0]))

        return np.asarray(shapely.transform(geometries, move), dtype=object)

    def geometry_to_pixel(self, geometries: NDArray[Any]) -> NDArray[Any]:
        """Shapely geometries from the ground to pixel space (x = column, y = row)."""

        def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            rows, cols = self.to_pixel(xy[:, 0], xy[:, 1])
            return np.column_stack([cols, rows])

        return np.asarray(shapely.transform(geometries, move), dtype=object)


def _understood(crs: object) -> CRS:
    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        raise RasterError(f"a grid with the CRS {crs!r}", allowed="a pyproj.CRS, an EPSG code, WKT") from error


def lonlat(crs: CRS, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in degrees, on the datum of ``crs`` (no datum shift), of ground positions.

    The longitude counts from Greenwich, whatever the CRS's own prime meridian and unit of angles are; it may lie
    beyond 180.

    Raises:
        RasterError: the CRS has no longitude and latitude under it (an engineering, local or geocentric CRS).
    """
    base = geographic(crs)
    if base is None:
        raise RasterError(
            f"the CRS {crs.name!r}, which is tied to no ellipsoid",
            allowed="a geographic or projected CRS",
            remedy="Set the true CRS with gdal_edit -a_srs, or name another one if you gave it with --assume-crs",
        )
    try:
        lon, lat = Transformer.from_crs(crs, base, always_xy=True).transform(np.asarray(x, float), np.asarray(y, float))
    except ProjError as error:
        raise RasterError(f"positions that {crs.name} cannot turn into longitude and latitude ({error})") from error
    degrees, meridian = math.degrees(base.axis_info[0].unit_conversion_factor), base.prime_meridian
    east = math.degrees(meridian.longitude * float(meridian.unit_conversion_factor)) if meridian else 0.0
    return np.asarray(lon, float) * degrees + east, np.asarray(lat, float) * degrees
