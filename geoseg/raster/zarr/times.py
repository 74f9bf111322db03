"""CF's way to say a moment: a number of units since a date."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_SECONDS = {"day": 86400.0, "hour": 3600.0, "minute": 60.0, "second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6}
_SECONDS |= {"nanosecond": 1e-9}
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_SINCE = re.compile(
    r"(\w+?)s? since (\d{4}-\d{1,2}-\d{1,2})(?:[ T](\d{1,2}:\d{2}(?::\d{2})?)(?:\.\d+)?)?(?: ?(?:Z|UTC))?"
)


def moment(value: float, attributes: Mapping[str, Any]) -> datetime | None:
    """The UTC of a value by its ``units`` (``days since 2023-05-01``), to the second; None where they are anything else
    than days or less of the common calendar."""
    found = _SINCE.fullmatch(str(attributes.get("units", "")).strip())
    if not found or found[1] not in _SECONDS or attributes.get("calendar", "standard") not in _CALENDARS:
        return None
    form = "%Y-%m-%d" + {0: "", 1: " %H:%M", 2: " %H:%M:%S"}[(found[3] or "").count(":")]
    try:
        start = datetime.strptime(f"{found[2]} {found[3] or ''}".strip(), form).replace(tzinfo=UTC)
        # To a millisecond first: half a day, in days since the year 1, is a few microseconds off.
        return (start + timedelta(seconds=round(value * _SECONDS[found[1]], 3))).replace(microsecond=0)
    except (ValueError, OverflowError):
        return None
