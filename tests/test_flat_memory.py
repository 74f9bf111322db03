"""Flat memory, told by what is held and not by megabytes: what grows with tiles done, with rows, with threads."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from painted import Painted, write_raster

from geoseg import Settings, Tiling
from geoseg.carrying import carry_out, open_engine
from geoseg.engine import Engine
from geoseg.job import Job
from geoseg.tiling import Block
from geoseg.window import Window
from geoseg.work import Part, Parts, Stream, WorkFolder
from geoseg.work.rows import KEYS


@dataclass(frozen=True, kw_only=True)
class _Counted(Parts):
    """Parts that tell how many are open at a time."""

    open: set[str] = field(default_factory=set)
    most: list[int] = field(default_factory=list)

    def get(self, name: str) -> Part:
        part = super().get(name)
        self.open.add(name)
        weakref.finalize(part.tables["rows"], self.open.discard, name)
        self.most.append(len(self.open))
        return part


def test_a_stream_holds_the_parts_that_overlap_in_height_and_no_more(tmp_path: Path) -> None:
    pixels = np.zeros((960, 50), np.uint8)
    for number, row in enumerate(range(4, 950, 12)):
        pixels[row : row + 7, 3 + number % 5 : 14] = 1 + 2 * number
        pixels[row : row + 7, 30 + number % 7 : 44] = 2 + 2 * number
    raster = write_raster(tmp_path / "tall.tif", pixels)
    chosen = Settings.model_validate({"engine": {"workers": 2}})
    job = Job.of(raster, Painted(), aoi=None, tiling=Tiling(core=15, halo=3, block=2), settings=chosen)
    parts = WorkFolder(path=tmp_path).parts("run", lasting=False)
    with open_engine(job) as engine:
        stream = carry_out(job, parts, None, engine).stream
    assert len(stream) == 158 and len(stream.rows) > 8
    for rows in stream.rows:
        assert rows.top == min(parts.get(rows.name).tables["rows"].column(KEYS[0]).to_pylist())
    counted = _Counted(path=parts.path, token=parts.token)
    assert sum(batch.num_rows for batch in Stream(parts=counted, rows=stream.rows, crs=None).batches(4)) == 158
    assert len(counted.most) == len(stream.rows)
    assert max(counted.most) <= 4  # one of each of three rungs, and the next


def test_a_folder_is_removed_without_a_list_of_what_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    folder = WorkFolder(path=tmp_path / "work")
    (folder.path / "store" / "0.0" / "boxes").mkdir(parents=True)
    parts = folder.parts("run", lasting=False)
    for place in (parts.path, folder.store):
        for number in range(3000):
            (place / f"merged-{number}").write_text("")
    (folder.store / "link").symlink_to(outside)
    (folder.path / "parts-other").symlink_to(outside)
    tracemalloc.start()
    try:
        parts.clear("merged-")
        assert {path.name for path in parts.path.iterdir()} == {"token"}
        folder.remove()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["outside"] and (outside / "kept").exists()


def _nothing(block: Block) -> int:
    return block.row


def _pool(block: Block) -> str:
    return str(pa.default_memory_pool().backend_name)


def _blocks(count: int) -> Iterator[Block]:
    """As they are asked for: one that somebody holds grows a little when it is pickled."""
    return Tiling(core=4, halo=1, block=1).plan(Window(row_off=0, col_off=0, height=4, width=4 * count)).blocks()


def _longest(start: object) -> tuple[int, str]:
    """Length of the longest container that can be reached through dask's own objects, and how it begins."""
    seen, waiting, found = {id(start)}, [start], (0, "")
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict | list | set | deque):
            found = max(found, (len(at), f"{type(at).__name__}: {next(iter(at), None)!r}"[:200]))
        for each in gc.get_referents(at):
            kind = type(each)
            ours = isinstance(each, dict | list | set | deque | tuple) or kind.__module__.startswith("distributed")
            code = isinstance(each, dict) and "__builtins__" in each
            if ours and not code and not isinstance(each, type) and id(each) not in seen:
                seen.add(id(each))
                waiting.append(each)
    return found


def test_the_scheduler_keeps_nothing_of_blocks_that_are_done() -> None:
    with Engine.open(workers=2) as engine:
        assert sum(1 for _ in engine.map(_nothing, _blocks(400))) == 400
        cluster: Any = engine.client.cluster
        for holder in (cluster.scheduler, *cluster.workers.values(), engine.client):
            length, begins = _longest(holder)
            assert length < 300, begins


def test_arrow_gives_back_what_it_frees_here_and_in_workers() -> None:
    with Engine.open(processes=1, workers=1) as engine:
        assert pa.default_memory_pool().backend_name == "system"
        assert [pool for _, pool in engine.map(_pool, _blocks(2))] == ["system", "system"]
