"""What a manifest holds, as SQLite has it and as Python does; what somebody changed by hand is found out on the way."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import UTC, datetime
from typing import Any, get_args

from geoseg.archive.record import RunState, State

_DATES = ("acquired", "seen", "started", "ended")
_JSON = ("extra", "extent", "tiles", "figures")
_CELLS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "same_as", "footprints", "tries", "code", "unchanged"), int),
    **dict.fromkeys(("extra", "figures"), dict),
    **dict.fromkeys(("extent", "tiles"), tuple),
    **dict.fromkeys(_DATES, datetime),
    "seconds": (int, float),
}
"""Column of a scene -> type; text where it is not named."""
_FACTS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("round", "pid", "processes", "exit_code"), int),
    **dict.fromkeys(("warnings", "rules"), list),
    **dict.fromkeys(("config", "versions", "planned"), dict),
    "seconds": (int, float),
}
_WORDS: dict[str, tuple[str, ...]] = {"state": get_args(State), "last": get_args(State)}
_LENGTHS = {"extent": 4, "tiles": 2}


def told(text: str) -> str | bytes:
    """Text as SQLite takes it; a path that is not UTF-8 as its bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def cell(name: str, value: Any) -> Any:
    """A scene's value as SQLite has it."""
    if value is None:
        return None
    if name in _DATES:
        moment: datetime = value
        return moment.astimezone(UTC).isoformat()
    if name in _JSON:
        return json.dumps(value, default=str)
    return told(value) if isinstance(value, str) else value


def value(name: str, cell: Any) -> Any:
    """The inverse of :func:`cell`.

    Raises:
        sqlite3.DatabaseError: it is nothing that geoseg has written there.
    """
    try:
        found = _value(name, cell)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _changed(f"a scene's {name}", cell) from error
    sound = found is None or isinstance(found, _CELLS.get(name, str))
    sound = sound and (found is None or found in _WORDS.get(name, (found,)))
    sound = sound and len(found or ()) in (0, _LENGTHS[name]) if name in _LENGTHS else sound
    if not sound:
        raise _changed(f"a scene's {name}", cell)
    return found


def fact(key: str, text: str) -> Any:
    """What was noted of a run under ``key``, from JSON; errors as for :func:`value`."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _changed(f"the run's {key}", text) from error
    if not (found is None or isinstance(found, _FACTS.get(key, str))):
        raise _changed(f"the run's {key}", text)
    if key == "state" and found not in get_args(RunState):
        raise _changed(f"the run's {key}", text)
    return found


def _changed(what: str, held: object) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"{what} is {held!r:.80}, which geoseg does not write")


def _value(name: str, cell: Any) -> Any:
    if name in _JSON:
        found = None if cell is None else json.loads(cell)
        if isinstance(found, list):
            return tuple(found)
        return {} if found is None and name in ("extra", "figures") else found
    if cell is None:
        return None
    if name in _DATES:
        moment = datetime.fromisoformat(cell)
        if moment.tzinfo is None:
            raise ValueError("a date without a zone")
        return moment
    if name == "unchanged":
        return bool(cell)
    return os.fsdecode(cell) if isinstance(cell, bytes) else cell
