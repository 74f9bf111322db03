"""How good the bundled models are, on ground they were not trained on.

    python -m benchmarks.models buildings            # generated towns with unseen seeds, and the real dev areas
    python -m benchmarks.models ships --scenes 12
    python -m benchmarks.models buildings --weights runs/buildings.safetensors --overlays out/

Everything goes through ``geoseg.run``, from a GeoTIFF to footprints: tiling, seams and outlines included.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine

import geoseg
from geoseg.evaluation import Sweep, sweep
from geoseg.overlay import preview
from geoseg.scenes import Scene, harbour, town

FIRST_SEED = 900_000
"""Far from the training's seeds (100000 and on)."""
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "buildings"
FLOOR = 0.1
"""Score from which instances are kept here, so that the best threshold can be told."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A raster, its truth, and the part of it that counts."""

    name: str
    raster: Path
    truth: gpd.GeoDataFrame
    aoi: gpd.GeoDataFrame | None = None


def generated(model: str, scenes: int, folder: Path) -> Iterator[Case]:
    """Scenes of a kind that fits the model, at sizes that are never square."""
    for i in range(scenes):
        seed = FIRST_SEED + i
        rng = np.random.default_rng(seed)
        if model == "ships":
            scene = harbour(seed, height=800, width=1100, gsd_m=float(rng.uniform(0.5, 1.0)))
        else:
            scene = town(seed, height=800, width=1100, gsd_m=float(rng.uniform(0.15, 0.30)))
        yield _written(scene, folder / f"scene_{seed}.tif")


def _written(scene: Scene, path: Path) -> Case:
    transform = Affine.translation(400_000, 5_000_000) @ Affine.scale(scene.gsd_m, -scene.gsd_m)
    bands, height, width = scene.pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype="uint8", crs="EPSG:32633",
        transform=transform, photometric="RGB",
    ) as dataset:  # fmt: skip
        dataset.write(scene.pixels)
    moved = [shapely.affinity.affine_transform(p, transform.to_shapely()) for p in scene.polygons]
    return Case(name=path.stem, raster=path, truth=gpd.GeoDataFrame(geometry=moved, crs="EPSG:32633"))


def real() -> Iterator[Case]:
    """Banepa's eastern quarter and Catanduanes 1, never trained on."""
    if not REAL.is_dir():
        print("the real imagery (../shared/data) is not here: skipped")
        return
    with rasterio.open(REAL / "banepa.tif") as dataset:
        left, bottom, right, top = dataset.bounds
        east = shapely.box(left + 0.75 * (right - left), bottom, right, top)
        whole = shapely.box(*dataset.bounds)
    quarter = gpd.GeoDataFrame(geometry=[east], crs="EPSG:3857")
    yield Case(name="banepa_east", raster=REAL / "banepa.tif", truth=_truth("banepa", whole), aoi=quarter)
    with rasterio.open(REAL / "catanduanes_1.tif") as dataset:
        whole = shapely.box(*dataset.bounds)
    yield Case(name="catanduanes_1", raster=REAL / "catanduanes_1.tif", truth=_truth("catanduanes_1", whole))


def _truth(name: str, whole: shapely.Geometry) -> gpd.GeoDataFrame:
    """Labels as far as the raster goes: what is beyond its edge cannot be seen."""
    frame = gpd.read_file(REAL / f"{name}.geojson").to_crs(3857)[["geometry"]]
    frame["geometry"] = shapely.intersection(shapely.make_valid(frame.geometry.values), whole)
    return frame[frame.geometry.area > 0]


def measure(case: Case, model: geoseg.Detector, overlays: Path | None) -> Sweep:
    """Footprints of the case at every score, against its truth."""
    settings = geoseg.Settings.model_validate({"detect": {"score_threshold": FLOOR}})
    area = None if case.aoi is None else gpd.GeoDataFrame(geometry=case.aoi.buffer(15.0), crs=case.aoi.crs)
    found = geoseg.run(case.raster, model, settings=settings, aoi=area).footprints
    result = sweep(found.drop(columns="label"), case.truth, aoi=case.aoi)
    if overlays is not None:
        overlays.mkdir(parents=True, exist_ok=True)
        kept = found[found["score"] >= model.card.score_threshold]
        preview(case.raster, kept, overlays / f"{case.name}.png", truth=case.truth, max_side=1800)
    return result


def report(title: str, sweeps: list[Sweep], threshold: float) -> None:
    """One line for all cases together, at the card's threshold and at the best one."""
    rows = []
    for each in sweeps:
        for t, s in zip(each.thresholds, each.scores, strict=True):
            iou = 0.0 if np.isnan(s.mean_iou) else s.mean_iou
            rows.append((round(t, 2), s.n_matched, s.n_pred, s.n_truth, iou * s.n_matched))
    table = pd.DataFrame(rows, columns=["t", "hit", "pred", "truth", "iou"]).groupby("t").sum()
    table = table[table["truth"] == table["truth"].max()]
    table["f1"] = 2 * table["hit"] / (table["pred"] + table["truth"])
    best = float(table["f1"].idxmax())
    for name, t in (("card", threshold), ("best", best)):
        row = table.loc[min(table.index, key=lambda x: abs(x - t))]
        print(
            f"{title:24} {name} threshold {t:.2f}: F1 {row.f1:.3f}  precision {row.hit / max(row.pred, 1):.3f}  "
            f"recall {row.hit / max(row.truth, 1):.3f}  mean IoU {row.iou / max(row.hit, 1):.3f}  "
            f"({row.truth:.0f} true objects)"
        )


def main() -> None:
    """Parse the arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["buildings", "ships"])
    parser.add_argument("--weights", help="a weights file instead of the bundled one")
    parser.add_argument("--scenes", type=int, default=10, help="generated scenes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--overlays", type=Path, help="folder for overlay PNGs")
    args = parser.parse_args()
    model = geoseg.load_model(args.weights or args.model, device=args.device)
    threshold = model.card.score_threshold
    with tempfile.TemporaryDirectory() as folder:
        cases = list(generated(args.model, args.scenes, Path(folder)))
        report("generated, unseen seeds", [measure(c, model, args.overlays) for c in cases], threshold)
    for case in real() if args.model == "buildings" else ():
        report(case.name, [measure(case, model, args.overlays)], threshold)


if __name__ == "__main__":
    main()
