"""Chips are drawn on several threads, and are the same however many there are."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from test_training import TINY, painted

from geoseg.errors import ConfigError
from geoseg.training import read_train_config
from geoseg.training.chips import Example
from geoseg.training.config import Schedule
from geoseg.training.drawing import drawers, drawn
from geoseg.training.keeping import Kept
from geoseg.training.labelled import Labelled
from geoseg.training.processes import Crew
from geoseg.training.sources import mix


def test_the_chips_are_the_same_however_many_threads_draw_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.toml"
    path.write_text(TINY.format(steps=6).replace("batch = 2", "batch = 3\naccumulate = 2"))
    config = read_train_config(path)
    monkeypatch.setattr("geoseg.training.sources.SCENES_BYTES", 1)  # one scene is kept: the other is made anew
    found = []
    for threads in (1, 5):
        source = mix(config)
        with drawn(source.draw, config.schedule, Crew(), steps=range(2, 6), threads=threads) as ahead:
            found.append([[batch for batch in batches] for batches in ahead])
    assert [len(batches) for batches in found[0]] == [2] * 4
    once, more = ([chip for batches in steps for batch in batches for chip in batch] for steps in found)
    assert len(once) == len(more) == 24
    expected = mix(config)
    for number, (one, other) in enumerate(zip(once, more, strict=True), 2 * 6):
        for chip in (other, expected.draw(number)):
            assert torch.equal(one.pixels, chip.pixels)
            assert all(torch.equal(one.target[name], chip.target[name]) for name in chip.target)


def test_no_thread_warns_of_chips_that_lie_nowhere() -> None:
    # What rasterio says where another thread has just ended its own silence.
    code = (
        "import warnings, geoseg.training.chips; from rasterio.errors import NotGeoreferencedWarning as Nowhere;"
        "[warnings.warn_explicit('lies nowhere', Nowhere, 'f.py', 1, m) for m in ('rasterio.features', 'another')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("lies nowhere") == 1


def numbered(index: int) -> Example:
    """A chip that says its number, and comes the later the lower that is."""
    time.sleep(0.002 * (8 - index % 8))
    return Example(pixels=torch.tensor(index), target={})


def test_each_process_has_every_other_batch_and_all_come_in_order() -> None:
    schedule = Schedule(batch=2, accumulate=2)
    before, told = torch.get_num_threads(), []
    for rank in (0, 1):
        with drawn(numbered, schedule, Crew(rank=rank, size=2), steps=range(1, 4), threads=4) as ahead:
            told.append([[[int(e.pixels) for e in batch] for batch in batches] for batches in ahead])
    assert told[0] == [[[8, 9], [12, 13]], [[16, 17], [20, 21]], [[24, 25], [28, 29]]]
    assert told[1] == [[[10, 11], [14, 15]], [[18, 19], [22, 23]], [[26, 27], [30, 31]]]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [1, 6])
def test_no_more_is_drawn_ahead_than_keeps_the_threads_at_work(threads: int) -> None:
    asked: list[int] = []

    def draw(index: int) -> Example:
        asked.append(index)
        return Example(pixels=torch.tensor(index), target={})

    with drawn(draw, Schedule(batch=2), Crew(), steps=range(1000), threads=threads) as ahead:
        next(ahead)
        next(ahead)
    assert max(asked) < 2 * (2 + max(2, threads))


def test_what_fails_on_a_thread_is_told_where_its_chips_are_asked_for() -> None:
    def draw(index: int) -> Example:
        if index == 5:
            raise ConfigError("ground that cannot be read")
        return numbered(index)

    with (
        pytest.raises(ConfigError, match="cannot be read"),
        drawn(draw, Schedule(batch=1), Crew(), steps=range(100), threads=3) as ahead,
    ):
        for number, _ in enumerate(ahead):
            assert number < 5


def test_one_thread_draws_for_a_cpu_and_as_many_as_are_allowed_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.training.drawing.usable_cpus", lambda: 12)
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert [drawers(Schedule(threads=n), cpu) for n in (0, 1, 6)] == [1, 1, 1]
    assert [drawers(Schedule(threads=n), gpu) for n in (0, 1, 6, 20)] == [8, 1, 6, 8]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert drawers(Schedule(), gpu) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert drawers(Schedule(), gpu) == 1


def test_an_image_is_made_by_one_thread_and_dropped_when_others_need_its_room() -> None:
    made: list[int] = []
    all_here = threading.Barrier(4)

    def make(number: int) -> Labelled:
        made.append(number)
        time.sleep(0.02)
        return painted()

    kept = Kept(make, most=2)

    def ask(_: int) -> Labelled:
        all_here.wait()
        return kept(1)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(map(id, pool.map(ask, range(4))))) == 1
    assert made == [1]
    for number in (2, 1, 3, 1, 2):  # 3 drops 2, the longest unused
        kept(number)
    assert made == [1, 2, 3, 2]


def test_an_image_that_cannot_be_made_is_told_to_all_that_want_it() -> None:
    def fail(number: int) -> Labelled:
        raise ConfigError("a scene of another class")

    kept = Kept(fail, most=2)
    for _ in range(2):
        with pytest.raises(ConfigError, match="another class"):
            kept(1)
