"""A training that is told to stop does so between two steps, keeps what it did, and says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_training import TINY
from typer.testing import CliRunner

from geoseg.cli import app
from geoseg.detectors.cards import weights_path
from geoseg.errors import ConfigError, SinkError
from geoseg.locks import output_lock
from geoseg.training import read_train_config, stopping, train
from geoseg.training.loop import _Trainer
from geoseg.training.stopping import Stop


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Nobody's handlers are changed for good."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_time_is_up_when_it_is() -> None:
    assert not Stop().due and not Stop(60).due
    assert Stop(0).due


@pytest.mark.parametrize("minutes", [float("nan"), -1.0])
def test_no_time_at_all_is_refused(minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        Stop(minutes)


def test_a_signal_comes_at_the_end_and_its_echo_does_not() -> None:
    stop, reached = Stop(), []
    with pytest.raises(KeyboardInterrupt), stop.between_steps():
        for _ in range(2):
            assert stop.due == bool(reached)
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(stop.due)
    assert reached == [True, True]


def test_a_second_signal_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_SAME_S", -1.0)
    reached = []
    with pytest.raises(KeyboardInterrupt), Stop().between_steps():
        for number in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(number)
    assert reached == [0]


def test_an_error_after_a_signal_is_told() -> None:
    with pytest.raises(OSError, match="No space left"), Stop().between_steps():
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError(28, "No space left on device")


def test_signals_that_are_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop = Stop()
        with stop.between_steps():
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.due
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_signals_are_left_alone() -> None:
    def run() -> bool:
        with Stop().between_steps():
            return signal.getsignal(signal.SIGINT) is signal.default_int_handler

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result() is True


def test_the_command_says_truly_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out = tmp_path / "t.toml", tmp_path / "t.safetensors"
    config.write_text(TINY.format(steps=3).replace("checkpoint_every = 2", "checkpoint_every = 1000"))

    def call(*more: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["train", str(config), "-o", str(out), "--device", "cpu", *more])
        return result.exit_code, " ".join(result.stderr.split())

    def interrupted(when: str) -> tuple[int, str]:
        before = getattr(_Trainer, when)

        def stop(self: _Trainer, *given: object) -> object:
            os.kill(os.getpid(), signal.SIGTERM)
            return before(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(_Trainer, when, stop)
            return call()

    code, told = interrupted("run")  # before the first step
    assert code == 130 and "no step is kept yet" in told and not list(tmp_path.glob("*.checkpoint"))
    code, told = call("--stop-after", "0")
    assert code == 0 and "stopped at step 1" in told and "run the same command again" in told and out.exists()
    code, told = interrupted("_parts")
    assert code == 130 and "stopped at step 2" in told and "training goes on from its checkpoint" in told
    code, told = call()
    assert code == 0 and "going on from step 2" in told and "step 3 100%" in told


def test_a_second_training_of_one_file_is_refused(tmp_path: Path) -> None:
    """Both wrote the same half-written files, and each the other's checkpoint."""
    config, out = tmp_path / "t.toml", tmp_path / "t.safetensors"
    config.write_text(TINY.format(steps=1))
    with output_lock(out):  # as another process that is at work holds it
        result = CliRunner().invoke(app, ["train", str(config), "-o", str(out), "--device", "cpu"])
    assert result.exit_code == 3 and "t.safetensors" in result.stderr
    assert not out.exists() and not list(tmp_path.glob("*.jsonl"))


def test_weights_to_start_from_are_not_written_over(tmp_path: Path) -> None:
    config, out = tmp_path / "t.toml", tmp_path / "t.safetensors"
    out.write_bytes(weights_path("buildings").read_bytes())
    config.write_text(TINY.format(steps=1).replace("gsd_m = 0.3", 'gsd_m = 0.3\nstart = "./t.safetensors"'))
    result = CliRunner().invoke(app, ["train", str(config), "-o", str(out), "--device", "cpu"])
    assert result.exit_code == 2 and "named twice" in result.stderr
    with pytest.raises(ConfigError, match="named twice"):
        train(read_train_config(config), out, device="cpu")
    assert out.read_bytes() == weights_path("buildings").read_bytes()


def test_a_folder_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems of clusters have none; old filelocks raise what is no OSError."""

    def has_none(lock: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("geoseg.locks.FileLock.acquire", has_none)
    with pytest.raises(SinkError, match=r"cannot be written.*flock"), output_lock(tmp_path / "t.safetensors"):
        pass


def test_a_start_that_was_replaced_is_no_start_to_go_on_with(tmp_path: Path) -> None:
    """Its name alone was compared: the training went on as if the new weights were in it."""
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text(TINY.format(steps=1).replace("chip = 96", "chip = 64"))
    second.write_text(first.read_text().replace("gsd_m = 0.3", 'gsd_m = 0.3\nstart = "./a.safetensors"'))
    start, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"

    def trained(config: Path, target: Path, steps: int) -> None:
        config.write_text(config.read_text().replace("steps = 1", f"steps = {steps}"))
        train(read_train_config(config), target, device="cpu", log=lambda line: None)

    trained(first, start, 1)
    trained(second, out, 1)
    before = out.read_bytes()
    as_it_was = start.read_bytes()
    trained(first, start, 2)
    with pytest.raises(ConfigError, match=r"other weights than \./a\.safetensors holds now"):
        trained(second, out, 2)
    assert out.read_bytes() == before
    start.write_bytes(as_it_was)
    trained(second, out, 2)
    assert out.read_bytes() != before
