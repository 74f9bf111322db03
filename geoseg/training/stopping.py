"""Ending a training before its schedule does: between two steps, and with a checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from geoseg.errors import ConfigError
from geoseg.signals import STOPS

_SAME_S = 1.0
"""Signals that follow the first so soon are the same call: torchrun hands on what the terminal sent to all."""


class Stop:
    """Whether a training is to stop after the step that it is at.

    Args:
        after_min: minutes from now; None: no time is set.

    Raises:
        ConfigError: less than none, or no number.
    """

    def __init__(self, after_min: float | None = None) -> None:
        if after_min is not None and not after_min >= 0:
            raise ConfigError(f"a training of {after_min:g} minutes", allowed="0 or more minutes")
        self._end = None if after_min is None else time.monotonic() + 60 * after_min
        self._asked = False

    @property
    def due(self) -> bool:
        """Whether the time is up, or somebody asked for it."""
        return self._asked or (self._end is not None and time.monotonic() >= self._end)

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """In the block the first signal to stop only makes it :attr:`due`, and comes again at the end of the block.

        A step that is cut in the middle has changed some of what a checkpoint holds, and nothing can tell what. A
        second signal comes at once: who sends it does not want to wait. In other threads than the main one signals do
        not interrupt anyway, and those that are ignored stay so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        found = {number: signal.getsignal(number) for number in STOPS}
        before = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}
        first: list[tuple[int, float]] = []

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python

        def note(number: int, frame: FrameType | None) -> None:
            self._asked = True
            if not first:
                first.append((number, time.monotonic()))
            elif time.monotonic() - first[0][1] > _SAME_S:
                first.clear()
                restore()
                signal.raise_signal(number)

        for number in before:
            signal.signal(number, note)
        try:
            yield
        except BaseException:  # an error in the block is told, not the signal that came before it
            restore()
            raise
        restore()
        if first:
            signal.raise_signal(first[0][0])
