from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from commands import cli
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyproj import CRS

from geoseg import overlay
from geoseg.errors import ConfigError, RasterError
from geoseg.grid import Grid
from geoseg.overlay import preview, read_view, to_picture
from geoseg.picture import Entry, lines, scale_bar, with_legend
from geoseg.sinks import write
from geoseg.sinks.colours import ERROR_COLOURS, GREY, label_colours
from geoseg.window import Window

SAMPLES = Path(__file__).parents[1] / "data_samples"

HEIGHT, WIDTH = 300, 420
CENTRE = (120.41, 180.37)  # row, column
RING = shapely.affinity.translate(  # in pixels, x = column
    shapely.box(-80, -60, 80, 60).difference(shapely.box(-40, -30, 40, 30)), *CENTRE[::-1]
)
ROTATED = Affine.translation(500_000, 3_060_000) @ Affine.rotation(33) @ Affine.scale(0.5, -0.4)
GRIDS = {
    "north-up": ("EPSG:32645", Affine(0.3, 0, 500_000, 0, -0.3, 3_060_000)),
    "rotated": ("EPSG:32645", ROTATED),
    "south-up": ("EPSG:32645", Affine(0.3, 0, 500_000, 0, 0.3, 3_060_000)),
    "degrees": ("EPSG:4326", Affine(4e-6, 0, 86.5, 0, -3e-6, 27.6)),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    path: Path
    footprints: gpd.GeoDataFrame


def scene(folder: Path, kind: str = "north-up", *, dtype: str = "uint8", bands: int = 3) -> Scene:
    """A dark raster with one bright ring, and the ring's true outline in another CRS."""
    crs, transform = GRIDS[kind]
    rows, cols = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = shapely.contains_xy(RING, cols, rows)
    low, high = (20, 220) if dtype == "uint8" else (300, 9000)
    pixels = np.where(inside, high, low).astype(dtype)
    path = folder / f"{kind}.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=HEIGHT, width=WIDTH, count=bands, dtype=dtype, crs=crs,
        transform=transform,
    ) as out:  # fmt: skip
        for band in range(1, bands + 1):
            out.write(pixels, band)
    ground = shapely.transform(RING, lambda xy: np.column_stack(transform @ (xy[:, 0], xy[:, 1])))
    table = gpd.GeoDataFrame({"label": ["building"]}, geometry=[ground], crs=crs)
    return Scene(path=path, footprints=table.to_crs(4326 if crs != "EPSG:4326" else 3857))


def tint(shown: Path, plain: Path, height: int) -> np.ndarray:
    """Where a picture differs from the one without footprints, above the legend."""
    a, b = (np.asarray(Image.open(p), int)[:height] for p in (shown, plain))
    return np.abs(a - b).max(axis=2)


@pytest.mark.parametrize("kind", list(GRIDS))
@pytest.mark.parametrize("side", [315, 420, 840])
def test_footprints_lie_on_what_they_outline(tmp_path: Path, kind: str, side: int) -> None:
    made = scene(tmp_path, kind)
    shown = preview(made.path, made.footprints, tmp_path / "a.png", max_side=side)
    plain = preview(made.path, made.footprints[:0], tmp_path / "b.png", max_side=side)
    height, scale = side * HEIGHT // WIDTH, side / WIDTH
    changed = tint(shown, plain, height) > 12
    rows, cols = np.nonzero(changed)
    assert np.allclose([rows.mean() + 0.5, cols.mean() + 0.5], np.array(CENTRE) * scale, atol=0.5)
    assert np.allclose([rows.min(), cols.min(), rows.max() + 1, cols.max() + 1],
                       np.array([60, 100, 180, 260]) * scale, atol=3)  # fmt: skip
    hole = changed[int(95 * scale) + 2 : int(145 * scale) - 2, int(145 * scale) + 2 : int(215 * scale) - 2]
    assert hole.size and not hole.any(), "the hole is painted over"


@pytest.mark.parametrize("kind", list(GRIDS))
def test_shapes_reach_picture_pixels_exactly(tmp_path: Path, kind: str) -> None:
    made = scene(tmp_path, kind)
    window = Window(row_off=40, col_off=80, height=200, width=240)
    _, valid, grid = read_view(made.path, window=window, max_side=480)
    assert valid.shape == (400, 480)
    (found,) = to_picture(made.footprints.geometry, grid)
    expected = shapely.affinity.affine_transform(RING, [2, 0, 0, 2, -160, -80])
    assert shapely.hausdorff_distance(found, expected) < 0.02


def test_shapes_across_the_antimeridian_come_into_the_picture() -> None:
    transform = Affine(4e-6, 0, 179.999, 0, -4e-6, -17.63)
    grid = Grid(crs=CRS.from_epsg(4326), transform=transform, height=300, width=500)
    boxes = shapely.box([50, 350, 230], [40, 40, 200], [100, 400, 270], [80, 80, 240])
    shapes = gpd.GeoSeries(grid.geometry_to_world(boxes), crs=4326).to_crs(32760)
    assert np.allclose(shapely.bounds(to_picture(shapes, grid)), shapely.bounds(boxes), atol=0.1)


def test_colours_follow_the_label_and_truth_is_white(tmp_path: Path) -> None:
    made = scene(tmp_path)
    far = made.footprints.assign(label="ship").set_geometry(made.footprints.translate(1, 1))
    moved = made.footprints.to_crs(32645).translate(30, -20).to_crs(4326).to_frame("geometry")
    shapes = [*made.footprints.geometry, *far.geometry, *moved.geometry]
    table = gpd.GeoDataFrame({"label": ["building", "ship", None]}, geometry=shapes, crs=4326)
    path = preview(made.path, table, tmp_path / "a.png", truth=made.footprints.to_crs(3857))
    picture = np.asarray(Image.open(path), int)
    colours = label_colours(["building", "ship"])
    assert picture.shape[1] == 1600  # enlarged
    inside = picture[int(75 * 1600 / 420), int(180 * 1600 / 420)]
    expected = 220 + 0.25 * (np.array(colours["building"]) - 220)
    assert np.allclose(inside, expected, atol=1)
    row = int((CENTRE[0] - 60) * 1600 / 420)
    edge = picture[row - 2 : row + 3, 500:900].min(axis=2).max(axis=0)  # the whitest within 2 pixels
    assert (edge > 150).all(), "the truth's line on the upper edge is white"


@pytest.mark.parametrize("missing", [None, ""])
def test_what_has_no_label_is_grey_and_takes_no_colour_away(tmp_path: Path, missing: str | None) -> None:
    """It was taken for one more label, of which one had another colour then than in QGIS."""
    made = scene(tmp_path)
    label = next(name for name in map("z{}".format, range(99)) if label_colours([name, "", "no label"])[name]
                 != label_colours([name])[name])  # fmt: skip
    away = made.footprints.to_crs(32645).translate(500, 0).to_crs(4326)  # off the picture, but in the table
    colours = label_colours([label])[label], GREY
    for labels, colour in zip(([label, missing], [missing, label]), colours, strict=True):
        table = gpd.GeoDataFrame({"label": labels}, geometry=[*made.footprints.geometry, *away], crs=4326)
        picture = np.asarray(Image.open(preview(made.path, table, tmp_path / "a.png")), int)
        inside = picture[int(75 * 1600 / 420), int(180 * 1600 / 420)]
        assert np.allclose(inside, 220 + 0.25 * (np.array(colour) - 220), atol=1)


def test_errors_have_the_colours_of_their_layer(tmp_path: Path) -> None:
    """All of an error layer was drawn in the one colour of its label."""
    made = scene(tmp_path)
    table = made.footprints.assign(label="building", kind="missed")
    picture = np.asarray(Image.open(preview(made.path, table, tmp_path / "a.png")), int)
    inside = picture[int(75 * 1600 / 420), int(180 * 1600 / 420)]
    assert np.allclose(inside, 220 + 0.25 * (np.array(ERROR_COLOURS["missed"]) - 220), atol=1)


def test_what_has_no_value_is_grey(tmp_path: Path) -> None:
    made = scene(tmp_path)
    with rasterio.open(made.path, "r+") as raster:
        raster.nodata = 20
    picture = np.asarray(Image.open(preview(made.path, made.footprints[:0], tmp_path / "a.png", max_side=420)))
    assert (picture[:40] == 228).all() and (picture[70, 110:250] == 220).all()


def test_what_was_not_examined_is_told_from_where_nothing_was_found(tmp_path: Path) -> None:
    made = scene(tmp_path)
    kinds = ["outside_aoi", "failed", "nodata"]
    boxes = shapely.box([0, 350, 60], [0, 0, 250], [50, 420, 90], [300, 60, 290])
    crs, transform = GRIDS["north-up"]
    ground = shapely.transform(boxes, lambda xy: np.column_stack(transform @ (xy[:, 0], xy[:, 1])))
    gaps = gpd.GeoDataFrame({"reason": kinds}, geometry=list(ground), crs=crs).to_crs(4326)
    found = tmp_path / "found.gpkg"
    write(made.footprints.to_crs(crs), found, gaps=gaps.to_crs(crs))
    pictures = [preview(made.path, made.footprints, tmp_path / "a.png", gaps=gaps, max_side=420), tmp_path / "b.png"]
    assert cli("preview", made.path, found, "-o", pictures[1], "--max-side", 420).exit_code == 0
    rows = pd.concat([gaps[:1], gaps[1:].reset_index(drop=True)])  # of two runs: a row's number is no name
    pictures.append(preview(made.path, made.footprints, tmp_path / "c.png", gaps=rows, max_side=420))
    for picture in (np.asarray(Image.open(path)) for path in pictures):
        assert (picture[150, 10:40] == 149).all(), "pale outside the AOI"
        assert (picture[30, 360:410] == (119, 20, 20)).all(), "red where the detector failed"
        assert (picture[270, 55:85] == 20).all() and (picture[100, 300:340] == 20).all()
        assert (picture[100:200, 50] == 90).all(), "a border between"


def test_truth_is_counted_where_the_run_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def listening(picture: Image.Image, entries: list[Entry], grid: Grid) -> Image.Image:
        told.append(entries[-1].text)
        return with_legend(picture, entries, grid)

    monkeypatch.setattr(overlay, "with_legend", listening)
    made = scene(tmp_path)
    crs, transform = GRIDS["north-up"]

    def ground(*pixels: tuple[float, float, float, float], **columns: object) -> gpd.GeoDataFrame:
        shapes = [shapely.box(*box) for box in pixels]
        moved = shapely.transform(shapes, lambda xy: np.column_stack(transform @ (xy[:, 0], xy[:, 1])))
        return gpd.GeoDataFrame(columns, geometry=list(moved), crs=crs)

    truth = ground((10, 10, 30, 30), (85, 10, 105, 30), (95, 50, 115, 70), (200, 200, 230, 230), (300, 10, 320, 30))
    gaps = ground((0, 0, 100, 300), (290, 0, 420, 300), reason=["outside_aoi", "failed"])
    for lost in (None, gaps[:0], gaps, gaps.to_crs(4326)):
        preview(made.path, made.footprints, tmp_path / "a.png", truth=truth, gaps=lost, max_side=420)
    assert told == ["truth (5)"] * 2 + ["truth (2 on examined ground, 5 in all)"] * 2


def test_gaps_without_reasons_are_refused(tmp_path: Path) -> None:
    made = scene(tmp_path)
    with pytest.raises(ConfigError, match="without a column reason"):
        preview(made.path, made.footprints, tmp_path / "a.png", gaps=made.footprints)


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 4), ("uint16", 1), ("uint8", 1), ("float32", 3)])
def test_other_number_types_and_bands_become_colours(tmp_path: Path, dtype: str, bands: int) -> None:
    made = scene(tmp_path, dtype=dtype, bands=bands)
    pixels, valid, grid = read_view(made.path, window=None, max_side=420)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8 and valid.all()
    assert pixels[70, 110].min() > pixels[10, 10].max() + 150
    assert (grid.height, grid.width) == (HEIGHT, WIDTH)


def test_a_table_without_labels_and_with_empty_shapes(tmp_path: Path) -> None:
    made = scene(tmp_path)
    shapes = [None, shapely.Polygon(), shapely.Point(86.99, 27.66), *made.footprints.geometry]
    table = gpd.GeoDataFrame({"n": range(4)}, geometry=shapes, crs=4326)
    shown = preview(made.path, table, tmp_path / "a.png", max_side=420)
    plain = preview(made.path, table[:0], tmp_path / "b.png", max_side=420)
    assert (tint(shown, plain, HEIGHT) > 12).sum() > 10_000


def test_polygons_within_collections_are_drawn(tmp_path: Path) -> None:
    """They were counted and not drawn: repairing leaves a line beside a MultiPolygon."""
    made = scene(tmp_path)
    [shape] = made.footprints.geometry
    mixed = shapely.GeometryCollection([shapely.MultiPolygon([shape]), shapely.LineString([(86, 27), (86, 28)])])
    pictures = [
        preview(made.path, gpd.GeoDataFrame(geometry=[each], crs=made.footprints.crs), tmp_path / f"{name}.png")
        for name, each in (("plain", shape), ("mixed", mixed))
    ]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_shapes_in_a_hole_are_not_erased(tmp_path: Path) -> None:
    made = scene(tmp_path)
    transform = GRIDS["north-up"][1]
    inner = shapely.transform(
        shapely.box(160, 105, 200, 135), lambda xy: np.column_stack(transform @ (xy[:, 0], xy[:, 1]))
    )
    both = [inner, made.footprints.to_crs(32645).geometry.iloc[0]]
    shown = preview(made.path, gpd.GeoDataFrame(geometry=both, crs=32645), tmp_path / "a.png", max_side=420)
    plain = preview(made.path, made.footprints[:0], tmp_path / "b.png", max_side=420)
    changed = tint(shown, plain, HEIGHT) > 12
    assert changed[120, 180] and not changed[120, 150]


@pytest.mark.parametrize(("width", "drawn"), [(2.2, 2.25), (1.5, 1.75)])
def test_outlines_are_as_wide_as_they_should_be_and_half_of_that_at_the_edge(width: float, drawn: float) -> None:
    grid = Grid(crs=CRS.from_epsg(32645), transform=Affine(1, 0, 350_000, 0, -1, 3_050_000), height=30, width=40)
    cover = lines(np.array([shapely.box(9.6, 4, 40, 30)], dtype=object), grid, width)
    assert cover[15, :30].sum() == pytest.approx(drawn, abs=0.01) == cover[:20, 25].sum()
    assert cover[15, 30:].sum() == pytest.approx((drawn - 0.25) / 2, abs=0.01) == cover[20:, 25].sum()


def test_what_is_refused(tmp_path: Path) -> None:
    made = scene(tmp_path)
    with pytest.raises(ConfigError, match=r"\.png"):
        preview(made.path, made.footprints, tmp_path / "a.jpg")
    picture = tmp_path / "imagery.png"  # with a world file a raster like any other
    made.path.rename(picture)
    with pytest.raises(ConfigError, match="named twice"):
        preview(picture, made.footprints, picture)
    picture.rename(made.path)
    with pytest.raises(ConfigError, match="without a CRS"):
        preview(made.path, made.footprints.set_crs(None, allow_override=True), tmp_path / "a.png")
    with pytest.raises(ConfigError, match="footprints of type GeoSeries"):
        preview(made.path, made.footprints.geometry, tmp_path / "a.png")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="off north-up"):
        preview(made.path, made.footprints, tmp_path / "a.png",
                window=Window(row_off=900, col_off=0, height=5, width=5))  # fmt: skip
    with pytest.raises(RasterError):
        preview(tmp_path / "absent.tif", made.footprints, tmp_path / "a.png")
    with pytest.raises(ConfigError, match="folder does not exist"):
        preview(made.path, made.footprints, tmp_path / "absent" / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["north-up.tif"]


@given(st.floats(1e-3, 1e5), st.integers(1, 4000))
def test_the_scale_bar_is_round_and_fits(metres_per_pixel: float, width: int) -> None:
    metres, pixels = scale_bar(metres_per_pixel, width)
    digits = metres / 10 ** math.floor(math.log10(metres) + 1e-9)
    assert min(abs(digits - step) for step in (1, 2, 5)) < 1e-6
    assert pixels <= max(width / 4, 1) + 1 and abs(pixels * metres_per_pixel - metres) <= metres_per_pixel


def test_real_imagery(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "buildings"
    truth = gpd.read_file(folder / "catanduanes_1.geojson")
    path = preview(folder / "catanduanes_1.tif", truth, tmp_path / "a.png", truth=truth, max_side=600)
    picture = Image.open(path)
    assert picture.width == 600 and 300 < picture.height < 420


def test_footprints_of_elsewhere_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raster = SAMPLES / "town.tif"
    truth = gpd.read_file(SAMPLES / "town.geojson")
    preview(raster, truth, tmp_path / "here.png", truth=truth, max_side=200)
    assert not caplog.records
    away = truth.set_geometry(truth.geometry.translate(xoff=5.0))
    preview(raster, away, tmp_path / "away.png", truth=away, max_side=200)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"none of the {len(truth)} {name} lie in the picture" for name in ("footprints", "truth")
    ]


def test_rows_of_two_runs_are_drawn_each_in_its_colour(tmp_path: Path) -> None:
    """Of tables put together with pandas.concat the names in the index are there twice."""
    one = scene(tmp_path)
    both = gpd.GeoDataFrame(pd.concat([one.footprints, one.footprints.assign(label="shed")]))
    plain = preview(one.path, both.reset_index(drop=True), tmp_path / "plain.png")
    twice = preview(one.path, both, tmp_path / "twice.png", truth=both)
    assert both.index.has_duplicates and plain.read_bytes() != twice.read_bytes()  # the truth lies on top
    assert preview(one.path, both, tmp_path / "twice.png").read_bytes() == plain.read_bytes()
    errors = both.drop(columns="label").assign(kind=["false", "missed"])
    assert preview(one.path, errors, tmp_path / "errors.png").exists()


@pytest.mark.parametrize("wrong", [{"window": (0, 0, 10, 10)}, {"max_side": "800"}, {"max_side": math.nan}])
def test_arguments_of_another_kind_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    one = scene(tmp_path)
    with pytest.raises(ConfigError, match=r"a window of type tuple|a picture of"):
        preview(one.path, one.footprints, tmp_path / "a.png", **wrong)
