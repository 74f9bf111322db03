"""Parts, the work folder, and the stream of rows out of parts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import numbered
from pyproj import CRS

from geoseg.detectors import ModelCard
from geoseg.errors import SinkError
from geoseg.footprints import Told, drawn
from geoseg.gaps import Gap
from geoseg.grid import Grid
from geoseg.outlines import Outlines
from geoseg.seams import Merged
from geoseg.work import Part, Rows, Stream, WorkFolder
from geoseg.work.parts import DamagedPart
from geoseg.work.rows import footprints_of, footprints_table, gaps_of, gaps_table, merged_of, merged_table

GRID = Grid(crs=CRS.from_epsg(32645), transform=Affine(0.5, 0, 350_000, 0, -0.5, 3_050_000), height=300, width=500)
CARD = ModelCard(classes=("one", "two"), name="test")


def _merged(shapes: list[Any], scores: Any = None) -> Merged:
    n = len(shapes)
    geometry = np.empty(n, object)
    geometry[:] = shapes
    return Merged(
        outlines=Outlines(
            geometry=geometry,
            scores=np.full(n, 0.9, np.float32) if scores is None else np.asarray(scores, np.float32),
            labels=np.arange(n, dtype=np.int64) % 2,
            tiles=np.arange(2 * n, dtype=np.int32).reshape(n, 2),
        ),
        n_tiles=np.arange(1, n + 1, dtype=np.int32),
        agreement=np.where(np.arange(n) % 2, np.nan, 0.25),
    )


def _equal(one: Merged, other: Merged) -> bool:
    pairs = zip(one.outlines.geometry, other.outlines.geometry, strict=True)
    same = all(shapely.to_wkb(a) == shapely.to_wkb(b) for a, b in pairs)
    columns = ("scores", "labels", "tiles")
    same &= all(
        np.array_equal(getattr(one.outlines, name), getattr(other.outlines, name))
        and getattr(one.outlines, name).dtype == getattr(other.outlines, name).dtype
        for name in columns
    )
    return same and np.array_equal(one.agreement, other.agreement, equal_nan=True)


SHAPES = [shapely.box(1 / 3, 2, 5, 7), shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 3, 4, 5)])]


def test_what_goes_into_a_part_comes_out_to_the_bit(tmp_path: Path) -> None:
    parts = WorkFolder(path=tmp_path).parts("run")
    gap = Gap(geometry=shapely.box(0, 0, 3, 2), reason="nodata", detail="said")
    tables = {"some": merged_table(_merged(SHAPES)), "none": merged_table(_merged([])), "gaps": gaps_table([gap])}
    assert parts.put("a", Part(facts={"n": 3}, tables=tables)) is None
    found = parts.get("a")
    assert found.facts == {"n": 3}
    assert _equal(merged_of(found.tables["some"]), _merged(SHAPES)) and len(merged_of(found.tables["none"])) == 0
    (same,) = gaps_of(found.tables["gaps"])
    assert (same.reason, same.detail) == ("nodata", "said") and same.geometry.equals(gap.geometry)


@settings(max_examples=60)
@given(data=st.data())
def test_a_part_that_is_cut_or_changed_is_not_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    parts = WorkFolder(path=tmp_path_factory.mktemp("work")).parts("run")
    parts.put("a", Part(facts={"n": 3}, tables={"some": merged_table(_merged(SHAPES))}))
    path = parts.path / "a"
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:at])
    else:
        flip = 1 << data.draw(st.integers(0, 7))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        if 24 <= at < 64:  # room that is not used
            return
    assert parts.find("a") is None
    with pytest.raises(SinkError):
        parts.get("a")
    assert issubclass(DamagedPart, SinkError)


def test_another_run_in_the_folder_takes_it_over(tmp_path: Path) -> None:
    first = WorkFolder(path=tmp_path).parts("run")
    first.put("a", Part(facts={"n": 1}))
    second = WorkFolder(path=tmp_path).parts("run")
    assert second.shared and not first.shared and second.get("a").facts == {"n": 1}
    late = first.put("a", Part(facts={"n": 2}))
    assert late is not None and second.get("a").facts == {"n": 1}
    third = WorkFolder(path=tmp_path).parts("other")
    assert third.find("a") is None and not second.path.exists()


def test_a_folder_is_claimed_swept_and_removed(tmp_path: Path) -> None:
    path = WorkFolder.beside(tmp_path / "out[1].gpkg")
    assert path.name == ".out[1].gpkg.work"
    leftover = tmp_path / f"{path.name}.0123abcd"
    leftover.mkdir()
    (leftover / "junk").write_text("")
    folder = WorkFolder.claim(path, key="a")
    assert not leftover.exists()
    (folder.path / "kept").write_text("")
    assert (WorkFolder.claim(path, key="a").path / "kept").exists()
    assert not (WorkFolder.claim(path, key="b").path / "kept").exists()
    (path / "geoseg-work.json").write_text("{")
    assert WorkFolder.claim(path, key="b").path == path
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def _stream(tmp_path: Path, groups: list[Merged]) -> Stream:
    parts, rows = WorkFolder(path=tmp_path).parts("run", lasting=False), []
    told = Told(card=CARD, raster="a.tif", run="r")
    for at, merged in enumerate(groups):
        table, keys = drawn(merged, grid=GRID, told=told, cut=np.zeros(len(merged), bool))
        if not len(table):
            continue
        parts.put(f"p{at}", Part(tables={"rows": footprints_table(table, keys)}))
        bounds = tuple(float(edge) for edge in table.total_bounds)
        labels = tuple(sorted(set(table["label"])))
        rows.append(
            Rows(name=f"p{at}", count=len(table), top=int(keys.top[0]), labels=labels, bounds=bounds)  # type: ignore[arg-type]
        )
    random.shuffle(rows)
    return Stream(parts=parts, rows=tuple(rows), crs=GRID.crs)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 60),
    groups=st.integers(1, 8),
    size=st.sampled_from([1, 7, 16_384]),
)
def test_a_stream_is_in_order_however_its_rows_lie_in_parts(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, groups: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (count, 2)) * 20  # many tops, and whole twins, are equal
    shapes = [shapely.box(x, y, x + w, y + 9) for (x, y), w in zip(corners, rng.integers(5, 8, count), strict=True)]
    whole = _merged(shapes, rng.choice([0.5, 0.75], count))
    table, _ = drawn(whole, grid=GRID, told=Told(card=CARD, raster="a.tif", run="r"), cut=np.zeros(count, bool))
    expected = numbered(table)
    of = rng.integers(0, groups, count)
    stream = _stream(tmp_path_factory.mktemp("stream"), [whole.take(np.flatnonzero(of == g)) for g in range(groups)])
    batches = list(stream.batches(size))
    assert len(stream) == count == sum(batch.num_rows for batch in batches)
    assert all(batch.num_rows == size for batch in batches[:-1])
    found = footprints_of(batches, GRID.crs)
    assert found.equals(expected) and found["id"].is_unique
    assert all(isinstance(batch, pa.Table) and batch.schema.equals(stream.schema) for batch in batches)
