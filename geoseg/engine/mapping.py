"""One function over many items: bounded in flight, tried again, and what kills its worker put aside."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from distributed import Client
from distributed.comm.core import CommClosedError

from geoseg.engine import clusters
from geoseg.engine.flight import Flight, Item
from geoseg.engine.functions import forget_the_dead, installed
from geoseg.engine.memory import give_back, spared
from geoseg.engine.room import Room
from geoseg.engine.troubles import gone
from geoseg.errors import GeosegError, ResourceError
from geoseg.watch import Watched

Result = TypeVar("Result")
_first: int | None = None
"""The process in which workers were first opened."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """Workers to give work to, for as long as the block of :meth:`open` lasts."""

    client: Client
    """Dask's."""
    elsewhere: bool
    """Whether the workers are other processes, which may die without this one."""
    patience_s: float
    """Seconds that a scheduler may be silent, and a cluster without workers."""
    retries: int
    """Further tries of an item whose function raised."""
    limit_s: float
    """Seconds that an item may take once it has begun."""

    @staticmethod
    @contextmanager
    def open(
        *,
        scheduler: str | None = None,
        workers: int | None = None,
        processes: int | None = None,
        patience_s: float = 60.0,
        retries: int = 2,
        limit_s: float = 3600.0,
    ) -> Iterator[Engine]:
        """Workers as asked for.

        Args:
            scheduler: address of a dask scheduler (``tcp://host:8786``); None: this machine.
            workers: threads on this machine, of each process; None: one per CPU that this process may use, 8 at most.
            processes: on this machine; None: threads of this process.
            patience_s: seconds to wait for a scheduler to answer, and for a cluster without workers to get one.
            retries: further tries of an item whose function raised. A ``GeosegError`` is an answer, not an
                accident, and never tried again; but for a ``RasterError``, which a file system may raise for a while.
            limit_s: seconds that an item may take once it has begun. On a cluster one that takes longer twice comes
                back as a :class:`HungError`; the worker's process is begun anew each time. So it goes with one whose
                worker then does not answer for ``patience_s``, as if it were frozen.

        Raises:
            ResourceError: the scheduler cannot be reached, there are no workers, or this process is the fork of one in
                which there were some.
        """
        _check_not_forked()
        give_back()
        with spared(), ExitStack() as stack:
            if scheduler:
                client = stack.enter_context(clusters.remote(scheduler, patience_s))
                forget_the_dead(client)
            elif processes:
                client = stack.enter_context(clusters.processes(processes, workers or 2))
            else:
                client = stack.enter_context(clusters.threads(workers or clusters.cpu_count()))
            yield Engine(
                client=client,
                elsewhere=bool(scheduler or processes),
                patience_s=patience_s,
                retries=retries,
                limit_s=limit_s,
            )

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
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
            gpu: whether to go only to workers with the resource ``GPU``, once any worker has had it.

        Yields:
            The item with what the function returned, or with the exception that its last try raised.

        Raises:
            ResourceError: the scheduler is gone, or has been silent or without a worker for ``patience_s``;
                :data:`HUNG` items hung on a cluster, or one in this process, where nothing can end its thread;
                :data:`DEADLY` in a row killed their workers.
        """
        with ExitStack() as stack:
            watched = Watched(function, self.limit_s)
            token = stack.enter_context(
                installed(self.client, watched, elsewhere=self.elsewhere, patience_s=self.patience_s)
            )
            flight = Flight[Item](
                client=self.client,
                token=token,
                room=Room(self.client, with_gpu=gpu, patience_s=self.patience_s),
                retries=self.retries,
                limit_s=self.limit_s,
                elsewhere=self.elsewhere,
            )
            stack.callback(flight.cancel)
            try:
                yield from flight.through(iter(items))
            except Exception as error:  # dask says it in many ways
                if isinstance(error, GeosegError):
                    raise
                if isinstance(error, CommClosedError) or self.client.status != "running":
                    raise gone() from error
                raise


def _check_not_forked() -> None:
    """Refuse to wait for threads that stayed behind: a fork has dask's pools, whose threads are its parent's.

    Raises:
        ResourceError: this process was forked after its parent had workers.
    """
    global _first
    _first = _first or os.getpid()
    if _first != os.getpid():
        raise ResourceError(
            "a process that was forked from one that had made a run",
            allowed="processes that begin anew, or forks of one that has made none yet",
            remedy='Start them with multiprocessing.get_context("spawn")',
        )
