"""Errors and exit codes: a known error is one message on stderr, and its traceback only with -v.

| code | meaning |
|---|---|
| 0 | done |
| 1 | done with parts missing; the report names them |
| 2 | input or settings that cannot be used |
| 3 | another run holds the output |
| 4 | the environment fails: disk, memory, GPU, workers, installation |
| 70 | a fault in geoseg itself |
| 130 | interrupted; nothing is left half-written: run the same command again |
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from geoseg.cli.console import LogFormat, err, log, start
from geoseg.errors import GeosegError, ResourceError, exit_code
from geoseg.signals import stoppable

ENVIRONMENT = 4
INTERRUPTED = 130

_LEFT = {"run": "what is done is recorded, and the run goes on from it"}
"""By command, where the interruption itself does not say."""
_NOTHING = "no output is left half-written"

# Typer ships its own copy of click in recent versions, and stands on the real one in others: this is its
# ClickException in either.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

_TYPED = "geoseg.typed"


class Commands(TyperGroup):
    """The commands, with every way to fail turned into its exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was typed: an error in it comes before any option is known."""
        ctx.meta[_TYPED] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            with stoppable():
                _check_here()
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except _UsageError as error:
            if not _asks_for_json(ctx.meta[_TYPED]):
                raise
            start(log_format=LogFormat.json)
            _say(error.format_message())  # type: ignore[attr-defined]
            raise typer.Exit(error.exit_code) from None  # type: ignore[attr-defined]
        except KeyboardInterrupt as stop:
            left = str(stop) or _LEFT.get(ctx.invoked_subcommand, _NOTHING)
            _say(f"interrupted: {left}; run the same command again")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            _tell(error)
            raise typer.Exit(exit_code(error)) from error


def _asks_for_json(words: Sequence[str]) -> bool:
    """Whether log lines are to be JSON, of words that are no command."""
    option, value = "--log-format", LogFormat.json.value
    return f"{option}={value}" in words or (option, value) in pairwise(words)


def leave(code: int) -> NoReturn:
    """End the process at once, after what it has to say and to clean up.

    Threads may still be inside the network, which nothing stops; at the interpreter's regular end they would be cut off
    in the middle of foreign code, and the process would abort instead of giving its exit code.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _check_here() -> None:
    """Relative paths, and libraries that are still to be loaded, are looked for from the folder that this runs in."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ResourceError(
            "the folder that this was started in, which is not there any more", remedy="Start it in one that is (cd /)"
        ) from None


def _tell(error: Exception) -> None:
    if isinstance(error, GeosegError):
        message = str(error)
    elif isinstance(error, MemoryError):
        message = "out of memory. Lower [detect] batch, or use smaller tiles (--core)"
    elif isinstance(error, ImportError):
        message = f"{error}. `geoseg doctor` says what is wrong with the installation"
    elif isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = f"{error}{'. The disk is full: make room, or write elsewhere' if full else ''}"
    else:
        message = f"a fault in geoseg ({type(error).__name__}: {error}). Run again with -v for the traceback"
    _say(message)
    log.debug("its traceback:", exc_info=error)


def _say(message: str) -> None:
    """The message as the log shows errors, or plainly before the log is set up."""
    if log.handlers:
        log.error(message)
    else:
        err.print(f"geoseg: {message}", markup=False)
