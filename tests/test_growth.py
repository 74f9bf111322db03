"""Twice as much takes twice the work, and not four times: told by calls and vertices, not by clocks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from painted import Painted, write_raster
from pyproj import CRS

from geoseg import Settings, Tiling
from geoseg.aoi import load_aoi
from geoseg.archive.manifest import Manifest
from geoseg.carrying import PieceTask, carry_out, open_engine
from geoseg.gaps import Gap
from geoseg.grid import Grid
from geoseg.ground import _Gap
from geoseg.job import Job, _reach
from geoseg.picture import filled, lines
from geoseg.polygons import come_near, pieces, share_inside
from geoseg.regularize.walls import Walls, join_walls
from geoseg.report import dissolved
from geoseg.squares import Square
from geoseg.stac.scene import Scene
from geoseg.work import Rows, Stream, WorkFolder


def calls(work: Callable[[], Any]) -> int:
    """How many functions, of Python and of C, ``work`` calls."""
    count = 0

    def tell(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tell)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture
def asked_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[int]]:
    """The vertices of what a function of shapely is asked for: the most of one geometry in each call."""

    def watch(name: str) -> list[int]:
        real, found = getattr(shapely, name), []

        def watched(*args: Any, **kwargs: Any) -> Any:
            given = [np.atleast_1d(np.asarray(arg, object)) for arg in args if not isinstance(arg, float | int)]
            found.append(max((int(shapely.get_num_coordinates(each).max(initial=0)) for each in given), default=0))
            return real(*args, **kwargs)

        monkeypatch.setattr(shapely, name, watched)
        return found

    return watch


def row_of_houses(n: int) -> tuple[Walls, NDArray[np.int64]]:
    """The fronts of houses in a row, each in line with the next, and which stand beside each other."""
    walls = Walls(
        owner=np.arange(n),
        upright=np.zeros(n, np.bool_),
        side=np.ones(n, np.int64),
        offset=10 + 0.01 * (np.arange(n) % 7),
        length=np.full(n, 9.0),
        reach=np.column_stack([np.arange(n) * 9.0, np.arange(n) * 9.0 + 9]),
    )
    return walls, np.column_stack([np.arange(n - 1), np.arange(1, n)])


def test_walls_in_line_are_joined_at_once_however_long_the_row() -> None:
    counts = []
    for n in (50, 2000):
        walls, pairs = row_of_houses(n)
        assert join_walls(walls, pairs, 1.0) == pytest.approx(walls.offset.mean())
        counts.append(calls(lambda walls=walls, pairs=pairs: join_walls(walls, pairs, 1.0)))  # type: ignore[misc]
    assert counts[1] == counts[0]


def stairs(n: int) -> Any:
    """Ground above a border of ``n`` steps, pixel by pixel."""
    rng = np.random.default_rng(5)
    y = 50 + np.cumsum(rng.choice([-1, 1], n))
    edge = np.column_stack([np.repeat(np.arange(n + 1), 2)[1:-1], np.repeat(y, 2)])
    return shapely.Polygon([*edge, (n, -500), (0, -500)])


def test_an_object_at_a_ragged_gap_is_cut_with_what_is_there_of_it(asked_of: Callable[[str], list[int]]) -> None:
    for n in (1000, 8000):
        border = stairs(n)
        x = np.arange(20, n - 20, 40)
        at = [next(y for px, y in border.exterior.coords if px == each) for each in x]
        objects = shapely.box(x - 8, np.array(at) - 5, x + 8, np.array(at) + 7)
        gap = _Gap.of(Gap(geometry=border, reason="nodata"))
        cut = asked_of("intersection")
        under = gap.under(objects)
        assert max(cut) <= 256
        assert np.array_equal(under, [shapely.area(shapely.intersection(each, border)) for each in objects])
        assert np.array_equal(gap.near(objects), np.flatnonzero(shapely.distance(objects, border) <= 0.5))


def test_pieces_are_the_polygons() -> None:
    ring = stairs(3000)
    holed = ring - shapely.union_all(shapely.box(range(10, 2990, 9), -400, range(15, 2995, 9), -300))
    comb = shapely.union_all([shapely.box(0, 0, 1000, 1), *shapely.box(range(0, 1000, 2), 0, range(1, 1001, 2), 900)])
    given = np.array([ring, shapely.MultiPolygon([holed, shapely.box(5000, 0, 5001, 1)]), comb], dtype=object)
    found = pieces(given)
    assert shapely.is_valid(found).all() and (shapely.get_type_id(found) == shapely.GeometryType.POLYGON).all()
    assert (shapely.get_num_coordinates(found) <= 256).mean() > 0.9 and len(found) < 500
    assert shapely.area(found).sum() == shapely.area(given).sum()
    small = np.array([shapely.box(0, 0, 3, 4)], dtype=object)
    assert pieces(small)[0] == small[0]


def test_parcels_of_an_aoi_that_lie_apart_are_not_compared(asked_of: Callable[[str], list[int]]) -> None:
    grid = Grid(crs=CRS.from_epsg(32645), transform=Affine(1, 0, 350_000, 0, -1, 3_050_000), height=900, width=1100)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(30) * 30 + 350_010, np.arange(25) * 30 + 3_049_200))
    parcels = shapely.MultiPolygon(list(shapely.box(x, y, x + 9, y + 11)))
    united, grown = asked_of("union_all"), asked_of("buffer")
    area, _ = load_aoi(gpd.GeoSeries([parcels], crs=32645), grid)
    assert shapely.get_num_geometries(area) == len(x) and area.area == len(x) * 99
    reach = _reach(area, 8)
    assert max(united, default=0) <= 5 and max(grown) <= 5
    whole = shapely.buffer(area, 9, quad_segs=2)
    assert shapely.area(reach ^ whole) < 1e-6 * whole.area


def test_what_lies_in_a_ragged_area_is_cut_with_what_is_there_of_it(asked_of: Callable[[str], list[int]]) -> None:
    area = stairs(6000)
    x, y = np.random.default_rng(3).uniform((0, -300), (6000, 300), (800, 2)).T
    objects = shapely.box(x, y, x + 15, y + 9)
    expected = [shapely.area(shapely.intersection(each, area)) / each.area for each in objects]
    cut = asked_of("intersection")
    assert share_inside(objects, area) == pytest.approx(np.array(expected), abs=1e-12)
    assert max(cut) <= 256
    assert share_inside(objects, shapely.Polygon()).sum() == 0 and not len(share_inside(objects[:0], area))


def test_of_two_that_may_come_near_the_larger_one_is_indexed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    x, y = rng.uniform((0, -300), (3000, 300), (400, 2)).T
    shapes = np.array([*shapely.box(x, y, x + 15, y + 9), stairs(3000), stairs(3000).buffer(0)], dtype=object)
    pairs = np.array(
        [(i, j) for i in range(400) for j in (400, 401)] + [(j, i) for i in range(399) for j in (400, i + 1)]
    )
    distance = rng.uniform(0, 40, len(pairs))
    one, other = shapes[pairs[:, 0]], shapes[pairs[:, 1]]
    expected = shapely.distance(one, other) <= distance
    plain = []
    real = shapely.dwithin

    def watched(a: NDArray[Any], b: NDArray[Any], *rest: Any) -> Any:
        unindexed = ~shapely.is_prepared(a)
        plain.append(max(shapely.get_num_coordinates(each[unindexed]).max(initial=0) for each in (a, b)))
        return real(a, b, *rest)

    monkeypatch.setattr(shapely, "dwithin", watched)
    assert np.array_equal(come_near(shapes, pairs, distance), expected) and 0 < expected.sum() < len(pairs)
    assert plain == [5] and not shapely.is_prepared(shapes).any()  # nothing that others may ask at the same time


def test_what_lies_in_the_box_of_a_frame_does_not_wait_for_it(tmp_path: Path) -> None:
    """A river, a frame, a net of roads has all of a raster in its box: all of it came to one worker at the end."""
    pixels = np.zeros((260, 200), np.uint8)
    pixels[2:-2, 2:-2] = 1
    pixels[8:-8, 8:-8] = 0
    value = 2
    for row in range(12, 240, 12):
        for col in range(12, 180, 12):
            pixels[row : row + 6, col : col + 6] = value
            value = value % 250 + 1 + (value % 250 == 0)
    pixels[9:12, 60:64] = 77  # beside the frame, as near as neighbours are
    raster = write_raster(tmp_path / "frame.tif", pixels)
    chosen = Settings.model_validate({"engine": {"workers": 1}})
    job = Job.of(raster, Painted(), aoi=None, tiling=Tiling(core=16, halo=4, block=2), settings=chosen)
    parts = WorkFolder(path=tmp_path).parts("run", lasting=False)
    with open_engine(job) as engine:
        carried = carry_out(job, parts, None, engine)
    top = max(carried.squares)
    waited = {square.level: 0 for square in carried.squares}
    for square, rows in zip(carried.squares, carried.stream.rows, strict=True):
        waited[square.level] += rows.count
    assert len(carried.stream) > 250 and waited[top.level] < 80, waited


def test_outlines_are_laid_on_a_picture_together() -> None:
    grid = Grid(crs=CRS.from_epsg(32645), transform=Affine(1, 0, 350_000, 0, -1, 3_050_000), height=60, width=80)
    x, y = np.random.default_rng(2).uniform((0, 0), (80, 60), (500, 2)).T
    discs = shapely.buffer(shapely.points(x, y), 3)
    for draw in (lambda: filled(discs, grid), lambda: lines(discs, grid, 2.2)):
        assert calls(draw) < 20 * len(discs)  # each has 33 vertices, and a joint of wide lines takes 15 calls


def test_the_scenes_of_a_manifest_are_gone_through_once(tmp_path: Path) -> None:
    steps = []
    for n in (1000, 4000):
        (tmp_path / f"{n}").mkdir()
        with Manifest.opened(tmp_path / f"{n}", create=True) as manifest:
            named = (Scene(href=f"/archive/{number}.tif", name=f"{number}.tif") for number in range(n))
            manifest.begin(named, "{stem}", ".gpkg")
            manifest._db.execute("UPDATE scene SET state = 'parts' WHERE id % 7 = 0")
            for states in ((), ("pending", "parts"), ("parts",)):
                taken = 0

                def count() -> None:
                    nonlocal taken
                    taken += 1

                manifest._db.set_progress_handler(count, 1)  # for each step of SQLite's machine
                numbers = [record.id for record in manifest.records(*states)]  # type: ignore[arg-type]
                manifest._db.set_progress_handler(None, 0)
                assert numbers == sorted(numbers) and len(numbers) == (n // 7 if states == ("parts",) else n)
                steps.append(taken)
    assert (np.array(steps[3:]) < 4.3 * np.array(steps[:3])).all(), steps


def test_a_piece_of_a_dataset_does_not_look_through_all_others(tmp_path: Path) -> None:
    parts = WorkFolder(path=tmp_path).parts("run", lasting=False)
    counts = []
    for n in (1, 1, 3000):
        squares = [Square(level=2, row=number, col=1) for number in range(n)]
        rows = {
            each: Rows(name=each.name("shaped"), count=1, top=0, labels=(), bounds=(0, 0, 1, 1)) for each in squares
        }
        stream = Stream(parts=parts, rows=(), crs=CRS.from_epsg(32645))
        task = PieceTask(stream=stream, rows=rows, folder=tmp_path, run={})
        counts.append(calls(lambda task=task: task(Square(level=2, row=0, col=0))))  # type: ignore[misc]
    assert counts[2] == counts[1]


def test_gaps_that_lie_apart_are_not_compared(asked_of: Callable[[str], list[int]]) -> None:
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(0, 640, 8), np.arange(0, 480, 8)))
    specks = shapely.box(x, y, x + np.where(x % 16, 8, 3), y + 4)  # some touch the next one, over the border of a tile
    tile = x // 128 + 5 * (y // 128)
    gaps = [Gap(geometry=shapely.MultiPolygon(list(specks[tile == n])), reason="nodata") for n in np.unique(tile)]
    expected = shapely.normalize(shapely.union_all(specks))
    united = asked_of("union_all")
    [found] = dissolved(gaps, within=None)
    assert found.geometry == expected
    assert not united
