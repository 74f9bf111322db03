"""Vector files told by their content: what is read, and what is never opened."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas
import pyogrio
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from shapely.affinity import rotate, translate

from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.measures import measure
from geoseg.sinks import write
from geoseg.vectors import from_table, in_pixels, read_layer, read_shapes, read_table, reprojected

UTM = 32645
SHAPES = [shapely.box(500_000, 3_060_000, 500_030, 3_060_010), shapely.box(500_100, 3_060_000, 500_110, 3_060_040)]


def known(crs: int | None = UTM) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"label": ["ship", "pier"], "score": [0.5, 0.75]}, geometry=SHAPES, crs=crs)


@pytest.mark.filterwarnings("ignore:.*extension")
@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".shp", ".geojson", ".odd"])
def test_every_kind_gives_attributes_and_shapes(tmp_path: Path, suffix: str) -> None:
    path, written = tmp_path / f"truth{suffix}", known(4326 if suffix == ".geojson" else UTM)
    if suffix == ".parquet":
        written.to_parquet(path)
    else:  # the name says nothing: .odd holds a GeoPackage
        written.to_file(path, driver="GPKG" if suffix == ".odd" else None)
    found = read_table(path).sort_values("score", ignore_index=True)
    assert found.label.tolist() == ["ship", "pier"] and found.score.tolist() == [0.5, 0.75]
    assert found.crs == written.crs and found.geometry.iloc[0].equals(written.geometry.iloc[0])
    shapes = read_shapes(path)
    assert len(shapes.geometries) == 2 and shapes.crs == written.crs


def test_geojson_reads_as_gdal_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "truth.geojson"
    table = known().to_crs(4326).assign(when=["2024-01-01", None], n=[3, 4])
    table.loc[2] = {"label": "gone", "score": 0.1, "geometry": None, "when": None, "n": 5}
    table.to_file(path)
    ours, theirs = read_table(path), gpd.read_file(path)
    assert ours.crs == theirs.crs == 4326 and set(ours.columns) == set(theirs.columns)
    assert ours.geometry.iloc[2] is None and ours.geometry[:2].geom_equals_exact(theirs.geometry[:2], 0).all()
    for name in ("label", "score", "n"):
        assert ours[name].tolist() == theirs[name].tolist()


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"type": "FeatureCollection", "features": []}, 0),
        ({"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 1], [0, 0]]]}, 1),
        ({"type": "Feature", "id": 7, "properties": None, "geometry": {"type": "Point", "coordinates": [1, 2]}}, 1),
        ({"type": "Feature", "properties": {"geometry": "x"}, "geometry": None}, 1),
    ],
)
def test_every_geojson_object(tmp_path: Path, document: dict[str, object], rows: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    found = read_table(path)
    assert isinstance(found, gpd.GeoDataFrame) and len(found) == rows
    if "id" in document:
        assert found.id.tolist() == [7]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("truth.geojson", b'{"type": "FeatureCollection"} '),
        ("truth.geojson", b"\xef\xbb\xbf\n"),
        ("truth.fgb", b"fgb\x03fgb\x01"),
        ("truth.parquet", b"PAR1"),
    ],
)
def test_a_file_that_names_another_is_never_followed(tmp_path: Path, name: str, head: bytes) -> None:
    known().to_file(tmp_path / "secret.gpkg", layer="secret")
    path = tmp_path / name
    path.write_bytes(
        head + b'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource relativeToVRT="1">secret.gpkg'
        b"</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    assert len(gpd.read_file(path) if name != "truth.parquet" else [1, 2]) == 2, "GDAL would follow it"
    with pytest.raises(ConfigError, match="the truth file"):
        read_table(path, "truth")


@pytest.mark.parametrize("name", ["a!b", "a;b", "a\nb", "a?", "sub!/b", "sub.zip/b", "b.zip", "n\udcff", "x://b"])
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp", ".parquet"])
def test_the_file_that_is_named_is_the_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    """To pyogrio some of these are addresses of other files: those lie here too, and hold something else."""
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    for wanted, stem in ((False, "other"), (True, "wanted")):
        table = known().assign(label=stem)
        table.to_parquet(files / f"{stem}{suffix}") if suffix == ".parquet" else table.to_file(
            files / f"{stem}{suffix}"
        )
        places = [name] if wanted else ["b", "a", "ab"]
        for part, place in product(files.glob(f"{stem}.*"), places):
            target = Path(f"{place}{part.suffix}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part, target)
    for path in (f"{name}{suffix}", f"/{tmp_path}/{name}{suffix}"):  # two slashes
        assert set(read_table(path).label) == {"wanted"}
    if suffix == ".gpkg":
        assert read_layer(f"{name}.gpkg", "gaps") is None
        assert set(read_layer(f"{name}.gpkg", "wanted").label) == {"wanted"}


def test_the_layer_of_a_geopackage(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    known().to_file(path, layer="plots")
    assert len(read_table(path)) == 2
    known().iloc[:1].to_file(path, layer="blocks")
    with pytest.raises(ConfigError, match="2 layers of polygons"):
        read_table(path)
    known().iloc[1:].to_file(path, layer="footprints")
    assert read_table(path).label.tolist() == ["pier"]
    lines = known().set_geometry(known().boundary)
    lines.to_file(tmp_path / "lines.gpkg")
    with pytest.raises(ConfigError, match="without polygons") as told:
        read_table(tmp_path / "lines.gpkg")
    assert "layer you mean" not in str(told.value)


def test_a_layer_of_collections_may_hold_polygons(tmp_path: Path) -> None:
    """As it may in GeoJSON: each reader keeps the polygons."""
    plots = known()
    collections = [shapely.GeometryCollection([shape, shape.centroid]) for shape in plots.geometry]
    plots.set_geometry(collections, crs=plots.crs).to_file(tmp_path / "a.gpkg", geometry_type="GeometryCollection")
    found = read_table(tmp_path / "a.gpkg")
    assert shapely.area(found.geometry.to_numpy()).tolist() == plots.area.tolist()


@pytest.mark.parametrize("noted", [0, 1, 5])
def test_a_geopackage_that_notes_another_number_of_rows_is_read_whole(tmp_path: Path, noted: int) -> None:
    """As two programs leave it that add rows at once."""
    path = tmp_path / "a.gpkg"
    known().to_file(path, layer="plots")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("update gpkg_ogr_contents set feature_count = ?", (noted,))
    layer = read_layer(path, "plots")
    assert layer is not None
    assert read_table(path).label.tolist() == layer.label.tolist() == ["ship", "pier"]


def test_a_table_without_shapes_is_no_layer(tmp_path: Path) -> None:
    """As QGIS keeps a style in the file."""
    path = tmp_path / "a.gpkg"
    known().to_file(path, layer="plots")
    pyogrio.write_dataframe(pandas.DataFrame({"styleName": ["mine"]}), path, layer="layer_styles", append=True)
    assert len(read_table(path)) == 2
    assert read_layer(path, "layer_styles") is None


def test_without_a_crs_a_table_is_read_but_shapes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pixels.parquet"
    known(None).to_parquet(path)
    assert read_table(path).crs is None
    with pytest.raises(ConfigError, match=r"the label file .*pixels.parquet without a CRS"):
        read_shapes(path, "label")


def test_absent_files_and_folders(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "no.gpkg", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError, match=message):
            read_table(path)


ACROSS = {
    "degrees": (4326, (180.0, -17.63), 4e-6),
    "degrees from -180": (4326, (-180.0, -17.63), 4e-6),
    "Mercator": (3857, (20037508.34, -1_994_286.0), 0.5),
    "Pacific Mercator": (3832, (3_339_584.7, -1_981_351.0), 0.5),
    "UTM 60": (32760, (818_363.2, 8_048_223.0), 0.5),
    "UTM 1": (32701, (181_636.8, 8_048_223.0), 0.5),
}
"""Rasters across the antimeridian: EPSG code, where their column 250 meets row 220, and a pixel."""


@pytest.mark.parametrize("told", ["itself", "UTM 60", "UTM 1", "Pacific Mercator", "GeoJSON", "from 180", "from -180"])
@pytest.mark.parametrize("place", ACROSS)
def test_shapes_come_to_the_rasters_side_of_the_antimeridian(tmp_path: Path, place: str, told: str) -> None:
    code, (x, y), step = ACROSS[place]
    transform = Affine(step, 0, x - 250 * step, 0, -step, y + 220 * step)
    grid = Grid(crs=CRS(code), transform=transform, height=300, width=500)
    # Two west of it, two east of it, and one that it divides.
    left, top = np.array([50, 150, 350, 420, 230]), np.array([40, 40, 40, 150, 200])
    pixels = shapely.box(left, top, left + 45, top + 40)
    here = gpd.GeoDataFrame({"label": ["a"] * 5}, geometry=grid.geometry_to_world(pixels), crs=code)
    degrees = here.to_crs(4326)
    degrees.geometry = shapely.transform(degrees.geometry, lambda xy: np.column_stack([xy[:, 0] % 360, xy[:, 1]]))
    if told == "GeoJSON":
        table = read_table(write(degrees, tmp_path / "a.geojson"))
        assert sorted(table.geom_type) == ["MultiPolygon", *["Polygon"] * 4]
    elif told in ACROSS:
        table = degrees.to_crs(ACROSS[told][0])
    else:
        past = degrees.set_geometry(degrees.translate(-360))
        table = {"itself": here, "from 180": degrees, "from -180": past}[told]
    found = in_pixels(from_table(table, "the labels"), grid)
    assert [shape.geom_type for shape in found] == ["Polygon"] * 5
    assert (shapely.area(shapely.symmetric_difference(found, pixels)) < 0.02 * shapely.area(pixels)).all()


@pytest.mark.parametrize(
    ("source", "lon", "target", "ends"),
    [
        (32660, 180, 4326, (-180, 180)),
        (32601, 180, 4326, (-180, 180)),
        (32660, 180, 3857, (-20037508.343, 20037508.343)),
        (4326, 180, 3857, (-20037508.343, 20037508.343)),
        (3832, 180, 4258, (-180, 180)),
        (32626, -30, 3832, (-20037508.343, 20037508.343)),  # of the Pacific: ends at 30 W
        (32660, 180, 54030, (-16811803, 16811803)),  # Robinson, whose ends lie nearer to each other in the north
    ],
)
def test_polygons_are_cut_where_a_crs_ends(source: int, lon: float, target: int, ends: tuple[float, float]) -> None:
    crs = CRS(f"ESRI:{target}" if target == 54030 else target)
    shapes = shapely.box([lon - 0.001, lon - 0.003], 16, [lon + 0.002, lon - 0.002], 16.002)
    holed = shapely.difference(shapes[0], shapely.box(lon - 0.0005, 16.0005, lon + 0.0005, 16.0015))
    table = gpd.GeoDataFrame({"n": [7, 8, 9]}, geometry=[holed, shapes[1], shapes[0]], crs=4326, index=[3, 1, 2])
    table = table.to_crs(source)
    found = reprojected(table, crs)
    assert found.crs == crs and found.index.tolist() == [3, 1, 2] and found.n.tolist() == [7, 8, 9]
    assert found.is_valid.all() and found.geom_type.tolist() == ["MultiPolygon", "Polygon", "MultiPolygon"]
    assert shapely.equals_exact(found.geometry[1], table.to_crs(crs).geometry[1])  # to the bit
    assert found.total_bounds[[0, 2]] == pytest.approx(ends, rel=2e-4)
    before, after = (measure(each.geometry.to_numpy(), CRS(each.crs))["area_m2"] for each in (table, found))
    assert after == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("crs", [3031, 3413, 3995, 32661, 6931])
@pytest.mark.parametrize("away", [40.0, 4_000.0, 1_500_000.0, 0.0])  # metres from the pole; 0: around it
def test_polygons_of_polar_maps_are_cut_at_180_degrees(crs: int, away: float) -> None:
    polar = CRS(crs)
    pole = -90 if crs == 3031 else 90
    x0, y0 = Transformer.from_crs(4326, polar, always_xy=True).transform(0, pole)
    x, y = Transformer.from_crs(4326, polar, always_xy=True).transform(180, pole - np.sign(pole) * away / 111_700)
    court = shapely.box(x - 30, y - 20, x + 35, y + 25).difference(shapely.box(x - 9, y - 9, x + 8, y + 7))
    wide = shapely.box(min(x, x0) - 9, min(y, y0) - 9, max(x, x0) + 9, max(y, y0) + 9)  # all the way to the pole
    for shape in (court, rotate(court, 17), wide):
        found = reprojected(gpd.GeoDataFrame(geometry=[shape], crs=polar), CRS(4326)).geometry
        assert found.is_valid.all()
        fine = shapely.segmentize(found.iloc[0], 0.5)
        told = abs(polar.get_geod().geometry_area_perimeter(fine)[0])
        assert told == pytest.approx(measure(np.array([shape]), polar)["area_m2"][0], rel=2e-3)
        if shape is not wide and away > 1000:
            assert all(part.bounds[2] - part.bounds[0] < 2 for part in shapely.get_parts(found.iloc[0]))


@pytest.mark.parametrize(("west", "east"), [(0, 360), (10, 350), (-170, 170), (-180, 180), (-5, 185)])
def test_what_is_wider_than_half_the_earth_is_no_narrow_strip(west: float, east: float) -> None:
    """A raster from 0 to 360 degrees has gaps that go round: their ends are each other's neighbours."""
    table = gpd.GeoDataFrame(geometry=[shapely.box(west, -60, east, 60)], crs=4326)
    [found] = reprojected(table, CRS(3857)).geometry
    height = 2 * 8_399_737.89
    assert found.is_valid and found.area == pytest.approx(math.radians(east - west) * 6_378_137 * height, rel=1e-6)


def test_polygons_that_were_cut_stay_so() -> None:
    parts = shapely.MultiPolygon([shapely.box(179.9, 16, 180, 17), shapely.box(-180, 16, -179.9, 17)])
    there = reprojected(gpd.GeoDataFrame(geometry=[parts], crs=4326), CRS(3857))
    back = reprojected(there, CRS(4326)).geometry[0]
    assert shapely.symmetric_difference(back, parts).area < 1e-9


@pytest.mark.parametrize("crs", [4326, 3857, 32646])
def test_what_touches_itself_stays_valid_in_another_crs(crs: int) -> None:
    """A corner of a hole on a wall, between its ends, comes to lie across it where the wall's ends alone are moved."""
    house = shapely.Polygon([(0, 0), (60, 20), (80, 80), (20, 60)], [[(30, 10), (40, 50), (30, 40)]])
    quarter = shapely.transform(house, lambda xy: xy[:, ::-1] * [-1, 1])
    half, last = (shapely.transform(shape, np.negative) for shape in (house, quarter))
    turned = (house, quarter, half, last)
    shapes = [translate(shape, 600_000, 3_060_000 + 200 * k) for k in range(9) for shape in turned]
    table = gpd.GeoDataFrame(geometry=[*shapes, None], crs=UTM)
    assert table[:-1].is_valid.all()
    found = reprojected(table, CRS(crs)).geometry
    assert found[:-1].is_valid.all() and found.iloc[-1] is None
    assert set(found[:-1].geom_type) <= {"Polygon", "MultiPolygon"}
    back = found[:-1].to_crs(UTM).area.to_numpy()
    assert back == pytest.approx(table[:-1].area.to_numpy(), rel=1e-5)


def test_shapes_of_the_other_side_of_the_earth_stay_there() -> None:
    grid = Grid(crs=CRS(4326), transform=Affine(4e-6, 0, 0.001, 0, -4e-6, -17.63), height=300, width=500)
    lonlat = gpd.GeoSeries([shapely.box(179.999, -17.632, 180.001, -17.629), None, shapely.Polygon()], crs=4326)
    for shapes in (lonlat, lonlat.to_crs(32760)):
        far, none, empty = in_pixels(from_table(shapes, "the labels"), grid)
        assert far.bounds[0] > 4e7 and none is None and empty.is_empty


def test_shapes_that_have_no_place_in_the_grids_crs() -> None:
    """Metres that are said to be degrees, as in GeoJSON without a CRS, are nowhere; what reaches there is refused."""
    grid = Grid(crs=CRS(UTM), transform=Affine(0.5, 0, 500_000, 0, -0.5, 3_060_100), height=300, width=400)
    near = gpd.GeoSeries([SHAPES[0]], crs=UTM).to_crs(4326).iloc[0]
    guinea = shapely.box(-3.1, 0.1, -2.9, 0.2)  # a quarter of the globe from the zone
    table = gpd.GeoSeries([*SHAPES, near, guinea, None], crs=4326)
    *wrong, right, far, none = in_pixels(from_table(table, "the labels"), grid)
    assert wrong == [None, None] and far is None and none is None
    assert np.allclose(right.bounds, (0, 180, 60, 200), atol=1e-3)
    for shape in (shapely.MultiPolygon([near, guinea]), shapely.Polygon([(87, 27), (88, 27), (-2.9, 0.1)])):
        with pytest.raises(ConfigError, match=r"the labels in WGS 84, .* not lead to WGS 84 / UTM.*only a part"):
            in_pixels(from_table(gpd.GeoSeries([shape], crs=4326), "the labels"), grid)
    undefined = 'LOCAL_CS["Undefined Cartesian SRS",UNIT["Meter",1]]'  # QGIS's layers without a CRS
    with pytest.raises(ConfigError, match="the labels in Undefined Cartesian SRS, which does not lead"):
        in_pixels(from_table(gpd.GeoSeries(SHAPES, crs=undefined), "the labels"), grid)
