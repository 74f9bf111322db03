"""The command line: what each command prints, writes and exits with."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import pyogrio
import pytest
import shapely
from filelock import FileLock
from rasters import DEGREES, ROTATED, SOUTH_UP, UTM, texture, write
from typer.testing import CliRunner, Result

from geoseg.cli import app

HEIGHT, WIDTH = 150, 210


def geoseg(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return write(tmp_path / "a town.tif", texture(3, HEIGHT, WIDTH), photometric="rgb")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network, small and untrained: it finds something in any picture."""
    import torch

    from geoseg.detectors import ModelCard
    from geoseg.detectors.network import build
    from geoseg.detectors.weights import save_weights

    torch.manual_seed(3)
    architecture = {"fpn_channels": 16, "box_head": 16, "mask_head": [8], "detections": 8}
    card = ModelCard(
        classes=("thing",),
        name="random",
        bands=("red", "green", "blue"),
        mean=(110.0,) * 3,
        std=(58.0,) * 3,
        score_threshold=0.2,
        core=96,
        halo=16,
        architecture=architecture,
    )
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    return save_weights(build(architecture, 1), card, path)


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Two footprints in a GeoPackage."""
    shapes = [shapely.box(x, 3_060_000, x + 10, 3_060_008) for x in (300_000, 300_100)]
    path = tmp_path / "squares.gpkg"
    gpd.GeoDataFrame({"score": [0.9, 0.4]}, geometry=shapes, crs=UTM).to_file(path, layer="footprints")
    return path


# --- the app itself ---------------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert geoseg("--version").output.startswith("geoseg 0.")
    listed = geoseg("--help").output
    for command in ("extract", "plan", "models", "doctor", "evaluate", "preview", "train"):
        assert command in listed


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from geoseg.cli import app;"
        "CliRunner().invoke(app, ['extract', '--help']);"
        "print([m for m in ('torch', 'rasterio', 'dask', 'geopandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_usage_exits_2() -> None:
    assert geoseg("extract").exit_code == 2
    assert geoseg("nonsense").exit_code == 2


# --- plan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "crs"),
    [(ROTATED, UTM), (SOUTH_UP, UTM), (DEGREES, "EPSG:4326")],
    ids=["rotated", "south-up", "degrees"],
)
def test_plan_covers_the_raster_once(tmp_path: Path, transform: object, crs: str) -> None:
    raster = write(tmp_path / "r.tif", texture(3, HEIGHT, WIDTH), transform=transform, crs=crs)
    result = geoseg("plan", raster, "-o", tmp_path / "tiles.gpkg", "--core", 64, "--halo", 8)
    assert result.exit_code == 0, result.output
    cores = gpd.read_file(tmp_path / "tiles.gpkg", layer="cores")
    windows = gpd.read_file(tmp_path / "tiles.gpkg", layer="windows")
    assert len(cores) == len(windows) == 3 * 4
    whole = shapely.Polygon(
        [transform @ corner for corner in ((0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT))]
    )
    assert cores.union_all().symmetric_difference(whole).area < 1e-9 * whole.area
    assert cores.area.sum() == pytest.approx(whole.area)
    assert windows.area.sum() > cores.area.sum() * 1.1
    assert (cores.height * cores.width).sum() == HEIGHT * WIDTH


def test_plan_in_one_layer(tmp_path: Path, raster: Path) -> None:
    assert geoseg("plan", raster, "-o", tmp_path / "tiles.geojson", "--core", 100, "--halo", 0).exit_code == 0
    tiles = gpd.read_file(tmp_path / "tiles.geojson")
    assert tiles.kind.value_counts().to_dict() == {"core": 6, "window": 6}
    assert tiles.crs.to_epsg() == 4326


def test_plan_takes_core_and_halo_from_the_model(tmp_path: Path, raster: Path, weights: Path) -> None:
    assert geoseg("plan", raster, "-o", tmp_path / "t.gpkg", "--model", weights).exit_code == 0
    cores = gpd.read_file(tmp_path / "t.gpkg", layer="cores")
    assert sorted(set(cores.width)) == [18, 96]


def test_plan_refuses_what_is_no_raster(tmp_path: Path) -> None:
    (tmp_path / "page.tif").write_text("<html>404</html>")
    result = geoseg("plan", tmp_path / "page.tif", "-o", tmp_path / "t.gpkg")
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "t.gpkg").exists()


# --- evaluate ---------------------------------------------------------------------------------------------


def test_evaluate_prints_and_gives_json(squares: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.geojson"
    gpd.read_file(squares).iloc[:1].to_crs(4326).to_file(truth)
    assert "0.667" in geoseg("evaluate", squares, truth).output
    scores = json.loads(geoseg("evaluate", squares, truth, "--json", "--sweep").output)
    assert (scores["n_pred"], scores["n_truth"], scores["n_matched"]) == (2, 1, 1)
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["best"]["f1"] == 1.0
    assert 0.4 < scores["best"]["score_threshold"] <= 0.9


def test_evaluate_inside_an_aoi(squares: Path) -> None:
    west, south, east, north = gpd.read_file(squares).iloc[:1].to_crs(4326).total_bounds
    bbox = f"{west - 1e-5},{south - 1e-5},{east + 1e-5},{north + 1e-5}"
    scores = json.loads(geoseg("evaluate", squares, squares, "--aoi", bbox, "--json").output)
    assert (scores["n_pred"], scores["n_truth"]) == (1, 1)


def test_evaluate_refuses_what_is_no_vector_file(squares: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gpkg").write_text("nothing")
    for wrong in (tmp_path / "x.gpkg", tmp_path / "absent.gpkg"):
        result = geoseg("evaluate", wrong, squares)
        assert result.exit_code == 2
        assert wrong.name in result.output
        assert "Traceback" not in result.output


# --- models, doctor ---------------------------------------------------------------------------------------


def test_models_lists_the_bundled_cards() -> None:
    cards = json.loads(geoseg("models", "--json").output)
    table = geoseg("models").output
    assert all(card["name"] in table for card in cards)


def test_doctor_finds_this_installation_in_order() -> None:
    result = geoseg("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.output)}
    assert result.exit_code == 0, checks
    assert {"python", "packages", "torch", "torchvision", "gpu", "gdal", "proj", "models", "disk"} <= set(
        checks
    )


def test_doctor_names_a_torchvision_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "torchvision"
    fake.mkdir()
    (fake / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = geoseg("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.output)}
    assert result.exit_code == 4
    assert checks["torchvision"]["status"] == "broken"
    assert "nms does not exist" in checks["torchvision"]["found"]
    assert "both" in checks["torchvision"]["remedy"]
