"""The only door to dask: one function over many blocks, in this process or on a cluster."""

# distributed leaves most of its client untyped.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

from dask import config as dask_config
from distributed import CancelledError, Client, Future, Scheduler, SpecCluster, Worker, WorkerPlugin, wait

from geoseg.errors import GeosegError, RasterError, ResourceError
from geoseg.tiling import Block
from geoseg.watch import HungError, Watched

T = TypeVar("T")

POLL_S = 2.0
"""Seconds between two looks at whether the cluster still has workers."""
IN_FLIGHT = 2
"""Blocks submitted per worker thread: one at work, one waiting; the rest of the plan is not made yet."""

HUNG = 3
"""So many blocks of a run may hang; then the cluster is not one to wait for."""

_FUNCTIONS: dict[str, Watched] = {}
"""What the tasks of a run call, by the run's token. A task carries the token, so a model of many megabytes
reaches each worker once, and in this process is never copied at all."""


def map_blocks(
    function: Callable[[Block], T],
    blocks: Iterable[Block],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    retries: int = 2,
    patience_s: float = 60.0,
    limit_s: float = 3600.0,
) -> Generator[tuple[Block, T | Exception], None, None]:
    """Call ``function`` on each block and yield ``(block, result)`` as they finish, in any order.

    At most ``IN_FLIGHT`` blocks per worker thread are under way, and ``blocks`` is drawn from as they finish:
    neither blocks nor results pile up. A block may be tried more than once, so ``function`` must be pure.

    Args:
        function: pure function of a block; on a cluster it is pickled, once per worker.
        blocks: any iterable, consumed lazily.
        scheduler: address of a dask scheduler (``tcp://host:8786``); None: threads of this process.
        workers: threads when in this process; None: one per CPU that this process may use, 8 at most.
        retries: further tries of a block whose function raised. A ``GeosegError`` is an answer, not an
            accident, and never tried again; but for a ``RasterError``, which a file system may raise for a while.
        patience_s: seconds to wait for a scheduler to answer, and for a cluster without workers to get one.
        limit_s: seconds that a block may take once it has begun. A cluster's block that takes longer comes back
            as a :class:`HungError`, untried again; its thread is left behind on the worker.

    Yields:
        The block with what the function returned, or with the exception that its last try raised.

    Raises:
        ResourceError: the scheduler cannot be reached or is gone, or has had no worker for ``patience_s``;
            :data:`HUNG` blocks hung on a cluster, or one in this process, where nothing can end its thread.
    """
    hung = 0
    with ExitStack() as stack:
        client = stack.enter_context(
            _cluster(scheduler, patience_s) if scheduler else _threads(workers or _cpu_count())
        )
        watched = Watched(function, limit_s)
        token = stack.enter_context(_installed(client, watched, remote=scheduler is not None))
        running: dict[Future[Any], Block] = {}
        stack.callback(_cancel, client, running)
        waiting = iter(blocks)
        while True:
            room = IN_FLIGHT * max(1, _thread_count(client)) - len(running)
            for block in islice(waiting, max(0, room)):
                running[client.submit(_call, token, block, pure=False, retries=retries)] = block
            if not running:
                return
            for future in _finished(client, list(running), patience_s):
                block, result = running.pop(future), _outcome(future)
                future.release()
                hung += isinstance(result, HungError)
                if hung >= (HUNG if scheduler else 1):
                    raise _hung(block, result, hung)
                yield block, result


def _call(token: str, block: Block) -> Any:
    try:
        return _FUNCTIONS[token](block)
    except Exception as error:
        if isinstance(error, GeosegError | HungError) and not isinstance(error, RasterError):
            return error
        # What it came from need not be picklable, and dask would then say that and not what happened.
        error.__cause__ = error.__context__ = None
        raise


def _hung(block: Block, result: HungError, count: int) -> ResourceError:
    return ResourceError(
        f"{count} block(s) that hung, the last at row {block.row}, column {block.col} ({result})",
        remedy="Look after the disk or network of the raster, and the GPU; where blocks just take long, raise [engine] "
        "block_timeout_s or lower [tiling] block",
    )


def _outcome(future: Future[Any]) -> Any:
    if future.status == "finished":
        return future.result()
    if future.status == "error":
        return future.exception()
    raise ResourceError(
        f"a block that the scheduler dropped ({future.status})",
        remedy="The scheduler went away or was restarted: start it and run the same command again",
    )


def _finished(client: Client, running: list[Future[Any]], patience_s: float) -> set[Future[Any]]:
    """Those that are done, as soon as there is one; looks after the workers meanwhile."""
    last_seen = time.monotonic()
    while True:
        try:
            with client.as_current():
                done: set[Future[Any]] = wait(running, timeout=POLL_S, return_when="FIRST_COMPLETED").done
            return done
        except CancelledError as error:
            raise ResourceError(
                "a dask scheduler that went away while blocks were at work",
                remedy="Start it again and run the same command again",
            ) from error
        except TimeoutError:
            if _thread_count(client):
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > patience_s:
                raise _no_workers(patience_s) from None


def _thread_count(client: Client) -> int:
    """Worker threads that the scheduler knows of at this moment; 0 where it does not answer."""
    try:
        return sum(client.nthreads().values())
    except (OSError, TimeoutError, ValueError):
        return 0


def _no_workers(patience_s: float) -> ResourceError:
    return ResourceError(
        f"a dask cluster with no workers for {patience_s:g} s",
        allowed="at least one worker",
        remedy="Start workers (dask worker tcp://...) and run the same command again",
    )


def _cancel(client: Client, running: dict[Future[Any], Block]) -> None:
    with suppress(Exception):
        client.cancel(list(running), force=True)


class _Install(WorkerPlugin):
    """Puts the run's function into every worker, those that join later or come back included."""

    def __init__(self, token: str, function: Watched) -> None:
        self.name, self.token, self.function = f"geoseg-{token}", token, function

    def setup(self, worker: Worker) -> None:
        _FUNCTIONS[self.token] = self.function

    def teardown(self, worker: Worker) -> None:
        if (function := _FUNCTIONS.pop(self.token, None)) is not None:
            function.close()


@contextmanager
def _installed(client: Client, function: Watched, *, remote: bool) -> Iterator[str]:
    token = uuid.uuid4().hex
    if not remote:
        _FUNCTIONS[token] = function
        try:
            yield token
        finally:
            _FUNCTIONS.pop(token, None)
            function.close()
        return
    plugin = _Install(token, function)
    try:
        client.register_plugin(plugin)
    except Exception as error:
        raise ResourceError(
            f"workers that cannot take the job ({type(error).__name__}: {error})",
            allowed="a detector that can be pickled, and geoseg installed on every worker",
            remedy="Install the same geoseg, and the code of your detector, on the workers",
        ) from error
    try:
        yield token
    finally:
        with suppress(Exception):
            client.unregister_worker_plugin(plugin.name)


@contextmanager
def _cluster(address: str, patience_s: float) -> Iterator[Client]:
    """The user's own cluster, with at least one worker."""
    try:
        client = Client(address, timeout=patience_s, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ResourceError(
            f"a dask scheduler at {address} that does not answer ({error})",
            allowed="the address of a running scheduler, such as tcp://host:8786",
            remedy="Start one (dask scheduler), or leave the scheduler out to work in this process",
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=patience_s)
        except TimeoutError:
            raise _no_workers(patience_s) from None
        yield client


class _Offline:
    """No network port: dask would serve HTTP on all interfaces whatever ``dashboard_address`` says."""

    def start_http_server(self, *args: object, **kwargs: object) -> None:
        """Start nothing."""


class _OfflineScheduler(_Offline, Scheduler):
    pass


class _OfflineWorker(_Offline, Worker):
    async def close(self, timeout: float = 30.0, **options: Any) -> str | None:  # type: ignore[override]
        """Wait for a block at work a moment only: after Ctrl-C its thread ends alone, or with the process."""
        return await super().close(timeout=min(timeout, 1.0), **options)


@contextmanager
def _threads(count: int) -> Iterator[Client]:
    """A scheduler and one worker of ``count`` threads inside this process, talking through memory."""
    with tempfile.TemporaryDirectory(prefix="geoseg-", ignore_cleanup_errors=True) as scratch, _quiet():
        cluster = SpecCluster(
            scheduler={"cls": _OfflineScheduler, "options": {"protocol": "inproc://", "dashboard": False}},
            workers={
                0: {
                    "cls": _OfflineWorker,
                    "options": {
                        "protocol": "inproc://",
                        "nthreads": count,
                        "dashboard": False,
                        "local_directory": scratch,
                        # Dask would judge the whole process by this limit and pause its only worker for good.
                        "memory_limit": 0,
                    },
                }
            },
            silence_logs=logging.CRITICAL,
        )
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines of dask's, and no statistical profiler: it walks every thread's stack each 10 ms."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with dask_config.set({"distributed.worker.profile.enabled": False}):
            yield
    finally:
        logger.setLevel(level)


def _cpu_count() -> int:
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        usable = os.cpu_count() or 1
    return min(8, usable)
