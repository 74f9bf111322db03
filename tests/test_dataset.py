"""A folder of GeoParquet files instead of one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow.parquet as pq
import pytest
from commands import cli
from painted import Painted, write_raster
from test_squares import _speckled

from geoseg import Settings, Tiling
from geoseg.errors import ConfigError, SinkError
from geoseg.extraction import extract_to, run
from geoseg.sinks import check_output, dataset, written_run
from geoseg.vectors import read_gaps, read_table

TILING = Tiling(core=24, halo=8, block=1)
PLAIN = Settings.model_validate({"engine": {"workers": 2}})


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("dataset") / "scene.tif", _speckled(5, 150, 230), "rotated")


def _rows(table: gpd.GeoDataFrame) -> list[tuple[Any, ...]]:
    plain = pd.DataFrame(table.drop(columns="geometry")).assign(geometry=table.geometry.to_wkb()).sort_values("id")
    return list(plain[["id", "label", "score", "area_m2", "n_tiles", "geometry"]].itertuples(index=False, name=None))


def test_a_dataset_holds_what_a_file_holds(raster: Path, tmp_path: Path) -> None:
    report = extract_to(raster, Painted(), tmp_path / "out", tiling=TILING, settings=PLAIN)
    expected = run(raster, Painted(), tiling=TILING, settings=PLAIN).footprints
    found = gpd.read_parquet(tmp_path / "out")
    assert _rows(found) == _rows(expected) and found.crs == expected.crs and report.footprints == len(found)
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) > 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]
    for piece in (tmp_path / "out").glob("*.parquet"):
        geo = json.loads(pq.read_metadata(piece).metadata[b"geo"])
        assert geo["version"] == "1.1.0" and "covering" in geo["columns"]["geometry"]
    x0, y0, x1, y1 = expected.iloc[[0]].total_bounds
    assert expected["id"].iloc[0] in set(gpd.read_parquet(tmp_path / "out", bbox=(x0, y0, x1, y1))["id"])
    assert written_run(tmp_path / "out")["run"] == report.run
    assert len(gpd.read_parquet(tmp_path / "out" / "_gaps" / "gaps.parquet")) == 0


@pytest.mark.parametrize("bright", [True, False], ids=["objects", "none"])
def test_a_dataset_is_drawn_and_judged_as_a_file_is(tmp_path: Path, bright: bool) -> None:
    pixels = _speckled(5, 150, 230) * bright
    pixels[:40, :90] = 0
    scene = write_raster(tmp_path / "scene.tif", pixels, nodata=0)
    for name in ("out", "out.parquet"):
        extract_to(scene, Painted(), tmp_path / name, tiling=TILING, settings=PLAIN)
    found, expected = (read_table(tmp_path / name) for name in ("out", "out.parquet"))
    assert _rows(found) == _rows(expected) and found.crs == expected.crs and bright == (len(found) > 0)
    gaps = read_gaps(tmp_path / "out")
    assert gaps is not None and list(gaps["reason"]) == list(read_gaps(tmp_path / "out.parquet")["reason"]) == [
        "nodata"
    ]
    told = []
    for name in ("out", "out.parquet"):
        judged = cli("evaluate", tmp_path / name, tmp_path / "out.parquet", "--json")
        assert judged.exit_code == 0, judged.output
        told.append(json.loads(judged.stdout))
        assert cli("preview", scene, tmp_path / name, "-o", tmp_path / f"{name}.png").exit_code == 0
    assert told[0]["f1"] == told[1]["f1"] and told[0]["errors"] == told[1]["errors"]
    assert bright == (told[0]["mean_iou"] == 1.0)
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "out.parquet.png").read_bytes()


def test_a_dataset_that_is_not_whole_or_of_one_crs_is_not_read(raster: Path, tmp_path: Path) -> None:
    extract_to(raster, Painted(), tmp_path / "out", tiling=TILING, settings=PLAIN)
    first, *others = sorted((tmp_path / "out").glob("part-*.parquet"))
    read_table(others[0]).to_crs(4326).to_parquet(first)
    with pytest.raises(ConfigError, match="several CRSs"):
        read_table(tmp_path / "out")
    first.unlink()
    with pytest.raises(ConfigError, match=f"has {len(others)} of its {len(others) + 1} files"):
        read_table(tmp_path / "out")


def test_the_raster_is_no_output_nor_lies_in_one(raster: Path, tmp_path: Path) -> None:
    scene = tmp_path / "in" / "scene.tif"
    scene.parent.mkdir()
    scene.write_bytes(raster.read_bytes())
    with pytest.raises(ConfigError, match="which holds"):
        extract_to(scene, Painted(), scene.parent, tiling=TILING, settings=PLAIN, force=True)
    assert scene.read_bytes() == raster.read_bytes()


def test_a_folder_that_was_deleted_may_be_the_one_that_one_is_in(
    raster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert extract_to(raster, Painted(), tmp_path / "out", tiling=TILING, settings=PLAIN).footprints > 0


def test_a_dataset_of_nothing_has_the_schema(tmp_path: Path) -> None:
    import numpy as np

    empty = write_raster(tmp_path / "empty.tif", np.zeros((50, 70), np.uint8))
    extract_to(empty, Painted(), tmp_path / "out", tiling=TILING, settings=PLAIN)
    extract_to(empty, Painted(), tmp_path / "out.parquet", tiling=TILING, settings=PLAIN)
    extract_to(empty, Painted(), tmp_path / "out.gpkg", tiling=TILING, settings=PLAIN)
    columns = list(run(empty, Painted(), settings=PLAIN).footprints.columns)
    for found in (
        gpd.read_parquet(tmp_path / "out"),
        gpd.read_parquet(tmp_path / "out.parquet"),
        gpd.read_file(tmp_path / "out.gpkg", layer="footprints"),
    ):
        assert len(found) == 0 and [name for name in found.columns if name != "bbox"] == columns


@pytest.mark.parametrize("at_once", [True, False])
def test_a_dataset_is_replaced_whole(
    raster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(dataset, "_exchanged", lambda *_: False)
    elif sys.platform != "linux":
        pytest.skip("only Linux exchanges folders")
    target = tmp_path / "out"
    extract_to(raster, Painted(), target, tiling=Tiling(core=24, halo=8, block=1), settings=PLAIN)
    before = {path.name for path in target.iterdir()}
    report = extract_to(raster, Painted(), target, tiling=Tiling(core=50, halo=8, block=1), settings=PLAIN)
    after = {path.name for path in target.iterdir()}
    assert (
        after != before and written_run(target)["core"] == "50" and len(gpd.read_parquet(target)) == report.footprints
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]


def test_a_dataset_that_lost_a_part_is_of_no_known_run(raster: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    extract_to(raster, Painted(), target, tiling=Tiling(core=24, halo=8, block=1), settings=PLAIN)
    parts = sorted(target.glob("part-*.parquet"))
    assert len(parts) > 1 and written_run(target)["parts"] == str(len(parts))
    parts[0].unlink()
    assert written_run(target) == {}


def test_a_folder_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    check_output(tmp_path / "out")
    (tmp_path / "out" / "thesis.docx").write_text("years of work")
    with pytest.raises(SinkError, match="geoseg did not write"):
        check_output(tmp_path / "out")
    check_output(tmp_path / "out", force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="is a file"):
        check_output(tmp_path / "file")


@pytest.mark.parametrize("name", ["", ".", "..", "../here", "work"])
def test_the_folder_that_one_is_in_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An empty name is what a shell makes of a variable that is not set."""
    here = tmp_path / "here"
    (here / "work").mkdir(parents=True)
    monkeypatch.chdir(here)
    if name == "work":  # below it there is no harm
        assert check_output(name, force=True) == Path(name)
        return
    with pytest.raises(ConfigError, match="you are in"):
        check_output(name, force=True)


def test_what_somebody_put_into_a_dataset_is_not_replaced(raster: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract_to(raster, Painted(), out, tiling=TILING, settings=PLAIN)
    extract_to(raster, Painted(), out, tiling=TILING, settings=PLAIN)  # its own is
    (out / "project.qgz").write_bytes(b"mine")
    with pytest.raises(SinkError, match=r"project\.qgz"):
        check_output(out)
    check_output(out, force=True)


@pytest.mark.parametrize("store", ["out", "out/store", "."])
def test_a_store_and_the_folder_that_is_replaced_lie_apart(raster: Path, tmp_path: Path, store: str) -> None:
    out = tmp_path / "out"
    for settings, given in (
        (PLAIN, tmp_path / store),
        (Settings.model_validate({"store": {"folder": str(out)}}), None),
    ):
        with pytest.raises(ConfigError, match="one inside the other"):
            extract_to(raster, Painted(), out, tiling=TILING, settings=settings, store=given)
    assert not out.exists()
