from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import geopandas as gpd
import pytest
from sink_tables import RUN, footprints, gaps

from geoseg.errors import ConfigError, SinkError
from geoseg.sinks import SINKS, check_output, write
from geoseg.sinks.atomic import replacing

TESTS = Path(__file__).parent
LIMITED = """
import resource, sys
from sink_tables import RUN, footprints, gaps
from geoseg.errors import ConfigError, SinkError
from geoseg.sinks import SINKS, write
table, beside = footprints(3000), gaps()
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
for suffix in SINKS:
    try:
        write(table, f"{sys.argv[1]}/out{suffix}", gaps=beside, run=RUN)
    except SinkError as error:
        print(suffix, error.exit_code, "intact" in str(error))
"""
KILLED = """
import os, sys
from pathlib import Path
from geoseg.sinks.atomic import replacing
with replacing(Path(sys.argv[1])) as (draft,):
    draft.write_text("half")
    os.kill(os.getpid(), 9)
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with half a megabyte of room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "geoseg-test", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted only by root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file size limit")
def test_a_write_cut_short_leaves_the_old_output(tmp_path: Path) -> None:
    for suffix in SINKS:
        write(footprints(2), tmp_path / f"out{suffix}", gaps=gaps(), run=RUN)
    before = contents(tmp_path)
    done = python(LIMITED, str(tmp_path))
    assert done.stdout.split("\n")[:-1] == [f"{suffix} 4 True" for suffix in SINKS], done.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize("suffix", list(SINKS))
def test_a_full_disk_leaves_the_old_output(small_disk: Path, suffix: str) -> None:
    path = write(footprints(2), small_disk / f"out{suffix}")
    before = contents(small_disk)
    with pytest.raises(SinkError, match="intact") as failure:
        write(footprints(6000), path)
    assert failure.value.exit_code == 4
    assert contents(small_disk) == before
    assert len(gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path, layer=0)) == 2


def test_a_read_only_folder_is_named(small_disk: Path) -> None:
    path = write(footprints(2), small_disk / "out.gpkg")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(SinkError, match="read-only"):
        write(footprints(3), path)
    assert len(gpd.read_file(path, layer="footprints")) == 2


def test_a_killed_process_leaves_the_old_output_and_its_leftover_goes(tmp_path: Path) -> None:
    target = tmp_path / "out.gpkg"
    target.write_text("old")
    assert python(KILLED, str(target)).returncode == -9
    assert target.read_text() == "old"
    (leftover,) = tmp_path.glob(".geoseg-*")
    with replacing(target) as (draft,):
        draft.write_text("new")
    assert target.read_text() == "new" and leftover.exists(), "a young leftover may be another's work"
    os.utime(leftover, (time.time() - 90_000,) * 2)
    with replacing(tmp_path / "other.gpkg") as (draft,):
        draft.write_text("other")
    assert leftover.exists(), "another output's leftover is not ours to remove"
    with replacing(target) as (draft,):
        draft.write_text("newer")
    assert sorted(os.listdir(tmp_path)) == ["other.gpkg", "out.gpkg"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o002, 0o027])
def test_files_are_for_whom_the_umask_says(tmp_path: Path, mask: int) -> None:
    """SQLite lets no group write, whatever the umask: in a folder of several people nobody else could correct."""
    before = os.umask(mask)
    try:
        for suffix in SINKS:
            path = write(footprints(2), tmp_path / f"out{suffix}")
            assert path.stat().st_mode & 0o777 == 0o666 & ~mask, suffix
    finally:
        os.umask(before)


def test_an_error_of_the_caller_passes_and_nothing_changes(tmp_path: Path) -> None:
    target = tmp_path / "out.gpkg"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as (draft,):
        draft.write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"out.gpkg": b"old"}


def test_siblings_come_first(tmp_path: Path) -> None:
    target, beside = tmp_path / "out.parquet", tmp_path / "out.gaps.parquet"
    beside.mkdir()  # the sibling cannot be put in place: the target must not be either
    target.write_text("old")
    with pytest.raises(SinkError), replacing(target, beside) as drafts:
        for draft in drafts:
            draft.write_text("new")
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("absent/out.gpkg", "Create the folder first"),
        ("file/out.gpkg", "in what is no folder"),
        ("folder.gpkg", "is a folder"),
        (f"{'n' * 300}.gpkg", "shorter name"),
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.gpkg").mkdir()
    # A folder that is not there is a slip of the user's; what the system refuses is the environment's.
    for use in (lambda path: write(footprints(1), path), check_output):
        with pytest.raises(ConfigError if "/out" in place else SinkError, match=message):
            use(tmp_path / place)


def test_a_place_is_checked_without_a_trace(tmp_path: Path) -> None:
    assert check_output(tmp_path / "out.gpkg") == tmp_path / "out.gpkg"
    assert os.listdir(tmp_path) == []
    (tmp_path / "out.gpkg-wal").write_text("")
    with pytest.raises(SinkError, match="open for editing"):
        check_output(tmp_path / "out.gpkg")
    assert check_output(tmp_path / "out.gpkg", force=True) and check_output(tmp_path / "out.fgb")


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "store"
    real.mkdir()
    (tmp_path / "latest.gpkg").symlink_to(real / "v1.gpkg")
    write(footprints(2), tmp_path / "latest.gpkg")
    assert (tmp_path / "latest.gpkg").is_symlink() and len(gpd.read_file(real / "v1.gpkg", layer=0)) == 2


@pytest.mark.parametrize("suffix", list(SINKS))
@pytest.mark.parametrize(
    "name",
    [
        "n" * 230,
        'it\'s "quoted"',
        "日本 ü",
        "a?b#c%20!d",
        "x.zip!y",
        "-v",
        b"latin-\xe9".decode("utf-8", "surrogateescape"),
    ],
    ids=["long", "quotes", "unicode", "url", "zip", "dash", "not-utf8"],
)
def test_awkward_names(tmp_path: Path, name: str, suffix: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = write(footprints(2), folder / f"{name}{suffix}", gaps=gaps(), run=RUN)
    (tmp_path / f"plain{suffix}").write_bytes(path.read_bytes())
    plain = tmp_path / f"plain{suffix}"
    assert len(gpd.read_parquet(plain) if suffix == ".parquet" else gpd.read_file(plain, layer=0)) == 2
    assert not list(folder.glob(".geoseg-*"))


def test_a_path_longer_than_sqlite_takes(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 120] * 5)
    folder.mkdir(parents=True)
    path = write(footprints(2), folder / "out.gpkg")
    assert path.read_bytes() == write(footprints(2), tmp_path / "out.gpkg").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    path = write(footprints(2), tmp_path / "out.gpkg")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_what_belongs_together_is_in_place(tmp_path: Path, number: signal.Signals) -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    target, beside = tmp_path / "out.fgb", tmp_path / "out.gaps.fgb"
    target.write_text("old")
    before = signal.signal(number, stop)
    try:
        with (
            pytest.raises(Stopped),
            replacing(target, beside, make_way=lambda: os.kill(os.getpid(), number)) as drafts,
        ):
            for draft in drafts:
                draft.write_text("new")
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
    assert contents(tmp_path) == {"out.fgb": b"new", "out.gaps.fgb": b"new"}


def test_an_output_is_written_from_another_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        path = pool.submit(write, footprints(2), tmp_path / "out.fgb", gaps=gaps()).result()
    assert len(gpd.read_file(path)) == 2


def test_a_file_system_that_cannot_flush_a_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    assert len(gpd.read_file(write(footprints(2), tmp_path / "out.fgb"))) == 2


def test_a_file_that_cannot_be_flushed_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(handle: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(SinkError, match="not permitted"):
        write(footprints(2), tmp_path / "out.fgb")
    assert os.listdir(tmp_path) == []


def test_a_seal_is_there_only_with_what_it_speaks_of(tmp_path: Path) -> None:
    """Killed anywhere in the renaming: the old run's note never stands beside the new rows, nor the other way round."""
    script = """
import os, sys
from pathlib import Path
from geoseg.sinks import atomic
target, calls, real = Path(sys.argv[1]), [0], os.replace
def replace(source, final):
    if calls[0] == int(sys.argv[2]):
        os._exit(9)
    calls[0] += 1
    real(source, final)
atomic.os.replace = replace
with atomic.replacing(target, target.with_name("gaps"), seal=target.with_name("run")) as drafts:
    for draft in drafts:
        draft.write_text("new")
"""
    seen = set()
    for point in range(7):
        folder = tmp_path / str(point)
        folder.mkdir()
        for name in ("rows", "gaps", "run"):
            (folder / name).write_text("old")
        python(script, str(folder / "rows"), str(point))
        state = tuple(
            (folder / name).read_text() if (folder / name).exists() else "-" for name in ("rows", "gaps", "run")
        )
        rows, beside, seal = state
        assert rows in ("old", "new")
        assert seal in ("-", rows) and (seal == "-" or beside == rows)
        seen.add(state)
    assert {("old", "old", "old"), ("new", "new", "new"), ("new", "new", "-")} <= seen, seen


@pytest.mark.parametrize("refused", [0, 1, 2, 3, 4])
def test_a_renaming_that_is_refused_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    table = footprints(5)
    target = write(table, tmp_path / "out.geojson", gaps=gaps(), run=RUN)
    before, calls, real = contents(tmp_path), [0], os.replace

    def replace(source: Path, final: Path) -> None:
        calls[0] += 1
        if calls[0] == refused + 1:
            raise PermissionError(errno.EACCES, "not yours")
        real(source, final)

    monkeypatch.setattr("geoseg.sinks.atomic.os.replace", replace)
    with pytest.raises(SinkError, match="intact"):
        write(table[:2], target, gaps=gaps(1), run={**RUN, "run": "NEW"})
    assert contents(tmp_path) == before
