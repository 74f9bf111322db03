"""Predictions and truth in one planar frame, as valid polygons."""

from __future__ import annotations

import logging
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from geoseg.aoi import load_aoi
from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.polygons import cut_by, pieces, polygonal, share_inside
from geoseg.vectors import check_table

_log = logging.getLogger(__name__)
_FAR_M = 10_000.0
"""Metres: files that lie farther apart than this, and than they reach, are of different places."""


def common_frame(tables: list[gpd.GeoDataFrame]) -> list[gpd.GeoDataFrame]:
    """The tables with valid polygons in one frame in which areas are true.

    Tables with a CRS are projected to a Lambert azimuthal equal-area plane centred on their contents; tables
    without one (pixel coordinates) stay as they are. Invalid geometry is repaired, of a collection the polygons
    are kept; what holds no polygon is left out, with a warning in the log.

    Raises:
        ConfigError: something else than tables, some have a CRS and some have none, or ground that cannot be projected.
    """
    if _have_crs(tables):
        try:
            plane = _equal_area_plane(tables)
            tables = [table.to_crs(plane) for table in tables]
        except ProjError as error:  # a CRS that is tied to no ellipsoid
            raise _no_plane() from error
    return [_polygons(table) for table in tables]


def area_in_frame(area: gpd.GeoDataFrame, tables: list[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """An area of interest in the frame of tables as :func:`common_frame` gives them, as far as they reach.

    Its edges are straight in its own CRS and may be very long (a degree, the globe), where those of objects are short:
    they are brought here as they are to a raster, not by their ends alone.

    Raises:
        ConfigError: one has a CRS and the other has none, or an AOI that cannot be used.
    """
    check_table(area, "an AOI")
    bounds = np.array([table.total_bounds for table in tables if len(table)]).reshape(-1, 4)
    if not _have_crs([area, *tables]) or not len(area) or not len(bounds):
        return _polygons(area if area.crs == tables[0].crs else area.to_crs(tables[0].crs))
    left, bottom = np.floor(bounds[:, :2].min(axis=0)) - 1.0
    right, top = np.ceil(bounds[:, 2:].max(axis=0)) + 1.0
    metres = Grid(
        crs=CRS(tables[0].crs),
        transform=Affine(1.0, 0.0, left, 0.0, -1.0, top),
        height=int(top - bottom),
        width=int(right - left),
    )
    pixels, _ = load_aoi(area, metres)
    there = metres.geometry_to_world(np.array([pixels], dtype=object))
    return gpd.GeoDataFrame(geometry=there[~shapely.is_empty(there)], crs=tables[0].crs)


def _have_crs(tables: list[gpd.GeoDataFrame]) -> bool:
    """Whether tables have a CRS: all or none.

    Raises:
        ConfigError: something else than tables, or some have a CRS and some have none.
    """
    for table in tables:
        check_table(table, "a table to compare")
    known = {table.crs is not None for table in tables}
    if len(known) > 1:
        raise ConfigError(
            "footprints of which some have a CRS and some have none",
            allowed="all with a CRS, or all without (pixel coordinates)",
            remedy="Set the missing CRS, e.g. with GeoDataFrame.set_crs or ogr2ogr -a_srs",
        )
    return known == {True}


def counted(
    tables: list[gpd.GeoDataFrame], *, aoi: gpd.GeoDataFrame | None = None, gaps: gpd.GeoDataFrame | None = None
) -> list[NDArray[np.bool_]]:
    """Per table ``(n,)`` True: at least half of it lies where something counts, in the AOI without the gaps; all in one
    frame."""
    area = None if aoi is None else aoi.geometry.union_all()
    missing = None if gaps is None or not len(gaps) else gaps.geometry.union_all()
    return [_counts(np.asarray(table.geometry.array, dtype=object), area, missing) for table in tables]


def _counts(geometry: NDArray[Any], area: Any, missing: Any) -> NDArray[np.bool_]:
    """``(n,)`` True: at least half of it lies in ``area`` without ``missing``; None: everywhere, nowhere."""
    inside = np.ones(len(geometry)) if area is None else share_inside(geometry, area)
    if missing is None:
        return inside >= 0.5
    lost = share_inside(geometry, missing)
    found = inside - lost >= 0.5
    # What is missing may lie outside the area, and is then not to be taken off. These alone are measured, for they are
    # few: the area without the gaps would say the same, but both may have very many vertices.
    rim = np.flatnonzero(~found & (inside >= 0.5) & (lost <= 0.5))
    if not len(rim):
        return found
    row, within = cut_by(geometry[rim], pieces(np.array([area], dtype=object)))
    lost_area = share_inside(within, missing) * shapely.area(within)
    found[rim] = inside[rim] - np.bincount(row, lost_area, len(rim)) / shapely.area(geometry[rim]) >= 0.5
    return found


def scores_of(table: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """``(n,)`` scores; infinite where there is none.

    Raises:
        ConfigError: text, or numbers outside 0 to 1 (percent, logits).
    """
    if "score" not in table:
        return np.full(len(table), np.inf)
    try:
        score = pd.to_numeric(table["score"]).astype(float).to_numpy()
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"scores that are no numbers ({error})", allowed="0 to 1, or none") from error
    wrong = score[(score < 0) | (score > 1)]
    if len(wrong):
        raise ConfigError(f"a score of {wrong[0]:g}", allowed="0 to 1, or none", remedy="Scale the scores")
    return np.where(np.isnan(score), np.inf, score)


def check_near(pred: gpd.GeoDataFrame, truth: gpd.GeoDataFrame, *, reach: float) -> bool:
    """True where the extents of predictions and truth (some of each) meet; where they do not, it is told in the log.

    Raises:
        ConfigError: on the ground they lie apart by more than ten kilometres, and by more than the larger of them or
            the area of evaluation (``reach``, in metres) reaches.
    """
    one, other = pred.total_bounds, truth.total_bounds
    gap = float(np.hypot(*np.clip(np.maximum(one[:2] - other[2:], other[:2] - one[2:]), 0, None)))
    reach = max(reach, *(float(np.hypot(*(bounds[2:] - bounds[:2]))) for bounds in (one, other)))
    if pred.crs is not None and gap > max(reach, _FAR_M):
        raise ConfigError(
            f"predictions and truth that lie {gap / 1000:,.1f} km apart, so nothing can match",
            allowed="two files of one place",
            remedy="Check that they are, that both state their true CRS, and that x is the longitude in both",
        )
    if gap > 0:
        unit = "pixels" if pred.crs is None else "m"
        _log.warning("predictions and truth do not overlap: they lie %.0f %s apart. Are they of one place?", gap, unit)
    return gap <= 0


def _polygons(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The rows with polygons of some area, repaired where they were invalid."""
    geometry = np.array(table.geometry.array, dtype=object)
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise _no_plane()
    bad = ~(shapely.is_missing(geometry) | shapely.is_valid(geometry))
    if bad.any():
        _log.warning("%d invalid geometries repaired", int(bad.sum()))
        geometry[bad] = shapely.make_valid(geometry[bad], method="structure", keep_collapsed=False)
    mixed = shapely.get_type_id(geometry) == shapely.GeometryType.GEOMETRYCOLLECTION
    geometry[mixed] = polygonal(geometry[mixed])
    keep = np.isin(shapely.get_type_id(geometry), (3, 6)) & (shapely.area(geometry) > 0)
    if not keep.all():
        _log.warning("%d rows without a polygon left out", int((~keep).sum()))
    return table.loc[keep].set_geometry(geometry[keep], crs=table.crs)


def _no_plane() -> ConfigError:
    return ConfigError(
        "footprints that cannot be laid in one plane",
        allowed="coordinates inside the CRS's area of use, on one side of the globe",
        remedy="Check that both files state their true CRS",
    )


def _equal_area_plane(tables: list[gpd.GeoDataFrame]) -> CRS:
    """A Lambert azimuthal equal-area CRS centred on the tables' contents."""
    corners = [
        table.geometry.representative_point().to_crs(4326).get_coordinates().to_numpy()
        for table in tables
        if len(table) and not table.geometry.isna().all()
    ]
    lonlat = np.concatenate(corners) if corners else np.zeros((1, 2))
    lon, lat = np.radians(lonlat[np.isfinite(lonlat).all(axis=1)]).T
    # The mean direction in space: right across the antimeridian and at the poles, unlike a mean of degrees.
    x, y, z = (np.cos(lat) * np.cos(lon)).sum(), (np.cos(lat) * np.sin(lon)).sum(), np.sin(lat).sum()
    lon_0, lat_0 = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    return CRS.from_dict({"proj": "laea", "lon_0": float(lon_0), "lat_0": float(lat_0), "datum": "WGS84"})
