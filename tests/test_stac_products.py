"""What was produced as STAC: valid by the core schemas, true to the run, written whole."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pystac.validation
import pytest
import shapely
from affine import Affine
from archive_scenes import BOXES, Faint, configured, ground, scene
from jsonschema import Draft7Validator
from pyproj import CRS, Transformer
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.local_validator import get_local_schema_cache
from rasters import DEGREES, NORTH_UP, ROTATED, SOUTH_UP, texture, write
from referencing import Registry, Resource
from stac_model.schema import MLModelProperties

import geoseg
from geoseg.archive import describe_run, run_archive
from geoseg.archive.worker import extent
from geoseg.detectors import model_card
from geoseg.errors import ConfigError, SinkError
from geoseg.grid import Grid
from geoseg.raster import open_raster
from geoseg.stac import (
    CollectionNote,
    Product,
    StacSettings,
    item_of,
    search,
    write_collection,
    write_item,
)
from geoseg.stac.place import outline_of

SCHEMAS = os.environ.get("GEOSEG_STAC_SCHEMAS")
"""A JSON file of extension schemas by their URIs, which no package on PyPI carries; docs/stac.md tells more."""


def registry() -> Any:
    """The core schemas that pystac carries, and those of the extensions where they are at hand."""
    schemas = get_local_schema_cache()
    if SCHEMAS:
        schemas |= json.loads(Path(SCHEMAS).read_text())
    return Registry().with_resources((uri, Resource.from_contents(schema)) for uri, schema in schemas.items())


def check(content: dict[str, Any]) -> None:
    """Valid by the schema of its kind, and of its extensions where these are at hand."""
    kind = "item" if content["type"] == "Feature" else "collection"
    schemas, known = [f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"], registry()
    schemas += content["stac_extensions"] if SCHEMAS else []
    for uri in schemas:
        errors = Draft7Validator({"$ref": uri}, registry=known).iter_errors(content)
        told = [f"{uri}: {'/'.join(map(str, error.path))}: {error.message[:300]}" for error in errors]
        assert not told, "\n".join(told)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Product:
    """A real run of a real network over a raster with a gap, and its outputs on disk."""
    folder = tmp_path_factory.mktemp("a run")
    mask = np.ones((150, 210), bool)
    mask[:, :30] = False
    pixels = texture(3, 150, 210)
    tags = {"TIFFTAG_DATETIME": "2023:05:06 07:08:09"}
    raster = write(folder / "mosaic #1.tif", pixels, photometric="rgb", mask=mask, tags=tags)
    model = geoseg.load_model(weights)
    done = geoseg.run(raster, model)
    report = done.report.as_dict()
    outputs = {
        "footprints": geoseg.write(done.footprints, folder / "mosaic 1.gpkg", gaps=done.gaps, run=report),
        "parquet": geoseg.write(done.footprints, folder / "mosaic.parquet"),
        "report": folder / "mosaic.report.json",
    }
    outputs["report"].write_text(json.dumps(report))
    return Product(
        report=done.report, info=open_raster(raster), card=model.card, outputs=outputs, weights=weights, digest="ab12"
    )


def item_at(path: Path) -> pystac.Item:
    return pystac.Item.from_file(str(path))


def test_an_item_is_valid_and_true_to_the_run(product: Product) -> None:
    folder = Path(product.info.path).parent
    path = write_item(product, folder / "mosaic.stac.json")
    content = json.loads(path.read_text())
    check(content)
    item = item_at(path)
    report = product.report
    assert item.datetime == datetime(2023, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert item.properties["geoseg:datetime_of"] == "acquisition"
    assert item.properties["geoseg:run"] == report.run
    assert item.properties["geoseg:footprints"] == report.footprints
    assert item.properties["geoseg:gaps_m2"] == {"nodata": pytest.approx(30 * 150 * 0.25, rel=0.01)}
    assert item.properties["processing:software"]["geoseg"] == geoseg.__version__
    assert item.common_metadata.gsd == pytest.approx(0.5, rel=0.01)
    assert set(item.assets) == {"footprints", "parquet", "report", "model"}
    assert item.assets["footprints"].media_type == "application/geopackage+sqlite3"
    assert item.assets["parquet"].media_type == "application/vnd.apache.parquet"
    for name, file in product.outputs.items():
        asset = FileExtension.ext(item.assets[name])
        assert asset.size == file.stat().st_size
        assert asset.checksum == "1220" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert item.assets["footprints"].href == "./mosaic%201.gpkg"


def test_the_raster_is_what_it_is_derived_from(product: Product, tmp_path: Path) -> None:
    came = replace(product, derived_from=("https://me:pw@example.com/items/1?key=2",))
    item = pystac.Item.from_dict(item_of(came, Path(product.info.path).parent / "x.json"))
    links = [(link.href, link.media_type) for link in item.get_links("derived_from")]
    assert links == [
        ("./mosaic%20%231.tif", "image/tiff; application=geotiff"),
        ("https://example.com/items/1", "application/geo+json"),
    ]


def test_the_model_is_told_as_mlm_has_it(product: Product, tmp_path: Path) -> None:
    item = pystac.Item.from_dict(item_of(product, tmp_path / "x.json"))
    told = MLMExtension.ext(item)
    card = product.card
    assert told.mlm_name == card.name
    assert told.architecture == "Mask R-CNN"
    assert [str(task) for task in told.tasks] == ["instance-segmentation"]
    assert told.input[0].bands == ["red", "green", "blue"]
    assert told.input[0].input.shape == [-1, 3, card.core + 2 * card.halo, card.core + 2 * card.halo]
    scaled = item.properties["mlm:input"][0]["value_scaling"]
    assert scaled == [{"type": "z-score", "mean": 110.0, "stddev": 58.0}] * 3
    assert [told_class["name"] for told_class in told.output[0].to_dict()["classification:classes"]] == ["thing"]
    assert "mlm:model" in (item.assets["model"].roles or ())


@pytest.mark.parametrize("name", ["buildings", "ships"])
def test_the_bundled_models_pass_the_models_of_mlm(product: Product, name: str, tmp_path: Path) -> None:
    content = item_of(replace(product, card=model_card(name)), tmp_path / "x.json")
    check(content)
    told = MLModelProperties.model_validate(content["properties"])
    assert told.name == name
    assert told.tasks == {"instance-segmentation"}


def test_a_model_without_weights_is_no_mlm(product: Product, tmp_path: Path) -> None:
    content = item_of(replace(product, weights=None), tmp_path / "x.json")
    check(content)
    assert "mlm" not in json.dumps(content)


def test_no_date_of_the_raster_is_told_as_such(product: Product, tmp_path: Path) -> None:
    content = item_of(replace(product, info=replace(product.info, acquired=None)), tmp_path / "x.json")
    check(content)
    assert content["properties"]["datetime"] == product.report.started
    assert content["properties"]["geoseg:datetime_of"] == "processing"


FIJI = Affine(30.0, 0.0, 805_000.0, 0.0, -20.0, 8_100_000.0)
"""In UTM zone 60 south: reaches beyond 180 degrees east."""


@pytest.mark.parametrize(
    ("transform", "crs", "shape"),
    [
        (NORTH_UP, "EPSG:32645", (30, 50)),
        (SOUTH_UP, "EPSG:32645", (30, 50)),
        (ROTATED, "EPSG:32645", (30, 50)),
        (DEGREES, "EPSG:4326", (30, 50)),
        (Affine(200.0, 0, -500_000.0, 0, -300.0, 400_000.0), "+proj=laea +lat_0=60 +lon_0=25 +units=m", (30, 50)),
        (FIJI, "EPSG:32760", (600, 900)),
    ],
    ids=["north-up", "south-up", "rotated", "degrees", "no code", "antimeridian"],
)
def test_an_item_lies_where_its_raster_does(
    transform: Affine, crs: str, shape: tuple[int, int], product: Product, tmp_path: Path
) -> None:
    pixels = np.ones((1, *shape), "uint8")
    info = open_raster(write(tmp_path / "x.tif", pixels, transform=transform, crs=crs))
    content = item_of(replace(product, info=info), tmp_path / "x.json")
    check(content)
    there = shapely.geometry.shape(content["geometry"])
    assert there.is_valid
    lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    height, width = shape
    for row, col in ((0.1, 0.1), (0.1, width - 0.1), (height - 0.1, width - 0.1), (height / 2, width / 2)):
        point = shapely.Point(lonlat.transform(*(transform @ (col, row))))
        assert there.covers(point), (row, col)
    for row, col in ((-0.5, -0.5), (height + 0.5, width / 2), (height / 2, width + 0.5)):
        assert not there.covers(shapely.Point(lonlat.transform(*(transform @ (col, row)))))
    crosses = content["bbox"][0] > content["bbox"][2]
    assert crosses == (transform is FIJI)
    assert there.geom_type == ("MultiPolygon" if crosses else "Polygon")
    told = ProjectionExtension.ext(pystac.Item.from_dict(content))
    assert told.shape == [*shape]
    assert told.transform == pytest.approx(list(transform)[:6])
    assert told.code == (crs if crs.startswith("EPSG") else None)
    assert bool(told.wkt2) != bool(told.code)


def test_a_collection_is_valid_and_leads_to_its_items(product: Product, tmp_path: Path) -> None:
    folder = tmp_path / "run 7"
    folder.mkdir()
    target, paths = folder / "collection.json", []
    for number in range(3):
        taken = datetime(2020 + number, 1, 2, tzinfo=UTC)
        info = replace(product.info, name=f"r{number}.tif", acquired=taken)
        made = replace(product, info=info, card=replace(product.card, version=str(number)))
        paths.append(write_item(made, folder / f"r{number} é.stac.json", collection=target))
    merged = product.outputs["footprints"]
    write_collection(target, paths, CollectionNote(title="All", licence="CC-BY-4.0", outputs={"merged": merged}))
    content = json.loads(target.read_text())
    check(content)
    for path in paths:
        check(json.loads(path.read_text()))
    collection = pystac.Collection.from_file(str(target))
    assert collection.id == "run-7"
    assert collection.extent.temporal.intervals == [
        [datetime(2020, 1, 2, tzinfo=UTC), datetime(2022, 1, 2, tzinfo=UTC)]
    ]
    assert collection.extent.spatial.bboxes == [json.loads(paths[0].read_text())["bbox"]]
    assert content["summaries"]["mlm:name"] == ["random"]
    assert set(content["item_assets"]) == {"footprints", "parquet", "report", "model"}
    assert content["assets"]["merged"]["file:size"] == merged.stat().st_size
    # It reads back: by this package's own search, which follows the encoded links from file to file.
    found = search(StacSettings(url=str(target), asset="report"), geoseg.raster.Access(roots=("/",)))
    assert [scene.href for scene in found] == [str(product.outputs["report"])] * 3


def test_items_of_one_id_do_not_hide_each_other(product: Product, tmp_path: Path) -> None:
    other = replace(product, report=replace(product.report, run="0" * 16))
    ids = {item_of(made, tmp_path / "x.json")["id"] for made in (product, other)}
    assert len(ids) == 2
    assert all(name.startswith("mosaic-1-") for name in ids)


def test_a_partitioned_dataset_is_one_asset(product: Product, tmp_path: Path) -> None:
    parts = tmp_path / "merged"
    parts.mkdir()
    (parts / "0.parquet").write_bytes(b"-")
    content = item_of(replace(product, outputs={"footprints": parts}), tmp_path / "x.json")
    check(content)
    assert content["assets"]["footprints"]["href"] == "./merged/"
    assert content["assets"]["footprints"]["type"] == "application/vnd.apache.parquet"


def test_the_same_product_gives_the_same_bytes(product: Product, tmp_path: Path) -> None:
    once, again = (write_item(product, tmp_path / "x.json").read_bytes() for _ in range(2))
    assert once == again


def test_what_stood_there_stays_where_writing_fails(product: Product, tmp_path: Path) -> None:
    path = write_item(product, tmp_path / "x.json")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_item(replace(product, extra={"geoseg:odd": float("nan")}), path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(SinkError):
        write_item(product, tmp_path / "taken")
    assert path.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.json", "taken"}


def test_a_collection_of_nothing_or_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Items"):
        write_collection(tmp_path / "collection.json", [])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match="no STAC Item"):
        write_collection(tmp_path / "collection.json", [tmp_path / "x.json"])
    assert not (tmp_path / "collection.json").exists()


def test_a_run_over_an_archive_is_described(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, (10, 20, 10, 24)))
    scene(tmp_path / "in" / "b b.tif", ground(70, 90, (40, 60, 30, 45), (0, 9, 0, 9)), row=200)
    (tmp_path / "in" / "page.tif").write_text("<html>404</html>")
    done = run_archive(configured(tmp_path, merge={"output": "merged.gpkg"}), model=BOXES)
    assert done.counts["done"] == 2
    target = describe_run(done.folder, model=BOXES.card, note=CollectionNote(title="Boxes"))
    content = json.loads(target.read_text())
    check(content)
    collection = pystac.Collection.from_file(str(target))
    items = sorted(collection.get_items(), key=lambda item: item.id)
    for item in items:
        check(json.loads(Path(item.self_href).read_text()))
        output = Path(item.assets["footprints"].get_absolute_href() or "")
        assert (output.parent / output.name.replace("%20", " ")).is_file()
    assert [item.properties["geoseg:footprints"] for item in items] == [1, 2]
    assert content["assets"]["merged"]["href"] == "./merged.gpkg"
    before = {path: path.read_bytes() for path in done.folder.rglob("*.json")}
    assert describe_run(done.folder, model=BOXES.card, note=CollectionNote(title="Boxes")) == target
    assert {path: path.read_bytes() for path in done.folder.rglob("*.json")} == before
    (tmp_path / "in" / "a.tif").unlink()  # its Item stays, also where it is older than the output
    os.utime(done.folder / "scenes" / "a.gpkg", (2**32, 2**32))
    describe_run(done.folder, model=BOXES.card, note=CollectionNote(title="Boxes"))
    assert {path: path.read_bytes() for path in done.folder.rglob("*.json")} == before
    assert "no new Item" in caplog.text
    with pytest.raises(ConfigError, match="for a run of boxes 2"):
        describe_run(done.folder, model=model_card("ships"))
    with pytest.raises(ConfigError):
        describe_run(tmp_path / "in", model=BOXES.card)


def test_items_follow_the_format_of_the_outputs_and_the_folder_may_be_moved(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, (10, 20, 10, 24)))
    for suffix in ("gpkg", "parquet", "gpkg"):
        sections = {"archive": {"format": suffix}, "stac": {"write": True}, "merge": {"output": "deep/merged.gpkg"}}
        done = run_archive(configured(tmp_path, **sections), model=BOXES)
        item = json.loads((done.folder / "scenes" / "a.stac.json").read_text())
        assert item["assets"]["footprints"]["href"] == f"./a.{suffix}"
    assert done.unchanged == 1  # its output stood still, and the Item told of the other one
    moved = done.folder.rename(tmp_path / "moved")
    content = json.loads(describe_run(moved, model=BOXES.card).read_text())
    assert content["assets"]["merged"]["href"] == "./deep/merged.gpkg"


def test_an_item_follows_its_output_also_where_a_clock_was_set_back(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, (10, 20, 10, 24), (60, 70, 90, 99)))
    (tmp_path / "ill").touch()
    config, model = (
        configured(tmp_path, stac={"write": True}),
        Faint(card=BOXES.card, while_there=str(tmp_path / "ill")),
    )
    path = tmp_path / "out" / "scenes" / "a.stac.json"
    assert run_archive(config, model=model).exit_code == 1
    assert not json.loads(path.read_text())["properties"]["geoseg:complete"]
    os.utime(path, (2**32, 2**32))
    (tmp_path / "ill").unlink()
    assert run_archive(config, model=model).exit_code == 0
    told = json.loads(path.read_text())["properties"]
    assert told["geoseg:complete"] and told["geoseg:footprints"] == 2


@pytest.mark.parametrize(
    ("code", "transform", "height", "width", "box"),
    [
        (3413, Affine(10, 0, -1000, 0, -10, 1200), 200, 210, (-180, None, 180, 90)),
        (3031, Affine(1000, 0, -100_000, 0, -1000, 120_000), 200, 220, (-180, -90, 180, None)),
        (3857, Affine(1000, 0, 19_920_000, 0, -1000, -1_900_000), 100, 200, (178.944, -17.679, -179.259, -16.821)),
    ],
)
def test_an_outline_holds_what_lies_in_it_around_a_pole_too(
    code: int, transform: Affine, height: int, width: int, box: tuple[float | None, ...]
) -> None:
    grid = Grid(crs=CRS.from_epsg(code), transform=transform, height=height, width=width)
    geometry, bbox = outline_of(grid)
    assert all(value is None or found == pytest.approx(value, abs=1e-3) for found, value in zip(bbox, box, strict=True))
    rows, cols = np.random.default_rng(0).uniform(-0.5, 1.5, (2, 500)) * [[height], [width]]
    lon, lat = grid.to_lonlat(rows, cols)
    inside = (rows > 0) & (rows < height) & (cols > 0) & (cols < width)
    drawn = shapely.contains_xy(shapely.geometry.shape(geometry), (lon + 180) % 360 - 180, lat)
    assert (drawn == inside).mean() > 0.98  # sides are drawn by 16 chords
    assert (lat[inside] >= bbox[1]).all() and (lat[inside] <= bbox[3]).all()


@pytest.mark.parametrize(
    ("crs", "transform", "box"),
    [
        ("ESRI:54009", Affine(310_000, 0, -18.6e6, 0, -206_000, 9.27e6), (-180, -90, 180, 90)),
        (
            "+proj=geos +h=35785831 +lon_0=170 +sweep=y +datum=WGS84",
            Affine(90_000, 0, -5.4e6, 0, -120_000, 5.4e6),
            (88.9, -80.2, -108.9, 80.2),
        ),
        (
            "+proj=ortho +lat_0=80 +lon_0=10 +datum=WGS84",
            Affine(110_000, 0, -6.6e6, 0, -150_000, 6.75e6),
            (-180, -9.9, 180, 90),
        ),
    ],
)
def test_an_outline_leaves_out_what_lies_nowhere_on_the_earth(
    crs: str, transform: Affine, box: tuple[float, ...]
) -> None:
    grid = Grid(crs=CRS.from_user_input(crs), transform=transform, height=90, width=120)
    geometry, bbox = outline_of(grid)
    assert bbox == pytest.approx(box, abs=0.1)
    assert extent(grid) == tuple(bbox)
    rows, cols = np.random.default_rng(0).uniform(0.0, 1.0, (2, 500)) * [[90], [120]]
    lon, lat = grid.to_lonlat(rows, cols)
    lon, lat = lon[np.isfinite(lon)], lat[np.isfinite(lon)]
    assert shapely.contains_xy(shapely.geometry.shape(geometry), (lon + 180) % 360 - 180, lat).mean() > 0.99
