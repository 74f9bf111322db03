"""Airflow: the nightly flow as a DAG. Put this file and flow.py into the DAGs folder. Airflow 3.x.

What is where comes from the environment of the workers: GEOSEG_HOME (the checkout), GEOSEG_PYTHON (its interpreter),
GEOSEG_RASTERS, GEOSEG_OUTPUTS, and GEOSEG_OPTIONS for further options of the pipeline.
"""

from __future__ import annotations

import os
import shlex
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

sys.path.insert(0, str(Path(__file__).resolve().parent))

HOME = Path(os.environ.get("GEOSEG_HOME", "/opt/geoseg"))
PYTHON = os.environ.get("GEOSEG_PYTHON", str(HOME / ".venv" / "bin" / "python"))
RASTERS = os.environ.get("GEOSEG_RASTERS", "/srv/imagery/rasters")
OUTPUTS = os.environ.get("GEOSEG_OUTPUTS", "/srv/imagery/buildings")
OPTIONS = shlex.split(os.environ.get("GEOSEG_OPTIONS", ""))


@dag(
    dag_id="geoseg_buildings",
    schedule="15 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # a run takes all that is new, so a missed night needs no run of its own
    max_active_runs=1,
    tags=["geoseg"],
)
def geoseg_buildings() -> None:
    """Buildings of what is new in a folder of rasters."""

    @task(retries=2, retry_delay=timedelta(minutes=10))
    def extract() -> dict[str, Any]:
        """One of geoseg's pipelines; its summary is the task's result."""
        from flow import Lasting, run

        command = [PYTHON, str(HOME / "pipelines" / "buildings.py"), RASTERS, OUTPUTS, *OPTIONS]
        try:
            done = run(command, Path(OUTPUTS))
        except Lasting as error:
            raise AirflowFailException(str(error)) from error  # no retry
        print(done.said)
        return done.summary

    extract()


geoseg_buildings()
