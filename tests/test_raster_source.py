"""Bands, number types and ground sampling distance: by declared rule, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasters import NORTH_UP, UTM, texture, write

from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError, RasterError
from geoseg.raster import Reader, Scaling, Source, model_grid, open_raster, source_for
from geoseg.raster.spread import spread_blocks
from geoseg.tiling import Tiling

RAW = ModelCard(classes=("thing",))
RGB = ModelCard(classes=("thing",), bands=("red", "green", "blue"), mean=(1, 2, 3), std=(4, 5, 6))
H, W = 60, 90
GRAY = {"photometric": "minisblack"}


def pixels_of(source: Source) -> np.ndarray:
    with Reader(source) as reader:
        return reader.read(list(Tiling(core=4000, halo=0).plan(source.grid.window).tiles()))[0][0].pixels


@pytest.mark.parametrize(
    ("bands", "dtype", "options", "expected"),
    [
        (3, "uint8", {}, (1, 2, 3)),
        (4, "uint8", {}, (1, 2, 3)),  # GDAL writes the fourth 8-bit band as alpha
        (4, "uint16", {"photometric": "rgb"}, (1, 2, 3)),
        (4, "uint8", GRAY | {"descriptions": ("blue", "green", "red", "nir")}, (3, 2, 1)),
        (4, "uint8", {"descriptions": ("red", "green", "blue", "nir")}, (1, 2, 3)),  # which is so sure of it
        (8, "uint8", GRAY | {"descriptions": ("a", "Blue", "c", "GREEN", "e", "red", "g", "h")}, (6, 4, 2)),
        (3, "uint8", GRAY | {"descriptions": ("red", "green", "blue")}, (1, 2, 3)),
    ],
)  # fmt: skip
def test_bands_by_role(tmp_path: Path, bands: int, dtype: str, options: dict, expected: tuple[int, ...]) -> None:
    info = open_raster(write(tmp_path / "a.tif", texture(bands, H, W, dtype), **options))
    card = replace(RGB, mean=None, std=None)
    assert source_for(info, card).bands == expected
    assert source_for(info, RAW).bands == tuple(b for b in range(1, bands + 1) if info.roles[b - 1] != "alpha")


def test_a_role_that_is_asked_for_twice_is_given_twice(tmp_path: Path) -> None:
    """A network of three bands was given one grey band, and another one than it expects of the others."""
    info = open_raster(write(tmp_path / "a.tif", texture(1, H, W)))
    gray = ModelCard(classes=("a",), bands=("gray",) * 3)
    assert source_for(info, gray).bands == source_for(info, RGB, bands=dict.fromkeys(RGB.bands, 1)).bands == (1, 1, 1)
    info = open_raster(write(tmp_path / "b.tif", texture(3, H, W), photometric="rgb"))
    assert source_for(info, ModelCard(classes=("a",), bands=("red", "blue", "red"))).bands == (1, 3, 1)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8])
def test_bands_that_nothing_names_are_refused_or_mapped(tmp_path: Path, bands: int) -> None:
    pixels = texture(bands, H, W)
    info = open_raster(write(tmp_path / "a.tif", pixels, photometric="minisblack"))
    with pytest.raises(RasterError, match=rf"--bands red=1,green={min(2, bands)},blue={min(3, bands)} "):
        source_for(info, RGB)
    mapping = {"red": bands, "green": 1, "blue": max(1, bands - 1)}
    source = source_for(info, RGB, bands=mapping)
    np.testing.assert_array_equal(pixels_of(source), pixels[[b - 1 for b in mapping.values()]])
    with pytest.raises(RasterError, match=rf"bands 1 to {bands}"):
        source_for(info, RGB, bands={"red": bands + 1})


def test_a_band_map_that_says_more_than_is_asked_is_refused(tmp_path: Path) -> None:
    info = open_raster(write(tmp_path / "a.tif", texture(4, H, W, "uint8"), photometric="minisblack"))
    mapping = {"red": 3, "green": 2, "blue": 1}
    with pytest.raises(RasterError, match=r"names geren.*red, green, blue"):
        source_for(info, RGB, bands=mapping | {"geren": 4})
    assert source_for(info, RAW, bands=mapping | {"geren": 4}).bands == (3, 2, 1, 4)


@pytest.mark.parametrize("card", [RAW, RGB])
def test_alpha_is_no_colour_even_where_a_map_says_so(tmp_path: Path, card: ModelCard) -> None:
    info = open_raster(write(tmp_path / "a.tif", texture(4, H, W)))
    with pytest.raises(RasterError, match=r"blue=4, the alpha band of a\.tif.*colorinterp_4 undefined"):
        source_for(info, card, bands={"red": 1, "green": 2, "blue": 4})


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64", "int8"])
def test_other_number_types_need_a_declared_scaling(tmp_path: Path, dtype: str) -> None:
    pixels = texture(3, H, W, dtype)
    if np.dtype(dtype).kind in "if":
        pixels[0, :5] *= -1
    info = open_raster(write(tmp_path / "a.tif", pixels, photometric="rgb"))
    np.testing.assert_array_equal(pixels_of(source_for(info, RAW)), pixels)  # raw for a model without a rule
    with pytest.raises(RasterError, match=r"--scaling.*--stretch"):
        source_for(info, RGB)
    low, high = (10.0, -5.0, 100.0), (120.0, 90.5, 101.0)
    found = pixels_of(source_for(info, RGB, scaling=Scaling(low=low, high=high)))
    shape = (3, 1, 1)
    lows, highs = np.reshape(low, shape), np.reshape(high, shape)
    expected = np.clip((pixels.astype("float64") - lows) / (highs - lows) * 255, 0, 255)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, expected, atol=0.501)


def test_numbers_of_fewer_than_8_bits_need_a_declared_scaling(tmp_path: Path) -> None:
    pixels = texture(3, H, W) % 16
    info = open_raster(write(tmp_path / "a.tif", pixels, nbits=4, photometric="rgb"))
    with pytest.raises(RasterError, match=r"4-bit pixels.*--scaling"):
        source_for(info, RGB)
    np.testing.assert_array_equal(pixels_of(source_for(info, RAW)), pixels)
    stretched = source_for(info, RGB, scaling=Scaling(low=(0,), high=(15,)))
    np.testing.assert_array_equal(pixels_of(stretched), pixels * 17)


def test_8_bit_passes_untouched_unless_a_scaling_is_given(tmp_path: Path) -> None:
    pixels = texture(3, H, W)
    info = open_raster(write(tmp_path / "a.tif", pixels))
    np.testing.assert_array_equal(pixels_of(source_for(info, RGB)), pixels)
    darker = pixels_of(source_for(info, RGB, scaling=Scaling(low=(0,), high=(510,))))
    np.testing.assert_allclose(darker, pixels / 2, atol=0.51)


def test_percentiles_are_measured_once_on_valid_pixels(tmp_path: Path) -> None:
    pixels = texture(3, 1500, 2100, "uint16")
    pixels[:, 1000:] = 60_000
    info = open_raster(write(tmp_path / "a.tif", pixels, nodata=60_000, blockysize=1, photometric="rgb"))
    scaling = source_for(info, RGB, scaling=Scaling(percentiles=(2, 98))).scaling
    assert scaling is not None and scaling.percentiles is None
    expected = np.percentile(pixels[:, :1000].reshape(3, -1), [2, 98], axis=1)
    np.testing.assert_allclose([scaling.low, scaling.high], expected, rtol=0.03)
    assert source_for(info, RGB, scaling=Scaling(percentiles=(2, 98))).scaling == scaling


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 300))
def test_sampled_blocks_are_different_and_as_many_as_asked(down: int, across: int, count: int) -> None:
    found = spread_blocks(down, across, count)
    assert len(set(found)) == len(found) == min(count, down * across)
    assert all(0 <= row < down and 0 <= col < across for row, col in found)


@pytest.mark.parametrize(("down", "across"), [(64, 64), (64, 128), (1000, 64), (40, 256)])
def test_sampled_blocks_are_spread_over_rows_and_columns(down: int, across: int) -> None:
    for count, parts in ((16, 4), (64, 8)):
        found = spread_blocks(down, across, count)
        for axis, size in ((0, down), (1, across)):
            assert len({parts * place[axis] // size for place in found}) == parts


def test_percentiles_are_those_of_all_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 64 x 16 blocks, of which every 16th stands in the first column.
    pixels = np.broadcast_to(np.arange(512) * 10, (3, 1024, 512)).astype("uint16")
    options = {"tiled": True, "blockxsize": 32, "blockysize": 16, "photometric": "rgb"}
    info = open_raster(write(tmp_path / "a.tif", pixels, **options))
    monkeypatch.setattr("geoseg.raster.source._SAMPLE_PIXELS", 1)
    scaling = source_for(info, RGB, scaling=Scaling(percentiles=(2, 98))).scaling
    assert scaling is not None
    np.testing.assert_allclose(scaling.low, 0.02 * 5120, atol=150)
    np.testing.assert_allclose(scaling.high, 0.98 * 5120, atol=150)


def _masked_beside(path: Path) -> Path:
    good = np.ones((1, 400, 300), "uint8")
    good[:, 100:] = 0
    write(path, np.where(good, 1000 + texture(1, 400, 300, "uint16"), 0).astype("uint16"))
    write(path.with_name(path.name + ".msk"), good * 255)
    return path


def _mosaic_with_holes(path: Path) -> Path:
    write(path.with_name("part.tif"), 1000 + texture(1, 100, 300, "uint16"))
    vrt = path.with_name("m.vrt")
    t = NORTH_UP
    vrt.write_text(
        f'<VRTDataset rasterXSize="300" rasterYSize="400"><SRS>{UTM}</SRS>'
        f"<GeoTransform>{t.c},{t.a},{t.b},{t.f},{t.d},{t.e}</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">part.tif</SourceFilename><SourceBand>1</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="300" ySize="100"/><DstRect xOff="0" yOff="200" xSize="300" ySize="100"/>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return vrt


def _sparse(path: Path) -> Path:
    profile = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP, "dtype": "uint16", "count": 1}
    layout = {"height": 400, "width": 300, "tiled": True, "blockxsize": 32, "blockysize": 16, "sparse_ok": True}
    with rasterio.open(path, "w", **profile, **layout) as dataset:
        dataset.write(1000 + texture(1, 96, 300, "uint16"), window=((0, 96), (0, 300)))
    return path


@pytest.mark.parametrize("make", [_masked_beside, _mosaic_with_holes, _sparse])
def test_percentiles_leave_out_all_that_holds_nothing(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = source_for(open_raster(make(tmp_path / "a.tif")), RAW, scaling=Scaling(percentiles=(0, 100)))
    assert source.scaling is not None and source.scaling.low[0] >= 1000


def test_percentiles_of_nothing_are_refused(tmp_path: Path) -> None:
    info = open_raster(write(tmp_path / "a.tif", np.zeros((3, H, W), "uint16"), nodata=0, photometric="rgb"))
    with pytest.raises(RasterError, match="no valid pixel"):
        source_for(info, RGB, scaling=Scaling(percentiles=(2, 98)))


@pytest.mark.parametrize(
    "values",
    [
        {}, {"low": (1,)}, {"low": (2,), "high": (1,)}, {"low": (0, 1), "high": (5,)},
        {"percentiles": (98, 2)},
        {"low": (0,), "high": (float("nan"),)}, {"low": (0,), "high": (1,), "percentiles": (2, 98)},
    ],
)  # fmt: skip
def test_scalings_that_are_none(values: dict) -> None:
    with pytest.raises(ConfigError):
        Scaling(**values)


def test_a_scaling_for_other_bands_is_refused(tmp_path: Path) -> None:
    info = open_raster(write(tmp_path / "a.tif", texture(3, H, W, "uint16"), photometric="rgb"))
    with pytest.raises(ConfigError, match="2 values for 3 bands"):
        source_for(info, RGB, scaling=Scaling(low=(0, 0), high=(9, 9)))


@given(st.sampled_from(["uint8", "int8", "uint16", "int16", "float32"]), st.data())
def test_scaling_is_monotonic_and_meets_its_ends(dtype: str, data: st.DataObject) -> None:
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.iinfo("int16")
    low = data.draw(st.integers(limits.min, limits.max - 1))
    high = data.draw(st.integers(low + 1, limits.max))
    values = np.sort(np.array([[[low, high, *data.draw(st.lists(st.integers(limits.min, limits.max)))]]], dtype))
    scaled = Scaling(low=(low,), high=(high,)).apply(values)
    assert (np.diff(scaled.astype(int)) >= 0).all()
    assert (scaled[values <= low] == 0).all() and (scaled[values >= high] == 255).all()


def test_the_models_grid(tmp_path: Path) -> None:
    info = open_raster(write(tmp_path / "a.tif", texture(3, H, W)))  # 0.5 m
    gsd = info.grid.gsd_m
    assert model_grid(info, RAW) == info.grid
    assert model_grid(info, replace(RAW, gsd_m=gsd * 1.05)) == info.grid
    coarser = model_grid(info, replace(RAW, gsd_m=gsd * 2))
    assert (coarser.height, coarser.width) == (H // 2, W // 2)
    for factor in (1.5, 2.4, 1 / 2.4):  # harbours of 1 m, on which `ships` of 0.42 m was trained, are no warning
        assert source_for(info, replace(RAW, gsd_m=gsd * factor)).warnings == ()
    for factor in (2.6, 0.3):
        source = source_for(info, replace(RAW, gsd_m=gsd * factor))
        assert len(source.warnings) == 1 and "resampled" in source.warnings[0]


def test_real_imagery(shared_data: Path) -> None:
    path = shared_data / "buildings" / "catanduanes_1.tif"
    info = open_raster(path)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(pixels_of(source_for(info, RGB)), dataset.read())
    assert 0.13 < info.grid.gsd_m < 0.15
    assert source_for(info, replace(RGB, gsd_m=0.25)).grid.gsd_m == pytest.approx(0.25, rel=0.01)
