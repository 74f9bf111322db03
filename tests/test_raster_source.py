"""Bands, number types and ground sampling distance: by declared rule, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasters import texture, write

from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError, RasterError
from geoseg.raster import Reader, Scaling, Source, model_grid, open_raster, source_for
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
        (8, "uint8", GRAY | {"descriptions": ("a", "Blue", "c", "GREEN", "e", "red", "g", "h")}, (6, 4, 2)),
        (3, "uint8", GRAY | {"descriptions": ("red", "green", "blue")}, (1, 2, 3)),
    ],
)  # fmt: skip
def test_bands_by_role(
    tmp_path: Path, bands: int, dtype: str, options: dict, expected: tuple[int, ...]
) -> None:
    info = open_raster(write(tmp_path / "a.tif", texture(bands, H, W, dtype), **options))
    card = replace(RGB, mean=None, std=None)
    assert source_for(info, card).bands == expected
    assert source_for(info, RAW).bands == tuple(
        b for b in range(1, bands + 1) if info.roles[b - 1] != "alpha"
    )


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8])
def test_bands_that_nothing_names_are_refused_or_mapped(tmp_path: Path, bands: int) -> None:
    pixels = texture(bands, H, W)
    info = open_raster(write(tmp_path / "a.tif", pixels, photometric="minisblack"))
    with pytest.raises(RasterError, match=r"--bands red=1,green=2,blue=3"):
        source_for(info, RGB)
    mapping = {"red": bands, "green": 1, "blue": max(1, bands - 1)}
    source = source_for(info, RGB, bands=mapping)
    np.testing.assert_array_equal(pixels_of(source), pixels[[b - 1 for b in mapping.values()]])
    with pytest.raises(RasterError, match=rf"bands 1 to {bands}"):
        source_for(info, RGB, bands={"red": bands + 1})


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
    scaling = source_for(info, RGB, scaling=Scaling.stretch(2, 98)).scaling
    assert scaling is not None and scaling.percentiles is None
    expected = np.percentile(pixels[:, :1000].reshape(3, -1), [2, 98], axis=1)
    np.testing.assert_allclose([scaling.low, scaling.high], expected, rtol=0.03)
    assert source_for(info, RGB, scaling=Scaling.stretch(2, 98)).scaling == scaling


def test_percentiles_of_nothing_are_refused(tmp_path: Path) -> None:
    info = open_raster(write(tmp_path / "a.tif", np.zeros((3, H, W), "uint16"), nodata=0, photometric="rgb"))
    with pytest.raises(RasterError, match="no valid pixel"):
        source_for(info, RGB, scaling=Scaling.stretch())


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
    values = np.sort(
        np.array([[[low, high, *data.draw(st.lists(st.integers(limits.min, limits.max)))]]], dtype)
    )
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
    assert source_for(info, replace(RAW, gsd_m=gsd * 1.5)).warnings == ()
    for factor in (2.5, 0.3):
        source = source_for(info, replace(RAW, gsd_m=gsd * factor))
        assert len(source.warnings) == 1 and "resampled" in source.warnings[0]


def test_real_imagery(shared_data: Path) -> None:
    path = shared_data / "buildings" / "catanduanes_1.tif"
    info = open_raster(path)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(pixels_of(source_for(info, RGB)), dataset.read())
    assert 0.13 < info.grid.gsd_m < 0.15
    assert source_for(info, replace(RGB, gsd_m=0.25)).grid.gsd_m == pytest.approx(0.25, rel=0.01)
