"""One function over many items: bounded in flight, tried again, and what kills its worker put aside."""

# distributed leaves most of its client untyped.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker, wait
from distributed.comm.core import CommClosedError

from geoseg.engine import clusters
from geoseg.engine.functions import call, installed
from geoseg.engine.memory import give_back, spared
from geoseg.errors import GeosegError, ResourceError
from geoseg.tiling import Block
from geoseg.watch import HungError, Watched


class Place(Protocol):
    """What is worked on has a place in a lattice, to be told by."""

    @property
    def row(self) -> int:
        """From the top."""

    @property
    def col(self) -> int:
        """From the left."""


Item = TypeVar("Item", bound=Place)
Result = TypeVar("Result")

POLL_S = 2.0
"""Seconds between two looks at whether the cluster still has workers."""
IN_FLIGHT = 2
"""Items submitted per worker thread: one at work, one waiting; the rest is not drawn yet."""
HUNG = 3
"""So many items of a run may hang; then the cluster is not one to wait for."""
RENEW_S = 60.0
"""Seconds to wait until a worker's process is begun anew."""
DEADLY = 8
"""So many items in a row that killed their workers are no accident any more."""
_LOST = object()
"""Not an outcome yet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """Workers to give work to, for as long as the block of :meth:`open` lasts."""

    client: Client
    """Dask's."""
    elsewhere: bool
    """Whether the workers are other processes, which may die without this one."""
    patience_s: float
    """Seconds that a cluster may be without workers."""

    @staticmethod
    @contextmanager
    def open(
        *,
        scheduler: str | None = None,
        workers: int | None = None,
        processes: int | None = None,
        patience_s: float = 60.0,
    ) -> Iterator[Engine]:
        """Workers as asked for.

        Args:
            scheduler: address of a dask scheduler (``tcp://host:8786``); None: this machine.
            workers: threads on this machine, of each process; None: one per CPU that this process may use, 8 at most.
            processes: on this machine; None: threads of this process.
            patience_s: seconds to wait for a scheduler to answer, and for a cluster without workers to get one.

        Raises:
            ResourceError: the scheduler cannot be reached, or there are no workers.
        """
        give_back()
        with spared(), ExitStack() as stack:
            if scheduler:
                client = stack.enter_context(clusters.remote(scheduler, patience_s))
            elif processes:
                client = stack.enter_context(clusters.processes(processes, workers or 2))
            else:
                client = stack.enter_context(clusters.threads(workers or clusters.cpu_count()))
            yield Engine(client=client, elsewhere=bool(scheduler or processes), patience_s=patience_s)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        retries: int = 2,
        limit_s: float = 3600.0,
        gpu: bool = False,
    ) -> Generator[tuple[Item, Result | Exception], None, None]:
        """Call ``function`` on each item and yield ``(item, result)`` as they finish, in any order.

        At most ``IN_FLIGHT`` items per worker thread are under way, and ``items`` is drawn from as they finish:
        neither items nor results pile up. An item may be done more than once, so ``function`` must be idempotent.
        One that hung, or was at work when its worker died again and again, is tried once more with nothing beside it,
        so that only the guilty one fails.

        Args:
            function: on a cluster it is pickled, once per worker.
            items: any iterable, consumed lazily.
            retries: further tries of an item whose function raised. A ``GeosegError`` is an answer, not an
                accident, and never tried again; but for a ``RasterError``, which a file system may raise for a while.
            limit_s: seconds that an item may take once it has begun. On a cluster one that takes longer twice comes
                back as a :class:`HungError`; the worker's process is begun anew each time.
            gpu: whether to go only to workers with the resource ``GPU``, once any worker has it.

        Yields:
            The item with what the function returned, or with the exception that its last try raised.

        Raises:
            ResourceError: the scheduler is gone, or has had no worker for ``patience_s``; :data:`HUNG` items
                hung on a cluster, or one in this process, where nothing can end its thread; :data:`DEADLY` in a
                row killed their workers.
        """
        with ExitStack() as stack:
            watched = Watched(function, limit_s)
            token = stack.enter_context(installed(self.client, watched, elsewhere=self.elsewhere))
            flight = _Flight[Item](engine=self, token=token, retries=retries, gpu=gpu)
            stack.callback(flight.cancel)
            try:
                yield from flight.through(iter(items))
            except Exception as error:  # dask says it in many ways
                if isinstance(error, GeosegError):
                    raise
                if isinstance(error, CommClosedError) or self.client.status != "running":
                    raise _gone() from error
                raise


@dataclass(kw_only=True, eq=False)
class _Flight(Generic[Item]):
    """The items under way."""

    engine: Engine
    token: str
    retries: int
    gpu: bool
    running: dict[Future[Any], Item] = field(default_factory=dict)
    suspects: deque[Item] = field(default_factory=deque)
    """At work when their workers died: to be tried alone."""
    alone: bool = False
    hung: int = 0
    deadly: int = 0
    """Items in a row that killed their workers."""

    def through(self, waiting: Iterator[Item]) -> Iterator[tuple[Item, Any]]:
        """All items and their results."""
        while True:
            if not self.alone:
                self._submit(waiting)
            if not self.running:
                if not self.suspects:
                    return
                self.alone = True
                self._send(self.suspects.popleft(), clusters.gpu(self.engine.client) if self.gpu else {})
            for future in self._finished():
                result = _outcome(future, self.engine.patience_s)
                if result is _LOST:
                    continue  # it is being made anew
                item = self.running.pop(future)
                future.release()
                if not self._deferred(item, result):
                    yield item, result

    def _deferred(self, item: Item, result: Any) -> bool:
        """Count what happened; True where the item is to be tried again alone."""
        if isinstance(result, HungError):
            return self._again(item, result)
        if not isinstance(result, KilledWorker):
            self.deadly = 0
            return False
        self.deadly += 1
        if self.deadly >= DEADLY:
            raise ResourceError(
                f"{self.deadly} blocks in a row that killed their workers ({result})",
                remedy="Look after the workers' memory (their logs say why they died); take a smaller [tiling] block "
                "or [detect] batch",
            )
        if not self.alone:
            self.suspects.append(item)
        return not self.alone

    def _again(self, item: Item, result: HungError) -> bool:
        """Take an item that hung for one that may do so by accident; once."""
        if not self.alone:
            self.hung += 1
            if self.hung >= (HUNG if self.engine.elsewhere else 1):
                raise _hung(item, result, self.hung)
            self.suspects.append(item)
        self._renew(result.worker)
        return not self.alone

    def _renew(self, worker: str) -> None:
        """Have a worker's process begun anew: the thread that hangs in it may hold what all others there wait for."""
        client = self.engine.client
        with suppress(Exception):  # gone already, or still on its way
            if client.scheduler_info()["workers"][worker].get("nanny"):
                client.restart_workers([worker], timeout=RENEW_S)
            else:  # nobody would begin it anew, and it is better to do without
                client.retire_workers([worker])

    def _submit(self, waiting: Iterator[Item]) -> None:
        threads, resources = clusters.room(self.engine.client, with_gpu=self.gpu)
        for item in islice(waiting, max(0, IN_FLIGHT * max(1, threads) - len(self.running))):
            self._send(item, resources)

    def _send(self, item: Item, resources: dict[str, float]) -> None:
        submit = self.engine.client.submit
        options: dict[str, Any] = {"resources": resources} if resources else {}
        self.running[submit(call, self.token, item, pure=False, retries=self.retries, **options)] = item

    def _finished(self) -> set[Future[Any]]:
        """Those that are done, as soon as there is one; looks after the workers meanwhile."""
        client, patience_s = self.engine.client, self.engine.patience_s
        last_seen = time.monotonic()
        while True:
            try:
                with client.as_current():
                    done: set[Future[Any]] = wait(list(self.running), POLL_S, return_when="FIRST_COMPLETED").done
                if ready := {future for future in done if future.status != "lost"}:
                    return ready
            except CancelledError as error:
                raise _gone() from error
            except TimeoutError:
                if clusters.room(client, with_gpu=self.gpu)[0]:
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > patience_s:
                    raise clusters.no_workers(patience_s) from None

    def cancel(self) -> None:
        """Have nothing at work any more that can be stopped."""
        with suppress(Exception):
            self.engine.client.cancel(list(self.running), force=True)


def map_blocks(
    function: Callable[[Block], Result],
    blocks: Iterable[Block],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    retries: int = 2,
    patience_s: float = 60.0,
    limit_s: float = 3600.0,
) -> Generator[tuple[Block, Result | Exception], None, None]:
    """:meth:`Engine.map` over blocks, with workers of its own; arguments as there and of :meth:`Engine.open`."""
    with Engine.open(scheduler=scheduler, workers=workers, patience_s=patience_s) as engine:
        yield from engine.map(function, blocks, retries=retries, limit_s=limit_s)


def _hung(item: Place, result: HungError, count: int) -> ResourceError:
    return ResourceError(
        f"{count} block(s) that hung, the last at row {item.row}, column {item.col} ({result})",
        remedy="Look after the disk or network of the raster, and the GPU; where blocks just take long, raise [engine] "
        "block_timeout_s or lower [tiling] block",
    )


def _outcome(future: Future[Any], patience_s: float) -> Any:
    """What a task came to; :data:`_LOST` where its worker died before it could be asked, and another does it again.

    Raises:
        ResourceError: the scheduler is gone.
    """
    try:
        if future.status == "finished":
            return future.result(timeout=patience_s)
        if future.status == "error":
            return future.exception(timeout=patience_s)
    except TimeoutError:
        return _LOST
    except CancelledError as error:
        raise _gone() from error
    if future.status == "cancelled":
        raise _gone()
    return _LOST


def _gone() -> ResourceError:
    return ResourceError(
        "a dask scheduler that went away, or was restarted, while blocks were at work",
        remedy="Start it again and run the same command again",
    )
