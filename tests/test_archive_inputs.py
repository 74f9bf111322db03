"""Which rasters a run is over, and what a run's file may say."""

from __future__ import annotations

import glob
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from archive_scenes import configured
from stac_servers import item, item_collection

from geoseg.archive import RunConfig, Scene, read_run_config
from geoseg.archive.config import RuleSettings
from geoseg.archive.globs import matching
from geoseg.archive.inputs import scenes
from geoseg.archive.rules import Rules, fits
from geoseg.config import Settings, StoreSettings
from geoseg.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.tif", "a.tif", "deep/er/c.tif", "notes.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def found(folder: Path, **given: Any) -> list[Scene]:
    return list(scenes(configured(folder, input=given)))


def names(folder: Path, **given: Any) -> list[str]:
    return [scene.name for scene in found(folder, **given)]


def test_patterns(folder: Path) -> None:
    assert names(folder, globs=["in/*.tif"]) == ["a.tif", "b.tif"]
    assert names(folder, globs=["in/**/*.tif"]) == ["a.tif", "b.tif", "c.tif"]
    assert names(folder, globs=[str(folder / "in" / "?.tif")]) == ["a.tif", "b.tif"]
    assert found(folder, globs=["in/a.tif"])[0].href == str(folder / "in" / "a.tif")


def test_a_pattern_that_matches_nothing_is_told_and_one_in_no_folder_refused(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "geoseg"):
        assert names(folder, globs=["in/*.jp2"]) == []
    assert "no file matches" in caplog.text
    with pytest.raises(ConfigError, match="is no folder"):
        names(folder, globs=["mounted/*/x.tif"])


PATTERNS = """* ** **/* **/*.tif deep/**/c.tif */er/* */*/*.tif **/er/**/*.tif .*/* **/.h/*.tif [ab].tif [!a].tif [
a.ti? link*/*.tif d*/e*/c.tif d*/../a.tif none no*/ne.tif **/**/c*"""


@pytest.mark.parametrize("pattern", PATTERNS.split())
def test_a_pattern_finds_what_glob_finds(folder: Path, pattern: str) -> None:
    inside = folder / "in"
    for name in (".h/h.tif", "deep/.h.tif", "deep/er/[", "linked/l.tif"):
        (inside / name).parent.mkdir(exist_ok=True)
        (inside / name).write_text("x")
    (inside / "link").symlink_to(inside / "linked")
    (inside / "broken.tif").symlink_to(inside / "nothing")
    (inside / "itself").symlink_to("itself")
    told = {path for path in glob.glob(str(inside / pattern), recursive=True) if not os.path.isdir(path)}
    assert matching(inside / pattern) == sorted(told)
    with pytest.raises(ConfigError, match="cannot be listed"):
        matching(Path("/a\0b/*.tif"))


def test_a_folder_that_cannot_be_listed_is_told_and_a_link_back_not_followed(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "in" / "deep" / "back").symlink_to(folder / "in")
    monkeypatch.chdir(folder / "in")
    for _ in range(20):  # a path of more than 4096 bytes: what no system lists, whoever asks
        os.mkdir("d" * 240)
        os.chdir("d" * 240)
    with caplog.at_level(logging.WARNING, "geoseg"):
        assert names(folder, globs=["in/**/*.tif"]) == ["a.tif", "b.tif", "c.tif"]
    assert len(caplog.messages) == 1 and "cannot be listed" in caplog.text
    with pytest.raises(ConfigError, match="cannot be listed"):
        names(folder, globs=[f"{'d' * 300}/*.tif"])


@pytest.mark.parametrize(
    ("href", "pattern", "does"),
    [
        ("/a/in/x_msi.tif", "*_msi.tif", True),
        ("/a/in/x_rgb.tif", "*_msi.tif", False),
        ("/a/in/x.tif", "/a/in/*.tif", True),
        ("/a/in/deep/x.tif", "/a/in/*.tif", False),
        ("/a/in/deep/er/x.tif", "/a/**/x.tif", True),
        ("/a/x.tif", "/a/**/x.tif", True),
        ("/a/in/x.tif", "/a/**", True),
        ("/ab/in/x.tif", "/a/**", False),
        ("s3://bucket/ms/x.tif?sig=1/2", "s3://bucket/**/*.tif", True),
        ("s3://bucket/ms/x.tif?sig=1/2", "x.*", True),
    ],
)
def test_which_raster_fits_a_rule(href: str, pattern: str, does: bool) -> None:
    assert fits(href, pattern) is does


def test_the_first_rule_that_fits_holds_and_says_no_more_than_it_says(tmp_path: Path) -> None:
    wide = {"match": "ms/*.tif", "scaling": {"percentiles": [2, 98]}, "bands": {"red": 3}}
    config = configured(tmp_path, raster={"assume_crs": "EPSG:32645"}, rule=[wide, {"match": "*", "bands": {"red": 1}}])
    rules = Rules.of(config)
    again = Rules.told(rules.plain, json.loads(json.dumps(rules.as_values())))
    for found in (rules, again):
        first, other = (found.raster(str(tmp_path / name)) for name in ("ms/a.tif", "a.tif"))
        assert first.scaling is not None and first.scaling.percentiles == (2, 98) and first.bands == {"red": 3}
        assert other.scaling is None and other.bands == {"red": 1}
        assert first.assume_crs == other.assume_crs == "EPSG:32645"
    assert Rules.of(configured(tmp_path)).raster("a.tif") is not None


def test_a_pattern_may_lead_out_of_the_folder_of_the_file(tmp_path: Path) -> None:
    config = configured(tmp_path / "runs", rule=[{"match": "../ms/**/*.tif", "bands": {"red": 3}}])
    assert Rules.of(config).raster(str(tmp_path / "ms" / "deep" / "a.tif")).bands == {"red": 3}


@pytest.mark.parametrize("exclude", ["b.*", "in/b.tif", "../*/in/b.tif"])
def test_what_is_excluded_is_left_out_whoever_names_it(folder: Path, exclude: str) -> None:
    (folder / "list.txt").write_text("in/b.tif\n")
    given = {"globs": ["in/**/*.tif"], "paths": ["in/b.tif"], "list": "list.txt"}
    assert names(folder, **given, exclude=[exclude, "*.jp2"]) == ["a.tif", "c.tif"]


def test_lists_and_paths(folder: Path) -> None:
    (folder / "list.txt").write_bytes(
        b"\xef\xbb\xbf# ours\nin/a.tif\n\n  /elsewhere/\xff.tif \ns3://bucket/x/y.tif?v=1\n"
    )
    one, other, remote = found(folder, list="list.txt")
    assert (one.href, one.name) == (str(folder / "in" / "a.tif"), "a.tif")
    assert other.href == "/elsewhere/\udcff.tif"
    assert (remote.href, remote.name) == ("s3://bucket/x/y.tif?v=1", "y.tif")
    assert names(folder, paths=["in/b.tif", "absent.tif"]) == ["b.tif", "absent.tif"]
    (lost,) = found(folder, paths=["~no-such-user/x.tif"])  # one bad scene, not the end of the run
    assert (lost.href, lost.name) == ("~no-such-user/x.tif", "x.tif")
    with pytest.raises(ConfigError, match="cannot be read"):
        names(folder, list="absent.txt")
    (folder / "list.txt").write_text("in/a.tif\r\n", encoding="utf-16")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        names(folder, list="list.txt")


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".geojson"])
def test_indexes(folder: Path, suffix: str) -> None:
    table = gpd.GeoDataFrame(
        {"where": ["in/b.tif", "s3://bucket/z.tif"], "datetime": ["2026-03-04T05:06:07Z", None]},
        geometry=[shapely.box(85.0, 27.0, 85.1, 27.3), shapely.box(86.0, 27.0, 86.1, 27.3)],
        crs=4326,
    )
    path = folder / f"index{suffix}"
    if suffix == ".parquet":
        table.to_crs(3857).to_parquet(path)
    else:
        table.to_file(path)
    first, second = found(folder, index=path.name, index_column="where")
    assert first.href == str(folder / "in" / "b.tif")
    assert first.acquired == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC) and second.acquired is None
    assert first.extra["extent"] == pytest.approx([85.0, 27.0, 85.1, 27.3])
    with pytest.raises(ConfigError, match="without a column 'path'"):
        found(folder, index=path.name)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", None),
        (" ", None),
        (2026, datetime(2026, 1, 1, tzinfo=UTC)),
        (20260304, datetime(2026, 3, 4, tzinfo=UTC)),
        ("2026-03-04 05:06:07+05:45", datetime(2026, 3, 3, 23, 21, 7, tzinfo=UTC)),
        ("2026/03/04 05:06:07+00", datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)),
    ],
)
def test_the_dates_of_an_index(folder: Path, said: Any, meant: datetime | None) -> None:
    table = gpd.GeoDataFrame(
        {"path": ["in/b.tif"], "acquired": [said]}, geometry=[shapely.box(85, 27, 86, 28)], crs=4326
    )
    table.to_file(folder / "index.gpkg")
    assert found(folder, index="index.gpkg")[0].acquired == meant


@pytest.mark.parametrize("said", ["now", "04/03/2026", "March", 1772600000000, 2026.5])
def test_a_date_that_is_none_is_refused(folder: Path, said: Any) -> None:
    table = gpd.GeoDataFrame(
        {"path": ["in/b.tif"], "acquired": [said]}, geometry=[shapely.box(85, 27, 86, 28)], crs=4326
    )
    table.to_file(folder / "index.gpkg")
    with pytest.raises(ConfigError, match="a date"):
        found(folder, index="index.gpkg")


def test_extents_of_an_index_do_not_go_around_the_earth_or_beyond_it(folder: Path) -> None:
    cut = shapely.MultiPolygon([shapely.box(179.5, 16, 180, 17), shapely.box(-180, 16, -179, 17)])
    outlines = gpd.GeoSeries([cut, shapely.box(-180, -80, 180, 80), shapely.Polygon(), None], crs=4326)
    first = gpd.GeoDataFrame({"path": list("abcd")}, geometry=outlines)
    first.to_file(folder / "first.gpkg")
    extents = [scene.extra.get("extent") for scene in found(folder, index="first.gpkg")]
    assert extents == [[179.5, 16, -179, 17], [-180, -80, 180, 80], None, None]
    around = gpd.GeoSeries([shapely.Point(180, 16)], crs=4326).to_crs(32601).buffer(5000)
    other = gpd.GeoSeries([around[0], shapely.box(1e30, 1e30, 2e30, 2e30)], crs=32601)
    gpd.GeoDataFrame({"path": list("ab")}, geometry=other).to_file(folder / "other.gpkg")
    across, beyond = (scene.extra.get("extent") for scene in found(folder, index="other.gpkg"))
    assert across == pytest.approx([179.953, 15.955, -179.953, 16.045], abs=0.001) and beyond is None
    metres = gpd.GeoDataFrame({"path": ["a"]}, geometry=[shapely.box(5e5, 3e6, 5.1e5, 3.1e6)])
    metres.to_parquet(folder / "metres.parquet")
    assert [scene.extra for scene in found(folder, index="metres.parquet")] == [{}]


def test_an_index_that_is_none(folder: Path) -> None:
    (folder / "index.geojson").write_text("<OGRVRTDataSource/>")
    with pytest.raises(ConfigError, match="index"):
        found(folder, index="index.geojson")
    gpd.GeoDataFrame({"path": [None]}, geometry=[shapely.Point(0, 0)], crs=4326).to_file(folder / "empty.gpkg")
    with pytest.raises(ConfigError):
        found(folder, index="empty.gpkg")


def test_a_search_in_a_catalogue_beside_the_runs_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    found_there = [item(number) for number in range(3)]
    found_there[1]["assets"] = {}
    item_collection(found_there, folder / "in" / "items.json")
    asked = {"url": "in/items.json", "ids": ["scene-00", "scene-01"]}
    both = found(folder, stac=asked, paths=["in/a.tif"])
    assert [scene.name for scene in both] == ["a.tif", "scene-00", "scene-01"]
    assert [list(scene.extra) for scene in both if "refused" in scene.extra] == [["refused"]]
    assert both[1].acquired is not None and len(both[1].extra["extent"]) == 4
    without = configured(folder, input={"stac": asked, "exclude": ["scene-01"]})
    assert [scene.name for scene in scenes(without)] == ["scene-00"]
    assert "passed by: " in caplog.text and "scene-01" in caplog.text
    for wrong in ({"url": "x", "colections": ["a"]}, {"url": "x", "query": {"n": {"below": 3}}}):
        with pytest.raises(ConfigError, match=r"colections|no comparison"):
            configured(folder, input={"stac": wrong})


def test_paths_in_the_settings_of_each_raster_start_from_the_file(folder: Path) -> None:
    config = configured(folder, store={"folder": "stores"}, raster={"roots": ["more"]})
    assert config.settings.store.folder == str(folder / "stores")
    assert config.settings.raster.roots == (str(folder / "more"),)
    assert configured(folder, store={"folder": "s3://b/k"}).settings.store.folder == "s3://b/k"


@pytest.mark.parametrize("output", ["", ".", "scenes", "scenes/a.gpkg", "./scenes"])
def test_the_merged_layer_may_not_take_the_place_of_the_outputs(folder: Path, output: str) -> None:
    with pytest.raises(ConfigError, match=r"merge\.output"):
        configured(folder, merge={"output": output})


def test_a_file_is_read_and_its_paths_start_from_it(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "x.toml"
    path.parent.mkdir()
    path.write_text('[archive]\nmodel = "ships"\nfolder = "out"\n[input]\nglobs = ["in/*.tif"]\n[detect]\nbatch = 2\n')
    config = read_run_config(path)
    assert config.folder == tmp_path / "runs" / "out"
    assert config.settings == Settings.model_validate({"detect": {"batch": 2}})
    assert type(config.settings) is Settings


RULED = '[archive]\nmodel = "a"\nfolder = "b"\n[input]\nglobs = ["x"]\n[[rule]]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no settings"),
        ('[archive]\nmodel = "a"\nfolder = "b"\n', "input"),
        ('[archive]\nmodel = "a"\nfolder = "b"\n[input]\n', "names no raster"),
        ('[archive]\nmodel = "a"\nfolder = "b"\n[input]\nglobs = "*.tif"\n', "line 5.*a list"),
        ('[archive]\nmodel = "a"\nfolder = "b"\nnames = "c"\n[input]\nglobs = ["x"]\n', "line 4.*Did you mean name"),
        ('[archive]\nmodel = "a"\nfolder = "b"\nname = "all"\n[input]\nglobs = ["x"]\n', "archive.name 'all'"),
        ('[archive]\nmodel = "a"\nfolder = "b"\nformat = "shp"\n[input]\nglobs = ["x"]\n', "line 4.*gpkg"),
        ('[archive]\nmodel = "a"\nfolder = "b"\n[input]\nglobs = ["x"]\n[merge]\nkeep = "best"\n', "line 7"),
        (RULED + 'match = "*.tif"\n', "rule for '\\*.tif' says nothing"),
        (RULED + 'match = "*.tif"\nbands = { red = 1 }\n[[rule]]\nbands = { red = 1 }\n', "line 9.*match"),
        (RULED + 'match = "*.tif"\nscalng = { low = 0, high = 9 }\n', "line 8.*Did you mean scaling"),
        (RULED + 'match = "*.tif"\nroots = ["/"]\n', "line 8: rule.roots is no setting"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        read_run_config(path)


def test_the_whole_example_names_every_key() -> None:
    text = (Path(__file__).parent.parent / "configs" / "runs" / "archive.toml").read_text()
    kinds: list[Any] = [RunConfig.model_fields[name].annotation for name in ("archive", "input", "merge", "stac")]
    for kind in [*kinds, RuleSettings, StoreSettings]:
        for key in kind.model_fields:
            assert f"\n{key} = " in text or f"\n# {key} = " in text, key
