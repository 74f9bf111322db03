"""What the examples for Prefect and Airflow share: call the command, read its exit code and its summary.

Needs neither geoseg nor the scheduler: the command runs in geoseg's own environment, so the two never have to agree on
the version of a library.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DONE, PARTS_MISSING, BAD_INPUT, LOCKED, ENVIRONMENT, INTERRUPTED = 0, 1, 2, 3, 4, 130


class Passing(RuntimeError):
    """The environment failed, or the run was stopped: the same command goes on where it was."""


class Lasting(RuntimeError):
    """Bad input or a fault: trying again changes nothing."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A flow that ended well, or as well as its imagery allows."""

    code: int
    """0 done, 1 parts or rasters missing, 3 another run is at work."""
    summary: dict[str, Any]
    """Of summary.json, without the scenes; empty where another run is at work."""

    @property
    def said(self) -> str:
        """One line for a log or a message."""
        if self.code == LOCKED:
            return "another run is at work"
        counts = ", ".join(f"{number} {state}" for state, number in self.summary["counts"].items()) or "nothing to do"
        return f"{counts}; {self.summary['unchanged']} unchanged; {self.summary['footprints']} footprints"


def run(command: list[str], outputs: Path) -> Done:
    """Run one of the pipelines.

    Args:
        command: as it stands in a terminal; the interpreter is geoseg's.
        outputs: its folder of outputs, with the summary.

    Raises:
        Passing: worth another try.
        Lasting: not.
    """
    summary, before = outputs / "summary.json", _written(outputs / "summary.json")
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(ended.stdout, end="")
    code = ended.returncode
    last = next((line for line in reversed(ended.stdout.splitlines()) if line.strip()), "")
    if code in (ENVIRONMENT, INTERRUPTED) or code < 0:
        raise Passing(f"exit code {code}: {last}")
    if code not in (DONE, PARTS_MISSING, LOCKED):
        raise Lasting(f"exit code {code}: {last}")
    if code == LOCKED:
        return Done(code=code, summary={})
    if _written(summary) in (None, before):
        raise Lasting(f"exit code {code}, but the run left no summary: {last}")
    found = json.loads(summary.read_text(encoding="utf-8"))
    found.pop("scenes", None)
    return Done(code=code, summary=found)


def _written(summary: Path) -> tuple[int, int] | None:
    """What tells a summary from that of another day: each is a new file. None: there is none."""
    try:
        found = summary.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
