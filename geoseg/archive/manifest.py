"""The record of a run over an archive: one SQLite file, the commit point of every scene.

SQLite, because it is whole after a SIGKILL at any moment, is read by others while it is written, and is asked for what
is wanted instead of being held in memory: the driver of 100,000 scenes holds none of them. It keeps the plain rollback
journal: a write-ahead log does not work on network file systems, and there is one writer.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

from geoseg.archive import cells
from geoseg.archive.names import distinct, folded, named
from geoseg.archive.record import Record, State
from geoseg.archive.spool import spooled
from geoseg.errors import ConfigError, SinkError
from geoseg.stac.scene import Scene

FILE = "manifest.sqlite"
OUTPUTS = "scenes"
"""Folder of the outputs in the run's folder."""
_VERSION = 1
_APPLICATION = 0x67656F73  # "geos": a file of another program is told from ours
_PAGE = 500
_SOON_S = 0.5
_JOURNAL = 2**20  # bytes: what a list of many scenes takes is given back

_SCHEMA = """
CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE scene (
    id INTEGER PRIMARY KEY, href UNIQUE NOT NULL, name NOT NULL, output TEXT UNIQUE NOT NULL,
    folded TEXT UNIQUE NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL, last TEXT, acquired TEXT, extra TEXT,
    plan TEXT, signature TEXT, stamp TEXT, key TEXT, run TEXT, same_as INTEGER, extent TEXT, seen TEXT,
    footprints INTEGER, seconds REAL, started TEXT, ended TEXT, tries INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0, tiles TEXT, code INTEGER NOT NULL DEFAULT 0, error TEXT, figures TEXT);
CREATE INDEX scene_state ON scene (state, id);
CREATE INDEX scene_key ON scene (key);
"""
_FIELDS = tuple(Record.__dataclass_fields__)


class Manifest:
    """The scenes of a run's folder and how far each is, on disk."""

    def __init__(self, folder: Path, db: sqlite3.Connection) -> None:
        self.folder, self._db = folder, db
        self._since = 0.0

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, *, create: bool = False) -> Iterator[Manifest]:
        """The manifest of a run's folder; to be read only, unless ``create``.

        Raises:
            ConfigError: there is none, or a file that is none.
            SinkError: it cannot be made, or the disk fails.
        """
        path = folder / FILE
        if not create and not (path.is_file() and path.stat().st_size):
            raise ConfigError(f"{folder}, which holds no {FILE}", allowed="the folder of a run that was begun")
        try:
            # Not mode=ro: what a kill left half-written is rolled back by whoever reads next, which writes.
            mode = "rwc" if create else "rw"
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30.0)
            try:
                _check(db, path, create=create)
                if create:
                    # Till the end the journal's blocks are kept: on a full disk the run can still say how it went.
                    db.execute("PRAGMA journal_mode = PERSIST")
                    db.execute(f"PRAGMA journal_size_limit = {_JOURNAL}")
                else:
                    db.execute("PRAGMA query_only = ON")
                yield cls(folder, db)
            finally:
                if create:
                    with suppress(sqlite3.Error):  # somebody reads just now: it stays until the next run
                        db.execute("PRAGMA journal_mode = DELETE")
                db.close()
        except sqlite3.DatabaseError as error:
            # Malformed, or no database; else a disk or a lock, which may pass.
            broken = type(error) is sqlite3.DatabaseError
            aside = "Check the disk, move the manifest away, and run the same again: every scene is done anew"
            raise SinkError(
                f"the manifest {path} ({error})", remedy=aside if broken else "Check the disk, and run the same again"
            ) from error

    @classmethod
    @contextmanager
    def copied(cls, folder: Path) -> Iterator[Manifest]:
        """A copy in memory of a folder's manifest, or a new one: to try out what a run would do."""
        db = sqlite3.connect(":memory:")
        try:
            if (folder / FILE).is_file():
                with cls.opened(folder) as there:
                    there._db.backup(db)
            _check(db, folder / FILE, create=True)
            yield cls(folder, db)
        finally:
            db.close()

    def begin(self, scenes: Iterable[Scene], template: str, suffix: str, **facts: Any) -> int:
        """Start a round over ``scenes``: what is not among them any more is ``gone``, all others are ``pending``.

        All at once or not at all, the ``facts`` of the run with them. A scene keeps its number and its output's name
        for ever.

        Returns:
            How many scenes there are; one that is named twice is one.

        Raises:
            SinkError: there is no room for the list of them.
        """
        # First all of them: a search takes minutes, and the manifest is not to be locked meanwhile.
        with self._db, spooled(scenes) as found:
            self._db.execute("BEGIN IMMEDIATE")
            turn = int(self.fact("round") or 0) + 1
            for key, value in {**facts, "round": turn}.items():
                self._put(key, value)
            for scene in found:
                self._want(scene, turn, template, suffix)
            self._db.execute("UPDATE scene SET state = 'gone' WHERE round < ?", (turn,))
            self._db.execute(
                "UPDATE scene SET state = 'pending', same_as = NULL, started = NULL, ended = NULL, seconds = NULL,"
                " tries = 0, unchanged = 0, tiles = NULL, code = 0, error = NULL WHERE round = ?",
                (turn,),
            )
        return self.count("pending")

    def _want(self, scene: Scene, turn: int, template: str, suffix: str) -> None:
        date, extra = cells.cell("acquired", scene.acquired), cells.cell("extra", dict(scene.extra))
        href = cells.told(scene.href)
        found = self._db.execute("SELECT id, output FROM scene WHERE href = ?", (href,)).fetchone()
        if found is not None:
            output = str(Path(found[1]).with_suffix("")) + suffix if not found[1].endswith(suffix) else found[1]
            self._db.execute(
                "UPDATE scene SET round = ?, acquired = ?, extra = ?, output = ? WHERE id = ?",
                (turn, date, extra, output, found[0]),
            )
            return
        (number,) = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM scene").fetchone()
        # One that is refused already takes no name from what it may be once it is mended: that has another href.
        refused = "refused" in scene.extra
        name = f".{number}" if refused else distinct(named(template, scene, number), self._taken)
        self._db.execute(
            "INSERT INTO scene (id, href, name, output, folded, round, state, acquired, extra)"
            " VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
            (number, href, cells.told(scene.name), f"{OUTPUTS}/{name}{suffix}", folded(name), turn, date, extra),
        )

    def _taken(self, name: str) -> bool:
        return self._db.execute("SELECT 1 FROM scene WHERE folded = ?", (name,)).fetchone() is not None

    def next(self) -> Record | None:
        """The first scene that is left."""
        return next(self._records("state = 'pending' ORDER BY id LIMIT 1"), None)

    def get(self, number: int) -> Record:
        """One scene."""
        return next(self._records("id = ?", number))

    def owner(self, key: str, number: int) -> int | None:
        """Another scene of this round that has this content and stands for it."""
        query = (
            "SELECT min(id) FROM scene WHERE key = ? AND id != ? AND state IN"
            " ('running', 'done', 'parts', 'refused', 'locked', 'failed')"
        )
        (found,) = self._db.execute(query, (key, number)).fetchone()
        return None if found is None else int(found)

    def update(self, number: int, **values: Any) -> None:
        """Set columns of one scene: on the disk when this returns."""
        with self._db:
            self._set(number, values)

    def update_soon(self, number: int, **values: Any) -> None:
        """Set columns of one scene: on the disk with the next update, or the next of this kind half a second later.

        For what a run that is killed only has to find out once more: a wait for the disk for each of 100,000 takes
        minutes.
        """
        if not self._db.in_transaction:
            self._since = time.monotonic()
        self._set(number, values)
        if time.monotonic() - self._since > _SOON_S:
            self._db.commit()

    def settle(self) -> None:
        """Have all on the disk."""
        self._db.commit()

    def _set(self, number: int, values: dict[str, Any]) -> None:
        if "state" in values and values["state"] not in ("pending", "running"):
            values["last"] = values["state"]
        columns = ", ".join(f"{name} = ?" for name in values)
        told = (*(cells.cell(name, value) for name, value in values.items()), number)
        self._db.execute(f"UPDATE scene SET {columns} WHERE id = ?", told)

    def reopen(self) -> None:
        """Scenes that were at work when their run ended are left again."""
        with self._db:
            self._db.execute("UPDATE scene SET state = 'pending', tiles = NULL WHERE state = 'running'")

    def records(self, *states: State) -> Iterator[Record]:
        """Scenes in these states (none named: all of this round) by number, a page in memory at a time."""
        wanted = states or tuple(state for state in get_args(State) if state != "gone")
        marks, last = ", ".join("?" * len(wanted)), -1
        # By the index of states each page of several of them would be sorted out of all that are left.
        states_of = "state" if len(wanted) == 1 else "+state"
        while True:
            page = list(self._records(f"{states_of} IN ({marks}) AND id > ? ORDER BY id LIMIT {_PAGE}", *wanted, last))
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].id

    def count(self, *states: State) -> int:
        """How many scenes are in these states."""
        return sum(number for state, number in self.counts().items() if state in states)

    def counts(self) -> dict[str, int]:
        """How many scenes are in each state."""
        found = self._db.execute("SELECT state, count(*) FROM scene GROUP BY state ORDER BY state")
        return {cells.value("state", state): number for state, number in found}

    def codes(self) -> set[int]:
        """The exit codes of the scenes that came to nothing."""
        query = "SELECT DISTINCT code FROM scene WHERE state IN ('refused', 'locked', 'failed')"
        return {cells.value("code", code) for (code,) in self._db.execute(query)}

    def total(self, what: str) -> float:
        """Sum over the scenes of this round of ``footprints``, ``seconds`` or ``unchanged``."""
        if what not in ("footprints", "seconds", "unchanged"):
            raise ValueError(what)
        states = " WHERE state IN ('done', 'parts')" if what == "footprints" else " WHERE state != 'gone'"
        return float(self._db.execute(f"SELECT total({what}) FROM scene{states}").fetchone()[0])

    def standing(self) -> int:
        """Footprints in the outputs that stand, as far as is known: those that an earlier round wrote of scenes that
        this one has not come to yet are there, too."""
        query = (
            "SELECT total(footprints) FROM scene WHERE state IN ('done', 'parts')"
            " OR (state IN ('pending', 'running') AND last IN ('done', 'parts'))"
        )
        return int(self._db.execute(query).fetchone()[0])

    def earlier(self) -> int:
        """Of these, those that another plan made than that of this round."""
        query = (
            "SELECT total(footprints) FROM scene WHERE state = 'pending' AND last IN ('done', 'parts')"
            " AND substr(plan, 1, ?) != ?"
        )
        plan = self.fact("plan") or ""
        return int(self._db.execute(query, (len(plan), plan)).fetchone()[0])

    def new(self) -> int:
        """How many of the scenes that are left no run has come to an end with yet."""
        (found,) = self._db.execute("SELECT count(*) FROM scene WHERE state = 'pending' AND last IS NULL").fetchone()
        return int(found)

    def fact(self, key: str) -> Any:
        """What was noted under ``key``; None: nothing."""
        found = self._db.execute("SELECT value FROM fact WHERE key = ?", (key,)).fetchone()
        return None if found is None else cells.fact(key, found[0])

    def note(self, **facts: Any) -> None:
        """Note facts of the run, as JSON."""
        with self._db:
            for key, value in facts.items():
                self._put(key, value)

    def _put(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (key, json.dumps(value, default=str)))

    def _records(self, where: str, *values: Any) -> Iterator[Record]:
        query = f"SELECT {', '.join(_FIELDS)} FROM scene WHERE {where}"
        for row in self._db.execute(query, values).fetchall():
            yield Record(**{name: cells.value(name, held) for name, held in zip(_FIELDS, row, strict=True)})


def _check(db: sqlite3.Connection, path: Path, *, create: bool) -> None:
    """Make the tables of a new file, and refuse one that is not ours."""
    (kind,), (version,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if create and not tables:
        with db:
            db.execute("BEGIN IMMEDIATE")  # all of it, or a reader sees an empty file
            for statement in filter(str.strip, _SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")
    elif (kind, version) != (_APPLICATION, _VERSION):
        raise ConfigError(
            f"{path}, which is no manifest of this version of geoseg",
            allowed=f"a folder without a {FILE}, or with one of version {_VERSION}",
            remedy="Take another folder ([archive] folder)",
        )
