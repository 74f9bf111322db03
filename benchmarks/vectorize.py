"""Footprints again from kept predictions, against the run that kept them: a real model on a town.

    python -m benchmarks.vectorize [--times 2] [--model buildings] [--rounds 3] [--regularize none] [--least 50]
    python -m benchmarks.vectorize --model ships
    python -m benchmarks.vectorize --raster ../shared/data/buildings/banepa.tif

The sample town (ships: harbour) is laid side by side ``times`` x ``times``; every second copy is mirrored, so that no
copy ends where the next begins. Or any raster is taken as it is. Both commands write a GeoPackage, on the same threads.
Exits 1 where ``geoseg vectorize`` is less than ``least`` times as fast as ``geoseg extract``, or its footprints are not
the same. Compared are seconds of CPU, which other work on the machine stretches less than those of the clock; of
``geoseg vectorize`` the median of some rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def make(path: Path, times: int, sample: str = "town") -> Path:
    """A sample scene, several times."""
    import numpy as np
    import rasterio

    with rasterio.open(ROOT / "data_samples" / f"{sample}.tif") as source:
        pixels, profile = source.read(), source.profile
    pair = np.concatenate([pixels, pixels[:, :, ::-1]], axis=2)
    square = np.concatenate([pair, pair[:, ::-1]], axis=1)
    height, width = (side * times for side in pixels.shape[1:])
    whole = np.tile(square, (1, -(-times // 2), -(-times // 2)))[:, :height, :width]
    with rasterio.open(path, "w", **{**profile, "height": height, "width": width}) as out:
        out.write(whole)
    return path


def main() -> int:
    """Run both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--raster", type=Path, help="instead of the sample scene")
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--device", default="cpu", help="of the network")
    parser.add_argument("--rounds", type=int, default=3, help="of geoseg vectorize")
    parser.add_argument("--regularize", help="none, buildings or ships; unset: as the model asks")
    parser.add_argument("--least", type=float, default=50.0)
    given = parser.parse_args()
    import geopandas as gpd

    import geoseg
    from geoseg.extraction import run_store_to, run_to

    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        sample = "harbour" if given.model == "ships" else "town"
        raster = given.raster or make(folder / "scene.tif", given.times, sample)
        model = geoseg.load_model(given.model, device=given.device)
        settings = geoseg.Settings.model_validate({"shapes": {"regularize": given.regularize}})
        told: dict[str, float] = {}
        began, cpu = time.perf_counter(), time.process_time()
        done = run_to(raster, model, folder / "run.gpkg", settings=settings, store=folder / "store")
        told.update(extract_s=time.perf_counter() - began, extract_cpu_s=time.process_time() - cpu)
        rounds = []
        for _ in range(given.rounds):
            began, cpu = time.perf_counter(), time.process_time()
            run_store_to(folder / "store", folder / "again.gpkg", settings=settings)
            rounds.append((time.process_time() - cpu, time.perf_counter() - began))
        told["vectorize_cpu_s"], told["vectorize_s"] = sorted(rounds)[len(rounds) // 2]
        one, other = (gpd.read_file(folder / f"{name}.gpkg", layer="footprints") for name in ("run", "again"))
        same = one.equals(other)
        kept = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())
    ratio = told["extract_cpu_s"] / told["vectorize_cpu_s"]
    facts = {"tiles": done.tiles_examined, "footprints": done.footprints, "megapixels": done.megapixels}
    print(
        json.dumps(
            {**told, "ratio": ratio, "same": same, "store_bytes_per_mp": kept / done.megapixels, **facts}, indent=2
        )
    )
    return 0 if same and ratio >= given.least else 1


if __name__ == "__main__":
    sys.exit(main())
