"""What is opened, what is refused and in which words; nothing reaches the network or another file."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasters import NORTH_UP, ROTATED, SOUTH_UP, UTM, Listener, pixels_of, texture, write

from geoseg.detectors.base import ModelCard
from geoseg.errors import RasterError
from geoseg.raster import Access, Reader, open_raster, source_for
from geoseg.raster.access import CACHE_BYTES
from geoseg.raster.keys import check_file, content_key
from geoseg.tiling import Tiling

RAW = ModelCard(classes=("thing",))
H, W = 60, 90

# --- what is read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED], ids=["north", "south", "rotated"])
def test_the_header_is_what_rasterio_says(tmp_path: Path, transform: Affine) -> None:
    tags = {"TIFFTAG_DATETIME": "2024:03:01 10:20:30"}
    path = write(
        tmp_path / "ä b'c.tif",
        texture(4, H, W, "uint16"),
        transform=transform,
        nodata=7,
        tiled=True,
        tags=tags,
    )
    info = pickle.loads(pickle.dumps(open_raster(path)))
    with rasterio.open(path) as dataset:
        assert info.grid.transform == dataset.transform
        assert (info.grid.height, info.grid.width) == dataset.shape == (H, W)
        assert (info.bands, info.dtype, info.nodata) == (dataset.count, "uint16", dataset.nodata)
        assert info.file_block == dataset.block_shapes[0] == (16, 32)
    assert info.grid.crs.to_epsg() == 32645
    assert info.acquired == datetime(2024, 3, 1, 10, 20, 30, tzinfo=UTC)
    assert info.name == "ä b'c.tif" and info.path == str(path)


SOMEBODYS = {"GTIFF_POINT_GEO_IGNORE": "TRUE", "GTIFF_HONOUR_NEGATIVE_SCALEY": "YES", "CONVERT_YCBCR_TO_RGB": "NO"}


SEEN = """
import sys, hashlib
from geoseg.raster import open_raster
from rasters import pixels_of
for info in map(open_raster, sys.argv[1:]):
    print(tuple(info.grid.transform), hashlib.sha256(pixels_of(info).tobytes()).hexdigest())
"""


def test_what_a_raster_is_does_not_follow_from_somebodys_environment(tmp_path: Path) -> None:
    point = write(tmp_path / "point.tif", texture(1, H, W), tags={"AREA_OR_POINT": "Point"})
    colour = write(tmp_path / "colour.tif", texture(3, H, W), compress="jpeg", photometric="ycbcr")
    turned = write(tmp_path / "turned.tif", texture(1, H, W))
    scale = struct.pack("<3d", NORTH_UP.a, -NORTH_UP.e, 0)
    content = turned.read_bytes()
    assert scale in content
    turned.write_bytes(content.replace(scale, struct.pack("<3d", NORTH_UP.a, NORTH_UP.e, 0)))

    def seen(**somebodys: str) -> str:
        # In a process of its own: GDAL keeps what it has met, and then writes YCbCr past the ends of its buffers.
        there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | somebodys
        command = [sys.executable, "-c", SEEN, point, colour, turned]
        return subprocess.run(command, env=there, capture_output=True, text=True, check=True).stdout

    assert seen(**SOMEBODYS) == seen()
    assert seen().startswith(str(tuple(NORTH_UP)))


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "yesterday", "2024:13:01 10:20:30"])
def test_a_date_that_is_none(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.tif", texture(3, H, W), tags={"TIFFTAG_DATETIME": text})
    assert open_raster(path).acquired is None


def test_the_key_follows_the_content_not_the_name(tmp_path: Path) -> None:
    first = write(tmp_path / "a.tif", texture(3, H, W))
    other = tmp_path / "sub" / "b.tif"
    other.parent.mkdir()
    shutil.copy(first, other)
    os.utime(other, (1, 1))
    key = open_raster(first).key
    assert open_raster(other).key == key
    assert open_raster(os.path.relpath(other)).key == key
    data = bytearray(other.read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    assert open_raster(other).key != key
    write(tmp_path / "a.tif.msk", np.full((1, H, W), 255, "uint8"))
    assert open_raster(first).key != key


def test_one_byte_of_a_large_file_changes_the_key(tmp_path: Path) -> None:
    """A mask burnt into an uncompressed raster leaves its size and most of its bytes as they were."""
    path = write(tmp_path / "a.tif", np.full((3, 1700, 2300), 7, "uint8"))
    assert path.stat().st_size > 11e6
    before = open_raster(path)
    with path.open("r+b") as file:
        file.seek(5_000_001)
        file.write(b"8")
    assert open_raster(path).key != before.key


def test_of_what_is_larger_than_asked_pieces_are_read_from_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(2_000_000))
    key = content_key([str(path)], most=2**18)
    seen = []
    for place in (0, 16_383, 100_000, 1_999_999):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        seen.append(content_key([str(path)], most=2**18) != key)
        path.write_bytes(bytes(2_000_000))
    assert seen == [True, True, False, True]
    path.write_bytes(bytes(2_000_001))
    assert content_key([str(path)], most=2**18) != key


def test_a_bare_digest_is_no_multihash(tmp_path: Path) -> None:
    """Some catalogues state one; of MD5s one in some thousands begins as the multihash of another algorithm does."""
    (tmp_path / "a.tif").write_bytes(b"abc")
    check_file(str(tmp_path / "a.tif"), "1220" + "0" * 28)
    with pytest.raises(RasterError, match="whose SHA256 is ba7816bf"):
        check_file(str(tmp_path / "a.tif"), "1220" + "0" * 64)


def test_big_tiff_cog_and_jpeg2000(tmp_path: Path) -> None:
    pixels = texture(3, H, W)
    big = write(tmp_path / "big.tif", pixels, BIGTIFF="YES")
    np.testing.assert_array_equal(pixels_of(open_raster(big)), pixels)
    cog = write(tmp_path / "cog.tif", pixels, driver="COG")
    np.testing.assert_array_equal(pixels_of(open_raster(cog)), pixels)
    jp2 = write(tmp_path / "a.jp2", pixels, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    info = open_raster(jp2)
    assert info.driver == "JP2OpenJPEG" and info.grid.crs.to_epsg() == 32645
    np.testing.assert_array_equal(pixels_of(info), pixels)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"just some text\n", "text file"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git lfs pull"),
        (b"<GDAL_WMS><Service name='TMS'></Service></GDAL_WMS>", "web map service"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        (b"PK\x03\x04" + bytes(50), "ZIP.*Unpack it"),
        (b"a.tif".ljust(257, b"\0") + b"ustar" + bytes(250), "tar archive.*Unpack it"),
        (bytes(500), "starts with zeros"),
        (b"\x01\x02\x03\x04" * 9, "unknown format"),
        (b"II*\0" + bytes(200), "cannot open"),
    ],
)
def test_files_that_are_no_raster(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(RasterError, match=message) as caught:
        open_raster(path)
    assert caught.value.exit_code == 2 and str(path) in str(caught.value)


def test_places_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.tif").mkdir()
    os.mkfifo(tmp_path / "b.tif")
    for name, message in (("a.tif", "a folder"), ("b.tif", "device or pipe"), ("c.tif", "does not exist")):
        with pytest.raises(RasterError, match=message):
            open_raster(tmp_path / name)
    with pytest.raises(RasterError, match="does not exist"):
        open_raster(f"GTIFF_DIR:1:{tmp_path}/a.tif")


@pytest.mark.parametrize("wrong", [None, b"a.tif", np.zeros((3, 4)), ["a.tif"]], ids=lambda v: type(v).__name__)
def test_what_is_no_path_is_told_as_such(wrong: Any) -> None:
    with pytest.raises(RasterError, match=f"of type {type(wrong).__name__}"):
        open_raster(wrong)


def test_what_lies_nowhere(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.tif", texture(3, H, W), transform=None, crs=None)
    with pytest.raises(RasterError, match="no geotransform"):
        open_raster(bare)
    points = [GroundControlPoint(r, c, x=85 + c / 1000, y=27 - r / 1000) for r, c in ((0, 0), (0, W), (H, 0), (H, W))]
    gcps = write(tmp_path / "gcps.tif", texture(3, H, W), transform=None, crs="EPSG:4326", gcps=points)
    with pytest.raises(RasterError, match=r"ground control points only.*gdalwarp"):
        open_raster(gcps)
    one = [1.0] + [0.0] * 19
    rpc = RPC(0, 1, 27, 1, one, one, 0, 1, 85, 1, one, one, 0, 1)
    rpcs = write(tmp_path / "rpcs.tif", texture(3, H, W), transform=None, crs=None, rpcs=rpc)
    with pytest.raises(RasterError, match=r"RPC"):
        open_raster(rpcs)


def test_opening_what_lies_nowhere_says_nothing_and_leaves_the_filters_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(1, 20, 30))
    write(tmp_path / "a.tif.msk", texture(1, 20, 30), transform=None, crs=None)
    code = (
        "import sys, warnings; from geoseg.raster import open_raster; before = list(warnings.filters);"
        "info = open_raster(sys.argv[1]); print(bool(info.mask_file), warnings.filters == before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
    assert done.stderr == ""


def test_a_missing_crs_may_be_assumed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, H, W), crs=None)
    with pytest.raises(RasterError, match="--assume-crs"):
        open_raster(path)
    assert open_raster(path, assume_crs=UTM).grid.crs.to_epsg() == 32645
    with pytest.raises(RasterError, match=r"'EPSG:nonsense' by --assume-crs, that cannot be understood.*EPSG:\.\.\."):
        open_raster(path, assume_crs="EPSG:nonsense")
    stated = write(tmp_path / "b.tif", texture(3, H, W))
    assert open_raster(stated, assume_crs="EPSG:3857").grid.crs.to_epsg() == 32645


def test_pixels_of_types_that_no_model_reads(tmp_path: Path) -> None:
    for options, dtype, message in (({"nbits": 1}, "uint8", "1-bit"), ({}, "complex64", "complex64")):
        path = write(tmp_path / "a.tif", np.ones((1, H, W), dtype), **options)
        with pytest.raises(RasterError, match=message):
            open_raster(path)


def test_a_nodata_value_that_no_pixel_has_is_refused(tmp_path: Path) -> None:
    """GDAL takes 0.5 for 0 in whole numbers, which nobody has said."""
    for nodata, dtype in ((0.5, "uint8"), (-0.25, "int16")):
        with pytest.raises(RasterError, match=rf"nodata value of {nodata}, which no {dtype} pixel has.*-a_nodata"):
            open_raster(write(tmp_path / "a.tif", texture(3, H, W, dtype), nodata=nodata))
    assert open_raster(write(tmp_path / "a.tif", texture(3, H, W, "float32"), nodata=0.5)).nodata == 0.5


def test_radar_in_pairs_of_integers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slc.tif"
    profile = {"crs": UTM, "transform": NORTH_UP, "dtype": "complex_int16"}
    with rasterio.open(path, "w", driver="GTiff", height=H, width=W, count=1, **profile) as out:
        out.write(np.ones((1, H, W), "complex64"))
    with pytest.raises(RasterError, match=r"complex_int16 pixels.*amplitude"):
        open_raster(path)


def test_further_images_in_a_file_are_told(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.tif", texture(3, H, W), mask=np.arange(H * W).reshape(H, W) % 9 > 0, tiled=True)
    with rasterio.open(whole, "r+") as out:
        out.build_overviews([2, 4])
    assert open_raster(whole).warnings == ()  # masks and overviews are images of the file, too
    rasterio.shutil.copy(write(tmp_path / "b.tif", texture(1, H, W)), whole, driver="GTiff", APPEND_SUBDATASET="YES")
    (said,) = open_raster(whole).warnings
    assert "2 images: the first is examined" in said and "GTIFF_DIR:" in said


def test_a_negative_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.tif", texture(1, H, W), photometric="MINISWHITE")
    (said,) = open_raster(path).warnings
    assert "a negative" in said and "MINISBLACK" in said


def test_huge_rasters_and_blocks_are_refused_until_allowed(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    blocks = {"tiled": True, "blockxsize": 20_000, "blockysize": 20_000, "sparse_ok": True}
    profile = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", height=20_000, width=30_000, **blocks, **profile):
        pass
    with pytest.raises(RasterError, match=r"blocks of 20000 x 20000.*max_block_bytes"):
        open_raster(path)
    assert open_raster(path, access=Access(max_block_bytes=2**40)).file_block == (20_000, 20_000)
    with pytest.raises(RasterError, match=r"20000 x 30000 pixels.*max_pixels"):
        open_raster(path, access=Access(max_pixels=10**8))


# --- nothing reaches out ----------------------------------------------------------------------------------


def test_the_cache_of_blocks_stays_bounded(tmp_path: Path) -> None:
    pixels_of(open_raster(write(tmp_path / "a.tif", texture(3, H, W))))
    assert rasterio.env.get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES == 64 * 2**20


@pytest.mark.parametrize("prefix", ["", "/vsicurl/"])
def test_remote_paths_need_leave(prefix: str) -> None:
    with Listener() as listener:
        url = f"{prefix}{listener.url}/a.tif"
        for path in (url, "s3://bucket/a.tif", "/vsizip//tmp/a.zip/a.tif", "zip:///tmp/a.zip!a.tif"):
            with pytest.raises(RasterError, match=r"remote.*allow_remote"):
                open_raster(path)
        assert listener.hits == []
        with pytest.raises(RasterError):
            open_raster(url, access=Access(allow_remote=True))
        assert listener.hits != []


VRT = (
    '<VRTDataset rasterXSize="350" rasterYSize="300"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    '<SourceFilename relativeToVRT="0">/vsicurl/{url}/x.tif</SourceFilename><SourceBand>1</SourceBand>'
    "</SimpleSource></VRTRasterBand></VRTDataset>"
)
PAM = (
    "<PAMDataset><SRS>EPSG:4326</SRS><GeoTransform>1,2,0,3,0,-2</GeoTransform><Metadata domain='OVERVIEWS'>"
    "<MDI key='OVERVIEW_FILE'>/vsicurl/{url}/y.tif</MDI></Metadata></PAMDataset>"
)


def neighbours(path: Path, url: str) -> None:
    """An overview file that is a VRT, metadata that name a remote one, and a wrong world file."""
    path.with_name(path.name + ".ovr").write_text(VRT.format(url=url))
    path.with_name(path.name + ".aux.xml").write_text(PAM.format(url=url))
    path.with_suffix(".tfw").write_text("9\n0\n0\n-9\n1\n2\n")


def test_what_lies_beside_a_raster_is_not_followed(tmp_path: Path) -> None:
    pixels = texture(3, 600, 700)
    path = write(tmp_path / "a.tif", pixels)
    with Listener() as listener:
        neighbours(path, listener.url)
        info = open_raster(path)
        assert info.grid.transform == NORTH_UP
        np.testing.assert_array_equal(pixels_of(info), pixels)
        small = replace(source_for(info, RAW), grid=info.grid.resized(height=60, width=70))
        with Reader(small) as reader:
            reader.read(list(Tiling(core=100, halo=0).plan(small.grid.window).tiles()))
        assert listener.hits == []
        # GDAL by itself does follow them.
        with suppress(rasterio.errors.RasterioError), rasterio.open(path) as dataset:
            dataset.read(1, out_shape=(60, 70))
        assert listener.hits != []


def test_a_raster_that_names_another_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, 60, 70))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="overviews", overview_file="anywhere.tif")  # GDAL takes either case
    with pytest.raises(RasterError, match="another file as its overviews"):
        open_raster(path)


def test_blocks_of_masks_are_limited_too(tmp_path: Path) -> None:
    small, big = Access(max_block_bytes=3 * 64 * 48), {"tiled": True, "blockxsize": 160, "blockysize": 96}
    path = write(tmp_path / "a.tif", texture(3, 96, 160), tiled=True, blockxsize=64, blockysize=48, interleave="pixel")
    beside = write(tmp_path / "a.tif.msk", texture(1, 96, 160), **big)
    with pytest.raises(RasterError, match=r"a\.tif\.msk stored in blocks of 96 x 160"):
        open_raster(path, access=small)
    assert open_raster(path).mask_file == str(beside)
    beside.unlink()
    path = write(tmp_path / "b.tif", texture(3, 96, 160), mask=np.ones((96, 160), bool), blockysize=8)
    blocks_of_its_mask(path, rows=96)
    with pytest.raises(RasterError, match=r"b\.tif with its image 2 .* stored in blocks of 96 x 160"):
        open_raster(path, access=small)
    assert open_raster(path).mask_file is None


def blocks_of_its_mask(path: Path, *, rows: int) -> None:
    """Change RowsPerStrip (tag 278) of the second image of a TIFF."""
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[4:8], "little")
    for image in (1, 2):
        count = int.from_bytes(data[at : at + 2], "little")
        entries = range(at + 2, at + 2 + 12 * count, 12)
        if image == 2:
            (entry,) = (entry for entry in entries if int.from_bytes(data[entry : entry + 2], "little") == 278)
            data[entry + 8 : entry + 10] = rows.to_bytes(2, "little")
        at = int.from_bytes(data[entries.stop : entries.stop + 4], "little")
    path.write_bytes(data)
