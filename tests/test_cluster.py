"""Whole runs on schedulers and workers of their own, started apart, and on processes of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from painted import Painted, write_raster
from test_squares import _speckled

from geoseg import Chip, Instances, Settings, Tiling
from geoseg.errors import ResourceError
from geoseg.extraction import extract_to
from geoseg.work import Parts

TILING = Tiling(core=24, halo=8, block=2)
HERE = Path(__file__).parent


def _settings(**engine: Any) -> Settings:
    return Settings.model_validate({"engine": {"workers": 2, **engine}})


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("cluster") / "scene.tif", _speckled(5, 150, 230))


@pytest.fixture(scope="module")
def undisturbed(raster: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("undisturbed") / "out.fgb"
    extract_to(raster, Painted(), output, tiling=TILING, settings=_settings())
    return output.read_bytes()


@dataclass(frozen=True, kw_only=True)
class Logged(Painted):
    """Writes down which process saw which tile; may die, or take its time."""

    log: str
    pause_s: float = 0.0
    deadly: tuple[int, int] | None = None

    def predict(self, chips: list[Chip]) -> list[Instances]:
        time.sleep(self.pause_s)
        if any((chip.tile.row, chip.tile.col) == self.deadly for chip in chips):
            os.kill(os.getpid(), signal.SIGKILL)
        with open(self.log, "a") as log:
            log.write("".join(f"{os.getpid()} {chip.tile.row},{chip.tile.col}\n" for chip in chips))
        return super().predict(chips)


def _seen(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


@contextmanager
def _started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of dask's, which ends with the block."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "dask", *arguments], env=environment, **quiet)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


@contextmanager
def _scheduler() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with _started("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard") as process:
        yield f"tcp://127.0.0.1:{port}", process


def _worker(address: str, *more: str) -> Any:
    return _started("worker", address, "--host", "127.0.0.1", "--nthreads", "2", "--no-dashboard", *more)


def _until_there_are(workers: int, address: str) -> None:
    with Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=120)


def test_a_cluster_started_apart_gives_the_same_and_networks_run_where_gpus_are(
    raster: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    log = tmp_path / "seen.txt"
    with _scheduler() as (address, _), _worker(address), _worker(address, "--resources", "GPU=1", "--no-nanny") as gpu:
        _until_there_are(2, address)
        extract_to(
            raster, Logged(log=str(log)), tmp_path / "out.fgb", tiling=TILING, settings=_settings(scheduler=address)
        )
        assert {pid for pid, _ in _seen(log)} == {str(gpu.pid)}
    assert (tmp_path / "out.fgb").read_bytes() == undisturbed
    assert not (tmp_path / ".out.fgb.work").exists()


def test_a_run_that_lost_its_last_gpu_ends_and_no_network_runs_elsewhere(raster: Path, tmp_path: Path) -> None:
    log, told = tmp_path / "seen.txt", 0
    with (
        _scheduler() as (address, scheduler),
        _worker(address),
        _worker(address, "--resources", "GPU=1", "--no-nanny") as gpu,
    ):
        _until_there_are(2, address)
        enough = threading.Timer(90, scheduler.kill)

        def lose(done: int, total: int) -> None:
            nonlocal told
            told += 1
            if told == 2:
                gpu.kill()
                enough.start()

        model, settings = Logged(log=str(log), pause_s=0.1), _settings(scheduler=address, patience_s=4.0)
        with pytest.raises(ResourceError, match="no workers that have the resource GPU"):
            extract_to(raster, model, tmp_path / "out.fgb", tiling=TILING, settings=settings, progress=lose)
        enough.cancel()
        assert {pid for pid, _ in _seen(log)} == {str(gpu.pid)}


def test_workers_and_schedulers_may_die(raster: Path, undisturbed: bytes, tmp_path: Path) -> None:
    log, output = tmp_path / "seen.txt", tmp_path / "out.fgb"
    model = Logged(log=str(log), pause_s=0.1)
    with _scheduler() as (address, scheduler), _worker(address, "--no-nanny") as one, _worker(address):
        told = 0

        def disturb(done: int, total: int) -> None:
            nonlocal told
            told += 1
            if told == 2:
                one.kill()
            if told == 8:
                scheduler.kill()

        with pytest.raises(ResourceError):
            extract_to(raster, model, output, tiling=TILING, settings=_settings(scheduler=address), progress=disturb)
    assert not output.exists()
    before = {tile for _, tile in _seen(log)}
    assert len(before) >= 7 * 4
    extract_to(raster, model, output, tiling=TILING, settings=_settings())
    assert output.read_bytes() == undisturbed
    assert {tile for _, tile in _seen(log)} == {f"{row},{col}" for row in range(7) for col in range(10)}


def test_a_block_that_kills_its_workers_is_a_gap_and_the_rest_is_done(raster: Path, tmp_path: Path) -> None:
    log = tmp_path / "seen.txt"
    model = Logged(log=str(log), deadly=(3, 5))
    report = extract_to_quietly(raster, model, tmp_path / "out.fgb", _settings(processes=2))
    assert report.exit_code == 1 and report.tiles_failed == 4 and report.tiles_examined == 66
    assert {tile for _, tile in _seen(log)} >= {f"{r},{c}" for r in range(7) for c in range(10)} - {
        "2,4", "2,5", "3,4", "3,5"
    }  # fmt: skip


def extract_to_quietly(raster: Path, model: Painted, output: Path, settings: Settings) -> Any:
    from geoseg.extraction import run_to

    return run_to(raster, model, output, tiling=TILING, settings=settings)


def test_a_worker_that_does_not_see_the_folder_sends_its_parts(
    raster: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Parts, "shared", property(lambda self: False))
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_to(raster, Painted(), tmp_path / "out.fgb", tiling=TILING, settings=_settings(), progress=stop)
    model = Painted()
    extract_to(raster, model, tmp_path / "out.fgb", tiling=TILING, settings=_settings())
    assert (tmp_path / "out.fgb").read_bytes() == undisturbed and len(model.seen) < 70


def _unseen_elsewhere(parts: Parts) -> tuple[Any, ...]:
    """What other processes get of a work folder that they do not see."""
    return partial(Parts, path=parts.path.with_name("elsewhere"), token=parts.token), ()


@pytest.mark.parametrize("name", ["out.fgb", "dataset"])
def test_a_run_whose_workers_do_not_see_the_folder_goes_on_after_its_last_block(
    raster: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Parts, "__reduce__", _unseen_elsewhere)

    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    log, output = tmp_path / "seen.txt", tmp_path / name
    model, settings = Logged(log=str(log)), _settings(processes=1)
    with pytest.raises(KeyboardInterrupt):
        extract_to(raster, model, output, tiling=TILING, settings=settings, progress=stop)
    report = extract_to(raster, model, output, tiling=TILING, settings=settings)
    assert len(_seen(log)) == 70 and report.footprints > 50
    assert name == "dataset" or output.read_bytes() == undisturbed
