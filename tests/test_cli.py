"""The command line: what each command prints, writes and exits with."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
import typer
from affine import Affine
from commands import cli
from pyproj import Geod, Transformer
from rasters import DEGREES, ROTATED, SOUTH_UP, UTM, texture, write
from rich.text import Text
from typer.testing import CliRunner

from geoseg import job
from geoseg.cli import app, checks
from geoseg.cli.console import any_name
from geoseg.cli.exits import Commands
from geoseg.raster import open_raster
from geoseg.sinks import written_run

HEIGHT, WIDTH = 150, 210


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return write(tmp_path / "a town.tif", texture(3, HEIGHT, WIDTH), photometric="rgb")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A raster of one tile, for tests that run the network but count nothing."""
    return write(tmp_path / "small.tif", texture(3, 40, 56), photometric="rgb")


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Two footprints in a GeoPackage."""
    shapes = [shapely.box(x, 3_060_000, x + 10, 3_060_008) for x in (300_000, 300_100)]
    path = tmp_path / "squares.gpkg"
    gpd.GeoDataFrame({"score": [0.9, 0.4]}, geometry=shapes, crs=UTM).to_file(path, layer="footprints")
    return path


# --- the app itself ---------------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert cli("--version").output.startswith("geoseg 0.")
    listed = cli("--help").output
    for command in ("extract", "plan", "models", "doctor", "evaluate", "export", "preview", "train"):
        assert command in listed
    assert "70 a fault" in " ".join(listed.split())


def test_help_names_a_type_where_there_is_a_value() -> None:
    for words in (("extract",), ("models",), ("models", "add"), ()):
        said = cli(*words, "--help").output
        assert said.count("<bool>") <= 1, said  # of typer's own --help
    listed = " ".join(cli("extract", "--help").output.split())
    for said in ("RASTER", "LOW,HIGH", "0..1", "--core N ", "Unset: the model's"):
        assert said in listed, said


def test_help_calls_what_is_given_by_the_names_in_the_docs() -> None:
    """RASTER, CONFIG, ...: the texts beside them, and docs/cli.md, speak of these."""
    docs = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for given in (p.metavar for p in command.params if p.param_type_name == "argument"):
            assert re.search(rf"geoseg {name} .*\b{given}\b", docs), (name, given)


def test_no_help_is_taken_for_markup() -> None:
    """rich drops what stands in square brackets."""
    group = typer.main.get_command(app)
    commands = [
        *group.commands.items(),
        *((f"models {name}", c) for name, c in group.commands["models"].commands.items()),
    ]
    texts = {name: [c.help or "", *(getattr(p, "help", None) or "" for p in c.params)] for name, c in commands}
    assert len(texts) > 14
    for name, helps in texts.items():
        assert [Text.from_markup(said).plain for said in helps] == helps, name


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from geoseg.cli import app;"
        "CliRunner().invoke(app, ['extract', '--help']);"
        "print([m for m in ('torch', 'rasterio', 'dask', 'geopandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_usage_exits_2() -> None:
    assert cli("extract").exit_code == 2
    assert cli("nonsense").exit_code == 2


def test_an_interruption_says_what_is_left() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def stop_and_tell() -> None:
        raise KeyboardInterrupt("no step is kept yet")

    stopping = typer.Typer(cls=Commands)
    stopping.command("train")(stop_and_tell)
    stopping.command("extract")(stop)
    for name, left in (("train", "no step is kept yet"), ("extract", "no output is left half-written")):
        result = CliRunner().invoke(stopping, [name])
        assert result.exit_code == 130
        assert left in " ".join(result.stderr.split())


# --- plan -------------------------------------------------------------------------------------------------


def test_plan_replaces_a_plan_and_nothing_else(squares: Path, small: Path, tmp_path: Path) -> None:
    before = squares.read_bytes()
    refused = cli("plan", small, "-o", squares)
    assert refused.exit_code == 4 and "footprints" in refused.output and squares.read_bytes() == before
    tiles = tmp_path / "tiles.gpkg"
    assert [cli("plan", small, "-o", tiles).exit_code for _ in range(2)] == [0, 0]
    assert cli("plan", small, "-o", squares, "--force").exit_code == 0
    with closing(sqlite3.connect(squares)) as db:
        styles = dict(db.execute("SELECT f_table_name, styleQML FROM layer_styles WHERE useAsDefault").fetchall())
        shown = {name for (name,) in db.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'")}
    assert set(styles) == shown == {"cores", "windows"}
    assert "dash" in styles["windows"] and "dash" not in styles["cores"]


@pytest.mark.parametrize(
    ("transform", "crs"),
    [(ROTATED, UTM), (SOUTH_UP, UTM), (DEGREES, "EPSG:4326")],
    ids=["rotated", "south-up", "degrees"],
)
def test_plan_covers_the_raster_once(tmp_path: Path, transform: object, crs: str) -> None:
    raster = write(tmp_path / "r.tif", texture(3, HEIGHT, WIDTH), transform=transform, crs=crs)
    result = cli("plan", raster, "-o", tmp_path / "tiles.gpkg", "--core", 64, "--halo", 8)
    assert result.exit_code == 0, result.output
    cores = gpd.read_file(tmp_path / "tiles.gpkg", layer="cores")
    windows = gpd.read_file(tmp_path / "tiles.gpkg", layer="windows")
    assert len(cores) == len(windows) == 3 * 4
    assert set(cores.geom_type) | set(windows.geom_type) == {"MultiPolygon"}  # as the layers' headers say
    cores, windows = (table.set_crs(UTM, allow_override=True) for table in (cores, windows))  # areas as they are
    whole = shapely.Polygon([transform @ corner for corner in ((0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT))])
    assert cores.union_all().symmetric_difference(whole).area < 1e-9 * whole.area
    assert cores.area.sum() == pytest.approx(whole.area)
    assert windows.area.sum() > cores.area.sum() * 1.1
    assert (cores.height * cores.width).sum() == HEIGHT * WIDTH


def test_plan_takes_rows_and_columns_apart(tmp_path: Path, raster: Path) -> None:
    sides = ("--core", "40,100", "--halo", "4,16")
    assert cli("plan", raster, "-o", tmp_path / "tiles.gpkg", *sides).exit_code == 0
    cores, windows = (gpd.read_file(tmp_path / "tiles.gpkg", layer=name) for name in ("cores", "windows"))
    assert (cores.height.max(), cores.width.max()) == (40, 100)
    assert (windows.height.max(), windows.width.max()) == (48, 126)
    refused = cli("plan", raster, "-o", tmp_path / "t.gpkg", "--core", "4x10")
    assert refused.exit_code == 2 and "rows,columns" in refused.output


@pytest.mark.parametrize(("suffix", "epsg"), [(".geojson", 4326), (".fgb", 32645)])
def test_plan_in_one_layer(tmp_path: Path, raster: Path, suffix: str, epsg: int) -> None:
    assert cli("plan", raster, "-o", tmp_path / f"tiles{suffix}", "--core", 100, "--halo", 0).exit_code == 0
    tiles = gpd.read_file(tmp_path / f"tiles{suffix}")
    assert tiles.kind.value_counts().to_dict() == {"core": 6, "window": 6}
    assert tiles.crs.to_epsg() == epsg


def test_plan_in_degrees_is_cut_at_the_antimeridian(tmp_path: Path) -> None:
    east, north = Transformer.from_crs(4326, 32760, always_xy=True).transform(180.0, -17.0)
    transform = Affine(5, 0, east - 500, 0, -5, north)
    raster = write(tmp_path / "fiji.tif", texture(3, HEIGHT, WIDTH), transform=transform, crs="EPSG:32760")
    assert cli("plan", raster, "-o", tmp_path / "tiles.geojson", "--core", 64, "--halo", 8).exit_code == 0
    tiles = gpd.read_file(tmp_path / "tiles.geojson")
    parts = tiles.geometry.explode().bounds
    assert {-180.0, 180.0} < set(parts[["minx", "maxx"]].to_numpy().ravel())
    assert (parts.maxx - parts.minx).max() < 0.01
    cores = tiles[tiles.kind == "core"].to_crs(32760)
    assert cores.area.sum() == pytest.approx(HEIGHT * WIDTH * 25, rel=1e-4)


def test_plan_in_degrees_ends_at_the_rim_of_the_earth(tmp_path: Path) -> None:
    """A world in an oval: in degrees its corners were infinite, and such tiles came without a shape."""
    place = Affine(310_000, 0, -18.6e6, 0, -206_000, 9.27e6)
    raster = write(tmp_path / "world.tif", texture(3, 90, 120), crs="ESRI:54009", transform=place)
    assert cli("plan", raster, "-o", tmp_path / "tiles.geojson", "--core", 32, "--halo", 0).exit_code == 0
    tiles = gpd.read_file(tmp_path / "tiles.geojson")
    cores = tiles[tiles["kind"] == "core"].geometry
    assert len(cores) == 12 and not cores.isna().any()
    area = sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(core.segmentize(0.5))[0]) for core in cores)
    assert area == pytest.approx(5.1e14, rel=0.05)  # all of the earth; edges are straight on the map, not in degrees


def test_plan_asks_not_for_what_only_pixels_tell(tmp_path: Path) -> None:
    raster = write(tmp_path / "r.tif", np.zeros((4, HEIGHT, WIDTH), np.uint16), nodata=0)
    for rule in ("low = [0, 0, 0], high = [9, 9, 9]", "percentiles = [2, 98]"):  # of three bands; of valid pixels
        (tmp_path / "run.toml").write_text(f"[raster]\nscaling = {{ {rule} }}\n")
        result = cli("plan", raster, "-o", tmp_path / "t.gpkg", "--config", tmp_path / "run.toml")
        assert result.exit_code == 0, result.output


def test_plan_refuses_what_a_run_of_the_model_would(tmp_path: Path, weights: Path) -> None:
    grey = write(tmp_path / "grey.tif", texture(3, HEIGHT, WIDTH, "uint8"), photometric="minisblack")
    deep = write(tmp_path / "deep.tif", texture(3, HEIGHT, WIDTH, "uint16"), photometric="rgb")
    bands, scaling = ("--bands", "red=3,green=2,blue=1"), ("--scaling", "0,3000")
    for path, options in (
        (grey, ()),
        (grey, ("--bands", "red=3,green=2,blue=4")),
        (deep, ()),
        (deep, ("--bands", "nir=1")),
        (deep, ("--bands", "red=3,green=2,blue=1")),
    ):
        said = []
        for command in ("plan", "extract"):
            result = cli(command, path, "-o", tmp_path / f"{command}.gpkg", "-m", weights, *options)
            assert result.exit_code == 2, result.output
            said.append(result.output.partition("ERROR")[2])  # after the time
        assert said[0] == said[1] and "Allowed" in said[0]
        assert not (tmp_path / "plan.gpkg").exists()
    for path, options in ((grey, bands), (deep, scaling), (deep, ("--stretch", "2,98"))):
        result = cli("plan", path, "-o", tmp_path / "plan.gpkg", "-m", weights, *options)
        assert result.exit_code == 0, result.output
    # Without a model nothing is asked of bands or values.
    assert all(cli("plan", path, "-o", tmp_path / "plan.gpkg").exit_code == 0 for path in (grey, deep))


def test_plan_takes_core_and_halo_from_the_model(tmp_path: Path, raster: Path, weights: Path) -> None:
    assert cli("plan", raster, "-o", tmp_path / "t.gpkg", "--model", weights).exit_code == 0
    cores = gpd.read_file(tmp_path / "t.gpkg", layer="cores")
    assert sorted(set(cores.width)) == [18, 96]


def test_plan_shows_the_tiles_that_a_run_would_do(tmp_path: Path, raster: Path) -> None:
    # A sliver along the diagonal: its window is the whole raster, but it asks for few of the tiles.
    wkt = "SRID=32645;POLYGON((300001 3059999, 300103 3059926, 300104 3059927, 300001 3059999))"
    result = cli("plan", raster, "-o", tmp_path / "t.gpkg", "--core", 16, "--halo", 0, "--aoi", wkt)
    assert result.exit_code == 0, result.output
    cores = gpd.read_file(tmp_path / "t.gpkg", layer="cores")
    assert cores.intersects(shapely.from_wkt(wkt.partition(";")[2])).all()
    assert 14 <= len(cores) < 40


def test_plan_refuses_what_is_no_raster(tmp_path: Path) -> None:
    (tmp_path / "page.tif").write_text("<html>404</html>")
    result = cli("plan", tmp_path / "page.tif", "-o", tmp_path / "t.gpkg")
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "t.gpkg").exists()


# --- evaluate ---------------------------------------------------------------------------------------------


def test_evaluate_prints_and_gives_json(squares: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.geojson"
    gpd.read_file(squares).iloc[:1].to_crs(4326).to_file(truth)
    assert "0.667" in cli("evaluate", squares, truth).output
    scores = json.loads(cli("evaluate", squares, truth, "--json", "--sweep").output)
    assert (scores["n_pred"], scores["n_truth"], scores["n_matched"]) == (2, 1, 1)
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["best"]["f1"] == 1.0
    assert 0.4 < scores["best"]["score_threshold"] <= 0.9


def test_evaluate_inside_an_aoi(squares: Path) -> None:
    west, south, east, north = gpd.read_file(squares).iloc[:1].to_crs(4326).total_bounds
    bbox = f"{west - 1e-5},{south - 1e-5},{east + 1e-5},{north + 1e-5}"
    wkt = shapely.box(west - 1e-5, south - 1e-5, east + 1e-5, north + 1e-5).wkt
    for aoi in (bbox, wkt):
        scores = json.loads(cli("evaluate", squares, squares, "--aoi", aoi, "--json").output)
        assert (scores["n_pred"], scores["n_truth"]) == (1, 1)
    assert cli("evaluate", squares, squares, "--aoi", "1,2,3").exit_code == 2


def test_a_table_keeps_one_line_per_row_when_piped(squares: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.geojson"
    gpd.read_file(squares).iloc[:1].to_crs(4326).to_file(truth)
    lines = cli("evaluate", squares, truth, "--sweep").stdout.splitlines()
    assert lines[0].startswith("IoU >= 0.5 ") and lines[0].split()[-1] == "matched"
    assert lines[1].startswith("all") and lines[1].split()[-1] == "1"
    assert lines[2].startswith("score >= ") and lines[2].split()[-1] == "1"
    assert max(map(len, lines[:3])) < 80  # a terminal of the usual width breaks none


def test_evaluate_refuses_what_is_no_vector_file(squares: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gpkg").write_text("nothing")
    for wrong in (tmp_path / "x.gpkg", tmp_path / "absent.gpkg"):
        result = cli("evaluate", wrong, squares)
        assert result.exit_code == 2
        assert wrong.name in result.output
        assert "Traceback" not in result.output


# --- models, doctor ---------------------------------------------------------------------------------------


def test_models_lists_the_bundled_cards() -> None:
    cards = json.loads(cli("models", "--json").output)
    table = cli("models").output
    assert all(card["name"] in table for card in cards)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("models",), "geoseg.detectors.bundled_models"),
        (("doctor",), "geoseg.cli.doctor.all_checks"),
        (("status", "."), "geoseg.archive.archive_status"),
        (("models", "add", "a"), "geoseg.zoo.add_model"),
        (("models", "export", "a", "-o", "b"), "geoseg.zoo.export_model"),
        (("review", "a.gpkg"), "geoseg.sinks.review.write_review"),
    ],
)
def test_a_fault_shows_its_traceback_as_its_message_says(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], fault: str
) -> None:
    home, _, name = fault.rpartition(".")

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(importlib.import_module(home), name, fail)
    plain, more = cli(*words), cli(*words, "-v")
    assert plain.exit_code == more.exit_code == 70 and "Run again with -v" in plain.stderr
    assert "Traceback" in more.stderr and "Traceback" not in plain.stderr


def test_doctor_finds_this_installation_in_order() -> None:
    result = cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.output)}
    assert result.exit_code == 0, checks
    assert {"python", "packages", "torch", "torchvision", "gpu", "gdal", "proj", "geoseg", "models", "disk"} <= set(
        checks
    )


def test_doctor_names_the_variable_that_leads_gdal_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJ_LIB", str(tmp_path))
    (gdal,) = checks._gdal()
    assert gdal.status == "broken" and ("proj.db" in gdal.found or "CRSError" in gdal.found)
    assert gdal.remedy == "Unset PROJ_LIB"


def test_doctor_names_a_torchvision_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "torchvision"
    fake.mkdir()
    (fake / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.output)}
    assert result.exit_code == 4
    assert checks["torchvision"]["status"] == "broken"
    assert "nms does not exist" in checks["torchvision"]["found"]
    assert "both" in checks["torchvision"]["remedy"]


def test_doctor_names_a_package_that_geoseg_cannot_be_loaded_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there in a wrong version stops `extract`, whose message names this command: it has to find it, too."""
    fake = tmp_path / "pydantic"
    fake.mkdir()
    (fake / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    check = checks._parts()
    assert check.status == "broken" and "from 'pydantic'" in check.found
    assert "pip check" in check.remedy


# --- extract ----------------------------------------------------------------------------------------------


def test_extract_writes_a_geopackage_and_a_report(tmp_path: Path, raster: Path, weights: Path) -> None:
    out, report = tmp_path / "found.gpkg", tmp_path / "report.json"
    result = cli("extract", raster, "-o", out, "--model", weights, "--core", 64, "--halo", 8, "--report", report, "-q")
    assert result.exit_code == 0, result.output
    assert {"footprints", "gaps", "run"} <= set(pyogrio.list_layers(out)[:, 0])
    found = json.loads(report.read_text())
    assert len(gpd.read_file(out, layer="footprints")) == found["footprints"]
    assert (found["tiles_planned"], found["exit_code"], found["complete"]) == (12, 0, True)
    assert found["footprints"] > 0
    assert (found["core"], found["halo"], found["score_threshold"], found["aoi"]) == (64, 8, 0.2, None)
    assert {path.name for path in tmp_path.iterdir()} == {raster.name, out.name, report.name, ".found.gpkg.lock"}
    assert written_run(out)["run"] == found["run"]


def test_an_aoi_elsewhere_is_nothing_to_do(tmp_path: Path, raster: Path, weights: Path) -> None:
    out = tmp_path / "found.gpkg"
    result = cli("extract", raster, "-o", out, "--model", weights, "--aoi", "10,50,10.1,50.1")
    assert result.exit_code == 0, result.output
    assert "does not meet the raster" in result.stderr
    assert "does not meet the raster" in (written_run(out)["warnings"] or "")
    assert len(gpd.read_file(out, layer="footprints")) == 0


@pytest.mark.parametrize("suffix", [".parquet", ".fgb", ".geojson"])
def test_extract_writes_the_format_of_the_suffix_and_knows_it_again(
    tmp_path: Path, small: Path, weights: Path, suffix: str
) -> None:
    out = tmp_path / f"found{suffix}"
    arguments = ("extract", small, "-o", out, "--model", weights, "--log-format", "json")
    first = cli(*arguments)
    assert (first.exit_code, first.stdout) == (0, f"{out}\n"), first.output
    assert "area_m2" in (gpd.read_parquet(out) if suffix == ".parquet" else gpd.read_file(out))
    again = cli(*arguments)
    assert (again.exit_code, again.stdout) == (0, f"{out}\n"), again.output
    made, left = (json.loads(each.stderr.splitlines()[-1]) for each in (first, again))
    told = ("output", "footprints", "exit_code")
    assert left["unchanged"] and [left[name] for name in told] == [made[name] for name in told]


def test_extract_runs_again_for_whatever_changes_the_result(tmp_path: Path, small: Path, weights: Path) -> None:
    out, model = tmp_path / "found.gpkg", tmp_path / "mine.safetensors"
    model.write_bytes(weights.read_bytes())
    arguments = ("extract", small, "-o", out, "--model", model, "--core", 50)

    def skipped(*further: object) -> bool:
        result = cli(*arguments, *further)
        assert result.exit_code == 0, result.output
        return ": unchanged" in result.stderr

    assert not skipped()
    assert skipped("--workers", 1)
    assert not skipped("--score-threshold", 0.9)
    retrained(model)
    earlier = out.stat().st_mtime - 10
    os.utime(model, (earlier, earlier))
    assert not skipped("--score-threshold", 0.9)  # another training of the same card, its file older than the output
    later = out.stat().st_mtime + 10
    os.utime(model, (later, later))
    assert skipped("--score-threshold", 0.9)  # the same weights, copied anew


def test_an_unchanged_output_is_left_as_it_is_unless_asked(tmp_path: Path, small: Path, weights: Path) -> None:
    out, store = tmp_path / "found.gpkg", tmp_path / "store"
    arguments = ("extract", small, "-o", out, "--model", weights)
    assert cli(*arguments).exit_code == 0
    before = out.read_bytes()

    def skipped(*further: object) -> bool:
        result = cli(*arguments, *further)
        assert result.exit_code == 0, result.output
        return ": unchanged" in result.stderr

    assert skipped() and out.read_bytes() == before
    assert not skipped("--again")
    assert not skipped("--store", store)  # what is asked for is not all there
    assert skipped("--store", store)


@pytest.mark.parametrize("name", ["a.gpkg", "a.parquet", "a.geojson", "a"])
def test_the_report_of_an_output_that_stands_needs_no_work(
    tmp_path: Path, small: Path, weights: Path, name: str
) -> None:
    out, report = tmp_path / name, tmp_path / "report.json"
    arguments = ("extract", small, "-o", out, "--model", weights, "--core", "48,64", "--halo", 8, "--report", report)
    assert cli(*arguments, "-q").exit_code == 0
    told, moment = json.loads(report.read_text()), out.stat().st_mtime_ns
    for lost in (report.unlink, lambda: report.write_text(json.dumps({**told, "run": "0" * 16}))):
        lost()
        assert ": unchanged, nothing" in cli(*arguments, "--dry-run").stdout
        done = cli(*arguments)
        assert done.exit_code == 0 and ": unchanged" in done.stderr, done.output
        assert json.loads(report.read_text()) == told
    assert out.stat().st_mtime_ns == moment


def test_a_note_that_was_changed_gives_no_report(tmp_path: Path, small: Path, weights: Path) -> None:
    out = tmp_path / "a.gpkg"
    assert cli("extract", small, "-o", out, "--model", weights, "-q").exit_code == 0
    with closing(sqlite3.connect(out)) as db, db:
        db.execute("DELETE FROM run WHERE key = 'tiles_planned'")
    done = cli("extract", small, "-o", out, "--model", weights, "--report", tmp_path / "r.json")
    assert done.exit_code == 2 and "--again" in done.stderr, done.output


def test_vectorize_leaves_alone_what_it_would_make_again(tmp_path: Path, small: Path, weights: Path) -> None:
    store, first, other = tmp_path / "store", tmp_path / "first.gpkg", tmp_path / "other.gpkg"
    assert cli("extract", small, "-o", first, "--model", weights, "--store", store, "-q").exit_code == 0

    def skipped(output: Path, *further: object) -> bool:
        result = cli("vectorize", store, "-o", output, *further)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{output}\n"
        return "unchanged" in result.stderr and "--again" in result.stderr

    assert skipped(first)  # an extract of the same settings has written it
    assert not skipped(other)
    before = other.read_bytes()
    assert skipped(other) and other.read_bytes() == before
    assert not skipped(other, "--again")
    report = tmp_path / "report.json"
    assert skipped(other, "--report", report) and json.loads(report.read_text())["output"] == str(other)
    assert not skipped(other, "--score-threshold", 0.9)
    assert "gives none below 0.1" in cli("vectorize", store, "-o", other, "--score-threshold", 0.05).stderr


def test_a_report_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, small: Path, weights: Path) -> None:
    out = tmp_path / "a.gpkg"
    result = cli("extract", small, "-o", out, "--model", weights, "--report", tmp_path / "nowhere" / "r.json")
    assert result.exit_code == 2, result.output
    assert "r.json" in result.stderr and "MP/s" not in result.stderr
    assert not out.exists()


def test_a_raster_is_hashed_once_before_the_work(
    tmp_path: Path, small: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return open_raster(*arguments, **options)

    monkeypatch.setattr(job, "open_raster", counted)
    result = cli("extract", small, "-o", tmp_path / "a.gpkg", "--model", weights, "-q")
    assert result.exit_code == 0 and len(calls) == 1


def retrained(path: Path) -> None:
    """Other weights under the same card."""
    from geoseg.detectors.loading import build, load_state
    from geoseg.detectors.weights import read_weights, save_weights

    state, card = read_weights(path)
    net = build(card.architecture, len(card.classes))
    load_state(net, {name: tensor * 0.9 for name, tensor in state.items()}, path)
    save_weights(net, card, path)


def test_extract_tries_again_where_parts_are_missing(tmp_path: Path, weights: Path) -> None:
    raster = cut_short(tmp_path)
    arguments = ("extract", raster, "-o", tmp_path / "a.gpkg", "--model", weights, "-q")
    assert [cli(*arguments).exit_code for _ in range(2)] == [1, 1]


def cut_short(folder: Path) -> Path:
    """A raster of which the last third of the bytes is gone."""
    raster = write(folder / "cut.tif", texture(3, HEIGHT, WIDTH), compress="deflate", blockysize=16)
    content = raster.read_bytes()
    raster.write_bytes(content[: len(content) * 2 // 3])
    return raster


def test_paths_may_be_relative_or_from_home(
    tmp_path: Path, small: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (home / "run.toml").write_text("[tiling]\ncore = 150\n")
    (home / "my.tif").write_bytes(small.read_bytes())
    (home / "my.safetensors").write_bytes(weights.read_bytes())
    common = ("--report=~/r.json", "--config=~/run.toml", "--model=~/my.safetensors", "-q")
    result = cli("extract", "~/my.tif", "-o", "~/a.gpkg", *common)
    assert result.exit_code == 0, result.output
    assert json.loads((home / "r.json").read_text())["core"] == 150
    result = cli("preview", small.name, "~/a.gpkg", "-o", "./a.png", "--config=home/run.toml")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").exists() and not (tmp_path / "~").exists()


def test_what_is_read_is_not_written_over(tmp_path: Path, raster: Path, weights: Path) -> None:
    aoi = tmp_path / "aoi.geojson"
    gpd.GeoDataFrame(geometry=[shapely.box(85, 27, 86, 28)], crs=4326).to_file(aoi)
    before = aoi.read_bytes(), raster.read_bytes()
    twice = tmp_path / "x" / ".." / "aoi.geojson"
    (tmp_path / "x").mkdir()
    for further in (
        ("-o", twice, "--aoi", aoi),
        ("-o", tmp_path / "a.gpkg", "--report", tmp_path / "a.gpkg"),
        ("-o", tmp_path / "a.gpkg", "--report", raster),
    ):
        result = cli("extract", raster, "--model", weights, *further)
        assert result.exit_code == 2
        assert "named twice" in result.stderr
    assert cli("plan", raster, "-o", aoi, "--aoi", aoi).exit_code == 2
    (home := tmp_path / "home").mkdir()
    (home / "my.tif").write_bytes(raster.read_bytes())
    result = cli("extract", home / "my.tif", "--model", weights, "-o", home, "--force")
    assert result.exit_code == 2 and "which holds" in result.stderr
    assert (home / "my.tif").exists()
    assert before == (aoi.read_bytes(), raster.read_bytes())


def test_an_output_folder_may_have_the_name_of_the_model(
    tmp_path: Path, raster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["extract", raster, "-o", "buildings", "--dry-run"], ["plan", raster, "-o", "buildings.gpkg"]):
        result = cli(*command, "--model", "buildings")
        assert result.exit_code == 0, result.stderr


def test_extract_logs_json_lines(tmp_path: Path, raster: Path, weights: Path) -> None:
    result = cli("extract", raster, "-o", tmp_path / "a.gpkg", "--model", weights, "--log-format", "json")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert lines[-1]["exit_code"] == 0
    assert any(line.get("tiles_done") == line.get("tiles") == 6 for line in lines)


def test_dry_run_tells_of_an_output_that_is_unchanged(tmp_path: Path, small: Path, weights: Path) -> None:
    arguments = ("extract", small, "-o", tmp_path / "a.gpkg", "--model", weights, "-q")
    assert cli(*arguments).exit_code == 0
    told = cli(*arguments, "--dry-run")
    assert (told.exit_code, told.stdout) == (0, f"output     {tmp_path / 'a.gpkg'}: unchanged, nothing would be done\n")


def test_dry_run_writes_nothing(tmp_path: Path, raster: Path, weights: Path) -> None:
    result = cli("extract", raster, "-o", tmp_path / "a.gpkg", "--model", weights, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "6 of core 96 + halo 16" in result.output
    assert [path.name for path in tmp_path.iterdir()] == [raster.name]


def test_a_store_is_made_in_a_folder_that_is_there(tmp_path: Path, small: Path, weights: Path) -> None:
    out, words = tmp_path / "a.gpkg", ("extract", small, "--model", weights, "-o", tmp_path / "a.gpkg")
    (tmp_path / "notes.txt").write_text("a file")
    before = {path.name for path in tmp_path.iterdir()}
    for store, said in (
        (tmp_path / "notes.txt", "no folder"),
        (tmp_path / "stoer" / "a", "does not exist"),
        (out, "named twice"),
        (small, "named twice"),
    ):
        for more in ((), ("--dry-run",)):
            result = cli(*words, "--store", store, *more)
            assert result.exit_code == 2 and said in result.stderr, result.output
    assert {path.name for path in tmp_path.iterdir()} - before <= {".a.gpkg.lock"}
    assert cli(*words, "--store", tmp_path / "a.store", "-q").exit_code == 0
    other = cli(*words, "--store", tmp_path / "a.store", "--core", 40, "--dry-run")
    assert other.exit_code == 2 and "keeps predictions of another" in other.stderr


def test_options_win_over_the_settings_file(tmp_path: Path, raster: Path, weights: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        "[tiling]\ncore = 32\nhalo = 4\n[detect]\nscore_threshold = 0.9\n[engine]\nscheduler = 'tcp://a:1'\n"
    )
    arguments = (
        "extract",
        raster,
        "-o",
        tmp_path / "a.gpkg",
        "--model",
        weights,
        "--dry-run",
        "--config",
        config,
    )
    text = cli(*arguments, "--core", 50, "--score-threshold", 0.3, "--processes", 2).output  # the last: no scheduler
    assert "core 50 + halo 4" in text
    assert "threshold  0.3" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--core", 16, "--halo", 32], "halo"),
        (["--score-threshold", 7], "--score-threshold"),
        (["--bands", "red=0"], "--bands"),
        (["--bands", "red=3,green"], "--bands"),
        (["--scaling", "1"], "--scaling '1'"),
        (["--scaling", "3000,0"], "--scaling '3000,0'"),
        (["--stretch", "98,2"], "--stretch '98,2'"),
        (["--stretch", "2,102"], "--stretch '2,102'"),
        (["--scaling", "0,1", "--stretch", "2,98"], "together"),
        (["--scheduler", "tcp://a:1", "--processes", 2], "--scheduler and --processes together"),
        (["--aoi", "1,2,3"], "AOI"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--assume-crs", "EPSG:999999"], "raster.assume_crs"),
        (["--model", "bildings"], "bildings"),
        (["--assume-crs", "EPSG:32645", "--device", "abacus"], "device"),
    ],
)
def test_bad_settings_exit_2_with_one_message(
    tmp_path: Path, raster: Path, weights: Path, arguments: list[object], word: str
) -> None:
    result = cli("extract", raster, "-o", tmp_path / "a.gpkg", "--model", weights, *arguments)
    assert result.exit_code == 2, result.output
    assert word in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "a.gpkg").exists()


def test_an_unknown_suffix_is_refused_before_any_work(tmp_path: Path, raster: Path, weights: Path) -> None:
    result = cli("extract", raster, "-o", tmp_path / "a.shp", "--model", weights)
    assert result.exit_code == 2
    assert ".gpkg" in result.stderr


def test_parts_missing_exit_1_and_are_named(tmp_path: Path, weights: Path) -> None:
    raster = cut_short(tmp_path)
    out, report = tmp_path / "a.gpkg", tmp_path / "a.json"
    result = cli("extract", raster, "-o", out, "--model", weights, "--report", report)
    assert result.exit_code == 1, result.output
    assert "missing" in result.stderr
    assert json.loads(report.read_text())["complete"] is False
    assert "unreadable" in set(gpd.read_file(out, layer="gaps").reason)


def test_a_locked_output_exits_3_and_a_dead_runs_lock_frees_itself(tmp_path: Path, small: Path, weights: Path) -> None:
    out = tmp_path / "a.gpkg"
    hold = "import sys, filelock; a = filelock.FileLock(sys.argv[1]); a.acquire(); print(1, flush=True); input()"
    command = [sys.executable, "-c", hold, tmp_path / ".a.gpkg.lock"]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "1\n"
    try:
        held = cli("extract", small, "-o", out, "--model", weights)
    finally:
        holder.kill()
        holder.communicate()
    assert held.exit_code == 3
    assert "another run" in held.stderr
    assert cli("extract", small, "-o", out, "--model", weights, "-q").exit_code == 0


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_sigterm_exits_130_and_leaves_nothing(tmp_path: Path, raster: Path, weights: Path) -> None:
    out = tmp_path / "a.gpkg"
    command = [sys.executable, "-m", "geoseg", "extract", raster, "-o", out, "--model", weights]
    # Tiles of 2 pixels: thousands of network calls, so that the run is at work when the signal comes.
    run = subprocess.Popen(
        [*map(str, command), "--core", "2", "--halo", "1", "--log-format", "json", "--device", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
    )
    lock = tmp_path / ".a.gpkg.lock"
    while run.poll() is None and not lock.exists():
        time.sleep(0.05)
    run.terminate()
    _, said = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_stops_end_every_command_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    checks, number = sys.modules["geoseg.cli.doctor"], signal.Signals[name]
    before = signal.getsignal(number)
    monkeypatch.setattr(checks, "all_checks", lambda: signal.raise_signal(number))
    try:
        done = cli("doctor")
        assert done.exit_code == 130 and "interrupted" in done.stderr
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_lost_connection_does_not_end_what_nohup_began(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = sys.modules["geoseg.cli.doctor"]
    monkeypatch.setattr(checks, "all_checks", lambda: signal.raise_signal(signal.SIGHUP) or [])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli("doctor").exit_code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("encoding", "name", "told"),
    [("utf-8", b"\xff.gpkg", b"\xff.gpkg"), ("latin-1", "\u0436.gpkg".encode(), rb"\u0436.gpkg")],
)
def test_stdout_takes_any_name_of_a_file(encoding: str, name: bytes, told: bytes) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    any_name(out)
    out.write(os.fsdecode(name))
    out.flush()
    assert out.buffer.getvalue() == told  # type: ignore[attr-defined]
    any_name(None)  # closed


@pytest.mark.parametrize(
    "words", [("plan", "-h"), ("models",), ("models", "--json"), ("plan", "a town.tif", "-o", "t.gpkg")]
)
def test_a_command_that_is_done_is_done_though_nobody_reads_its_stdout(
    tmp_path: Path, raster: Path, words: tuple[str, ...]
) -> None:
    done = unread("stdout", *words, folder=tmp_path)
    assert (done.returncode, "pipe" in done.stderr) == (0, False), done.stderr


def test_an_error_keeps_its_exit_code_though_nobody_reads_of_it(tmp_path: Path) -> None:
    assert unread("stderr", "plan", folder=tmp_path).returncode == 2
    assert (
        unread("stderr", "export", "absent.gpkg", "--raster", "a.tif", "-o", "b.json", folder=tmp_path).returncode == 2
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")
def test_a_command_keeps_its_exit_code_though_its_log_cannot_be_written(tmp_path: Path, raster: Path) -> None:
    for words, code in ((("plan", str(raster), "-o", "t.gpkg", "-v"), 0), (("plan", "absent.tif", "-o", "t.gpkg"), 2)):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "geoseg", *words]
            assert subprocess.run(command, stderr=full, cwd=tmp_path, check=False).returncode == code


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_a_command_keeps_its_exit_code_though_its_terminal_is_closed(tmp_path: Path, raster: Path) -> None:
    ours, theirs = os.openpty()
    os.close(ours)
    command = [sys.executable, "-m", "geoseg", "plan", str(raster), "-o", "t.gpkg"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=tmp_path, check=False)
    os.close(theirs)
    assert done.returncode == 0 and (tmp_path / "t.gpkg").exists()


def unread(stream: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What ``geoseg WORDS...`` comes to with a stream of which the reader is gone."""
    read, write = os.pipe()
    os.close(read)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: write}
    command = [sys.executable, "-m", "geoseg", *words]
    done = subprocess.run(command, **streams, cwd=folder, text=True, check=False)  # type: ignore[call-overload]
    os.close(write)
    return done


def test_a_traceback_only_when_asked_for(tmp_path: Path, weights: Path) -> None:
    arguments = ("extract", tmp_path / "absent.tif", "-o", tmp_path / "a.gpkg", "--model", weights)
    assert "Traceback" not in cli(*arguments).output
    assert "Traceback" in cli(*arguments, "-v").stderr


def test_preview_draws_the_footprints(tmp_path: Path, raster: Path, squares: Path) -> None:
    result = cli("preview", raster, squares, "-o", tmp_path / "a.png", "--truth", squares)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_preview_shows_what_extract_can_read(tmp_path: Path, squares: Path) -> None:
    nowhere = write(tmp_path / "no crs.tif", texture(4, HEIGHT, WIDTH), crs=None)
    refused = cli("preview", nowhere, squares, "-o", tmp_path / "a.png")
    assert refused.exit_code == 2 and "--assume-crs" in refused.stderr
    config = tmp_path / "run.toml"
    config.write_text(f"[raster]\nassume_crs = '{UTM}'\nbands = {{red = 3, green = 2, blue = 1}}\n")
    for name, further in (("a", ("--assume-crs", UTM)), ("b", ("--config", config))):
        result = cli("preview", nowhere, squares, "-o", tmp_path / f"{name}.png", *further)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()  # other bands


def test_train_refuses_bad_settings(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("[model]\nname = 'x'\n")
    result = cli("train", tmp_path / "t.toml", "-o", tmp_path / "x.safetensors")
    assert result.exit_code == 2
    assert "model.classes" in result.stderr and "2 more" in result.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_network_is_at_work(tmp_path: Path, stop: signal.Signals) -> None:
    """Threads inside the network cannot be stopped; that must not turn the exit code into an abort's."""
    raster = write(tmp_path / "town.tif", texture(3, 900, 1300), photometric="rgb")
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from geoseg.cli import main; sys.argv[0] = 'geoseg'; main()"
    )
    command = ["extract", str(raster), "-o", str(tmp_path / "out.gpkg"), "--model", "buildings", "--core", "128"]
    with subprocess.Popen([sys.executable, "-c", script, *command], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob(".out.gpkg.work/**/block*")):
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(stop)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "interrupted" in told and not (tmp_path / "out.gpkg").exists()


@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_command_is_loaded_is_no_traceback(stop: str) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Late:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'typer': signal.raise_signal(signal.{stop})\n"
        "sys.meta_path.insert(0, Late())\n"
        "from geoseg.__main__ import main; sys.argv = ['geoseg', 'models']; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--log-format", "json"), "Missing argument 'CONFIG'"),
        (("run", "a.toml", "--log-format=json", "--speed"), "No such option: --speed"),
        (("rum", "a.toml", "--log-format", "json"), "No such command 'rum'"),
    ],
)
def test_an_error_in_what_was_typed_is_json_where_the_log_is(words: tuple[str, ...], said: str) -> None:
    result = cli(*words)
    [line] = result.stderr.splitlines()
    told = json.loads(line)
    assert result.exit_code == 2 and told["level"] == "error" and said in told["message"]
    plain = cli(*(word for word in words if "json" not in word and word != "--log-format"))
    assert plain.exit_code == 2 and "Usage:" in plain.stderr


def test_to_say_more_and_less_at_once_is_refused() -> None:
    result = cli("run", "a.toml", "-q", "-v")
    assert result.exit_code == 2 and "--verbose and --quiet together" in result.stderr


def test_a_command_in_a_folder_that_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    # Started there as people start it: with -c the libraries, too, are looked for there, where Python 3.13 breaks down.
    begin = "import os, sys; os.chdir('gone'); os.rmdir('../gone'); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", begin, sys.executable, "-m", "geoseg", "status", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "the folder that this was started in" in done.stderr, done
