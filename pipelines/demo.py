"""The main job on a sample scene: `make demo`. Everything here is geoseg's public interface."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import geopandas as gpd

import geoseg

ROOT = Path(__file__).resolve().parent.parent
SAMPLE, TRUTH = ROOT / "data_samples" / "town.tif", ROOT / "data_samples" / "town.geojson"
OUTPUT = ROOT / "demo_output"


def main() -> int:
    """Extract, write, draw, and compare with what is known to be there."""
    began = time.monotonic()
    OUTPUT.mkdir(exist_ok=True)
    print(f"Extracting the buildings of {SAMPLE.relative_to(ROOT)} ...", flush=True)
    model = geoseg.load_model("buildings")
    done = geoseg.run(SAMPLE, model)  # as geoseg.extract, with the gaps and the report
    footprints, run = done.footprints, done.report.as_dict()
    geopackage = geoseg.write(footprints, OUTPUT / "town.gpkg", gaps=done.gaps, run=run)
    parquet = geoseg.write(footprints, OUTPUT / "town.parquet", gaps=done.gaps, run=run)
    truth = gpd.read_file(TRUTH)
    picture = geoseg.preview(SAMPLE, footprints, OUTPUT / "town.png", truth=truth)
    scores = geoseg.evaluate(footprints, truth)

    for path, what in (
        (geopackage, "open it in QGIS"),
        (parquet, "GeoParquet"),
        (picture, "overlay with the truth"),
    ):
        print(f"  {path.relative_to(ROOT)}: {what}")
    found = f"{len(footprints)} buildings, {footprints.area_m2.sum():,.0f} m2, in {SAMPLE.relative_to(ROOT)}"
    print(
        f"Found {found} ({time.monotonic() - began:.0f} s), written to {OUTPUT.relative_to(ROOT)}/. "
        f"Of the {scores.n_truth} that are there {scores.n_matched} were found (IoU >= {scores.iou:g}): "
        f"precision {scores.precision:.2f}, recall {scores.recall:.2f}, F1 {scores.f1:.2f}, "
        f"mean IoU {scores.mean_iou:.2f}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
