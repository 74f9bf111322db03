"""The scheduled flows, run as a scheduler runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zarr
from conftest import ROOT
from rasters import texture, write
from zarrs import write_zarr

SHIPS = ROOT / "pipelines" / "ships.py"


def flow(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SHIPS), *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_a_folder_is_done_once_and_says_what_is_missing(tmp_path: Path, weights: Path) -> None:
    rasters, outputs, settings = tmp_path / "in", tmp_path / "out", tmp_path / "settings.toml"
    rasters.mkdir()
    write(rasters / "good.tif", texture(3, 90, 130), photometric="rgb")
    (rasters / "page.tif").write_text("<html>404</html>")
    settings.write_text("[detect]\nscore_threshold = 0.3\n")
    command = (rasters, outputs, "--model", weights, "--settings", settings, "--merged", "all.gpkg")
    first = flow(*command)
    assert first.returncode == 1, first.stderr
    assert "1 done, 1 refused" in first.stderr and "HTML page" in first.stderr, first.stderr
    assert "Created" not in first.stderr, first.stderr  # what a library says of its own
    assert (outputs / "scenes" / "good.tif.gpkg").exists() and (outputs / "all.gpkg").exists()
    told = json.loads((outputs / "summary.json").read_text())
    assert told["config"]["detect"]["score_threshold"] == 0.3
    (rasters / "page.tif").unlink()
    again = flow(*command)
    assert again.returncode == 0, again.stderr
    assert "(1 unchanged)" in again.stderr, again.stderr


def test_no_folder_is_bad_input(tmp_path: Path, weights: Path) -> None:
    done = flow(tmp_path / "absent", tmp_path / "out", "--model", weights)
    assert done.returncode == 2 and "is no folder" in done.stderr
    assert flow(tmp_path).returncode == 2


def test_suffixes_in_capitals_are_rasters_and_a_folder_without_any_is_told(tmp_path: Path, weights: Path) -> None:
    rasters, outputs = tmp_path / "as [delivered]", tmp_path / "out"
    rasters.mkdir()
    (rasters / "A.TIF.zip").touch()
    none = flow(rasters, outputs, "--model", weights)
    assert none.returncode == 0 and "none of the 1 files" in none.stderr, none.stderr
    for number, name in enumerate(("A.TIF", "b.tif", "c.Tiff")):
        write(rasters / name, texture(3, 40 + number, 50), photometric="rgb")
    put = write_zarr(rasters / "D.ZARR", texture(3, 45, 50))
    zarr.open_array(put / "image").attrs["long_name"] = ["red", "green", "blue"]
    done = flow(rasters, outputs, "--model", weights)
    assert done.returncode == 0 and " 4 done (0 unchanged)" in done.stderr, done.stderr
    assert "none of" not in done.stderr and "no file matches" not in done.stderr
    assert " 4 done (4 unchanged)" in flow(rasters, outputs, "--model", weights).stderr


@pytest.mark.parametrize(("error", "code"), [("ImportError('no libsqlite3.so')", 4), ("ValueError('a fault')", 70)])
def test_nothing_that_fails_ends_as_if_it_were_done(tmp_path: Path, error: str, code: int) -> None:
    (tmp_path / "sqlite3.py").write_text(f"raise {error}")  # an installation that is broken
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = flow(tmp_path, tmp_path / "out", PYTHONPATH=path)
    assert done.returncode == code and error[:10] in done.stderr, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_flow_that_is_stopped_or_loses_its_connection_ends_as_the_command_does(tmp_path: Path, name: str) -> None:
    (tmp_path / "sqlite3.py").write_text(f"import signal\nsignal.raise_signal(signal.{name})\n")  # in the middle of it
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = flow(tmp_path, tmp_path / "out", PYTHONPATH=path)
    assert done.returncode == 130 and "ERROR interrupted: the same command goes on" in done.stderr, done.stderr


def test_a_flow_that_cannot_be_heard_is_done_still(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "in").mkdir()
    command = [sys.executable, str(SHIPS), str(tmp_path / "in"), str(tmp_path / "öut"), "--model", str(weights)]
    narrow = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False)
    assert narrow.returncode == 0 and rb"\xf6ut" in narrow.stderr, narrow.stderr
    with open("/dev/full", "w") as full:  # the disk of the log
        for unbuffered in ("", "1"):
            environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
            assert subprocess.run(command, stdout=full, stderr=full, env=environment, check=False).returncode == 0
