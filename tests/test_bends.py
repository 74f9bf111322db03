"""Edges that are straight in one CRS and bent in another stay where they lie."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Transformer

import geoseg
from geoseg.bends import bending
from geoseg.vectors import reprojected

QUAY = shapely.box(600_100, 6_999_960, 605_100, 6_999_980)  # 5 km long, at 63 degrees north
PLACES = {"EPSG:32633": (600_000, 7_000_000), "EPSG:3035": (4_321_000, 4_210_000), "EPSG:3031": (-1_234_000, 765_000)}

MOVES = [
    *((place, target) for place in ("EPSG:32633", "EPSG:3035") for target in ("EPSG:4326", "EPSG:3857", "EPSG:3413")),
    ("EPSG:3031", "EPSG:4326"),
    ("EPSG:32633", "EPSG:25832"),
]


def farthest_m(made: shapely.Geometry, made_in: str, asked: shapely.Geometry, asked_in: str) -> float:
    """How far two outlines are apart at most, each taken along its edges as they run in its own CRS."""
    move = Transformer.from_crs(made_in, asked_in, always_xy=True)
    rim = asked.boundary
    fine = shapely.segmentize(made.boundary, made.length / 299)
    back = shapely.transform(fine, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1])))
    here, there = (
        shapely.points(shapely.get_coordinates(each)) for each in (back, shapely.segmentize(rim, rim.length / 299))
    )
    shapely.prepare([back, rim])
    return float(max(shapely.distance(back, there).max(), shapely.distance(rim, here).max()))


@given(move=st.sampled_from(MOVES), long=st.floats(5, 20_000), turned=st.floats(0, 180))
def test_long_edges_are_moved_to_within_a_centimetre_or_two(move: tuple[str, str], long: float, turned: float) -> None:
    place, target = move
    x, y = PLACES[place]
    shape = shapely.affinity.rotate(shapely.box(x, y, x + long, y + 30), turned)
    moved = reprojected(gpd.GeoDataFrame(geometry=[shape], crs=place), CRS(target)).geometry.iloc[0]
    assert farthest_m(moved, target, shape, place) < 0.02


def test_what_neighbours_share_they_share_afterwards() -> None:
    beside = shapely.box(600_100, 6_999_980, 605_100, 6_999_990)
    moved = reprojected(gpd.GeoDataFrame(geometry=[QUAY, beside], crs=32633), CRS("EPSG:4326")).geometry
    assert len(moved.iloc[0].exterior.coords) > 20
    assert shapely.area(shapely.intersection(*moved)) == 0.0
    assert shapely.area(shapely.union_all(moved)) == pytest.approx(shapely.area(moved.to_numpy()).sum(), rel=1e-12)
    assert not shapely.union_all(moved).interiors


def test_short_edges_other_shapes_and_no_shapes_stay_as_they_are() -> None:
    house = shapely.box(600_000, 7_000_000, 600_020, 7_000_010)
    line = shapely.LineString([(600_000, 7_000_000), (650_000, 7_000_000)])
    holey = shapely.from_wkt("MULTIPOLYGON (EMPTY, ((600000 7000000, 600020 7000000, 600020 7000020, 600000 7000000)))")
    shapes = np.array([house, None, shapely.Polygon(), line, holey, shapely.MultiPolygon()], object)
    assert bending(shapes, CRS(32633), CRS(4326)).tolist() == shapes.tolist()


def test_kinds_and_heights_stay_what_they_were() -> None:
    high = shapely.force_3d(QUAY, 7.0)
    court = shapely.difference(QUAY, shapely.box(600_200, 6_999_965, 605_000, 6_999_975))
    both = shapely.MultiPolygon([court, shapely.affinity.translate(QUAY, 0, 100)])
    fine = bending(np.array([high, court, both, None, shapely.Polygon()], object), CRS(32633), CRS(4326))[:3]
    assert [shape.geom_type for shape in fine] == ["Polygon", "Polygon", "MultiPolygon"]
    assert shapely.has_z(fine).tolist() == [True, False, False]
    assert set(shapely.get_coordinates(fine[0], include_z=True)[:, 2]) == {7.0}
    for was, now in zip((high, court, both), fine, strict=True):
        assert shapely.get_num_coordinates(now) > shapely.get_num_coordinates(was)
        assert shapely.equals(shapely.force_2d(now), shapely.force_2d(was)) or now.symmetric_difference(was).area < 1e-3
        assert shapely.is_valid(now)


@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:3857"])
def test_the_antimeridian_is_no_bend(target: str) -> None:
    x, y = Transformer.from_crs(4326, 32760, always_xy=True).transform(179.9998, -16.2)
    across = shapely.box(x, y, x + 100, y + 20)
    assert bending(np.array([across], object), CRS(32760), CRS(target)).tolist() == [across]


def test_the_pole_ends_the_halving() -> None:
    over = shapely.box(-3_000, -2_000, 4_000, 1_000)
    (fine,) = bending(np.array([over], object), CRS(3413), CRS(4326))
    assert 8 < len(fine.exterior.coords) < 4_000


def test_geojson_of_a_long_quay_is_true_along_its_edges(tmp_path: Path) -> None:
    table = gpd.GeoDataFrame({"id": ["quay"]}, geometry=[QUAY], crs=32633)
    geoseg.write(table, tmp_path / "quay.geojson")
    read = gpd.read_file(tmp_path / "quay.geojson")
    assert farthest_m(read.geometry.iloc[0], "EPSG:4326", QUAY, "EPSG:32633") < 0.02
