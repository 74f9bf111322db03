"""`geoseg evaluate` and `geoseg export` from end to end."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from commands import cli
from rich.console import Console
from rich.table import Table

import geoseg
from geoseg.cli import console
from geoseg.coco import read_coco
from geoseg.evaluation import examined
from geoseg.sinks.provenance import run_file

TRANSFORM = Affine.translation(500_000, 3_000_000) @ Affine.rotation(10) @ Affine.scale(0.5, -0.5)


class Bright:
    """A real detector for tests: every bright blob is an object."""

    card = geoseg.ModelCard(classes=("blob",), name="bright", core=64, halo=16)

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        from scipy import ndimage

        found = []
        for chip in chips:
            labelled, _ = ndimage.label(chip.pixels[0] > 100)
            places = ndimage.find_objects(labelled)
            masks = [labelled[place] == i for i, place in enumerate(places, 1)]
            boxes = [[p[1].start, p[0].start, p[1].stop, p[0].stop] for p in places]
            found.append(
                geoseg.Instances(
                    boxes=np.array(boxes, np.float32).reshape(-1, 4),
                    scores=np.full(len(places), 0.9, np.float32),
                    labels=np.zeros(len(places), np.int64),
                    masks=masks,
                )
            )
        return found


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A rotated raster with a lattice of blobs, and its truth; the blobs of the right half are in it too."""
    folder = tmp_path_factory.mktemp("ground")
    pixels = np.zeros((1, 150, 260), np.uint8)
    shapes = []
    for row in range(10, 140, 26):
        for col in range(8, 240, 24):
            pixels[0, row : row + 9, col : col + 12] = 200
            shapes.append(shapely.box(col, row, col + 12, row + 9))
    path = folder / "blobs.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=150, width=260, dtype="uint8", crs="EPSG:32645", transform=TRANSFORM
    ) as dataset:
        dataset.write(pixels)
    moved = [shapely.affinity.affine_transform(shape, TRANSFORM.to_shapely()) for shape in shapes]
    truth = folder / "truth.geojson"
    gpd.GeoDataFrame(geometry=moved, crs=32645).to_crs(4326).to_file(truth)
    return path, truth


def extracted(raster: Path, output: Path, aoi: Any = None) -> Path:
    settings = geoseg.Settings.model_validate({"raster": {"bands": {"gray": 1}}})
    done = geoseg.run(raster, Bright(), aoi=aoi, settings=settings)
    return geoseg.write(done.footprints, output, gaps=done.gaps, run=done.report.as_dict())


def test_a_run_with_an_aoi_is_judged_inside_it(ground: tuple[Path, Path], tmp_path: Path) -> None:
    raster, truth = ground
    left = shapely.affinity.affine_transform(shapely.box(0, 0, 128, 150), TRANSFORM.to_shapely())
    aoi = gpd.GeoDataFrame(geometry=[left], crs=32645)
    for name in ("part.gpkg", "part.geojson"):
        part = extracted(raster, tmp_path / name, aoi)
        result = cli("evaluate", part, truth)
        assert result.exit_code == 0, result.output
        assert "looked: its AOI; 25 true objects lie outside" in result.stdout
        values = json.loads(cli("evaluate", part, truth, "--json").stdout)
        assert (values["n_truth"], values["n_matched"], values["recall"]) == (25, 25, 1.0)
        assert "its AOI" in values["area"]
    whole = ",".join(str(v) for v in gpd.read_file(truth).total_bounds)
    told = cli("evaluate", tmp_path / "part.gpkg", truth, "--aoi", whole)
    assert "what it did not see is missed" in told.output
    assert json.loads(cli("evaluate", tmp_path / "part.gpkg", truth, "--aoi", whole, "--json").stdout)["n_truth"] == 50


def test_what_of_an_aoi_lies_beyond_the_raster_is_not_missed(ground: tuple[Path, Path], tmp_path: Path) -> None:
    raster, truth = ground
    far = gpd.read_file(truth)
    both = tmp_path / "more.gpkg"
    beyond = gpd.GeoDataFrame(geometry=far.translate(0.01, 0), crs=far.crs)
    gpd.GeoDataFrame(gpd.pd.concat([far, beyond])[["geometry"]], crs=far.crs).to_file(both)
    west, south, east, north = gpd.read_file(both).total_bounds
    wide = f"{west - 0.1},{south - 0.1},{east + 0.1},{north + 0.1}"
    values = json.loads(cli("evaluate", extracted(raster, tmp_path / "all.gpkg", wide), both, "--json").stdout)
    assert (values["n_truth"], values["n_matched"]) == (50, 50)
    assert "its AOI on its raster; 50 true objects lie outside" in values["area"]
    nowhere = cli("evaluate", extracted(raster, tmp_path / "none.gpkg", "0,0,1,1"), truth, "--json")
    assert nowhere.exit_code == 0 and json.loads(nowhere.stdout)["n_truth"] == 0


@pytest.mark.parametrize("crs", [32601, 4326])
def test_an_aoi_beyond_180_degrees_meets_an_extent_on_either_side_of_it(tmp_path: Path, crs: int) -> None:
    aoi = gpd.GeoSeries([shapely.box(179.5, 52, 180.5, 53)], crs=4326)
    frame = gpd.GeoSeries([shapely.box(-179.9, 52.1, -179.8, 52.2)], crs=4326).to_crs(crs)
    rows = gpd.GeoDataFrame({"label": ["a"]}, geometry=frame.to_list(), crs=crs)
    run = {"run": "1", "aoi": f"SRID=4326;{aoi[0].wkt}", "extent": f"SRID={crs};{frame[0].wkt}"}
    found = examined(geoseg.write(rows, tmp_path / "a.gpkg", run=run))
    assert found is not None and found.aoi is not None and found.said == "its AOI on its raster"
    np.testing.assert_allclose(found.aoi.total_bounds, (180.1, 52.1, 180.2, 52.2), atol=0.001)


def test_an_area_noted_in_a_file_opens_no_other_file(ground: tuple[Path, Path], tmp_path: Path) -> None:
    raster, truth = ground
    part = extracted(raster, tmp_path / "part.geojson")
    noted = json.loads(run_file(part).read_text(encoding="utf-8"))
    for aoi in (str(truth), {"a": 1}, "/vsicurl/http://127.0.0.1:9/a.gpkg"):
        run_file(part).write_text(json.dumps({**noted, "aoi": aoi}), encoding="utf-8")
        found = examined(part)
        assert found is not None and found.said.startswith("its raster")


def test_a_whole_run_is_judged_on_its_raster(ground: tuple[Path, Path], tmp_path: Path) -> None:
    raster, truth = ground
    far = gpd.read_file(truth)
    beyond = gpd.GeoDataFrame(geometry=far.translate(0.01, 0), crs=far.crs)
    both = tmp_path / "more.gpkg"
    gpd.GeoDataFrame(gpd.pd.concat([far, beyond])[["geometry"]], crs=far.crs).to_file(both)
    values = json.loads(cli("evaluate", extracted(raster, tmp_path / "all.gpkg"), both, "--json").stdout)
    assert (values["n_truth"], values["n_matched"]) == (50, 50)
    assert "its raster; 50 true objects lie outside" in values["area"]
    plain = gpd.read_file(tmp_path / "all.gpkg", layer="footprints")
    plain.to_file(tmp_path / "plain.gpkg")
    told = cli("evaluate", tmp_path / "plain.gpkg", both, "--json")
    values = json.loads(told.stdout)
    assert values["n_truth"] == 100 and values["area"] is None
    assert "plain.gpkg does not say where its run looked" in told.stderr
    marked = gpd.read_file(both).assign(ignore=[0] * 70 + [1] * 30)
    marked.to_file(both)
    values = json.loads(cli("evaluate", tmp_path / "all.gpkg", both, "--json").stdout)
    assert "its raster; 20 true objects lie outside" in values["area"], "regions to ignore are no objects"


def test_what_counts_nothing_shows_no_rates(tmp_path: Path) -> None:
    """Ground without anything read as a perfect answer: F1 1.000, best F1 1.000, calibration error nan."""
    squares = [shapely.box(x, 0, x + 8, 8) for x in (0, 40, 80)]
    table = gpd.GeoDataFrame({"score": [0.3, 0.6, 0.9]}, geometry=squares, crs=32645)
    pred, bare, truth = tmp_path / "pred.gpkg", tmp_path / "bare.gpkg", tmp_path / "truth.gpkg"
    table.to_file(pred)
    table[["geometry"]].to_file(bare)
    table.iloc[:1].to_file(truth)
    west, south, east, north = gpd.GeoSeries([shapely.box(200, 0, 220, 20)], crs=32645).to_crs(4326).total_bounds
    aside, page = f"{west},{south},{east},{north}", tmp_path / "page.html"
    result = cli("evaluate", pred, truth, "--aoi", aside, "--sweep", "--report", page)
    assert result.exit_code == 0, result.output
    assert [line.split()[-7:] for line in result.stdout.splitlines()[1:3]] == [[*"----", *"000"]] * 2
    assert "nan" not in result.stdout and "1.000" not in result.stdout and "best F1 " not in result.stdout
    assert "1.000" not in page.read_text()
    values = json.loads(cli("evaluate", pred, truth, "--aoi", aside, "--json").stdout)
    assert values["f1"] == 1.0 and values["best_f1"] is None, "rates of nothing stay what they are to programs"
    told = cli("evaluate", bare, truth, "--sweep")
    assert "no prediction has a score" in told.stderr and "score >=" not in told.stdout


def test_no_name_of_a_table_is_cut_off_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=said, force_terminal=True, width=60, color_system=None))
    label, columns = "a_residential_building", ("precision", "recall", "F1", "mean IoU", "predicted", "matched")
    table = Table("IoU >= 0.5", *columns, box=None, pad_edge=False)
    table.add_row(label, *["0.123"] * len(columns))
    console.show(table)
    assert "\u2026" not in said.getvalue()
    assert label in "".join(line.split(" ")[0] for line in said.getvalue().splitlines())


def test_the_best_threshold_of_several_images_is_a_score(tmp_path: Path) -> None:
    """It was -1 where all predictions together are best, and no step of 0.01 where others fell between two scores."""
    outline = [[10, 5, 30, 5, 30, 25, 10, 25]]
    images = [{"id": i, "file_name": f"{i}.png", "height": 90, "width": 120} for i in (1, 2)]
    each = {"category_id": 1, "segmentation": outline}
    known = {"images": images, "categories": [{"id": 1, "name": "hut"}]}
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    truth.write_text(json.dumps({**known, "annotations": [{"id": i, "image_id": i, **each} for i in (1, 2)]}))
    found.write_text(json.dumps([{"image_id": i, "score": score, **each} for i, score in ((1, 0.316), (2, 0.632))]))
    best = json.loads(cli("evaluate", found, truth, "--sweep", "--json").stdout)["best"]
    assert (best["score_threshold"], best["f1"], best["n_matched"]) == (0.31, 1.0, 2)


def test_unmatched_objects_add_up_to_the_table(tmp_path: Path) -> None:
    corners = {
        # found twice; split in three; two merged; poor; missed; false; two of which one is found by what merges them
        "truth": [(0, 0, 10, 10), (100, 0, 130, 10), (200, 0, 210, 10), (212, 0, 222, 10), (300, 0, 310, 10),
                  (400, 0, 410, 10), (500, 0, 530, 20), (532, 0, 536, 4)],
        "pred": [(0, 0, 10, 9), (0, 0, 10, 6), (100, 0, 109, 10), (110.5, 0, 119, 10), (121, 0, 130, 10),
                 (199, 0, 223, 10), (305, 0, 315, 10), (600, 0, 610, 10), (500, 0, 537, 20)],
    }  # fmt: skip
    for name, places in corners.items():
        shapes = [shapely.affinity.translate(shapely.box(*place), 500_000, 3_000_000) for place in places]
        gpd.GeoDataFrame(geometry=shapes, crs=32645).to_file(tmp_path / f"{name}.gpkg")
    done = cli("evaluate", tmp_path / "pred.gpkg", tmp_path / "truth.gpkg")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert lines["all"].split()[-3:] == ["9", "8", "2"]
    assert lines["errors"].split(None, 1)[1] == "1 missed, 1 false, 1 poor outline, 1 duplicate, 1 split, 2 merged"
    assert lines["unmatched"].split(None, 1)[1] == (
        "7 predicted = 1 false + 1 poor outline + 1 duplicate + 4 in splits or mergers; "
        "6 true = 1 missed + 1 poor outline + 1 split + 3 swallowed"
    )


def test_errors_open_styled_in_qgis(ground: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster, truth = ground
    found = extracted(raster, tmp_path / "all.gpkg")
    less = tmp_path / "less.gpkg"
    gpd.read_file(truth).iloc[2:].to_file(less)
    errors, report, page = tmp_path / "errors.gpkg", tmp_path / "out.json", tmp_path / "out.html"
    for target in (report, page):
        assert cli("evaluate", found, less, "--errors", errors, "--report", target).exit_code == 0
    layer = gpd.read_file(errors, layer="errors")
    assert layer["kind"].tolist() == ["false", "false"] and layer.crs == 32645
    with closing(sqlite3.connect(errors)) as db:
        ((name, style),) = db.execute("SELECT f_table_name, styleQML FROM layer_styles WHERE useAsDefault").fetchall()
    assert name == "errors" and all(kind in style for kind in ("missed", "poor outline", "duplicate", "merged"))
    values = json.loads(report.read_text())
    assert values["errors"]["false"] == 2 and values["masks"]["ap50"] > 0.9 and values["intervals"]["blocks"] >= 8
    text = page.read_text()
    assert text.startswith("<!doctype html>") and text.count("<svg") == 2 and "PoLiS" in text
    assert 'name="viewport"' in text and text.count('aria-label="') == 2  # for phones and for screen readers
    assert cli("evaluate", found, less, "--errors", tmp_path / "errors.geojson").exit_code == 0
    assert len(gpd.read_file(tmp_path / "errors.geojson")) == 2
    monkeypatch.setattr("geoseg.evaluation.assess", None)  # what cannot be written is refused before the work
    absent = tmp_path / "absent"
    for wrong in (["--errors", found], ["--report", tmp_path / "x.pdf"], ["--errors", tmp_path / "x.shp"]):
        assert cli("evaluate", found, less, *wrong).exit_code == 2
    for wrong in (["--errors", absent / "x.gpkg"], ["--report", absent / "x.json"]):
        assert cli("evaluate", found, less, *wrong).exit_code == 2


def test_what_makes_no_sense_is_said(ground: tuple[Path, Path], tmp_path: Path) -> None:
    truth = gpd.read_file(ground[1])
    far = tmp_path / "far.geojson"
    gpd.GeoDataFrame(geometry=truth.translate(1, 1), crs=truth.crs).to_file(far)
    result = cli("evaluate", ground[1], far)
    assert result.exit_code == 2 and "km apart" in result.output
    pred = tmp_path / "pred.geojson"
    truth.assign(label="a", score=0.5).to_file(pred)
    truth.assign(label="b").to_file(far)
    result = cli("evaluate", pred, far, "--sweep")
    assert result.output.count("no label is on both sides") == 1


def test_coco_out_and_in_again(ground: tuple[Path, Path], tmp_path: Path) -> None:
    raster, truth = ground
    found = extracted(raster, tmp_path / "all.gpkg")
    for source, masks, target in ((found, "polygon", "pred.json"), (truth, "rle", "truth.json")):
        result = cli("export", source, "--raster", raster, "-o", tmp_path / target, "--masks", masks)
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == str(tmp_path / target)
    coco = read_coco(tmp_path / "truth.json")
    assert coco.images[0].file_name == "blobs.tif" and (coco.images[0].height, coco.images[0].width) == (150, 260)
    assert sorted(a.polygon.bounds for a in coco.annotations)[0] == (8.0, 10.0, 20.0, 19.0)
    values = json.loads(
        cli("evaluate", tmp_path / "pred.json", tmp_path / "truth.json", "--any-label", "--json").stdout
    )
    assert (values["n_matched"], values["masks"]["ap"]) == (50, pytest.approx(1.0))
    table = cli("evaluate", tmp_path / "pred.json", tmp_path / "truth.json", "--any-label").stdout
    assert table.rstrip().endswith("counted in   1 image")
    for mixed in ((found, tmp_path / "truth.json"), (tmp_path / "pred.json", truth)):
        result = cli("evaluate", *mixed)
        assert result.exit_code == 2 and "only one is COCO" in result.output
    assert cli("export", found, "--raster", raster, "-o", tmp_path / "x.txt").exit_code == 2
    assert cli("evaluate", tmp_path / "pred.json", tmp_path / "truth.json", "--aoi", "0,0,1,1").exit_code == 2


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", None])
def test_gaps_of_a_run_stay_beside_those_of_a_copy_that_name_no_crs(crs: str | None) -> None:
    from geoseg.cli.evaluate import _together

    ours = gpd.GeoDataFrame(geometry=[shapely.box(500_000, 0, 500_010, 7)], crs="EPSG:32633")
    theirs = ours.to_crs(crs) if crs else ours.set_crs(None, allow_override=True)
    both = _together(ours, theirs)
    assert len(both) == 2 and both.crs == ours.crs
    assert abs(both.geometry.area - 70).max() < 1e-3


def test_truth_ends_where_the_imagery_does(tmp_path: Path) -> None:
    """What the raster's edge cuts is found as far as it is seen; what lies mostly beyond counts neither way."""
    pixels = np.zeros((1, 150, 260), np.uint8)
    pixels[0, 40:60, :10] = pixels[0, 145:, 100:130] = pixels[0, 70:90, 200:230] = 200
    with rasterio.open(
        tmp_path / "edge.tif", "w", driver="GTiff", count=1, height=150, width=260, dtype="uint8",
        crs="EPSG:32645", transform=TRANSFORM,
    ) as out:  # fmt: skip
        out.write(pixels)
    extracted(tmp_path / "edge.tif", tmp_path / "found.gpkg")
    boxes = [shapely.box(-9, 40, 10, 60), shapely.box(100, 145, 130, 170), shapely.box(200, 70, 230, 90)]
    whole = [shapely.affinity.affine_transform(each, TRANSFORM.to_shapely()) for each in boxes]
    gpd.GeoDataFrame(geometry=whole, crs="EPSG:32645").to_crs(4326).to_file(tmp_path / "truth.geojson")
    values = json.loads(cli("evaluate", tmp_path / "found.gpkg", tmp_path / "truth.geojson", "--json").stdout)
    assert (values["n_pred"], values["n_truth"], values["n_matched"]) == (2, 2, 2), values
    assert values["mean_iou"] > 0.97
