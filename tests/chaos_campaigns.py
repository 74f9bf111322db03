"""Campaigns of the chaos suite: so many rounds of one kind of trouble, and what came of them.

Each is short in the tests and long in ``benchmarks/chaos.py``. What must hold in every round is asserted here.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chaos

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
WAYS: tuple[tuple[int, ...], ...] = ((KILL,), (TERM,), (INT,), (INT, INT), (KILL,))
"""How a driver is ended."""
PER_BLOCK = chaos.BLOCK**2


@dataclass
class Ground:
    """A raster, and what an undisturbed run makes of it."""

    home: Path
    rows: int
    cols: int
    pause_s: float = 0.02
    raster: Path = field(init=False)
    expected: str = field(init=False)
    ids: list[str] = field(init=False)
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.raster = self.home / "raster.tif"
        objects = chaos.scene(self.raster, self.rows, self.cols)
        driver = self.drive("undisturbed", workers=2)
        driver.until_begun()
        began = time.monotonic()
        assert driver.wait() == 0, driver.text
        self.seconds = time.monotonic() - began
        self.expected = chaos.digest(driver.output)
        self.ids = ids_of(driver.output)
        assert len(self.ids) == len(set(self.ids)) == objects
        assert sum(self.predicted("undisturbed").values()) == self.tiles

    @property
    def tiles(self) -> int:
        """In the raster."""
        return self.rows * self.cols

    def drive(self, name: str, **options: Any) -> chaos.Driver:
        """Begin a run to an output of this name, which also names its log."""
        given = {"log": str(self.home / f"{name}.log"), "pause_s": self.pause_s, **options}
        return chaos.drive(self.raster, self.output(name), **given)

    def predicted(self, name: str) -> Any:
        """How often each tile was shown to the detector."""
        return chaos.predicted(self.home / f"{name}.log")

    def output(self, name: str) -> Path:
        """Of this name."""
        return self.home / "out" / f"{name}.fgb"

    def check(self, name: str, *, tidy: bool = True) -> None:
        """The output of this name is that of the undisturbed run, and (where tidy) nothing else is left beside it."""
        found = ids_of(self.output(name))
        lost, more = set(self.ids) - set(found), len(found) - len(set(found))
        assert not lost and not more, f"{name}: {len(lost)} lost, {more} duplicated"
        assert chaos.digest(self.output(name)) == self.expected, f"{name} differs"
        beside = {path.name for path in (self.home / "out").glob(f".{name}.fgb*")}
        assert beside == {f".{name}.fgb.lock"} or not tidy, beside

    def until_at_work(self, name: str, driver: chaos.Driver, tiles: int = 1) -> None:
        """Wait until so many tiles were shown to the detector."""
        chaos.eventually(lambda: len(self.predicted(name)) >= tiles or not driver.running)

    def redone(self, name: str) -> int:
        """Tiles that were shown to the detector once more than needed."""
        counts = self.predicted(name)
        assert len(counts) == self.tiles
        return int(sum(counts.values())) - self.tiles


def ids_of(output: Path) -> list[str]:
    """Of a layer."""
    import pyogrio

    return list(pyogrio.read_dataframe(output, columns=["id"], read_geometry=False)["id"])


@dataclass
class Tally:
    """What came of a campaign."""

    rounds: int = 0
    """Runs that were brought to their end."""
    struck: int = 0
    """Processes that were ended."""
    redone: int = 0
    """Tiles predicted again."""
    at_most: int = 0
    """Tiles that were in flight when something was ended, at most: so many may be predicted again."""
    slowest_s: float = 0.0
    """Longest that something took to end that should end soon."""


def workers_killed(ground: Ground, cluster: chaos.Cluster, kills: int, *, seed: int = 1, pace_s: float = 1.2) -> Tally:
    """Runs on a cluster, whose workers are killed at random moments and come back."""
    rng, tally = random.Random(seed), Tally()
    while tally.struck < kills:
        name, here = f"workers-{seed}-{tally.rounds}", 0
        driver = ground.drive(name, scheduler=cluster.address)
        ground.until_at_work(name, driver)
        while driver.running and tally.struck + here < kills:
            time.sleep(rng.uniform(0.1, pace_s))
            if driver.running and (workers := cluster.workers()):
                with_suppressed(rng.choice(workers), rng.choice([KILL, KILL, KILL, TERM]))
                here += 1
        assert driver.wait() == 0, driver.text
        ground.check(name)
        tally.rounds += 1
        tally.struck += here
        tally.at_most += here * cluster.threads * PER_BLOCK
        redone = ground.redone(name)
        assert redone <= here * cluster.threads * PER_BLOCK, f"{name}: {redone} redone after {here} kills"
        tally.redone += redone
    return tally


def drivers_killed(ground: Ground, kills: int, *, seed: int = 1, per_run: int = 4, **engine: Any) -> Tally:
    """Runs whose driver is ended in all ways at random moments, and begun again, until they come to their end."""
    rng, tally, threads = random.Random(seed), Tally(), engine.pop("threads", 2)
    while tally.struck < kills:
        name, here = f"drivers-{seed}-{tally.rounds}", 0
        while not ground.output(name).exists():
            driver = ground.drive(name, **engine)
            if here < per_run and tally.struck + here < kills:
                driver.until_begun()
                # What is predicted is not predicted again, so a run that goes on is shorter: struck sooner.
                time.sleep(rng.uniform(0, ground.seconds * (0.7 if here == 0 else 0.4)))
                here += driver.running
                ways, began = rng.choice(WAYS), time.monotonic()
                driver.signal(*ways)
                code = driver.wait(60)
                tally.slowest_s = max(tally.slowest_s, time.monotonic() - began)
                assert code in (0, 130, *(-way for way in ways)), f"{code} after {ways}: {driver.text}"
            else:
                assert driver.wait() == 0, driver.text
        ground.check(name, tidy=False)
        redone = ground.redone(name)
        assert redone <= here * threads * PER_BLOCK, f"{name}: {redone} redone after {here} kills"
        tally.rounds += 1
        tally.struck += here
        tally.redone += redone
        tally.at_most += here * threads * PER_BLOCK
    return tally


def at_once(ground: Ground, rounds: int, runs: int = 3) -> Tally:
    """Several runs begun at once on one output: one wins, the others leave while it is held at its first tile."""
    tally = Tally()
    for number in range(rounds):
        name, gate = f"once-{number}", ground.home / f"gate-{number}"
        drivers = [ground.drive(name, workers=1, waits=str(gate)) for _ in range(runs)]
        for driver in drivers:
            driver.until_begun()
        began = time.monotonic()
        try:
            chaos.eventually(lambda drivers=drivers: sum(driver.running for driver in drivers) == 1)  # type: ignore[misc]
        finally:  # or what is held would be so for ever
            gate.touch()
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - began)
        codes = sorted(driver.wait() for driver in drivers)
        assert codes == [0] + [3] * (runs - 1), (codes, [driver.text for driver in drivers])
        ground.check(name)
        assert ground.redone(name) == 0
        lines = (ground.home / f"{name}.log").read_text().splitlines()
        assert len({line.split()[0] for line in lines}) == 1, "another one has begun to work"
        tally.rounds += 1
    return tally


def archives_killed(home: Path, kills: int, *, seed: int = 1) -> Tally:
    """An archive whose driver is ended in all ways, each time after some tiles more, and begun again."""
    rng, tally, log = random.Random(seed), Tally(rounds=1), home / "log"
    for folder in ("undisturbed", "struck"):
        (home / folder / "in").mkdir(parents=True)
        for number, cols in enumerate((4, 3, 5)):
            chaos.scene(home / folder / "in" / f"{number}.tif", 4, cols)
    tiles = 4 * (4 + 3 + 5)
    assert chaos.spawn_archive(home / "undisturbed").wait(300) == 0
    for kill in range(kills):
        seen = sum(chaos.predicted(log).values())
        driver = chaos.spawn_archive(home / "struck", log=str(log), pause_s=0.1)
        until = seen + rng.randrange(tiles // (kills + 2))
        chaos.eventually(lambda: sum(chaos.predicted(log).values()) > until or driver.poll() is not None)  # noqa: B023
        way = (KILL, TERM, INT)[kill % 3]
        driver.send_signal(way)
        said, _ = driver.communicate(timeout=60)
        assert driver.returncode in (0, 130, -way), f"{driver.returncode} after {way}: {said}"
        tally.struck += driver.returncode != 0
    driver = chaos.spawn_archive(home / "struck", log=str(log))
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    for output in ("scenes/0.fgb", "scenes/1.fgb", "scenes/2.fgb", "merged.fgb"):
        whole, found = (chaos.digest(home / folder / "out" / output) for folder in ("undisturbed", "struck"))
        assert whole == found, f"{output} differs"
    left = [path.name for path in (home / "struck" / "out").rglob(".geoseg-*")]
    assert not left, left
    tally.redone = sum(chaos.predicted(log).values()) - tiles
    tally.at_most = kills * 2 * PER_BLOCK  # two scenes are at work, a block of each
    assert tally.redone <= tally.at_most, tally
    return tally


def with_suppressed(pid: int, number: int) -> None:
    """Send a signal to what may have ended already."""
    import contextlib

    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
