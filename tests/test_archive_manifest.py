"""The manifest: what is committed stays, whatever happens to the process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psutil
import pytest
from archive_scenes import day
from commands import cli

from geoseg.archive import Manifest, Scene, archive_status
from geoseg.archive.manifest import FILE
from geoseg.archive.outcome import verdict
from geoseg.archive.signature import signature
from geoseg.errors import ConfigError, SinkError


def scenes(*names: str) -> list[Scene]:
    return [Scene(href=f"/in/{name}", name=name) for name in names]


def begin(manifest: Manifest, *names: str) -> int:
    return manifest.begin(scenes(*names), "{stem}", ".gpkg")


def test_scenes_keep_number_and_output_from_round_to_round(tmp_path: Path) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        assert begin(manifest, "b.tif", "a.tif", "b.vrt", "b.tif") == 3
        first = {record.name: (record.id, record.output) for record in manifest.records()}
        assert first == {
            "b.tif": (1, "scenes/b.gpkg"),
            "a.tif": (2, "scenes/a.gpkg"),
            "b.vrt": (3, "scenes/b-2.gpkg"),
        }
        manifest.update(2, state="done", footprints=4, seen=day(3), figures={"gaps_m2": {"nodata": 2.5}})
    with Manifest.opened(tmp_path, create=True) as manifest:
        assert begin(manifest, "c.tif", "a.tif", "b.vrt") == 3
        assert manifest.counts() == {"gone": 1, "pending": 3}
        again = {record.name: (record.id, record.output) for record in manifest.records()}
        assert again == {"a.tif": first["a.tif"], "b.vrt": first["b.vrt"], "c.tif": (4, "scenes/c.gpkg")}
        record = manifest.get(2)
        assert (record.last, record.footprints, record.seen) == ("done", 4, day(3))
        assert record.figures == {"gaps_m2": {"nodata": 2.5}} and manifest.total("footprints") == 0


def test_what_stands_from_an_earlier_round_counts_until_it_is_done_anew(tmp_path: Path) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, "a.tif", "b.tif", "gone.tif")
        for number in (1, 2, 3):
            manifest.update(number, state="done", footprints=10 * number)
        begin(manifest, "a.tif", "b.tif")
        assert (manifest.standing(), manifest.total("footprints")) == (30, 0)
        manifest.update(1, state="running", last=None)
        assert manifest.standing() == 20
        manifest.update(1, state="done", footprints=7)
        assert manifest.standing() == 27


def test_new_scenes_take_as_long_as_those_that_were_worked_on(tmp_path: Path) -> None:
    """Most of an archive stands unchanged, which takes no time, and what is new comes last."""
    old = [f"{number}.tif" for number in range(97)]

    def left() -> float | None:
        return archive_status(tmp_path).eta_s

    with Manifest.opened(tmp_path, create=True) as manifest:
        facts = {"state": "running", "pid": os.getpid(), "host": socket.gethostname(), "processes": 2}
        manifest.begin(scenes(*old), "{stem}", ".gpkg", **facts)
        (tmp_path / ".run.beat").touch()
        manifest.update(1, state="done", seconds=10.0)
        assert left() == 96 * 10 / 2  # the first run: all are new
        for number in range(2, 98):
            manifest.update(number, state="done", seconds=0.0)
        manifest.begin(scenes(*old, "a.tif", "b.tif", "c.tif", "d.tif"), "{stem}", ".gpkg", **facts)
        for number in range(1, 98):
            assert left() is None  # what a new one takes is not known yet
            manifest.update(number, state="done", seconds=0.0, unchanged=True)
        manifest.update(98, state="done", seconds=40.0)
        manifest.update(99, state="running")
        assert left() == (2 + 0.5) * 40 / 2


def test_pages_see_every_scene_once_while_states_change(tmp_path: Path) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        count = 1203
        assert begin(manifest, *(f"{i}.tif" for i in range(count))) == count
        seen = []
        for record in manifest.records("pending"):
            seen.append(record.id)
            if record.id % 100 == 0:
                manifest.update(record.id, state="done", footprints=1)
        assert seen == list(range(1, count + 1))
        assert manifest.counts() == {"done": 12, "pending": count - 12} and manifest.total("footprints") == 12


def test_what_names_no_text_can_hold_comes_back(tmp_path: Path) -> None:
    href = "/in/" + os.fsdecode(b"\xff\xfe.tif")
    with Manifest.opened(tmp_path, create=True) as manifest:
        manifest.begin([Scene(href=href, name=os.fsdecode(b"\xff\xfe.tif"))], "{name}", ".gpkg")
        manifest.update(1, state="refused", error="no: \udcff", code=2)
        record = manifest.get(1)
        assert (record.href, record.output) == (href, "scenes/__.tif.gpkg")
        assert manifest.codes() == {2}


def test_a_round_begins_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> object:
        yield from scenes("a.tif")
        raise ConfigError("a list that ends in the middle")

    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, "old.tif")
        manifest.update(1, state="done")
        with pytest.raises(ConfigError):
            manifest.begin(failing(), "{stem}", ".gpkg")  # type: ignore[arg-type]
        assert manifest.counts() == {"done": 1} and manifest.fact("round") == 1


_KILLED = """
import os, signal, sys
from pathlib import Path
from geoseg.archive import Manifest, Scene, archive_status
with Manifest.opened(Path(sys.argv[1]), create=True) as manifest:
    manifest.begin([Scene(href=f"/{i}", name=f"{i}.tif") for i in range(200)], "{stem}", ".gpkg")
    for number in range(1, 201):
        manifest.update(number, state="done", footprints=number)
        print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 57])
def test_a_killed_process_loses_nothing_that_was_committed(tmp_path: Path, after: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= after:
            process.send_signal(signal.SIGKILL)
            break
    last = max([after, *(int(line) for line in process.stdout)])
    process.wait()
    with Manifest.opened(tmp_path) as manifest:  # read only: as `geoseg status` finds it
        done = [record.footprints for record in manifest.records("done")]
    assert done[:last] == list(range(1, last + 1)) and len(done) <= last + 1


def test_what_may_wait_is_on_the_disk_with_what_may_not(tmp_path: Path) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, "a.tif", "b.tif", "c.tif")
        for number, put in ((1, manifest.update_soon), (2, manifest.update_soon), (3, manifest.update)):
            put(number, state="done", unchanged=True)
            with Manifest.opened(tmp_path) as seen:  # somebody else's connection is never locked out
                assert seen.count("done") == (3 if number == 3 else 0)
        manifest.update_soon(1, state="pending")
        manifest.settle()
        with Manifest.opened(tmp_path) as seen:
            assert seen.counts() == {"done": 2, "pending": 1}


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no manifest"), Manifest.opened(tmp_path):
        pass
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(ConfigError, match="no manifest of this version"), Manifest.opened(tmp_path, create=True):
        pass


def test_a_folder_whose_disk_was_full_from_the_start_holds_no_run(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with pytest.raises(ConfigError, match="holds no manifest"):
        archive_status(tmp_path)
    with Manifest.opened(tmp_path, create=True), pytest.raises(ConfigError, match="no run was begun"):
        archive_status(tmp_path)


@pytest.mark.parametrize("left", [b"text" * 2000, 6000])
def test_a_manifest_that_is_broken_says_what_helps(tmp_path: Path, left: bytes | int) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, *(f"{number}.tif" for number in range(300)))
    path = tmp_path / FILE
    path.write_bytes(left if isinstance(left, bytes) else path.read_bytes()[:left])
    with pytest.raises(SinkError, match="move the manifest away"), Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, "a.tif")


CHANGES = (
    "UPDATE scene SET state = 'dnoe'",
    "UPDATE scene SET figures = '{', state = 'failed'",
    "UPDATE scene SET figures = '[1]', state = 'failed'",
    "UPDATE scene SET tiles = '[1]', state = 'running'",
    "UPDATE scene SET tries = 'often', state = 'failed'",
    "UPDATE scene SET started = 'yesterday', state = 'running'",
    "UPDATE scene SET started = '2026-01-01', state = 'running'",
    "UPDATE scene SET name = 7, state = 'failed'",
    *(f"UPDATE fact SET value = '{value}' WHERE key = 'pid'" for value in ("{", '"x"', "[]")),
    """UPDATE fact SET value = '"runing"' WHERE key = 'state'""",
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_somebody_changed_says_what_helps(tmp_path: Path, change: str) -> None:
    facts = {"state": "running", "pid": os.getpid(), "host": socket.gethostname(), "started": str(datetime.now(UTC))}
    with Manifest.opened(tmp_path, create=True) as manifest:
        manifest.begin(scenes("a.tif"), "{stem}", ".gpkg", **facts)
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(change)
    db.close()
    result = cli("status", tmp_path)
    assert result.exit_code == 4 and "move the manifest away" in result.stderr, result.output


def test_a_run_over_nothing_has_the_status_none(tmp_path: Path) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        manifest.begin(scenes(), "{stem}", ".gpkg", state="ended", started=str(datetime.now(UTC)), exit_code=0)
    assert "scenes     0: none (0 unchanged)" in cli("status", tmp_path).stdout


def test_whether_a_run_is_at_work_is_told_by_its_process(tmp_path: Path) -> None:
    """Its sign of life stands still where it is stopped, or the disk is full."""
    with Manifest.opened(tmp_path, create=True):
        (tmp_path / ".run.beat").touch()  # so far it has only looked for its scenes
        assert archive_status(tmp_path).state == "running" and "being looked for" in cli("status", tmp_path).stdout
        os.utime(tmp_path / ".run.beat", (1, 1))
        with pytest.raises(ConfigError, match="no run was begun"):
            archive_status(tmp_path)
    mine = {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    began = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    for hours, state in (
        (1, "running"),
        (-1, "killed"),
    ):  # begun by this process; before it was: its number is another's
        with Manifest.opened(tmp_path, create=True) as manifest:
            manifest.begin(scenes("a.tif"), "{stem}", ".gpkg", **mine, started=str(began + timedelta(hours=hours)))
        assert archive_status(tmp_path).state == state
    with Manifest.opened(tmp_path, create=True) as manifest:
        manifest.note(pid=-1)  # by hand: psutil refuses to look for it
    assert archive_status(tmp_path).state == "killed"


def test_a_signature_tells_contents_masks_and_copies_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert signature(path) is None and signature("s3://bucket/a.tif") is None
    path.write_bytes(b"one")
    first = signature(path)
    assert first == signature(path)
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # of the same size, and its time set back
    second = signature(path)
    assert second != first
    (tmp_path / "a.tif.msk").write_bytes(b"mask")
    assert signature(path) != second


def test_what_a_kill_left_half_written_is_rolled_back_by_who_reads(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, *(f"{i}.tif" for i in range(200)))
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA cache_size = 1")  # changed pages go to the disk before the commit
    db.execute("UPDATE scene SET state = 'done', name = hex(randomblob(2000))")
    for path in tmp_path.glob(f"{FILE}*"):  # as a power cut leaves them
        shutil.copyfile(path, tmp_path / "copy" / path.name)
    db.close()
    assert (tmp_path / "copy" / f"{FILE}-journal").stat().st_size > 0
    with Manifest.opened(tmp_path / "copy") as manifest:
        assert manifest.counts() == {"pending": 200}
        with pytest.raises(SinkError), Manifest.opened(tmp_path / "copy") as reader:
            reader.note(state="ended")


def test_a_manifest_is_not_locked_while_inputs_are_looked_for(tmp_path: Path) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, "a.tif")

        def slow() -> Iterator[Scene]:
            yield from scenes("a.tif", "b.tif")
            with sqlite3.connect(tmp_path / FILE, timeout=0.0) as other:
                other.execute("BEGIN EXCLUSIVE")
            other.close()

        assert manifest.begin(slow(), "{stem}", ".gpkg", state="running") == 2
        assert manifest.fact("state") == "running"

        def broken() -> Iterator[Scene]:
            yield from scenes("c.tif")
            raise ConfigError("a catalogue that ends early")

        with pytest.raises(ConfigError):
            manifest.begin(broken(), "{stem}", ".gpkg", state="other")
        assert (manifest.count("pending"), manifest.fact("state")) == (2, "running")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_no_room_for_the_list_of_scenes_is_the_environments_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, "a.tif")
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "w+b"))
            with pytest.raises(SinkError, match=r"No space left.*TMPDIR"):
                begin(manifest, "b.tif")
            with pytest.raises(SinkError, match="No space left"):
                begin(manifest, *(f"{number}.tif" for number in range(1000)))
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
            with pytest.raises(SinkError, match="TMPDIR"):
                begin(manifest, "b.tif")
        assert [record.name for record in manifest.records()] == ["a.tif"]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("done", "same"), 0),
        (("done", "refused"), 1),
        (("parts", "same"), 1),
        (("refused", "refused"), 2),
        (("refused", "same"), 2),
        (("locked",), 3),
        (("failed", "failed"), 4),
        (("failed", "refused"), 4),
        (("unchanged", "failed", "failed"), 4),
        (("unchanged", "failed", "refused", "locked", "same"), 4),
        (("unchanged", "failed", "done"), 1),
        (("unchanged", "failed", "fault"), 1),
        (("unchanged", "refused"), 1),
        (("unchanged", "locked"), 1),
        ((), 0),
    ],
)
def test_the_exit_code_of_a_run(tmp_path: Path, states: tuple[str, ...], code: int) -> None:
    codes = {"parts": 1, "refused": 2, "locked": 3, "failed": 4, "fault": 70}
    meant = {"unchanged": {"state": "done", "unchanged": True}, "fault": {"state": "failed"}}
    with Manifest.opened(tmp_path, create=True) as manifest:
        begin(manifest, *(f"{number}.tif" for number in range(len(states))))
        for number, state in enumerate(states, start=1):
            manifest.update(number, code=codes.get(state, 0), **meant.get(state, {"state": state}))
        assert verdict(manifest) == code and verdict(manifest, stopped=130) == 130
