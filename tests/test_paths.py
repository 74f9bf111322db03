"""`~` in paths: expanded in one place, and told where it stands for no folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from commands import cli
from rasters import texture, write

import geoseg
from geoseg.archive import RunConfig, run_archive
from geoseg.errors import ConfigError
from geoseg.paths import expanded

ARCHIVE = {"model": "buildings", "folder": "out"}
NOBODY = "~nobody_there"


def test_home_folders_are_put_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a.tif") == tmp_path / "a.tif" and expanded("~") == tmp_path
    assert expanded("~root/a.tif") == Path("~root/a.tif").expanduser()  # the oracle, where there is such a user
    for same in ("a.tif", "/a/~b.tif", "~scan.tif", "", Path("a") / "~"):  # a shell leaves these alone, too
        assert expanded(same) == Path(same)


@pytest.mark.parametrize("wrong", [None, 3, b"a.tif", io.BytesIO()])
def test_what_is_no_path_is_told_as_such(wrong: Any) -> None:
    table = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 2, 1)], crs=32645)
    for asked in (
        lambda: geoseg.write(table, wrong),
        lambda: geoseg.run_store(wrong),
        lambda: geoseg.read_settings(wrong),
        lambda: geoseg.archive_status(wrong),
    ):
        with pytest.raises(ConfigError, match=f"a path of type {type(wrong).__name__}"):
            asked()


def test_a_path_is_no_settings() -> None:
    for asked, reader in ((geoseg.run_archive, "read_run_config"), (geoseg.train, "read_train_config")):
        with pytest.raises(ConfigError, match=rf"of type str.*geoseg\.{reader}\(path\)"):
            asked("run.toml", *(["w.safetensors"] if asked is geoseg.train else []))  # type: ignore[operator]


def test_no_home_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=f"{NOBODY} is no home folder"):
        expanded(f"{NOBODY}/a.tif")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as for a user id that the system has no name for
    for path in ("~", "~/a.tif"):
        with pytest.raises(ConfigError, match="~ is no home folder"):
            expanded(path)


def test_a_character_that_no_path_has_is_told_before_any_work() -> None:
    for name, value in (("folder", "a\0b"), ("aoi", "a\0.gpkg"), ("model", "m\0")):
        with pytest.raises(geoseg.GeosegError):
            run_archive(RunConfig.model_validate({"archive": {**ARCHIVE, name: value}, "input": {"paths": ["a.tif"]}}))
    with pytest.raises(ConfigError, match="character 0"):
        expanded("a\0b")


@pytest.mark.parametrize(
    "words",
    [
        ("extract", "{}.tif", "-o", "a.gpkg", "--model", "buildings"),
        ("extract", "r.tif", "-o", "{}.gpkg", "--model", "buildings"),
        ("extract", "r.tif", "-o", "a.gpkg", "--model", "{}.safetensors"),
        ("extract", "r.tif", "-o", "a.gpkg", "--model", "buildings", "--aoi", "{}.gpkg"),
        ("extract", "r.tif", "-o", "a.gpkg", "--model", "buildings", "--config", "{}.toml"),
        ("extract", "r.tif", "-o", "a.gpkg", "--model", "buildings", "--report", "{}.json"),
        ("extract", "r.tif", "-o", "a.gpkg", "--model", "buildings", "--store", "{}.store"),
        ("vectorize", "{}.store", "-o", "a.gpkg"),
        ("plan", "r.tif", "-o", "{}.gpkg"),
        ("evaluate", "{}.gpkg", "{}.geojson"),
        ("export", "{}.gpkg", "--raster", "r.tif", "-o", "a.json"),
        ("preview", "r.tif", "{}.gpkg", "-o", "a.png"),
        ("review", "{}.gpkg"),
        ("train", "{}.toml"),
        ("run", "{}.toml"),
        ("status", "{}"),
        ("stac", "{}"),
        ("models", "add", "{}.onnx"),
        ("models", "export", "buildings", "-o", "{}.onnx"),
    ],
    ids=lambda words: " ".join(words),
)
def test_a_user_that_there_is_not_is_told_by_every_command(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "r.tif", texture(3, 40, 56), photometric="rgb")
    done = cli(*(word.format(f"{NOBODY}/x") for word in words))
    assert done.exit_code == 2 and "is no home folder" in done.stderr, done.output
    assert not (tmp_path / NOBODY).exists()


def test_a_file_may_be_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "~scan.tif", texture(3, 40, 56), photometric="rgb")
    assert cli("plan", "~scan.tif", "-o", "~tiles.gpkg").exit_code == 0
    assert (tmp_path / "~tiles.gpkg").exists()


def test_there_is_one_door() -> None:
    root = Path(geoseg.__file__).parent
    doors = [path.name for path in root.rglob("*.py") if "expanduser" in path.read_text(encoding="utf-8")]
    assert doors == ["paths.py"]
