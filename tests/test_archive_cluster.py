"""An archive on a Dask cluster: real `dask scheduler` and `dask worker` processes on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chaos
import pytest
from archive_scenes import configured, states
from commands import cli
from conftest import ROOT

from geoseg.archive import RunConfig, run_archive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
NOBODY = "tcp://127.0.0.1:1"
"""Where no scheduler listens."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[chaos.Cluster]:
    with chaos.cluster(tmp_path / "dask") as found:
        yield found


def _config(folder: Path, out: str) -> RunConfig:
    options: dict[str, Any] = {"archive": {"folder": out, "format": "fgb"}, "tiling": {"block": chaos.BLOCK}}
    return configured(folder, engine={"workers": 1, "patience_s": 10.0}, **options)


def test_a_cluster_changes_nothing_and_one_that_is_gone_is_the_environments_fault(
    tmp_path: Path, cluster: chaos.Cluster
) -> None:
    (tmp_path / "in").mkdir()
    for name, cols in (("a", 5), ("b", 4)):
        chaos.scene(tmp_path / "in" / f"{name}.tif", 3, cols)
    assert run_archive(_config(tmp_path, "here"), model=chaos.Spots()).exit_code == 0
    log = tmp_path / "log"
    model = chaos.Spots(log=str(log))
    there = run_archive(_config(tmp_path, "out"), model=model, scheduler=cluster.address)
    assert (there.exit_code, dict(there.counts)) == (0, {"done": 2})
    assert {int(line.split()[0]) for line in log.read_text().splitlines()} <= set(cluster.workers())
    for name in ("a", "b"):
        outputs = [tmp_path / folder / "scenes" / f"{name}.fgb" for folder in ("here", "out")]
        assert len({chaos.digest(output) for output in outputs}) == 1
    # What is done stays done, and what is new is left for the next time.
    cluster.kill_nannies()
    for name in ("c", "d"):
        chaos.scene(tmp_path / "in" / f"{name}.tif", 3, 3)
    gone = run_archive(_config(tmp_path, "out"), model=model, scheduler=cluster.address)
    done = {"a.tif": "done", "b.tif": "done", "c.tif": "pending", "d.tif": "pending"}  # no scene would fare better
    assert (gone.exit_code, states(tmp_path / "out")) == (4, done)


def test_the_commands_take_the_address(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "in").mkdir()
    chaos.scene(tmp_path / "in" / "a.tif", 2, 3)
    settings = "[engine]\npatience_s = 1.0\n[raster]\nbands = { red = 1, green = 1, blue = 1 }\n"
    (tmp_path / "settings.toml").write_text(settings)
    run = tmp_path / "run.toml"
    run.write_text(f'[archive]\nmodel = "{weights}"\nfolder = "out"\n[input]\nglobs = ["in/*.tif"]\n{settings}')
    done = cli("run", run, "--scheduler", NOBODY)
    assert done.exit_code == 4 and NOBODY in done.output, done.output
    pipeline = [sys.executable, str(ROOT / "pipelines" / "ships.py"), str(tmp_path / "in"), str(tmp_path / "flow")]
    options = ["--model", str(weights), "--settings", str(tmp_path / "settings.toml"), "--scheduler", NOBODY]
    ended = subprocess.run([*pipeline, *options], capture_output=True, text=True, check=False)
    assert ended.returncode == 4 and NOBODY in ended.stderr, ended.stderr
    for folder in ("out", "flow"):
        assert json.loads((tmp_path / folder / "summary.json").read_text())["config"]["engine"]["scheduler"] == NOBODY
