"""Rasters and vector layers as training images: what is seen, and what labels may say."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from test_training import TINY

from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError, RasterError
from geoseg.polygons import share_inside
from geoseg.raster import Reader, open_raster, source_for
from geoseg.tiling import Tiling
from geoseg.training import read_train_config
from geoseg.training.chips import Pose, cut
from geoseg.training.config import TrainConfig
from geoseg.training.rasters import labelled_raster

GSD = 0.3
"""What the models here see."""
PLACES = {
    "degrees": ("EPSG:4326", Affine(5e-6, 0, 10.0, 0, -5e-6, 60.0)),  # 0.28 x 0.56 m
    "coarse degrees": ("EPSG:4326", Affine(1.5e-5, 0, 10.0, 0, -1.5e-5, 60.0)),
    "non-square": ("EPSG:32632", Affine(0.9, 0, 555_000, 0, -0.3, 6_650_000)),
    "rotated": (
        "EPSG:32632",
        Affine.translation(555_000, 6_650_000) @ Affine.rotation(31) @ Affine.scale(0.25, -0.6),
    ),
    "mercator": ("EPSG:3857", Affine(0.9, 0, 1_113_000, 0, 0.9, 8_400_000)),  # 0.45 m, south-up
}
SIDE = 30.0
"""Metres of the one object's sides, which lie along rows and columns."""


def square(folder: Path, crs: str, transform: Affine) -> Path:
    """A raster of 90 m with one bright object that is square on the ground, and its outline."""
    here = pyproj.CRS(crs)
    geod = here.get_geod() or pyproj.Geod(ellps="WGS84")
    to_lonlat = pyproj.Transformer.from_crs(here, 4326, always_xy=True)

    def step(col: float, row: float) -> float:
        ends = [to_lonlat.transform(*(transform @ xy)) for xy in ((0, 0), (col, row))]
        return float(geod.inv(*ends[0], *ends[1])[2])

    wide, tall = (SIDE / (step(*way) / 100) for way in ((100, 0), (0, 100)))
    corner = round(wide), round(tall)
    pixels = np.full((3, 3 * corner[1], 3 * corner[0]), 30, np.uint8)
    pixels[:, corner[1] : 2 * corner[1], corner[0] : 2 * corner[0]] = 220
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "RGB", "crs": crs}
    height, width = pixels.shape[1:]
    with rasterio.open(folder / "a.tif", "w", height=height, width=width, transform=transform, **profile) as file:
        file.write(pixels)
    box = shapely.box(corner[0], corner[1], 2 * corner[0], 2 * corner[1])
    outline = shapely.transform(box, lambda xy: np.array([transform @ tuple(each) for each in xy]))
    gpd.GeoDataFrame(geometry=[outline], crs=crs).to_file(folder / "labels.gpkg")
    return folder / "a.tif"


def settings(folder: Path, *, more: str = "", classes: tuple[str, ...] = ("building",)) -> TrainConfig:
    text = TINY.format(steps=1).split("[[sources]]")[0].replace('["building"]', json.dumps(classes))
    path = folder / "a.toml"
    path.write_text(f'{text}[[sources]]\nkind = "raster"\nraster = "a.tif"\nlabels = "labels.gpkg"\n{more}')
    return read_train_config(path)


def sides(bright: np.ndarray) -> tuple[int, int]:
    rows, cols = np.nonzero(bright)
    return int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1


@pytest.mark.parametrize("place", PLACES)
def test_what_is_square_on_the_ground_is_square_in_a_chip_as_it_is_in_use(tmp_path: Path, place: str) -> None:
    path = square(tmp_path, *PLACES[place])
    config = settings(tmp_path)
    image = labelled_raster(config.sources[0], config)  # type: ignore[arg-type]
    centre = (image.pixels.width / 2, image.pixels.height / 2)
    example = cut(image, Pose(centre_xy=centre, step=GSD / image.gsd_m, angle_deg=0.0, flip=False), 160)
    left, top, right, bottom = example.target["boxes"][0].tolist()
    trained = sides(example.pixels[0].numpy() > 125)
    assert (bottom - top, right - left) == pytest.approx((SIDE / GSD, SIDE / GSD), abs=2.5)
    assert trained == pytest.approx((SIDE / GSD, SIDE / GSD), abs=3.5)
    card = ModelCard(classes=("building",), gsd_m=GSD, bands=("red", "green", "blue"))
    with Reader(in_use := source_for(open_raster(path), card)) as reader:
        chips, _ = reader.read(list(Tiling(core=4096, halo=0).plan(in_use.grid.window).tiles()))
    assert trained == pytest.approx(sides(chips[0].pixels[0] > 125), abs=3.5)


@pytest.mark.parametrize("crs", [4326, 32760, 32701])
def test_labels_beyond_the_antimeridian_are_seen(tmp_path: Path, crs: int) -> None:
    raster = square(tmp_path, "EPSG:4326", Affine(5e-6, 0, 179.9993, 0, -5e-6, 60.0))
    with rasterio.open(raster) as file:
        assert file.bounds.right > 180
        wide = file.width // 3
    labels = gpd.read_file(tmp_path / "labels.gpkg")
    more = [labels.translate(side * wide * 5e-6).iloc[0] for side in (-0.9, 0, 0.9)]
    gpd.GeoSeries(more, crs=4326).to_crs(crs).to_file(tmp_path / "labels.gpkg")
    config = settings(tmp_path)
    image = labelled_raster(config.sources[0], config)  # type: ignore[arg-type]
    widths = np.diff(shapely.bounds(image.polygons)[:, [0, 2]]).ravel()
    assert widths == pytest.approx([image.pixels.width / 3] * 3, rel=0.02)


@pytest.mark.parametrize(
    ("values", "classes"),
    [(["shed", None, "hall", " ", "shed"], ("shed", "hall")), ([2, None, 1, None, 2], ("2", "1"))],
    ids=["text", "numbers"],
)
def test_features_without_a_label_are_counted_and_may_be_ignored(
    tmp_path: Path, values: list[object], classes: tuple[str, ...]
) -> None:
    square(tmp_path, *PLACES["degrees"])
    boxes = [shapely.box(10 + i * 2e-4, 59.9997, 10 + i * 2e-4 + 1e-4, 59.9999) for i in range(5)]
    gpd.GeoDataFrame({"what": values}, geometry=boxes, crs=4326).to_file(tmp_path / "labels.gpkg")
    config = settings(tmp_path, more='label_column = "what"\n', classes=classes)
    with pytest.raises(ConfigError, match=r"of whose 5 features 2 have no label in 'what'.*ignore_labels"):
        labelled_raster(config.sources[0], config)  # type: ignore[arg-type]
    config = settings(tmp_path, more='label_column = "what"\nignore_labels = [""]\n', classes=classes)
    image = labelled_raster(config.sources[0], config)  # type: ignore[arg-type]
    assert image.labels.tolist() == [1, 2, 1] and len(image.ignore) == 2


def test_a_reviewed_copy_is_no_layer_of_labels(tmp_path: Path) -> None:
    """What was marked wrong in it was taught as an object."""
    square(tmp_path, *PLACES["degrees"])
    labels = gpd.read_file(tmp_path / "labels.gpkg").assign(review="wrong", run="r")
    labels.to_file(tmp_path / "labels.gpkg")
    config = settings(tmp_path)
    with pytest.raises(ConfigError, match=r'a reviewed copy, as labels.*kind = "review"'):
        labelled_raster(config.sources[0], config)  # type: ignore[arg-type]


def test_a_feature_of_several_parts_is_one_object(tmp_path: Path) -> None:
    square(tmp_path, *PLACES["degrees"])
    near, far, other = (shapely.box(10 + x, 59.9996, 10 + x + 1e-4, 59.9998) for x in (1e-4, 4e-4, 7e-4))
    # Half of the first lies beyond the raster, and its ring crosses itself: both make parts, too.
    bow = shapely.Polygon([(9.9999, 59.9993), (10.0003, 59.9995), (10.0003, 59.9993), (9.9999, 59.9995)])
    features = [bow, shapely.MultiPolygon([near, far]), other, shapely.box(9.99, 59, 9.999, 59.5)]
    gpd.GeoDataFrame(geometry=features, crs=4326).to_file(tmp_path / "labels.gpkg")
    regions = shapely.MultiPolygon([shapely.box(10 + x, 59.9999, 10 + x + 1e-4, 60) for x in (2e-4, 6e-4)])
    gpd.GeoDataFrame(geometry=[regions], crs=4326).to_file(tmp_path / "unclear.gpkg")
    config = settings(tmp_path, more='ignore = "unclear.gpkg"\n')
    image = labelled_raster(config.sources[0], config)  # type: ignore[arg-type]
    assert len(image.polygons) == len(image.labels) == 3 and len(image.ignore) == 2
    assert shapely.is_valid(image.polygons).all()
    # A chip near it shows some of it, not the ground between its parts.
    assert shapely.contains_xy(image.polygons[1], *image.centres_xy[1])
    centre = (image.pixels.width / 2, image.pixels.height / 2)
    target = cut(image, Pose(centre_xy=centre, step=GSD / image.gsd_m, angle_deg=0.0, flip=False), 400).target
    wide = sorted(round(float(right - left)) for left, _, right, _ in target["boxes"])
    # 1e-4 degrees of longitude are 5.58 m here.
    assert wide == pytest.approx([5.58 / GSD, 3 * 5.58 / GSD, 4 * 5.58 / GSD], abs=2)


@pytest.mark.parametrize(("gsd_m", "told"), [(0.05, 1), (0.3, 0), (3.0, 0)])
def test_a_raster_much_coarser_than_the_model_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gsd_m: float, told: int
) -> None:
    """As in an extraction: a GSD of 0.05 for 0.5 is soon written."""
    square(tmp_path, "EPSG:32632", Affine(0.3, 0, 555_000, 0, -0.3, 6_650_000))
    config = settings(tmp_path)
    config = config.model_copy(update={"model": config.model.model_copy(update={"gsd_m": gsd_m})})
    labelled_raster(config.sources[0], config)
    assert ["coarser than the model's" in message for message in caplog.messages] == [True] * told


def test_points_and_lines_are_no_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They were taken for features that meet the raster, outlined nothing, and their ground was taught as bare."""
    square(tmp_path, *PLACES["degrees"])
    boxes = [shapely.box(10 + i * 2e-4, 59.9997, 10 + i * 2e-4 + 1e-4, 59.9999) for i in range(3)]
    (tmp_path / "labels.gpkg").unlink()
    labels, config = tmp_path / "labels.geojson", settings(tmp_path)
    for features, objects in (
        ([shapely.LineString(box.exterior) for box in boxes], 0),
        ([boxes[0].centroid, *boxes[1:]], 2),
    ):
        caplog.clear()
        labels.write_text(gpd.GeoSeries(features, crs=4326).to_json())
        source = config.sources[0].model_copy(update={"labels": "labels.geojson"})
        with nullcontext() if objects else pytest.raises(ConfigError, match="none of whose polygons"):
            assert len(labelled_raster(source, config).polygons) == objects  # type: ignore[arg-type]
        [told] = caplog.messages
        assert told == f"labels.geojson: {3 - objects} of 3 features are points or lines, not polygons, and left out"


def test_a_chip_costs_what_is_there_of_what_lies_between_parcels(tmp_path: Path) -> None:
    """All that lies outside an AOI of 40,000 parcels was one polygon, which each chip moved and burnt: 10 s."""
    crs, transform = "EPSG:32632", Affine(0.3, 0, 555_000, 0, -0.3, 6_650_000)
    square(tmp_path, crs, transform)
    rows, cols = (each.ravel() * 6.0 for each in np.mgrid[:50, :50])
    parcels = shapely.box(555_000 + cols, 6_650_000 - rows - 4.7, 555_000 + cols + 4.7, 6_650_000 - rows)
    gpd.GeoSeries(parcels, crs=crs).to_file(tmp_path / "aoi.gpkg")
    config = settings(tmp_path, more='aoi = "aoi.gpkg"\n')
    image = labelled_raster(config.sources[0], config)  # type: ignore[arg-type]
    assert shapely.get_num_coordinates(image.ignore).max() <= 300
    united = replace(image, ignore=np.array([shapely.union_all(image.ignore)], dtype=object))
    assert shapely.get_num_coordinates(united.ignore).max() > 1000
    inside = [image.is_labelled((x, y)) for x, y in ((5.0, 5.0), (17.9, 5.0), (21.0, 5.0), (25.0, 285.0))]
    assert inside == [True, False, True, True]  # 4.7 m are 15.7 pixels, and the next begins at 20
    for angle in (0.0, 90.0, 33.0):
        pose = Pose(centre_xy=(150.0, 140.0), step=1.1, angle_deg=angle, flip=angle > 0)
        ignored, whole = (cut(each, pose, 192).target["ignore"] for each in (image, united))
        assert 0.2 < float(whole.float().mean()) < 0.6
        assert int((ignored != whole).sum()) <= 5  # a centre on the line between two


@pytest.mark.parametrize("name", ["wrong.gpkg", "wrong.geojson", "wrong.shp", "wrong.fgb"])
def test_places_of_what_was_wrongly_found_may_be_points(tmp_path: Path, name: str) -> None:
    """Those of a GeoPackage were refused for not being polygons, and its changes went unseen."""
    square(tmp_path, *PLACES["degrees"])
    places = [shapely.Point(10 + i * 2e-4, 59.9998) for i in range(1, 4)]
    gpd.GeoSeries(places, crs=4326).to_file(tmp_path / name)
    config = settings(tmp_path, more=f'hard = "{name}"\n')
    image = labelled_raster(config.sources[0], config)  # type: ignore[arg-type]
    assert len(image.hard_xy) == 3
    before = config.fingerprint()
    gpd.GeoSeries(places[1:], crs=4326).to_file(tmp_path / name)
    assert config.fingerprint() != before
    if name == "wrong.gpkg":  # regions are of ground, though
        config = settings(tmp_path, more=f'ignore = "{name}"\n')
        with pytest.raises(ConfigError, match="without polygons"):
            labelled_raster(config.sources[0], config)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none.gpkg", "none.geojson"])
@pytest.mark.parametrize("more", ["", 'label_column = "kind"\n'])
def test_a_layer_without_features_is_ground_without_objects(tmp_path: Path, name: str, more: str) -> None:
    square(tmp_path, *PLACES["degrees"])
    gpd.GeoDataFrame({"kind": []}, geometry=[], crs=4326).to_file(tmp_path / name)
    config = settings(tmp_path, more=more)
    source = config.sources[0].model_copy(update={"labels": name})
    bare = labelled_raster(source, config)  # type: ignore[arg-type]
    assert not len(bare.polygons) and not len(bare.ignore)


def test_undeclared_values_and_bands_are_told_where_a_training_declares_them(tmp_path: Path) -> None:
    """The messages named options that `geoseg train` does not have."""
    path = square(tmp_path, *PLACES["degrees"])
    for change, told in (({"dtype": "uint16"}, "scaling"), ({"photometric": "MINISBLACK"}, "bands")):
        with rasterio.open(path) as file:
            profile, pixels = {**file.profile, "photometric": "RGB", **change}, file.read()
        with rasterio.open(tmp_path / "b.tif", "w", **profile) as file:
            file.write(pixels.astype(profile["dtype"]))
        config = settings(tmp_path)
        source = config.sources[0].model_copy(update={"raster": "b.tif"})
        with pytest.raises(RasterError, match=rf"{told} under .*training's under its \[\[sources\]\]"):
            labelled_raster(source, config)  # type: ignore[arg-type]


def test_labels_without_a_crs_are_named(tmp_path: Path) -> None:
    square(tmp_path, *PLACES["degrees"])
    gpd.GeoDataFrame(geometry=[shapely.box(10, 59.9, 10.1, 60)]).to_parquet(tmp_path / "bare.parquet")
    config = settings(tmp_path)
    source = config.sources[0].model_copy(update={"labels": "bare.parquet"})
    with pytest.raises(ConfigError, match=r"bare\.parquet without a CRS"):
        labelled_raster(source, config)  # type: ignore[arg-type]


def test_an_aoi_of_many_corners_costs_what_its_rim_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    angle, reach = np.linspace(0, 2 * np.pi, 20_000, endpoint=False), rng.uniform(290, 300, 20_000)
    area = shapely.Polygon(np.column_stack([300 + reach * np.cos(angle), 300 + reach * np.sin(angle)]))
    at, side = rng.uniform(0, 600, (5000, 2)), rng.uniform(2, 9, (5000, 2))
    objects = shapely.box(*at.T, *(at + side).T)
    cut: list[int] = []
    intersection = shapely.intersection
    monkeypatch.setattr(
        shapely,
        "intersection",
        lambda one, other: cut.append(int(shapely.get_num_coordinates(other).sum())) or intersection(one, other),
    )
    inside = share_inside(objects, area) >= 0.5
    monkeypatch.undo()
    assert 0 < sum(cut) < 40 * len(angle)  # some 300 lie on the rim
    rough = np.hypot(*(at + side / 2 - 300).T)
    assert (
        inside[rough < 280].all()
        and not inside[rough > 310].any()
        and 0 < inside[(rough > 285) & (rough < 305)].mean() < 1
    )
    some = np.flatnonzero((rough > 285) & (rough < 305))[:40]
    plain = shapely.area(shapely.intersection(objects[some], area)) >= 0.5 * shapely.area(objects[some])
    np.testing.assert_array_equal(inside[some], plain)
