"""Kills, races and full disks by the hundred: every run must come to what an undisturbed one does, byte for byte.

    python -m benchmarks.chaos [--workers 200] [--drivers 50] [--races 50] [--archives 10] [--disk 10]

The long form of ``tests/test_chaos.py``, on real `dask scheduler` and `dask worker` processes. The detector sleeps
instead of computing. Exits 1 where anything is lost, doubled or different; prints each campaign when it is done.
Linux; the full disk is a file system in memory, which wants `unshare` (or root).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))
# Processes that are begun from here find the detector there.
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])

import chaos  # noqa: E402
from chaos_campaigns import Ground, Tally, archives_killed, at_once, drivers_killed, workers_killed  # noqa: E402


def on_a_small_disk(ground: Ground, points: int) -> Tally:
    """Runs onto a disk that is full at so many points of the run."""
    script = [sys.executable, str(TESTS / "chaos_disk.py"), str(ground.home), str(points)]
    done = subprocess.run(["unshare", "-rm", *script], check=True, capture_output=True, text=True)
    tally = Tally()
    for point in json.loads(done.stdout.splitlines()[-1])["points"]:
        assert point["code"] == 4 and point["intact"] and not point["drafts"] and point["same"], point
        tally.rounds += 1
    return tally


def without(part: str, ground: Ground, home: Path) -> Tally:
    """A cluster whose workers, or whose scheduler, are gone for good: how long until the run says so."""
    tally, name = Tally(), f"no-{part}"
    with chaos.cluster(home, nannies=1) as cluster:
        driver = ground.drive(name, scheduler=cluster.address, pause_s=0.2)
        ground.until_at_work(name, driver)
        {"workers": cluster.kill_nannies, "scheduler": cluster.kill_scheduler}[part]()
        began = time.monotonic()
        said = {"workers": "no workers", "scheduler": "scheduler"}[part]
        assert driver.wait(240) == 4 and said in driver.text, driver.text
        tally.slowest_s = time.monotonic() - began
    assert ground.drive(name, workers=2).wait() == 0
    ground.check(name)
    tally.rounds += 1
    return tally


def told(name: str, campaign: Callable[[], Tally]) -> bool:
    """Carry out a campaign and print what came of it; True where all held."""
    began = time.monotonic()
    try:
        tally = campaign()
    except AssertionError as error:
        print(f"{name}: FAILED: {error}", flush=True)
        return False
    print(
        f"{name}: {tally.rounds} rounds, {tally.struck} processes ended; 0 lost, 0 duplicated, outputs identical; "
        f"tiles predicted again {tally.redone} (in flight when struck: at most {tally.at_most}); "
        f"slowest end {tally.slowest_s:.1f} s; {time.monotonic() - began:.0f} s in all",
        flush=True,
    )
    return True


def main() -> int:
    """All campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=200, help="workers to kill")
    parser.add_argument("--drivers", type=int, default=50, help="drivers to end")
    parser.add_argument("--races", type=int, default=50, help="rounds of simultaneous runs on one output")
    parser.add_argument("--archives", type=int, default=10, help="drivers of an archive to end")
    parser.add_argument("--disk", type=int, default=10, help="points at which the disk is full")
    parser.add_argument("--lonely", type=int, default=1, help="0: leave out clusters that are gone for good")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        home = Path(folder)
        ground = Ground(home, 11, 14)
        half = options.drivers // 2
        well = True
        if options.drivers:
            campaign = lambda: drivers_killed(ground, options.drivers - half, seed=options.seed, workers=2)  # noqa: E731
            well &= told("drivers ended, threads", campaign)
        if options.workers or half:
            with chaos.cluster(home / "dask", nannies=3) as cluster:
                if half:
                    where = {"scheduler": cluster.address, "threads": 3}
                    well &= told(
                        "drivers ended, cluster", lambda: drivers_killed(ground, half, seed=options.seed + 1, **where)
                    )
                if options.workers:
                    well &= told(
                        "workers killed", lambda: workers_killed(ground, cluster, options.workers, seed=options.seed)
                    )
        if options.races:
            well &= told("runs begun at once", lambda: at_once(ground, options.races))
        if options.archives:
            kills, seed = options.archives, options.seed
            well &= told("drivers of archives ended", lambda: archives_killed(home / "archive", kills, seed=seed))
        if options.disk:
            well &= told("disk full", lambda: on_a_small_disk(ground, options.disk))
        if options.lonely:
            for part in ("workers", "scheduler"):
                well &= told(f"{part} gone for good", partial(without, part, ground, home / part))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
