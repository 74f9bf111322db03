"""Runs onto a disk that is full at so many points, and onto one that is read-only: in a mount of its own.

    unshare --map-root-user --mount python tests/chaos_disk.py HOME POINTS

HOME holds ``raster.tif``. Prints what happened, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import chaos
import geopandas

import geoseg
from geoseg.archive import Manifest, Scene, archive_status
from geoseg.errors import exit_code
from geoseg.extraction import extract_to

OLD = b"what stood there before"
KIB = 1024


def mount(folder: Path, *options: str) -> None:
    """A file system in memory, or its options changed."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "geoseg-test", str(folder)]
    for _ in range(50):  # busy as long as what has just ended still has a file open
        if subprocess.run(command, check=False).returncode == 0:
            return
        time.sleep(0.2)
    subprocess.run(command, check=True)


def used(folder: Path) -> int:
    """KiB."""
    import os

    found = os.statvfs(folder)
    return int((found.f_blocks - found.f_bfree) * found.f_frsize / KIB)


def tried(raster: Path, output: Path) -> tuple[int, str]:
    """Exit code and message of a run."""
    settings = geoseg.Settings.model_validate({"tiling": {"block": chaos.BLOCK}, "engine": {"workers": 2}})
    try:
        return extract_to(raster, chaos.Spots(), output, settings=settings).exit_code, ""
    except Exception as error:
        return exit_code(error), f"{type(error).__name__}: {error}"


def peak_of(raster: Path, output: Path) -> int:
    """KiB that an undisturbed run takes at most."""
    done, peak = threading.Event(), [0]

    def watch() -> None:
        while not done.is_set():
            peak.append(used(output.parent))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code, said = tried(raster, output)
    done.set()
    watcher.join()
    assert code == 0, said
    return max(peak)


def without_files(folder: Path) -> list[str]:
    """What is said where a disk has room for bytes, but not for another file: from none at all to some of those that
    an output takes."""
    folder.mkdir(exist_ok=True)
    said = []
    for files in range(1, 4):
        mount(folder, f"nr_inodes={files}")
        try:
            geoseg.write(geopandas.GeoDataFrame(geometry=[], crs="EPSG:32645"), folder / "o.gpkg")
            said.append("written")
        except geoseg.GeosegError as error:
            said.append(str(error))
        subprocess.run(["umount", str(folder)], check=True)
    return said


def ending(folder: Path) -> str:
    """How a run over an archive has ended, by its status, where its disk has no byte left."""
    folder.mkdir(exist_ok=True)
    mount(folder, "size=4m")
    with Manifest.opened(folder, create=True) as manifest:
        facts = {"state": "running", "started": "2026-01-01T00:00:00+00:00", "stopped": ""}
        scenes = (Scene(href=f"/{i}.tif", name=f"{i}.tif") for i in range(300))
        manifest.begin(scenes, "{stem}", ".gpkg", **facts)
        with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(KIB))
        manifest.note(state="stopped", stopped="No space left on device, " * 10, exit_code=4)
    state = archive_status(folder).state
    subprocess.run(["umount", str(folder)], check=True)
    return state


def main(home: Path, points: int) -> dict[str, Any]:
    """All points, then the read-only disk."""
    warnings.simplefilter("ignore")
    small, raster = home / "small", home / "raster.tif"
    small.mkdir(exist_ok=True)
    output = small / "o.fgb"
    mount(small, "size=200m")
    peak = peak_of(raster, output)
    expected = chaos.digest(output)
    found: dict[str, Any] = {"peak_kib": peak, "points": []}
    for point in range(points):
        for path in small.iterdir():
            path.unlink()
        output.write_bytes(OLD)
        size = 16 + int((peak - 16) * 0.97 * point / (points - 1))  # the last one fails while the output is written
        mount(small, "remount", f"size={size}k")
        code, said = tried(raster, output)
        intact = output.read_bytes() == OLD
        drafts = [path.name for path in small.glob(".geoseg-*")]
        mount(small, "remount", "size=200m")
        again = tried(raster, output)
        same = chaos.digest(output) == expected
        found["points"].append(
            {"kib": size, "code": code, "said": said, "intact": intact, "drafts": drafts, "again": again, "same": same}
        )
    output.write_bytes(OLD)
    mount(small, "remount", "ro")
    code, said = tried(raster, output)
    found["ending"] = ending(home / "archive")
    found["without_files"] = without_files(home / "few")
    found["read_only"] = {"code": code, "said": said, "intact": output.read_bytes() == OLD}
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
