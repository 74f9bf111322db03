"""Zarr groups with an array for each band: bands of one raster, or refused; and the date that a group states."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import zarr
from affine import Affine
from commands import cli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import CRS
from rasters import NORTH_UP, SOUTH_UP, UTM, pixels_of, texture, write
from test_raster_faults import RAW, area, read_all
from test_raster_zarr import HEIGHT, WIDTH, refusal
from zarrs import add

import geoseg
from geoseg.raster import Access, open_raster, source_for
from geoseg.raster.file import OpenFile
from geoseg.raster.zarr.dataset import ZarrRaster
from geoseg.raster.zarr.nodes import Folder
from geoseg.raster.zarr.times import moment
from geoseg.window import Window


def banded(
    path: Path, pixels: Any, names: tuple[str, ...], *, zarr_format: int = 3, crs: str | None = UTM, **options: Any
) -> zarr.Group:
    """A group with an array ``(y, x)`` for each band, as xarray writes a dataset of them."""
    group = zarr.create_group(path, zarr_format=zarr_format)
    _, height, width = pixels.shape
    add(group, "x", NORTH_UP.c + NORTH_UP.a * (np.arange(width) + 0.5), ("x",))
    add(group, "y", NORTH_UP.f + NORTH_UP.e * (np.arange(height) + 0.5), ("y",))
    mapping = add(group, "spatial_ref", np.array(0), ())
    if crs:
        mapping.attrs["crs_wkt"] = CRS.from_user_input(crs).to_wkt()
    for name, values in zip(names, pixels, strict=True):
        band = add(group, name, values, ("y", "x"), **({"chunks": (16, 32)} | options))
        band.attrs["grid_mapping"] = "spatial_ref"
    return group


SENTINEL = ("b02", "b03", "b04", "b08")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_of_one_grid_are_the_bands_of_one_raster(tmp_path: Path, zarr_format: int) -> None:
    pixels = texture(4, HEIGHT, WIDTH, "uint16")
    banded(tmp_path / "a.zarr", pixels, SENTINEL, zarr_format=zarr_format)
    info = open_raster(tmp_path / "a.zarr")
    assert (info.bands, info.dtype, info.name, info.labels) == (4, "uint16", "a.zarr", SENTINEL)
    assert info.grid == open_raster(write(tmp_path / "a.tif", pixels)).grid
    np.testing.assert_array_equal(pixels_of(info), pixels)
    alone = open_raster(tmp_path / "a.zarr/b04")
    np.testing.assert_array_equal(pixels_of(alone), pixels[2:3])


def test_bands_may_be_stored_each_in_its_own_way(tmp_path: Path) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    group = banded(tmp_path / "a.zarr", pixels[:1], ("b1",))
    add(group, "b2", pixels[1], ("y", "x"), chunks=(8, 8), shards=(32, 64))
    add(group, "b3", pixels[2], ("y", "x"), chunks=(HEIGHT, WIDTH))
    np.testing.assert_array_equal(pixels_of(open_raster(tmp_path / "a.zarr")), pixels)


@given(names=st.lists(st.from_regex(r"[A-Za-z][a-z_]{0,2}[0-9]{0,3}[a-z]?", fullmatch=True), min_size=2, max_size=6),
       data=st.data())  # fmt: skip
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bands_of_any_window(tmp_path: Path, names: list[str], data: Any) -> None:
    names = [name for name in dict.fromkeys(names) if name.lower() not in ("x", "y", "time")]
    if len(names) < 2:
        return
    shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)
    pixels = texture(len(names), 20, 30)
    chunks = data.draw(st.tuples(st.integers(3, 25), st.integers(3, 40)))
    banded(tmp_path / "a.zarr", pixels, tuple(names), chunks=chunks)
    info = open_raster(tmp_path / "a.zarr")
    held = dict(zip(names, pixels, strict=True))
    bands = tuple(data.draw(st.permutations(range(1, len(names) + 1)))[: data.draw(st.integers(1, len(names)))])
    row, col = data.draw(st.integers(0, 19)), data.draw(st.integers(0, 29))
    with closing(OpenFile(info, bands)) as file:
        raw = file.read(Window(row_off=row, col_off=col, height=20 - row, width=30 - col))
    for found, band in zip(raw.pixels, bands, strict=True):
        np.testing.assert_array_equal(found, held[info.descriptions[band - 1]][row:, col:])


def test_bands_are_in_the_natural_order_of_their_names(tmp_path: Path) -> None:
    names = tuple(f"Band{number}" for number in range(1, 13))
    pixels = texture(12, HEIGHT, WIDTH)
    banded(tmp_path / "a.zarr", pixels, names)
    info = open_raster(tmp_path / "a.zarr")
    assert info.descriptions == names
    np.testing.assert_array_equal(pixels_of(info), pixels)


def test_what_arrays_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    banded(tmp_path / "a.zarr", texture(9, HEIGHT, WIDTH), tuple("abcdefghi"))
    looked, find = [], Folder.find
    monkeypatch.setattr(Folder, "find", lambda self, path: looked.append(path) or find(self, path))
    ZarrRaster(str(tmp_path / "a.zarr"), Access())
    assert [path for path in looked if path.endswith("/x/zarr.json")] == [str(tmp_path / "a.zarr/x/zarr.json")]


def test_names_that_are_roles_are_taken_by_a_model(tmp_path: Path) -> None:
    pixels = texture(4, HEIGHT, WIDTH)
    banded(tmp_path / "a.zarr", pixels, ("red", "green", "blue", "nir"))
    info = open_raster(tmp_path / "a.zarr")
    assert info.roles == ("blue", "green", "nir", "red")
    card = geoseg.ModelCard(classes=("a",), bands=("red", "green", "blue"), mean=(0, 0, 0), std=(1, 1, 1))
    assert source_for(info, card).bands == (4, 2, 1)


def test_no_name_makes_a_palette(tmp_path: Path) -> None:
    banded(tmp_path / "a.zarr", texture(2, HEIGHT, WIDTH), ("palette", "red"))
    info = open_raster(tmp_path / "a.zarr")
    assert (info.roles, info.labels) == (("unknown", "red"), ("palette", "red"))
    assert source_for(info, RAW, bands={"red": 1}).palette is None


def test_names_that_are_none_are_told_with_what_to_do(tmp_path: Path, weights: Path) -> None:
    banded(tmp_path / "a.zarr", texture(4, HEIGHT, WIDTH), SENTINEL)
    refused = cli("extract", tmp_path / "a.zarr", "-m", weights, "-o", tmp_path / "a.gpkg")
    said = " ".join(refused.output.split())
    assert refused.exit_code == 2 and "bands b02, b03, b04, b08" in said and "--bands red=1" in said
    mapped = ("--bands", "red=3,green=2,blue=1")
    done = cli("extract", tmp_path / "a.zarr", "-m", weights, "-o", tmp_path / "a.gpkg", *mapped)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", [{}, {"photometric": "RGB"}, {"photometric": "RGB", "alpha": "YES"}], ids=str)
@pytest.mark.parametrize("by", ["the library", "the command"])
def test_what_gdal_writes_of_several_bands(tmp_path: Path, kind: dict[str, str], by: str) -> None:
    pixels = texture(4, HEIGHT, WIDTH, "uint8" if kind else "uint16")
    write(tmp_path / "a.tif", pixels, transform=SOUTH_UP, crs="EPSG:3857", **kind)
    if by == "the library":
        with rasterio.open(tmp_path / "a.tif") as dataset:
            rasterio.shutil.copy(dataset, tmp_path / "a.zarr", driver="Zarr", SINGLE_ARRAY="NO")
    elif shutil.which("gdal_translate") is None:
        pytest.skip("gdal_translate is not installed")
    else:
        subprocess.run(["gdal_translate", "-q", "-of", "ZARR", tmp_path / "a.tif", tmp_path / "a.zarr"], check=True)
    info = open_raster(tmp_path / "a.zarr")
    assert (info.grid.crs.to_epsg(), info.grid.transform, info.bands) == (3857, SOUTH_UP, 4)
    with rasterio.open(tmp_path / "a.zarr/Band1") as dataset:
        told = dataset.tags().keys() | {dataset.colorinterp[0].name}
    if kind and "red" in told:
        assert info.roles[:3] == ("red", "green", "blue") and (info.alpha == 4) == ("alpha" in kind)
    with closing(OpenFile(info, (4, 2) if info.alpha is None else (1, 2))) as file:
        raw = file.read(info.grid.window)
    np.testing.assert_array_equal(raw.pixels, pixels[[3, 1] if info.alpha is None else [0, 1]])


def _one_longer(group: zarr.Group) -> None:
    add(group, "scl", texture(1, HEIGHT, WIDTH)[0][:-1], ("y", "x"))


def _other_type(group: zarr.Group) -> None:
    add(group, "scl", texture(1, HEIGHT, WIDTH, "uint8")[0], ("y", "x"))


def _other_coordinates(group: zarr.Group) -> None:
    add(group, "lon", np.arange(WIDTH) * 0.1, ("lon",))
    add(group, "lat", np.arange(HEIGHT) * 0.1, ("lat",))
    add(group, "scl", texture(1, HEIGHT, WIDTH, "uint16")[0], ("lat", "lon"))


def _other_transform(group: zarr.Group) -> None:
    made = add(group, "scl", texture(1, HEIGHT, WIDTH, "uint16")[0], ("y", "x"), chunks=(16, 32))
    moved = NORTH_UP @ Affine.translation(0.1, 0.1)
    made.attrs.update({"spatial:transform": list(moved)[:6]})


def _other_crs(group: zarr.Group) -> None:
    add(group, "scl", texture(1, HEIGHT, WIDTH, "uint16")[0], ("y", "x")).attrs["proj:code"] = "EPSG:3857"


def _other_nodata(group: zarr.Group) -> None:
    add(group, "scl", texture(1, HEIGHT, WIDTH, "uint16")[0], ("y", "x")).attrs["_FillValue"] = 7


@pytest.mark.parametrize(
    "another", [_one_longer, _other_type, _other_coordinates, _other_transform, _other_crs, _other_nodata]
)
def test_arrays_that_differ_are_refused_with_what_to_do(tmp_path: Path, another: Any) -> None:
    another(banded(tmp_path / "a.zarr", texture(2, HEIGHT, WIDTH, "uint16"), ("b02", "b03")))
    said = refusal(tmp_path / "a.zarr")
    assert "3 arrays of imagery" in said and "b02, b03, scl" in said and "a.zarr/b02" in said and "group" in said
    assert open_raster(tmp_path / "a.zarr/b03").bands == 1


@pytest.mark.parametrize("where", ["the array", "the group"])
def test_coordinates_of_two_dimensions_are_no_bands(tmp_path: Path, where: str) -> None:
    pixels = texture(3, HEIGHT, WIDTH, "float32")
    group = banded(tmp_path / "a.zarr", pixels, ("height", "lat", "lon"))
    said = {"coordinates": "lat lon spatial_ref"}
    (group["height"] if where == "the array" else group).attrs.update(said)
    np.testing.assert_array_equal(pixels_of(open_raster(tmp_path / "a.zarr")), pixels[:1])


def test_several_images_of_several_bands_are_refused(tmp_path: Path) -> None:
    group = banded(tmp_path / "a.zarr", texture(1, HEIGHT, WIDTH), ("a",))
    del group["a"]
    for name in ("before", "after"):
        add(group, name, texture(3, HEIGHT, WIDTH), ("band", "y", "x"))
    assert "sets of bands: after, before" in refusal(tmp_path / "a.zarr")


def test_one_band_that_lacks_a_chunk_or_has_a_broken_one(tmp_path: Path) -> None:
    pixels = texture(3, HEIGHT, WIDTH)
    banded(tmp_path / "a.zarr", pixels, ("b1", "b2", "b3"))
    (tmp_path / "a.zarr/b2/c/1/1").unlink()
    broken = tmp_path / "a.zarr/b3/c/2/0"
    broken.write_bytes(broken.read_bytes()[:-9])
    info = open_raster(tmp_path / "a.zarr")
    _, gaps = read_all(source_for(info, RAW))
    found = {reason: area([gap for gap in gaps if gap.reason == reason]).bounds for reason in {g.reason for g in gaps}}
    assert found == {"suspect_missing": (32, 16, 64, 32), "unreadable": (0, 32, 32, 48)}
    assert not read_all(source_for(info, RAW, bands={"red": 1}))[1]


def test_the_key_follows_each_band_and_its_name(tmp_path: Path) -> None:
    banded(tmp_path / "a.zarr", texture(3, HEIGHT, WIDTH), ("b1", "b2", "b3"))
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    keys = {open_raster(tmp_path / "a.zarr").key}
    assert open_raster(tmp_path / "b.zarr").key in keys
    zarr.open_array(tmp_path / "a.zarr/b3")[20, 40] += 1
    keys.add(open_raster(tmp_path / "a.zarr").key)
    (tmp_path / "a.zarr/b3").rename(tmp_path / "a.zarr/b0")
    keys.add(open_raster(tmp_path / "a.zarr").key)
    assert len(keys) == 3


def test_the_key_follows_the_date(tmp_path: Path) -> None:
    path = dated(tmp_path / "a.zarr", 19500, "days since 1970-01-01")
    before = open_raster(path)
    zarr.open_array(path / "time")[...] = 19501
    after = open_raster(path)
    assert before.key != after.key and before.acquired != after.acquired


def test_no_crs_is_assumed_for_all_bands(tmp_path: Path) -> None:
    banded(tmp_path / "a.zarr", texture(2, HEIGHT, WIDTH), ("b1", "b2"), crs=None)
    assert "no coordinate reference system" in refusal(tmp_path / "a.zarr")
    assert open_raster(tmp_path / "a.zarr", assume_crs=UTM).bands == 2


# --- when it was taken ------------------------------------------------------------------------------------


def dated(path: Path, values: Any, units: str, *, scalar: bool = False, **attributes: Any) -> Path:
    group = banded(path, texture(1, HEIGHT, WIDTH), ("unused",))
    del group["unused"]
    dims = ("y", "x") if scalar else ("time", "y", "x")
    image = add(group, "image", texture(1, HEIGHT, WIDTH)[0] if scalar else texture(1, HEIGHT, WIDTH), dims)
    image.attrs.update({"grid_mapping": "spatial_ref"} | ({"coordinates": "time spatial_ref"} if scalar else {}))
    time = add(group, "time", np.array(values if scalar else [values]), () if scalar else ("time",), fill_value=-1)
    time.attrs.update({"units": units} | attributes)
    return path


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize(
    ("value", "units"),
    [
        (19500, "days since 1970-01-01"),
        (19500.0, "days since 1970-01-01 00:00:00"),
        (468000, "hours since 1970-01-01T00:00:00Z"),
        (0, "seconds since 2023-05-23 00:00:00.000000"),
        (1684800000 * 10**9, "nanoseconds since 1970-01-01"),
    ],
)
def test_one_date_is_the_scenes(tmp_path: Path, scalar: bool, value: float, units: str) -> None:
    path = dated(tmp_path / "a.zarr", value, units, scalar=scalar, calendar="proleptic_gregorian")
    assert open_raster(path).acquired == datetime(2023, 5, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "units"),
    [
        (5, "months since 2020-01-01"),
        (5, "days"),
        (5, ""),
        (1e30, "days since 2020-01-01"),
        (np.nan, "days since 2020-01-01"),
    ],
)
def test_a_date_that_is_not_simply_there_is_left(tmp_path: Path, value: float, units: str) -> None:
    assert open_raster(dated(tmp_path / "a.zarr", value, units)).acquired is None


def test_dates_of_other_calendars_and_of_other_arrays_are_left(tmp_path: Path) -> None:
    said = "days since 2020-01-01"
    assert open_raster(dated(tmp_path / "a.zarr", 5, said, calendar="noleap")).acquired is None
    path = dated(tmp_path / "b.zarr", 5, said, scalar=True)
    zarr.open_array(path / "image").attrs["coordinates"] = "spatial_ref"
    assert open_raster(path).acquired is None
    shutil.rmtree(path / "time")
    assert open_raster(path).acquired is None


@pytest.mark.parametrize(
    "said", [{"_FillValue": 5}, {"scale_factor": 2.0}, {"add_offset": 1.0}, {"_FillValue": "?"}], ids=str
)
def test_a_date_that_is_nodata_or_packed_is_left(tmp_path: Path, said: dict[str, Any]) -> None:
    assert open_raster(dated(tmp_path / "a.zarr", 5, "days since 2020-01-01", **said)).acquired is None


@given(st.datetimes(datetime(1700, 1, 1), datetime(2500, 1, 1)), st.sampled_from(["days", "hours", "seconds"]))
def test_moments_come_back_to_the_second(moment_: datetime, unit: str) -> None:
    seconds = {"days": 86400, "hours": 3600, "seconds": 1}[unit]
    value = (moment_ - datetime(1970, 1, 1)) / timedelta(seconds=seconds)
    found = moment(value, {"units": f"{unit} since 1970-01-01 00:00:00"})
    assert found is not None and abs(found.replace(tzinfo=None) - moment_) <= timedelta(seconds=1.001)


@given(
    st.integers(0, 10**9),
    st.sampled_from(["0001-01-01", "1900-01-01"]),
    st.sampled_from([("days", 86400), ("hours", 3600)]),
)
def test_whole_seconds_come_back_as_they_were(seconds: int, since: str, unit: tuple[str, int]) -> None:
    at = datetime(2000, 1, 1) + timedelta(seconds=seconds)
    value = (at - datetime.fromisoformat(since)) / timedelta(seconds=unit[1])
    assert moment(value, {"units": f"{unit[0]} since {since}"}) == at.replace(tzinfo=UTC)
