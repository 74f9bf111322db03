"""An archive of generated scenes, 5 % of them bad, run to its end: the right exit code, report and layer.

    python -m benchmarks.archive [--scenes 40] [--long] [--processes 1] [--model NAME] [--merge merged] [--keep FOLDER]

The scenes overlap by a third and show the same boxes on the ground, so what the merged layer must hold is known. Of
every twenty one is bad: no raster at all, cut short, without a CRS, empty, or one that kills the process that reads it.
With --long there are 500. The detector sees what was painted and costs next to nothing, so the figures are those of the
archive's own work; --model takes a bundled model instead (and then counts nothing). Exits 1 where anything is not as it
must be.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import scipy.ndimage
from affine import Affine

import geoseg
import geoseg.archive
import geoseg.archive.merge.reading

SIDE, STEP, BOX = 240, 160, 12
"""Pixels: side of a scene, from one scene to the next, side of a box."""
EVERY = 20
"""One scene of so many is bad."""
BAD = ("page", "short", "adrift", "empty", "killer")
KILLER = 251
"""A scene that holds this value kills the process that looks at it."""


CARD = geoseg.ModelCard(classes=("box",), name="boxes", version="1", core=128, halo=32)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Sees each bright box."""

    card: geoseg.ModelCard = CARD

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """One set of instances per chip."""
        return [self._one(chip) for chip in chips]

    def _one(self, chip: geoseg.Chip) -> geoseg.Instances:
        pixels = np.where(chip.valid, chip.pixels[0], 0)
        if (pixels == KILLER).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        components, _ = scipy.ndimage.label(pixels >= 200)
        found = scipy.ndimage.find_objects(components)
        return geoseg.Instances(
            boxes=np.array([(c.start, r.start, c.stop, r.stop) for r, c in found], float).reshape(-1, 4),
            scores=[0.9] * len(found),
            labels=[0] * len(found),
            masks=[components[place] == i + 1 for i, place in enumerate(found)],
        )


def is_box(row: int, col: int) -> bool:
    """Whether there is a box in a cell of the ground, cells being three boxes wide."""
    return (row * 7 + col * 3) % 4 != 0


def ground(row_off: int, col_off: int) -> np.ndarray:
    """Pixels of the ground from there on: the same place looks the same in every scene."""
    rows, cols = np.arange(row_off, row_off + SIDE)[:, None], np.arange(col_off, col_off + SIDE)[None, :]
    cell = 3 * BOX
    inside = (rows % cell >= BOX) & (rows % cell < 2 * BOX) & (cols % cell >= BOX) & (cols % cell < 2 * BOX)
    there = ((rows // cell) * 7 + (cols // cell) * 3) % 4 != 0
    noise = (rows * 31 + cols * 17) % 23
    return np.where(inside & there, 220, 60 + noise).astype(np.uint8)


def make(folder: Path, number: int, columns: int) -> str:
    """One scene; what is wrong with it, or nothing."""
    row, col = divmod(number, columns)
    path = folder / f"scene {number:05}.tif"
    wrong = BAD[(number // EVERY) % len(BAD)] if number % EVERY == EVERY // 2 else ""
    if wrong == "page":
        path.write_text("<html>404</html>")
        return wrong
    if wrong == "empty":
        path.write_bytes(b"")
        return wrong
    pixels = ground(row * STEP, col * STEP)
    if wrong == "killer":
        pixels[5, 5] = KILLER
    profile: dict[str, Any] = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": SIDE, "width": SIDE}
    where = Affine(0.5, 0, 350_000 + 0.5 * col * STEP, 0, -0.5, 3_050_000 - 0.5 * row * STEP)
    crs = None if wrong == "adrift" else "EPSG:32645"
    with rasterio.open(path, "w", crs=crs, transform=where, photometric="rgb", compress="deflate", **profile) as out:
        out.write(np.stack([pixels] * 3))
        if wrong != "short":  # the tag would move the file's directory to its end, and be what is cut off
            out.update_tags(TIFFTAG_DATETIME=f"2026:{1 + number % 12:02}:{1 + number % 28:02} 10:00:00")
    if wrong == "short":
        path.write_bytes(path.read_bytes()[:-400])
    return wrong


def cpu_s() -> float:
    """Seconds of CPU of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def expected(count: int, columns: int, lost: set[int]) -> int:
    """Boxes of which a scene that is not lost sees any pixel."""
    seen = set()
    cell = 3 * BOX
    for number in set(range(count)) - lost:
        top, left = (STEP * place for place in divmod(number, columns))
        for row in range(top // cell, (top + SIDE) // cell + 1):
            for col in range(left // cell, (left + SIDE) // cell + 1):
                rows = row * cell + BOX < top + SIDE and row * cell + 2 * BOX > top
                cols = col * cell + BOX < left + SIDE and col * cell + 2 * BOX > left
                if rows and cols and is_box(row, col):
                    seen.add((row, col))
    return len(seen)


def main() -> int:
    """Make, run, run again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--long", action="store_true", help="500 scenes")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--model", help="a bundled model instead of the detector of boxes")
    parser.add_argument("--merge", default="merged", help="merged layer: a folder of parts, or a file with a suffix")
    parser.add_argument("--keep", type=Path, help="a folder to leave the archive and its run in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geoseg-archive-") as temporary:
        return run(options, (options.keep or Path(temporary)).absolute())


def run(options: argparse.Namespace, folder: Path) -> int:
    """The archive in ``folder``, twice."""
    count = 500 if options.long else options.scenes
    (folder / "in").mkdir(parents=True, exist_ok=True)
    columns = max(1, round(count**0.5))
    wrong = {number: what for number in range(count) if (what := make(folder / "in", number, columns))}
    config = geoseg.archive.RunConfig.model_validate(
        {
            "archive": {
                "model": options.model or "boxes",
                "folder": "run",
                "format": "parquet",
                "at_once": options.processes,
            },
            "input": {"globs": ["in/*.tif"]},
            "merge": {"output": options.merge},
            "engine": {"workers": 1},
        }
    ).rooted(folder)
    detector = None if options.model else Boxes()
    told = {"scenes": count, "bad": len(wrong)}
    for which in ("first", "again"):
        began, busy = time.monotonic(), cpu_s()
        done = geoseg.archive.run_archive(config, model=detector)
        told[which] = {
            "seconds": round(time.monotonic() - began, 2),
            "cpu_seconds": round(cpu_s() - busy, 2),
            "exit_code": done.exit_code,
            "counts": dict(done.counts),
            "unchanged": done.unchanged,
            "footprints": done.footprints,
        }
    told["driver_peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    told["merged"] = sum(len(table) for table in geoseg.archive.merge.reading.batches(done.merged))
    lost = {number for number, what in wrong.items() if what != "short"}
    told["boxes"] = expected(count, columns, lost)
    told["problems"] = problems(told, wrong) if not options.model else []
    print(json.dumps(told, indent=2))
    return 1 if told["problems"] else 0


def problems(told: dict[str, Any], wrong: dict[int, str]) -> list[str]:
    """What is not as it must be."""
    kinds = list(wrong.values())
    refused, failed = sum(kind in ("page", "adrift", "empty") for kind in kinds), kinds.count("killer")
    parts = kinds.count("short")
    counts, again = told["first"]["counts"], told["again"]
    checks = {
        "exit code": told["first"]["exit_code"] == (1 if wrong else 0) == again["exit_code"],
        "refused": counts.get("refused", 0) == refused,
        "failed": counts.get("failed", 0) == failed,
        "parts": counts.get("parts", 0) == parts,
        "done": counts.get("done", 0) == told["scenes"] - len(wrong),
        "second run": again["unchanged"] == told["scenes"] - len(wrong),
        # A scene that is cut short may have lost a box that no other scene shows.
        "merged": told["boxes"] - 40 * parts <= told["merged"] <= told["boxes"],
    }
    return [name for name, fine in checks.items() if not fine]


if __name__ == "__main__":
    sys.exit(main())
