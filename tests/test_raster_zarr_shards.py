"""Zarr arrays in shards: the same as without, whatever window is read; broken indexes and absent chunks are told."""

from __future__ import annotations

import json
import os
import shutil
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasters import pixels_of, texture
from test_raster_faults import RAW, area, read_all
from test_raster_zarr import HEIGHT, WIDTH, refusal
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarrs import write_zarr

from geoseg.raster import Access, open_raster, source_for
from geoseg.raster.file import OpenFile
from geoseg.window import Window

PER = (2, 2)
"""Chunks down and across a shard of :func:`sharded`."""
NONE = 2**64 - 1


def sharded(path: Path, pixels: Any, *, location: str = "end", **options: Any) -> Path:
    """Chunks of 8 x 16 pixels, all bands together, four in a shard."""
    bands = len(pixels)
    shards = {"shape": (bands, 16, 32), "index_location": location}
    return write_zarr(path, pixels, **({"chunks": (bands, 8, 16), "shards": shards} | options))


def index_of(shard: Path, location: str) -> tuple[np.ndarray, int]:
    """``(4, 2)`` offsets and lengths of a shard's chunks, and where they stand in the file."""
    data = shard.read_bytes()
    start = len(data) - 68 if location == "end" else 0
    return np.frombuffer(data[start : start + 64], "<u8").reshape(4, 2).copy(), start


def with_index(shard: Path, index: np.ndarray, start: int) -> None:
    data, made = bytearray(shard.read_bytes()), index.astype("<u8").tobytes()
    data[start : start + 68] = made + struct.pack("<I", google_crc32c.value(made))
    shard.write_bytes(data)


@given(data=st.data())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_of_any_shape_read_as_the_array_they_hold(tmp_path: Path, data: Any) -> None:
    dims = data.draw(st.sampled_from([("band", "y", "x"), ("y", "x", "band"), ("x", "band", "lat")]))
    sides = {"band": 3, "y": 30, "lat": 30, "x": 41, "easting": 41}
    chunks = tuple(data.draw(st.integers(1, sides[name] // 2 + 1), label=f"chunk {name}") for name in dims)
    shards = tuple(size * data.draw(st.integers(1, 4), label="per shard") for size in chunks)
    packed = data.draw(st.sampled_from([None, GzipCodec(), ZstdCodec(), BloscCodec(), Crc32cCodec()]))
    pixels = texture(3, 30, 41, data.draw(st.sampled_from(["uint8", ">u2", "float32"])))
    shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)
    path = write_zarr(
        tmp_path / "a.zarr", pixels, dims=dims, chunks=chunks, compressors=packed,
        shards={"shape": shards, "index_location": data.draw(st.sampled_from(["start", "end"]))},
        serializer=BytesCodec(endian="big" if pixels.dtype.byteorder == ">" else "little"),
    )  # fmt: skip
    info = open_raster(path)
    row, col = data.draw(st.integers(0, 29)), data.draw(st.integers(0, 40))
    window = Window(
        row_off=row,
        col_off=col,
        height=data.draw(st.integers(1, 30 - row)),
        width=data.draw(st.integers(1, 41 - col)),
    )
    bands = tuple(data.draw(st.permutations([1, 2, 3]))[: data.draw(st.integers(1, 3))])
    with closing(OpenFile(info, bands)) as file:
        raw = file.read(window)
    assert raw.valid.all()
    part = pixels[[band - 1 for band in bands], row : window.row_end, col : window.col_end]
    np.testing.assert_array_equal(raw.pixels, part)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("codecs", [None, ZstdCodec(), [ZstdCodec(), Crc32cCodec()]], ids=["raw", "zstd", "zstd+crc"])
def test_coordinates_and_bands_of_a_sharded_group(tmp_path: Path, location: str, codecs: Any) -> None:
    pixels = texture(4, HEIGHT, WIDTH, "int16")
    info = open_raster(sharded(tmp_path / "a.zarr", pixels, location=location, compressors=codecs))
    assert info.file_block == (8, 16)
    np.testing.assert_array_equal(pixels_of(info), pixels)
    plain = open_raster(write_zarr(tmp_path / "b.zarr", pixels))
    assert info.grid == plain.grid


def test_what_is_decoded_at_once_is_a_chunk_not_a_shard(tmp_path: Path) -> None:
    path = sharded(tmp_path / "a.zarr", texture(3, HEIGHT, WIDTH), compressors=None, said="geozarr")
    assert open_raster(path, access=Access(max_block_bytes=3 * 8 * 16)).bands == 3
    assert "384 bytes" in refusal(path, Access(max_block_bytes=3 * 8 * 16 - 1))


@pytest.mark.parametrize("location", ["start", "end"])
def test_only_the_chunks_that_a_window_needs_are_read(tmp_path: Path, location: str) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    path = sharded(tmp_path / "a.zarr", pixels, location=location, compressors=[ZstdCodec(), Crc32cCodec()])
    shard = path / "image/c/0/0/0"
    index, _ = index_of(shard, location)
    data = bytearray(shard.read_bytes())
    for offset, length in index[[0, 1, 2]].tolist():
        data[offset : offset + length] = bytes(length)
    shard.write_bytes(data)
    with closing(OpenFile(open_raster(path), (1, 2, 3))) as file:
        raw = file.read(Window(row_off=9, col_off=17, height=5, width=12))
        np.testing.assert_array_equal(raw.pixels, pixels[:, 9:14, 17:29])
        raw = file.read(Window(row_off=0, col_off=0, height=16, width=40))
    assert raw.unreadable[:8, :32].all() and raw.unreadable[8:, :16].all()
    assert raw.valid[8:, 16:].all() and raw.valid[:, 32:].all()


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize(("fill", "reason"), [(0, "suspect_missing"), (7, "nodata")])
@pytest.mark.parametrize("absent", ["a chunk", "a shard"])
def test_what_is_not_there_is_told_as_without_shards(
    tmp_path: Path, location: str, fill: int, reason: str, absent: str
) -> None:
    path = sharded(tmp_path / "a.zarr", texture(3, HEIGHT, WIDTH), location=location, fill_value=fill)
    shard = path / "image/c/0/1/1"
    index, start = index_of(shard, location)
    index[1] = NONE
    with_index(shard, index, start)
    if absent == "a shard":
        shard.unlink()
    _, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {reason}
    assert area(gaps).bounds == ((48, 16, 64, 24) if absent == "a chunk" else (32, 16, 64, 32))


def test_chunks_that_nobody_wrote_are_told(tmp_path: Path) -> None:
    """As the zarr package leaves them out: nothing but the fill value."""
    pixels = texture(3, HEIGHT, WIDTH)
    pixels[:, 24:32, 48:64] = 0
    path = sharded(tmp_path / "a.zarr", pixels)
    _, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {"suspect_missing"}
    assert area(gaps).bounds == (48, 24, 64, 32)


DAMAGE = ["empty", "no index", "half an index", "a flipped bit", "no checksum", "beyond the end", "half absent"]


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_index_is_a_broken_chunk(tmp_path: Path, location: str, damage: str) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    path = sharded(tmp_path / "a.zarr", pixels, location=location, compressors=ZstdCodec())
    shard = path / "image/c/0/1/1"
    whole, (index, start) = shard.read_bytes(), index_of(shard, location)
    one = damage in ("beyond the end", "half absent")
    if one:
        index[3] = (len(whole) - 5, 10) if damage == "beyond the end" else (index[3, 0], NONE)
        with_index(shard, index, start)
    else:
        flipped = bytearray(whole)
        flipped[start + 9] ^= 64
        cut = {"empty": b"", "no index": whole[:40], "half an index": whole[:60], "no checksum": whole[:64]}
        shard.write_bytes(cut.get(damage, bytes(flipped)))
    chips, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {"unreadable"}
    assert area(gaps).bounds == ((48, 24, 64, 32) if one else (32, 16, 64, 32))
    assert "cannot be decoded" in gaps[0].detail
    for chip in chips:
        window = chip.tile.window
        part = pixels[:, window.row_off : window.row_end, window.col_off : window.col_end]
        np.testing.assert_array_equal(chip.pixels[:, chip.valid], part[:, chip.valid])


@given(at=st.integers(0, 2**16), bit=st.integers(0, 7), cut=st.integers(0, 2**16))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("location", ["start", "end"])
def test_checksums_let_no_wrong_pixel_through(tmp_path: Path, location: str, at: int, bit: int, cut: int) -> None:
    path, pixels = tmp_path / "a.zarr", texture(1, 16, 32)
    if not path.exists():
        sharded(path, pixels, location=location, compressors=Crc32cCodec())
    shard = path / "image/c/0/0/0"
    whole = shard.read_bytes()
    data = bytearray(whole)
    data[at % len(data)] ^= 1 << bit
    shard.write_bytes(data[: len(data) - (cut % len(data) if cut % 3 == 0 else 0)])
    with closing(OpenFile(open_raster(path), (1,))) as file:
        raw = file.read(Window(row_off=0, col_off=0, height=16, width=32))
    shard.write_bytes(whole)
    np.testing.assert_array_equal(raw.pixels[:, raw.valid], pixels[:, raw.valid])
    assert raw.unreadable.any() and not raw.missing.any()


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_shape": [1, 5, 16]},
        {"chunk_shape": [1, 8]},
        {"chunk_shape": [1, 0, 16]},
        {"chunk_shape": [1, 32, 32]},
        {"chunk_shape": None},
        {"codecs": []},
        {"codecs": [{"name": "bytes"}, {"name": "crc32c"}, {"name": "gzip"}]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1, 1]}}]},
        {"index_codecs": [{"name": "bytes"}, {"name": "gzip"}]},
        {"index_codecs": []},
        {"index_location": "middle"},
    ],
    ids=str,
)
def test_shards_that_make_no_sense_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = sharded(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    file = path / "image/zarr.json"
    said = json.loads(file.read_text())
    said["codecs"][0]["configuration"] |= change
    file.write_text(json.dumps(said))
    assert "a.zarr" in refusal(path)


def test_an_index_has_a_limit(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH), chunks=(1, 1, 1), shards=(1, 64, 128))
    assert "an index of 131076 bytes" in refusal(path, Access(max_block_bytes=131075))


@pytest.mark.parametrize("index", [{"checked": False}, {"endian": "big"}], ids=str)
def test_indexes_as_others_write_them(tmp_path: Path, index: dict[str, Any]) -> None:
    from zarr.codecs import ShardingCodec

    codecs: list[Any] = [BytesCodec(endian=index.get("endian", "little"))]
    codecs += [Crc32cCodec()] if index.get("checked", True) else []
    pixels = texture(3, HEIGHT, WIDTH)
    shards = ShardingCodec(chunk_shape=(3, 8, 16), codecs=[BytesCodec(), ZstdCodec()], index_codecs=codecs)
    path = write_zarr(tmp_path / "a.zarr", pixels, chunks=(3, 16, 32), serializer=shards, compressors=None)
    np.testing.assert_array_equal(pixels_of(open_raster(path)), pixels)


def test_the_key_follows_what_shards_hold(tmp_path: Path) -> None:
    path = sharded(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH))
    keys = {open_raster(path).key}
    shutil.copytree(path, tmp_path / "b.zarr")
    assert open_raster(tmp_path / "b.zarr").key in keys
    zarr.open_array(path / "image")[0, 20, 40] += 1
    keys.add(open_raster(path).key)
    os.unlink(path / "image/c/0/3/2")
    keys.add(open_raster(path).key)
    assert len(keys) == 3
