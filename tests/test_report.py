"""Gaps of a run: the same to the bit, whatever order they came in."""

from __future__ import annotations

import random

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS

from geoseg.gaps import Gap
from geoseg.grid import Grid
from geoseg.report import dissolved, extent_text


def _gaps() -> list[Gap]:
    """Ragged gaps that overlap and touch, of three reasons, as blocks tell them."""
    rng = np.random.default_rng(4)
    gaps = []
    for i in range(90):
        x, y = rng.uniform(0, 60, 2)
        shape = _turned(x, y, 4 * i)
        reason = ("nodata", "unreadable", "failed")[i % 3]
        gaps.append(Gap(geometry=shape, reason=reason, detail=f"{i % 5}"))  # type: ignore[arg-type]
    return gaps


def _turned(x: float, y: float, degrees: float) -> shapely.Polygon:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = np.array([(0, 0), (9, 0), (9, 5), (0, 5)]) @ [[cos, sin], [-sin, cos]]
    return shapely.Polygon(np.add(corners, (x, y)))


@pytest.mark.parametrize("within", [None, shapely.box(3.3, 4.4, 50.5, 55.7)])
def test_the_order_of_gaps_changes_no_bit(within: shapely.Geometry | None) -> None:
    gaps = _gaps()
    expected = [(gap.reason, gap.detail, gap.geometry.wkb) for gap in dissolved(gaps, within=within)]
    assert [reason for reason, _, _ in expected] == ["unreadable", "nodata", "failed"]
    for seed in range(20):
        random.Random(seed).shuffle(gaps)
        assert [(gap.reason, gap.detail, gap.geometry.wkb) for gap in dissolved(gaps, within=within)] == expected


def test_the_extent_of_a_raster_whose_crs_has_no_code() -> None:
    """Across the antimeridian it does not lie around the earth, and of another planet it is not told."""
    transform = Affine(5, 0, -500, 0, -5, 500)
    pacific = CRS("+proj=tmerc +lat_0=-17 +lon_0=180 +k=1 +datum=WGS84")
    fiji = Grid(crs=pacific, transform=transform, height=200, width=210)
    srid, _, wkt = str(extent_text(fiji)).partition(";")
    assert srid == "SRID=4326" and not fiji.crs.to_epsg()
    parts = shapely.get_parts(shapely.from_wkt(wkt))
    assert len(parts) == 2 and {-180.0, 180.0} < set(shapely.bounds(parts)[:, [0, 2]].ravel())
    assert gpd.GeoSeries(parts, crs=4326).to_crs(fiji.crs).area.sum() == pytest.approx(200 * 210 * 25)
    mars = Grid(crs=CRS("IAU_2015:49900"), transform=Affine(5e-6, 0, 85, 0, -5e-6, 27), height=200, width=210)
    assert extent_text(mars) is None
