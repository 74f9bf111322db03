"""Gaps of a run: the same to the bit, whatever order they came in."""

from __future__ import annotations

import random

import numpy as np
import pytest
import shapely

from geoseg.gaps import Gap
from geoseg.report import dissolved


def _gaps() -> list[Gap]:
    """Ragged gaps that overlap and touch, of three reasons, as blocks tell them."""
    rng = np.random.default_rng(4)
    gaps = []
    for i in range(90):
        x, y = rng.uniform(0, 60, 2)
        shape = _turned(x, y, 4 * i)
        reason = ("nodata", "unreadable", "failed")[i % 3]
        gaps.append(Gap(geometry=shape, reason=reason, detail=f"{i % 5}"))  # type: ignore[arg-type]
    return gaps


def _turned(x: float, y: float, degrees: float) -> shapely.Polygon:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = np.array([(0, 0), (9, 0), (9, 5), (0, 5)]) @ [[cos, sin], [-sin, cos]]
    return shapely.Polygon(np.add(corners, (x, y)))


@pytest.mark.parametrize("within", [None, shapely.box(3.3, 4.4, 50.5, 55.7)])
def test_the_order_of_gaps_changes_no_bit(within: shapely.Geometry | None) -> None:
    gaps = _gaps()
    expected = [(gap.reason, gap.detail, gap.geometry.wkb) for gap in dissolved(gaps, within=within)]
    assert [reason for reason, _, _ in expected] == ["unreadable", "nodata", "failed"]
    for seed in range(20):
        random.Random(seed).shuffle(gaps)
        assert [(gap.reason, gap.detail, gap.geometry.wkb) for gap in dissolved(gaps, within=within)] == expected
