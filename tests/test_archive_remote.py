"""An archive on a web server, on loopback: what its URLs may be told to, and what its absence means."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import geopandas as gpd
from archive_scenes import BOXES, configured, ground, scene

from geoseg.archive import RunConfig, run_archive

BLIND = replace(BOXES, blind=True)


class _Files(SimpleHTTPRequestHandler):
    """The files of a folder, while it is there."""

    def do_GET(self) -> None:
        if Path(self.directory).exists():
            super().do_GET()
        else:
            self.send_error(503)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _config(folder: Path, url: str, *names: str) -> RunConfig:
    return configured(
        folder,
        input={"paths": [f"{url}/{name}?sig=SECRET" for name in names]},
        raster={"allow_remote": True},
        merge={"output": "merged.gpkg"},
        stac={"write": True},
        archive={"give_up_after": 1},
    )


def test_the_query_of_a_url_is_told_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    scene(tmp_path / "files" / "a.tif", ground(50, 70, (5, 9, 5, 9)))
    with served(tmp_path / "files") as url:
        config = _config(tmp_path, url, "a.tif", "absent.tif")
        slip = "http://[::1/b.tif?sig=SECRET"
        given = config.input.model_copy(update={"paths": (*config.input.paths, slip), "exclude": ("*.png",)})
        done = run_archive(config.model_copy(update={"input": given}), model=BOXES)
    assert dict(done.counts) == {"done": 1, "refused": 2}
    assert set(gpd.read_file(tmp_path / "out" / "merged.gpkg", layer="footprints")["raster"]) == {"a.tif"}
    told = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "manifest.sqlite"]
    assert {"summary.json", "a.stac.json", "a.gpkg"} <= {path.name for path in told}
    assert [path.name for path in told if b"SECRET" in path.read_bytes()] == []


def test_a_server_that_is_away_is_no_fault_of_a_raster_and_costs_no_work(tmp_path: Path) -> None:
    files, away = tmp_path / "files", tmp_path / "away"
    files.mkdir()
    for name in ("a.tif", "b.tif"):
        scene(files / name, ground(50, 70, (5, 9, 5, 9)), row=200 * (name == "b.tif"))
    with served(files) as url:
        config = _config(tmp_path, url, "a.tif", "b.tif")
        assert run_archive(config, model=BOXES).exit_code == 0
        files.rename(away)
        gone = run_archive(config, model=BLIND)
        assert (gone.exit_code, dict(gone.counts), gone.stopped) == (4, {"failed": 2}, "")
        away.rename(files)
        back = run_archive(config, model=BLIND)
    assert (back.exit_code, back.unchanged, back.footprints, back.merged_footprints) == (0, 2, 2, 2)
    scenes = json.loads((tmp_path / "out" / "summary.json").read_text())["scenes"]
    assert [(each["state"], each["footprints"], each["tiles_planned"]) for each in scenes] == [("done", 1, 2)] * 2


def test_a_file_that_was_away_for_a_night_is_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = scene(tmp_path / "in" / "a.tif", ground(50, 70, (5, 9, 5, 9)))
    config = configured(tmp_path, input={"paths": ["in/a.tif"]})
    assert run_archive(config, model=BOXES).exit_code == 0
    path.rename(tmp_path / "a.tif")
    assert run_archive(config, model=BLIND).exit_code == 2
    (tmp_path / "a.tif").rename(path)
    back = run_archive(config, model=BLIND)
    assert (back.exit_code, back.unchanged, back.footprints) == (0, 1, 1)
