"""The command line, called in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from typer.testing import CliRunner, Result

from geoseg.cli import app


def cli(*words: object) -> Result:
    """What ``geoseg WORDS...`` gives, with the log afterwards as it was before."""
    with _the_log_as_it_was():
        return CliRunner().invoke(app, [str(word) for word in words])


@contextmanager
def _the_log_as_it_was() -> Iterator[None]:
    """A command sets up the log of its process, which here is everybody's."""
    logger = logging.getLogger("geoseg")
    before = logger.handlers[:], logger.level
    try:
        yield
    finally:
        logger.handlers[:] = before[0]
        logger.setLevel(before[1])
        logging.captureWarnings(False)
