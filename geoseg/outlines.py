"""Outlines: what lies between instances (one chip) and footprints (the ground)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


def _no_geometry() -> NDArray[Any]:
    return np.empty(0, dtype=object)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlines:
    """Polygons in grid pixel space (x = column, y = row), each from one tile. A table of columns of length n."""

    geometry: NDArray[Any] = field(default_factory=_no_geometry)
    """``(n,)`` shapely Polygon or MultiPolygon, valid, in grid pixels (not window pixels)."""
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """``(n,)`` in [0, 1]."""
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """``(n,)`` index into the card's classes."""
    tiles: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    """``(n, 2)`` row and column of the tile that saw it."""

    def __len__(self) -> int:
        return len(self.geometry)

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """``(n, 4)`` x0, y0, x1, y1 of each. Computed once; tables that rows are taken into inherit it."""
        return np.asarray(shapely.bounds(self.geometry).reshape(-1, 4), np.float64)

    def take(self, index: NDArray[Any]) -> Outlines:
        """The rows at ``index`` (positions or a bool mask)."""
        out = Outlines(
            geometry=self.geometry[index],
            scores=self.scores[index],
            labels=self.labels[index],
            tiles=self.tiles[index],
        )
        if "bounds" in vars(self):
            vars(out)["bounds"] = self.bounds[index]
        return out

    @staticmethod
    def concat(parts: Sequence[Outlines]) -> Outlines:
        """One table of many."""
        if not parts:
            return Outlines()
        out = Outlines(
            geometry=np.concatenate([p.geometry for p in parts]),
            scores=np.concatenate([p.scores for p in parts]),
            labels=np.concatenate([p.labels for p in parts]),
            tiles=np.concatenate([p.tiles for p in parts]),
        )
        if any("bounds" in vars(part) for part in parts):
            vars(out)["bounds"] = np.concatenate([p.bounds for p in parts])
        return out
