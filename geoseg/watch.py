"""Functions called on daemon threads, which nobody has to wait for: under a time limit, or beside other work."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class HungError(Exception):
    """A block took longer than it may."""

    worker: str = ""
    """Address of the worker that it was on."""


HUNG = "geoseg-hung"
"""Name of a thread that was given up. It may hold the device."""
_SLICES = 100
"""Of the time that a call may take."""


class Watched:
    """Calls a function on daemon threads, one per calling thread, and gives up on calls that take too long.

    A thread cannot be killed. As a daemon, a hung one does not hold up the end of the process; and it is not
    dask's, which goes on with a new one. The threads live as long as they are not closed, for what ``function``
    keeps per thread (an open raster) to be of use for the next call.
    """

    def __init__(self, function: Callable[[Any], Any], limit_s: float) -> None:
        self.function, self.limit_s = function, limit_s
        self._mine, self._all = threading.local(), list[_Hand]()
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Watched, (self.function, self.limit_s)

    def __call__(self, item: Any) -> Any:
        """The function's result.

        Raises:
            HungError: it did not come in time.
            BaseException: what the function raised.
        """
        hand: _Hand | None = getattr(self._mine, "hand", None)
        if hand is None:
            hand = self._mine.hand = _Hand(self.function)
            self._all.append(hand)
        hand.asked.put(item)
        if self._closed:  # meanwhile, and did not know of this thread
            del self._mine.hand
            hand.asked.put(None)
        result, error = self._told(hand)
        if error is not None:
            raise error
        return result

    def _told(self, hand: _Hand) -> tuple[Any, BaseException | None]:
        """What a call came to. The limit is counted in slices: a process that was stopped for a while (Ctrl-Z, a batch
        system that makes room) loses one of them, and no block that was at work is taken for one that hangs.

        Raises:
            HungError: nothing, for as long as it may take.
        """
        for _ in range(_SLICES):
            try:
                return hand.told.get(timeout=self.limit_s / _SLICES)
            except queue.Empty:
                continue
        self._mine.__dict__.pop("hand", None)
        hand.thread.name = HUNG
        raise HungError(f"hung: not done in {self.limit_s:g} s ([engine] block_timeout_s)")

    def close(self) -> None:
        """Let the threads end; wait for those at work a moment only."""
        self._closed = True
        for hand in self._all:
            hand.asked.put(None)
        end = time.monotonic() + 1.0
        for hand in self._all:
            hand.thread.join(max(0.0, end - time.monotonic()))


class _Hand:
    """A daemon thread that calls a function on what it is given, until that is None."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.told: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, args=(function,), name="geoseg-block", daemon=True)
        self.thread.start()

    def _work(self, function: Callable[[Any], Any]) -> None:
        while (item := self.asked.get()) is not None:
            try:
                self.told.put((function(item), None))
            except BaseException as error:  # whoever asked is waiting for it
                self.told.put((None, error))


class Aside:
    """A daemon thread that does one thing after the other while its owner does something else.

    It ends with its owner: when the last reference to the ``Aside`` goes.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_in_turn, args=(self._asked,), name="geoseg-aside", daemon=True).start()

    def __del__(self) -> None:
        self._asked.put(None)

    def call(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have ``function(*arguments)`` done next; its result, or what it raised, is in the future."""
        future: Future[T] = Future()
        self._asked.put((future, function, arguments))
        return future


_mine = threading.local()


def aside(work: str) -> Aside:
    """The thread that does one kind of work for this one, and ends with it: what it keeps open is there next time."""
    asides: dict[str, Aside] = _mine.__dict__
    if work not in asides:
        asides[work] = Aside()
    return asides[work]


def _in_turn(asked: queue.SimpleQueue[Any]) -> None:
    while (task := asked.get()) is not None:
        future, function, arguments = task
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # whoever asked is waiting for it
            future.set_exception(error)
        del task, future, function, arguments  # nothing is held while there is nothing to do
