"""VRT mosaics of plain local GeoTIFFs are read; a VRT that reaches anywhere else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasters import Listener, pixels_of, texture, write

from geoseg.detectors.base import ModelCard
from geoseg.errors import RasterError
from geoseg.raster import Access, open_raster, reader, source_for
from geoseg.raster.file import _under
from geoseg.raster.vrt import read_vrt
from geoseg.tiling import Tiling
from geoseg.window import Window

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
        f'<VRTRasterBand dataType="Byte" band="{number}"><ColorInterp>{colour}</ColorInterp>{text}</VRTRasterBand>'
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
    path = vrt(tmp_path / "m.vrt", *bands, height=70, width=110, extra='<Metadata><MDI key="A">b</MDI></Metadata>')
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


def test_a_source_of_another_size_than_when_the_mosaic_was_built_is_refused(tmp_path: Path) -> None:
    """A sheet that was delivered anew, coarser or finer: GDAL takes its pixels one to one, and they lie elsewhere."""
    said = f'<SourceProperties RasterXSize="{W}" RasterYSize="{H}" DataType="Byte" BlockXSize="{W}" BlockYSize="1"/>'
    for properties in ("", said):
        path = vrt(tmp_path / "m.vrt", source("a.tif").replace("<SrcRect", f"{properties}<SrcRect"))
        for height, width in ((H, W), (H // 2, W // 2), (2 * H, 2 * W)):
            write(tmp_path / "a.tif", texture(1, height, width))
            if height == H or (height > H and not properties):  # without sizes, it may be a part of a larger sheet
                assert open_raster(path).grid.height == H
                continue
            with pytest.raises(RasterError, match=rf"{height} x {width} pixels where the mosaic goes by {H} x {W}"):
                open_raster(path)


def test_a_source_is_not_taken_for_a_changed_one_by_what_its_mosaic_leaves_open(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", texture(1, H, W))
    plain = source("a.tif")
    for allowed in (
        plain.replace("<SrcRect", '<SourceProperties DataType="Byte" BlockXSize="64"/><SrcRect'),
        plain.replace(f'xSize="{W}"', f'xSize="{W + 0.01}"', 1),
    ):
        assert allowed != plain
        assert open_raster(vrt(tmp_path / "m.vrt", allowed)).grid.height == H
    further = plain.replace(f'xSize="{W}"', f'xSize="{W + 9}"', 1)
    with pytest.raises(RasterError, match=rf"{H} x {W} pixels where the mosaic goes by {H} x {W + 9}"):
        open_raster(vrt(tmp_path / "m.vrt", further))


def test_a_source_that_is_laid_without_rectangles_has_to_fill_its_mosaic(tmp_path: Path) -> None:
    """What it does not reach would be black, and count as imagery."""
    pixels = texture(1, H, W)
    write(tmp_path / "a.tif", pixels)
    rects = source("a.tif")[source("a.tif").index("<SrcRect") : source("a.tif").index("</Simple")]
    bare = source("a.tif").replace(rects, "")
    np.testing.assert_array_equal(pixels_of(open_raster(vrt(tmp_path / "m.vrt", bare))), pixels)
    smaller = vrt(tmp_path / "m.vrt", bare, height=H - 3, width=W - 1)
    np.testing.assert_array_equal(pixels_of(open_raster(smaller)), pixels[:, : H - 3, : W - 1])
    with pytest.raises(RasterError, match=rf"{H} x {W} pixels where the mosaic goes by {H + 3} x {W}\."):
        open_raster(vrt(tmp_path / "m.vrt", bare, height=H + 3))
    taken, laid = rects.split("/><")
    for one in (f"{taken}/>", f"<{laid}"):  # GDAL reads nothing of it
        with pytest.raises(RasterError, match="a SrcRect or a DstRect alone"):
            open_raster(vrt(tmp_path / "m.vrt", source("a.tif").replace(rects, one)))


def test_a_source_with_huge_blocks_or_no_header_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", texture(3, H, W), tiled=True, blockxsize=64, blockysize=48)
    path = vrt(tmp_path / "m.vrt", source("a.tif"))
    with pytest.raises(RasterError, match=r"a\.tif stored in blocks of 48 x 64"):
        open_raster(path, access=Access(max_block_bytes=4000))
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(RasterError, match="cannot open"):
        open_raster(path)


def test_sources_outside_the_folder_need_a_root(tmp_path: Path, tif: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    path = vrt(folder / "m.vrt", source("../a.tif"))
    with pytest.raises(RasterError, match=r"outside its folder.*raster\.roots"):
        open_raster(path)
    allowed = open_raster(path, access=Access(roots=(str(tmp_path),)))
    np.testing.assert_array_equal(pixels_of(allowed), texture(3, H, W)[:1])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_raster(path, access=Access(roots=("~",))).key == allowed.key
    (folder / "link.tif").symlink_to(tif)
    with pytest.raises(RasterError, match="outside its folder"):
        open_raster(vrt(folder / "n.vrt", source("link.tif")))
    with pytest.raises(RasterError, match="outside its folder"):
        open_raster(vrt(folder / "o.vrt", source(str(tif), relative=0)))


def resampled(text: str, method: str, laid: tuple[object, object, object, object]) -> str:
    x, y, width, height = laid
    text = text.replace("<SimpleSource>", f'<SimpleSource resampling="{method}">')
    start, end = text.index("<DstRect"), text.index("</SimpleSource>")
    return f'{text[:start]}<DstRect xOff="{x}" yOff="{y}" xSize="{width}" ySize="{height}"/>{text[end:]}'


@pytest.mark.parametrize("method", ["average", "Gauss", "rms", "mode", "near", "bilinear", "cubic"])
@pytest.mark.parametrize("laid", [(0, 0, W, H), (7, 5, W, H + 1e-9)], ids=["there", "moved"])
def test_sources_of_the_same_pixels_are_not_resampled(
    tmp_path: Path, tif: Path, method: str, laid: tuple[float, float, float, float]
) -> None:
    path = vrt(tmp_path / "m.vrt", resampled(source("a.tif"), method, laid), height=50, width=70)
    assert "resampling" not in read_vrt(str(path), Access()).xml
    found = source_for(open_raster(path), ModelCard(classes=("thing",)))
    chips, _ = reader(found).read(list(Tiling(core=11, halo=3).plan(found.grid.window).tiles()))
    expected = np.zeros((50, 70), np.uint8)
    expected[laid[1] : laid[1] + H, laid[0] : laid[0] + W] = texture(3, H, W)[0]  # type: ignore[misc]
    for chip in chips:
        w = chip.tile.window
        np.testing.assert_array_equal(chip.pixels[0], expected[w.row_off : w.row_end, w.col_off : w.col_end])


@pytest.mark.parametrize("laid", [(0, 0, 1.11 * W, 1.11 * H), (0.5, 0, W, H)], ids=["stretched", "shifted"])
def test_a_resampling_that_follows_the_window_is_refused(
    tmp_path: Path, tif: Path, laid: tuple[float, float, float, float]
) -> None:
    for method in ("average", "GAUSS", "rms", "mode", "of my own"):
        path = vrt(tmp_path / "m.vrt", resampled(source("a.tif"), method, laid), height=50, width=70)
        with pytest.raises(RasterError, match=f"the resampling '{method}'.*gdalwarp"):
            open_raster(path)
    for method in ("", "nearest", "bilinear", "CUBIC", "cubicspline", "lanczos"):
        assert open_raster(vrt(tmp_path / "m.vrt", resampled(source("a.tif"), method, laid), height=50, width=70))


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
        (resampled(SOURCE, "bilinear", ("nan", 0, W, H)), "not four numbers"),
        (resampled(SOURCE, "bilinear", ("left", 0, W, H)), "not four numbers"),
        (SOURCE.replace('<SrcRect xOff="0"', "<SrcRect"), "a SrcRect that is not four numbers"),
        ("<PixelFunctionType>x</PixelFunctionType>" + SOURCE, "PixelFunctionType"),
        (SOURCE.replace('<SrcRect xOff="0"', '<SrcRect xOff="-3"'), "from column -3, row 0 on"),
        (SOURCE + "<Metadata>" * 9000 + "</Metadata>" * 9000, "nested without end"),
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


@pytest.mark.parametrize("form", ["GTiff", "PNG"])
def test_a_source_that_names_another_file_is_refused(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    secret = write(tmp_path / "secret", np.full((1, H // 4, W // 4), 77, "uint8"), driver=form)
    with rasterio.open(write(folder / "a.tif", np.full((1, H, W), 200, "uint8")), "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(secret))
    whole = f'<DstRect xOff="0" yOff="0" xSize="{W}" ySize="{H}"/>'
    quarter = f'<DstRect xOff="0" yOff="0" xSize="{W // 4}" ySize="{H // 4}"/>'
    path = vrt(folder / "m.vrt", source("a.tif").replace(whole, quarter), height=H // 4, width=W // 4)
    with rasterio.open(path) as dataset:
        assert (dataset.read() == 77).all(), "GDAL would read it"
    with pytest.raises(RasterError, match="another file as its overviews"):
        open_raster(path)


@pytest.mark.parametrize("inside", [True, False])
def test_masks_of_sources_count_or_are_refused(tmp_path: Path, inside: bool) -> None:
    good = np.ones((H, W), bool)
    good[5:30, :20] = False
    write(tmp_path / "a.tif", texture(3, H, W), mask=good if inside else None)
    if not inside:
        write(tmp_path / "a.tif.msk", np.where(good, 255, 0).astype("uint8")[None])
    mask = source("a.tif").replace("<SourceBand>1<", "<SourceBand>mask,1<")  # as gdalbuildvrt writes it
    mask = f'<MaskBand><VRTRasterBand dataType="Byte">{mask}</VRTRasterBand></MaskBand>'
    mosaic = vrt(tmp_path / "m.vrt", *(source("a.tif", b) for b in (1, 2, 3)))
    plain = mosaic.read_text()
    masked = plain.replace("</VRTDataset>", mask + "</VRTDataset>")
    beside = r"mask file beside it.*GDAL_TIFF_INTERNAL_MASK"
    refused = {plain: "mask inside.*gdalbuildvrt"} if inside else {plain: beside, masked: beside}
    for text, message in refused.items():
        mosaic.write_text(text)
        with pytest.raises(RasterError, match=message):
            open_raster(mosaic)
    mosaic.write_text(masked if inside else plain)
    if not inside:
        write(tmp_path / "m.vrt.msk", np.where(good, 255, 0).astype("uint8")[None])
    found = source_for(open_raster(mosaic), ModelCard(classes=("thing",)))
    (chip,), _ = reader(found).read(list(Tiling(core=100, halo=0).plan(found.grid.window).tiles()))
    np.testing.assert_array_equal(chip.valid, good)


def test_nodata_of_sources_counts_or_is_refused(tmp_path: Path) -> None:
    """gdalbuildvrt takes it along; without it in the mosaic, what holds nothing would be black imagery."""
    good = np.ones((H, W), bool)
    good[5:30, :20] = False
    pixels = np.where(good, texture(3, H, W), 0).astype("uint8")
    write(tmp_path / "a.tif", pixels)
    left_out = [source("a.tif", b).replace("</Simple", "<NODATA>0</NODATA></Simple") for b in (1, 2, 3)]
    left_out = [text.replace("SimpleSource", "ComplexSource") for text in left_out]
    masked = [text.replace("<NODATA>0</NODATA>", "<UseMaskBand>true</UseMaskBand>") for text in left_out]
    for bands in (left_out, masked):
        with pytest.raises(RasterError, match=r"m\.vrt, whose sources have nodata or masks.*-vrtnodata"):
            open_raster(vrt(tmp_path / "m.vrt", *bands))
    stated = vrt(tmp_path / "m.vrt", *(f"<NoDataValue>9</NoDataValue>{text}" for text in left_out))
    found = source_for(open_raster(stated), ModelCard(classes=("thing",)))
    (chip,), _ = reader(found).read(list(Tiling(core=100, halo=0).plan(found.grid.window).tiles()))
    np.testing.assert_array_equal(chip.valid, good)
    of_none = [text.replace("<NODATA>0<", "<NODATA>-9999<") for text in left_out]  # gdalbuildvrt over such 8-bit sheets
    of_none = [f"<NoDataValue>-9999</NoDataValue>{text}" for text in of_none]
    assert open_raster(vrt(tmp_path / "m.vrt", *of_none)).nodata is None
    plain = vrt(tmp_path / "m.vrt", *(source("a.tif", b) for b in (1, 2, 3)))
    assert open_raster(plain).nodata is None
    write(tmp_path / "a.tif", pixels, nodata=0)
    with pytest.raises(RasterError, match=r"a\.tif, a source of the mosaic, with a nodata value.*-vrtnodata"):
        open_raster(plain)
    write(tmp_path / "a.tif", pixels.astype("float32"), nodata=float("nan"))  # NaN is no imagery, declared or not
    assert open_raster(plain).warnings == ()


def test_a_palette_without_colours_is_refused(tmp_path: Path, tif: Path) -> None:
    path = vrt(tmp_path / "m.vrt", source("a.tif"))
    path.write_text(path.read_text().replace(">Red<", ">Palette<"))
    with pytest.raises(RasterError, match=r"m\.vrt with numbers of colours and no table of them"):
        source_for(open_raster(path), ModelCard(classes=("thing",)))


def test_sources_of_few_bits_are_no_8_bit_imagery(tmp_path: Path) -> None:
    mosaic = vrt(tmp_path / "m.vrt", source("a.tif"), source("b.tif"))
    for bits in (None, 4, 1):
        write(tmp_path / "a.tif", texture(1, H, W))
        write(tmp_path / "b.tif", texture(1, H, W) % 2, **({"nbits": bits} if bits else {}))
        if bits == 1:
            with pytest.raises(RasterError, match=r"b\.tif with 1-bit pixels"):
                open_raster(mosaic)
        else:
            assert open_raster(mosaic).bits == bits


@pytest.mark.parametrize(
    ("code", "mapping", "good"),
    [
        (4326, "2,1", True),
        (4326, "1,2", False),
        (4326, "2,-1", False),
        (4326, "first", False),
        (32645, "1,2", True),
        (32645, "2,1", False),
        (2193, "2,1", True),
        (3031, "1,2", True),
        ("EPSG:4979", "2,1,3", True),
    ],
)
def test_a_mosaic_with_latitude_first_is_refused(
    tmp_path: Path, tif: Path, code: int | str, mapping: str, good: bool
) -> None:
    name = code if isinstance(code, str) else f"EPSG:{code}"
    path = vrt(tmp_path / "m.vrt", source("a.tif"))
    path.write_text(path.read_text().replace("<SRS>EPSG:32645", f'<SRS dataAxisToSRSAxisMapping="{mapping}">{name}'))
    if good:
        assert open_raster(path).grid.transform.c == 300_000
    else:
        with pytest.raises(RasterError, match=f"axes in the order '{mapping}'.*longitude or easting first"):
            open_raster(path)


def test_a_mask_for_each_band_is_refused(tmp_path: Path, tif: Path) -> None:
    mask = f'<MaskBand><VRTRasterBand dataType="Byte">{source("a.tif")}</VRTRasterBand></MaskBand>'
    path = vrt(tmp_path / "m.vrt", *(source("a.tif", band) + mask for band in (1, 2, 3)))
    with pytest.raises(RasterError, match=r"mask of its own for each band.*gdal_translate -mask 1"):
        open_raster(path)


def test_blocks_of_overviews_of_sources_are_limited(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(1, 320, 352), blockysize=1)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    mosaic = vrt(tmp_path / "m.vrt", source("a.tif"))
    assert open_raster(path, access=Access(max_block_bytes=352)).file_block == (1, 352)  # by itself it reads none
    with pytest.raises(RasterError, match=r"its image 2 \(a mask or an overview\) stored in blocks of 128 x 128"):
        open_raster(mosaic, access=Access(max_block_bytes=128 * 128 - 1))
    open_raster(mosaic, access=Access(max_block_bytes=128 * 128))


@pytest.mark.parametrize("core", [9, 13, 100])
def test_overviews_of_sources_have_no_say(tmp_path: Path, core: int) -> None:
    """Which of them GDAL would take depends on the window, so that pixels would follow from the tiling."""
    fine, good = texture(1, 3 * H, 3 * W), np.ones((3 * H, 3 * W), bool)
    good[: H // 2, W:] = False
    with rasterio.open(write(tmp_path / "a.tif", fine, mask=good), "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    finer = source("a.tif").replace(f'xSize="{W}" ySize="{H}"/><Dst', f'xSize="{3 * W}" ySize="{3 * H}"/><Dst')
    mask = finer.replace("<SourceBand>1<", "<SourceBand>mask,1<")
    mask = f'<MaskBand><VRTRasterBand dataType="Byte">{mask}</VRTRasterBand></MaskBand>'
    found = source_for(open_raster(vrt(tmp_path / "m.vrt", finer, extra=mask)), ModelCard(classes=("thing",)))
    centres = (slice(None), slice(1, None, 3), slice(1, None, 3))
    for block in Tiling(core=core, halo=3, block=2).plan(found.grid.window).blocks():
        for chip in reader(found).read(block.tiles)[0]:
            w = chip.tile.window
            there = np.s_[:, w.row_off : w.row_end, w.col_off : w.col_end]
            np.testing.assert_array_equal(chip.pixels, fine[centres][there])
            np.testing.assert_array_equal(chip.valid, good[None][centres][there][0])


EDGES = st.one_of(st.floats(-30, 80), st.sampled_from([float("-inf"), float("inf"), 7.5, 12.0]))


@given(boxes=st.lists(st.tuples(EDGES, EDGES, EDGES, EDGES), min_size=1, max_size=9), at=st.integers(0, 40))
def test_what_is_covered_follows_from_pixel_centres(boxes: list[tuple[float, ...]], at: int) -> None:
    window = Window(row_off=at, col_off=2 * at, height=11, width=17)
    rows, cols = np.mgrid[at : at + 11, 2 * at : 2 * at + 17] + 0.5
    inside = [(cols >= x0) & (cols < x1) & (rows >= y0) & (rows < y1) for x0, y0, x1, y1 in boxes]
    np.testing.assert_array_equal(_under(np.array(boxes), window), np.any(inside, axis=0))


def nodata(value: float) -> str:
    return f"<NoDataValue>{value}</NoDataValue>"


def test_a_nodata_value_of_its_own_for_each_band_is_refused(tmp_path: Path, tif: Path) -> None:
    bands = [source("a.tif", b) for b in (1, 2, 3)]
    same = open_raster(vrt(tmp_path / "m.vrt", *(nodata(7) + band for band in bands)))
    assert same.nodata == 7
    for texts in (
        [nodata(v) + band for v, band in zip((7, 8, 7), bands, strict=True)],
        [nodata(7) + bands[0], *bands[1:]],
    ):
        with pytest.raises(RasterError, match=r"nodata value of its own.*one nodata value.*vrtnodata"):
            open_raster(vrt(tmp_path / "m.vrt", *texts))


def test_alpha_needs_no_nodata_value(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", texture(4, H, W))
    path = vrt(tmp_path / "m.vrt", nodata(7) + source("a.tif", 1), nodata(7) + source("a.tif", 2), source("a.tif", 4))
    path.write_text(path.read_text().replace("<ColorInterp>Blue", "<ColorInterp>Alpha"))
    info = open_raster(path)
    assert info.nodata == 7 and info.alpha == 3


def test_a_source_that_was_never_written_to_its_end_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, 400, 310), interleave="pixel")
    bands = [source("a.tif", b) for b in (1, 2, 3)]
    assert open_raster(vrt(tmp_path / "m.vrt", *bands)).warnings == ()
    with open(path, "r+b") as file:
        file.seek(-120_000, 2)
        file.write(bytes(120_000))
    found = source_for(open_raster(vrt(tmp_path / "m.vrt", *bands)), ModelCard(classes=("thing",)))
    assert len(found.warnings) == 1 and "a.tif, a source of the mosaic, ends in zeros" in found.warnings[0]
    assert open_raster(vrt(tmp_path / "m.vrt", *(nodata(0) + band for band in bands))).warnings == ()
