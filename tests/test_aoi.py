"""AOIs of every kind land on the grid, or are refused with a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from rasters import DEGREES, NORTH_UP, ROTATED, SOUTH_UP, UTM

from geoseg.aoi import load_aoi, read_aoi
from geoseg.errors import ConfigError
from geoseg.grid import Grid

GRIDS = {
    "north_up": Grid(crs=CRS(UTM), transform=NORTH_UP, height=300, width=410),
    "south_up": Grid(crs=CRS(UTM), transform=SOUTH_UP, height=300, width=410),
    "rotated": Grid(crs=CRS(UTM), transform=ROTATED, height=300, width=410),
    "degrees": Grid(crs=CRS(4326), transform=DEGREES, height=300, width=410),
    "mercator": Grid(crs=CRS(3857), transform=Affine(0.3, 0, 9.51e6, 0, -0.3, 3.2e6), height=300, width=410),
}
WANTED = shapely.Polygon([(50, 40), (300, 70), (260, 220), (80, 200)], [[(120, 100), (150, 100), (150, 130)]])


def on_ground(grid: Grid, pixels: shapely.Geometry, crs: int | str = 4326) -> shapely.Geometry:
    """Pixels to another CRS, with edges cut finely: what a user would have drawn."""
    move = Transformer.from_crs(grid.crs, crs, always_xy=True)
    world = grid.geometry_to_world(np.array([shapely.segmentize(pixels, 5)], object))[0]
    return shapely.transform(world, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1])))


def same(a: shapely.Geometry, b: shapely.Geometry, tolerance: float = 0.01) -> bool:
    return bool(shapely.hausdorff_distance(shapely.segmentize(a, 5), shapely.segmentize(b, 5)) < tolerance)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_geometry_wkt_and_tables_agree(grid: Grid) -> None:
    drawn = on_ground(grid, WANTED)
    table = geopandas.GeoDataFrame(geometry=[on_ground(grid, WANTED, 3035)], crs=3035)
    for aoi in (drawn, drawn.wkt, f"SRID=4326;{drawn.wkt}", table, table.geometry):
        found, warnings = load_aoi(aoi, grid)
        assert same(found, WANTED), type(aoi)
        assert warnings == []


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb", "parquet", "shp"])
@pytest.mark.parametrize("crs", [4326, 3857, 32645])
def test_vector_files_in_any_crs(tmp_path: Path, suffix: str, crs: int) -> None:
    grid, path = GRIDS["rotated"], tmp_path / f"my aoi.{suffix}"
    table = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[on_ground(grid, WANTED, crs)], crs=crs)
    if suffix == "parquet":
        table.to_parquet(path)
    elif suffix == "geojson":
        table.to_file(path, driver="GeoJSON", engine="pyogrio")
    else:
        table.to_file(path)
    found, _ = load_aoi(path, grid)
    # GDAL writes GeoJSON with 7 decimals of a degree or fewer digits: about a centimetre.
    assert same(found, WANTED, 0.1 if suffix == "geojson" else 0.01)
    assert same(load_aoi(str(path), grid)[0], found, 1e-9)


@pytest.mark.parametrize("name", ["polygon.geojson", "Point 1.gpkg", "multipolygon-a.fgb", "POLYGON (1).geojson"])
def test_a_file_may_be_called_as_wkt_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    grid = GRIDS["rotated"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_aoi(name, grid)
    geopandas.GeoDataFrame(geometry=[on_ground(grid, WANTED)], crs=4326).to_file(name)
    assert same(load_aoi(name, grid)[0], WANTED, 0.1)


@pytest.mark.parametrize("text", ["POLYGON((0 0,1 1", "POLYGON ((0 0, 1 0, 1 1.5", "SRID=4326; POINT (1 x)"])
def test_broken_wkt_is_told_as_such(text: str) -> None:
    with pytest.raises(ConfigError, match="WKT that cannot be read"):
        load_aoi(text, GRIDS["rotated"])


def test_a_box_follows_its_parallels_on_a_big_grid() -> None:
    grid = Grid(crs=CRS(UTM), transform=Affine(100, 0, 200_000, 0, -100, 6_600_000), height=3000, width=6000)
    found, _ = load_aoi("84,57,90,59", grid)
    lon = np.linspace(84.5, 89.5, 400)
    move = Transformer.from_crs(4326, grid.crs, always_xy=True)
    for lat in (57.0, 59.0):
        rows, cols = grid.to_pixel(*move.transform(lon, np.full_like(lon, lat)))
        away = shapely.distance(found.exterior, shapely.points(cols, rows))
        assert away.max() < 0.02
    chord = shapely.LineString([(cols[0], rows[0]), (cols[-1], rows[-1])])
    assert shapely.distance(chord, shapely.points(cols, rows)).max() > 10  # straight edges would be far off


def test_a_box_as_text_tuple_and_array() -> None:
    grid = GRIDS["degrees"]
    west, south, east, north = 85.5005, 27.5990, 85.5015, 27.5995
    expected = shapely.box(100, 125, 300, 250)
    for aoi in (f"{west},{south},{east},{north}", f" {west} , {south},{east}, {north}"):
        assert same(load_aoi(aoi, grid)[0], expected, 1e-6)
    assert same(load_aoi((west, south, east, north), grid)[0], expected, 1e-6)
    assert same(load_aoi(np.array([west, south, east, north]), grid)[0], expected, 1e-6)


@pytest.mark.parametrize("given", ["85.5, 27.6,85.6", "1,2,3,4,5"])
def test_numbers_that_are_no_box_are_told_as_such(given: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)an AOI of [35] numbers.*bounding box"):
        load_aoi(given, GRIDS["degrees"])


@pytest.mark.parametrize("given", ["345000.25,3055712,345352,3056000", "0,1,400,2"])
def test_a_box_in_another_crs_is_told_as_it_was_given(given: str) -> None:
    with pytest.raises(ConfigError, match=rf"AOI box {given}, which is not in degrees.*SRID="):
        load_aoi(given, GRIDS["degrees"])


@pytest.mark.parametrize(
    "given", [[(0, 0), (1, 0), (1, 1), 5], [[(0, 0), (1, 1)], [(0, 0)]], [[1, 2], [3, 4], [5, 6], [7, 8]]]
)
def test_lists_that_are_no_box_are_refused(given: list[object]) -> None:
    with pytest.raises(ConfigError, match="an AOI of type list"):
        load_aoi(given, GRIDS["degrees"])


def test_a_box_over_the_antimeridian() -> None:
    grid = Grid(crs=CRS("EPSG:32601"), transform=Affine(10, 0, 335_000, 0, -10, 7_000_000), height=900, width=4000)
    found, _ = load_aoi("179.5,62,-179.5,64", grid)
    lon, _ = grid.to_lonlat(*np.array([[450.0, 450.0], [1.0, 3999.0]]))
    assert lon[0] > 179 and lon[1] < 0  # the grid does cross it
    eastern = load_aoi("-180,62,-179.5,64", grid)[0]
    western = load_aoi("179.5,62,180,64", grid)[0]
    assert eastern.area > 1e6 and western.area > 1e5
    assert same(shapely.union(eastern, western), found, 0.05)


BEYOND = {
    "fiji": (3857, Affine(1000, 0, 19_920_000, 0, -1000, -1_900_000), 100, 200),
    "fiji from the west": (3395, Affine(1000, 0, -20_120_000, 0, -1000, -1_900_000), 100, 200),
    "all of it": (4087, Affine(100_187.54, 0, -20_037_508.34, 0, -100_187.54, 10_018_754.17), 200, 400),
    "from Greenwich round": (3857, Affine(100_187.54, 0, 0, 0, -100_187.54, 10_018_754.17), 200, 400),
    "another datum": (4269, Affine(0.1, 0, 175, 0, -0.1, 23), 400, 300),
    "pole": (3413, Affine(1000, 0, -100_000, 0, -1000, 120_000), 200, 220),
    "pole near a side": (3031, Affine(1000, 0, -2000, 0, -1000, 120_000), 200, 220),
    "a pole alone": (3413, Affine(10, 0, -1000, 0, -10, 1000), 200, 210),
}
BOXES = [(178, -20, -178, -15), (179.9, -18, -179.9, -17.5), (-180, -20, -179, -15), (170, -10, -170, 10)]
BOXES += [(-180, -90, 180, 90), (0, 60, 360, 90), (0, 60, 180, 90), (-180, 60, 180, 89), (0, -90, 180, -89)]


@pytest.mark.parametrize("name", BEYOND)
def test_boxes_hold_the_pixels_whose_degrees_they_hold(name: str) -> None:
    """Beyond 180 degrees and around poles, against every pixel's own longitude and latitude."""
    code, transform, height, width = BEYOND[name]
    grid = Grid(crs=CRS.from_epsg(code), transform=transform, height=height, width=width)
    rows, cols = np.random.default_rng(0).uniform(0, [[height], [width]], (2, 4000))
    lon, lat = grid.to_lonlat(rows, cols)
    for west, south, east, north in BOXES:
        span = east - west if east > west else east - west + 360
        inside = ((lon - west) % 360 <= span) & (lat >= south) & (lat <= north)
        found, _ = load_aoi((west, south, east, north), grid)
        assert (shapely.contains_xy(found, cols, rows) == inside).mean() > 0.999, (west, south, east, north)


@pytest.mark.parametrize("code", [32760, 32701, 3460, 3832])
def test_tables_in_projections_reach_beyond_180_or_are_refused(code: int) -> None:
    grid = Grid(crs=CRS(3857), transform=BEYOND["fiji"][1], height=100, width=200)
    move = Transformer.from_crs(4326, code, always_xy=True)
    for west, east in ((179.6, 180.3), (178.95, 179.3), (180.4, 180.7)):
        box = shapely.segmentize(shapely.box(west, -17.6, east, -17), 0.01)
        drawn = shapely.transform(box, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1])))
        table = geopandas.GeoDataFrame(geometry=[drawn], crs=code)
        expected, _ = load_aoi((west, -17.6, east, -17), grid)
        assert same(load_aoi(table, grid)[0], expected, 0.05), (west, east)
        if west == 179.6:  # the world ends within it
            world = Grid(crs=CRS(3857), transform=BEYOND["all of it"][1], height=200, width=400)
            with pytest.raises(ConfigError, match=r"torn apart.*EPSG:4326"):
                load_aoi(table, world)


def test_an_aoi_larger_than_the_grid_is_cut_to_it() -> None:
    for grid in GRIDS.values():
        found, _ = load_aoi("-180,-85,180,85", grid)
        assert same(found, shapely.box(0, 0, 410, 300), 1e-6)
        around = grid.geometry_to_world(np.array([shapely.box(-50, -50, 900, 900)], object))
        own = geopandas.GeoSeries(around, crs=grid.crs)
        assert same(load_aoi(own, grid)[0], shapely.box(0, 0, 410, 300), 1e-6)


def test_no_overlap_is_empty() -> None:
    for grid in GRIDS.values():
        found, (warning,) = load_aoi("10,50,11,51", grid)
        assert found.is_empty and "does not meet the raster" in warning


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_its_text_is_the_same_aoi(grid: Grid) -> None:
    drawn = geopandas.GeoSeries(
        [on_ground(grid, WANTED, 3035), on_ground(grid, shapely.box(9, 9, 40, 30), 3035)], crs=3035
    )
    area = read_aoi(drawn)
    assert load_aoi(area.text, grid)[0].equals_exact(load_aoi(drawn, grid)[0], 0)
    assert area.text.startswith("SRID=3035;MULTIPOLYGON")
    assert load_aoi(read_aoi("85.5,27.5,85.7,27.7").text, grid)[0].equals(load_aoi("85.5,27.5,85.7,27.7", grid)[0])


def test_an_aoi_of_very_many_vertices_is_summed_up() -> None:
    one, other = (read_aoi(shapely.Point(85.5, 27.6).buffer(r, quad_segs=4000)).text for r in (0.01, 0.011))
    assert "16001 vertices within 85.49,27.59,85.51,27.61" in one and len(one) < 200
    assert one != other


def test_swapped_coordinates_are_named() -> None:
    for grid in GRIDS.values():
        lon, lat = grid.to_lonlat([150.0], [200.0])
        swapped = f"{lat[0] - 0.001},{lon[0] - 0.001},{lat[0] + 0.001},{lon[0] + 0.001}"
        with pytest.raises(ConfigError, match=r"Swap latitude and longitude"):
            load_aoi(swapped, grid)


def test_a_district_whose_mirror_image_meets_a_scene_elsewhere_is_not_taken_for_swapped() -> None:
    scene = Grid(crs=CRS(4326), transform=Affine(1e-5, 0, 10.51, 0, -1e-5, 8.52), height=300, width=410)
    found, (warning,) = load_aoi("8,10,9,11", scene)  # of Nigeria, as the scene is
    assert found.is_empty and "does not meet the raster (it would with its coordinates swapped" in warning


def test_swapped_coordinates_are_named_where_a_longitude_is_no_latitude() -> None:
    grid = Grid(crs=CRS(4326), transform=Affine(1e-5, 0, 124.26, 0, -1e-5, 13.97), height=300, width=410)
    with pytest.raises(ConfigError, match=r"Swap latitude and longitude"):  # told as of another CRS before
        load_aoi(shapely.box(13.968, 124.261, 13.969, 124.263), grid)
    with pytest.raises(ConfigError, match="not degrees"):
        load_aoi(shapely.box(50, 3_059_900, 51, 3_060_000), grid)


def test_a_broken_ring_is_repaired_with_a_warning() -> None:
    grid = GRIDS["degrees"]
    bow = shapely.Polygon([(85.5, 27.599), (85.501, 27.5995), (85.501, 27.599), (85.5, 27.5995)])
    found, warnings = load_aoi(bow, grid)
    assert found.is_valid and found.area == pytest.approx(200 * 125 / 2, rel=0.01)
    assert len(warnings) == 1 and "Self-intersection" in warnings[0]


@pytest.mark.parametrize(
    ("aoi", "message"),
    [
        ("POLYGON EMPTY", "no polygon"),
        ("POINT (85.5 27.6)", "no polygon"),
        ("POLYGON ((85 27, 86 27", "cannot be read"),
        ("85.5,27.7,85.6,27.6", "south < north"),
        ("86,27,85,28", "west < east"),
        ("300000,3059000,300100,3060000", "degrees"),
        ("nowhere.gpkg", "does not exist"),
        (5, "type int"),
        ((1, 2, 3), "type tuple"),
        (shapely.box(300_000, 3_059_900, 300_100, 3_060_000), "not degrees"),
        (np.array(5.0), "type ndarray"),
        (geopandas.GeoSeries([shapely.box(0, 0, 1, 1)]), "without a CRS"),
        (geopandas.GeoDataFrame({"a": [1]}), "active geometry"),
    ],
)
def test_what_cannot_be_used_is_refused(aoi: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_aoi(aoi, GRIDS["degrees"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.geojson", b"", "empty file"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": []}', "no polygon"),
        ("a.geojson", b'{"type": "Feature", "geometry": null, "properties": {}}', "no polygon"),
        ("a.geojson", b'{"type": "FeatureCollection", "feat', "not sound GeoJSON"),
        ("a.geojson", b"[" * 10 + b"]" * 10, "of another kind"),
        ("a.geojson", b'{"type": "Polygon", "coordinates": [[[1, 2], "x"]]}', "not sound GeoJSON"),
        ("a.gpkg", b"SQLite format 3\0" + b"\0" * 100, "of another kind"),
        ("a.kml", b"<kml></kml>", "XML"),
        ("a.tif", b"II*\0" + b"\0" * 100, "is a raster.*gdaltindex"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_aoi(path, GRIDS["degrees"])


def test_an_ogr_vrt_named_geojson_is_never_opened(tmp_path: Path) -> None:
    grid = GRIDS["degrees"]
    secret = tmp_path / "elsewhere" / "secret.gpkg"
    secret.parent.mkdir()
    geopandas.GeoDataFrame(geometry=[on_ground(grid, WANTED)], crs=4326).to_file(secret, layer="secret")
    path = tmp_path / "aoi.geojson"
    path.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{secret}</SrcDataSource>'
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    assert len(geopandas.read_file(path)) == 1  # GDAL itself would follow it
    with pytest.raises(ConfigError, match="XML"):
        load_aoi(path, grid)


def test_many_layers_are_refused(tmp_path: Path) -> None:
    table, path = (
        geopandas.GeoDataFrame(geometry=[shapely.box(85.5, 27.599, 85.6, 27.6)], crs=4326),
        tmp_path / "a.gpkg",
    )
    table.to_file(path, layer="one")
    table.to_file(path, layer="two")
    with pytest.raises(ConfigError, match=r"one, two"):
        load_aoi(path, GRIDS["degrees"])


def test_collections_keep_their_polygons(tmp_path: Path) -> None:
    path = tmp_path / "aoi.json"
    square = {
        "type": "Polygon",
        "coordinates": [[[85.5, 27.599], [85.501, 27.599], [85.501, 27.6], [85.5, 27.599]]],
    }
    point = {"type": "Point", "coordinates": [85.5, 27.6]}
    path.write_text(json.dumps({"type": "GeometryCollection", "geometries": [square, point]}))
    found, _ = load_aoi(path, GRIDS["degrees"])
    assert found.geom_type == "Polygon" and found.area == pytest.approx(200 * 250 / 2, rel=0.01)


def test_the_shared_labels_lie_on_their_rasters(shared_data: Path) -> None:
    from geoseg.raster import open_raster

    for name in ("banepa", "dhaka_0"):  # EPSG:4326, and EPSG:3857 by the old crs member
        info = open_raster(shared_data / "buildings" / f"{name}.tif")
        found, _ = load_aoi(shared_data / "buildings" / f"{name}.geojson", info.grid)
        assert 0.1 < found.area / (info.grid.height * info.grid.width) < 0.9
