"""A run's report as JSON: of a run that has just ended, and of one whose output stands already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import ConfigError

if TYPE_CHECKING:
    from geoseg.report import Report


def write_report(done: Report, output: Path, target: Path) -> None:
    """Write the report as JSON, whole or not at all."""
    from geoseg.sinks.atomic import replacing

    values = {**done.as_dict(), "output": str(output), "exit_code": done.exit_code}
    with replacing(target) as (draft,):
        draft.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")


def report_again(output: Path, target: Path) -> None:
    """Write the report of the run that an output comes from, by its own note of it, unless that is what is there.

    Raises:
        ConfigError: somebody has changed that note.
    """
    from geoseg.report import Report
    from geoseg.sinks import written_run

    noted = written_run(output)
    if _run_of(target) == noted.get("run"):
        return
    try:
        done = Report.of_text(noted)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{output}, whose note of its run has been changed ({error})", remedy="--again makes it anew"
        ) from error
    write_report(done, output, target)


def _run_of(report: Path) -> str | None:
    """The run that a report tells of; None where it is none."""
    try:
        run = json.loads(report.read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if isinstance(run, str) else None
