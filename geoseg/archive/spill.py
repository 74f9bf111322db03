"""Footprints that several scenes may have seen, dealt out over a grid of cells on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.archive.overlaps import Pieces

CELL_DEG = 0.02
"""Side of a cell in degrees, 2 km: even a dense town seen ten times is some 100,000 footprints."""
_COLUMNS = 18_000  # cells round the earth
_SCHEMA = """
CREATE TABLE piece (cell INTEGER, number INTEGER, scene INTEGER, label TEXT, cut INTEGER, wkb BLOB);
CREATE TABLE rank (number INTEGER PRIMARY KEY, cut INTEGER, time REAL, score REAL, area REAL);
CREATE TABLE pair (a INTEGER, b INTEGER);
CREATE TABLE lost (number INTEGER PRIMARY KEY);
"""


class Spill:
    """The candidates of a merge on disk: what is in memory is one cell."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path)
        # Of no use once the merge is over, whichever way: nothing to protect.
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add(self, pieces: Pieces, *, time: float, score: NDArray[Any], area: NDArray[Any]) -> None:
        """Candidates of one scene: each goes to all cells that it reaches."""
        stamp = None if np.isnan(time) else time
        ranks = zip(pieces.number, pieces.cut, score, area, strict=True)
        self._db.executemany(
            "INSERT INTO rank VALUES (?, ?, ?, ?, ?)",
            [(int(n), int(c), stamp, None if np.isnan(s) else float(s), float(a)) for n, c, s, a in ranks],
        )
        shapes = shapely.to_wkb(pieces.geometry)
        rows, cells = cells_of(shapely.bounds(pieces.geometry))
        self._db.executemany(
            "INSERT INTO piece VALUES (?, ?, ?, ?, ?, ?)",
            (
                (int(cell), int(pieces.number[i]), int(pieces.scene[i]), pieces.label[i], int(pieces.cut[i]), shapes[i])
                for i, cell in zip(rows, cells, strict=True)
            ),
        )

    def cells(self) -> Iterator[Pieces]:
        """The candidates cell by cell; one that reaches several is in each."""
        rows = self._db.execute("SELECT cell, number, scene, label, cut, wkb FROM piece ORDER BY cell, number")
        for _, group in groupby(rows, key=lambda row: row[0]):
            _, number, scene, label, cut, wkb = zip(*group, strict=True)
            yield Pieces(
                number=np.array(number, np.int64),
                scene=np.array(scene, np.int64),
                label=np.array(label, object),
                geometry=shapely.from_wkb(np.array(wkb, object)),
                cut=np.array(cut, bool),
            )

    def pair(self, pairs: NDArray[np.int64]) -> None:
        """Numbers of two footprints that are one object; told again by another cell, it is the same pair."""
        self._db.executemany("INSERT INTO pair VALUES (?, ?)", pairs.tolist())

    def paired(self) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """All pairs, and number, cut, time, score and area of the footprints in them."""
        pairs = np.array(self._db.execute("SELECT DISTINCT a, b FROM pair").fetchall(), np.int64).reshape(-1, 2)
        rows = self._db.execute(
            "SELECT number, cut, time, score, area FROM rank"
            " WHERE number IN (SELECT a FROM pair UNION SELECT b FROM pair) ORDER BY number"
        ).fetchall()
        columns = np.array(rows, float).reshape(-1, 5).T
        names = ("number", "cut", "time", "score", "area")
        found: dict[str, NDArray[Any]] = dict(zip(names, columns, strict=True))
        found["number"] = np.array([row[0] for row in rows], np.int64)
        found["cut"] = found["cut"].astype(bool)
        return pairs, found

    def lose(self, numbers: NDArray[np.int64]) -> None:
        """Note footprints that are not kept."""
        self._db.executemany("INSERT INTO lost VALUES (?)", ((int(n),) for n in numbers))

    def lost(self, start: int, end: int) -> NDArray[np.int64]:
        """Those among ``start <= number < end``."""
        rows = self._db.execute("SELECT number FROM lost WHERE number >= ? AND number < ?", (start, end))
        return np.array([number for (number,) in rows], np.int64)


def cells_of(bounds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row of ``bounds`` (``(n, 4)``, degrees) and cell, for each cell that each reaches."""
    first = np.floor((bounds[:, :2] + (180, 90)) / CELL_DEG).astype(np.int64)
    last = np.floor((bounds[:, 2:] + (180, 90)) / CELL_DEG).astype(np.int64)
    wide, high = (last - first + 1).T
    count = wide * high
    rows = np.repeat(np.arange(len(bounds)), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    col = first[rows, 0] + step % wide[rows]
    row = first[rows, 1] + step // wide[rows]
    return rows, row * _COLUMNS + col % _COLUMNS
