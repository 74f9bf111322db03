"""Prefect: the nightly flow with retries, a schedule, and the summary as the result. `pip install prefect` (3.x).

    python examples/scheduling/prefect_flow.py once RASTERS OUTPUTS      # one run, now
    python examples/scheduling/prefect_flow.py serve RASTERS OUTPUTS     # every night, until stopped

Prefect needs an environment of its own; GEOSEG_PYTHON names the interpreter of geoseg's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from flow import PARTS_MISSING, Passing, run
from prefect import flow, get_run_logger, task

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("GEOSEG_PYTHON", str(ROOT / ".venv" / "bin" / "python"))


def may_pass(task: Any, task_run: Any, state: Any) -> bool:
    """Only what may pass is tried again: bad input stays bad."""
    return isinstance(state.result(raise_on_failure=False), Passing)


@task(retries=2, retry_delay_seconds=600, retry_condition_fn=may_pass)
def extract(pipeline: str, rasters: str, outputs: str, options: list[str]) -> dict[str, Any]:
    """One of geoseg's pipelines over a folder."""
    command = [PYTHON, str(ROOT / "pipelines" / f"{pipeline}.py"), rasters, outputs, *options]
    done = run(command, Path(outputs))
    log = get_run_logger()
    (log.warning if done.code == PARTS_MISSING else log.info)("%s", done.said)
    return done.summary


@flow(name="geoseg")
def nightly(
    rasters: str, outputs: str, pipeline: str = "buildings", options: list[str] | None = None
) -> dict[str, Any]:
    """Buildings (or ships) of what is new in a folder of rasters."""
    return extract(pipeline, rasters, outputs, options or [])


if __name__ == "__main__":
    how, rasters, outputs, *further = sys.argv[1:]
    if how == "serve":
        nightly.serve(name="nightly", cron="15 2 * * *", parameters={"rasters": rasters, "outputs": outputs})
    else:
        print(nightly(rasters, outputs, options=further))
