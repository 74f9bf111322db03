"""Where the commands speak: results on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import stat
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from geoseg.errors import ConfigError

# No markup: labels, names and notes come from files, and one with "[/" in it would be an error.
out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
log = logging.getLogger("geoseg")

_WIDE = 10_000
"""Columns of a line that no terminal cuts."""


class LogFormat(StrEnum):
    """How log lines look."""

    text = "text"
    json = "json"


def flag(*names: str, help: str) -> Any:
    """An option without a value, of which the help would say ``<bool>``."""
    return typer.Option(*names, help=help, metavar="")


Verbose = Annotated[bool, flag("--verbose", "-v", help="Say more; with an error, its traceback.")]
Quiet = Annotated[bool, flag("--quiet", "-q", help="Warnings and errors only, no progress.")]
LogFormatOption = Annotated[LogFormat, typer.Option("--log-format", help="json: one object per line on stderr.")]


def start(*, verbose: bool = False, quiet: bool = False, log_format: LogFormat = LogFormat.text) -> None:
    """Set up the log of this process.

    Raises:
        ConfigError: it is to say both more and less.
    """
    handler: logging.Handler
    if log_format is LogFormat.json:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLines())
    elif err.is_terminal:
        handler = RichHandler(console=err, show_path=False, omit_repeated_times=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = [handler] if verbose else [logging.NullHandler()]
    if verbose and quiet:
        raise ConfigError("--verbose and --quiet together", allowed="one of them")


class _Results(io.FileIO):
    """A descriptor whose reader may leave, a terminal that may be closed."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        terminal = stat.S_ISCHR(os.fstat(descriptor).st_mode)  # isatty says no of one that is closed
        self._left = (errno.EPIPE, errno.EIO) if terminal else (errno.EPIPE,)

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not self._passing(error):
                raise
            return len(data)

    def _passing(self, error: OSError) -> bool:
        return error.errno in self._left


class _Talk(_Results):
    """One on which no result depends, though it be a file on a full disk."""

    def _passing(self, error: OSError) -> bool:
        return True


def unread(stream: TextIO) -> TextIO:
    """The same stream, but nothing happens where nobody reads on (``| head``, a terminal that is closed): what is done
    is done, and the exit code is the command's own. Python would end it with a message, rich and typer with 1 or 4,
    which mean something else."""
    return _through(stream, _Results)


def unheard(stream: TextIO) -> TextIO:
    """The same for a log, and also where that cannot be written: Python would end the command with 120."""
    return _through(stream, _Talk)


def _through(stream: TextIO, kind: type[_Results]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # None where it is closed
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno())),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def any_name(stream: object) -> None:
    """Have a stream take any file's name: bytes that are no UTF-8 as they are, and as an escape what the encoding of a
    locale does not have. Python would end the command instead; its stderr it sets up so by itself."""
    if isinstance(stream, io.TextIOWrapper):  # None where it is closed
        utf8 = stream.encoding.lower().replace("-", "") == "utf8"
        stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def show(table: Table) -> None:
    """A table on stdout: fitted to the terminal, or a line per row where no one looks at a screen."""
    if out.is_terminal:
        for column in table.columns:
            column.overflow = "fold"  # names that are cut off tell nothing
        out.print(table, soft_wrap=False)
    else:
        Console(highlight=False, markup=False, emoji=False, width=_WIDE).print(table)


class _JsonLines(logging.Formatter):
    """One JSON object per line: time, level, message and what was passed as ``extra={"fields": {}}``."""

    def format(self, record: logging.LogRecord) -> str:
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)
