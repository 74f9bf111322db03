"""Bands that GDAL marks as alpha unasked: told where they look like imagery, left in peace where they are masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasters import texture, write

from geoseg.raster import open_raster

HEIGHT, WIDTH = 300, 400


def masked(kind: str) -> Any:
    pixels = texture(4, HEIGHT, WIDTH)
    alpha = pixels[3]
    alpha[...] = 255
    if kind == "feathered":  # as a mosaic of warped, blended sheets has it
        ramp = np.linspace(0, 255, 40).astype(np.uint8)
        alpha[:, :40], alpha[:, -40:] = ramp, ramp[::-1]
    elif kind == "half":
        alpha[...] = 128
    elif kind == "collar":
        alpha[:120] = 0
    elif kind == "empty":
        alpha[...] = 0
    elif kind == "sliver":  # all of what it does not leave out, nearly, is an edge; by few values
        alpha[...] = 0
        alpha[100, 100:110] = np.arange(10, 20)
    return pixels


@pytest.mark.parametrize("kind", ["opaque", "feathered", "half", "collar", "empty", "sliver"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}])
def test_a_mask_is_no_imagery(tmp_path: Path, kind: str, layout: dict[str, Any]) -> None:
    info = open_raster(write(tmp_path / "a.tif", masked(kind), **layout))
    assert (info.alpha, info.warnings) == (4, ())


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"interleave": "band"},
        {"compress": "jpeg", "tiled": True, "blockxsize": 128, "blockysize": 64},
        {"compress": "lzw", "blockysize": HEIGHT},
    ],
    ids=str,
)
def test_near_infrared_that_gdal_calls_alpha_is_told(tmp_path: Path, layout: dict[str, Any]) -> None:
    pixels = texture(4, HEIGHT, WIDTH)
    pixels[3, :150] = 0  # water
    path = write(tmp_path / "rgbn.tif", pixels, **layout)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha  # nobody has said so
    info = open_raster(path)
    (said,) = info.warnings
    assert info.alpha == 4
    assert "band 4 of rgbn.tif" in said and "--bands" in said and "-colorinterp_4 undefined" in said
    with rasterio.open(path, "r+") as dataset:  # as gdal_edit does
        dataset.colorinterp = (*dataset.colorinterp[:3], ColorInterp.undefined)
    info = open_raster(path)
    assert (info.alpha, info.warnings, info.colour_bands) == (None, (), (1, 2, 3, 4))


@pytest.mark.parametrize("alpha", ["mask", "imagery"])
def test_of_16_bits_too(tmp_path: Path, alpha: str) -> None:
    pixels = texture(4, HEIGHT, WIDTH, "uint16")
    if alpha == "mask":
        pixels[3] = np.where(np.arange(WIDTH) < 30, 0, 65535)
    info = open_raster(write(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES"))
    assert (info.alpha, len(info.warnings)) == (4, alpha == "imagery")


def test_what_the_file_describes_is_believed(tmp_path: Path) -> None:
    for name, alpha in (("nir", None), ("alpha", 4)):
        path = write(tmp_path / f"{name}.tif", texture(4, HEIGHT, WIDTH))
        with rasterio.open(path, "r+") as dataset:
            dataset.set_band_description(4, name)
        assert (open_raster(path).alpha, open_raster(path).warnings) == (alpha, ())


def test_of_a_file_that_is_cut_off_what_is_there_tells(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(4, HEIGHT, WIDTH), compress="deflate", blockysize=10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "alpha" in " ".join(open_raster(path).warnings)


def test_of_a_mosaic_too(tmp_path: Path) -> None:
    with rasterio.open(write(tmp_path / "a.tif", texture(4, HEIGHT, WIDTH))) as dataset:
        rasterio.shutil.copy(dataset, tmp_path / "m.vrt", driver="VRT")
    (said,) = open_raster(tmp_path / "m.vrt").warnings
    assert "band 4 of m.vrt" in said
