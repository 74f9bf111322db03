"""VRT mosaics of plain local GeoTIFFs are read; a VRT that reaches anywhere else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasters import Listener, pixels_of, texture, write

from geoseg.detectors.base import ModelCard
from geoseg.errors import RasterError
from geoseg.raster import Access, open_raster, reader, source_for
from geoseg.tiling import Tiling

H, W = 40, 60
HEAD = "<SRS>EPSG:32645</SRS><GeoTransform>300000,0.5,0,3060000,0,-0.5</GeoTransform>"


def source(name: str, band: int = 1, rect: tuple[int, int] = (0, 0), relative: int = 1) -> str:
    x, y = rect
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
        f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{W}" ySize="{H}"/>'
        f'<DstRect xOff="{x}" yOff="{y}" xSize="{W}" ySize="{H}"/></SimpleSource>'
    )


def vrt(path: Path, *bands: str, height: int = H, width: int = W, extra: str = "") -> Path:
    inner = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><ColorInterp>{colour}</ColorInterp>{text}'
        "</VRTRasterBand>"
        for number, (colour, text) in enumerate(zip(("Red", "Green", "Blue"), bands, strict=False), 1)
    )
    size = f'rasterXSize="{width}" rasterYSize="{height}"'
    path.write_text(f"<VRTDataset {size}>{HEAD}{extra}{inner}</VRTDataset>")
    return path


@pytest.fixture
def tif(tmp_path: Path) -> Path:
    return write(tmp_path / "a.tif", texture(3, H, W))


def test_a_mosaic_is_what_gdal_makes_of_it(tmp_path: Path, tif: Path) -> None:
    other = tmp_path / "sub" / "b.tif"
    other.parent.mkdir()
    write(other, texture(3, H, W, seed=5))
    bands = [source("a.tif", b) + source("sub/b.tif", b, (50, 30)) for b in (1, 2, 3)]
    path = vrt(
        tmp_path / "m.vrt", *bands, height=70, width=110, extra='<Metadata><MDI key="A">b</MDI></Metadata>'
    )
    info = open_raster(path)
    assert info.driver == "VRT" and info.roles == ("red", "green", "blue")
    with rasterio.open(path) as dataset:
        expected = dataset.read()
        assert info.grid.transform == dataset.transform
    found = source_for(info, ModelCard(classes=("thing",)))
    chips, gaps = reader(found).read(list(Tiling(core=25, halo=5).plan(found.grid.window).tiles()))
    for chip in chips:
        w = chip.tile.window
        np.testing.assert_array_equal(chip.pixels, expected[:, w.row_off : w.row_end, w.col_off : w.col_end])
    empty = shapely.union_all([gap.geometry for gap in gaps])
    covered = shapely.union(shapely.box(0, 0, W, H), shapely.box(50, 30, 50 + W, 30 + H))
    assert {gap.reason for gap in gaps} == {"nodata"}  # where no source lies there is no imagery
    assert empty.equals(shapely.box(0, 0, 110, 70).difference(covered))


def test_a_truncated_source_is_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, H, W), compress="deflate", blockysize=4, interleave="pixel")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    info = open_raster(vrt(tmp_path / "m.vrt", *(source("a.tif", b) for b in (1, 2, 3))))
    found = source_for(info, ModelCard(classes=("thing",)))
    _, gaps = reader(found).read(list(Tiling(core=25, halo=5).plan(found.grid.window).tiles()))
    assert {gap.reason for gap in gaps} == {"unreadable"}


def test_a_source_with_huge_blocks_or_no_header_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", texture(3, H, W), tiled=True, blockxsize=64, blockysize=48)
    path = vrt(tmp_path / "m.vrt", source("a.tif"))
    with pytest.raises(RasterError, match=r"a\.tif stored in blocks of 48 x 64"):
        open_raster(path, access=Access(max_block_bytes=4000))
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(RasterError, match="cannot open"):
        open_raster(path)


def test_sources_outside_the_folder_need_a_root(tmp_path: Path, tif: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    path = vrt(folder / "m.vrt", source("../a.tif"))
    with pytest.raises(RasterError, match=r"outside its folder.*raster\.roots"):
        open_raster(path)
    allowed = open_raster(path, access=Access(roots=(str(tmp_path),)))
    np.testing.assert_array_equal(pixels_of(allowed), texture(3, H, W)[:1])
    (folder / "link.tif").symlink_to(tif)
    with pytest.raises(RasterError, match="outside its folder"):
        open_raster(vrt(folder / "n.vrt", source("link.tif")))
    with pytest.raises(RasterError, match="outside its folder"):
        open_raster(vrt(folder / "o.vrt", source(str(tif), relative=0)))


SOURCE = source("a.tif")
RAW_BAND = (
    '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    '<SourceFilename relativeToVRT="0">/etc/passwd</SourceFilename>'
    "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>60</LineOffset></VRTRasterBand>"
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (source("/etc/passwd", relative=0), "outside its folder"),
        (source("../../../../../etc/passwd"), "outside its folder"),
        (source("secret.txt"), "not a GeoTIFF"),
        (source("inner.vrt"), "not a GeoTIFF"),
        (source("missing.tif"), "does not exist"),
        (source("http://127.0.0.1:1/a.tif", relative=0), "the source"),
        (source("/vsicurl/http://127.0.0.1:1/a.tif", relative=0), "the source"),
        (source("/vsizip/a.zip/a.tif", relative=0), "the source"),
        (source("NETCDF:a.tif:x", relative=0), "the source"),
        (source("<VRTDataset/>".replace("<", "&lt;"), relative=0), "the source"),
        (source(""), "the source"),
        (SOURCE.replace("SimpleSource", "KernelFilteredSource"), "KernelFilteredSource"),
        (
            SOURCE.replace("<SourceBand>", "<OpenOptions><OOI key='a'>b</OOI></OpenOptions><SourceBand>"),
            "OpenOptions",
        ),
        (SOURCE.replace("SourceFilename", "sourcefilename"), "sourcefilename"),
        (SOURCE.replace('relativeToVRT="1"', 'relativeToVRT="1" relativetovrt="0"'), "relativetovrt"),
        (SOURCE + f"<Overview>{SOURCE}</Overview>", "Overview"),
        ("<PixelFunctionType>x</PixelFunctionType>" + SOURCE, "PixelFunctionType"),
        ("", "no source"),
    ],
)
def test_what_a_vrt_may_not_hold(tmp_path: Path, tif: Path, body: str, message: str) -> None:
    (tmp_path / "secret.txt").write_text("secret" * 1000)
    vrt(tmp_path / "inner.vrt", SOURCE)
    with pytest.raises(RasterError, match=message):
        open_raster(vrt(tmp_path / "m.vrt", body))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'<VRTDataset rasterXSize="60" rasterYSize="40">{HEAD}{RAW_BAND}</VRTDataset>', "VRTRawRasterBand"),
        (
            f'<VRTDataset rasterXSize="60" rasterYSize="40" subClass="VRTWarpedDataset">{HEAD}</VRTDataset>',
            "subClass",
        ),
        ("<VRTDataset rasterXSize='60'", "cannot be parsed"),
        (
            '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><VRTDataset>&b;</VRTDataset>',
            "document type|XML",
        ),
        (
            '<VRTDataset rasterXSize="60" rasterYSize="40"><!DOCTYPE a [<!ENTITY b "c">]></VRTDataset>',
            "document type",
        ),
    ],
)
def test_whole_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.tif"  # whatever it is called
    path.write_text(text)
    with pytest.raises(RasterError, match=message):
        open_raster(path)
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(RasterError):
        open_raster(path)


def test_a_vrt_never_reaches_the_network(tmp_path: Path) -> None:
    with Listener() as listener:
        url = listener.url
        for name in (f"/vsicurl/{url}/a.tif", f"{url}/a.tif", f"&lt;GDAL_WMS&gt;{url}&lt;/GDAL_WMS&gt;"):
            path = vrt(tmp_path / "m.vrt", source(name, relative=0))
            with pytest.raises(RasterError):
                open_raster(path)
        assert listener.hits == []
        with pytest.raises(rasterio.errors.RasterioError):  # GDAL by itself goes and asks
            rasterio.open(vrt(tmp_path / "m.vrt", source(f"/vsicurl/{url}/a.tif", relative=0))).read()
        assert listener.hits != []


def test_metadata_of_other_domains_is_left_behind(tmp_path: Path, tif: Path) -> None:
    with Listener() as listener:
        item = f'<MDI key="OVERVIEW_FILE">/vsicurl/{listener.url}/o.tif</MDI>'
        path = vrt(tmp_path / "m.vrt", SOURCE, extra=f'<Metadata domain="OVERVIEWS">{item}</Metadata>')
        np.testing.assert_array_equal(pixels_of(open_raster(path)), texture(3, H, W)[:1])
        assert listener.hits == []
