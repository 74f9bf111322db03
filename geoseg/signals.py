"""The signals by which somebody asks a process to end, and lets it clear up first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

STOPS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; what schedulers send; and what comes where a terminal is closed or a connection lost (not on Windows)."""


def leave_at_once() -> None:
    """From now on, and around :func:`stoppable`, these signals end the process with 130 and without a word. For the
    time in which a command is being loaded: there is nothing to clear up, and Python would show where it was."""
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(130)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, as schedulers send it, and SIGHUP, as it comes where a connection is lost, stop the block the way Ctrl-C
    does: by a KeyboardInterrupt. What is ignored (``nohup``) stays so."""

    def stop(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGTERM:  # it comes from the shell, and once more from the system: not to cut the end short
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    with suppress(ValueError):  # not in the main thread: signals are somebody else's there
        for number in STOPS:
            if number == signal.SIGINT:
                if signal.getsignal(number) is _leave:
                    before[number] = signal.signal(number, signal.default_int_handler)
            elif signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            # Not where it is ignored from now on.
            if handler is not None and signal.getsignal(number) in (stop, signal.default_int_handler):
                signal.signal(number, handler)
