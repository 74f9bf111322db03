"""What is corrected in QGIS becomes training data: extract, correct, finetune, extract finds more that is right."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from commands import cli
from rasterio.transform import from_origin
from sink_tables import gaps

import geoseg
from geoseg.errors import ConfigError
from geoseg.evaluation import evaluate
from geoseg.sinks.review import review_path, write_review
from geoseg.training import read_train_config, train
from geoseg.training.review import judged
from geoseg.training.source_config import ReviewSource
from geoseg.training.sources import mix

FINETUNE = """
[model]
name = "mine"
start = "buildings"
[schedule]
steps = 18
batch = 2
chip = 128
learning_rate = 4e-4
warmup = 3
ema = 0.8
scale = [0.9, 1.1]
seed = 1
threads = 1
checkpoint = "compact"
[augment]
strength = 0.2
[sampling]
objects = 0.9
[[sources]]
kind = "review"
raster = "first.tif"
footprints = "first.review.gpkg"
"""


def town(path: Path, seed: int) -> gpd.GeoDataFrame:
    """Red blocks, which are buildings here, among blue ones, which are not; the truth, in lon/lat."""
    rng = np.random.default_rng(seed)
    height, width = 168, 216
    pixels = rng.integers(70, 110, (3, height, width)).astype(np.uint8)
    boxes = []
    for number in range(12):
        row, col = 14 + number // 4 * 50, 12 + number % 4 * 51
        h, w = rng.integers(24, 34, 2)
        red = number % 2 == seed % 2
        colour = np.array([190, 70, 60] if red else [70, 90, 190]) + rng.integers(-15, 15, 3)
        pixels[:, row : row + h, col : col + w] = colour[:, None, None] + rng.integers(-8, 8, (3, h, w))
        if red:
            boxes.append(shapely.box(col, row, col + w, row + h))
    transform = from_origin(335_000, 3_060_000, 0.2, 0.2)
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32645", transform=transform, photometric="RGB", **profile) as file:
        file.write(pixels)
    t = transform
    on_ground = [shapely.affinity.affine_transform(box, [t.a, t.b, t.d, t.e, t.c, t.f]) for box in boxes]
    return gpd.GeoDataFrame({"label": "building"}, geometry=on_ground, crs=32645, index=range(len(boxes))).to_crs(4326)


def correct(path: Path, truth: gpd.GeoDataFrame) -> pd.Series:
    """As an analyst would: right ones kept, false ones marked, missed ones drawn without filling in the form."""
    table = gpd.read_file(path, layer="footprints")
    shapes = truth.to_crs(table.crs).geometry.to_numpy()
    iou = np.array(
        [[a.intersection(b).area / a.union(b).area for b in shapes] for a in table.geometry] or np.zeros((0, 1))
    )
    table["review"] = np.where(iou.max(axis=1) >= 0.5, "keep", "wrong") if len(table) else None
    missed = shapes[iou.max(axis=0) < 0.5] if len(table) else shapes
    drawn = gpd.GeoDataFrame({"label": None}, geometry=missed, crs=table.crs, index=range(len(missed)))
    gpd.GeoDataFrame(pd.concat([table, drawn], ignore_index=True)).to_file(path, layer="footprints", driver="GPKG")
    return table["review"]


def test_what_is_corrected_makes_the_model_better(tmp_path: Path) -> None:
    first, other = town(tmp_path / "first.tif", 1), town(tmp_path / "other.tif", 2)
    before = geoseg.load_model("buildings", device="cpu")
    geoseg.write(geoseg.extract(tmp_path / "first.tif", before), tmp_path / "first.gpkg")
    review = write_review(tmp_path / "first.gpkg", review_path(tmp_path / "first.gpkg"))
    correct(review, first)
    (tmp_path / "finetune.toml").write_text(FINETUNE)
    config = read_train_config(tmp_path / "finetune.toml")
    assert config.model.architecture == before.card.architecture and config.model.gsd_m == before.card.gsd_m
    weights = train(config, tmp_path / "mine.safetensors", device="cpu", log=print)
    after = geoseg.load_model(weights, device="cpu")
    f1 = [evaluate(geoseg.extract(tmp_path / "other.tif", model), other).f1 for model in (before, after)]
    print("F1 before and after:", f1)
    assert f1[1] >= f1[0] + 0.1


def table(**columns: list[object]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=[shapely.box(0, 0, 1, 1)] * len(columns["review"]), crs=32645)


def test_each_verdict_is_what_it_says() -> None:
    reviewed = table(
        id=["a", "b", "c", None, None, "f", "g", "h"],
        label=["building"] * 3 + ["building", None] + ["building"] * 3,
        score=[0.9, 0.9, 0.9, np.nan, np.nan, 0.95, 0.6, 0.2],
        review=["keep", "wrong", "edited", "added", None, None, None, None],
    )
    source = ReviewSource(kind="review", raster="r.tif", footprints="f.gpkg")
    assert judged(reviewed, source, ("building",)).tolist() == [1, -1, 1, 1, 1, 0, 0, 0]
    ruled = source.model_copy(update={"keep_above": 0.9, "wrong_below": 0.3})
    assert judged(reviewed, ruled, ("building",)).tolist() == [1, -1, 1, 1, 1, 1, 0, -1]


def test_numbers_as_ids_are_ids() -> None:
    """Footprints with whole numbers were taken for drawn ones, hence for objects, whoever had judged them."""
    reviewed = table(id=[7, 8, None], label=["1", None, "2"], review=["wrong", None, None])
    assert judged(reviewed, ReviewSource(kind="review", raster="r", footprints="f"), ("1", "2")).tolist() == [-1, 0, 2]


def test_footprints_that_nobody_judged_are_told(caplog: pytest.LogCaptureFixture) -> None:
    source = ReviewSource(kind="review", raster="r.tif", footprints="f.gpkg")
    columns = {"id": ["a", "b"], "label": ["building"] * 2, "score": [0.9, 0.2]}
    caplog.set_level("INFO", logger="geoseg")
    judged(table(**columns, review=["keep", None]), source, ("building",))
    told = "2 footprints, of which objects 1, wrong 0, ignored 1 (keep 1, wrong 0, edited 0, added 0, not judged 1)"
    assert f"f.gpkg: {told}" in caplog.text
    judged(table(**columns, review=[None, None]), source.model_copy(update={"keep_above": 0.9}), ("building",))
    assert "nobody has judged" not in caplog.text
    judged(table(**columns, review=[None, None]), source, ("building",))
    assert "f.gpkg: nobody has judged any footprint" in caplog.text


def test_a_picture_shows_of_a_corrected_copy_what_is_true(tmp_path: Path, footprints: Path) -> None:
    """As the truth in a picture it had outlines of what an analyst had called wrong."""
    table = gpd.read_file(footprints, layer="footprints")
    parts = [table.assign(review=said).translate(30 * i, 0) for i, said in enumerate(("keep", "wrong", None))]
    marked = table.loc[[0, 0, 0]].assign(review=["keep", "wrong", None]).set_geometry(pd.concat(parts).to_numpy())
    marked.to_file(tmp_path / "copy.gpkg", layer="footprints")
    marked.iloc[:1].drop(columns="review").to_file(tmp_path / "true.gpkg")
    for name in ("copy", "true"):
        done = cli("preview", tmp_path / "first.tif", footprints, "-o", tmp_path / f"{name}.png",
                   "--truth", tmp_path / f"{name}.gpkg")  # fmt: skip
        assert done.exit_code == 0, done.stderr
    assert (tmp_path / "copy.png").read_bytes() == (tmp_path / "true.png").read_bytes()


def test_what_a_reviewed_run_did_not_examine_is_judged_by_nobody(tmp_path: Path, footprints: Path) -> None:
    """What a later run finds there was false, though nobody had looked: of an AOI's copy all beyond the AOI."""
    known = gpd.read_file(footprints, layer="footprints")
    beyond = gpd.GeoDataFrame(known.assign(id="other"), geometry=known.translate(12, 0), crs=known.crs)
    later = geoseg.write(gpd.GeoDataFrame(pd.concat([known, beyond], ignore_index=True)), tmp_path / "later.gpkg")
    unseen = gpd.GeoDataFrame(gaps(1, crs=known.crs), geometry=beyond.envelope.to_numpy(), crs=known.crs)
    part = geoseg.write(known, tmp_path / "part.gpkg", gaps=unseen.assign(reason="outside_aoi"))
    copy = write_review(part, tmp_path / "copy.gpkg")
    with sqlite3.connect(copy) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')  # they call functions that SQLite alone lacks
        db.execute("UPDATE footprints SET review = 'keep'")
    for more in ([], ["--aoi", "-180,-90,180,90"]):
        done = cli("evaluate", later, copy, "--json", *more)
        values = json.loads(done.stdout)
        assert (values["n_truth"], values["n_matched"], values["n_pred"]) == (1, 1, 1), done.stderr
        assert "the gaps of copy.gpkg" in values["area"]


@pytest.mark.parametrize(("saved_as", "aoi", "told"), [("", "", 0), ("mine.gpkg", "", 1), ("mine.gpkg", "aoi", 0)])
def test_a_copy_that_lost_its_gaps_is_told(
    tmp_path: Path, footprints: Path, caplog: pytest.LogCaptureFixture, saved_as: str, aoi: str, told: int
) -> None:
    """QGIS saves one layer as another file: training took nodata and what lay off the AOI for free of objects."""
    table = gpd.read_file(footprints, layer="footprints")
    review = write_review(geoseg.write(table, tmp_path / "whole.gpkg", gaps=gaps(0)), tmp_path / "whole.review.gpkg")
    table = gpd.read_file(review, layer="footprints").assign(review="keep")
    copy = tmp_path / (saved_as or review.name)
    table.to_file(copy, layer="mine" if saved_as else "footprints", driver="GPKG")
    table.to_file(tmp_path / "aoi.gpkg")
    settings = FINETUNE.replace("first.review.gpkg", copy.name) + (f'aoi = "{aoi}.gpkg"\n' if aoi else "")
    (tmp_path / "own.toml").write_text(settings)
    mix(read_train_config(tmp_path / "own.toml"))
    assert sum("holds no layer 'gaps'" in message for message in caplog.messages) == told


def test_a_corrected_copy_is_a_truth(tmp_path: Path, footprints: Path) -> None:
    """What is wrong is not asked for, what nobody judged is ignored, what was drawn has the one label there is."""
    copy = write_review(footprints, tmp_path / "copy.gpkg")
    found = gpd.read_file(footprints, layer="footprints")
    drawn = gpd.GeoDataFrame(geometry=found.translate(0, -12), crs=found.crs)
    twice = found.assign(id="other", geometry=found.translate(12, 0))
    for verdict, true, matched, crowd in (("keep", 2, 1, 1), ("wrong", 1, 0, 1), (None, 1, 0, 2)):
        rows = [found.assign(review=verdict), twice.assign(review=None), drawn]
        gpd.GeoDataFrame(pd.concat(rows, ignore_index=True)).to_file(copy, layer="footprints", driver="GPKG")
        values = json.loads(cli("evaluate", footprints, copy, "--json").stdout)
        assert (values["n_truth"], values["n_matched"], values["n_pred"]) == (true, matched, verdict is not None)
        coco = tmp_path / "coco.json"
        assert cli("export", copy, "--raster", tmp_path / "first.tif", "-o", coco).exit_code == 0
        known = json.loads(coco.read_text())
        assert [kind["name"] for kind in known["categories"]] == ["building"]
        assert [entry["iscrowd"] for entry in known["annotations"]].count(1) == crowd
        assert len(known["annotations"]) == true + crowd


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"review": ["kep"], "id": ["a"], "label": ["building"]}, "'kep' in 'review'.*keep, wrong"),
        ({"review": ["keep"], "id": ["a"], "label": ["tree"]}, "labels tree.*ignore_labels"),
        ({"review": [[]], "id": [[]], "label": ["building"]}, r"'\[\]' in 'review'.*keep, wrong"),
        ({"review": [1], "id": ["a"], "label": ["building"]}, "'1' in 'review'.*keep, wrong"),
        ({"review": ["keep", None], "id": ["a", "b"], "label": [2, None]}, "labels 2.*ignore_labels"),
        ({"review": [None], "id": ["a"], "label": ["building"], "score": ["high"]}, "scores that are no numbers"),
    ],
)
def test_verdicts_that_mean_nothing_are_refused(columns: dict[str, list[object]], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        judged(table(**columns), ReviewSource(kind="review", raster="r", footprints="f"), ("building",))


@pytest.fixture
def footprints(tmp_path: Path) -> Path:
    town(tmp_path / "first.tif", 1)

    class Known:
        card = geoseg.ModelCard(classes=("building",))

        def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
            found = geoseg.Instances(
                boxes=np.array([[20, 20, 50, 44]]), scores=[0.8], labels=[0], masks=[np.ones((4, 5), bool)]
            )
            return [found for _ in chips]

    geoseg.write(geoseg.extract(tmp_path / "first.tif", Known()), tmp_path / "first.gpkg")
    return tmp_path / "first.gpkg"


def test_a_copy_to_correct_offers_the_verdicts(footprints: Path) -> None:
    before = footprints.read_bytes()
    copy = write_review(footprints, review_path(footprints))
    assert copy.name == "first.review.gpkg" and footprints.read_bytes() == before
    reviewed = gpd.read_file(copy, layer="footprints")
    assert len(reviewed) and reviewed["review"].isna().all()
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(copy)) as db:
        (qml,) = db.execute("SELECT styleQML FROM layer_styles WHERE f_table_name = 'footprints'").fetchone()
    root = ET.fromstring(qml.split("\n", 1)[1])
    field = root.find("fieldConfiguration/field[@name='review']/editWidget[@type='ValueMap']")
    assert field is not None
    values = {option.get("value") for option in field.iter("Option") if option.get("type") == "QString"}
    assert values >= {"keep", "wrong", "edited", "added"}
    default = root.find("defaults/default[@field='review']")
    assert default is not None and default.get("applyOnUpdate") == "1"
    with pytest.raises(ConfigError, match="may hold corrections"):
        write_review(footprints, copy)
    with pytest.raises(ConfigError, match="own file"):
        write_review(footprints, footprints, force=True)
    assert cli("review", footprints.parent).exit_code == 2  # it was 70
    picture = cli("review", footprints.with_name("first.tif"))
    assert picture.exit_code == 2 and "no GeoPackage of geoseg's" in picture.stderr
    with pytest.raises(ConfigError, match="Correct it as it is"):  # the copy of a copy was x.review.review.gpkg
        write_review(copy, review_path(copy), force=True)


def test_what_qgis_has_saved_comes_along(footprints: Path, tmp_path: Path) -> None:
    """An open file keeps its last edits in a -wal beside it."""
    with closing(sqlite3.connect(footprints)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TEMP TABLE t AS SELECT 1")
        for trigger in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{trigger[0]}"')
        db.execute("UPDATE footprints SET label = 'EDITED' WHERE fid = 1")
        db.commit()
        assert Path(f"{footprints}-wal").exists()
        copy = write_review(footprints, tmp_path / "c.review.gpkg")
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT label FROM footprints WHERE fid = 1").fetchone() == ("EDITED",)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_forced_copy_does_not_take_over_an_old_journal(footprints: Path, tmp_path: Path) -> None:
    target = write_review(footprints, tmp_path / "c.review.gpkg")
    with closing(sqlite3.connect(target)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE notes (text)")
        db.executemany("INSERT INTO notes VALUES (?)", [("old " * 500,)] * 200)
        db.commit()
        write_review(footprints, target, force=True)
    with closing(sqlite3.connect(target)) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'notes'").fetchone() == (0,)
    assert not Path(f"{target}-wal").exists()


def test_other_files_are_no_footprints(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").write_bytes(b"no GeoPackage at all" * 100)
    with pytest.raises(ConfigError, match="no GeoPackage of geoseg's"):
        write_review(tmp_path / "a.gpkg", tmp_path / "b.gpkg")


def test_a_copy_is_a_geopackage_by_its_name(footprints: Path, tmp_path: Path) -> None:
    (tmp_path / "ortho.tif").write_bytes(b"imagery")
    with pytest.raises(ConfigError, match=r"ends in \.gpkg"):
        write_review(footprints, tmp_path / "ortho.tif", force=True)
    assert (tmp_path / "ortho.tif").read_bytes() == b"imagery"


def test_labels_aoi_ignored_regions_and_windows(tmp_path: Path) -> None:
    truth = town(tmp_path / "first.tif", 1)
    truth["what"] = ["building", "building", "building", "shed", "building", "building"]
    truth.to_file(tmp_path / "labels.gpkg")
    west, south, east, north = truth.total_bounds
    aoi = gpd.GeoDataFrame(geometry=[shapely.box(west - 1, south - 1, (west + east) / 2, north + 1)], crs=4326)
    aoi.to_file(tmp_path / "aoi.geojson")
    source = (
        'kind = "raster"\nraster = "first.tif"\nlabels = "labels.gpkg"\nlabel_column = "what"\naoi = "aoi.geojson"\n'
    )
    base = FINETUNE.split("[[sources]]")[0]
    path = tmp_path / "own.toml"
    path.write_text(f"{base}[[sources]]\n{source}")
    with pytest.raises(ConfigError, match=r"labels shed.*ignore_labels"):
        mix(read_train_config(path))
    drawn = []
    for hold in (0, 100):
        text = base.replace("threads = 1", f"threads = 1\nhold_mb = {hold}")
        path.write_text(f'{text}[[sources]]\n{source}ignore_labels = ["shed"]\n')
        drawn.append(mix(read_train_config(path)))
    windowed, held = (each.pools[0].image(0) for each in drawn)
    assert type(windowed.pixels).__name__ == "Windowed" and type(held.pixels).__name__ == "Held"
    assert 0 < len(held.polygons) < 5 and len(held.ignore) >= 2
    for index in range(4):
        one, two = (each.draw(index) for each in drawn)
        assert (one.pixels == two.pixels).all() and (one.target["ignore"] == two.target["ignore"]).all()
    assert any(held_chip.target["ignore"].any() for held_chip in (drawn[1].draw(i) for i in range(6)))
