"""The rule by which footprints of two scenes are one object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.archive.overlaps import Pieces, order, same, suppressed
from geoseg.archive.spill import CELL_DEG, cells_of


def pieces(*rows: tuple[int, str, Any, bool]) -> Pieces:
    scene, label, geometry, cut = zip(*rows, strict=True)
    return Pieces(
        number=np.arange(len(rows)),
        scene=np.array(scene),
        label=np.array(label, object),
        geometry=np.array(geometry, object),
        cut=np.array(cut, bool),
    )


BOX = shapely.box(0, 0, 3, 2)


@pytest.mark.parametrize(
    ("other", "one"),
    [
        ((2, "a", BOX, False), True),
        ((2, "a", shapely.box(1, 0, 4, 2), False), True),  # IoU 1/2
        ((2, "a", shapely.box(1.1, 0, 4.1, 2), False), False),
        ((1, "a", BOX, False), False),  # one scene never sees an object twice
        ((2, "b", BOX, False), False),
        ((2, "a", shapely.box(0, 0, 0.5, 2), False), False),  # a shed in the place of a house
        ((2, "a", shapely.box(0, 0, 0.5, 2), True), True),  # the house, cut by the scene's edge
        ((2, "a", shapely.box(2.7, 0, 3.7, 2), True), False),
        ((2, "a", shapely.box(3, 0, 6, 2), True), False),  # they only touch
    ],
)
def test_when_two_are_one(other: Any, one: bool) -> None:
    for rows in (((1, "a", BOX, False), other), (other, (1, "a", BOX, False))):
        assert len(same(pieces(*rows), iou=0.5, cover=0.5)) == one


def ordered(keep: Any, *rows: tuple[bool, float, float, float]) -> list[int]:
    cut, time, score, area = (np.array(column) for column in zip(*rows, strict=True))
    return order(keep, cut=cut.astype(bool), time=time, score=score, area=area, number=np.arange(len(rows))).tolist()


def test_which_is_the_better_one() -> None:
    rows = (
        (True, 9.0, 0.99, 9.0),  # cut: after all whole ones
        (False, 1.0, 0.9, 1.0),
        (False, 2.0, 0.5, 1.0),
        (False, np.nan, 0.95, 1.0),
        (False, 2.0, np.nan, 1.0),
        (False, 2.0, 0.5, 3.0),
    )
    assert ordered("newest", *rows) == [5, 2, 4, 1, 3, 0]
    assert ordered("score", *rows) == [3, 1, 5, 2, 4, 0]


def greedy(count: int, pairs: set[tuple[int, int]]) -> set[int]:
    gone: set[int] = set()
    for rank in range(count):
        if rank not in gone:
            gone |= {worse for better, worse in pairs if better == rank}
    return gone


@given(st.sets(st.tuples(st.integers(0, 14), st.integers(0, 14)).filter(lambda pair: pair[0] < pair[1])))
def test_what_goes_is_what_one_after_the_other_would_take_out(pairs: set[tuple[int, int]]) -> None:
    edges = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    assert set(suppressed(edges[:, 0], edges[:, 1]).tolist()) == greedy(15, pairs)


def test_a_chain_keeps_its_ends() -> None:
    # 0 is 1, and 1 is 2, but 0 is not 2: 1 goes for 0, and 2 has no one to go for.
    assert suppressed(np.array([0, 1]), np.array([1, 2])).tolist() == [1]
    with pytest.raises(ValueError, match="lower"):
        suppressed(np.array([1]), np.array([0]))


@given(
    st.lists(
        st.tuples(st.floats(-179, 179), st.floats(-80, 80), st.floats(0, 0.07), st.floats(0, 0.07)),
        min_size=1,
        max_size=8,
    )
)
def test_two_that_meet_share_a_cell(places: list[tuple[float, float, float, float]]) -> None:
    bounds = np.array([(x, y, x + w, y + h) for x, y, w, h in places])
    rows, cells = cells_of(bounds)
    of = [set(cells[rows == i].tolist()) for i in range(len(bounds))]
    shapes = shapely.box(*bounds.T)
    for i, one in enumerate(shapes):
        assert len(of[i]) <= (0.07 / CELL_DEG + 2) ** 2
        for j, other in enumerate(shapes):
            assert of[i] & of[j] or not shapely.intersects(one, other)


def test_cells_go_round_the_antimeridian() -> None:
    _, west = cells_of(np.array([(-180.0, 10.0, -179.99, 10.01)]))
    _, east = cells_of(np.array([(179.99, 10.0, 180.005, 10.01)]))
    assert set(west.tolist()) & set(east.tolist())
