"""Which run an output comes from: what ``write`` noted of it, read back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoseg.paths import expanded
from geoseg.sinks.dataset import RUN_FILE
from geoseg.sinks.gpkg import read_only
from geoseg.sinks.output import run_file
from geoseg.sinks.parquet import RUN_KEY


def written_run(path: str | Path) -> dict[str, str | None]:
    """The ``run`` that :func:`geoseg.sinks.write` was given for the output at ``path``, every value as text.

    Empty where there is no such output, it names no run, or it cannot be read: it is then an output of no known run.
    """
    target = expanded(path)
    try:
        if target.is_dir():
            return _as_run(json.loads((target / RUN_FILE).read_text(encoding="utf-8")))
        if not target.is_file():
            return {}
        if target.suffix.lower() == ".gpkg":
            return _of_gpkg(target)
        if target.suffix.lower() == ".parquet":
            return _as_run(json.loads((pq.read_metadata(target).metadata or {}).get(RUN_KEY, b"{}")))
        return _as_run(json.loads(run_file(target).read_text(encoding="utf-8")))
    except (OSError, ValueError, sqlite3.Error, pa.ArrowException):
        return {}


def _of_gpkg(target: Path) -> dict[str, str | None]:
    with closing(read_only(target)) as db:
        return dict(db.execute("SELECT key, value FROM run").fetchall())


def _as_run(values: Any) -> dict[str, str | None]:
    return dict(values) if isinstance(values, dict) else {}
