"""A partitioned GeoParquet dataset: a folder of files that workers write side by side. It appears whole, by rename.

The rows are in ``part-*.parquet``. What is not rows has a name that readers of datasets pass by: ``_gaps/`` and
``_run.json``.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow as pa

from geoseg.errors import ConfigError, SinkError
from geoseg.sinks import tables
from geoseg.sinks.atomic import flush, printable, signals_held, write_failed
from geoseg.sinks.output import Output
from geoseg.sinks.parquet import write as write_parquet
from geoseg.sinks.parquet import write_rows
from geoseg.vectors import PARTS, RUN_FILE

_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2


def is_dataset(path: Path) -> bool:
    """True for the path of a folder: one without a suffix."""
    return not path.suffix


def check_dataset(target: Path, *, force: bool) -> None:
    """Refuse, unless forced, to replace what is no dataset of geoseg's; a file, and the folder one is in, always.

    Raises:
        ConfigError: the target is the folder that this runs in, or one that it lies in.
        SinkError: it is there.
    """
    here = _here()
    if here and here.is_relative_to(os.path.realpath(target)):  # of an empty name, too: a variable that is not set
        raise ConfigError(
            f"an output folder {printable(target)!r} that is the folder you are in, or holds it",
            allowed="a new or empty folder, or a dataset of geoseg's: it is replaced as a whole",
            remedy="Give the output a name",
        )
    if not target.exists():
        return
    if not target.is_dir():
        raise SinkError(
            f"{printable(target)} is a file", allowed="a name with a suffix for a file, without one for a folder"
        )
    foreign = [] if force else sorted(path.name for path in target.iterdir() if not _is_own(path))
    if foreign:
        raise SinkError(
            f"{printable(target)} holds files that geoseg did not write"
            f" ({printable(', '.join(foreign[:5]))}{', ...' if len(foreign) > 5 else ''}) and that would go",
            allowed="a new or empty folder, or a dataset of geoseg's",
            remedy="Write to another name, or pass force (--force), which replaces the whole folder",
        )


def _here() -> Path | None:
    """The folder that this runs in; None where it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def count_parts(folder: Path) -> int:
    """Files of rows in a dataset."""
    return sum(1 for _ in folder.glob(PARTS))


def _is_own(path: Path) -> bool:
    """Whether it is part of a dataset of geoseg's, which has its own mark."""
    own = path.name in (RUN_FILE, "_gaps") or path.match(PARTS)
    return own and (path.parent / RUN_FILE).is_file()


def write_piece(path: Path, rows: tables.RowStream, run: Mapping[str, Any] | None) -> None:
    """Write one file of a dataset, in Hilbert order; whole, or not at all.

    Raises:
        SinkError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        try:
            write_rows(draft, rows, run)
            flush(draft)
            os.replace(draft, path)
        finally:
            for left in (draft, draft.with_name(f"{draft.name}.rows")):
                with suppress(OSError):
                    left.unlink()
    except (OSError, pa.ArrowException) as error:
        raise write_failed(path, error) from error


def finish(
    draft: Path, target: Path, *, gaps: gpd.GeoDataFrame | None, run: Mapping[str, Any] | None, force: bool = False
) -> None:
    """Put gaps and run into a folder that holds all files, and the folder in place of ``target``, whole.

    Args:
        draft: the folder, on the file system of the target.
        target: where it goes.
        gaps: ground that was not examined; None: nothing is said.
        run: provenance; None: nothing is said.
        force: replace also what is no dataset.

    Raises:
        SinkError: it cannot be written, or must not be replaced; what stood there is intact.
    """
    check_dataset(target, force=force)
    try:
        if gaps is not None:
            (draft / "_gaps").mkdir(exist_ok=True)
            write_parquet(Output(target=draft / "_gaps" / "gaps.parquet", footprints=gaps))
        told = tables.run_values({**(run or {}), "parts": count_parts(draft)})
        (draft / RUN_FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        flush(draft / RUN_FILE)
        flush(draft)
        with signals_held():
            _put(draft, target)
    except OSError as error:
        raise write_failed(target, error) from error


def _put(draft: Path, target: Path) -> None:
    target = Path(os.path.realpath(target))
    if not target.exists():
        os.rename(draft, target)
    elif _exchanged(draft, target):
        shutil.rmtree(draft, ignore_errors=True)
    else:  # for the moment between two renames nothing stands there; what stood there is beside it
        old = target.with_name(f".{target.name}.old-{uuid.uuid4().hex[:8]}")
        os.rename(target, old)
        try:
            os.rename(draft, target)
        except OSError:
            os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):
        flush(target.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two folders could be exchanged in one step, which Linux can on most file systems."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)
