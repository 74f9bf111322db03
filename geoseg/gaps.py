"""Ground that was not examined, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import shapely

Reason = Literal["unreadable", "nodata", "suspect_missing", "outside_aoi", "failed"]
EXPECTED: tuple[Reason, ...] = ("nodata", "outside_aoi")
"""Reasons that are no fault of a run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gap:
    """One area in grid pixel space that no detector examined."""

    geometry: Any
    """Shapely (Multi)Polygon in grid pixels (x = column, y = row)."""
    reason: Reason
    """``unreadable`` (decoding failed), ``nodata``, ``suspect_missing`` (reads as zeros where the file holds no
    data), ``outside_aoi``, ``failed`` (the detector failed on it)."""
    detail: str = ""
    """What the library underneath said, in one line."""

    def __post_init__(self) -> None:
        if not isinstance(self.geometry, shapely.Geometry):
            raise TypeError(f"a gap's geometry is a shapely geometry, not {type(self.geometry).__name__}")

    @property
    def expected(self) -> bool:
        """True where the gap is no fault: nodata, or ground that the user's AOI leaves out."""
        return self.reason in EXPECTED
