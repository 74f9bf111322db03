"""Measures against geodesics and against shapes built from known lengths on the ground."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer

from geoseg.errors import RasterError
from geoseg.grid import Grid
from geoseg.measures import FAR_M, measure

WGS84 = Geod(ellps="WGS84")
ROTATED = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +datum=WGS84"
PLACES: dict[str, tuple[int | str, float, float]] = {
    "utm": (32645, 87.3, 27.6),
    "utm far from its meridian": (32645, 81.2, 60.0),
    "utm south": (32737, 39.3, -6.2),
    "web mercator at 60 north": (3857, 10.7, 60.0),
    "degrees": (4326, 121.0, 13.5),
    "degrees at 75 north": (4326, -45.0, 75.0),
    "polar north": (3413, -130.0, 81.0),
    "polar south": (3031, 166.0, -77.8),
    "at the pole": (3413, 12.0, 89.9995),
    "antimeridian": (3857, 179.9999, -16.5),
    "another datum": (27700, -1.5, 53.0),
    "grads from Paris": (27572, 2.5, 47.0),
    "degrees from Lisbon": (20790, -8.0, 39.5),
    "rotated pole": (ROTATED, 19.65, 52.74),
}


def degrees_of(crs: CRS) -> CRS:
    """Longitude and latitude in degrees from Greenwich on the ellipsoid of a CRS."""
    geod = crs.get_geod()
    return CRS.from_dict({"proj": "longlat", "a": geod.a, "rf": 1 / geod.f})


def on_ground(crs: CRS, geod: Geod, lon: float, lat: float, east_north: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ground coordinates of points given by metres east and north of a place (bearing and distance)."""
    bearing = np.degrees(np.arctan2(*east_north.T))
    n = len(bearing)
    lons, lats, _ = geod.fwd(np.full(n, lon), np.full(n, lat), bearing, np.hypot(*east_north.T))
    lons = np.where(np.abs(lons - lon) > 180, lons + 360 * np.sign(lon), lons)
    x, y = Transformer.from_crs(degrees_of(crs), crs, always_xy=True).transform(lons, lats)
    if crs.to_epsg() == 3857:  # as a raster that lies across the antimeridian has them
        world = 2 * np.pi * 6378137.0
        x = np.asarray(x) + world * np.round((x[0] - np.asarray(x)) / world)
    return np.column_stack([x, y])


def polygon(place: str, shape: Any) -> tuple[Any, CRS, Geod]:
    """A shape in metres east and north, put on the ground at a place."""
    code, lon, lat = PLACES[place]
    crs = CRS(code)
    geod = crs.get_geod()
    return shapely.transform(shape, lambda en: on_ground(crs, geod, lon, lat, en)), crs, geod


def turned(width: float, length: float, bearing: float) -> Any:
    """A rectangle about the origin whose long side points to a bearing."""
    return shapely.affinity.rotate(shapely.box(-width / 2, -length / 2, width / 2, length / 2), -bearing)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bearing", [0.0, 37.0, 90.0, 151.0])
def test_a_known_rectangle_has_its_known_measures(place: str, bearing: float) -> None:
    ground, crs, _ = polygon(place, turned(11, 47, bearing))
    found = {name: column[0] for name, column in measure(np.array([ground]), crs).items()}
    assert found["area_m2"] == pytest.approx(11 * 47, rel=1e-5)
    assert found["perimeter_m"] == pytest.approx(2 * (11 + 47), rel=1e-5)
    assert found["length_m"] == pytest.approx(47, rel=1e-5)
    assert found["width_m"] == pytest.approx(11, rel=1e-5)
    if place != "at the pole":  # there the bearing depends on which point of it one stands on
        assert (found["orientation_deg"] - bearing + 90) % 180 - 90 == pytest.approx(0, abs=0.01)
    assert 0 <= found["orientation_deg"] < 180


@pytest.mark.parametrize("place", [p for p in PLACES if p != "at the pole"])  # no polygon in degrees there
@pytest.mark.parametrize("size", [3.0, 400.0, 4500.0, 20000.0])
def test_area_and_perimeter_are_the_geodesic_ones(place: str, size: float) -> None:
    disc = shapely.Point(0, 0).buffer(size).difference(shapely.box(-size / 3, -size / 5, size / 9, size / 4))
    both = shapely.union(disc, shapely.box(size * 1.2, 0, size * 1.4, size / 3))
    ground, crs, geod = polygon(place, both)
    to_degrees = Transformer.from_crs(crs, degrees_of(crs), always_xy=True)

    def lonlat(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = to_degrees.transform(*xy.T)
        return np.column_stack([np.rad2deg(np.unwrap(np.deg2rad(lon))), lat])

    degrees = shapely.transform(ground, lonlat)
    area, _ = geod.geometry_area_perimeter(shapely.orient_polygons(degrees))
    perimeter = geod.geometry_length(degrees.boundary)  # holes too
    found = measure(np.array([ground]), crs)
    assert found["area_m2"][0] == pytest.approx(area, rel=1e-5)
    assert found["perimeter_m"][0] == pytest.approx(perimeter, rel=1e-5)


def test_holes_and_parts_count() -> None:
    ring = shapely.Polygon(turned(40, 60, 20).exterior, [turned(20, 30, 20).exterior.coords])
    ground, crs, _ = polygon("degrees", shapely.union(ring, shapely.affinity.translate(turned(5, 5, 0), 100, 0)))
    found = measure(np.array([ground]), crs)
    assert found["area_m2"][0] == pytest.approx(40 * 60 - 20 * 30 + 25, rel=1e-5)
    assert found["perimeter_m"][0] == pytest.approx(200 + 100 + 20, rel=1e-5)


@settings(max_examples=40)
@given(
    st.floats(-179, 179),
    st.floats(-84, 84),
    st.floats(2, 300),
    st.floats(1.05, 9),
    st.floats(0, 179.9),
    st.booleans(),
)
def test_rectangles_anywhere(lon: float, lat: float, width: float, aspect: float, bearing: float, polar: bool) -> None:
    crs = CRS(4326 if not polar else 3413 if lat > 0 else 3031)
    xy = on_ground(crs, WGS84, lon, lat, shapely.get_coordinates(turned(width, width * aspect, bearing)))
    found = measure(np.array([shapely.Polygon(xy)]), crs)
    assert found["area_m2"][0] == pytest.approx(width * width * aspect, rel=1e-4)
    assert found["length_m"][0] == pytest.approx(width * aspect, rel=1e-4)
    assert found["width_m"][0] == pytest.approx(width, rel=1e-4)


TRANSFORMS = {
    "rotated": Affine.translation(4.1e5, 3.05e6) @ Affine.rotation(33) @ Affine.scale(0.3, -0.3),
    "south-up": Affine.translation(4.1e5, 3.05e6) @ Affine.scale(0.5, 0.5),
    "non-square": Affine.translation(4.1e5, 3.05e6) @ Affine.scale(0.2, -0.7),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_pixels_of_any_raster_are_measured_on_the_ground(name: str) -> None:
    grid = Grid(crs=CRS(32645), transform=TRANSFORMS[name], height=700, width=900)
    ground = grid.geometry_to_world(np.array([shapely.box(100, 200, 160, 220)]))
    found = measure(ground, grid.crs)
    gsd_x, gsd_y = grid.gsd_xy_m
    sides = sorted([60 * gsd_x, 20 * gsd_y])
    assert found["area_m2"][0] == pytest.approx(sides[0] * sides[1], rel=1e-4)
    assert [found["width_m"][0], found["length_m"][0]] == pytest.approx(sides, rel=1e-4)
    x, y = grid.to_world([210, 210], [100, 160]) if 60 * gsd_x > 20 * gsd_y else grid.to_world([200, 220], [130, 130])
    lon, lat = Transformer.from_crs(grid.crs, 4326, always_xy=True).transform(x, y)
    bearing = WGS84.inv(lon[0], lat[0], lon[1], lat[1])[0] % 180
    assert (found["orientation_deg"][0] - bearing + 90) % 180 - 90 == pytest.approx(0, abs=0.01)


def test_a_longest_edge_near_north_stays_in_range() -> None:
    shapes = np.array([turned(2, 9, bearing) for bearing in (1e-9, -1e-9, 179.999999, 180.0)])
    crs = CRS(32645)
    orientation = measure(shapely.transform(shapes, lambda xy: xy + np.array([500_000, 3e6])), crs)["orientation_deg"]
    assert ((orientation >= 0) & (orientation < 180)).all()
    assert np.minimum(orientation, 180 - orientation) == pytest.approx(0, abs=1e-3)


def test_lon_lat_lie_on_the_footprint() -> None:
    bow = shapely.difference(shapely.Point(0, 0).buffer(50), shapely.Point(12, 0).buffer(45))
    ground, crs, _ = polygon("web mercator at 60 north", bow)
    found = measure(np.array([ground]), crs)
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(found["lon"], found["lat"])
    assert shapely.contains_xy(ground, x, y).all()
    assert not shapely.contains(ground, ground.centroid)


def test_longitudes_past_the_antimeridian_come_back_into_range() -> None:
    found = measure(np.array([shapely.box(180.5, 10, 180.6, 10.1)]), CRS(4326))
    assert found["lon"][0] == pytest.approx(-179.45, abs=1e-6)


def test_far_footprints_are_measured_along_their_own_edges() -> None:
    """A side along a parallel is no geodesic between its ends."""
    hole = shapely.box(10.5, 40.2, 11.5, 40.8)
    box = shapely.box(10, 40, 12, 41).difference(hole)
    there = shapely.MultiPolygon([box, shapely.box(17, 40, 18, 41)])  # and nothing between them
    lengths = measure(np.array([there]), CRS(4326))
    fine = shapely.segmentize(there, 0.003)
    area, _ = WGS84.geometry_area_perimeter(shapely.orient_polygons(fine))
    perimeter = sum(map(WGS84.geometry_length, shapely.get_rings(shapely.get_parts(fine))))
    assert lengths["perimeter_m"][0] > 10 * FAR_M
    assert lengths["area_m2"][0] == pytest.approx(area, rel=1e-7)
    assert lengths["perimeter_m"][0] == pytest.approx(perimeter, rel=1e-7)


def test_a_far_footprint_that_is_not_valid_is_measured() -> None:
    bow = shapely.Polygon([(10, 40), (12, 42), (12, 40), (10, 42)])
    halves = [shapely.Polygon([(x, 40), (11, 41), (x, 42)]) for x in (10, 12)]
    found = measure(np.array([bow, *halves], dtype=object), CRS(4326))["area_m2"]
    assert found[0] == pytest.approx(found[1] + found[2], rel=1e-6)


@pytest.mark.parametrize(
    "bounds", [(-180, 0, 180, 60), (0, -90, 360, 90), (-100, 20, 100, 50), (-180, -90, 180, 80)], ids=str
)
def test_ground_right_round_the_earth_has_its_area(bounds: tuple[float, ...]) -> None:
    """Against the surface of a zone of the ellipsoid (Snyder, Map Projections, equation 3-12)."""
    west, south, east, north = bounds
    e = np.sqrt(WGS84.es)
    s = np.sin(np.radians([south, north]))
    q = (1 - e**2) * (s / (1 - (e * s) ** 2) + np.arctanh(e * s) / e)
    zone = WGS84.a**2 / 2 * (q[1] - q[0]) * np.radians(east - west)
    assert measure(np.array([shapely.box(*bounds)]), CRS(4326))["area_m2"][0] == pytest.approx(zone, rel=1e-5)


def test_no_footprints_give_empty_columns() -> None:
    found = measure(np.empty(0, dtype=object), CRS(32645))
    assert {column.dtype for column in found.values()} == {np.dtype(np.float64)}
    assert {len(column) for column in found.values()} == {0}


def test_what_lies_nowhere_on_the_earth_is_told() -> None:
    with pytest.raises(RasterError, match="no longitude and latitude in World_Mollweide"):
        measure(np.array([shapely.box(1_000_000, 8_000_000, 9_000_000, 8_100_000)]), CRS("ESRI:54009"))


def test_a_crs_without_an_ellipsoid_is_refused() -> None:
    local = CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]')
    with pytest.raises(RasterError, match="tied to no ellipsoid"):
        measure(np.array([shapely.box(0, 0, 1, 1)]), local)


@pytest.mark.parametrize("step", [0.25, 0.001, 1e-5])  # measured along geodesics, and in a plane
@pytest.mark.parametrize("crs", [4326, 4267])
def test_what_lies_beyond_a_pole_is_the_pole(step: float, crs: int) -> None:
    """The first row of a global raster whose pixels are centred on the pole."""
    south, north = [90 - 5 * step, -90 - step / 2], [90 + step / 2, -90 + 5 * step]
    boxes = shapely.box(10, south, 10 + step, north)
    cut = shapely.clip_by_rect(boxes, -180, -90, 180, 90)
    found, expected = (measure(shapes, CRS.from_epsg(crs)) for shapes in (boxes, cut))
    for name in ("area_m2", "perimeter_m", "length_m", "width_m"):
        assert (expected[name] > 0).all()
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    assert (np.abs(found["lat"]) <= 90).all()


def test_what_is_a_line_or_a_point_on_the_ground_spoils_no_others() -> None:
    """Wholly beyond a pole; and from pole to pole, where a catalogue says no more than that."""
    boxes = shapely.box([10, 10, 0], [90, 80, -90], [11, 11, 90], [90.1, 81, 90])
    found = measure(boxes, CRS.from_epsg(4326))
    for name, [value] in measure(boxes[1:2], CRS.from_epsg(4326)).items():
        assert found[name][1] == pytest.approx(value)
        assert np.isfinite(found[name]).all()
    sizes = np.column_stack([found[name] for name in ("area_m2", "length_m", "width_m")])
    np.testing.assert_allclose(sizes[0], 0, atol=1e-6)
    np.testing.assert_allclose(sizes[2, 1:], [2 * 6_356_752, 0], atol=1000)
