"""A run's sign of life: a file whose time goes on as long as its process does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE = ".run.beat"
EVERY_S = 5.0
"""Seconds between two beats."""
SILENT_S = 60.0
"""A run of another machine that has not beaten for so long is taken for dead."""


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """Beat, on a thread, while the block runs."""
    over = threading.Event()

    def beat() -> None:
        while True:
            with suppress(OSError):  # a full disk is told by what needs it
                (folder / FILE).touch()
            if over.wait(EVERY_S):
                return

    thread = threading.Thread(target=beat, name="geoseg-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def last_beat(folder: Path) -> float:
    """Seconds since the epoch; 0: never."""
    try:
        return (folder / FILE).stat().st_mtime
    except OSError:
        return 0.0
