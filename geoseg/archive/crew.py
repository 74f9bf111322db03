"""The processes that work on scenes: begun, listened to, ended when they hang, replaced when they die."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.resource_tracker import ensure_running
from typing import Any

from geoseg.archive.record import Died, Done, Failed, Looked
from geoseg.archive.worker import Orders, Task, work
from geoseg.errors import ModelError

NAME = "geoseg-scenes"
"""Of these processes."""
RENEWED_AFTER = 500
"""Scenes after which a process is replaced: what libraries leak does not add up."""
_STOP_S = 8.0
_Answer = Looked | Done | Failed | Died | tuple[int, int]


def track_quietly() -> None:
    """Start the process in which multiprocessing clears up after others. What it would tell of one that was killed, a
    library's lock that was left, is nothing that a user could do anything about."""
    if os.name != "posix":  # there is none
        return
    rule = "ignore:resource_tracker"
    sys.warnoptions.append(rule)  # it begins with those of this process
    try:
        ensure_running()
    finally:
        sys.warnoptions.remove(rule)


class Hand:
    """One process, and the scene that it is at."""

    def __init__(self, orders: Orders) -> None:
        # Spawned, not forked: threads and a device that are open here would not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        track_quietly()
        self.process = context.Process(target=work, args=(theirs, orders), name=NAME)
        try:
            self.process.start()
        except (TypeError, AttributeError, pickle.PicklingError) as error:  # all the same to pickle
            raise ModelError(
                f"a detector that cannot be pickled ({error})",
                allowed="one that can: it goes to the processes that work on scenes",
                remedy="Define its class in a module or at the top of the script, and have it open locks, files and "
                "sessions at its first call",
            ) from error
        theirs.close()
        self.task: Task | None = None
        self.count, self.spent_s = 0, 0.0
        self._seen = 0.0

    def give(self, task: Task) -> None:
        """Have it work on a scene."""
        self.task, self.spent_s, self._seen = task, 0.0, time.monotonic()
        self.count += 1
        self.send(task)

    def pass_time(self, most_s: float) -> float:
        """Seconds that it has been at its scene, of those since the last call ``most_s`` at most: where this process
        was stopped for a while (Ctrl-Z, a batch system that makes room), that one was, too."""
        now = time.monotonic()
        self.spent_s, self._seen = self.spent_s + min(now - self._seen, most_s), now
        return self.spent_s

    def send(self, message: Any) -> None:
        """Tell it something; one that is dead is found out where its answer is awaited."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def answer(self) -> _Answer:
        """What it says; to be asked when there is something."""
        try:
            said: _Answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(_STOP_S)
            return Died(why=_how(self.process.exitcode))
        return said

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Crew:
    """As many processes as may be at work at once."""

    def __init__(self, orders: Orders, size: int, limit_s: float) -> None:
        self.orders, self.limit_s = orders, limit_s
        self._hands: list[Hand | None] = [None] * size

    @property
    def busy(self) -> list[Hand]:
        """Those at work."""
        return [hand for hand in self._hands if hand is not None and hand.task is not None]

    def give(self, task: Task) -> None:
        """Give a scene to one that is free; there has to be one."""
        place = next(i for i, hand in enumerate(self._hands) if hand is None or hand.task is None)
        hand = self._hands[place]
        if hand is None:
            hand = self._hands[place] = Hand(self.orders)
        hand.give(task)

    @property
    def free(self) -> bool:
        """Whether another scene can be given."""
        return len(self.busy) < len(self._hands)

    def answers(self, timeout_s: float) -> Iterator[tuple[Hand, _Answer]]:
        """What those at work have to say, within ``timeout_s``; nothing if none of them has."""
        hands = {hand.pipe: hand for hand in self.busy}
        for pipe in wait(list(hands), timeout=timeout_s):
            hand = hands[pipe]  # type: ignore[index]
            said = hand.answer()
            yield hand, said
            if isinstance(said, Died):
                self._drop(hand)
        for hand in self.busy:
            if hand.pass_time(max(2 * timeout_s, self.limit_s / 100)) > self.limit_s:
                yield hand, Died(why=f"hung: not done in {self.limit_s:g} s ([archive] scene_timeout_s)")
                self._drop(hand)

    def release(self, hand: Hand) -> None:
        """Have done with a hand's scene."""
        hand.task = None
        if hand.count >= RENEWED_AFTER:
            hand.send(None)
            hand.process.join(_STOP_S)
            self._drop(hand)

    def stop(self) -> None:
        """End all: gently, so that drafts are cleared away, then for good."""
        hands = [hand for hand in self._hands if hand is not None]
        try:
            for hand in hands:
                if hand.task is None:
                    hand.send(None)
                else:
                    hand.process.terminate()
            end = time.monotonic() + _STOP_S
            for hand in hands:
                hand.process.join(max(0.0, end - time.monotonic()))
        finally:  # also when Ctrl-C comes a second time
            for hand in hands:
                hand.kill()
            self._hands = [None] * len(self._hands)

    def _drop(self, hand: Hand) -> None:
        self._hands[self._hands.index(hand)] = None
        hand.kill()


def _how(code: int | None) -> str:
    if code is None:
        return "its process fell silent"
    if code >= 0:
        return f"its process ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": out of memory?" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
