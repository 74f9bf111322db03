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

from geoseg.archive.merge.overlaps import Pieces
from geoseg.archive.merge.uniting import ScenePart
from geoseg.turns import next_to

CELL_DEG = 0.02
"""Side of a cell in degrees, 2 km: even a dense town seen ten times is some 100,000 footprints."""
_COLUMNS = 18_000  # cells round the earth
_SCHEMA = """
CREATE TABLE piece (cell INTEGER, number INTEGER, scene INTEGER, label TEXT, cut INTEGER, wkb BLOB);
CREATE TABLE ground (scene INTEGER PRIMARY KEY, wkb BLOB);
CREATE TABLE rank (number INTEGER PRIMARY KEY, cut INTEGER, time REAL, score REAL, area REAL);
CREATE TABLE pair (a INTEGER, b INTEGER, parts INTEGER);
CREATE TABLE lost (number INTEGER PRIMARY KEY);
CREATE TABLE joined (leader INTEGER, number INTEGER, rank INTEGER);
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
        if len(pieces.scene):
            ground = (int(pieces.scene[0]), shapely.to_wkb(pieces.ground[0]))
            self._db.execute("INSERT OR IGNORE INTO ground VALUES (?, ?)", ground)
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
        """The candidates cell by cell; one that reaches several is in each. All have longitudes near the cell's."""
        rows = self._db.execute("SELECT cell, number, scene, label, cut, wkb FROM piece ORDER BY cell, number")
        for cell, group in groupby(rows, key=lambda row: int(row[0])):
            _, number, scene, label, cut, wkb = zip(*group, strict=True)
            scenes = np.array(scene, np.int64)
            there, place = np.unique(scenes, return_inverse=True)
            lon = (cell % _COLUMNS + 0.5) * CELL_DEG - 180
            grounds = np.array([self._ground(each) for each in there.tolist()], object)
            yield Pieces(
                number=np.array(number, np.int64),
                scene=scenes,
                label=np.array(label, object),
                geometry=next_to(shapely.from_wkb(np.array(wkb, object)), lon, 360.0),
                cut=np.array(cut, bool),
                ground=next_to(grounds, lon, 360.0)[place],
            )

    def _ground(self, scene: int) -> Any:
        (found,) = self._db.execute("SELECT wkb FROM ground WHERE scene = ?", (scene,)).fetchone()
        return shapely.from_wkb(found)

    def pair(self, pairs: NDArray[np.int64], parts: NDArray[np.bool_]) -> None:
        """Numbers of two footprints that are one object, and whether as parts of it; told again by another cell, it is
        the same pair."""
        told = ((a, b, int(part)) for (a, b), part in zip(pairs.tolist(), parts.tolist(), strict=True))
        self._db.executemany("INSERT INTO pair VALUES (?, ?, ?)", told)

    def paired(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], dict[str, NDArray[Any]]]:
        """All pairs, whether they are parts, and number, cut, time, score and area of the footprints in them."""
        found = self._db.execute("SELECT a, b, max(parts) FROM pair GROUP BY a, b").fetchall()
        pairs = np.array(found, np.int64).reshape(-1, 3)
        rows = self._db.execute(
            "SELECT number, cut, time, score, area FROM rank"
            " WHERE number IN (SELECT a FROM pair UNION SELECT b FROM pair) ORDER BY number"
        ).fetchall()
        columns = np.array(rows, float).reshape(-1, 5).T
        names = ("number", "cut", "time", "score", "area")
        facts: dict[str, NDArray[Any]] = dict(zip(names, columns, strict=True))
        facts["number"] = np.array([row[0] for row in rows], np.int64)
        facts["cut"] = facts["cut"].astype(bool)
        return pairs[:, :2], pairs[:, 2].astype(bool), facts

    def lose(self, numbers: NDArray[np.int64]) -> None:
        """Note footprints that are not kept."""
        self._db.executemany("INSERT INTO lost VALUES (?)", ((int(n),) for n in numbers))

    def lost(self, start: int, end: int) -> NDArray[np.int64]:
        """Those among ``start <= number < end``."""
        rows = self._db.execute("SELECT number FROM lost WHERE number >= ? AND number < ?", (start, end))
        return np.array([number for (number,) in rows], np.int64)

    def join(self, leader: NDArray[np.int64], number: NDArray[np.int64], rank: NDArray[np.int64]) -> None:
        """Note footprints that are parts of the object of a leader, itself included."""
        rows = zip(leader.tolist(), number.tolist(), rank.tolist(), strict=True)
        self._db.executemany("INSERT INTO joined VALUES (?, ?, ?)", rows)
        self._db.execute("CREATE INDEX joined_leader ON joined (leader)")
        self._db.execute("CREATE INDEX piece_number ON piece (number)")

    def joined(self, start: int, end: int) -> Iterator[tuple[int, list[ScenePart]]]:
        """Leaders among ``start <= number < end``, and the parts of their objects from the best to the worst, all with
        longitudes near the best one's."""
        query = (
            "SELECT leader, number FROM joined WHERE leader >= ? AND leader < ? ORDER BY leader, rank",
            (start, end),
        )
        for leader, rows in groupby(self._db.execute(*query), key=lambda row: int(row[0])):
            found = [self._part(number) for _, number in rows]
            lon = shapely.bounds(found[0][0])[0]
            placed = (next_to(np.array(part, object), lon, 360.0) for part in found)
            yield leader, [ScenePart(geometry=geometry, ground=ground) for geometry, ground in placed]

    def _part(self, number: int) -> tuple[Any, Any]:
        """A footprint, and the ground of its scene."""
        query = "SELECT scene, wkb FROM piece WHERE number = ? LIMIT 1"
        scene, shape = self._db.execute(query, (number,)).fetchone()
        return shapely.from_wkb(shape), self._ground(scene)


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
