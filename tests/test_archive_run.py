"""Whole runs over little archives, with the processes that they start."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from archive_scenes import BOXES, KILLER, configured, ground, scene, states
from commands import cli
from conftest import ROOT
from rasters import texture, write
from stac_servers import item, item_collection

import geoseg
from geoseg.archive import Manifest, archive_status, read_run_config, run_archive
from geoseg.archive.drive import _say
from geoseg.archive.record import Record
from geoseg.errors import ConfigError, LockedError, SinkError
from geoseg.locks import output_lock
from geoseg.sinks import written_run

RULES = [{"match": "in/w*.tif", "scaling": {"low": 0, "high": 2550}}, {"match": "*.jp2", "bands": {"red": 3}}]
GOOD = ((10, 20, 10, 24), (40, 60, 80, 95))


def archive(folder: Path) -> None:
    """Two good scenes that overlap, the first of them twice, and five that are bad each in its own way."""
    (folder / "in").mkdir(parents=True)
    scene(folder / "in" / "a.tif", ground(80, 120, *GOOD))
    scene(folder / "in" / "b 'quoted' \"name\".tif", ground(80, 120, (0, 20, 40, 55), (50, 60, 5, 17)), row=40, col=40)
    shutil.copyfile(folder / "in" / "a.tif", folder / "in" / "copy.tif")
    wide = ground(60, 90, (10, 20, 10, 24), (30, 50, 40, 70)).astype(np.uint16) * 10
    scene(folder / "in" / "wide.tif", wide, row=20_000)
    (folder / "in" / "page.tif").write_text("<html>404</html>")
    (folder / "in" / ("long" * 58 + ".tif")).write_bytes(b"")
    scene(folder / "in" / "adrift.tif", ground(70, 90), crs=None)
    scene(folder / "in" / "zkiller.tif", ground(50, 70, background=KILLER), row=5000)
    short = scene(folder / "in" / "short.tif", texture(1, 300, 260)[0] // 2, row=9000, compress="lzw", predictor=2)
    short.write_bytes(short.read_bytes()[:-9000])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[tuple[int, int]]]:
    folder = tmp_path_factory.mktemp("archive")
    archive(folder)
    told: list[tuple[int, int]] = []
    config = configured(
        folder,
        archive={"at_once": 2},
        merge={"output": "merged.gpkg"},
        store={"folder": "stores"},
        rule=RULES,
    )
    done = run_archive(config, model=BOXES, progress=lambda *counts: told.append(counts))
    return folder, done, told


def test_bad_scenes_are_recorded_and_passed_by(ran: tuple[Path, Any, list[tuple[int, int]]]) -> None:
    folder, done, told = ran
    found = states(folder / "out")
    assert found == {
        "a.tif": "done",
        "adrift.tif": "refused",
        "b 'quoted' \"name\".tif": "done",
        "copy.tif": "same",
        "zkiller.tif": "failed",
        "long" * 58 + ".tif": "refused",
        "page.tif": "refused",
        "short.tif": "parts",
        "wide.tif": "done",
    }
    assert (done.exit_code, done.stopped, done.unchanged) == (1, "", 0)
    assert told[-1] == (9, 9) and [done for done, _ in told] == list(range(1, 10))
    with Manifest.opened(folder / "out") as manifest:
        records = {record.name: record for record in manifest.records()}
    assert "SIGSEGV" in str(records["zkiller.tif"].error) and records["zkiller.tif"].tries == 2
    assert "HTML page" in str(records["page.tif"].error)
    assert records["copy.tif"].same_as == records["a.tif"].id
    assert records["a.tif"].figures["tiles_planned"] == 4


def test_outputs_stand_under_names_that_any_system_takes(ran: tuple[Path, Any, Any]) -> None:
    folder, _, _ = ran
    names = sorted(path.name for path in (folder / "out" / "scenes").glob("[!.]*"))
    assert names == ["a.gpkg", "b _quoted_ _name_.gpkg", "short.gpkg", "wide.gpkg"]
    assert len(gpd.read_file(folder / "out" / "scenes" / "a.gpkg", layer="footprints")) == 2
    assert written_run(folder / "out" / "scenes" / "a.gpkg")["raster"] == "a.tif"


def test_the_merged_layer_has_each_object_once(ran: tuple[Path, Any, Any]) -> None:
    _, done, _ = ran
    found = gpd.read_file(done.merged, layer="footprints")
    boxes = found[found["raster"] != "short.tif"]
    # What its rule makes of 16 bits: without it, all is bright.
    assert boxes.loc[boxes["raster"] == "wide.tif", "area_m2"].sort_values().round().tolist() == [35, 150]
    # Of a: two, the second of which b sees too; of b: another one.
    assert len(boxes[boxes["raster"] != "wide.tif"]) == 3 and done.footprints == len(found) + 1
    assert done.merged_footprints == len(found)
    assert json.loads((done.folder / "summary.json").read_text())["merged_footprints"] == len(found)
    assert f"One layer over all scenes, {len(found)} footprints" in (done.folder / "summary.html").read_text()
    gaps = gpd.read_file(done.merged, layer="gaps")
    assert set(gaps["raster"]) >= {"short.tif", "zkiller.tif"}


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_log_names_the_scene_whose_content_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        known = Record(id=1, href="a.tif", name="a.tif", output="scenes/a.gpkg", state="done")
        _say(replace(known, id=2, name="copy.tif", state="same", same_as=1), known)
    assert caplog.messages == ["copy.tif: the content of a.tif, done once"]


def test_the_summary_tells_it_to_programs_and_people(ran: tuple[Path, Any, Any]) -> None:
    folder, _, _ = ran
    told = json.loads((folder / "out" / "summary.json").read_text())
    assert told["exit_code"] == 1 and told["scenes_total"] == len(told["scenes"]) == 9
    assert told["warnings"] == ["no raster fits the rule for '*.jp2' ([[rule]] match)"]
    assert told["counts"] == {"done": 3, "failed": 1, "parts": 1, "refused": 3, "same": 1}
    assert set(told["gaps_m2"]) == {"unreadable"} and told["tiles_unreadable"] > 0
    lines = (folder / "out" / "summary.json").read_text().partition('"scenes": [')[2].splitlines()
    assert [json.loads(line.rstrip(",")) for line in lines if line.startswith("    {")] == told["scenes"]
    page = _Text()
    page.feed((folder / "out" / "summary.html").read_text())
    assert page.links == [] and "b 'quoted' \"name\".tif" in page.text and "SIGSEGV" in page.text
    page_text = (folder / "out" / "summary.html").read_text()
    drawn = re.findall(r"<polygon.*?<title>(.*?)</title>", page_text, re.DOTALL)
    # Copies and what could not be opened lie nowhere that is known; the worst is drawn last.
    assert len(drawn) == 6 and drawn[-1].startswith("zkiller.tif: failed\nits process was killed")
    assert (
        "a.tif: done\n2 footprints" in drawn
        and " km</text>" in page_text
        and "not known where they lie: 3." in page_text
    )
    legend = page_text.partition("</svg>")[2].partition("</ul>")[0]
    assert "failed" in legend and "refused" not in legend  # of what is drawn alone
    assert re.search(r"&middot; \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC to \d", page_text) and "on 9 scenes" in page_text
    assert "<script" not in page_text


def test_again_only_what_is_not_done_is_done(ran: tuple[Path, Any, Any]) -> None:
    folder, done, _ = ran
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.gpkg")}
    for name in ("page.tif", "zkiller.tif", "short.tif", "adrift.tif", "long" * 58 + ".tif"):
        (folder / "in" / name).unlink()
    touched = folder / "in" / "b 'quoted' \"name\".tif"
    os.utime(touched)  # looked at, and found to be what it was
    again = run_archive(configured(folder, merge={"output": "merged.gpkg"}, rule=RULES[:1]), model=BOXES)
    assert (again.exit_code, again.unchanged, dict(again.counts)) == (0, 3, {"done": 3, "gone": 5, "same": 1})
    assert {p: p.stat().st_mtime_ns for p in before if p != done.merged} == {
        p: at for p, at in before.items() if p != done.merged
    }
    assert len(gpd.read_file(again.merged, layer="footprints")) == 5
    # Another setting redoes no inference where predictions are kept: a detector that cannot detect will do.
    smaller = configured(folder, vectorize={"min_area_m2": 40.0}, store={"folder": "stores"}, rule=RULES[:1])
    other = run_archive(smaller, model=replace(BOXES, blind=True))
    assert (other.unchanged, other.footprints) == (0, 3)
    status = archive_status(folder / "out")
    assert (status.state, status.exit_code, status.left, status.eta_s) == ("ended", 0, 0, None)


def test_a_file_that_differs_from_its_catalogues_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    items = [item(number) for number in range(5)]
    for number, kind in enumerate(("sha256", "sha1", "md5", "sha512", "unheard of")):
        path = scene(
            tmp_path / "in" / f"scene-{number:02d}.tif", ground(80, 120, *GOOD), row=100 * number, compress=None
        )
        start = {"md5": "d50110", "sha1": "1114", "sha256": "1220", "sha512": "1340"}.get(kind, "ff")
        digest = hashlib.new(kind, path.read_bytes()).hexdigest() if start != "ff" else "00"
        items[number]["assets"]["image"]["file:checksum"] = start + digest
    stac = {"url": str(item_collection(items, tmp_path / "in" / "items.json"))}
    config = configured(tmp_path, input={"stac": stac})
    assert run_archive(config, model=BOXES).exit_code == 0
    for number in (1, 2):
        path = tmp_path / "in" / f"scene-{number:02d}.tif"
        damaged = bytearray(path.read_bytes())
        damaged[-5000] ^= 0xFF  # raw pixels: it decodes as well as before
        path.write_bytes(damaged)
    items[3]["assets"]["image"]["file:checksum"] = "1340" + "0" * 128  # the catalogue changed, not the file
    item_collection(items, tmp_path / "in" / "items.json")
    assert run_archive(config, model=BOXES).exit_code == 1
    assert list(states(tmp_path / "out").values()) == ["done", "refused", "refused", "refused", "done"]
    with Manifest.opened(tmp_path / "out") as manifest:
        assert "SHA1 is" in [record.error or "" for record in manifest.records()][1]


def test_one_run_at_a_time_and_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = configured(tmp_path)
    (tmp_path / "out").mkdir()
    with output_lock(tmp_path / "out" / "run"), pytest.raises(LockedError):
        run_archive(config, model=BOXES)
    done = run_archive(config, model=BOXES)
    assert (done.exit_code, dict(done.counts)) == (0, {})
    said = json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]
    assert len(said) == 2 and "no file matches" in said[0]  # what was said while scenes were looked for, too


def test_that_settings_have_changed_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, *GOOD))

    def warnings(**sections: Any) -> list[str]:
        run_archive(configured(tmp_path, **sections), model=BOXES)
        found: list[str] = json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]
        return found

    assert warnings() == warnings(detect={"batch": 3}) == warnings(merge={"output": "all.gpkg"}) == []
    before = geoseg.Settings().vectorize.min_area_m2
    (changed,) = warnings(vectorize={"min_area_m2": 40.0})
    assert f"in this folder: vectorize.min_area_m2 ({before} -> 40.0)." in changed
    assert warnings(vectorize={"min_area_m2": 40.0}) == []
    (back,) = warnings()  # as where two runs take turns in one folder
    assert f"in this folder: vectorize.min_area_m2 (40.0 -> {before})." in back
    box = "85.4,27.5,85.6,27.7"
    (many,) = warnings(archive={"aoi": box}, tiling={"core": 96}, raster={"bands": {"gray": 1}})
    assert f"archive.aoi (unset -> the AOI box {box})" in many and "tiling.core (unset -> 96)" in many
    assert "raster.bands.gray (unset -> 1)" in many and "the ground" not in many
    assert "footprints" in cli("status", tmp_path / "out").stdout


def test_what_earlier_settings_made_is_told_until_it_is_done_anew(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a", "b")):
        scene(tmp_path / "in" / f"{name}.tif", ground(80, 120, *GOOD), row=100 * number)
    first = run_archive(configured(tmp_path), model=BOXES)
    half = first.footprints // 2

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    other = configured(tmp_path, vectorize={"tolerance_px": 0.5})
    with pytest.raises(KeyboardInterrupt):
        run_archive(other, model=BOXES, progress=interrupt)
    told = archive_status(tmp_path / "out")
    assert (told.footprints, told.earlier) == (first.footprints, half) and half
    assert f"footprints {2 * half} ({half} of them of earlier settings" in cli("status", tmp_path / "out").stdout
    run_archive(other, model=BOXES)
    assert archive_status(tmp_path / "out").earlier == 0


def test_a_second_signal_while_the_end_is_noted_does_not_cut_it_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, *GOOD))
    reopen = Manifest.reopen

    def again(manifest: Manifest) -> None:
        signal.raise_signal(signal.SIGINT)
        reopen(manifest)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "reopen", again)
    with pytest.raises(KeyboardInterrupt):
        run_archive(configured(tmp_path), model=BOXES, progress=interrupt)
    told = archive_status(tmp_path / "out")
    assert (told.state, told.exit_code) == ("interrupted", 130)


def test_a_manifest_that_cannot_be_written_is_the_environments_fault_in_the_record_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, *GOOD))
    (tmp_path / "out").mkdir()
    with Manifest.opened(tmp_path / "out", create=True) as manifest:
        manifest._db.execute(
            "CREATE TRIGGER full BEFORE UPDATE OF state ON scene WHEN new.state = 'done'"
            " BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    with pytest.raises(SinkError, match="disk is full"):
        run_archive(configured(tmp_path), model=BOXES)
    told = archive_status(tmp_path / "out")
    assert (told.state, told.exit_code) == ("stopped", 4) and "disk is full" in told.stopped
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["exit_code"] == 4


@pytest.mark.parametrize("output", ["{}/out/scenes/all.gpkg", "deep/../scenes/a.gpkg", "../out/scenes/parts", "../out"])
def test_the_merged_layer_does_not_lie_among_the_outputs_by_another_path(tmp_path: Path, output: str) -> None:
    with pytest.raises(ConfigError, match=r"\[merge\] output"):
        run_archive(configured(tmp_path, merge={"output": output.format(tmp_path)}), model=BOXES)


@pytest.mark.parametrize(
    ("output", "sections"),
    [
        ("../given.geojson", {"archive": {"aoi": "given.geojson"}}),
        ("../given.geojson", {"input": {"index": "given.geojson"}}),
        ("{}/in/../given.geojson", {"input": {"stac": {"url": "in/../given.geojson"}}}),
        ("kept", {"store": {"folder": "out/kept"}}),
        (None, {"input": {"stac": {"url": "out/collection.json"}}, "stac": {"write": True}}),
    ],
)
def test_nothing_that_a_run_reads_is_written_over(tmp_path: Path, output: str | None, sections: dict[str, Any]) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, *GOOD))
    (tmp_path / "out").mkdir()
    index = gpd.GeoDataFrame({"path": ["in/a.tif"]}, geometry=[shapely.box(80, 20, 90, 30)], crs=4326)
    index.to_file(tmp_path / "given.geojson")
    catalogue = item_collection([item(1)], tmp_path / "out" / "collection.json")
    before = (tmp_path / "given.geojson").read_bytes(), catalogue.read_bytes()
    config = configured(tmp_path, merge={"output": output and output.format(tmp_path)}, **sections)
    with pytest.raises(ConfigError, match="named twice"):
        run_archive(config, model=BOXES)
    assert ((tmp_path / "given.geojson").read_bytes(), catalogue.read_bytes()) == before


def test_a_layer_in_place_of_rasters_is_refused_before_the_first_scene(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, *GOOD))
    with pytest.raises(SinkError, match=r"in holds files that geoseg did not write \(a\.tif\)"):
        run_archive(configured(tmp_path, merge={"output": "../in"}), model=BOXES)
    assert not (tmp_path / "out").exists()


def test_the_example_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    example = ROOT / "configs" / "runs" / "samples.toml"
    assert f"geoseg run {example.relative_to(ROOT)}" in (ROOT / "README.md").read_text()
    config = read_run_config(example)
    assert config.folder == ROOT / "demo_output" / "samples"  # which git ignores and `make clean` removes
    # A little of it, elsewhere.
    quick = {"folder": str(tmp_path / "out"), "aoi": "85.4305,27.6176,85.4309,27.6179"}
    config = config.model_copy(update={"archive": config.archive.model_copy(update=quick)})
    done = run_archive(config)
    assert (done.exit_code, dict(done.counts)) == (0, {"done": 3}) and done.merged is not None


def test_what_a_dry_run_names_keeps_to_its_line(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\nb.tif").touch()
    (tmp_path / "run.toml").write_text(f'[archive]\nmodel = "{weights}"\nfolder = "out"\n[input]\nglobs = ["in/*"]\n')
    lines = cli("run", tmp_path / "run.toml", "--dry-run").stdout.splitlines()
    assert lines[-2] == f"  {tmp_path}/in/a\\nb.tif -> scenes/a_b.gpkg"


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ("", ("--scheduler", "foo"), "the scheduler 'foo'"),
        ('[merge]\noutput = "m.gpkg"\ncrs = "x"\n', (), "merge.crs = 'x'"),
        ('[raster]\nassume_crs = "x"\n', (), "raster.assume_crs = 'x'"),
        ('[[rule]]\nmatch = "*"\nassume_crs = "x"\n', (), "assume_crs of the rule for '\\*' = 'x'"),
        ("file", (), r"where .*/run\.toml is a file"),
        ("file/below", (), r"where .*/run\.toml is a file"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    tmp_path: Path, weights: Path, more: str, options: tuple[str, ...], said: str
) -> None:
    config, folder = tmp_path / "run.toml", more.replace("file", "run.toml") if more.startswith("file") else "out"
    text = f'[archive]\nmodel = "{weights}"\nfolder = "{folder}"\n[input]\npaths = ["a.tif"]\n'
    config.write_text(text + ("" if more.startswith("file") else more))
    for dry in (("--dry-run",), ()):
        result = cli("run", config, *dry, *options)
        assert result.exit_code == 2 and re.search(said, result.stderr), result.output
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_the_commands(tmp_path: Path, weights: Path) -> None:
    from typer.testing import CliRunner

    from geoseg.cli import app

    def geoseg(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "good.tif", texture(3, 90, 130), photometric="rgb")
    (tmp_path / "in" / "page.tif").write_text("<html>404</html>")
    config = tmp_path / "run.toml"
    config.write_text(
        f'[archive]\nmodel = "{weights}"\nfolder = "out"\n[input]\nglobs = ["in/*"]\n[engine]\nworkers = 1\n'
    )
    dry = geoseg("run", config, "--dry-run")
    assert dry.exit_code == 0 and "scenes     2" in dry.stdout and "nothing was written" in dry.stdout
    assert not (tmp_path / "out").exists()
    assert geoseg("status", tmp_path / "out").exit_code == 2
    first = geoseg("run", config, "--log-format", "json")
    assert first.exit_code == 1, first.output
    lines = [json.loads(line) for line in first.stderr.splitlines() if line.startswith("{")]
    assert lines[-1]["exit_code"] == 1 and {line.get("scene") for line in lines} >= {"good.tif", "page.tif"}
    assert (tmp_path / "out" / "scenes" / "good.gpkg").exists()
    told = json.loads(geoseg("status", tmp_path / "out", "--json").stdout)
    assert told["counts"] == {"done": 1, "refused": 1} and told["state"] == "ended"
    said = geoseg("status", tmp_path / "out").stdout
    assert "exit code 1" in said and "refused: page.tif" in said
    (tmp_path / "in" / "page.tif").unlink()
    dry = geoseg("run", config, "--dry-run")
    assert "unchanged  1" in dry.stdout and "gone       1" in dry.stdout
    again = geoseg("run", config, "-q")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "")
    config.write_text(config.read_text().replace("workers", "wrokers"))
    wrong = geoseg("run", config)
    assert wrong.exit_code == 2 and "Did you mean workers" in wrong.output


def test_items_of_a_search_that_give_no_scene_are_refused_scenes_and_the_exit_code_says_so(tmp_path: Path) -> None:
    items = [item(number, assets={"image": {"href": f"{number}.tif", "type": "image/tiff"}}) for number in range(2)]
    (tmp_path / "in").mkdir()
    for number in range(2):
        scene(tmp_path / "in" / f"{number}.tif", ground(80, 120, *GOOD), row=200 * number)
    items[1]["assets"]["second"] = items[1]["assets"]["image"]
    config = configured(tmp_path, input={"stac": {"url": "in/items.json"}})
    item_collection(items[1:], tmp_path / "in" / "items.json")
    none = run_archive(config, model=BOXES)
    assert (none.exit_code, dict(none.counts)) == (2, {"refused": 1})
    item_collection(items, tmp_path / "in" / "items.json")
    one = run_archive(config, model=BOXES)
    assert (one.exit_code, dict(one.counts)) == (1, {"done": 1, "refused": 1})
    bad = next(
        each
        for each in json.loads((tmp_path / "out" / "summary.json").read_text())["scenes"]
        if each["state"] == "refused"
    )
    assert bad["name"] == "scene-01" and "'image', 'second'" in bad["error"] and bad["code"] == 2
    del items[1]["assets"]["second"]
    item_collection(items, tmp_path / "in" / "items.json")
    both = run_archive(config, model=BOXES)
    assert (both.exit_code, both.counts["done"], both.counts["gone"], both.unchanged) == (0, 2, 1, 1)
    assert sorted(path.name for path in (tmp_path / "out" / "scenes").glob("*.gpkg")) == [
        "scene-00.gpkg",
        "scene-01.gpkg",
    ]


def test_two_runs_do_not_write_one_merged_layer(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", ground(80, 120, *GOOD))
    merged = tmp_path / "all.gpkg"
    config = configured(tmp_path, merge={"output": str(merged)})
    with output_lock(merged), pytest.raises(LockedError, match=r"all\.gpkg"):
        run_archive(config, model=BOXES)
    assert not (tmp_path / "out" / "scenes" / "a.gpkg").exists()
    elsewhere = configured(tmp_path, merge={"output": str(tmp_path / "not" / "there" / "all.gpkg")})
    with pytest.raises(ConfigError, match="not/there"):
        run_archive(elsewhere, model=BOXES)
    assert run_archive(config, model=BOXES).merged_footprints == 2
