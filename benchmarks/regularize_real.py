"""Shapes of what the bundled model finds on real imagery, beside what mappers drew there.

The outlines of ``buildings`` on Banepa's eastern quarter and Catanduanes 1 (``../shared/data``), and on ten generated
towns, go through the same ways of shaping as in ``benchmarks/regularize.py``; what matches a label (IoU 0.5 and above)
is compared with it.

    python -m benchmarks.regularize_real [--scenes 10]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

import geoseg
from benchmarks.known import Geometries
from benchmarks.models import FIRST_SEED, Case, generated, real
from benchmarks.regularize import boundary_distance, corners, iou, ways
from geoseg.evaluation.matching import match
from geoseg.outlines import Outlines

SQUARE = np.radians(5.0)
"""A corner this near to 90 degrees is a right one."""


def main() -> None:
    """Parse the arguments and print a table per ground."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--scenes", type=int, default=10, help="generated towns")
    options = asked.parse_args()
    model = geoseg.load_model("buildings")
    with tempfile.TemporaryDirectory() as folder:
        towns = list(generated("buildings", options.scenes, FIRST_SEED, Path(folder)))
        grounds = {"generated towns": towns} | {case.name: [case] for case in real(None, Path(folder))}
        for title, cases in grounds.items():
            pairs = [_in_pixels(case, model) for case in cases]
            table(title, [seen for seen, _ in pairs], [truth for _, truth in pairs])


def _in_pixels(case: Case, model: geoseg.Detector) -> tuple[Outlines, Geometries]:
    """What the model draws there, overlaps and all, and what mappers drew, in pixels that the model sees."""
    plain = {"regularize": "none", "resolve_overlaps": False, "gap_px": 0.0}
    settings = geoseg.Settings.model_validate({"shapes": plain})
    found = geoseg.run(case.raster, model, settings=settings, aoi=case.aoi).footprints
    metres = found.estimate_utm_crs()
    pixel, left, bottom = model.card.gsd_m or 1.0, *found.to_crs(metres).total_bounds[:2]

    def pixels(frame: gpd.GeoDataFrame) -> Geometries:
        ground = shapely.force_2d(frame.to_crs(metres).geometry.to_numpy())
        return np.asarray(shapely.transform(ground, lambda xy: (xy - [left, bottom]) / pixel), dtype=object)

    n = len(found)
    seen = Outlines(
        geometry=pixels(found),
        scores=found["score"].to_numpy(np.float32),
        labels=np.zeros(n, np.int64),
        tiles=np.zeros((n, 2), np.int32),
    )
    return seen, shapely.make_valid(pixels(case.truth))


def table(title: str, seen: list[Outlines], truth: list[Geometries]) -> None:
    """All ways, side by side; distances in pixels."""
    print(f"\n{title}: {sum(map(len, seen))} outlines")
    print(
        f"{'':22}{'matched':>8}{'IoU':>7}{'dist.':>7}{'Hausd.':>8}{'median':>8}{'corners':>9}{'right':>7}{'holes':>7}"
    )
    for name, way in ways().items():
        drawn, true = [], []
        for outlines, labels in zip(seen, truth, strict=True):
            shapes = way(outlines)
            shapes = shapes[~shapely.is_empty(shapes)]
            pairs = match(shapes, labels)
            drawn.append(shapes[pairs.pred])
            true.append(labels[pairs.truth])
        print(f"{name:22}{_figures(np.concatenate(drawn), np.concatenate(true))}")
    print(f"{'labels':22}{_figures(np.concatenate(true), np.concatenate(true))}")


def _figures(drawn: Geometries, truth: Geometries) -> str:
    distance, greatest = boundary_distance(drawn, truth)
    holes = sum(shapely.get_num_interior_rings(shapely.get_parts(drawn)))
    return (
        f"{len(drawn):8}{iou(drawn, truth).mean():7.3f}{distance.mean():7.2f}{greatest.mean():8.2f}"
        f"{np.median(greatest):8.2f}{np.median(corners(drawn)):9.0f}{_right(drawn):7.0%}{holes:7}"
    )


def _right(geometry: Geometries) -> float:
    """Share of corners, of ten degrees and more, that are right angles."""
    turns = []
    for ring in shapely.get_rings(shapely.get_parts(geometry)):
        step = np.diff(shapely.get_coordinates(ring), axis=0)
        angle = np.arctan2(step[:, 1], step[:, 0])
        turns.append(np.abs((np.diff(angle, append=angle[:1]) + np.pi) % (2 * np.pi) - np.pi))
    turn = np.concatenate(turns)
    turn = turn[turn > np.radians(10)]
    return float((np.abs(turn - np.pi / 2) < SQUARE).mean())


if __name__ == "__main__":
    main()
