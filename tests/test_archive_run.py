"""Whole runs over little archives, with the processes that they start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from archive_scenes import BOXES, KILLER, SLEEPER, configured, ground, scene, states
from conftest import ROOT
from rasters import texture, write

from geoseg.archive import Manifest, archive_status, run_archive
from geoseg.archive.crew import Crew, Died, Hand
from geoseg.archive.record import Looked
from geoseg.archive.summary import read_scenes
from geoseg.archive.worker import Orders, Task
from geoseg.errors import ConfigError, LockedError
from geoseg.locks import output_lock
from geoseg.sinks import written_run

GOOD = ((10, 20, 10, 24), (40, 60, 80, 95))


def archive(folder: Path) -> None:
    """Two good scenes that overlap, the first of them twice, and five that are bad each in its own way."""
    (folder / "in").mkdir(parents=True)
    scene(folder / "in" / "a.tif", ground(80, 120, *GOOD))
    scene(folder / "in" / "b 'quoted' \"name\".tif", ground(80, 120, (0, 20, 40, 55), (50, 60, 5, 17)), row=40, col=40)
    shutil.copyfile(folder / "in" / "a.tif", folder / "in" / "copy.tif")
    (folder / "in" / "page.tif").write_text("<html>404</html>")
    (folder / "in" / ("long" * 58 + ".tif")).write_bytes(b"")
    scene(folder / "in" / "adrift.tif", ground(70, 90), crs=None)
    scene(folder / "in" / "zkiller.tif", ground(50, 70, background=KILLER), row=5000)
    short = scene(folder / "in" / "short.tif", texture(1, 300, 260)[0] // 2, row=9000, compress="lzw", predictor=2)
    short.write_bytes(short.read_bytes()[:-9000])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[tuple[int, int]]]:
    folder = tmp_path_factory.mktemp("archive")
    archive(folder)
    told: list[tuple[int, int]] = []
    config = configured(folder, archive={"at_once": 2}, merge={"output": "merged.gpkg"}, store={"folder": "stores"})
    done = run_archive(config, model=BOXES, progress=lambda *counts: told.append(counts))
    return folder, done, told


def test_bad_scenes_are_recorded_and_passed_by(ran: tuple[Path, Any, list[tuple[int, int]]]) -> None:
    folder, done, told = ran
    found = states(folder / "out")
    assert found == {
        "a.tif": "done",
        "adrift.tif": "refused",
        "b 'quoted' \"name\".tif": "done",
        "copy.tif": "same",
        "zkiller.tif": "failed",
        "long" * 58 + ".tif": "refused",
        "page.tif": "refused",
        "short.tif": "parts",
    }
    assert (done.exit_code, done.stopped, done.unchanged) == (1, "", 0)
    assert told[-1] == (8, 8) and [done for done, _ in told] == list(range(1, 9))
    with Manifest.opened(folder / "out") as manifest:
        records = {record.name: record for record in manifest.records()}
    assert "SIGSEGV" in str(records["zkiller.tif"].error) and records["zkiller.tif"].tries == 2
    assert "HTML page" in str(records["page.tif"].error)
    assert records["copy.tif"].same_as == records["a.tif"].id
    assert records["a.tif"].figures["tiles_planned"] == 4


def test_outputs_stand_under_names_that_any_system_takes(ran: tuple[Path, Any, Any]) -> None:
    folder, _, _ = ran
    names = sorted(path.name for path in (folder / "out" / "scenes").glob("[!.]*"))
    assert names == ["a.gpkg", "b _quoted_ _name_.gpkg", "short.gpkg"]
    assert len(gpd.read_file(folder / "out" / "scenes" / "a.gpkg", layer="footprints")) == 2
    assert written_run(folder / "out" / "scenes" / "a.gpkg")["raster"] == "a.tif"


def test_the_merged_layer_has_each_object_once(ran: tuple[Path, Any, Any]) -> None:
    _, done, _ = ran
    found = gpd.read_file(done.merged, layer="footprints")
    boxes = found[found["raster"] != "short.tif"]
    # Of a: two, the second of which b sees too; of b: another one.
    assert len(boxes) == 3 and done.footprints == len(found) + 1
    gaps = gpd.read_file(done.merged, layer="gaps")
    assert set(gaps["raster"]) >= {"short.tif", "zkiller.tif"}


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_summary_tells_it_to_programs_and_people(ran: tuple[Path, Any, Any]) -> None:
    folder, _, _ = ran
    told = json.loads((folder / "out" / "summary.json").read_text())
    assert told["exit_code"] == 1 and told["scenes_total"] == len(told["scenes"]) == 8
    assert told["counts"] == {"done": 2, "failed": 1, "parts": 1, "refused": 3, "same": 1}
    assert set(told["gaps_m2"]) == {"unreadable"} and told["tiles_unreadable"] > 0
    assert list(read_scenes(folder / "out" / "summary.json")) == told["scenes"]
    page = _Text()
    page.feed((folder / "out" / "summary.html").read_text())
    assert page.links == [] and "b 'quoted' \"name\".tif" in page.text and "SIGSEGV" in page.text
    assert "<script" not in (folder / "out" / "summary.html").read_text()


def test_again_only_what_is_not_done_is_done(ran: tuple[Path, Any, Any]) -> None:
    folder, done, _ = ran
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.gpkg")}
    for name in ("page.tif", "zkiller.tif", "short.tif", "adrift.tif", "long" * 58 + ".tif"):
        (folder / "in" / name).unlink()
    touched = folder / "in" / "b 'quoted' \"name\".tif"
    os.utime(touched)  # looked at, and found to be what it was
    again = run_archive(configured(folder, merge={"output": "merged.gpkg"}), model=BOXES)
    assert (again.exit_code, again.unchanged, dict(again.counts)) == (0, 2, {"done": 2, "gone": 5, "same": 1})
    assert {p: p.stat().st_mtime_ns for p in before if p != done.merged} == {
        p: at for p, at in before.items() if p != done.merged
    }
    assert len(gpd.read_file(again.merged, layer="footprints")) == 3
    # Another setting redoes no inference where predictions are kept: a detector that cannot detect will do.
    smaller = configured(folder, vectorize={"min_area_m2": 40.0}, store={"folder": "stores"})
    other = run_archive(smaller, model=replace(BOXES, blind=True))
    assert (other.unchanged, other.footprints) == (0, 2)
    status = archive_status(folder / "out")
    assert (status.state, status.exit_code, status.left, status.eta_s) == ("ended", 0, 0, None)


def test_one_run_at_a_time_and_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = configured(tmp_path)
    (tmp_path / "out").mkdir()
    with output_lock(tmp_path / "out" / "run"), pytest.raises(LockedError):
        run_archive(config, model=BOXES)
    done = run_archive(config, model=BOXES)
    assert (done.exit_code, dict(done.counts)) == (0, {})
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]


def test_what_is_locked_is_told_and_enough_failures_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(50, 70, (5, 9, 5, 9)))
    for name in ("c", "d", "e"):
        scene(tmp_path / "in" / f"{name}.tif", np.full((50, 70 + ord(name)), KILLER, np.uint8))
    (tmp_path / "in" / "cc.tif").write_text("says nothing of the environment")
    settings = {"retries": 0, "give_up_after": 2}
    (tmp_path / "out" / "scenes").mkdir(parents=True)
    with output_lock(tmp_path / "out" / "scenes" / "a.gpkg"):
        done = run_archive(configured(tmp_path, archive=settings), model=BOXES)
    assert done.exit_code == 4 and "2 scenes in a row" in done.stopped
    found = states(tmp_path / "out")
    assert found == {"a.tif": "locked", "c.tif": "failed", "cc.tif": "refused", "d.tif": "failed", "e.tif": "pending"}
    status = archive_status(tmp_path / "out")
    assert (status.state, status.left, status.exit_code) == ("stopped", 1, 4)


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    orders = Orders(model=BOXES, card=BOXES.card, digest="", settings=configured(tmp_path).settings, aoi=None)
    crew = Crew(orders, 1, limit_s=3600.0)
    raster = scene(tmp_path / "a.tif", ground(50, 70, background=SLEEPER))
    task = Task(id=1, href=str(raster), acquired=None, output=tmp_path / "a.gpkg")
    try:
        crew.give(task)
        hand, looked = _said(crew)
        assert isinstance(looked, Looked) and not crew.free
        hand.send(True)
        crew.limit_s = 0.0
        hand, died = _said(crew)
        assert isinstance(died, Died) and died.hung and "scene_timeout_s" in died.why
        assert list(crew.answers(0.0)) == [] and crew.free and not hand.process.is_alive()
    finally:
        crew.stop()


def _said(crew: Crew) -> tuple[Hand, Any]:
    """The next answer; what follows from it is done too."""
    while True:
        for hand, answer in list(crew.answers(1.0)):
            if not isinstance(answer, tuple):
                return hand, answer


def test_a_run_that_is_interrupted_says_so_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate("ab"):
        scene(tmp_path / "in" / f"{name}.tif", ground(50, 70, (5, 9, 5, 9)), row=200 * number)
    config = configured(tmp_path, stac={"write": True, "title": "Boxes"})

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_archive(config, model=BOXES, progress=interrupt)
    status = archive_status(tmp_path / "out")
    assert (status.state, status.exit_code, status.counts["done"], status.left) == ("interrupted", 130, 1, 1)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["exit_code"] == 130
    done = run_archive(config, model=BOXES)
    assert (done.exit_code, done.unchanged, dict(done.counts)) == (0, 1, {"done": 2})
    assert not list((tmp_path / "out" / "scenes").glob(".geoseg*"))
    collection = json.loads((tmp_path / "out" / "collection.json").read_text())
    assert collection["title"] == "Boxes" and len([x for x in collection["links"] if x["rel"] == "item"]) == 2


_DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from archive_scenes import BOXES, configured
from geoseg.archive import run_archive
if __name__ == "__main__":
    raise SystemExit(run_archive(configured(Path(sys.argv[1])), model=BOXES).exit_code)
"""


def _until(true: Any) -> None:
    for _ in range(1200):
        with suppress(ConfigError):  # a manifest that is about to be made
            if true():
                return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_a_run_that_is_killed_leaves_nobody_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(50, 70, (5, 9, 5, 9)))
    scene(tmp_path / "in" / "b.tif", ground(50, 70, (5, 9, 5, 9), background=SLEEPER))
    (tmp_path / "driver.py").write_text(_DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    manifest = tmp_path / "out" / "manifest.sqlite"
    try:
        _until(lambda: manifest.exists() and "running" in states(tmp_path / "out").get("b.tif", ""))
        _kill_and_go_on(tmp_path, process)
    finally:
        process.kill()


def _kill_and_go_on(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    live = archive_status(tmp_path / "out")
    assert (live.state, live.counts["done"], live.running[0]["name"]) == ("running", 1, "b.tif")
    workers = [pid for pid in _children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    process.kill()
    code = process.wait(30)
    assert workers
    _until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))
    status = archive_status(tmp_path / "out")
    assert (code, status.state, status.exit_code) == (-9, "killed", None)
    output = tmp_path / "out" / "scenes" / "a.gpkg"
    before = output.read_bytes()
    scene(tmp_path / "in" / "b.tif", ground(50, 70, (5, 9, 5, 9), (20, 30, 7, 19)), row=200)
    done = run_archive(configured(tmp_path), model=BOXES)
    assert (done.exit_code, done.unchanged, dict(done.counts)) == (0, 1, {"done": 2})
    assert output.read_bytes() == before
    assert not list((tmp_path / "out" / "scenes").glob(".geoseg*"))


def test_the_commands(tmp_path: Path, weights: Path) -> None:
    from typer.testing import CliRunner

    from geoseg.cli import app

    def geoseg(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "good.tif", texture(3, 90, 130), photometric="rgb")
    (tmp_path / "in" / "page.tif").write_text("<html>404</html>")
    config = tmp_path / "run.toml"
    config.write_text(
        f'[archive]\nmodel = "{weights}"\nfolder = "out"\n[input]\nglobs = ["in/*"]\n[engine]\nworkers = 1\n'
    )
    dry = geoseg("run", config, "--dry-run")
    assert dry.exit_code == 0 and "scenes     2" in dry.stdout and "nothing was written" in dry.stdout
    assert not (tmp_path / "out").exists()
    assert geoseg("status", tmp_path / "out").exit_code == 2
    first = geoseg("run", config, "--log-format", "json")
    assert first.exit_code == 1, first.output
    lines = [json.loads(line) for line in first.stderr.splitlines() if line.startswith("{")]
    assert lines[-1]["exit_code"] == 1 and {line.get("scene") for line in lines} >= {"good.tif", "page.tif"}
    assert (tmp_path / "out" / "scenes" / "good.gpkg").exists()
    told = json.loads(geoseg("status", tmp_path / "out", "--json").stdout)
    assert told["counts"] == {"done": 1, "refused": 1} and told["state"] == "ended"
    said = geoseg("status", tmp_path / "out").stdout
    assert "exit code 1" in said and "refused: page.tif" in said
    (tmp_path / "in" / "page.tif").unlink()
    dry = geoseg("run", config, "--dry-run")
    assert "unchanged  1" in dry.stdout and "gone       1" in dry.stdout
    again = geoseg("run", config, "-q")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "")
    config.write_text(config.read_text().replace("workers", "wrokers"))
    wrong = geoseg("run", config)
    assert wrong.exit_code == 2 and "Did you mean workers" in wrong.output
