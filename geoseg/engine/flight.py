"""Items under way: as many as there is room for; those of lost or frozen workers are found and tried again."""

# distributed leaves most of its client untyped.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from threading import Event
from typing import Any, Generic, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker

from geoseg.engine.asking import POLL_S, ask, ask_patiently, rpc
from geoseg.engine.functions import call
from geoseg.engine.memory import forget_names
from geoseg.engine.room import Room
from geoseg.engine.troubles import Place, deadly, gone, hung
from geoseg.watch import HungError

Item = TypeVar("Item", bound=Place)

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


@dataclass(kw_only=True, eq=False)
class Flight(Generic[Item]):
    """The items under way."""

    client: Client
    """Dask's."""
    token: str
    """Of the function."""
    room: Room
    """Where they may go."""
    retries: int
    """Further tries of an item whose function raised."""
    limit_s: float
    """Seconds that an item may take once it has begun."""
    elsewhere: bool
    """Whether the workers are other processes."""
    running: dict[Future[Any], tuple[Item, float]] = field(default_factory=dict)
    """With when each was submitted, or its worker last answered."""
    suspects: deque[Item] = field(default_factory=deque)
    """Hung, or at work when their workers died: to be tried alone."""
    alone: bool = False
    hung: int = 0
    deadly: int = 0
    """Items in a row that killed their workers."""
    _news: Event = field(default_factory=Event, init=False)
    """Set once something is done."""

    def through(self, waiting: Iterator[Item]) -> Iterator[tuple[Item, Any]]:
        """All items and their results."""
        while True:
            if not self.alone:
                self._submit(waiting)
            if not self.running:
                if not self.suspects:
                    return
                self.alone = True
                self._send(self.suspects.popleft())
            for future, result in self._results():
                item, _ = self.running.pop(future)
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
            raise deadly(self.deadly, result)
        if not self.alone:
            self.suspects.append(item)
        return not self.alone

    def _again(self, item: Item, result: HungError) -> bool:
        """Take an item that hung for one that may do so by accident; once."""
        if not self.alone:
            self.hung += 1
            if self.hung >= (HUNG if self.elsewhere else 1):
                raise hung(item, result, self.hung)
            self.suspects.append(item)
        self._renew(result.worker)
        return not self.alone

    def _renew(self, worker: str) -> None:
        """Have a worker's process begun anew: the thread that hangs in it may hold what all others there wait for.

        One without a nanny is only ended: nobody would begin it anew, and it is better to do without.
        """
        # The RPC: the client's own method sees five workers only in some versions, and wants a nanny.
        renew = rpc(
            self.client,
            "restart_workers",
            workers=[worker],
            timeout=RENEW_S,
            wait_for_workers=bool(self.room.workers.get(worker, {}).get("nanny")),
            on_error="return",
            stimulus_id=f"geoseg-{self.token}",
        )
        with suppress(OSError, ValueError):  # gone already, or still on its way
            ask_patiently(self.client, renew, limit_s=2 * RENEW_S, patience_s=self.room.patience_s)

    def _submit(self, waiting: Iterator[Item]) -> None:
        self.room.look()
        for item in islice(waiting, max(0, IN_FLIGHT * max(1, self.room.threads) - len(self.running))):
            self._send(item)

    def _send(self, item: Item) -> None:
        options: dict[str, Any] = {"resources": self.room.asks} if self.room.asks else {}
        forget_names()
        future = self.client.submit(call, self.token, item, pure=False, retries=self.retries, **options)
        future.add_done_callback(lambda _: self._news.set())
        self.running[future] = item, time.monotonic()

    def _results(self) -> list[tuple[Future[Any], Any]]:
        """Those that have come to something, as soon as there is one, with what that is."""
        self.room.wait()
        while True:
            told = [(future, self._outcome(future)) for future in self._done()]
            found = [each for each in told if each[1] is not _LOST]  # else it is being made anew
            if (late := self._overdue()) and (result := self._frozen(late)):
                found.append((late, result))
            if found:
                return found

    def _done(self) -> set[Future[Any]]:
        """Those that are done: none after a while, in which the workers were looked after."""
        # Not dask's wait, which asks for the client to be the current one: while it is, all that a detector or a user's
        # other threads do with dask would be sent to it.
        told = self._news.wait(POLL_S)
        self._news.clear()
        if not told:
            self.room.check()
        # Looked at in any case: of one that was lost and is made anew there is no news.
        return {future for future in self.running if future.status not in ("pending", "lost")}

    def _overdue(self) -> Future[Any] | None:
        """One whose worker has not said that it hangs, if it does: one at a time, for others may be on that worker."""
        late = time.monotonic() - self.limit_s
        waiting = self.running.items() if self.elsewhere else ()
        return next((future for future, (_, since) in waiting if since < late and not future.done()), None)

    def _frozen(self, future: Future[Any]) -> HungError | None:
        """What an item comes to whose worker does not answer; None where it does, or none has it yet."""
        item, _ = self.running[future]
        worker = self._where(future)
        if not worker or self._answers(worker):
            self.running[future] = item, time.monotonic()
            return None
        self._drop([future])
        error = HungError(f"hung: its worker has not answered for {self.room.patience_s:g} s")
        error.worker = worker
        return error

    def _where(self, future: Future[Any]) -> str | None:
        """The worker that has an item's result, or is to make it."""
        with suppress(OSError):
            if holders := ask(self.client, rpc(self.client, "who_has", keys=[future.key])).get(future.key):
                return str(holders[0])
            for worker, keys in ask(self.client, rpc(self.client, "processing")).items():
                if future.key in keys:
                    return str(worker)
        return None

    def _answers(self, worker: str) -> bool:
        """Whether a worker does.

        Raises:
            ResourceError: not even the scheduler does.
        """
        question = rpc(self.client, "broadcast", msg={"op": "identity"}, workers=[worker])
        try:
            ask(self.client, question, self.room.patience_s)
        except OSError:
            self.room.check()
            return False
        return True

    def _outcome(self, future: Future[Any]) -> Any:
        """What a task came to; :data:`_LOST` where its worker died before it could be asked, and another does it again.

        Raises:
            ResourceError: the scheduler is gone, or does not answer.
        """
        patience_s = self.room.patience_s
        try:
            if future.status == "finished":
                return future.result(timeout=patience_s)
            if future.status == "error":
                return future.exception(timeout=patience_s)
        except TimeoutError:
            self.room.check()
            return (future.status == "finished" and self._frozen(future)) or _LOST
        except CancelledError as error:
            raise gone() from error
        except Exception as error:
            if future.status != "error":
                raise
            return error  # it was done, was lost with its worker, and failed when it was made anew
        if future.status == "cancelled":
            raise gone()
        return _LOST

    def cancel(self) -> None:
        """Have nothing at work any more that can be stopped."""
        self._drop(list(self.running))

    def _drop(self, futures: list[Future[Any]]) -> None:
        with suppress(Exception):
            ask(self.client, lambda: self.client.cancel(futures, force=True))
