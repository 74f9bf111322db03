"""Which run an output comes from: what ``write`` noted of it, read back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio

from geoseg.paths import expanded
from geoseg.sinks import tables
from geoseg.sinks.dataset import count_parts
from geoseg.sinks.gpkg import read_only
from geoseg.sinks.output import run_file
from geoseg.sinks.parquet import RUN_KEY
from geoseg.vectors import PARTS, RUN_FILE, gdal_name


def written_run(path: str | Path) -> dict[str, str | None]:
    """The ``run`` that :func:`geoseg.sinks.write` was given for the output at ``path``, every value as text.

    Empty where there is no such output, it names no run, or it cannot be read: it is then an output of no known run.
    """
    target = expanded(path)
    try:
        if target.is_dir():
            found = _as_run(json.loads((target / RUN_FILE).read_text(encoding="utf-8")))
            for part in target.glob(PARTS):
                pq.read_metadata(part)  # at its end: one that was cut short is known by that
            return found if count_parts(target) >= int(found.get("parts") or 0) else {}
        if not target.is_file():
            return {}
        if target.suffix.lower() == ".gpkg":
            return _of_gpkg(target)
        if target.suffix.lower() == ".parquet":
            return _as_run(json.loads((pq.read_metadata(target).metadata or {}).get(RUN_KEY, b"{}")))
        found = _as_run(json.loads(run_file(target).read_text(encoding="utf-8")))
        # It lies beside the output and may outlive it; the other formats hold theirs, and lose it with their end.
        return found if found and _is_whole(target) else {}
    except (OSError, ValueError, IndexError, sqlite3.Error, pa.ArrowException, *tables.GDAL_ERRORS):
        return {}


def _is_whole(target: Path) -> bool:
    """Whether all rows can be read that a file's head tells of: of one cut short there GDAL may give none, silently.

    Raises what pyogrio raises: IndexError where GDAL sees no layer, too.
    """
    with gdal_name(target.absolute()) as name:
        count = pyogrio.read_info(name)["features"]  # for which GDAL parses all of a GeoJSON, but only an .fgb's head
        return target.suffix.lower() != ".fgb" or bool(count == tables.read_count(Path(name)))


def _of_gpkg(target: Path) -> dict[str, str | None]:
    with closing(read_only(target)) as db:
        return dict(db.execute("SELECT key, value FROM run").fetchall())


def _as_run(values: Any) -> dict[str, str | None]:
    if not isinstance(values, dict):
        return {}
    return {key: tables.run_text(value) for key, value in values.items()}
