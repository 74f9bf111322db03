"""How good the bundled models are, on ground they were not trained on.

    python -m benchmarks.models buildings            # generated towns with unseen seeds, and the real dev areas
    python -m benchmarks.models ships --scenes 12
    python -m benchmarks.models buildings --scenes 0 --real-gsd 0.3
    python -m benchmarks.models ships --ships-gsd 0.5 --json ships.json
    python -m benchmarks.models buildings --weights runs/buildings.safetensors --overlays out/

Everything goes through ``geoseg.run``, from a GeoTIFF to footprints: tiling, seams and outlines included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning

import geoseg
from geoseg.coco import read_coco
from geoseg.evaluation import Comparison, Evaluation, assess, compare
from geoseg.overlay import preview
from geoseg.raster import open_raster
from geoseg.scenes import Scene, harbour, town

FIRST_SEED = 900_000
"""No training drew seeds from 850000 to 999999."""
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = SHARED / "buildings"
FLOOR = 0.1
"""Score from which instances are kept here, so that the best threshold can be told."""


SIZES = (0, 10, 20, 40, 80, 160, 640, np.inf)
"""Square metres: bounds of the classes of size by which is told what is found."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A raster, its truth, and the part of it that counts."""

    name: str
    raster: Path
    truth: gpd.GeoDataFrame
    aoi: gpd.GeoDataFrame | None = None


def generated(model: str, scenes: int, first_seed: int, folder: Path) -> Iterator[Case]:
    """Scenes of a kind that fits the model, at sizes that are never square."""
    for seed in range(first_seed, first_seed + scenes):
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


def real(gsd_m: float | None, folder: Path) -> Iterator[Case]:
    """Banepa's eastern quarter and Catanduanes 1, never trained on; at another GSD than their own if one is given."""
    if not REAL.is_dir():
        print("the real imagery (../shared/data) is not here: skipped")
        return
    for name, from_column in (("banepa", 0.75), ("catanduanes_1", 0.0)):
        raster = REAL / f"{name}.tif"
        with rasterio.open(raster) as dataset:
            left, bottom, right, top = dataset.bounds
        part = gpd.GeoDataFrame(
            geometry=[shapely.box(left + from_column * (right - left), bottom, right, top)], crs="EPSG:3857"
        )
        yield Case(
            name=f"{name}_east" if from_column else name,
            raster=raster if gsd_m is None else _resampled(raster, gsd_m, folder / raster.name),
            truth=_truth(name, shapely.box(left, bottom, right, top)),
            aoi=part if from_column else None,
        )


def _resampled(raster: Path, gsd_m: float, path: Path) -> Path:
    """The same ground with larger pixels, each the mean of what it covers, as a coarser camera sees it."""
    grid = open_raster(raster).grid.at_gsd(gsd_m)
    with rasterio.open(raster) as source:
        pixels = source.read(out_shape=(source.count, grid.height, grid.width), resampling=Resampling.average)
        profile = {"driver": "GTiff", "count": source.count, "dtype": source.dtypes[0], "crs": source.crs}
        profile |= {"height": grid.height, "width": grid.width, "transform": grid.transform, "nodata": source.nodata}
        colours = source.colorinterp
    with rasterio.open(path, "w", **profile) as target:
        target.colorinterp = colours
        target.write(pixels)
    return path


def _truth(name: str, whole: shapely.Geometry) -> gpd.GeoDataFrame:
    """Labels as far as the raster goes: what is beyond its edge cannot be seen."""
    frame = gpd.read_file(REAL / f"{name}.geojson").to_crs(3857)[["geometry"]]
    frame["geometry"] = shapely.intersection(shapely.make_valid(frame.geometry.values), whole)
    return frame[frame.geometry.area > 0]


def photographs(gsd_m: float, folder: Path) -> Iterator[Case]:
    """The JPEG images of ships beside the repository; they do not say their GSD, so one is taken for all of them."""
    if not (SHARED / "ships").is_dir():
        print("the real imagery (../shared/data) is not here: skipped")
        return
    transform = Affine.translation(400_000, 5_000_000) @ Affine.scale(gsd_m, -gsd_m)
    for image, objects in read_coco(SHARED / "ships" / "instances.json"):
        path = folder / f"{Path(image.file_name).stem}.tif"
        # They lie nowhere, which geoseg refuses: so they are put somewhere.
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(SHARED / "ships" / "images" / image.file_name) as source,
        ):
            pixels = source.read((1, 2, 3))
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=image.height, width=image.width, dtype="uint8",
            crs="EPSG:32633", transform=transform, photometric="RGB",
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
        moved = [shapely.affinity.affine_transform(a.polygon, transform.to_shapely()) for a in objects]
        ignore = [each.ignore for each in objects]
        yield Case(name=path.stem, raster=path, truth=gpd.GeoDataFrame({"ignore": ignore}, geometry=moved, crs=32633))


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One case, compared twice."""

    every: Comparison
    """All instances from the floor on: for AP, curves and calibration."""
    kept: Comparison
    """Those from the card's threshold on: what a user gets."""


def measure(case: Case, model: geoseg.Detector, overlays: Path | None) -> Measured:
    """Footprints of the case at every score, against its truth."""
    settings = geoseg.Settings.model_validate({"detect": {"score_threshold": FLOOR}})
    area = None if case.aoi is None else gpd.GeoDataFrame(geometry=case.aoi.buffer(15.0), crs=case.aoi.crs)
    found = geoseg.run(case.raster, model, settings=settings, aoi=area).footprints
    kept = found[found["score"] >= model.card.score_threshold]
    if overlays is not None:
        overlays.mkdir(parents=True, exist_ok=True)
        preview(case.raster, kept, overlays / f"{case.name}.png", truth=case.truth, max_side=1800)
    every, those = (compare(table, case.truth, aoi=case.aoi, any_label=True) for table in (found, kept))
    return Measured(every=every, kept=those)


def by_size(cases: list[Comparison]) -> str:
    """The share of the true objects of each size that are found."""
    area, found = [], []
    for case in cases:
        matches, _, counts = case.counted()
        right = np.isin(np.arange(len(counts)), matches.truth)
        area.append(case.truth.geometry.area.to_numpy()[counts])
        found.append(right[counts])
    sizes, right = np.concatenate(area), np.concatenate(found)
    told = []
    for low, high in pairwise(SIZES):
        some = (sizes >= low) & (sizes < high)
        if some.any():
            told.append(f"{low:g}-{high:g} m2: {right[some].mean():.2f} of {some.sum()}")
    return ", ".join(told)


def report(title: str, cases: list[Measured], threshold: float) -> dict[str, Evaluation]:
    """All cases together, at the card's threshold and at the best one."""
    kept, every = assess([case.kept for case in cases]), assess([case.every for case in cases])
    best, _ = (every.curve.best if every.curve else None) or (threshold, 0.0)
    at_best = reduce(add, [case.every.scores(best) for case in cases])
    for name, t, s in (("card", threshold, kept.scores), ("best", best, at_best)):
        print(
            f"{title:24} {name} threshold {t:.2f}: F1 {s.f1:.3f}  precision {s.precision:.3f}  "
            f"recall {s.recall:.3f}  mean IoU {s.mean_iou:.3f}  ({s.n_truth} true objects)"
        )
    for name, ap in (("outlines", every.masks), ("boxes", every.boxes)):
        if ap:
            sizes = "  ".join(f"{size} {value:.3f}" for size, value in ap.by_size.items())
            print(f"{'':24} AP of {name} {ap.ap:.3f}  AP50 {ap.ap50:.3f}  AP75 {ap.ap75:.3f}  {sizes}")
    if kept.intervals:
        low, high = kept.intervals.ranges["f1"]
        print(f"{'':24} F1 {low:.3f} to {high:.3f} (95 %, {kept.intervals.blocks} blocks)")
    shapes = kept.shapes
    ece = every.calibration.ece if every.calibration else float("nan")
    print(
        f"{'':24} PoLiS {shapes.polis:.2f} m  boundary F {shapes.boundary_f:.3f} within {shapes.tolerance:g} m  "
        f"calibration error {ece:.3f}"
    )
    print(f"{'':24} found: {by_size([case.kept for case in cases])}")
    print(f"{'':24} " + ", ".join(f"{count} {kind}" for kind, count in kept.errors.items()), flush=True)
    return {"card": kept, "all": every}


def main() -> None:
    """Parse the arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["buildings", "ships"])
    parser.add_argument("--weights", help="a weights file instead of the bundled one")
    parser.add_argument("--scenes", type=int, default=10, help="generated scenes")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of them; others to choose a threshold by")
    parser.add_argument("--ships-gsd", type=float, default=0.5, help="metres that a pixel of the ship photographs is")
    parser.add_argument("--real-gsd", type=float, help="metres: resample the real areas of buildings to it first")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--overlays", type=Path, help="folder for overlay PNGs")
    parser.add_argument("--json", type=Path, help="file for all figures and curves")
    args = parser.parse_args()
    model = geoseg.load_model(args.weights or args.model, device=args.device)
    groups: dict[str, dict[str, Evaluation]] = {}
    with tempfile.TemporaryDirectory() as folder:
        named = {"generated, unseen seeds": list(generated(args.model, args.scenes, args.first_seed, Path(folder)))}
        if args.model == "buildings":
            named |= {case.name: [case] for case in real(args.real_gsd, Path(folder))}
        else:
            named["photographs of ships"] = list(photographs(args.ships_gsd, Path(folder)))
        for title, cases in named.items():
            if cases:
                done = [measure(case, model, args.overlays) for case in cases]
                groups[title] = report(title, done, model.card.score_threshold)
    if args.json:
        values = {title: {name: each.to_dict() for name, each in both.items()} for title, both in groups.items()}
        args.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
