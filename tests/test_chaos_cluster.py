"""A cluster whose workers and scheduler die, hang or never answer: what any of them did is done once, or told.

The short form; ``benchmarks/chaos.py`` is the long one.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import chaos
import pytest
import shapely
from chaos_campaigns import PER_BLOCK, Ground, drivers_killed, workers_killed
from distributed import Client, Scheduler

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("chaos"), 7, 10)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chaos.Cluster]:
    with chaos.cluster(tmp_path_factory.mktemp("dask")) as found:
        yield found


def test_killed_workers_change_nothing(ground: Ground, cluster: chaos.Cluster) -> None:
    assert workers_killed(ground, cluster, 3).struck == 3


def test_ended_drivers_of_a_cluster_go_on_to_the_same_output(ground: Ground, cluster: chaos.Cluster) -> None:
    assert drivers_killed(ground, 2, seed=2, scheduler=cluster.address).struck == 2


def test_a_block_that_kills_its_workers_is_a_gap_and_the_rest_is_whole(ground: Ground, cluster: chaos.Cluster) -> None:
    driver = ground.drive("killer", scheduler=cluster.address, kills=(3, 4))
    assert driver.wait() == 1, driver.text
    _only_this_block_is_missing(ground, driver.output, (3, 4))


def test_a_block_that_hangs_is_a_gap_and_the_rest_is_whole(ground: Ground, cluster: chaos.Cluster) -> None:
    driver = ground.drive("hangs", scheduler=cluster.address, hangs=(3, 4), limit_s=5.0)
    assert driver.wait() == 1, driver.text
    _only_this_block_is_missing(ground, driver.output, (3, 4))
    counts = ground.predicted("hangs")
    assert counts[3, 4] == 2, "a block that hung is tried once more"


def _only_this_block_is_missing(ground: Ground, output: Path, tile: tuple[int, int]) -> None:
    """Objects away from the block of a tile are those of the undisturbed run, to the bit of their ids."""
    import pyogrio

    whole, found = (pyogrio.read_dataframe(path) for path in (ground.output("undisturbed"), output))
    gaps = pyogrio.read_dataframe(output.with_name(f"{output.stem}.gaps.fgb"))
    assert list(gaps.reason) == ["failed"]
    block = shapely.convex_hull(gaps.geometry.iloc[0])
    assert block.area == pytest.approx(PER_BLOCK * (chaos.CORE * 0.4) ** 2)
    near = whole.geometry.intersects(block.buffer(0.4))
    assert 0 < near.sum() < len(whole)
    assert set(whole.id[~near]) <= set(found.id)
    assert found[~found.geometry.intersects(block.buffer(0.4))].id.is_unique


def test_a_scheduler_that_dies_ends_the_run_which_then_goes_on(ground: Ground, tmp_path: Path) -> None:
    with chaos.cluster(tmp_path / "dask", nannies=1) as cluster:
        driver = ground.drive("scheduler", scheduler=cluster.address, pause_s=0.1)
        chaos.eventually(lambda: len(ground.predicted("scheduler")) > 8)
        cluster.kill_scheduler()
        cluster.start_scheduler()  # at the same address, and knows nothing
        assert driver.wait(120) == 4, driver.text
        assert "Start it again and run the same command again" in driver.text
    assert ground.drive("scheduler", workers=2).wait() == 0
    ground.check("scheduler")
    assert ground.redone("scheduler") <= PER_BLOCK


def test_a_frozen_scheduler_ends_the_run_and_its_process(ground: Ground, tmp_path: Path) -> None:
    with chaos.cluster(tmp_path / "dask", nannies=1) as cluster:
        driver = ground.drive("silent", scheduler=cluster.address, pause_s=0.1, patience_s=4.0)
        ground.until_at_work("silent", driver, 8)
        cluster.freeze_scheduler()
        assert driver.wait(120) == 4, driver.text
        assert "has not answered for 4 s" in " ".join(driver.text.split())
    assert ground.drive("silent", workers=2).wait() == 0
    ground.check("silent")


def test_what_a_frozen_worker_had_is_done_elsewhere(ground: Ground, cluster: chaos.Cluster) -> None:
    driver = ground.drive("frozen", scheduler=cluster.address, pause_s=0.1, limit_s=6.0, patience_s=6.0)
    ground.until_at_work("frozen", driver, 8)
    frozen = cluster.workers()[0]
    os.kill(frozen, signal.SIGSTOP)
    assert driver.wait(120) == 0, driver.text
    ground.check("frozen")
    assert frozen not in cluster.workers(), "it was begun anew"


def _jobs(dask_scheduler: Scheduler) -> list[str]:
    return [name for name in dask_scheduler.worker_plugins if name.startswith("geoseg-")]


def test_the_job_of_a_killed_driver_goes_and_that_of_a_live_one_stays(ground: Ground, cluster: chaos.Cluster) -> None:
    with Client(cluster.address, set_as_default=False) as client:
        killed = ground.drive("killed", scheduler=cluster.address, pause_s=0.5)
        ground.until_at_work("killed", killed, 2)
        killed.signal(signal.SIGKILL)
        killed.wait()
        (left,) = client.run_on_scheduler(_jobs)
        live = [ground.drive(name, scheduler=cluster.address, pause_s=0.1) for name in ("one", "other")]
        for name, driver in zip(("one", "other"), live, strict=True):
            ground.until_at_work(name, driver, 2)
        jobs = client.run_on_scheduler(_jobs)
        assert len(jobs) == 2 and left not in jobs
        assert [driver.wait() for driver in live] == [0, 0], [driver.text for driver in live]
        assert client.run_on_scheduler(_jobs) == []
        assert set(client.run(_functions).values()) == {0}
    for name in ("one", "other"):
        ground.check(name)


def _functions() -> int:
    from geoseg.engine import functions

    return len(functions._FUNCTIONS)
