"""How far a run is: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from geoseg.cli.console import err, log
from geoseg.durations import duration

EVERY_S = 10.0
"""Seconds between two log lines."""

Advance = Callable[[int, int], None]
"""Called with the tiles done and the tiles in all."""


@contextmanager
def progress(*, quiet: bool, plain: bool, unit: str = "tiles") -> Iterator[Advance]:
    """What to call as tiles get done.

    Args:
        quiet: say nothing.
        plain: log lines even on a terminal.
        unit: what is counted.
    """
    if quiet:
        yield lambda done, total: None
    elif plain or not err.is_terminal:
        yield _Lines(unit)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.fields[rate]}}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, transient=True) as bar:
            yield _Bar(bar)


class _Bar:
    def __init__(self, bar: Progress) -> None:
        self.bar, self.began = bar, time.monotonic()
        self.task = bar.add_task("extracting", total=None, rate="")

    def __call__(self, done: int, total: int) -> None:
        rate = done / max(time.monotonic() - self.began, 1e-6)
        self.bar.update(self.task, completed=done, total=total, rate=f"{rate:.2f}/s")


class _Lines:
    def __init__(self, unit: str) -> None:
        self.unit, self.began = unit, time.monotonic()
        self.last = self.began

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not done or (done < total and now - self.last < EVERY_S):
            return
        self.last = now
        rate = done / max(now - self.began, 1e-6)
        eta = (total - done) / rate
        unit = self.unit
        fields = {f"{unit}_done": done, unit: total, f"{unit}_per_s": round(rate, 3), "eta_s": round(eta)}
        text = f"{done:,} of {total:,} {unit}, {rate:.2f}/s" + (f", {duration(eta)} to go" if eta else "")
        log.info(text, extra={"fields": fields})
