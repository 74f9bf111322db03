"""The pixels of a training: what a raster does not hold is not taught, and what cannot be read is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin
from test_training import TINY

from geoseg.errors import ConfigError
from geoseg.training import read_train_config, train
from geoseg.training.chips import Pose, cut
from geoseg.training.imprint import imprint
from geoseg.training.labelled import Labelled
from geoseg.training.rasters import labelled_raster
from geoseg.training.source_config import RasterSource
from geoseg.window import Window

HEIGHT, WIDTH, EDGE = 512, 384, 320
"""Nothing is held from row EDGE on. A block of the file is 128 x 128."""
WEST, NORTH, GSD = 500_000.0, 4_500_000.0, 0.3


def on_ground(geometry: Any) -> Any:
    return shapely.transform(geometry, lambda xy: np.array([WEST, NORTH]) + xy * [GSD, -GSD])


OBJECTS = [shapely.box(x, y, x + 40, y + 40) for x in (60, 220) for y in (100, EDGE - 8, EDGE + 80)]
"""On ground, on its edge with a fifth, on nothing."""


def _raster(folder: Path, *, nodata: bool) -> Path:
    pixels = np.random.default_rng(0).integers(60, 200, (3, HEIGHT, WIDTH), np.uint8)
    if nodata:
        pixels[:, EDGE:] = 0
        pixels[:, 110:112, 70:73] = 0  # a speck in an object's shadow
    path = folder / "a.tif"
    form = {"driver": "GTiff", "tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    with rasterio.open(
        path, "w", height=HEIGHT, width=WIDTH, count=3, dtype="uint8", crs="EPSG:32630", photometric="RGB",
        transform=from_origin(WEST, NORTH, GSD, GSD), nodata=0 if nodata else None, **form,
    ) as file:  # fmt: skip
        file.write(pixels)
    gpd.GeoDataFrame(geometry=[on_ground(o) for o in OBJECTS], crs=32630).to_file(folder / "labels.gpkg")
    return path


def _labelled(folder: Path, hold_mb: float, *, gsd_m: float = GSD / 0.7, more: str = "") -> Labelled:
    text = TINY.format(steps=1).split("[[sources]]")[0].replace("gsd_m = 0.3", f"gsd_m = {gsd_m}")
    text = text.replace("chip = 96", f"chip = 96\nhold_mb = {hold_mb}")
    path = folder / "a.toml"
    path.write_text(text + f'[[sources]]\nkind = "raster"\nraster = "a.tif"\nlabels = "labels.gpkg"\n{more}')
    config = read_train_config(path)
    return labelled_raster(config.sources[0], config)  # type: ignore[arg-type]


@pytest.mark.parametrize("gsd_m", [GSD / 0.7, 0.6])
def test_nodata_is_the_same_held_or_read_by_window(tmp_path: Path, gsd_m: float) -> None:
    _raster(tmp_path, nodata=True)
    held, windowed = (_labelled(tmp_path, hold_mb, gsd_m=gsd_m).pixels for hold_mb in (128, 0))
    assert type(held) is not type(windowed) and (held.height, held.width) == (windowed.height, windowed.width)
    rows = held.height
    for row_off, height in ((0, rows // 2), (rows // 2, rows // 3), (rows - 60, 60)):
        window = Window(row_off=row_off, col_off=11, height=height, width=150)
        (pixels, void), (same, hole) = held.part(window), windowed.part(window)
        assert torch.equal(pixels, same) and void is not None and hole is not None and torch.equal(void, hole)
        assert (pixels[:, void] == 0).all()  # black, as it is to a model in use
    assert void.all() and not pixels.any()


@pytest.mark.parametrize("hold_mb", [128, 0])
def test_objects_on_nodata_are_not_asked_for_and_nothing_is_punished_there(tmp_path: Path, hold_mb: float) -> None:
    _raster(tmp_path, nodata=True)
    image = _labelled(tmp_path, hold_mb)
    pose = Pose(centre_xy=(150.0, 300.0), step=1.0, angle_deg=0.0, flip=False)
    example = cut(image, pose, 400)
    ignore = example.target["ignore"].bool()  # chip row 0 is image row 100
    assert example.target["boxes"][:, 1].tolist() == [0.0, 0.0]  # those on ground alone
    assert int(example.target["masks"].sum()) == 2 * 40 * 40  # with the speck
    assert ignore[EDGE - 100 : HEIGHT - 100, 50:].all()
    # What shows of the two at the edge, and the speck: all else is ground that counts.
    assert int(ignore[: EDGE - 100].sum()) == 2 * 8 * 40 + 6


@pytest.mark.parametrize("hold_mb", [128, 0])
def test_a_raster_that_is_cut_off_is_refused_unless_that_ground_is_left_out(tmp_path: Path, hold_mb: float) -> None:
    path = _raster(tmp_path, nodata=False)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    whole = Window(row_off=0, col_off=0, height=HEIGHT, width=WIDTH)
    with pytest.raises(ConfigError, match=r"unreadable in rows 128 to 512 and columns 0 to 384 of 512 x 384.*`aoi`"):
        _labelled(tmp_path, hold_mb).pixels.part(whole)
    # An AOI that reaches a little into what another GSD tells readable.
    aoi = gpd.GeoDataFrame(geometry=[on_ground(shapely.box(0, 0, WIDTH, 130))], crs=32630)
    aoi.to_file(tmp_path / "aoi.gpkg")
    _, void = _labelled(tmp_path, hold_mb, more='aoi = "aoi.gpkg"').pixels.part(whole)
    assert void is not None and void[256:].all() and not void[:128].any()


def test_a_checkpoint_of_labels_that_were_corrected_since_is_refused(tmp_path: Path) -> None:
    _raster(tmp_path, nodata=False)
    text = TINY.format(steps=1).split("[[sources]]")[0] + '[[sources]]\nkind = "raster"\nraster = "a.tif"\n'
    path, out = tmp_path / "a.toml", tmp_path / "a.safetensors"
    path.write_text(text + 'labels = "labels.gpkg"\n')
    train(read_train_config(path), out, device="cpu", log=lambda line: None)
    _labels(OBJECTS).to_file(tmp_path / "labels.gpkg")  # the same once more: other bytes
    train(read_train_config(path), out, device="cpu", log=lambda line: None)
    _labels(OBJECTS[1:]).to_file(tmp_path / "labels.gpkg")
    with pytest.raises(ConfigError, match="other labels"):
        train(read_train_config(path), out, device="cpu", log=lambda line: None)


def _labels(objects: list[Any], **columns: Any) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=[on_ground(o) for o in objects], crs=32630)


def test_an_imprint_is_of_what_the_labels_say(tmp_path: Path) -> None:
    source = RasterSource(kind="raster", raster="a.tif", labels="a.shp", ignore="none.gpkg")
    _labels(OBJECTS, kind=["house"] * 6).to_file(tmp_path / "a.shp")
    houses = imprint(source, tmp_path)
    assert houses["ignore"] == ""
    _labels(OBJECTS, kind=["house"] * 5 + ["shed"]).to_file(tmp_path / "a.shp")  # in another file than the outlines
    assert imprint(source, tmp_path)["labels"] != houses["labels"]

    source = RasterSource(kind="raster", raster="a.tif", labels="a.gpkg")
    _labels(OBJECTS, kind=["house"] * 6).to_file(tmp_path / "a.gpkg", SPATIAL_INDEX="NO")  # its triggers are GDAL's own
    before = imprint(source, tmp_path)
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as db:
        db.execute("PRAGMA journal_mode = WAL")  # as QGIS keeps what it has open
        assert imprint(source, tmp_path) == before
        db.execute("UPDATE a SET kind = 'shed' WHERE fid = 2")
        db.commit()
        assert imprint(source, tmp_path) != before
