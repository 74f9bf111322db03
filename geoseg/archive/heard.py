"""What is said in the log while scenes are looked for or worked on, kept for the record of a run: a process speaks to
nobody, and a log may be read by nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SHOWN = 20
"""Warnings of a scene that are kept; of more, their number."""


@contextmanager
def hearing() -> Iterator[Heard]:
    """Listen while the block runs."""
    log, heard = logging.getLogger("geoseg"), Heard()
    log.addHandler(heard)
    try:
        yield heard
    finally:
        log.removeHandler(heard)


class Heard(logging.Handler):
    """Keeps warnings, each once, until they are asked for."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = dict[str, None]()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._said[record.getMessage()] = None

    def taken(self, known: Iterable[str] = ()) -> list[str]:
        """Those of ``known`` and the others since this was asked last."""
        found, self._said = list(dict.fromkeys([*known, *self._said])), {}
        more = len(found) - SHOWN
        return found if more <= 0 else [*found[:SHOWN], f"and {more} more"]
