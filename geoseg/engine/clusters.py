"""Where tasks are done: threads of this process, processes of this machine, or the user's own cluster."""

# distributed leaves most of its client untyped.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import distributed.core
from dask import config as dask_config
from distributed import Client, LocalCluster, Scheduler, SpecCluster, Worker
from distributed.diskutils import WorkSpace
from distributed.scheduler import DEFAULT_EXTENSIONS

from geoseg.allocator import settings
from geoseg.cpus import usable_cpus
from geoseg.engine.asking import ANSWER_S, ask
from geoseg.engine.troubles import no_workers
from geoseg.errors import ClusterError, ResourceError

log = logging.getLogger("geoseg")

START_S = 120.0
"""Seconds that processes of this machine may take to start: each imports geoseg, and perhaps torch."""
_OPTIONS = {
    "distributed.worker.profile.enabled": False,
    # How punctual an event loop is would be measured fifty times a second: 2 % of a core, and Python's lock each time.
    "distributed.admin.tick.interval": "500ms",
    # What dask remembers of tasks that are done grows to these numbers: nobody asks.
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 100,
    "distributed.admin.system-monitor.log-length": 10,
    # Dask does without a process that has died and is not back so soon: 15 s are short for one that imports torch.
    "distributed.deploy.lost-worker-timeout": START_S,
    # A process that was stopped for five minutes (Ctrl-Z, a batch system that makes room) would, once it goes on, take
    # its own workers for dead. Blocks that hang are found out without it.
    "distributed.scheduler.worker-ttl": None,
}
# Spans, for dashboards, keep a note of every task that ever was; workers' extensions report to them, and nothing else.
_SCHEDULER = {"extensions": {name: each for name, each in DEFAULT_EXTENSIONS.items() if name != "spans"}}
_WORKER: dict[str, Any] = {"extensions": {}}
_START = "Start one (dask scheduler), or leave the scheduler out to work in this process"
_TLS = (
    "Look after the scheduler, and after dask's settings for TLS where you start this: tls://, and files that are "
    "there, in DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..._TLS__CLIENT__CERT and ..._TLS__CLIENT__KEY"
)
_LOCK, _HUSHED, _wanted = threading.Lock(), ExitStack(), 0


@contextmanager
def remote(address: str, patience_s: float) -> Iterator[Client]:
    """The user's own cluster, with at least one worker.

    Raises:
        ClusterError: the scheduler does not answer, or gets no worker, for ``patience_s``.
    """
    said = ""
    log.info("connecting to the dask scheduler at %s, for %g s at most", address, patience_s)
    try:
        client = Client(address, timeout=patience_s, set_as_default=False)
    except Exception as error:  # of many kinds: a TypeError where TLS is not set up, a RuntimeError where it has to be
        said = str(error) or type(error).__name__
    if said:  # out here the half-made client is gone: with the error's frames it would live on, and end in a traceback
        raise ClusterError(
            f"a dask scheduler at {address} that does not answer ({said})",
            allowed="the address of a running scheduler, such as tcp://host:8786",
            remedy=_TLS if address.startswith("tls:") or "encryption" in said else _START,
        )
    with _quiet():  # a scheduler that goes away is told by what ends the run: dask logs it, too, as a traceback
        try:
            try:
                ask(client, lambda: client.wait_for_workers(1, timeout=patience_s), patience_s + ANSWER_S)
            except TimeoutError:
                raise no_workers(patience_s) from None
            yield client
        finally:
            with suppress(Exception):  # what ended the run is told, and not that the scheduler does not say goodbye
                client.close(timeout=ANSWER_S)


@contextmanager
def processes(count: int, threads: int) -> Iterator[Client]:
    """A cluster of ``count`` processes with ``threads`` threads each, on loopback, for as long as the block runs.

    Raises:
        ResourceError: the processes do not come up.
    """
    with _quiet(), _scratch() as scratch:
        try:
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=threads,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                local_directory=scratch,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                scheduler_kwargs=_SCHEDULER,
                **_WORKER,
            )
        except (OSError, TimeoutError, RuntimeError) as error:
            raise ResourceError(
                f"{count} processes that could not be started ({_root(error)})",
                remedy="Take fewer ([engine] processes), or none: threads of this process then do the work. In a "
                'script of your own the call has to stand under if __name__ == "__main__":, for they import it',
            ) from error
        with cluster, Client(cluster, set_as_default=False) as client:
            client.sync(_quieten)
            try:
                client.wait_for_workers(count, timeout=START_S)
            except TimeoutError:
                raise no_workers(START_S) from None
            try:
                yield client
            except BaseException:
                cluster.sync(_end_now, cluster)  # closing it waits for the blocks at work first
                raise


async def _end_now(cluster: LocalCluster) -> None:
    """End the processes of a cluster of this machine: after half a second whatever they are at."""
    nannies = list(cluster.workers.values())
    await asyncio.gather(*(nanny.close(timeout=0.5) for nanny in nannies), return_exceptions=True)


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
def threads(count: int) -> Iterator[Client]:
    """A scheduler and one worker of ``count`` threads inside this process, talking through memory.

    Raises:
        ResourceError: they do not start, for their folder cannot be made.
    """
    with _quiet(), _scratch() as scratch:
        options = {"protocol": "inproc://", "dashboard": False, **_SCHEDULER}
        try:
            cluster = SpecCluster(
                scheduler={"cls": _OfflineScheduler, "options": options},
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
                            **_WORKER,
                        },
                    }
                },
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:  # whatever the scheduler or the worker met while it started
            raise ResourceError(
                f"threads of this process that could not be started ({_root(error)})",
                remedy="Look after the folder for temporary files: TMPDIR, or temporary-directory in dask's settings",
            ) from error
        try:
            with cluster, Client(cluster, set_as_default=False) as client:
                client.sync(_quieten)
                yield client
        finally:
            _let_go()


def _let_go() -> None:
    """Have dask forget which of the methods that it called take what: by them it holds every scheduler and worker that
    was ever in this process, a quarter of a megabyte per run."""
    noted = getattr(distributed.core, "_expects_comm", None)
    if noted is not None:
        noted.cache_clear()


def _root(error: BaseException) -> BaseException:
    """What is behind an error of dask's, which says of itself only that something failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


async def _quieten() -> None:
    """Log what ends badly in this event loop, with nobody waiting for it, for debugging alone.

    On a busy machine dask's goodbyes may take longer than they are given. asyncio would write to stderr that nobody
    asked for a TimeoutError: no news of the run, but cron would send a mail for it.
    """

    def told(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.debug("dask: %s (%r)", context.get("message"), context.get("exception"))

    asyncio.get_running_loop().set_exception_handler(told)


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for what dask writes, locked as dask locks its own: what a process that was killed has left of such
    folders, whoever makes one next removes."""
    made = WorkSpace(os.path.join(tempfile.gettempdir(), "dask-scratch-space")).new_work_dir(prefix="geoseg-")
    try:
        yield made.dir_path
    finally:
        made.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """:func:`_hushed` for as long as anybody wants it: it is of the whole process, where runs on several threads end in
    any order."""
    global _wanted
    with _LOCK:
        if not _wanted:
            _HUSHED.enter_context(_hushed())
        _wanted += 1
    try:
        yield
    finally:
        with _LOCK:
            _wanted -= 1
            if not _wanted:
                _HUSHED.close()


@contextmanager
def _hushed() -> Iterator[None]:
    """No log lines of dask's, and no statistical profiler: it walks every thread's stack each 10 ms."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]  # each has a level of its own
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        # Dask has processes give back at once all that they free.
        begun_with = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in settings().items()}
        with dask_config.set(_OPTIONS | begun_with):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def cpu_count() -> int:
    """Threads where nothing is said: one per CPU that this process may use, 8 at most, but two: one reads and outlines
    while the network runs in the other."""
    return max(2, min(8, usable_cpus()))
