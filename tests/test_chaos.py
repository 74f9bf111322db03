"""Kills, hangs, full disks, locks: a run that anything happened to comes to what an undisturbed one does.

The short form; ``benchmarks/chaos.py`` is the long one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import chaos
import pytest
from chaos_campaigns import PER_BLOCK, Ground, archives_killed, at_once, drivers_killed, ids_of

from geoseg.locks import output_lock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("chaos"), 7, 10)


def test_ended_drivers_go_on_to_the_same_output(ground: Ground) -> None:
    tally = drivers_killed(ground, 5, workers=2)
    assert tally.struck == 5


def test_of_runs_begun_at_once_on_one_output_one_wins(ground: Ground) -> None:
    assert at_once(ground, 2).rounds == 2


def test_a_run_whose_output_is_held_leaves_before_anything_is_loaded(ground: Ground, tmp_path: Path) -> None:
    code = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); import geoseg.cli as c; c.main()"
    )
    output = tmp_path / "o.gpkg"
    command = [sys.executable, "-c", code, "extract", str(ground.raster), "-o", str(output), "--model", "buildings"]
    with output_lock(output):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1]) == (3, "False"), done.stderr


def test_an_archive_that_is_killed_again_and_again_comes_to_the_same_outputs(tmp_path: Path) -> None:
    assert archives_killed(tmp_path, 2).struck


def test_what_is_kept_is_not_predicted_again(ground: Ground, tmp_path: Path) -> None:
    for _ in range(2):
        assert ground.drive("kept", workers=2, store=str(tmp_path / "store")).wait() == 0
        ground.check("kept")
    assert ground.redone("kept") == 0


def test_files_of_a_time_to_come_change_nothing(ground: Ground) -> None:
    driver = ground.drive("clock", workers=2, pause_s=0.1)
    chaos.eventually(lambda: len(ground.predicted("clock")) > 20)
    driver.signal(signal.SIGKILL)
    driver.wait()
    later = time.time() + 400 * 24 * 3600
    for path in [ground.output("clock").parent, *ground.output("clock").parent.rglob("*")]:
        if ".clock.fgb" in str(path):
            os.utime(path, (later, later))
    assert ground.drive("clock", workers=2).wait() == 0
    ground.check("clock")
    assert ground.redone("clock") <= 2 * PER_BLOCK


def test_a_process_that_was_stopped_for_a_while_goes_on_with_its_run(ground: Ground, tmp_path: Path) -> None:
    """By Ctrl-Z, or a batch system that makes room: dask took its only worker for dead, and blocks seemed to hang."""
    log, output = tmp_path / "log", tmp_path / "o.fgb"
    options = {"workers": 2, "log": str(log), "pause_s": 0.1, "limit_s": 4.0}
    soon = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1s"}  # dask takes five seconds then, for its five minutes
    driver = chaos.spawn(str(ground.raster), str(output), options, **soon)
    chaos.eventually(lambda: chaos.predicted(log) or driver.poll() is not None)
    driver.send_signal(signal.SIGSTOP)
    time.sleep(6.0)
    driver.send_signal(signal.SIGCONT)
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    assert chaos.digest(output) == ground.expected


def test_other_locales_and_strange_paths(ground: Ground, tmp_path: Path) -> None:
    raster = os.fsencode(tmp_path) + b"/" + "r\u00e9 \u2603!?".encode() + b"x" * 238 + b".tif"
    folder = os.fsencode(tmp_path) + b"/fold\xe9r ?!"  # not UTF-8: an output may lie there
    os.mkdir(folder)
    os.link(ground.raster, raster)
    output = folder + b"/\xff" + b"y" * 200 + b".fgb"  # its lock and work folder have longer names
    env = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "TZ": "Asia/Kathmandu"}
    done = chaos.spawn(raster, output, {"workers": 2}, **env)
    said, _ = done.communicate(timeout=300)
    assert done.returncode == 0, said
    shutil.copy(output, tmp_path / "plain.fgb")
    assert ids_of(tmp_path / "plain.fgb") == ground.ids


@pytest.mark.parametrize("ways", [(signal.SIGKILL,), (signal.SIGINT, signal.SIGINT)])
def test_no_process_outlives_its_run(ground: Ground, tmp_path: Path, ways: tuple[int, ...]) -> None:
    log = tmp_path / "log"
    with chaos.marked() as left:
        options = {"processes": 1, "workers": 1, "log": str(log), "pause_s": 0.3}
        driver = chaos.spawn(str(ground.raster), str(tmp_path / "o.fgb"), options)
        chaos.eventually(lambda: chaos.predicted(log) or driver.poll() is not None)
        assert len(left()) >= 2
        for way in ways:
            driver.send_signal(way)
            time.sleep(0.2)
        said, _ = driver.communicate(timeout=60)
        assert driver.returncode in (130, -ways[0]), said
        chaos.eventually(lambda: not left(), 10)


def test_a_full_disk_leaves_the_old_output_at_every_point(tmp_path: Path) -> None:
    chaos.scene(tmp_path / "raster.tif", 3, 5)
    report = _on_a_small_disk(tmp_path, 6)
    for point in report["points"]:
        assert point["code"] == 4 and point["intact"] and not point["drafts"], point
        assert "ake room" in point["said"]
        assert point["again"] == [0, ""] and point["same"], point
    assert ["disk is full" in said for said in report["without_files"]] == [True, True, True], report["without_files"]
    assert max(map(len, report["without_files"])) < 1000  # 5 kB of SQL would hide what is to be done
    assert report["ending"] == "stopped"  # it is not taken for one that was killed
    assert report["read_only"]["code"] == 4 and report["read_only"]["intact"]
    assert "Read-only" in report["read_only"]["said"]


def _on_a_small_disk(home: Path, points: int) -> dict:  # type: ignore[type-arg]
    script = chaos.HERE / "chaos_disk.py"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", sys.executable, str(script), str(home), str(points)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(chaos.HERE), str(chaos.HERE.parent)])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if "unshare:" in done.stderr:
        pytest.skip(f"no file system of our own can be mounted here ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_an_output_that_is_open_for_editing_is_left_alone(ground: Ground, tmp_path: Path) -> None:
    output = tmp_path / "o.gpkg"
    options = {"workers": 2}
    assert chaos.drive(ground.raster, output, **options).wait() == 0
    editor = sqlite3.connect(output, isolation_level=None)
    editor.execute("PRAGMA journal_mode = WAL")  # as QGIS does
    editor.execute("BEGIN")
    editor.execute("UPDATE run SET value = 'edited' WHERE key = 'raster'")
    editor.execute("COMMIT")
    before = output.read_bytes()
    refused = chaos.drive(ground.raster, output, **options)
    assert refused.wait() == 4
    assert "End the edit session" in refused.text
    assert output.read_bytes() == before
    editor.close()
    assert chaos.drive(ground.raster, output, **options).wait() == 0


def test_a_raster_with_a_name_that_gdal_cannot_take_is_refused(ground: Ground, tmp_path: Path) -> None:
    import geoseg

    raster = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9.tif"))
    os.link(ground.raster, raster)
    with pytest.raises(geoseg.errors.RasterError, match="not UTF-8"):
        geoseg.extract(raster, chaos.Spots())
