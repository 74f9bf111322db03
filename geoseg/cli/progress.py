"""How far a run is: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from geoseg.cli.console import err, log

EVERY_S = 10.0
"""Seconds between two log lines."""

Advance = Callable[[int, int], None]
"""Called with the tiles done and the tiles in all."""


@contextmanager
def progress(megapixels: float, *, quiet: bool, plain: bool) -> Iterator[Advance]:
    """What to call as tiles get done.

    Args:
        megapixels: how much ground all the tiles cover, for the rate.
        quiet: say nothing.
        plain: log lines even on a terminal.
    """
    if quiet:
        yield lambda done, total: None
    elif plain or not err.is_terminal:
        yield _Lines(megapixels)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tiles, {task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, transient=True) as bar:
            yield _Bar(bar, megapixels)


class _Bar:
    def __init__(self, bar: Progress, megapixels: float) -> None:
        self.bar, self.megapixels, self.began = bar, megapixels, time.monotonic()
        self.task = bar.add_task("extracting", total=None, rate="")

    def __call__(self, done: int, total: int) -> None:
        rate = _rate(self.megapixels, done, total, time.monotonic() - self.began)
        self.bar.update(self.task, completed=done, total=total, rate=f"{rate:.2f} MP/s")


class _Lines:
    def __init__(self, megapixels: float) -> None:
        self.megapixels = megapixels
        self.began = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not done or (done < total and now - self.last < EVERY_S):
            return
        self.last = now
        rate = _rate(self.megapixels, done, total, now - self.began)
        eta = (now - self.began) * (total - done) / done
        fields = {"tiles_done": done, "tiles": total, "mp_per_s": round(rate, 3), "eta_s": round(eta)}
        log.log(
            logging.INFO,
            "%d of %d tiles, %.2f MP/s, %s to go",
            done,
            total,
            rate,
            _duration(eta),
            extra={"fields": fields},
        )


def _rate(megapixels: float, done: int, total: int, seconds: float) -> float:
    return megapixels * done / total / seconds if total and seconds > 0 else 0.0


def _duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` under an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
