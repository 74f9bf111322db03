from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import rasterio.transform
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Geod
from rasters import Listener

from geoseg.errors import ConfigError, ModelError, RasterError
from geoseg.grid import Grid, lonlat
from geoseg.instances import Chip
from geoseg.tiling import Tile
from geoseg.window import Window

UTM45 = CRS.from_epsg(32645)
KINDS = {
    "north_up": Grid(crs=UTM45, transform=Affine(0.3, 0, 350_000, 0, -0.3, 3_050_000), height=400, width=700),
    "rotated": Grid(
        crs=UTM45,
        transform=Affine.translation(350_000, 3_050_000) @ Affine.rotation(31.0) @ Affine.scale(0.5, -0.5),
        height=300,
        width=500,
    ),
    "south_up": Grid(crs=UTM45, transform=Affine(2.0, 0, 350_000, 0, 2.0, 3_050_000), height=150, width=90),
    "non_square": Grid(crs=UTM45, transform=Affine(1.0, 0, 350_000, 0, -2.5, 3_050_000), height=80, width=310),
    "degrees": Grid(crs=CRS.from_epsg(4326), transform=Affine(2e-6, 0, 85.5, 0, -2e-6, 27.63), height=600, width=450),
    "mercator": Grid(
        crs=CRS.from_epsg(3857),
        transform=Affine(0.5, 0, 9_520_000, 0, -0.5, 8_400_000),
        height=350,
        width=420,
    ),
    "polar": Grid(crs=CRS.from_epsg(3413), transform=Affine(10, 0, -200_000, 0, -10, -900_000), height=111, width=222),
}
grids = st.sampled_from(sorted(KINDS)).map(KINDS.__getitem__)


@st.composite
def affine_grids(draw: st.DrawFn) -> Grid:
    """Any size, any rotation, any aspect, mirrored or not: the pixel size is at least a centimetre."""
    size = st.floats(0.01, 50.0)
    transform = (
        Affine.translation(draw(st.floats(-1e6, 1e6)), draw(st.floats(-1e7, 1e7)))
        @ Affine.rotation(draw(st.floats(-180, 180)))
        @ Affine.scale(draw(size), draw(size) * draw(st.sampled_from([-1.0, 1.0])))
    )
    return Grid(crs=UTM45, transform=transform, height=draw(st.integers(1, 5000)), width=draw(st.integers(1, 5000)))


@given(grid=affine_grids(), row=st.floats(-100, 6000), col=st.floats(-100, 6000))
def test_to_pixel_is_the_inverse_of_to_world(grid: Grid, row: float, col: float) -> None:
    rows, cols = grid.to_pixel(*grid.to_world(row, col))
    # Coordinates near 1e7 carry about 2e-9 m, so a 1 cm pixel is known to some 1e-6 of itself.
    assert abs(float(rows) - row) < 1e-5 and abs(float(cols) - col) < 1e-5


@given(grid=affine_grids(), row=st.integers(0, 5000), col=st.integers(0, 5000))
def test_to_world_agrees_with_rasterio(grid: Grid, row: int, col: int) -> None:
    x, y = grid.to_world(row, col)
    assert (float(x), float(y)) == pytest.approx(
        rasterio.transform.xy(grid.transform, row, col, offset="ul"), abs=1e-6, rel=1e-12
    )
    x, y = grid.to_world(row + 0.5, col + 0.5)
    assert (float(x), float(y)) == pytest.approx(
        rasterio.transform.xy(grid.transform, row, col, offset="center"), abs=1e-6, rel=1e-12
    )


@given(grid=affine_grids(), gsd=st.floats(0.1, 5.0), data=st.data())
def test_resizing_keeps_the_extent(grid: Grid, gsd: float, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 3000)), data.draw(st.integers(1, 3000))
    resized = grid.resized(height=height, width=width)
    assert (resized.height, resized.width) == (height, width)
    size = max(abs(v) for v in tuple(grid.transform)[:2]) * max(grid.height, grid.width)
    for u, v in ((0, 0), (0, 1), (1, 0), (1, 1), (0.3, 0.7)):
        before = grid.to_world(u * grid.height, v * grid.width)
        after = resized.to_world(u * height, v * width)
        assert np.allclose(before, after, rtol=1e-12, atol=1e-6 + 1e-9 * size)


@given(grid=affine_grids(), data=st.data())
def test_a_crop_lies_where_it_was(grid: Grid, data: st.DataObject) -> None:
    row_off, col_off = (data.draw(st.integers(0, n - 1)) for n in (grid.height, grid.width))
    height, width = (data.draw(st.integers(1, n - o)) for n, o in ((grid.height, row_off), (grid.width, col_off)))
    crop = grid.crop(Window(row_off=row_off, col_off=col_off, height=height, width=width))
    assert (crop.height, crop.width) == (height, width)
    for row, col in ((0, 0), (0.25, 3.5), (height, width)):
        assert np.allclose(crop.to_world(row, col), grid.to_world(row + row_off, col + col_off), atol=1e-6)


@pytest.mark.parametrize(
    ("step", "height", "width"), [(1e-3, 2_000, 100_000), (0.1, 200, 3600), (1.0, 40, 360), (1e-6, 3, 200_000)]
)
def test_gsd_of_a_wide_raster_in_degrees_is_that_along_its_parallel(step: float, height: int, width: int) -> None:
    top = 55 + step * height / 2
    grid = Grid(crs=CRS.from_epsg(4326), transform=Affine(step, 0, -180, 0, -step, top), height=height, width=width)
    # Radius of the parallel and of the meridian's curve on WGS 84, at 55 degrees.
    a, e2, lat = 6378137.0, 0.0066943799901413165, math.radians(55)
    w = math.sqrt(1 - e2 * math.sin(lat) ** 2)
    expected = (a / w * math.cos(lat), a * (1 - e2) / w**3)
    assert grid.gsd_xy_m == pytest.approx([math.radians(step) * r for r in expected], rel=1e-4)


def test_pixels_of_no_length_on_the_ground_are_refused() -> None:
    for crs, transform in (
        (UTM45, Affine(1e-12, 0, 5e5, 0, -1e-12, 5e6)),
        (CRS.from_epsg(4326), Affine(1, 0, 0, 0, 0.1, 85)),
    ):
        grid = Grid(crs=crs, transform=transform, height=100, width=100)  # the second has a pole in its centre
        with pytest.raises(RasterError, match="no length"):
            _ = grid.gsd_m


@given(grid=grids, gsd_m=st.floats(0.2, 20.0))
def test_at_gsd_gives_square_ground_pixels(grid: Grid, gsd_m: float) -> None:
    x, y = grid.at_gsd(gsd_m).gsd_xy_m
    # The extent is kept, so a side of n pixels can miss by half of one in n.
    for side, (got, count) in {"x": (x, grid.width), "y": (y, grid.height)}.items():
        pixels = count * grid.gsd_xy_m[side == "y"] / gsd_m
        assert pixels < 1.0 or got == pytest.approx(gsd_m, rel=0.5 / (pixels - 0.5) + 1e-3)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_gsd_is_the_geodesic_length_of_a_pixel_step(name: str) -> None:
    grid = KINDS[name]
    geod = Geod(ellps="WGS84")
    row, col = grid.height / 2, grid.width / 2
    expected = []
    for drow, dcol in ((0, 1), (1, 0)):
        lon, lat = grid.to_lonlat([row, row + 20 * drow], [col, col + 20 * dcol])
        expected.append(geod.line_length(lon, lat) / 20)
    assert grid.gsd_xy_m == pytest.approx(expected, rel=1e-4)
    assert grid.gsd_m == pytest.approx(math.sqrt(expected[0] * expected[1]), rel=1e-4)


def test_gsd_is_metres_on_the_ground_not_units_of_the_crs() -> None:
    mercator = KINDS["mercator"]
    _, lat = mercator.to_lonlat(mercator.height / 2, mercator.width / 2)
    assert mercator.gsd_m == pytest.approx(0.5 * math.cos(math.radians(float(lat))), rel=5e-3)
    assert KINDS["degrees"].gsd_xy_m == pytest.approx((0.1974, 0.2216), abs=2e-4)
    assert KINDS["north_up"].gsd_m == pytest.approx(0.3, rel=1e-3)
    feet = Grid(crs=CRS.from_epsg(2263), transform=Affine(1, 0, 985_000, 0, -1, 200_000), height=90, width=140)
    assert feet.gsd_m == pytest.approx(1200 / 3937, rel=1e-3)


@given(grid=affine_grids(), data=st.data())
def test_window_of_is_the_smallest_that_holds_the_area(grid: Grid, data: st.DataObject) -> None:
    rows = sorted(data.draw(st.lists(st.floats(-50, 5100), min_size=2, max_size=2, unique=True)))
    cols = sorted(data.draw(st.lists(st.floats(-50, 5100), min_size=2, max_size=2, unique=True)))
    box = np.array([shapely.box(cols[0], rows[0], cols[1], rows[1])], dtype=object)
    window = grid.window_of(grid.geometry_to_world(box)[0])
    assert grid.window.contains(window) or window.empty
    # A pixel whose place is known to 1e-5 may be taken or left where the edge falls on a pixel's border.
    near = [abs(v - round(v)) < 1e-4 for v in (*rows, *cols)]
    if not any(near) and not window.empty:
        top, left = max(0, math.floor(rows[0])), max(0, math.floor(cols[0]))
        end, right = min(grid.height, math.ceil(rows[1])), min(grid.width, math.ceil(cols[1]))
        assert (window.row_off, window.row_end, window.col_off, window.col_end) == (top, end, left, right)
    if rows[1] < -1 or cols[1] < -1 or rows[0] > grid.height + 1 or cols[0] > grid.width + 1:
        assert window.empty


def test_window_of_nothing_is_empty() -> None:
    assert KINDS["rotated"].window_of(shapely.Polygon()).empty


@pytest.mark.parametrize("name", sorted(KINDS))
def test_geometries_go_to_the_ground_and_back(name: str) -> None:
    grid = KINDS[name]
    ring = shapely.box(3.25, 10.5, 40, 70.125).difference(shapely.box(10, 20, 20, 30))
    world = grid.geometry_to_world(np.array([ring], dtype=object))
    back = grid.geometry_to_pixel(world)
    assert shapely.hausdorff_distance(back[0], ring) < 1e-6
    assert world[0].area == pytest.approx(ring.area * abs(grid.transform.determinant), rel=1e-6)
    x, y = grid.to_world(10.5, 3.25)
    assert shapely.intersects(shapely.buffer(shapely.Point(x, y), abs(grid.transform.a) * 1e-6), world[0])


@pytest.mark.parametrize(
    ("height", "width", "transform"),
    [
        (0, 5, Affine.identity()),
        (5, 0, Affine.identity()),
        (5, 4, Affine(1, 0, 0, 2, 0, 0)),
        (5, 4, Affine(math.nan, 0, 0, 0, 1, 0)),
    ],
)
def test_lattices_that_are_none_are_refused(height: int, width: int, transform: Affine) -> None:
    with pytest.raises(RasterError):
        Grid(crs=UTM45, transform=transform, height=height, width=width)


def test_a_crs_tied_to_no_ellipsoid_is_refused() -> None:
    local = CRS.from_wkt('LOCAL_CS["site",LOCAL_DATUM["site",0],UNIT["metre",1],AXIS["E",EAST],AXIS["N",NORTH]]')
    with pytest.raises(RasterError, match="assume-crs"):
        lonlat(local, [0.0], [0.0])


@pytest.mark.parametrize(
    ("code", "x", "y", "lon", "lat"),
    [
        # Grads from Paris: the projection's own origin is 52 grads north, on the meridian of Paris, 2.5969213 grads.
        (27572, 600_000, 2_200_000, 2.5969213 * 0.9, 52 * 0.9),
        (4807, -0.5, 51.0, 2.0969213 * 0.9, 51 * 0.9),
        (2065, 0.0, 0.0, 42.5 - (17 + 40 / 60), 59.757598),  # degrees from Ferro, 17 deg 40 min west of Greenwich
        (20790, 200_000, 300_000, 1 - (9 + 7 / 60 + 54.862 / 3600), 39 + 2 / 3),  # degrees from Lisbon
        (32645, 500_000, 0.0, 87.0, 0.0),
    ],
)
def test_longitudes_are_degrees_from_greenwich(code: int, x: float, y: float, lon: float, lat: float) -> None:
    found = lonlat(CRS.from_epsg(code), [x], [y])
    np.testing.assert_allclose(np.concatenate(found), [lon, lat], atol=2e-6)


def test_a_crs_of_earth_centred_coordinates_is_refused() -> None:
    with pytest.raises(RasterError, match="geographic or projected"):
        lonlat(CRS.from_epsg(4978), [4e6], [1e6])


def test_a_centre_outside_its_crs_is_refused() -> None:
    beyond = Grid(crs=CRS.from_epsg(3035), transform=Affine(1, 0, 0, 0, -1, 1e9), height=20, width=30)
    with pytest.raises(RasterError):
        _ = beyond.gsd_m


DISK = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +datum=WGS84"


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (DISK, Affine(90_000, 0, -5.4e6, 0, -120_000, 5.4e6)),
        (DISK, Affine(40_000, 9_000, 1e6, 9_000, -50_000, 5.4e6)),
        ("ESRI:54009", Affine(310_000, 0, -18.6e6, 0, -206_000, 9.27e6)),
        ("+proj=ortho +lat_0=20 +lon_0=10 +datum=WGS84", Affine(110_000, 0, -6.6e6, 0, -150_000, 6.75e6)),
        ("EPSG:3035", Affine(300_000, 0, -14e6, 0, -400_000, 20e6)),
    ],
)
def test_what_lies_nowhere_on_the_earth_is_left_out(crs: str, transform: Affine) -> None:
    grid = Grid(crs=CRS.from_user_input(crs), transform=transform, height=90, width=120)
    rows, cols = np.random.default_rng(0).uniform(0, 1, (2, 4000)) * [[90], [120]]
    there = np.isfinite(grid.to_lonlat(rows, cols)[0])  # PROJ's word for it
    assert 0.05 < there.mean() < 0.95
    assert grid.earth is not None
    assert (shapely.contains_xy(grid.earth, *grid.to_world(rows, cols)) == there).mean() > 0.999
    frame, corner = grid.geometry_to_world(np.array([shapely.box(0, 0, 120, 90), shapely.box(119, 89, 120, 90)]))
    cut, none = grid.on_earth(np.array([frame, corner], dtype=object))
    assert none.is_empty
    assert cut.area == pytest.approx(frame.intersection(grid.earth).area)
    assert np.isfinite(lonlat(grid.crs, *shapely.get_coordinates(cut).T)).all()


def test_ground_behind_the_gap_of_an_interrupted_projection_is_ground() -> None:
    grid = Grid(
        crs=CRS.from_user_input("+proj=igh +datum=WGS84"),
        transform=Affine(340_000, 0, -20.1e6, 0, -190_000, 8.7e6),
        height=90,
        width=120,
    )
    rows, cols = (each.ravel() for each in np.meshgrid(np.arange(90), np.arange(120), indexing="ij"))
    boxes = grid.geometry_to_world(shapely.box(cols, rows, cols + 1, rows + 1))
    kept = grid.on_earth(boxes)
    whole = ~grid.off_earth(boxes)
    assert 0.1 < whole.mean() < 0.9
    assert not shapely.covers(grid.earth, boxes[whole]).all()
    assert (kept[whole] == boxes[whole]).all()
    assert shapely.area(kept[~whole]).sum() < shapely.area(boxes[~whole]).sum() / 2


@pytest.mark.parametrize("name", KINDS)
def test_ground_that_lies_on_the_earth_is_left_alone(name: str) -> None:
    grid = KINDS[name]
    frame = grid.geometry_to_world(np.array([shapely.box(0, 0, grid.width, grid.height)]))
    assert grid.earth is None
    assert grid.on_earth(frame) is frame


def test_a_grid_survives_pickling() -> None:
    grid = KINDS["rotated"]
    _ = grid.gsd_m
    assert pickle.loads(pickle.dumps(grid)) == grid


PYPROJ = "pyproj.Transformer.from_crs('EPSG:4267', 'EPSG:4269', always_xy=True).transform(-100.0, 40.0)"
GDAL = "rasterio.warp.transform('EPSG:4267', 'EPSG:4269', [-100.0], [40.0])"


@pytest.mark.parametrize("shift", [PYPROJ, GDAL], ids=["pyproj", "gdal"])
@pytest.mark.parametrize("load", ["", "import geoseg.grid"], ids=["without", "with"])
def test_no_grid_of_a_datum_shift_is_fetched(load: str, shift: str) -> None:
    code = (
        f"{load}\nimport threading, pyproj, rasterio.warp\n"
        f"thread = threading.Thread(target=lambda: {shift}); thread.start(); thread.join(); {shift}"
    )
    with Listener() as listener:
        environment = os.environ | {"PROJ_NETWORK": "ON", "PROJ_NETWORK_ENDPOINT": listener.url}
        subprocess.run([sys.executable, "-c", code], env=environment, check=bool(load), capture_output=True)
        assert bool(listener.hits) == (load == "")  # by itself each goes and asks


@pytest.mark.parametrize(
    "wrong",
    [{"crs": None}, {"crs": "EPSG:1"}, {"transform": (1, 0, 0, 0, -1, 0)}, {"height": 2.5}, {"width": "3"}],
)
def test_what_is_no_grid_is_refused(wrong: dict[str, Any]) -> None:
    sound = {"crs": "EPSG:32645", "transform": Affine(0.5, 0, 350_000, 0, -0.5, 3_050_000), "height": 10, "width": 20}
    grid = Grid(**sound)  # type: ignore[arg-type]
    assert grid == Grid(**{**sound, "crs": CRS.from_epsg(32645), "height": np.int64(10)})  # type: ignore[arg-type]
    with pytest.raises(RasterError, match="Allowed"):
        Grid(**{**sound, **wrong})
    for gsd_m in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="GSD"):
            grid.at_gsd(gsd_m)


def test_windows_tiles_and_chips_hold_what_they_say() -> None:
    window = Window(row_off=0, col_off=0, height=3, width=np.int64(4))  # type: ignore[arg-type]
    assert type(window.width) is int
    with pytest.raises(ConfigError, match="row_off"):
        Window(row_off=0.5, col_off=0, height=3, width=4)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="core"):
        Tile(row=0, col=0, core=Window(row_off=0, col_off=0, height=9, width=4), window=window)
    tile = Tile(row=0, col=0, core=window, window=window)
    for pixels, valid in (([[[1]]], np.ones((3, 4), bool)), (np.ones((1, 3, 4)), np.ones((3, 4), np.uint8))):
        with pytest.raises(ModelError, match="bools"):
            Chip(tile=tile, pixels=pixels, valid=valid)  # type: ignore[arg-type]
