"""Times in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` under an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
