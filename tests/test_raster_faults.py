"""Files that are broken, cut short or never finished: what is lost is told, the rest is read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.windows import Window as RioWindow
from rasters import NORTH_UP, UTM, texture, write

from geoseg.detectors.base import ModelCard
from geoseg.errors import RasterError
from geoseg.gaps import Gap
from geoseg.instances import Chip
from geoseg.raster import Reader, Source, open_raster, reader, source_for
from geoseg.tiling import Tiling

RAW = ModelCard(classes=("thing",))
HEIGHT, WIDTH = 130, 210


def read_all(source: Source, block: int = 3) -> tuple[list[Chip], list[Gap]]:
    chips, gaps = [], []
    for part in Tiling(core=32, halo=8, block=block).plan(source.grid.window).blocks():
        found = reader(source).read(part.tiles)
        chips += found[0]
        gaps += found[1]
    return chips, gaps


def area(gaps: list[Gap]) -> Any:
    return shapely.union_all([gap.geometry for gap in gaps])


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd", "jpeg", "none"])
@pytest.mark.parametrize("layout", [{"tiled": True}, {"blockysize": 8}], ids=["tiles", "strips"])
def test_a_truncated_file_loses_only_its_end(tmp_path: Path, compress: str, layout: dict[str, Any]) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    path = write(tmp_path / "a.tif", pixels, compress=compress, interleave="pixel", **layout)
    with rasterio.open(path) as dataset:
        original = dataset.read()
    os.truncate(path, os.path.getsize(path) * 6 // 10)
    source = source_for(open_raster(path), RAW)
    chips, gaps = read_all(source)
    assert gaps and {gap.reason for gap in gaps} == {"unreadable"}
    assert all("a.tif" in gap.detail or "read" in gap.detail.lower() for gap in gaps), gaps[0].detail
    lost = area(gaps)
    assert 0.3 < lost.area / (HEIGHT * WIDTH) < 0.5
    seen = np.zeros((HEIGHT, WIDTH), bool)
    for chip in chips:
        window = chip.tile.window
        here = np.s_[window.row_off : window.row_end, window.col_off : window.col_end]
        np.testing.assert_array_equal(chip.pixels[:, chip.valid], original[(slice(None), *here)][:, chip.valid])
        seen[here] |= chip.valid
    rows, cols = np.nonzero(~seen)
    assert shapely.contains_xy(lost, cols + 0.5, rows + 0.5).all() and len(rows) == lost.area
    for block in (1, 10):
        again_chips, again_gaps = read_all(source, block)
        assert area(again_gaps).equals(lost) and len(again_chips) == len(chips)
        chip_of = {chip.tile: chip for chip in again_chips}
        assert all((chip_of[chip.tile].valid == chip.valid).all() for chip in chips)


def test_an_unreadable_part_stays_unreadable_when_resampled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH), compress="deflate", tiled=True)
    os.truncate(path, os.path.getsize(path) * 6 // 10)
    info = open_raster(path)
    lost = area(read_all(source_for(info, RAW))[1]).area / (HEIGHT * WIDTH)
    chips, gaps = read_all(replace(source_for(info, RAW), grid=info.grid.resized(height=50, width=77)))
    assert {gap.reason for gap in gaps} == {"unreadable"}
    assert area(gaps).area / (50 * 77) == pytest.approx(lost, abs=0.05)
    assert sum(chip.valid.sum() for chip in chips) > 0


def sparse(path: Path, **options: Any) -> Path:
    profile = {
        "driver": "GTiff", "crs": UTM, "transform": NORTH_UP, "count": 3,
        "height": HEIGHT, "width": WIDTH, "dtype": "uint8", "tiled": True, "blockxsize": 32, "blockysize": 16,
        "sparse_ok": True,
    }  # fmt: skip
    with rasterio.open(path, "w", **(profile | options)) as dataset:
        dataset.write(texture(3, 64, WIDTH), window=RioWindow(0, 0, WIDTH, 64))
        dataset.write(texture(3, 66, 64), window=RioWindow(0, 64, 64, 66))
    return path


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_blocks_that_a_sparse_file_lacks_are_suspected(tmp_path: Path, compress: str, interleave: str) -> None:
    path = sparse(tmp_path / "a.tif", compress=compress, interleave=interleave)
    chips, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {"suspect_missing"} and not gaps[0].expected
    assert area(gaps).equals(shapely.box(64, 64, WIDTH, HEIGHT))
    assert all(chip.valid.any() for chip in chips)


def test_a_sparse_file_with_nodata_holds_nodata(tmp_path: Path) -> None:
    _, gaps = read_all(source_for(open_raster(sparse(tmp_path / "a.tif", nodata=0)), RAW))
    assert {gap.reason for gap in gaps} == {"nodata"}
    assert area(gaps).equals(shapely.box(64, 64, WIDTH, HEIGHT))


def zero_tail(path: Path, share: float) -> None:
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.truncate(int(size * (1 - share)))
        file.truncate(size)


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 64, "blockysize": 64}, {"blockysize": 2}])
def test_a_reserved_tail_is_suspected(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = write(tmp_path / "a.tif", texture(3, 300, 410), interleave="pixel", **layout)
    assert open_raster(path).data_end is None
    zero_tail(path, 0.4)
    info = open_raster(path)
    assert info.data_end is not None
    _, gaps = read_all(source_for(info, RAW))
    assert {gap.reason for gap in gaps} == {"suspect_missing"}
    assert area(gaps).area / (300 * 410) == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 64, "blockysize": 64}, {"blockysize": 2}])
def test_a_reserved_tail_is_suspected_where_only_the_last_band_is_in_it(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = write(tmp_path / "a.tif", texture(3, 300, 410), interleave="band", **layout)
    zero_tail(path, 0.2)
    info = open_raster(path)
    chips, gaps = read_all(source_for(info, RAW))
    assert {gap.reason for gap in gaps} == {"suspect_missing"}
    assert area(gaps).area / (300 * 410) == pytest.approx(0.6, abs=0.06)
    assert all(chip.pixels[:, chip.valid].all() for chip in chips)
    assert read_all(source_for(info, RAW, bands={"a": 1, "b": 2}))[1] == []  # those were written


@pytest.mark.parametrize("rows", [300, 100, 32])
def test_a_reserved_tail_that_begins_within_a_band_takes_all_of_its_ground(tmp_path: Path, rows: int) -> None:
    path = write(tmp_path / "a.tif", texture(3, 300, 410), interleave="band", blockysize=rows)
    zero_tail(path, 0.5)
    chips, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {"suspect_missing"}
    assert area(gaps).area / (300 * 410) == pytest.approx(1.0)  # the last band has nothing at all
    assert not any(chip.valid.any() for chip in chips)


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd"])
def test_a_reserved_tail_of_a_compressed_file_is_unreadable(tmp_path: Path, compress: str) -> None:
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH), compress=compress, tiled=True)
    zero_tail(path, 0.4)
    _, gaps = read_all(source_for(open_raster(path), RAW))
    assert {gap.reason for gap in gaps} == {"unreadable"}
    assert area(gaps).area / (HEIGHT * WIDTH) == pytest.approx(0.4, abs=0.1)


def test_black_that_was_painted_is_no_fault(tmp_path: Path) -> None:
    pixels = np.zeros((3, 400, 310), "uint8")
    pixels[:, 20:50, 30:90] = 200
    chips, gaps = read_all(source_for(open_raster(write(tmp_path / "a.tif", pixels)), RAW))
    assert gaps == [] and all(chip.valid.all() for chip in chips)


def test_black_blocks_in_a_column_do_not_hide_a_reserved_tail(tmp_path: Path) -> None:
    pixels = texture(1, 1536, 1024)
    pixels[..., 0:16] = pixels[..., 512:528] = 0  # every 32nd block of 64 in a row
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    path = write(tmp_path / "a.tif", pixels, **layout)
    zero_tail(path, 0.3)
    assert open_raster(path).data_end is not None


def test_another_file_of_the_same_shape_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH))
    source = source_for(open_raster(path), RAW)
    stat = os.stat(path)
    write(path, texture(3, HEIGHT, WIDTH, seed=1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(RasterError, match="same bytes throughout a run"):
        reader(source)
    write(path, texture(3, HEIGHT, WIDTH))
    os.utime(path, (1, 1))  # a copy's time is its own
    assert len(reader(source).read(list(Tiling(core=500, halo=0).plan(source.grid.window).tiles()))[0]) == 1


def test_a_file_that_is_written_to_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH), blockysize=8)
    source = source_for(open_raster(path), RAW)
    tiles = list(Tiling(core=16, halo=4).plan(source.grid.window).tiles())
    with Reader(source) as open_one:
        whole, _ = open_one.read(tiles)
        os.utime(path, (1, 1))  # nothing but its time has changed
        assert len(open_one.read(tiles)[0]) == len(whole)
        path.write_bytes(write(tmp_path / "b.tif", texture(3, HEIGHT, WIDTH, seed=1), blockysize=8).read_bytes())
        for _ in range(2):
            with pytest.raises(RasterError, match="same bytes throughout a run"):
                open_one.read(tiles[:1])
    write(path, texture(3, HEIGHT, WIDTH), blockysize=8)
    with Reader(source) as open_one:
        path.unlink()  # what is open stays whole
        assert len(open_one.read(tiles)[0]) == len(whole)


def test_a_file_that_changed_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(3, HEIGHT, WIDTH))
    source = source_for(open_raster(path), RAW)
    write(path, texture(3, HEIGHT - 1, WIDTH))
    with pytest.raises(Exception, match="changed"):
        reader(source)
