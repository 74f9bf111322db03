"""Zarr arrays as rasters: the same as a GeoTIFF of the same pixels, or refused; what is not there is told."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import zarr
from affine import Affine
from archive_scenes import BOXES, configured, ground
from commands import cli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painted import Painted, scenes
from rasterio._err import CPLE_NotSupportedError
from rasters import DEGREES, NORTH_UP, ROTATED, SOUTH_UP, UTM, pixels_of, texture, write
from test_raster_faults import RAW, area, read_all
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarrs import add, write_zarr

import geoseg
from geoseg import Tiling
from geoseg.archive import run_archive
from geoseg.archive.globs import matching
from geoseg.errors import RasterError
from geoseg.raster import Access, Reader, Scaling, open_raster, source_for
from geoseg.raster.access import CACHE_BYTES
from geoseg.raster.file import OpenFile
from geoseg.raster.zarr import chunks
from geoseg.raster.zarr.chunks import _Cache
from geoseg.raster.zarr.nodes import Folder
from geoseg.window import Window

HEIGHT, WIDTH = 50, 90


def refusal(path: Path, access: Access | None = None) -> str:
    with pytest.raises(RasterError) as caught:
        open_raster(path, access=access)
    return str(caught.value)


def edited(path: Path, **changes: Any) -> Path:
    """Change the metadata of a node of v3."""
    file = path / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return path


def chunk_files(array: Path) -> list[Path]:
    return sorted(path for path in array.rglob("*") if path.is_file() and path.name[0] not in "z.")


@given(pixels=scenes(), zarr_format=st.sampled_from([2, 3]), chunk=st.tuples(st.integers(5, 70), st.integers(5, 70)))
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, DEGREES], ids=["north", "south", "degrees"])
def test_the_same_pixels_give_the_same_footprints(
    tmp_path: Path, pixels: Any, zarr_format: int, chunk: tuple[int, int], transform: Affine
) -> None:
    crs = "EPSG:4326" if transform is DEGREES else UTM
    shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)
    tif = write(tmp_path / "a.tif", pixels[None], crs=crs, transform=transform)
    put = write_zarr(
        tmp_path / "a.zarr", pixels[None], crs=crs, transform=transform, zarr_format=zarr_format, chunks=(1, *chunk),
        config={"write_empty_chunks": True},
    )  # fmt: skip
    tiling = Tiling(core=40, halo=12, block=2)
    wanted, found = (geoseg.extract(path, Painted(), tiling=tiling) for path in (tif, put))
    assert list(wanted["label"]) == list(found["label"])
    assert found.geometry.geom_equals_exact(wanted.geometry, 1e-6 * abs(transform.a)).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", ">u2", ">f8"])
@pytest.mark.parametrize("dims", [("band", "y", "x"), ("y", "x", "band"), ("x", "band", "lat")])
def test_bands_types_and_orders_of_dimensions(
    tmp_path: Path, zarr_format: int, dtype: str, dims: tuple[str, ...]
) -> None:
    pixels = texture(4, HEIGHT, WIDTH, dtype)
    order = {"serializer": BytesCodec(endian="big" if dtype[0] == ">" else "little")} if zarr_format == 3 else {}
    path = write_zarr(tmp_path / "a.zarr", pixels, zarr_format=zarr_format, dims=dims, **order)
    info = open_raster(path)
    assert (info.grid.height, info.grid.width, info.bands, info.dtype) == (HEIGHT, WIDTH, 4, np.dtype(dtype).name)
    assert info.file_block == (16, 32)
    np.testing.assert_array_equal(pixels_of(info), pixels)
    with closing(OpenFile(info, (3, 1))) as file:  # a part, bands in the model's order
        raw = file.read(Window(row_off=13, col_off=29, height=21, width=40))
    np.testing.assert_array_equal(raw.pixels, pixels[[2, 0], 13:34, 29:69])


@pytest.mark.parametrize("chunk", [(1, 16, 32), (2, 7, 50), (4, 64, 128), (3, 50, 90)])
def test_bands_in_chunks_of_any_size(tmp_path: Path, chunk: tuple[int, int, int]) -> None:
    pixels = texture(4, HEIGHT, WIDTH, "uint16")
    info = open_raster(write_zarr(tmp_path / "a.zarr", pixels, chunks=chunk))
    np.testing.assert_array_equal(pixels_of(info), pixels)


@pytest.mark.parametrize(
    ("zarr_format", "compressors"),
    [
        (2, None),
        *((2, {"id": name}) for name in ("zlib", "gzip", "zstd")),
        *((2, {"id": "blosc", "cname": name, "shuffle": 2}) for name in ("lz4", "zlib", "blosclz")),
        (3, None),
        (3, GzipCodec()),
        (3, ZstdCodec(checksum=True)),
        (3, BloscCodec(cname="zstd")),
    ],
    ids=lambda given: "-".join(map(str, given.values())) if isinstance(given, dict) else type(given).__name__,
)
@pytest.mark.parametrize("separator", [".", "/"])
def test_what_packs_chunks_and_how_they_are_called(
    tmp_path: Path, zarr_format: int, compressors: Any, separator: str
) -> None:
    pixels = texture(3, HEIGHT, WIDTH, "uint16")
    packed = numcodecs.get_codec(compressors) if isinstance(compressors, dict) else compressors
    naming = {"name": "default" if zarr_format == 3 else "v2", "separator": separator}
    path = write_zarr(
        tmp_path / "a.zarr", pixels, zarr_format=zarr_format, compressors=packed, chunk_key_encoding=naming
    )
    np.testing.assert_array_equal(pixels_of(open_raster(path)), pixels)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("transform", "crs"),
    [(NORTH_UP, UTM), (SOUTH_UP, UTM), (DEGREES, "EPSG:4326"), (NORTH_UP @ Affine.scale(-1, 1), UTM)],
    ids=["north", "south", "degrees", "westward"],
)
@pytest.mark.parametrize("said", ["centres", "GeoTransform", "both", "geozarr"])
def test_where_it_lies(tmp_path: Path, zarr_format: int, transform: Affine, crs: str, said: str) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    path = write_zarr(tmp_path / "a.zarr", pixels, zarr_format=zarr_format, transform=transform, crs=crs, said=said)
    info = open_raster(path)
    assert info.grid.crs.to_string() == crs
    off = ~transform @ info.grid.transform
    np.testing.assert_allclose(tuple(off)[:6], tuple(Affine.identity())[:6], atol=1e-5)
    assert open_raster(path / "image").grid == info.grid
    assert open_raster(write(tmp_path / "a.tif", pixels, transform=transform, crs=crs)).grid.crs == info.grid.crs


def test_a_rotated_one_by_its_transform(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH), transform=ROTATED, said="GeoTransform")
    np.testing.assert_allclose(open_raster(path).grid.transform, ROTATED, rtol=1e-12)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("options", [{}, {"COMPRESS": "BLOSC"}, {"COMPRESS": "ZLIB", "INTERLEAVE": "BAND"}], ids=str)
def test_what_gdal_writes(tmp_path: Path, bands: int, options: dict[str, str]) -> None:
    pixels = texture(bands, HEIGHT, WIDTH, "uint16")
    write(tmp_path / "a.tif", pixels, transform=SOUTH_UP, crs="EPSG:3857", photometric="RGB" if bands == 3 else None)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        try:
            rasterio.shutil.copy(dataset, tmp_path / "a.zarr", driver="Zarr", **options)
        except CPLE_NotSupportedError as error:
            pytest.skip(f"{error} in the GDAL of rasterio {rasterio.__version__}")
    # The CRS of several bands GDAL writes to a file beside the array.
    info = open_raster(tmp_path / "a.zarr", assume_crs="EPSG:3857" if bands == 3 else None)
    assert (info.grid.crs.to_epsg(), info.grid.transform) == (3857, SOUTH_UP)
    assert bands == 1 or info.roles == ("red", "green", "blue")
    np.testing.assert_array_equal(pixels_of(info), pixels)


def test_a_grid_of_one_place_along_other_dimensions(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH), dims=("band", "y", "x"))
    group = zarr.open_group(path)
    pixels = texture(2, HEIGHT, WIDTH)
    group.attrs["proj:code"] = UTM
    add(group, "dated", pixels[None, :, None], ("time", "band", "z", "y", "x"), chunks=(5, 1, 3, 16, 32))
    info = open_raster(path / "dated")
    np.testing.assert_array_equal(pixels_of(info), pixels)
    assert info.name == "a.zarr/dated"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("int16", -9999), ("float32", -9999.0), ("float32", np.nan)]
)
def test_nodata(tmp_path: Path, zarr_format: int, dtype: str, nodata: float) -> None:
    pixels = texture(3, HEIGHT, WIDTH, dtype)
    pixels[:, 10:30, 20:60] = nodata
    pixels[0, 40, 40] = nodata  # of one band alone: a colour, or no number
    info = open_raster(write_zarr(tmp_path / "a.zarr", pixels, zarr_format=zarr_format, nodata=nodata))
    assert info.nodata == pytest.approx(nodata, nan_ok=True)
    wanted = open_raster(write(tmp_path / "a.tif", pixels, nodata=nodata))
    for there, here in zip(read_all(source_for(wanted, RAW)), read_all(source_for(info, RAW)), strict=True):
        assert len(there) == len(here)
    assert area(read_all(source_for(info, RAW))[1]).equals(area(read_all(source_for(wanted, RAW))[1]))


def test_a_fill_value_that_nobody_chose_is_no_nodata(tmp_path: Path) -> None:
    assert open_raster(write_zarr(tmp_path / "a.zarr", texture(3, HEIGHT, WIDTH))).nodata is None
    chosen = write_zarr(tmp_path / "b.zarr", texture(3, HEIGHT, WIDTH), fill_value=255)
    assert open_raster(chosen).nodata == 255


# --- what is not there, or broken -------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("nodata", "reason"), [(None, "suspect_missing"), (7, "nodata")])
@pytest.mark.parametrize("chunk", [(3, 16, 32), (1, 16, 32)], ids=["together", "apart"])
def test_a_chunk_that_is_not_there_is_no_imagery(
    tmp_path: Path, zarr_format: int, nodata: int | None, reason: str, chunk: tuple[int, ...]
) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    fill = {"fill_value": nodata} if zarr_format == 3 and nodata else {}
    path = write_zarr(tmp_path / "a.zarr", pixels, zarr_format=zarr_format, nodata=nodata, chunks=chunk, **fill)
    for file in path.glob("image/*.1.2" if zarr_format == 2 else "image/c/*/1/2"):
        file.unlink()
    chips, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {reason}
    assert area(gaps).bounds == (64, 16, 90, 32)
    for chip in chips:
        window = chip.tile.window
        part = pixels[:, window.row_off : window.row_end, window.col_off : window.col_end]
        np.testing.assert_array_equal(chip.pixels[:, chip.valid], part[:, chip.valid])


def test_a_band_that_lacks_a_chunk_alone(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(3, HEIGHT, WIDTH), chunks=(1, 16, 32))
    (path / "image/c/1/0/0").unlink()
    info = open_raster(path)
    _, gaps = read_all(source_for(info, RAW))
    assert [gap.reason for gap in gaps] == ["suspect_missing"] and area(gaps).bounds == (0, 0, 32, 16)
    _, gaps = read_all(source_for(info, RAW, bands={"red": 1, "blue": 3}))
    assert not gaps  # the bands that are read are all there


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "blosc"])
@pytest.mark.parametrize("damage", ["empty", "cut by a byte", "cut by a half", "zeros", "twice"])
def test_a_broken_chunk_is_unreadable_and_the_rest_is_read(
    tmp_path: Path, zarr_format: int, codec: str, damage: str
) -> None:
    packed: Any = None
    if codec != "none":
        v3: dict[str, Any] = {"gzip": GzipCodec(), "zstd": ZstdCodec(), "blosc": BloscCodec()}
        packed = v3[codec] if zarr_format == 3 else numcodecs.get_codec({"id": codec})
    pixels = texture(3, HEIGHT, WIDTH)
    path = write_zarr(tmp_path / "a.zarr", pixels, zarr_format=zarr_format, compressors=packed)
    (file,) = path.glob("image/0.1.0" if zarr_format == 2 else "image/c/0/1/0")
    data = file.read_bytes()
    broken = {
        "empty": b"",
        "cut by a byte": data[:-1],
        "cut by a half": data[: len(data) // 2],
        "zeros": bytes(len(data)),
        "twice": data * 2,
    }[damage]
    if codec in ("none", "gzip") and damage in ("zeros", "twice"):
        broken = broken[: len(data) - 1]
    file.write_bytes(broken)
    chips, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {"unreadable"}
    assert area(gaps).bounds == (0, 16, 32, 32)
    assert "image" in gaps[0].detail and "cannot be decoded" in gaps[0].detail
    assert sum(int(chip.valid.any()) for chip in chips) > 3


def test_a_chunk_says_more_of_itself_than_it_may(tmp_path: Path) -> None:
    """A few bytes that stand for gigabytes are never unpacked."""
    for codec in ("gzip", "zstd", "blosc"):
        path = write_zarr(
            tmp_path / f"{codec}.zarr", texture(3, HEIGHT, WIDTH), zarr_format=2,
            compressors=numcodecs.get_codec({"id": codec}),
        )  # fmt: skip
        bomb = numcodecs.get_codec({"id": codec}).encode(bytes(2**27))
        (path / "image/0.0.0").write_bytes(bomb)
        info = open_raster(path)
        code = (
            "import resource, sys, pickle; from geoseg.raster.file import OpenFile; from geoseg.window import Window\n"
            "info = pickle.load(sys.stdin.buffer); file = OpenFile(info, (1, 2, 3))\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "raw = file.read(Window(row_off=0, col_off=0, height=16, width=32)); assert raw.unreadable.all()\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
        )
        done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(info), capture_output=True, check=True)
        assert int(done.stdout) < 30_000, codec


def test_whole_chain_tells_what_is_missing(tmp_path: Path) -> None:
    pixels = np.full((1, HEIGHT, WIDTH), 1, np.uint8)
    path = write_zarr(tmp_path / "a.zarr", pixels)
    (path / "image/c/0/0/0").unlink()
    (path / "image/c/0/2/2").write_bytes(b"not zstd")
    report = geoseg.run(path, Painted()).report
    assert set(report.gaps_m2) >= {"suspect_missing", "unreadable"} and not report.complete


def test_an_empty_array_is_missing_as_a_whole(tmp_path: Path) -> None:
    """Zarr leaves out chunks of nothing but the fill value, and nobody can tell them from those that were lost."""
    path = write_zarr(tmp_path / "a.zarr", np.zeros((1, HEIGHT, WIDTH), np.uint8))
    chips, gaps = read_all(source_for(open_raster(path), RAW))
    assert not chips and {gap.reason for gap in gaps} == {"suspect_missing"}


# --- what is refused --------------------------------------------------------------------------------------


def test_of_several_arrays_none_is_guessed(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    second = add(zarr.open_group(path), "second", texture(2, HEIGHT, WIDTH), ("band", "y", "x"))
    second.attrs["grid_mapping"] = "spatial_ref"
    said = refusal(path)
    assert "2 arrays of imagery" in said and "image, second" in said and f"{path}/image" in said
    assert (open_raster(path / "image").bands, open_raster(f"{path}/second/").bands) == (1, 2)
    assert "no array of imagery: it holds none" in refusal(Path(zarr.create_group(tmp_path / "e.zarr").store.root))
    zarr.create_group(tmp_path / "n.zarr").create_group("measurements")
    assert all(part in refusal(tmp_path / "n.zarr") for part in (": measurements.", f"{tmp_path}/n.zarr/NAME"))


def test_of_a_group_without_imagery_it_is_told_what_is_wrong_with_what_comes_near(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "t.zarr")
    add(group, "image", texture(2, HEIGHT, WIDTH), ("time", "y", "x"))
    add(group, "x", np.arange(float(WIDTH)), ("x",))
    said = refusal(tmp_path / "t.zarr")
    assert "no array of imagery: image (2 places along its dimension 'time')." in said and "isel(time=0)" in said


@pytest.mark.parametrize(
    ("shape", "dims", "said"),
    [
        ((3, HEIGHT, WIDTH), ("time", "y", "x"), "3 places along its dimension 'time'"),
        ((2, 3, HEIGHT, WIDTH), ("time", "band", "y", "x"), "2 places along its dimension 'time'"),
        ((HEIGHT, WIDTH), None, "no name for each"),
        ((HEIGHT, WIDTH), ("a", "b"), "the dimensions 'a', 'b'"),
        ((HEIGHT, WIDTH), ("y", "lat"), "the dimensions 'y', 'lat'"),
    ],
)
def test_dimensions_are_not_guessed(tmp_path: Path, shape: Any, dims: Any, said: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="uint8", dimension_names=dims)
    assert said in refusal(tmp_path / "a.zarr")


def test_places_that_contradict_each_other_or_are_none(tmp_path: Path) -> None:
    pixels = texture(1, HEIGHT, WIDTH)
    shifted = write_zarr(tmp_path / "a.zarr", pixels, said="both")
    x = zarr.open_array(shifted / "x")
    x[:] = x[:] + 0.25  # half a pixel: corners taken for centres
    assert "two places" in refusal(shifted)
    cut = write_zarr(tmp_path / "b.zarr", pixels, said="both")
    zarr.open_array(cut / "y")[:] = zarr.open_array(cut / "y")[:] - 5
    assert "two places" in refusal(cut)
    for number, wrong in enumerate((np.nan, 1e6, np.inf)):
        path = write_zarr(tmp_path / f"{number}.zarr", pixels)
        zarr.open_array(path / "x")[40] = wrong
        assert "evenly" in refusal(path)
    path = write_zarr(tmp_path / "km.zarr", pixels)
    zarr.open_array(path / "x").attrs["units"] = "km"
    assert "'km'" in refusal(path)
    zarr.open_array(path / "x").attrs["units"] = "m"
    assert open_raster(path).grid.transform.almost_equals(NORTH_UP)
    shutil.rmtree(path / "x/c")
    assert "a chunk is not there" in refusal(path)
    shutil.rmtree(path / "x")
    assert "nothing says where it lies" in refusal(path)
    node = write_zarr(tmp_path / "node.zarr", pixels, said="geozarr")
    zarr.open_group(node).attrs["spatial:registration"] = "node"
    assert "registration" in refusal(node)


def test_no_crs_is_refused_or_assumed(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH), crs=None)
    assert "no coordinate reference system" in refusal(path)
    assert open_raster(path, assume_crs=UTM).grid.crs.to_string() == UTM


def test_codecs_and_types_that_are_not_read(tmp_path: Path) -> None:
    pixels = texture(1, HEIGHT, WIDTH)
    turned = write_zarr(tmp_path / "turned.zarr", pixels, filters=[TransposeCodec(order=(2, 1, 0))])
    assert "transpose" in refusal(turned)
    for kind, said in (("bool", "bool"), ("complex64", "complex64"), ("float16", "float16")):
        assert said in refusal(write_zarr(tmp_path / f"{kind}.zarr", pixels.astype(kind)))
    delta = write_zarr(tmp_path / "d.zarr", pixels, zarr_format=2, filters=[numcodecs.Delta(dtype="u1")])
    assert "delta" in refusal(delta)


# --- what comes from anybody ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [1, HEIGHT, -1]},
        {"shape": [1, 0, WIDTH]},
        {"shape": [1, HEIGHT, 2.5]},
        {"shape": "aaa"},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 16]}}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 2**20, 2**20]}}},
        {"chunk_grid": {"name": "rectilinear", "configuration": {}}},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/../../"}}},
        {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
        {"codecs": []},
        {"codecs": 3},
        {"data_type": "object"},
        {"data_type": {"name": "numpy.datetime64"}},
        {"fill_value": "much"},
        {"fill_value": 256},
        {"fill_value": []},
        {"attributes": {"_FillValue": "?"}},
        {"attributes": {"grid_mapping": "spatial_ref", "_FillValue": [1, 2]}},
        {"attributes": {"proj:code": "EPSG:0"}},
        {"attributes": {"proj:projjson": {"type": "?"}}},
        {"attributes": {"spatial:transform": [1, 2]}},
        {"attributes": {"spatial:transform": ["a"] * 6}},
        {"attributes": {"spatial:transform": [0.5, 0, 0, 0.5, 0, 0]}},
        {"attributes": {"spatial:transform": [float("nan")] * 6}},
        {"attributes": {"_CRS": 5}},
        {"attributes": []},
        {"storage_transformers": [{"name": "indirection"}]},
        {"reference": {"name": "elsewhere", "must_understand": True}},
        {"node_type": "link"},
        {"zarr_format": 4},
        {"zarr_format": "https://purl.org/zarr/spec/protocol/core/3.0"},
        {"dimension_names": [["y"], {}, 3]},
    ],
    ids=str,
)
def test_metadata_that_make_no_sense(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    edited(path / "image", **changes)
    assert "a.zarr" in refusal(path / "image")
    refusal(path)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(found for key, each in inner for found in places(each, (*way, key)))]


ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**40,
        2**70,
        10**400,
        1.5,
        np.nan,
        np.inf,
        "",
        "a\0b",
        "\ud800",
        "../x",
        "0 0 0 0 0 0",
        "|O",
        "V8",
        "y",
    ]
) | st.sampled_from([[], [1], [[]], ["y", "x"], [1, 0, 0, 0, 1, 0], {}, {"name": "bytes"}, [{"name": "bytes"}], -9999])


@given(data=st.data())
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["v2", "v3", "shards"])
def test_whatever_stands_in_metadata_is_read_or_refused(tmp_path: Path, kind: str, data: Any) -> None:
    path = tmp_path / "a.zarr"
    if not path.exists():
        options = {"chunks": (3, 8, 16), "shards": (3, 16, 32)} if kind == "shards" else {}
        zarr_format = 2 if kind == "v2" else 3
        write_zarr(path, texture(3, HEIGHT, WIDTH), zarr_format=zarr_format, said="both", nodata=3, **options)
    files = sorted(each for each in path.rglob("*") if each.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup"))
    file = data.draw(st.sampled_from(files))
    whole = file.read_text()
    way = data.draw(st.sampled_from(places(json.loads(whole))))
    odd, changed = data.draw(ODD), {"": json.loads(whole)}
    held: Any = changed
    for key in ("", *way)[:-1]:
        held = held[key]
    held[("", *way)[-1]] = odd
    file.write_text(json.dumps(changed[""]))
    try:
        info = open_raster(path)
        with closing(OpenFile(info, (1,))) as opened:
            opened.read(info.grid.window.intersection(Window(row_off=0, col_off=0, height=40, width=40)))
    except RasterError as error:
        str(error).encode()  # what cannot be would fail when it is recorded
    finally:
        file.write_text(whole)


def _sizes(path: Path, shape: list[int], chunk: list[int]) -> None:
    edited(path, shape=shape, chunk_grid={"name": "regular", "configuration": {"chunk_shape": chunk}})


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [([1, 10**4000, 10**4000],) * 2, ([1, 48, 96, *[1] * 5000], [1, 16, 32, *[2**62] * 5000])],
    ids=["long", "many"],
)
def test_sizes_beyond_all_numbers_are_refused(tmp_path: Path, shape: list[int], chunk: list[int]) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    _sizes(path / "image", shape, chunk)
    edited(path / "image", dimension_names=["band", "y", "x", *["z"] * (len(shape) - 3)])
    assert "a Zarr array with [1, " in refusal(path)


@pytest.mark.parametrize("key", ["_FillValue", "spatial:transform"])
def test_numbers_beyond_floats_are_refused(tmp_path: Path, key: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    edited(path / "image", attributes={key: 10**400 if key == "_FillValue" else [10**400, 0, 0, 0, 1, 0]})
    assert "too large" in refusal(path)


def test_coordinates_of_no_dimension_are_refused(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    _sizes(path / "x", [], [])
    assert f"coordinates of 1 pixels of {WIDTH}" in refusal(path)


def test_of_coordinates_that_are_not_there_no_more_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 16 million chunks of one pixel each it took an hour."""
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    shutil.rmtree(path / "x/c")
    _sizes(path / "x", [WIDTH], [1])
    looked, find = [], Folder.find
    monkeypatch.setattr(Folder, "find", lambda self, path: looked.append(path) or find(self, path))
    assert "of which a chunk is not there" in refusal(path)
    assert sum("/x/c/" in each for each in looked) == 1


def test_names_of_dimensions_are_told_in_a_line(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    edited(path / "image", dimension_names=["q" * 100_000, "y", "\n"])
    assert len(refusal(path)) < 1500


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null", '{"zarr_format": 2}', "\0"])
def test_metadata_that_are_no_json(tmp_path: Path, text: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    (path / "image/zarr.json").write_text(text)
    refusal(path / "image")
    (path / "zarr.json").write_text(text)
    refusal(path)


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere/secret"
    secret.parent.mkdir()
    secret.write_bytes(bytes(16 * 32))
    for inside in ("image/c/0/1/1", "image/zarr.json", "x/c/0", "spatial_ref/zarr.json"):
        path = write_zarr(tmp_path / f"{inside.replace('/', '-')}.zarr", texture(1, HEIGHT, WIDTH), compressors=None)
        whole = (path / inside).read_bytes()
        (path / inside).unlink()
        os.symlink(secret, path / inside)
        said = refusal(path)
        assert "leads out of the folder" in said or "nodata" in said, said
        secret.write_bytes(whole)
        assert open_raster(path, access=Access(roots=(str(secret.parent),))).bands == 1
    mapped = write_zarr(tmp_path / "mapped.zarr", texture(1, HEIGHT, WIDTH))
    shutil.copytree(mapped / "spatial_ref", tmp_path / "elsewhere/spatial_ref")
    shutil.rmtree(mapped / "spatial_ref")
    zarr.open_array(mapped / "image").attrs["grid_mapping"] = "../elsewhere/spatial_ref"
    assert "no coordinate reference system" in refusal(mapped)


def test_a_link_to_the_whole_folder_is_followed(tmp_path: Path) -> None:
    pixels = texture(1, HEIGHT, WIDTH)
    path = write_zarr(tmp_path / "a.zarr", pixels)
    os.symlink(path, tmp_path / "b.zarr")
    np.testing.assert_array_equal(pixels_of(open_raster(tmp_path / "b.zarr")), pixels)
    np.testing.assert_array_equal(pixels_of(open_raster(tmp_path / "b.zarr/image")), pixels)


def test_a_pipe_for_a_chunk_does_not_hang(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    (path / "image/c/0/0/0").unlink()
    os.mkfifo(path / "image/c/0/0/0")
    assert "is no file" in refusal(path)


def test_a_chunk_that_becomes_a_link_is_unreadable(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH), compressors=None)
    info = open_raster(path)
    with closing(OpenFile(info, (1,))) as file:
        (tmp_path / "secret").write_bytes(bytes([7]) * 16 * 32)
        (path / "image/c/0/0/0").unlink()
        os.symlink(tmp_path / "secret", path / "image/c/0/0/0")
        assert file.read(Window(row_off=0, col_off=0, height=16, width=32)).unreadable.all()


# --- who it is, and what it costs -------------------------------------------------------------------------


def test_the_key_follows_the_content_not_the_name(tmp_path: Path) -> None:
    pixels = texture(1, HEIGHT, WIDTH)
    path = write_zarr(tmp_path / "a.zarr", pixels)
    info = open_raster(path)
    shutil.copytree(path, tmp_path / "b.zarr")
    assert open_raster(tmp_path / "b.zarr").key == info.key
    (path / "zarr.json").write_text((path / "zarr.json").read_text() + " ")  # of the group
    assert open_raster(path).key == info.key

    keys = {info.key}
    zarr.open_array(path / "image")[0, 20, 40] += 1
    keys.add(open_raster(path).key)
    (path / "image/c/0/0/0").unlink()
    keys.add(open_raster(path).key)
    zarr.open_array(path / "x")[:] += 100
    keys.add(open_raster(path).key)
    assert len(keys) == 4


def test_of_many_chunks_some_are_looked_at(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, 200, 300), chunks=(1, 8, 8))
    info = open_raster(path)
    with closing(OpenFile(info, (1,))) as file:
        assert len(file._dataset.files(2**21)) == 4 + 32
    assert info.key != info.seal


@pytest.mark.parametrize("change", ["written over", "made anew", "removed"])
def test_a_raster_that_changes_while_it_is_read(tmp_path: Path, change: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    info = open_raster(path)
    with Reader(source_for(info, RAW)) as reader:
        tiles = list(Tiling(core=32, halo=8).plan(info.grid.window).tiles())
        reader.read(tiles)
        if change == "written over":
            zarr.open_array(path / "image")[...] = 5
        else:
            shutil.rmtree(path)
        if change == "made anew":
            write_zarr(path, texture(1, HEIGHT, WIDTH, seed=1))
        with pytest.raises(RasterError, match="changed"):
            reader.read(tiles)


@pytest.mark.parametrize("chunk", [(3, 16, 32), (1, 16, 32), (3, 50, 90)])
def test_each_chunk_is_decoded_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: Any) -> None:
    # NaN, which is like no other NaN, is what most floats have where there is nothing.
    pixels = texture(3, HEIGHT, WIDTH, "float32")
    path = write_zarr(tmp_path / "a.zarr", pixels, chunks=chunk, nodata=np.nan, fill_value=np.nan)
    source, decoded = source_for(open_raster(path), RAW), []
    plain = chunks.Chunks._unpacked
    monkeypatch.setattr(chunks.Chunks, "_unpacked", lambda *args: [decoded.append(1), plain(*args)][1])
    for _ in range(2):  # as each thread opens it for itself
        with Reader(source) as reader:
            for block in Tiling(core=16, halo=8, block=2).plan(source.grid.window).blocks():
                reader.read(block.tiles)
    grid = [-(-size // part) for size, part in zip((3, HEIGHT, WIDTH), chunk, strict=True)]
    assert len(decoded) == np.prod(grid)


def test_the_cache_of_decoded_chunks_is_bounded(tmp_path: Path) -> None:
    cache, chunk = _Cache(), np.zeros((1, 2048, 4096), np.uint8)
    for number in range(20):
        assert cache.put((number,), chunk) is chunk
    assert cache._bytes == sum(kept.nbytes for kept in cache._kept.values()) == CACHE_BYTES
    cache.put(("big",), big := np.zeros(2 * CACHE_BYTES, np.uint8))
    assert cache.get(("big",)) is big and len(cache._kept) == 1


def test_limits(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(3, HEIGHT, WIDTH))
    assert "1536 bytes" in refusal(path, Access(max_block_bytes=1535))
    assert "4500" not in refusal(path, Access(max_pixels=4499)) and open_raster(path, access=Access(max_pixels=4500))
    deep = {"shape": (1, HEIGHT, WIDTH), "chunks": (2**20, 16, 32), "dimension_names": ("time", "y", "x")}
    zarr.open_group(path).create_array("deep", dtype="uint8", **deep)
    assert f"{2**20} x 16 x 32" in refusal(path / "deep")
    edited(path / "image", shape=[3, 2**50, 90])
    refusal(path)


def test_a_stretch_is_measured_as_of_a_geotiff(tmp_path: Path) -> None:
    pixels = texture(3, HEIGHT, WIDTH, "uint16")
    infos = [open_raster(write(tmp_path / "a.tif", pixels)), open_raster(write_zarr(tmp_path / "a.zarr", pixels))]
    first, second = (source_for(info, RAW, scaling=Scaling(percentiles=(2, 98))).scaling for info in infos)
    assert first == second


# --- wherever a raster's path goes ------------------------------------------------------------------------


def test_patterns_find_folders_that_are_a_zarr_and_nothing_inside(tmp_path: Path) -> None:
    pixels = texture(1, HEIGHT, WIDTH)
    (tmp_path / "in/deep").mkdir(parents=True)
    write_zarr(tmp_path / "in/one.zarr", pixels)
    write_zarr(tmp_path / "in/deep/two.zarr", pixels, zarr_format=2)
    write(tmp_path / "in/deep/three.tif", pixels)
    found = [os.path.basename(path) for path in matching(tmp_path / "in/**/*")]
    assert found == ["three.tif", "two.zarr", "one.zarr"]
    assert len(matching(tmp_path / "in/**/*.zarr/image")) == 2
    assert matching(tmp_path / "in/*.zarr") == [str(tmp_path / "in/one.zarr")]


def test_patterns_pass_over_predictions_that_geoseg_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tif = write(tmp_path / "in.tif", texture(1, HEIGHT, WIDTH))
    (tmp_path / "in").mkdir()
    image = write_zarr(tmp_path / "in/image.zarr", texture(1, HEIGHT, WIDTH))
    for name in ("kept", "kept.zarr"):
        geoseg.extract(tif, Painted(), store=tmp_path / "in" / name)
    (tmp_path / "in/broken.zarr").mkdir()
    (tmp_path / "in/broken.zarr/zarr.json").write_text("{")
    with caplog.at_level("INFO"):
        assert matching(tmp_path / "in/**/*") == [str(tmp_path / "in/broken.zarr"), str(image)]
    assert "predictions" in caplog.text and "kept.zarr" in caplog.text
    assert matching(tmp_path / "in/kept*") == []


def test_an_archive_of_zarrs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pixels = ground(80, 120, (10, 20, 10, 24), (40, 60, 80, 95))[None]
    for number in (2, 3):
        path = tmp_path / f"in/v{number}.zarr"
        write_zarr(
            path,
            pixels + np.uint8(number),
            zarr_format=number,
            transform=NORTH_UP @ Affine.translation(900 * number, 0),
        )
    (tmp_path / "in/bad.zarr/deep").mkdir(parents=True)
    zarr.create_group(tmp_path / "in/bad.zarr")
    config = configured(tmp_path, input={"globs": ["in/*.zarr"]}, stac={"write": True})
    first = run_archive(config, model=BOXES)
    assert (dict(first.counts), first.footprints) == ({"done": 2, "refused": 1}, 4)
    assert run_archive(config, model=BOXES).unchanged == 2
    (item,) = (tmp_path / "out").glob("scenes/v3*.stac.json")
    source = next(link for link in json.loads(item.read_text())["links"] if link["rel"] == "derived_from")
    assert source["type"] == "application/vnd+zarr" and source["href"].endswith("in/v3.zarr")
    # Of a folder the times tell nothing, so it is looked into every time.
    zarr.open_array(tmp_path / "in/v3.zarr/image")[0, 30:35, 5:9] = 200
    again = run_archive(config, model=BOXES)
    assert (again.unchanged, again.footprints) == (1, 5)


def test_the_commands(tmp_path: Path, weights: Path) -> None:
    path = write_zarr(tmp_path / "ä b.zarr", texture(3, HEIGHT, WIDTH))
    bands, store = ("--bands", "red=1,green=2,blue=3"), tmp_path / "run.store"
    done = cli("extract", path, "-m", weights, "-o", tmp_path / "a.gpkg", *bands, "--store", store)
    assert done.exit_code == 0, done.output
    assert "predictions that geoseg kept" in refusal(store)
    itself = cli("extract", path, "-m", weights, "-o", tmp_path / "b.gpkg", *bands, "--store", path)
    assert itself.exit_code == 2 and "named twice" in itself.output
    assert cli("plan", path / "image", "-m", weights, "-o", tmp_path / "plan.gpkg", *bands).exit_code == 0
    refused = cli("extract", tmp_path / "ä b.zarr/x", "-m", weights, "-o", tmp_path / "b.gpkg")
    assert refused.exit_code == 2 and "the dimensions 'x'" in " ".join(refused.output.split())
