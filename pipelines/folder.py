"""The flow that the scheduled pipelines share: every raster of a folder through one model, one run each."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from pathlib import Path

WORST_FIRST = (130, 70, 4, 2, 3, 1, 0)
"""Exit codes of `geoseg extract`, the gravest first. The flow ends with the gravest that it met."""
MEANING = {
    0: "done",
    1: "done with parts missing",
    2: "refused",
    3: "locked",
    4: "environment failed",
    70: "a fault in geoseg",
    130: "stopped",
}
PATTERNS = ("*.tif", "*.tiff", "*.vrt", "*.jp2")


def flow(model: str, description: str) -> int:
    """Extract from each raster whose output is not there, has parts missing, or comes from another run.

    Each raster is a `geoseg extract --if-changed` of its own, which tells by content, model and settings whether
    there is anything to do: a crash or a full memory costs one raster, not the night. Two flows on one folder do
    not disturb each other: the output's lock sees to that. Returns the exit code.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("rasters", type=Path, help="folder of rasters")
    parser.add_argument("outputs", type=Path, help="folder of outputs: one GeoPackage and one report per raster")
    parser.add_argument("--model", default=model, help="bundled model or weights file")
    options, further = parser.parse_known_args()  # the rest goes to `geoseg extract` as it is
    if not options.rasters.is_dir():
        parser.error(f"no folder at {options.rasters}")
    options.outputs.mkdir(parents=True, exist_ok=True)
    rasters = sorted({path for pattern in PATTERNS for path in options.rasters.glob(pattern)})
    codes, said = Counter[int](), Counter[str]()
    for raster in rasters:
        output = options.outputs / f"{raster.name}.gpkg"  # with the suffix: a.tif and a.vrt are two rasters
        code, what = extract(raster, output, options.model, further)
        codes[code] += 1
        said[what] += 1
        print(f"{raster.name}: {what}", flush=True)
        if code == 130:
            break
    print(f"{len(rasters)} rasters: " + (", ".join(f"{n} {what}" for what, n in said.items()) or "nothing to do"))
    return next((code for code in WORST_FIRST if codes[code]), max(codes, default=0))


def extract(raster: Path, output: Path, model: str, further: list[str]) -> tuple[int, str]:
    """One `geoseg extract`: its exit code (128 + n where a signal n ended it), and that in words."""
    command = [sys.executable, "-m", "geoseg", "extract", str(raster), "-o", str(output), "--model", model]
    report = output.with_suffix(".report.json")
    whole = [*command, "--if-changed", "--report", str(report), *further]
    done = subprocess.run(whole, check=False, stdout=subprocess.PIPE, text=True)
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    if code == 0 and done.stdout.rstrip().endswith(": unchanged"):
        return code, "unchanged"
    return code, MEANING.get(code, f"failed ({code})")
