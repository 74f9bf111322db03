"""The signals by which somebody asks a process to end, and lets it clear up first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOPS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; what schedulers send; and what comes where a terminal is closed or a connection lost (not on Windows)."""


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
            if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is stop:  # not where it is ignored from now on
                signal.signal(number, handler)
