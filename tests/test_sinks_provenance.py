from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from geoseg.sinks import SINKS, write, written_run
from geoseg.sinks.dataset import finish

TABLE = gpd.GeoDataFrame({"label": ["a"]}, geometry=[shapely.box(0, 0, 3, 2)], crs=32645)


@pytest.mark.parametrize("suffix", SINKS)
def test_the_run_is_read_back(tmp_path: Path, suffix: str) -> None:
    run = {"run": "0f3a", "complete": True, "aoi": None, "settings": {"a": 1}}
    path = write(TABLE, tmp_path / f"it's 50% of #1{suffix}", run=run)
    before = sorted(tmp_path.iterdir())
    assert written_run(path) == {"run": "0f3a", "complete": "True", "aoi": None, "settings": '{"a": 1}'}
    assert sorted(tmp_path.iterdir()) == before


def test_numbers_of_a_run_are_numbers_where_it_is_json(tmp_path: Path) -> None:
    run = {
        "run": "7",
        "footprints": np.int64(3),
        "seconds": 1.5,
        "complete": True,
        "aoi": None,
        "core": (384, 640),
        "settings": {"b": {"x": np.float32(0.5)}, "a": [1, "2"]},
        "odd": float("nan"),
        "started": datetime(2026, 3, 1, tzinfo=UTC),
    }
    (tmp_path / "draft").mkdir()
    write(TABLE, tmp_path / "draft" / "part-000000.parquet")
    finish(tmp_path / "draft", tmp_path / "all", gaps=None, run=run)
    paths = [write(TABLE, tmp_path / f"a{suffix}", run=run) for suffix in SINKS]
    told = [
        json.loads((tmp_path / "all" / "_run.json").read_text()),
        json.loads(pq.read_metadata(tmp_path / "a.parquet").metadata[b"geoseg:run"]),
        *(json.loads((tmp_path / f"a{suffix}.run.json").read_text()) for suffix in (".fgb", ".geojson")),
    ]
    plain = {**run, "footprints": 3, "core": [384, 640], "odd": "nan", "started": "2026-03-01T00:00:00Z"}
    plain["settings"] = {"a": [1, "2"], "b": {"x": 0.5}}
    assert told == [{**plain, "parts": 1}, plain, plain, plain]
    whole = written_run(tmp_path / "a.gpkg")
    assert whole["core"] == "[384, 640]" and whole["footprints"] == "3" and whole["complete"] == "True"
    assert all(written_run(path) == whole for path in paths)
    assert written_run(tmp_path / "all") == {**whole, "parts": "1"}


@pytest.mark.parametrize("suffix", SINKS)
def test_what_tells_no_run_is_of_no_known_run(tmp_path: Path, suffix: str) -> None:
    assert written_run(tmp_path / f"absent{suffix}") == {}
    assert written_run(write(TABLE, tmp_path / f"plain{suffix}")) == {}
    (tmp_path / f"junk{suffix}").write_bytes(b"junk")
    (tmp_path / f"junk{suffix}.run.json").write_text("[1]")
    assert written_run(tmp_path / f"junk{suffix}") == {}


@pytest.mark.parametrize("suffix", SINKS)
def test_an_output_that_is_cut_short_is_of_no_known_run(tmp_path: Path, suffix: str) -> None:
    many = gpd.GeoDataFrame(
        {"label": ["a"] * 400}, geometry=[shapely.box(i, 0, i + 1, 2) for i in range(400)], crs=32645
    )
    path = write(many, tmp_path / f"it's 50% of #1{suffix}", run={"run": "0f3a"})
    whole = path.read_bytes()
    assert written_run(path)
    for size in (0, 60, len(whole) // 9, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:size])
        assert written_run(path) == {}


def test_a_dataset_of_which_a_part_was_cut_short_is_of_no_known_run(tmp_path: Path) -> None:
    (tmp_path / "draft").mkdir()
    parts = [write(TABLE, tmp_path / "draft" / f"part-00000{number}.parquet") for number in range(2)]
    finish(tmp_path / "draft", tmp_path / "all", gaps=None, run={"run": "0f3a"})
    assert written_run(tmp_path / "all")["run"] == "0f3a"
    part = tmp_path / "all" / parts[1].name
    part.write_bytes(part.read_bytes()[:-9])
    assert written_run(tmp_path / "all") == {}


@pytest.mark.parametrize("suffix", [".geojson", ".fgb"])
def test_a_note_that_somebody_edited_is_text_or_of_no_known_run(tmp_path: Path, suffix: str) -> None:
    path = write(TABLE, tmp_path / f"a{suffix}", run={"run": "0f3a"})
    note = path.with_name(f"{path.name}.run.json")
    assert note.is_file()
    note.write_text('{"run": 3, "complete": true}')
    assert written_run(path) == {"run": "3", "complete": "True"}


def test_a_geopackage_of_another_kind(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.gpkg") as db:
        db.execute("CREATE TABLE run (name TEXT)")
    assert written_run(tmp_path / "a.gpkg") == {}
