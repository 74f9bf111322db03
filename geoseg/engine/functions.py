"""What tasks call: put into every worker process once, under a token that the tasks carry."""

# distributed leaves most of its client untyped.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distributed import Client, Scheduler, Worker, WorkerPlugin, get_worker
from distributed.comm.core import CommClosedError

from geoseg.engine.asking import ask, ask_patiently
from geoseg.engine.memory import forget_names, give_back, spared
from geoseg.engine.troubles import gone
from geoseg.errors import GeosegError, RasterError, ResourceError
from geoseg.watch import HungError, Watched

TAKE_S = 180.0
"""Seconds that workers may take to be told of the job: each imports geoseg, and perhaps torch."""
TRIES = 10
"""How often workers are told of the job, if one that is being told dies each time."""
_JOB = "geoseg-"
_FUNCTIONS: dict[str, Watched] = {}
"""What the tasks of a run call, by the run's token. A task carries the token, so a model of many megabytes
reaches each worker once, and in this process is never copied at all."""


def call(token: str, item: Any) -> Any:
    """What a task does. A :class:`GeosegError` is an answer: it comes back as a value, and is not tried again."""
    forget_names()
    if (function := _FUNCTIONS.get(token)) is None:
        # Dask keeps one that joins late and cannot take the job: it would fail block after block, and be sent more.
        return ResourceError(
            f"the worker {get_worker().address}, which joined and could not take the job",
            remedy="Install the same geoseg on it (its log says what is wrong), or take it out of the cluster, and run "
            "the same command again",
        )
    try:
        return function(item)
    except HungError as error:
        error.worker = get_worker().address
        return error
    except BaseException as error:
        if isinstance(error, GeosegError) and not isinstance(error, RasterError):
            return error
        # What is no Exception, such as a detector's sys.exit(), ends dask's worker and, in this process, the event loop
        # for which all would then wait.
        told = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        # What it came from need not be picklable, and dask would then say that and not what happened.
        told.__cause__ = told.__context__ = None
    raise told


class _Install(WorkerPlugin):
    """Puts the run's function into every worker, those that join later or come back included."""

    def __init__(self, client: Client, token: str, function: Watched) -> None:
        self.name, self.token, self.function = f"{_JOB}{token}@{client.id}", token, function
        self.version = own_version()
        self._spared = ExitStack()

    def setup(self, worker: Worker) -> None:
        # What it is sent it may well understand, and then do as its version does: no error, and no result of either.
        if (here := own_version()) != self.version:
            raise RuntimeError(f"geoseg {here} on the worker {worker.address}, {self.version} where the run began")
        give_back()
        self._spared.enter_context(spared())
        _FUNCTIONS[self.token] = self.function

    def teardown(self, worker: Worker) -> None:
        self._spared.close()
        if (function := _FUNCTIONS.pop(self.token, None)) is not None:
            function.close()


def own_version() -> str:
    """Of this geoseg."""
    with suppress(PackageNotFoundError):
        return version("geoseg")
    return "that is not installed"


def forget_the_dead(client: Client) -> None:
    """Take out of scheduler and workers the jobs of drivers that were killed, models and all; as far as that works: it
    takes geoseg where the scheduler runs."""
    with suppress(Exception):
        for job in ask(client, partial(client.run_on_scheduler, abandoned)):
            with suppress(Exception):  # another driver was quicker
                ask(client, partial(client.unregister_worker_plugin, job))


def abandoned(dask_scheduler: Scheduler) -> list[str]:
    """The jobs whose client is gone: called by the scheduler. A live run's client is there, whoever else asks."""
    jobs = [name for name in dask_scheduler.worker_plugins if name.startswith(_JOB)]
    return [job for job in jobs if job.rpartition("@")[2] not in dask_scheduler.clients]


def _register(client: Client, plugin: _Install, patience_s: float) -> None:
    """Put it into all workers: again, where one of them dies while it is told."""
    for left in reversed(range(TRIES)):
        try:
            ask_patiently(client, partial(client.register_plugin, plugin), limit_s=TAKE_S, patience_s=patience_s)
            return
        except CommClosedError:
            if not left:
                raise
            time.sleep(1.0)


def _told(client: Client, plugin: _Install, patience_s: float) -> None:
    """:func:`_register`, with errors that say what to do."""
    try:
        _register(client, plugin, patience_s)
    except ResourceError:
        raise
    except CommClosedError as error:
        raise gone() from error
    except TimeoutError as error:
        raise ResourceError(
            f"workers that did not take the job in {TAKE_S:g} s",
            remedy="Look after them: each imports geoseg, and perhaps torch; one may be frozen, or its disk slow",
        ) from error
    except Exception as error:
        raise ResourceError(
            f"workers that cannot take the job ({type(error).__name__}: {error})",
            allowed="a detector that can be pickled, and geoseg installed on every worker",
            remedy="Install the same geoseg, and the code of your detector, on the workers",
        ) from error


@contextmanager
def installed(client: Client, function: Watched, *, elsewhere: bool, patience_s: float) -> Iterator[str]:
    """The token under which ``function`` can be called where the client's tasks run.

    Args:
        client: of the cluster.
        function: what to call.
        elsewhere: whether the workers are other processes, to which it must be sent.
        patience_s: seconds that the scheduler may be silent.

    Raises:
        ResourceError: it cannot be sent.
    """
    token = uuid.uuid4().hex
    if not elsewhere:
        _FUNCTIONS[token] = function
        try:
            yield token
        finally:
            _FUNCTIONS.pop(token, None)
            function.close()
        return
    plugin = _Install(client, token, function)
    # A scheduler keeps what it was given, for workers that join, whether those that are there can take it or not.
    try:
        _told(client, plugin, patience_s)
        yield token
    finally:
        with suppress(Exception):
            ask(client, partial(client.unregister_worker_plugin, plugin.name))
