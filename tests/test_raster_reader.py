"""Chips hold exactly what rasterio reads, however tiles are grouped; what holds nothing is a gap."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasters import DEGREES, NORTH_UP, ROTATED, SOUTH_UP, texture, write
from scipy import ndimage

from geoseg.detectors.base import ModelCard
from geoseg.errors import RasterError
from geoseg.instances import Chip
from geoseg.polygons import clipped, polygonal
from geoseg.raster import Reader, Source, open_raster, reader, source_for
from geoseg.raster.coverage import SPECK
from geoseg.tiling import Tile, Tiling
from geoseg.window import Window

RAW = ModelCard(classes=("thing",))
RGB = ModelCard(classes=("thing",), bands=("red", "green", "blue"), mean=(1, 2, 3), std=(4, 5, 6))
HEIGHT, WIDTH = 93, 131


def tile(window: Window) -> Tile:
    return Tile(row=0, col=0, core=window, window=window)


def whole(source: Source) -> Chip:
    with Reader(source) as open_reader:
        chips, _ = open_reader.read([tile(source.grid.window)])
    return chips[0]


def part(pixels: NDArray[Any], window: Window) -> NDArray[Any]:
    return pixels[..., window.row_off : window.row_end, window.col_off : window.col_end]


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED, DEGREES], ids=["north", "south", "rot", "deg"])
@pytest.mark.parametrize(
    "options",
    [
        {"tiled": True, "compress": "deflate"},
        {"tiled": True, "compress": "lzw", "interleave": "band"},
        {"blockysize": 1},
        {"blockysize": 7, "compress": "zstd", "interleave": "pixel"},
        {"tiled": True, "blockxsize": 256, "blockysize": 256},
    ],
    ids=["tiles", "planes", "rows", "strips", "one-block"],
)
def test_tiles_are_slices_of_what_rasterio_reads(tmp_path: Path, transform: Any, options: dict[str, Any]) -> None:
    crs = "EPSG:4326" if transform is DEGREES else "EPSG:32645"
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH, "uint16"), transform=transform, crs=crs, **options)
    with rasterio.open(path) as dataset:
        full = dataset.read()
    source = pickle.loads(pickle.dumps(source_for(open_raster(path), RAW)))
    assert source.info.grid.transform.almost_equals(transform)
    for block in Tiling(core=24, halo=7, block=3).plan(source.grid.window).blocks():
        chips, gaps = reader(source).read(block.tiles)
        assert [chip.tile for chip in chips] == list(block.tiles) and gaps == []
        for chip in chips:
            np.testing.assert_array_equal(chip.pixels, part(full, chip.tile.window))
            assert chip.pixels.dtype == np.uint16 and chip.valid.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 57), (43, 1), (5, 3)])
def test_tiny_rasters(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = texture(3, *shape)
    path = write(tmp_path / "a.tif", pixels)
    source = source_for(open_raster(path), RGB)
    chips, gaps = reader(source).read(list(Tiling(core=16, halo=4).plan(source.grid.window).tiles()))
    assert gaps == [] and len(chips) == -(-max(shape) // 16)
    np.testing.assert_array_equal(chips[0].pixels, part(pixels, chips[0].tile.window))
    resized = replace(source, grid=source.grid.resized(height=3, width=2))
    assert whole(resized).pixels.shape == (3, 3, 2)


def test_a_chip_that_was_changed_leaves_the_next_read_alone(tmp_path: Path) -> None:
    source = source_for(open_raster(write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH))), RAW)
    tiles = list(Tiling(core=40, halo=20).plan(source.grid.window).tiles())
    for _ in range(2):
        chips, _ = reader(source).read(tiles)
        for chip in chips:
            np.testing.assert_array_equal(chip.pixels, part(texture(3, HEIGHT, WIDTH), chip.tile.window))
        for chip in chips:
            chip.pixels[:] = 0


# --- resampling -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texture with an internal mask: a collar, a hole and single pixels."""
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[:, :9] = mask[30:47, 50:71] = mask[60, 100] = mask[::17, ::13] = False
    return write(tmp_path_factory.mktemp("r") / "a.tif", texture(3, HEIGHT, WIDTH, "uint16"), mask=mask, tiled=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_window_is_a_slice_of_the_whole_at_any_scale(holey: Path, data: st.DataObject) -> None:
    info = open_raster(holey)
    height = data.draw(st.integers(1, 2 * HEIGHT), label="height")
    width = data.draw(st.integers(1, 2 * WIDTH), label="width")
    source = replace(source_for(info, RAW), grid=info.grid.resized(height=height, width=width), zero_invalid=True)
    full = whole(source) if height * width > 4 else None
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(
        row_off=top,
        col_off=left,
        height=data.draw(st.integers(1, height - top)),
        width=data.draw(st.integers(1, width - left)),
    )
    with Reader(source) as open_reader:
        chips, _ = open_reader.read([tile(window)])
    if full is None:
        return
    if not chips:
        assert not part(full.valid, window).any()
        return
    np.testing.assert_array_equal(chips[0].pixels, part(full.pixels, window))
    np.testing.assert_array_equal(chips[0].valid, part(full.valid, window))


@pytest.mark.parametrize(("factor_r", "factor_c"), [(1, 2), (3, 1), (4, 7)])
def test_coarser_by_whole_numbers_is_the_mean(tmp_path: Path, factor_r: int, factor_c: int) -> None:
    pixels = texture(2, 12 * factor_r, 17 * factor_c, "float32")
    info = open_raster(write(tmp_path / "a.tif", pixels))
    source = replace(source_for(info, RAW), grid=info.grid.resized(height=12, width=17))
    expected = pixels.reshape(2, 12, factor_r, 17, factor_c).mean(axis=(2, 4))
    np.testing.assert_allclose(whole(source).pixels, expected, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(40, 57), (70, 131), (31, 30)])
def test_coarser_agrees_with_gdal_average(tmp_path: Path, height: int, width: int) -> None:
    pixels = texture(3, HEIGHT, WIDTH, "float32")
    path = write(tmp_path / "a.tif", pixels)
    info = open_raster(path)
    source = replace(source_for(info, RAW), grid=info.grid.resized(height=height, width=width))
    with rasterio.open(path) as dataset:
        oracle = dataset.read(out_shape=(3, height, width), resampling=Resampling.average)
    np.testing.assert_allclose(whole(source).pixels, oracle, rtol=1e-3)


def test_finer_agrees_with_gdal_bilinear(tmp_path: Path) -> None:
    pixels = texture(3, HEIGHT, WIDTH, "float32")
    path = write(tmp_path / "a.tif", pixels)
    info = open_raster(path)
    source = replace(source_for(info, RAW), grid=info.grid.resized(height=200, width=311))
    with rasterio.open(path) as dataset:
        oracle = dataset.read(out_shape=(3, 200, 311), resampling=Resampling.bilinear)
    np.testing.assert_allclose(whole(source).pixels, oracle, rtol=1e-3)


def test_a_ramp_keeps_its_place_when_resampled(tmp_path: Path) -> None:
    cols = np.arange(120) + 0.5
    pixels = np.broadcast_to(cols, (1, 80, 120)).astype("float32")
    info = open_raster(write(tmp_path / "a.tif", pixels))
    for width in (40, 47, 90, 200):
        source = replace(source_for(info, RAW), grid=info.grid.resized(height=33, width=width))
        expected = (np.arange(width) + 0.5) * 120 / width
        got = whole(source).pixels[0, 5]
        # The average over a fraction of a step is off by at most an eighth of it, and by nothing in the mean.
        np.testing.assert_allclose(got[1:-1], expected[1:-1], atol=0.125)
        assert abs((got - expected)[1:-1].mean()) < 2e-3


def test_invalid_pixels_do_not_bleed_into_resampled_ones(tmp_path: Path) -> None:
    pixels = np.full((1, 60, 90), 100, "int16")
    pixels[:, :, 40:] = -9999
    info = open_raster(write(tmp_path / "a.tif", pixels, nodata=-9999))
    source = replace(source_for(info, RAW), grid=info.grid.resized(height=41, width=37), zero_invalid=True)
    chip = whole(source)
    assert set(np.unique(chip.pixels)) == {0, 100}
    np.testing.assert_array_equal(chip.valid, chip.pixels[0] == 100)
    assert chip.valid[0].sum() == round(40 * 37 / 90)


def test_strips_give_the_same_as_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = open_raster(write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH), blockysize=4))
    base = source_for(info, RAW)
    sources = [
        base,
        *(replace(base, grid=info.grid.resized(height=h, width=w)) for h, w in ((50, 60), (150, 140))),
    ]
    at_once = [whole(source).pixels for source in sources]
    monkeypatch.setattr("geoseg.raster.reading.STRIP_BYTES", 2000)
    with Reader(base) as open_reader:
        assert len(list(open_reader._strips(base.grid.window))) > 10
    for source, expected in zip(sources, at_once, strict=True):
        np.testing.assert_array_equal(whole(source).pixels, expected)


# --- validity ---------------------------------------------------------------------------------------------


def _collar() -> NDArray[np.bool_]:
    """True where there is imagery: nothing left of a slanted line, and nothing in the last 40 columns."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    return (cols > 10 + rows // 3) & (cols < WIDTH - 40)


def _with_nodata(path: Path, good: NDArray[np.bool_]) -> Path:
    pixels = texture(3, HEIGHT, WIDTH)
    pixels[:, ~good] = 0
    pixels[0, 50, 60] = 0  # one band alone is a colour, not nodata
    return write(path, pixels, nodata=0)


def _with_alpha(path: Path, good: NDArray[np.bool_]) -> Path:
    pixels = texture(4, HEIGHT, WIDTH)
    pixels[3] = np.where(good, 255, 0)
    return write(path, pixels)


def _with_mask(path: Path, good: NDArray[np.bool_]) -> Path:
    return write(path, texture(3, HEIGHT, WIDTH), mask=good, tiled=True, compress="jpeg", photometric="ycbcr")


def _with_alpha_and_mask(path: Path, good: NDArray[np.bool_]) -> Path:
    """Alpha leaves out what the mask does not."""
    west = np.arange(WIDTH) < WIDTH // 2
    pixels = texture(4, HEIGHT, WIDTH)
    pixels[3] = np.where(good | ~west, 255, 0)
    return write(path, pixels, mask=good | west)


def _with_mask_file(path: Path, good: NDArray[np.bool_]) -> Path:
    write(path, texture(3, HEIGHT, WIDTH))
    write(path.with_name(path.name + ".msk"), np.where(good, 255, 0).astype("uint8")[None])
    return path


def _with_nan(path: Path, good: NDArray[np.bool_], **options: Any) -> Path:
    pixels = texture(3, HEIGHT, WIDTH, "float32")
    pixels[1, ~good] = np.nan
    return write(path, pixels, **options)


def _with_nan_tag(path: Path, good: NDArray[np.bool_]) -> Path:
    return _with_nan(path, good, nodata=np.nan)


@pytest.mark.parametrize(
    "make",
    [_with_nodata, _with_alpha, _with_mask, _with_alpha_and_mask, _with_mask_file, _with_nan, _with_nan_tag],
)
def test_what_holds_nothing_is_masked_and_a_gap(tmp_path: Path, make: Any) -> None:
    good = _collar()
    source = source_for(open_raster(make(tmp_path / "a.tif", good)), RAW)
    assert len(source.bands) == 3  # alpha is no colour
    tiles = list(Tiling(core=20, halo=6).plan(source.grid.window).tiles())
    chips, gaps = reader(source).read(tiles)
    examined = {chip.tile for chip in chips}
    assert examined == {t for t in tiles if part(good, t.core).any()} and len(examined) < len(tiles)
    for chip in chips:
        np.testing.assert_array_equal(chip.valid, part(good, chip.tile.window))
    assert {gap.reason for gap in gaps} == {"nodata"} and all(gap.expected for gap in gaps)
    assert sum(gap.geometry.area for gap in gaps) == (~good).sum()
    outline = shapely.union_all([gap.geometry for gap in gaps])
    rows, cols = np.nonzero(~good)
    assert shapely.contains_xy(outline, cols + 0.5, rows + 0.5).all()


def _specked() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What is imagery, and what of the rest hangs together over 64 pixels or more, or with the raster's edge."""
    good = np.random.default_rng(5).random((HEIGHT, WIDTH)) > 0.02
    good[20:28, 30:37] = good[50:58, 62:69] = False  # 56 pixels and what comes to hang on to them by chance
    good[60:80, 90:115] = good[:, :3] = False
    labels, _ = ndimage.label(~good)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return good, ((np.bincount(labels.ravel())[labels] >= SPECK) | np.isin(labels, edge)) & ~good


@pytest.mark.parametrize(("core", "halo", "block"), [(64, 64, 1), (64, 64, 5), (81, 70, 2), (500, 0, 1)])
def test_specks_are_no_gaps_however_tiles_lie(tmp_path: Path, core: int, halo: int, block: int) -> None:
    good, large = _specked()
    assert 0 < large.sum() < (~good).sum() - 100
    source = source_for(open_raster(_with_nodata(tmp_path / "a.tif", good)), RAW)
    gaps, chips = [], []
    for part_ in Tiling(core=core, halo=halo, block=block).plan(source.grid.window).blocks():
        found = reader(source).read(part_.tiles)
        chips += found[0]
        gaps += found[1]
    for chip in chips:  # still nothing for the network
        np.testing.assert_array_equal(chip.valid, part(good, chip.tile.window))
    assert {gap.reason for gap in gaps} == {"nodata"}
    outline = shapely.union_all([gap.geometry for gap in gaps])
    rows, cols = np.nonzero(large)
    assert outline.area == large.sum() and shapely.contains_xy(outline, cols + 0.5, rows + 0.5).all()


def test_a_speck_that_may_go_on_beyond_the_window_is_a_gap(tmp_path: Path) -> None:
    good = np.ones((HEIGHT, WIDTH), bool)
    good[5, 18:26] = False
    source = source_for(open_raster(_with_nodata(tmp_path / "a.tif", good)), RAW)
    for halo, area in ((0, 8), (20, 0)):
        _, gaps = reader(source).read(list(Tiling(core=20, halo=halo).plan(source.grid.window).tiles()))
        assert sum(gap.geometry.area for gap in gaps) == area


def test_ground_that_is_nothing_but_nodata_is_a_gap_however_small(tmp_path: Path) -> None:
    source = source_for(open_raster(write(tmp_path / "a.tif", np.zeros((3, 5, 7), "uint8"), nodata=0)), RAW)
    chips, gaps = reader(source).read(list(Tiling(core=16, halo=4).plan(source.grid.window).tiles()))
    assert chips == [] and sum(gap.geometry.area for gap in gaps) == 35


def test_a_ragged_gap_has_few_corners_and_nearly_its_area(tmp_path: Path) -> None:
    good = np.random.default_rng(2).random((300, 410)) < 0.12
    good[:, 250:] = True
    pixels = texture(3, 300, 410)
    pixels[:, ~good] = 0
    source = source_for(open_raster(write(tmp_path / "a.tif", pixels, nodata=0)), RAW)
    _, gaps = reader(source).read([tile(source.grid.window)])
    outline = gaps[0].geometry
    assert len(gaps) == 1 and outline.is_valid and shapely.get_num_coordinates(outline) < 2 * 4 * (300 + 410)
    assert outline.area == pytest.approx((~good).sum(), rel=0.15)
    assert shapely.box(0, 0, 410, 300).covers(outline)


def test_invalid_pixels_are_zero_for_a_model_with_a_rule_and_untouched_else(tmp_path: Path) -> None:
    good = _collar()
    path = _with_mask_file(tmp_path / "a.tif", good)
    info, original = open_raster(path), texture(3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(whole(source_for(info, RAW)).pixels, original)
    ruled = whole(source_for(info, RGB)).pixels
    np.testing.assert_array_equal(ruled, np.where(good, original, 0))


def test_a_mask_of_another_size_or_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH))
    mask = tmp_path / "a.tif.msk"
    write(mask, np.ones((1, HEIGHT, 7), "uint8"))
    with pytest.raises(Exception, match="mask of the raster's size"):
        open_raster(path)
    write(mask, np.ones((3, HEIGHT, WIDTH), "uint8"))  # of which the first would have spoken for all bands
    with pytest.raises(RasterError, match=r"with 3 band\(s\).*one for all bands"):
        open_raster(path)
    mask.write_text("<VRTDataset/>")
    with pytest.raises(Exception, match="which is a TIFF"):
        open_raster(path)


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 5, (1, HEIGHT, WIDTH), "uint8")
    colours = {
        0: (0, 0, 0, 0),
        1: (255, 0, 9, 255),
        2: (3, 200, 40, 255),
        3: (7, 8, 9, 255),
        4: (250, 251, 252, 255),
    }
    path = write(tmp_path / "a.tif", values, photometric="palette", colormap=colours)
    for card in (RAW, RGB):
        chip = whole(source_for(open_raster(path), card))
        expected = np.array([colours[v][:3] for v in values[0].ravel()], "uint8").T.reshape(3, HEIGHT, WIDTH)
        np.testing.assert_array_equal(chip.pixels, expected)
        assert chip.pixels.dtype == np.uint8
    with pytest.raises(RasterError, match="palette image"):
        source_for(open_raster(path), ModelCard(classes=("thing",), bands=("nir",)))


def test_the_numbers_of_a_palettes_colours_are_no_imagery(tmp_path: Path) -> None:
    colours = {value: (value, 255 - value, 7, 255) for value in range(256)}
    info = open_raster(write(tmp_path / "a.tif", texture(1, HEIGHT, WIDTH), photometric="palette", colormap=colours))
    with pytest.raises(RasterError, match=r"red=1, the palette of a\.tif.*by itself"):
        source_for(info, RGB, bands={"red": 1, "green": 1, "blue": 1})


def test_bgrn_reaches_an_rgb_model_in_its_order(tmp_path: Path) -> None:
    pixels = texture(4, HEIGHT, WIDTH)
    path = write(
        tmp_path / "a.tif",
        pixels,
        photometric="minisblack",
        descriptions=("Blue", "green", "RED", "near infrared"),
    )
    info = open_raster(path)
    assert info.roles == ("blue", "green", "red", "nir")
    np.testing.assert_array_equal(whole(source_for(info, RGB)).pixels, pixels[[2, 1, 0]])


def test_alpha_may_stand_first(tmp_path: Path) -> None:
    pixels = texture(4, HEIGHT, WIDTH)
    pixels[0, 10:20] = 0
    colours = (ColorInterp.alpha, ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    source = source_for(open_raster(write(tmp_path / "a.tif", pixels, colorinterp=colours)), RAW)
    chip = whole(source)
    np.testing.assert_array_equal(chip.pixels, pixels[1:])
    np.testing.assert_array_equal(chip.valid, pixels[0] > 0)


# --- AOI --------------------------------------------------------------------------------------------------


def test_outside_the_aoi_is_a_gap_and_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    aoi = shapely.Polygon([(30, 20), (90, 25), (70, 80)])
    source = source_for(open_raster(write(tmp_path / "a.tif", pixels)), RGB, aoi=aoi)
    tiles = list(Tiling(core=20, halo=6).plan(source.grid.window).tiles())
    chips, gaps = reader(source).read(tiles)
    assert {chip.tile for chip in chips} == {t for t in tiles if aoi.intersection(shapely.box(*t.core.xyxy)).area > 0}
    assert {gap.reason for gap in gaps} == {"outside_aoi"}
    outside = shapely.union_all([gap.geometry for gap in gaps])
    assert outside.area == pytest.approx(HEIGHT * WIDTH - aoi.area)
    for chip in chips:
        np.testing.assert_array_equal(chip.pixels, part(pixels, chip.tile.window))
        rows, cols = np.nonzero(chip.valid)
        centres = shapely.points(cols + 0.5 + chip.tile.window.col_off, rows + 0.5 + chip.tile.window.row_off)
        assert shapely.dwithin(aoi, centres, 0.75).all()


def test_a_notch_of_the_aoi_that_ends_where_a_window_does_does_not_turn_it_inside_out(tmp_path: Path) -> None:
    aoi = shapely.from_wkt("POLYGON ((5 17, 10 11, 4 0, 6 15, 0 11, 5 17))")
    source = source_for(open_raster(write(tmp_path / "a.tif", texture(1, 20, 30))), RAW, aoi=aoi)
    here = Tile(
        row=0,
        col=0,
        core=Window(row_off=3, col_off=1, height=9, width=11),
        window=Window(row_off=0, col_off=0, height=15, width=15),
    )
    with Reader(source) as open_reader:
        (chip,), gaps = open_reader.read([here])
    wanted = shapely.intersection(aoi, shapely.box(*here.core.xyxy))
    assert wanted.area == pytest.approx(27.2, abs=0.1)
    (gap,) = gaps
    assert gap.reason == "outside_aoi" and gap.geometry.area == pytest.approx(9 * 11 - wanted.area)
    rows, cols = np.indices(chip.valid.shape) + 0.5
    assert chip.valid[shapely.contains_xy(aoi, cols, rows)].all()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
@example(9)
def test_what_is_clipped_is_the_intersection(seed: int) -> None:
    """Whole numbers, so that vertices lie on the lines of the rectangle's sides, and edges along them."""
    rng = np.random.default_rng(seed)
    ring = shapely.Polygon(rng.integers(0, 18, (rng.integers(4, 9), 2)))
    area = shapely.make_valid(ring)
    x, y = (np.sort(rng.choice(18, 2, replace=False)).tolist() for _ in range(2))
    found, wanted = clipped(area, (x[0], y[0], x[1], y[1])), area & shapely.box(x[0], y[0], x[1], y[1])
    assert found.is_valid and found.area == pytest.approx(wanted.area)
    assert (found ^ polygonal(np.array([wanted], dtype=object))[0]).area == pytest.approx(0, abs=1e-9)


def test_a_part_that_clipping_would_leave_out_is_there() -> None:
    area = shapely.from_wkt("POLYGON ((6 1, 0 13, 6 9, 5 13, 9 13, 10 12, 6 1))")
    assert clipped(area, (5, 8, 7, 13)).area == pytest.approx((area & shapely.box(5, 8, 7, 13)).area)


def test_an_empty_aoi_reads_nothing(tmp_path: Path) -> None:
    source = source_for(open_raster(write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH))), RAW, aoi=shapely.Polygon())
    chips, gaps = reader(source).read(list(Tiling(core=64, halo=6).plan(source.grid.window).tiles()))
    assert chips == [] and sum(gap.geometry.area for gap in gaps) == HEIGHT * WIDTH


def test_threads_read_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH), tiled=True, compress="deflate")
    base = source_for(open_raster(path), RAW)
    source = replace(base, grid=base.grid.resized(height=60, width=77))
    blocks = list(Tiling(core=16, halo=4, block=2).plan(source.grid.window).blocks()) * 3
    expected = whole(source).pixels
    with ThreadPoolExecutor(4) as pool:
        for chips, _ in pool.map(lambda block: reader(source).read(block.tiles), blocks):
            for chip in chips:
                np.testing.assert_array_equal(chip.pixels, part(expected, chip.tile.window))


def test_one_reader_per_thread(tmp_path: Path) -> None:
    source = source_for(open_raster(write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH))), RAW)
    again = pickle.loads(pickle.dumps(source))
    assert reader(source) is reader(again)
    others: list[Reader] = []
    thread = threading.Thread(target=lambda: others.append(reader(source)))
    thread.start()
    thread.join()
    assert others[0] is not reader(source)
