"""The scheduled flows, run as a scheduler runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from rasters import texture, write

SHIPS = ROOT / "pipelines" / "ships.py"


def flow(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SHIPS), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_folder_is_done_once_and_ends_with_the_gravest_code(tmp_path: Path, weights: Path) -> None:
    rasters, outputs = tmp_path / "in", tmp_path / "out"
    rasters.mkdir()
    write(rasters / "good.tif", texture(3, 90, 130), photometric="rgb")
    (rasters / "page.tif").write_text("<html>404</html>")
    first = flow(rasters, outputs, "--model", weights, "--score-threshold", 0.3, "-q")
    assert first.returncode == 2, first.stderr
    assert "good.tif: done" in first.stdout
    assert "page.tif: refused" in first.stdout
    assert (outputs / "good.tif.gpkg").exists()
    report = json.loads((outputs / "good.tif.report.json").read_text())
    assert report["settings"]["detect"]["score_threshold"] == 0.3
    (rasters / "page.tif").unlink()
    again = flow(rasters, outputs, "--model", weights, "--score-threshold", 0.3, "-q")
    assert again.returncode == 0, again.stderr
    assert "good.tif: unchanged" in again.stdout
    assert "1 rasters: 1 unchanged" in again.stdout


def test_no_folder_is_bad_input(tmp_path: Path) -> None:
    assert flow(tmp_path / "absent", tmp_path / "out").returncode == 2
