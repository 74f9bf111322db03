"""The rule by which footprints of two scenes are one object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.archive.merge.overlaps import Pieces, order, same, settled, suppressed
from geoseg.archive.merge.spill import CELL_DEG, cells_of
from geoseg.archive.merge.uniting import ScenePart, united

WORLD = shapely.box(-50, -50, 50, 50)


def pieces(*rows: tuple[int, str, Any, bool], grounds: dict[int, Any] | None = None) -> Pieces:
    scene, label, geometry, cut = zip(*rows, strict=True)
    return Pieces(
        number=np.arange(len(rows)),
        scene=np.array(scene),
        label=np.array(label, object),
        geometry=np.array(geometry, object),
        cut=np.array(cut, bool),
        ground=np.array([(grounds or {}).get(each, WORLD) for each in scene], object),
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
        pairs, parts = same(pieces(*rows), iou=0.5, cover=0.5)
        assert len(pairs) == one and not parts.any()


def test_parts_that_edges_cut_agree_where_both_scenes_see() -> None:
    # Of a box over the corner that two scenes share each sees a part: they hardly overlap, and are one object.
    grounds = {1: shapely.box(-9, -9, 1, 9), 2: shapely.box(-9, 1.5, 9, 9)}
    low, high = shapely.box(0, 0, 1, 2), shapely.box(0, 1.5, 3, 2)
    for rows in (((1, "a", low, True), (2, "a", high, True)), ((2, "a", high, True), (1, "a", low, True))):
        pairs, parts = same(pieces(*rows, grounds=grounds), iou=0.5, cover=0.5)
        assert pairs.tolist() == [[0, 1]] and parts.tolist() == [True]
    whole, cut = united([ScenePart(geometry=low, ground=grounds[1]), ScenePart(geometry=high, ground=grounds[2])])  # type: ignore[misc]
    assert whole.equals(low | high) and cut
    # Two neighbours of which one begins where the other's scene ends are two; and so are two that only touch.
    beside = shapely.box(0.9, 1.5, 3, 2)
    for other in (beside, shapely.box(1, 1.5, 3, 2), shapely.box(1 - 1e-9, 1.5, 3, 2)):
        rows = ((1, "a", low, True), (2, "a", other, True))
        assert not len(same(pieces(*rows, grounds=grounds), iou=0.5, cover=0.5)[0])
    # One that is whole is no part, whatever the scenes cover.
    rows = ((1, "a", low, False), (2, "a", high, True))
    assert not len(same(pieces(*rows, grounds=grounds), iou=0.5, cover=0.6)[0])


def test_an_outline_that_is_newer_is_not_roughened_by_older_ones() -> None:
    ground = shapely.box(0, 0, 9, 9)
    new = ScenePart(geometry=shapely.box(0, 0, 3, 2), ground=ground)
    old = ScenePart(geometry=shapely.box(0, 0, 3.2, 2.1), ground=ground.buffer(0.01))
    assert united([new, old]) is None
    more = ScenePart(geometry=shapely.box(-2, 0, 3, 2), ground=shapely.box(-3, -3, 9, 9))
    whole, cut = united([new, old, more])  # type: ignore[misc]
    assert whole.equals(shapely.box(-2, 0, 3, 2)) and not cut


HOUSES = {
    (row, col): shapely.box(20 * col + 3, 20 * row + 4, 20 * col + 5 + wide, 20 * row + 6 + high)
    for row, col, wide, high in [(0, 0, 9, 3), (0, 1, 12, 8), (1, 0, 4, 11), (1, 1, 11, 2), (0, 2, 6, 6), (1, 2, 3, 12)]
}


@given(
    st.lists(
        st.tuples(st.integers(-5, 55), st.integers(-5, 35), st.integers(4, 60), st.integers(4, 40), st.integers(0, 3)),
        min_size=1,
        max_size=7,
    )
)
def test_every_object_of_overlapping_scenes_is_there_once(frames: list[tuple[int, int, int, int, int]]) -> None:
    grounds = {i: shapely.box(x, y, x + w, y + h) for i, (x, y, w, h, _) in enumerate(frames)}
    rows = [
        (scene, "house", shapely.intersection(house, ground), not shapely.contains_properly(ground, house), place)
        for scene, ground in grounds.items()
        for place, house in HOUSES.items()
        if shapely.area(shapely.intersection(house, ground)) > 0
    ]
    if not rows:
        return
    seen = pieces(*(row[:4] for row in rows), grounds=grounds)
    pairs, parts = same(seen, iou=0.5, cover=0.5)
    time = np.array([float(frames[row[0]][4]) for row in rows])
    area, score = shapely.area(seen.geometry), np.ones(len(rows))
    best = order("newest", cut=seen.cut, time=time, score=score, area=area, number=seen.number)
    rank = np.argsort(best)
    leader, kept = settled(rank, pairs, parts)
    found: dict[tuple[int, int], list[Any]] = {place: [] for place in HOUSES}
    for row in np.flatnonzero(kept & (leader == rank)):
        members = [row, *(other for other in best if leader[other] == rank[row] and other != row)]
        whole = united([ScenePart(geometry=seen.geometry[i], ground=seen.ground[i]) for i in members])
        assert len({rows[i][4] for i in members}) == 1
        found[rows[row][4]].append(seen.geometry[row] if whole is None else whole[0])
    for place, house in HOUSES.items():
        mine = [row[2] for row in rows if row[4] == place]
        whole = any(not row[3] for row in rows if row[4] == place)
        # As many as there are places of it that no scene connects.
        assert len(found[place]) == (1 if whole else len(connected(mine)))
        shapes = [house] if whole else connected(mine)
        assert shapely.area(shapely.symmetric_difference(*map(shapely.union_all, (found[place], shapes)))) < 0.3


def connected(shapes: list[Any]) -> list[Any]:
    """Unions of those that have ground in common, and not only an edge."""
    groups: list[Any] = []
    for shape in shapes:
        apart = [group for group in groups if not shapely.area(shapely.intersection(group, shape)) > 0]
        near = [group for group in groups if shapely.area(shapely.intersection(group, shape)) > 0]
        groups = [*apart, shapely.union_all([shape, *near])]
    return groups


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
