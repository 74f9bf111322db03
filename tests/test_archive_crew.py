"""The processes that work on an archive: held up, hung, interrupted, killed."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from archive_scenes import BOXES, KILLER, SLEEPER, Boxes, Greedy, Hesitant, configured, ground, scene, states
from conftest import ROOT

from geoseg.archive import Manifest, archive_status, run_archive
from geoseg.archive.crew import NAME, Crew, Hand
from geoseg.archive.drive import Drive
from geoseg.archive.heard import Heard
from geoseg.archive.record import Died, Done, Looked
from geoseg.archive.worker import Orders, Task
from geoseg.config import RasterSettings
from geoseg.errors import ConfigError
from geoseg.locks import output_lock


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


def test_a_detector_that_cannot_be_pickled_is_told(tmp_path: Path) -> None:
    class Local(Boxes):
        """Known by no name that another process could import it by."""

    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(50, 70, (5, 9, 5, 9)))
    done = run_archive(configured(tmp_path), model=Local(card=BOXES.card))
    assert done.exit_code == 2 and "a detector that cannot be pickled" in done.stopped
    assert states(tmp_path / "out") == {"a.tif": "pending"}


def test_a_script_that_its_own_processes_would_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(multiprocessing.current_process(), "name", NAME)
    with pytest.raises(ConfigError, match="__main__"):
        run_archive(configured(tmp_path), model=BOXES)


def test_what_hangs_is_ended_and_what_stood_still_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-Z and a pause longer than ``scene_timeout_s``, what was at work was ended."""
    paused, clock = [0.0], time.monotonic
    monkeypatch.setattr("geoseg.archive.crew.time", SimpleNamespace(monotonic=lambda: clock() + paused[0]))
    orders = Orders(model=BOXES, card=BOXES.card, digest="", settings=configured(tmp_path).settings, aoi=None)
    crew = Crew(orders, 1, limit_s=3600.0)
    raster = scene(tmp_path / "a.tif", ground(50, 70, background=SLEEPER))
    task = Task(id=1, href=str(raster), acquired=None, output=tmp_path / "a.gpkg", raster=RasterSettings())
    try:
        crew.give(task)
        hand, looked = _said(crew)
        assert isinstance(looked, Looked) and not crew.free
        hand.send(True)
        paused[0] = 7200.0
        assert not [answer for _, answer in crew.answers(0.1) if isinstance(answer, Died)]
        crew.limit_s = 0.0
        hand, died = _said(crew)
        assert isinstance(died, Died) and "scene_timeout_s" in died.why
        assert list(crew.answers(0.0)) == [] and crew.free and not hand.process.is_alive()
    finally:
        crew.stop()


def test_a_call_that_hangs_once_costs_one_try_and_no_other_scene(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate("abc"):
        scene(tmp_path / "in" / f"{name}.tif", ground(50, 70, (5, 9, 5, 9)), row=200 * number)
    model = Hesitant(card=BOXES.card, once=str(tmp_path / "hung"))
    settings = {"archive": {"retries": 2}, "engine": {"workers": 1, "block_timeout_s": 5.0}}
    done = run_archive(configured(tmp_path, **settings), model=model)
    assert (done.exit_code, dict(done.counts)) == (0, {"done": 3})
    with Manifest.opened(tmp_path / "out") as manifest:
        assert manifest.get(1).tries > 1


def test_what_hangs_on_every_try_has_failed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(50, 70, background=SLEEPER))
    scene(tmp_path / "in" / "b.tif", ground(50, 70, (5, 9, 5, 9)), row=200)
    settings = {"archive": {"retries": 1}, "engine": {"workers": 1, "block_timeout_s": 5.0}}
    done = run_archive(configured(tmp_path, **settings), model=BOXES)
    assert (done.exit_code, states(tmp_path / "out")) == (1, {"a.tif": "failed", "b.tif": "done"})
    with Manifest.opened(tmp_path / "out") as manifest:
        record = manifest.get(1)
    assert record.tries == 2 and "block_timeout_s" in str(record.error)


def test_what_is_said_of_a_scene_is_in_its_record(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(130, 190, (5, 9, 5, 9)))
    scene(tmp_path / "in" / "b.tif", ground(50, 60, (5, 9, 5, 9)), row=300)  # one tile
    done = run_archive(configured(tmp_path, detect={"batch": 4}), model=Greedy(card=BOXES.card))
    assert done.exit_code == 0
    told = {
        each["name"]: each["warnings"] for each in json.loads((tmp_path / "out" / "summary.json").read_text())["scenes"]
    }
    assert told["b.tif"] == []
    assert "halved 2 times, down to 1 chip" in told["a.tif"][0]  # of the report; the others were in the log only
    assert [each for each in told["a.tif"] if "failed on 4 chips" in each] == told["a.tif"][1:2]


def test_of_many_warnings_the_first_are_kept_each_once() -> None:
    log, heard = logging.getLogger("geoseg.test"), Heard()
    log.addHandler(heard)
    for number in range(60):
        log.warning("no %d", number // 2)
        log.info("nothing")
    found = heard.taken(["of the report", "no 3"])
    assert found == ["of the report", "no 3", "no 0", "no 1", "no 2", *(f"no {n}" for n in range(4, 19)), "and 11 more"]
    assert heard.taken() == []


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


def test_killed_before_it_was_recorded_a_scene_has_no_figures_of_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(50, 70, (5, 9, 5, 9), (20, 40, 10, 40)))
    assert run_archive(configured(tmp_path), model=BOXES).footprints == 2
    larger = configured(tmp_path, vectorize={"min_area_m2": 20.0})
    hear = Drive._hear

    def killed(drive: Drive, hand: Hand, answer: Any) -> None:
        if isinstance(answer, Done):
            raise KeyboardInterrupt
        hear(drive, hand, answer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Drive, "_hear", killed)
        run_archive(larger, model=BOXES)
    assert len(gpd.read_file(tmp_path / "out" / "scenes" / "a.gpkg", layer="footprints")) == 1
    done = run_archive(larger, model=BOXES)
    assert (done.exit_code, done.footprints) == (0, 1)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["scenes"][0]["footprints"] == 1


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
    process.send_signal(signal.SIGSTOP)
    os.utime(tmp_path / "out" / ".run.beat", (0, 0))  # as after a minute, when it was said to be killed
    _until(lambda: archive_status(tmp_path / "out").state == "suspended")
    assert [scene["name"] for scene in archive_status(tmp_path / "out").running] == ["b.tif"]
    process.send_signal(signal.SIGCONT)
    _until(lambda: archive_status(tmp_path / "out").state == "running")
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


_KILLED = """
import multiprocessing, os
from geoseg.archive.crew import track_quietly

spawn = multiprocessing.get_context("spawn")

def die():
    kept = spawn.Lock()
    os._exit(9)

if __name__ == "__main__":
    track_quietly()
    one = spawn.Process(target=die)
    one.start()
    one.join()
    print(one.exitcode)
"""


def test_a_killed_process_is_told_by_the_run_alone(tmp_path: Path) -> None:
    """Not by multiprocessing too, which counted the locks that a library had left."""
    (tmp_path / "killed.py").write_text(_KILLED)
    done = subprocess.run([sys.executable, tmp_path / "killed.py"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("9\n", "")
