from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from dask.utils import key_split
from distributed import Client, LocalCluster, Worker

from geoseg.engine import IN_FLIGHT, Engine, clusters, memory
from geoseg.engine.room import Room
from geoseg.errors import ClusterError, ModelError, RasterError, ResourceError
from geoseg.tiling import Block, Plan, Tiling
from geoseg.watch import HungError, Watched
from geoseg.window import Window


def _plan(rows: int, cols: int) -> Plan:
    """A plan of ``rows`` x ``cols`` blocks of one tile."""
    return Tiling(core=4, halo=1, block=1).plan(Window(row_off=0, col_off=0, height=4 * rows, width=4 * cols))


def _place(block: Block) -> tuple[int, int]:
    return block.row, block.col


def _dies_once_here(block: Block) -> tuple[int, int]:
    """Kills its process at block (1, 1), whoever tries it."""
    if (block.row, block.col) == (1, 1):
        os._exit(9)
    return block.row, block.col


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with (
        # Else a worker that was killed and is not back in 15 s, on a busy machine, is done without for good.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60) as started,
    ):
        yield started


def map_blocks(
    function: Callable[[Block], Any], blocks: Iterable[Block], **options: Any
) -> Generator[tuple[Block, Any], None, None]:
    """What comes of each block, by workers of its own."""
    with Engine.open(**options) as engine:
        yield from engine.map(function, blocks)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_block_comes_back_once(workers: int) -> None:
    plan = _plan(3, 5)
    results = list(map_blocks(_place, plan.blocks(), workers=workers))
    assert sorted(result for _, result in results) == [(r, c) for r in range(3) for c in range(5)]
    assert all(_place(block) == result for block, result in results)


def _spared_here(block: Block) -> int:
    """Objects that this process's garbage collector leaves alone, beyond the few that some Pythons begin with."""
    return gc.get_freeze_count() // 1000


def test_the_garbage_collector_leaves_alone_what_was_there_before(cluster: LocalCluster) -> None:
    ((_, here),) = map_blocks(_spared_here, _plan(1, 1).blocks(), workers=1)
    ((_, there),) = map_blocks(_spared_here, _plan(1, 1).blocks(), scheduler=cluster.scheduler_address)
    assert here > 50
    assert there > 50
    assert _spared_here(next(iter(_plan(1, 1).blocks()))) == 0


def test_what_runs_leave_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LOOK_S", 0.0, raising=False)
    left = []
    for _ in range(3):
        with memory.spared():
            pass
        leaves = _Leaves()
        leaves.itself = leaves
        left.append(weakref.ref(leaves))
        del leaves
    with memory.spared():
        assert [each() for each in left] == [None] * 3


def _names_here(block: Block) -> int:
    """Names of tasks that this process keeps."""
    return int(key_split.cache_info().currsize)


def test_what_dask_remembers_of_each_task_does_not_pile_up(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did up to 100,000 tasks, where runs are told to be as large as they hold."""
    monkeypatch.setattr(memory, "NAMES", 20)
    assert max(kept for _, kept in map_blocks(_names_here, _plan(6, 25).blocks(), workers=2)) < 40
    with Client(cluster) as client:
        client.run(_few)
        assert (
            max(kept for _, kept in map_blocks(_names_here, _plan(6, 25).blocks(), scheduler=cluster.scheduler_address))
            < 40
        )


def _few() -> None:
    memory.NAMES = 20


def test_no_scheduler_and_no_worker_outlives_its_run() -> None:
    """Dask holds them by the methods that it noted, for good: in a notebook all of every run."""
    list(map_blocks(_place, _plan(2, 3).blocks(), workers=2))
    gc.collect()
    kinds = (clusters._OfflineScheduler, clusters._OfflineWorker)
    assert not [each for each in gc.get_objects() if isinstance(each, kinds)]


class _Leaves:
    itself: object


def test_a_call_that_comes_after_the_end_leaves_no_thread() -> None:
    threads: list[threading.Thread] = []
    watched = Watched(lambda item: threads.append(threading.current_thread()), 60.0)
    watched.close()
    for item in range(2):
        watched(item)
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_no_blocks_give_no_results() -> None:
    assert list(map_blocks(_place, iter(()), workers=2)) == []


def test_blocks_are_drawn_as_they_are_needed() -> None:
    drawn = 0

    def blocks() -> Iterator[Block]:
        nonlocal drawn
        for block in _plan(20, 5).blocks():
            drawn += 1
            yield block

    ahead = [drawn - done for done, _ in enumerate(map_blocks(_place, blocks(), workers=2), start=1)]
    # One wait can hand over several results, drawn before the first of them is looked at.
    assert max(ahead) <= IN_FLIGHT * 2
    assert drawn == 100


def test_a_function_that_cannot_be_pickled_is_called_as_it_is() -> None:
    lock, seen = threading.Lock(), []

    def record(block: Block) -> int:
        with lock:
            seen.append(_place(block))
        return id(lock)

    results = list(map_blocks(record, _plan(2, 3).blocks(), workers=2))
    assert {result for _, result in results} == {id(lock)}
    assert len(seen) == 6


def test_an_accident_is_tried_again_and_then_told() -> None:
    tries: dict[tuple[int, int], int] = {}

    def fails(block: Block) -> int:
        tries[_place(block)] = tries.get(_place(block), 0) + 1
        if block.col == 0 and tries[_place(block)] <= 1:
            raise OSError("a hiccup")
        if block.col == 1:
            raise ValueError("always")
        return tries[_place(block)]

    results = {_place(b): r for b, r in map_blocks(fails, _plan(2, 3).blocks(), workers=1, retries=2)}
    assert results[0, 0] == 2 and results[0, 2] == 1
    assert isinstance(results[1, 1], ValueError) and tries[1, 1] == 3


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_would_end_a_worker_is_an_accident_of_its_block(end: type[BaseException]) -> None:
    def ends(block: Block) -> None:
        if block.row == 1:
            raise end(3)

    told = {block.row: said for block, said in map_blocks(ends, _plan(3, 1).blocks(), workers=1, retries=1)}
    assert told[0] is None and told[2] is None
    assert end.__name__ in str(told[1])


def test_an_answer_of_geoseg_is_not_tried_again() -> None:
    tries = 0

    def refuses(block: Block) -> None:
        nonlocal tries
        tries += 1
        raise ModelError("no", allowed="yes")

    ((_, result),) = map_blocks(refuses, _plan(1, 1).blocks(), workers=1)
    assert isinstance(result, ModelError) and result.allowed == "yes"
    assert tries == 1


def test_a_raster_that_cannot_be_opened_for_a_while_is_tried_again() -> None:
    tries = 0

    def hiccup(block: Block) -> int:
        nonlocal tries
        tries += 1
        if tries < 3 or block.col:
            raise RasterError("the share is away")
        return tries

    results = {_place(b): r for b, r in map_blocks(hiccup, _plan(1, 2).blocks(), workers=1, retries=2)}
    assert isinstance(results[0, 1], RasterError)
    assert results[0, 0] in (3, 4, 5) and tries <= 6


def test_a_block_that_hangs_ends_a_run_of_this_process_and_the_process() -> None:
    code = (
        "import threading\n"
        "from geoseg.engine import Engine\n"
        "from geoseg.errors import ResourceError\n"
        "from geoseg.tiling import Tiling\n"
        "from geoseg.window import Window\n"
        "window = Window(row_off=0, col_off=0, height=4, width=12)\n"
        "blocks = Tiling(core=4, halo=1, block=1).plan(window).blocks()\n"
        "def work(block):\n"
        "    if block.col == 1: threading.Event().wait()\n"
        "try:\n"
        "    with Engine.open(workers=2, limit_s=0.3) as engine:\n"
        "        list(engine.map(work, blocks))\n"
        "except ResourceError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "hung" in done.stdout and "column 1" in done.stdout and "block_timeout_s" in done.stdout


def test_a_fork_of_a_process_that_had_workers_is_refused_and_does_not_wait_for_ever() -> None:
    code = (
        "import os, warnings\n"
        "from geoseg.engine import Engine\n"
        "from geoseg.errors import ResourceError\n"
        "from geoseg.tiling import Tiling\n"
        "from geoseg.window import Window\n"
        "warnings.simplefilter('ignore')\n"  # newer Pythons warn of forks beside threads
        "plan = Tiling(core=4, halo=1, block=1).plan(Window(row_off=0, col_off=0, height=4, width=8))\n"
        "def work():\n"
        "    with Engine.open(workers=1) as engine:\n"
        "        return len(list(engine.map(str, plan.blocks())))\n"
        "if not os.fork():\n"
        "    os._exit(work())\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]), work(), flush=True)\n"
        "if not os.fork():\n"
        "    try:\n"
        "        work()\n"
        "    except ResourceError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("2 2\n") and "forked" in done.stdout and "spawn" in done.stdout


def _hangs_at_one(block: Block) -> tuple[int, int]:
    if (block.row, block.col) == (1, 1):
        threading.Event().wait()
    return _place(block)


def _hangs(block: Block) -> None:
    threading.Event().wait()


def test_a_block_that_hangs_on_a_cluster_is_told_and_the_rest_goes_on(cluster: LocalCluster) -> None:
    address = cluster.scheduler_address
    blocks = _plan(2, 3).blocks()
    results = {_place(b): r for b, r in map_blocks(_hangs_at_one, blocks, scheduler=address, limit_s=1.0)}
    assert isinstance(results.pop((1, 1)), HungError)
    assert results == {place: place for place in results} and len(results) == 5
    with pytest.raises(ResourceError, match="hung"):
        list(map_blocks(_hangs, _plan(2, 3).blocks(), scheduler=address, limit_s=0.2))


def _threads() -> set[str]:
    # The pools that dask offloads serialisation and callbacks to belong to the process, and idle.
    return {t.name for t in threading.enumerate() if not t.name.startswith(("Dask-Offload", "Dask-Callback"))}


def test_no_private_name_of_dask_is_imported() -> None:
    files = list(Path(clusters.__file__).parent.glob("*.py"))
    private = re.compile(r"^\s*from (dask|distributed)[\w.]* import .*\b_\w", re.MULTILINE)
    assert len(files) > 5 and [path.name for path in files if private.search(path.read_text(encoding="utf-8"))] == []


def test_dask_is_free_for_others_while_blocks_are_at_work() -> None:
    def computes(block: Block) -> int:
        time.sleep(0.2)  # until its result is waited for
        return int(dask.delayed(sum)([block.row, 1]).compute())

    assert {block.row: told for block, told in map_blocks(computes, _plan(2, 1).blocks(), workers=1)} == {0: 1, 1: 2}


def test_runs_on_several_threads_leave_dask_as_they_found_it() -> None:
    name = "distributed.worker.profile.enabled"
    before = logging.getLogger("distributed").level, dask.config.get(name)
    first, second = clusters.threads(1), clusters.threads(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not dask.config.get(name)  # the other is at work still
    second.__exit__(None, None, None)
    assert (logging.getLogger("distributed").level, dask.config.get(name)) == before


def test_what_nobody_waits_for_is_not_written_to_stderr(caplog: pytest.LogCaptureFixture) -> None:
    with clusters.threads(1) as client:
        loop = client.loop.asyncio_loop
        loop.call_soon_threadsafe(lambda: loop.create_future().set_exception(TimeoutError("a goodbye")))
        client.submit(sum, [1, 1]).result()
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_no_room_for_temporary_files_is_no_fault_of_geosegs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with dask.config.set({"temporary-directory": str(tmp_path / "file")}), pytest.raises(ResourceError, match="TMPDIR"):
        list(map_blocks(_place, _plan(2, 2).blocks(), workers=2))


def test_nothing_stays_behind_when_the_reader_stops_early() -> None:
    before = _threads()
    results = map_blocks(_place, _plan(10, 10).blocks(), workers=2)
    next(results)
    assert _threads() > before
    results.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 20
    while _threads() - before and time.monotonic() < end:  # a block at work is waited for a moment only
        time.sleep(0.05)
    assert not _threads() - before


def test_a_block_at_work_does_not_hold_up_the_end() -> None:
    released = threading.Event()

    def hangs(block: Block) -> None:
        if block.col:
            released.wait(60)

    results = map_blocks(hangs, _plan(1, 2).blocks(), workers=2)
    try:
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert not released.is_set()
    finally:
        released.set()


def test_work_in_this_process_opens_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    listen = socket.socket.listen

    def watched(self: socket.socket, *args: int) -> None:
        opened.append(self.getsockname())
        listen(self, *args)

    monkeypatch.setattr(socket.socket, "listen", watched)
    assert len(list(map_blocks(_place, _plan(2, 2).blocks(), workers=2))) == 4
    assert opened == []


def test_a_cluster_gives_the_same(cluster: LocalCluster) -> None:
    plan = _plan(3, 4)
    here = dict(map_blocks(_place, plan.blocks(), workers=2))
    there = dict(map_blocks(_place, plan.blocks(), scheduler=cluster.scheduler_address))
    assert here == there


def test_all_workers_of_a_large_cluster_are_seen() -> None:
    with (
        LocalCluster(
            n_workers=7, threads_per_worker=2, processes=False, dashboard_address=None, resources={"GPU": 1}
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(7, timeout=60)
        room = Room(client, with_gpu=True, patience_s=60.0)
        room.look()
        assert room.threads == 14 and set(room.workers) == {worker.address for worker in cluster.workers.values()}


def test_a_block_that_kills_its_worker_is_told_and_the_rest_goes_on(cluster: LocalCluster) -> None:
    results = {
        _place(b): r
        for b, r in map_blocks(
            _dies_once_here, _plan(2, 3).blocks(), scheduler=cluster.scheduler_address, patience_s=120
        )
    }
    assert isinstance(results.pop((1, 1)), Exception)
    assert results == {place: place for place in results} and len(results) == 5


class _LostOnItsWay:
    """A result whose worker dies when it is asked for."""

    def __reduce__(self) -> Any:
        os._exit(9)


def test_a_result_that_is_lost_with_its_worker_and_fails_when_made_anew_is_told(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    def fails_the_second_time(block: Block) -> Any:
        begun = tmp_path / "begun"
        if begun.exists():
            raise ValueError("made anew")
        begun.touch()
        return _LostOnItsWay()

    found = map_blocks(fails_the_second_time, _plan(1, 1).blocks(), scheduler=cluster.scheduler_address, retries=0)
    ((_, result),) = found
    assert isinstance(result, ValueError) and str(result) == "made anew"


def test_a_cluster_that_lost_its_workers_ends_in_an_error() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60) as cluster:
        results = map_blocks(_slowly, _plan(10, 10).blocks(), scheduler=cluster.scheduler_address, patience_s=1)
        next(results)
        cluster.scale(0)
        with pytest.raises(ResourceError, match="no workers"):
            list(results)


def _slowly(block: Block) -> None:
    time.sleep(0.05)


def test_a_cluster_without_workers_ends_in_an_error() -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=60) as cluster,
        pytest.raises(ResourceError, match="no workers"),
    ):
        list(map_blocks(_place, _plan(1, 2).blocks(), scheduler=cluster.scheduler_address, patience_s=0.5))


def test_a_scheduler_that_is_not_there_ends_in_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    before = {id(each) for each in gc.get_objects() if type(each) is Client}
    with pytest.raises(ResourceError, match="does not answer") as told:
        list(map_blocks(_place, _plan(1, 2).blocks(), scheduler=address, patience_s=0.5))
    # A client that an error keeps is closed when Python ends, which takes seconds and says so in a traceback.
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Client and id(each) not in before], told


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        ("tls://127.0.0.1:9", {"distributed.comm.tls.ca-file": None}),
        ("tls://127.0.0.1:9", {"distributed.comm.tls.ca-file": "not-there.pem"}),
        ("tcp://127.0.0.1:9", {"distributed.comm.require-encryption": True}),
    ],
)
def test_a_cluster_with_tls_that_is_not_set_up_here_is_no_fault_of_geoseg(
    address: str, settings: dict[str, Any]
) -> None:
    with dask.config.set(settings), pytest.raises(ClusterError, match="does not answer") as told:
        list(map_blocks(_place, _plan(1, 2).blocks(), scheduler=address, patience_s=0.5))
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in str(told.value)


def test_processes_that_do_not_start_say_why() -> None:
    with (
        dask.config.set({"distributed.comm.require-encryption": True}),
        pytest.raises(ResourceError, match="TLS"),
        clusters.processes(1, 1),
    ):
        raise AssertionError("started")


def test_what_dask_logs_of_a_lost_scheduler_is_not_heard(cluster: LocalCluster) -> None:
    log = logging.getLogger("distributed.client")
    before = log.level
    with clusters.remote(cluster.scheduler_address, 5.0):
        assert not log.isEnabledFor(logging.ERROR)
    assert log.level == before


def test_a_failure_without_words_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("geoseg.engine.clusters.Client", fails)
    with pytest.raises(ResourceError, match=r"does not answer \(TimeoutError\)"):
        list(map_blocks(_place, _plan(1, 2).blocks(), scheduler="tcp://127.0.0.1:9", patience_s=0.5))


def test_a_function_that_a_cluster_cannot_take_is_told(cluster: LocalCluster) -> None:
    lock = threading.Lock()

    def holds(block: Block) -> bool:
        return lock.locked()

    with pytest.raises(ResourceError, match="pickle"):
        list(map_blocks(holds, _plan(1, 2).blocks(), scheduler=cluster.scheduler_address))


def test_a_worker_of_another_version_takes_no_job(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.engine.functions.own_version", lambda: "0.0.1")  # here, not where the workers are
    with pytest.raises(ResourceError, match=r"geoseg .* on the worker tcp://.*, 0\.0\.1 where the run began"):
        list(map_blocks(_place, _plan(1, 2).blocks(), scheduler=cluster.scheduler_address))


def test_a_worker_of_another_version_that_joins_late_ends_the_run(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask keeps it; blocks that it was given failed for want of the job, and were gaps in the end."""
    with Client(cluster, set_as_default=False) as client:
        results = map_blocks(_slowly, _plan(20, 1).blocks(), scheduler=cluster.scheduler_address)
        told = [next(results)[1]]
        monkeypatch.setattr("geoseg.engine.functions.own_version", lambda: "0.0.1")  # here, where the worker begins

        async def join() -> Worker:
            return await Worker(cluster.scheduler_address, nthreads=4, dashboard_address=None)

        late = client.sync(join)
        told += [result for _, result in results]
        client.sync(late.close)
    assert all(isinstance(result, ResourceError) for result in told if isinstance(result, Exception))
    assert any("joined and could not take the job" in str(result) for result in told)


class _Unsendable:
    """Pickled without a word, and never unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return _fail, ()

    def __call__(self, block: Block) -> None:
        """Never called."""


def _fail() -> None:
    raise RuntimeError("cannot be unpickled here")


def test_a_job_that_workers_cannot_take_does_not_stay_with_the_scheduler(cluster: LocalCluster) -> None:
    with pytest.raises(ResourceError, match="cannot take the job"):
        list(map_blocks(_Unsendable(), _plan(1, 1).blocks(), scheduler=cluster.scheduler_address))
    assert not [name for name in cluster.scheduler.worker_plugins if name.startswith("geoseg-")]
