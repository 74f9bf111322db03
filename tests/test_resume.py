"""A run that was stopped, whenever and however, goes on to what it would have come to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import Painted, write_raster
from test_squares import _speckled

import geoseg
from geoseg import Chip, Instances, Settings, Tiling
from geoseg.errors import ModelError, ResourceError, SinkError, StoreError
from geoseg.extraction import extract_to, run, run_store, run_store_to, run_to
from geoseg.job import Job
from geoseg.squares import MergeTask, Square, SquareResult

TILING = Tiling(core=24, halo=8, block=2)


def _settings(**sections: dict[str, Any]) -> Settings:
    return Settings.model_validate({"engine": {"workers": 2}, **sections})


PLAIN = _settings()


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("resume") / "scene.tif", _speckled(5, 150, 230))


@pytest.fixture(scope="module")
def undisturbed(raster: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("undisturbed") / "out.fgb"
    assert extract_to(raster, Painted(), output, tiling=TILING, settings=PLAIN).footprints > 50
    return output.read_bytes()


def _stop_after(blocks: int) -> Callable[[int, int], None]:
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        told += 1
        if told > blocks:
            raise KeyboardInterrupt

    return progress


def _left(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir())


def test_a_run_that_is_interrupted_goes_on(raster: Path, undisturbed: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.fgb"
    seen = 0
    for blocks in (0, 3, 5):
        model = Painted()
        with pytest.raises(KeyboardInterrupt):
            extract_to(raster, model, output, tiling=TILING, settings=PLAIN, progress=_stop_after(blocks))
        seen += len(model.seen)
        assert not output.exists() and (tmp_path / ".out.fgb.work").is_dir()
    model = Painted()
    extract_to(raster, model, output, tiling=TILING, settings=PLAIN)
    assert output.read_bytes() == undisturbed
    in_flight = 2 * 2 * 4  # blocks per thread, threads, tiles per block
    assert len(model.seen) > 0 and 70 <= seen + len(model.seen) <= 70 + 3 * in_flight
    assert _left(output) == [".out.fgb.lock", "out.fgb", "out.fgb.run.json", "out.gaps.fgb"]


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_what_is_streamed_is_what_is_written_at_once(raster: Path, tmp_path: Path, suffix: str) -> None:
    import geopandas as gpd

    done = run(raster, Painted(), tiling=TILING, settings=PLAIN)
    streamed, whole = tmp_path / f"streamed{suffix}", tmp_path / f"whole{suffix}"
    extract_to(raster, Painted(), streamed, tiling=TILING, settings=PLAIN)
    geoseg.write(done.footprints, whole, gaps=done.gaps, run=done.report.as_dict())
    read: Any = gpd.read_parquet if suffix == ".parquet" else gpd.read_file
    options = {"layer": "footprints"} if suffix == ".gpkg" else {}
    one, other = (read(path, **options) for path in (streamed, whole))
    assert list(one.columns) == list(other.columns) and one.crs == other.crs
    assert one.equals(other) and dict(one.dtypes) == dict(other.dtypes)
    if suffix in (".fgb", ".geojson"):
        assert streamed.read_bytes() == whole.read_bytes()


def test_a_threshold_is_changed_without_the_network(raster: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    model = Painted()
    geoseg.extract(raster, model, tiling=TILING, settings=PLAIN, store=store)
    assert model.seen
    for threshold in (0.0, 0.6):
        chosen, model = _settings(detect={"score_threshold": threshold}), Painted()
        again = run(raster, model, tiling=TILING, settings=chosen, store=store)
        assert model.seen == []
        fresh = run(raster, Painted(), tiling=TILING, settings=chosen)
        alone = run_store(store, settings=chosen)
        for found in (again, alone):
            assert found.footprints.equals(fresh.footprints) and found.report.run == fresh.report.run
            assert found.gaps.equals(fresh.gaps)


def test_vectorizing_a_store_writes_what_the_run_writes(raster: Path, undisturbed: bytes, tmp_path: Path) -> None:
    extract_to(raster, Painted(), tmp_path / "a.gpkg", tiling=TILING, settings=PLAIN, store=tmp_path / "store")
    run_store_to(tmp_path / "store", tmp_path / "b.fgb", settings=PLAIN)
    assert (tmp_path / "b.fgb").read_bytes() == undisturbed
    assert not any(name.endswith(".work") for name in _left(tmp_path / "a.gpkg"))


def test_an_aoi_is_kept_with_the_predictions(raster: Path, tmp_path: Path) -> None:
    grid = Job.of(raster, Painted(), aoi=None, tiling=TILING, settings=PLAIN).scope.grid
    lon, lat = grid.to_lonlat([20.0, 120.0], [30.0, 180.0])
    aoi = f"{min(lon)},{min(lat)},{max(lon)},{max(lat)}"
    whole = run(raster, Painted(), aoi=aoi, tiling=TILING, settings=PLAIN, store=tmp_path / "store")
    assert len(whole.footprints) > 0
    again = run_store(tmp_path / "store", settings=PLAIN)
    assert again.footprints.equals(whole.footprints) and again.gaps.equals(whole.gaps)
    assert again.report.aoi == whole.report.aoi and again.report.run == whole.report.run


@dataclass(frozen=True, kw_only=True)
class Failing(Painted):
    """Fails on one tile, as long as a file is there."""

    flag: Path

    def predict(self, chips: list[Chip]) -> list[Instances]:
        if self.flag.exists() and any((chip.tile.row, chip.tile.col) == (1, 1) for chip in chips):
            raise MemoryError("no room")
        return super().predict(chips)


@pytest.mark.parametrize("keeping", [False, True])
def test_what_failed_is_tried_again_and_only_that(
    raster: Path, undisturbed: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture, keeping: bool
) -> None:
    flag, output, work = tmp_path / "flag", tmp_path / "out.fgb", tmp_path / ".out.fgb.work"
    flag.touch()
    keep = _settings(store={"folder": str(tmp_path / "stores")}) if keeping else PLAIN
    for asked in (69, 3):  # all tiles but one; the others of its block
        model = Failing(flag=flag)
        report = run_to(raster, model, output, tiling=TILING, settings=keep)
        assert report.exit_code == 1 and report.tiles_failed == 1 and len(model.seen) == asked
        assert work.is_dir() and not [*work.glob("parts-*/merged*"), *work.glob("parts-*/shaped*")]
        assert f"the rest is kept in {work}" in caplog.text
    flag.unlink()
    model = Failing(flag=flag)
    second = run_to(raster, model, output, tiling=TILING, settings=keep)
    assert second.exit_code == 0 and len(model.seen) == 4  # its block
    assert output.read_bytes() == undisturbed and not work.exists()


def test_what_could_not_be_read_is_tried_again_and_only_that(tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "cut.tif", _speckled(5, 150, 230), compress="lzw", blockysize=4)
    raster.write_bytes(raster.read_bytes()[:-300])
    outputs, models = [], [Painted(), Painted()]
    for model in models:
        report = run_to(raster, model, tmp_path / "out.fgb", tiling=TILING, settings=PLAIN)
        assert report.exit_code == 1 and set(report.gaps_m2) == {"unreadable"}
        outputs.append((tmp_path / "out.fgb").read_bytes())
    assert outputs[0] == outputs[1]
    below = min(chip.tile.core.row_off for chip in models[1].seen)
    assert 0 < len(models[1].seen) < len(models[0].seen) and below >= 48


def test_work_of_another_raster_is_begun_anew(
    raster: Path, undisturbed: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out.fgb"
    other = write_raster(tmp_path / "other.tif", _speckled(6, 150, 230))
    with pytest.raises(KeyboardInterrupt):
        run_to(other, Painted(), output, tiling=TILING, settings=PLAIN, progress=_stop_after(4))
    model = Painted()
    run_to(raster, model, output, tiling=TILING, settings=PLAIN)
    assert "begun anew" in caplog.text and len(model.seen) == 70
    assert output.read_bytes() == undisturbed


def test_a_folder_of_somebody_elses_is_not_touched(raster: Path, tmp_path: Path) -> None:
    theirs = tmp_path / ".out.fgb.work"
    theirs.mkdir()
    (theirs / "notes.txt").write_text("mine")
    with pytest.raises(SinkError, match="no work folder"):
        run_to(raster, Painted(), tmp_path / "out.fgb", tiling=TILING, settings=PLAIN)
    assert (theirs / "notes.txt").read_text() == "mine"


def test_a_store_of_another_run_is_refused(raster: Path, tmp_path: Path) -> None:
    run(raster, Painted(), tiling=TILING, settings=PLAIN, store=tmp_path / "store")
    with pytest.raises(StoreError, match="another"):
        run(raster, Painted(), tiling=Tiling(core=30, halo=8), settings=PLAIN, store=tmp_path / "store")
    with pytest.raises(StoreError):
        run_store(tmp_path, settings=PLAIN)


def _damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "emptied":
        data = bytearray()
    else:
        data[-30] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "emptied", "changed"])
def test_a_damaged_part_is_made_again(raster: Path, undisturbed: bytes, tmp_path: Path, how: str) -> None:
    output = tmp_path / "out.fgb"
    with pytest.raises(KeyboardInterrupt):
        run_to(raster, Painted(), output, tiling=TILING, settings=PLAIN, progress=_stop_after(6))
    (parts,) = (tmp_path / ".out.fgb.work").glob("parts-*")
    _damage(sorted(parts.glob("block-*"))[0], how)
    run_to(raster, Painted(), output, tiling=TILING, settings=PLAIN)
    assert output.read_bytes() == undisturbed


_SCRIPT = """
import signal, sys, time
from dataclasses import dataclass
from pathlib import Path
sys.path.insert(0, {tests!r})
from painted import Painted
from geoseg import Settings, Tiling
from geoseg.extraction import extract_to

@dataclass(frozen=True, kw_only=True)
class Slow(Painted):
    def predict(self, chips):
        time.sleep({pause})
        with open({log!r}, "a") as log:
            log.write("".join(f"{{c.tile.row}},{{c.tile.col}}\\n" for c in chips))
        return super().predict(chips)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
settings = Settings.model_validate({{"engine": {{"workers": 2}}}})
extract_to({raster!r}, Slow(), {output!r}, tiling=Tiling(core=24, halo=8, block=2), settings=settings)
"""


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_killed_goes_on(
    raster: Path, undisturbed: bytes, tmp_path: Path, stop: signal.Signals
) -> None:
    output, log = tmp_path / "out.fgb", tmp_path / "seen.txt"
    here = str(Path(__file__).parent)

    def command(pause: float) -> list[str]:
        code = textwrap.dedent(_SCRIPT).format(
            tests=here, pause=pause, log=str(log), raster=str(raster), output=str(output)
        )
        return [sys.executable, "-c", code]

    temporary = tmp_path.with_name(f"{tmp_path.name}-temporary")
    temporary.mkdir()
    env = {**os.environ, "TMPDIR": str(temporary)}
    started = subprocess.Popen(command(0.05), stderr=subprocess.DEVNULL, env=env)
    while started.poll() is None and (not log.exists() or len(log.read_text().split()) < 16):
        time.sleep(0.02)
    started.send_signal(stop)
    started.wait(60)
    assert not output.exists()
    subprocess.run(command(0.0), check=True, timeout=120, env=env)
    assert output.read_bytes() == undisturbed
    # What the killed one had there is gone, too: the locks are dask's.
    assert sorted(path.name for path in temporary.rglob("*")) == ["dask-scratch-space", "global.lock", "purge.lock"]
    assert len(set(log.read_text().split())) == 70
    assert len(log.read_text().split()) <= 70 + 2 * 2 * 4
    assert _left(output) == [".out.fgb.lock", "out.fgb", "out.fgb.run.json", "out.gaps.fgb", "seen.txt"]


def test_a_bad_answer_leaves_the_work_done(raster: Path, tmp_path: Path) -> None:
    class Odd(Painted):
        def predict(self, chips: list[Chip]) -> Any:
            found = super().predict(chips)
            return found if len(self.seen) < 30 else [None] * len(chips)

    with pytest.raises(ModelError):
        run_to(raster, Odd(), tmp_path / "out.fgb", tiling=TILING, settings=PLAIN)
    assert (tmp_path / ".out.fgb.work").is_dir() and not (tmp_path / "out.fgb").exists()


def test_numbers_of_blocks_are_no_matter(raster: Path, undisturbed: bytes, tmp_path: Path) -> None:
    for block in (1, 5):
        output = tmp_path / f"{block}.fgb"
        run_to(raster, Painted(), output, tiling=Tiling(core=24, halo=8, block=block), settings=PLAIN)
        assert output.read_bytes() == undisturbed
    assert np.all([not name.endswith(".work") for name in os.listdir(tmp_path)])


def test_the_limits_hold_for_seams_too(raster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge, fails, hangs, tries = MergeTask.__call__, 3, threading.Event(), 0

    def stumbles(self: MergeTask, square: Square) -> SquareResult:
        nonlocal tries
        tries += 1
        if tries <= fails:
            raise OSError("a hiccup")
        return merge(self, square)

    monkeypatch.setattr(MergeTask, "__call__", stumbles)
    with pytest.raises(ResourceError, match="a hiccup"):
        extract_to(raster, Painted(), tmp_path / "out.fgb", tiling=TILING, settings=_engine(workers=1, retries=0))
    tries = 0
    extract_to(raster, Painted(), tmp_path / "out.fgb", tiling=TILING, settings=_engine(workers=1, retries=fails))

    def hangs_there(self: MergeTask, square: Square) -> SquareResult:
        hangs.wait()
        return merge(self, square)

    monkeypatch.setattr(MergeTask, "__call__", hangs_there)
    enough = threading.Timer(60, hangs.set)
    enough.start()
    with pytest.raises(ResourceError, match="hung"):
        extract_to(raster, Painted(), tmp_path / "b.fgb", tiling=TILING, settings=_engine(block_timeout_s=5.0))
    enough.cancel()


def _engine(**engine: Any) -> Settings:
    return Settings.model_validate({"engine": engine})
