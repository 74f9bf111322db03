"""The pictures of docs/shapes.md.

python -m benchmarks.shape_pictures docs/img
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image, ImageDraw
from shapely.affinity import rotate, translate

import geoseg
from benchmarks.known import Geometries, drawn, one_building, ships
from benchmarks.regularize import shaping_of
from geoseg.config import Settings
from geoseg.overlay import read_view, to_picture
from geoseg.regularize import resolve_overlaps
from geoseg.shaping import shaped
from geoseg.window import Window

SCALE = 3
"""Picture pixels to a grid pixel."""
PLOT = 112
"""Side of a plot in grid pixels."""
FINER = 3
"""Drawn this many times larger, then averaged: that smooths the lines."""
TRUTH, LINE, WALL = (196, 196, 196), (200, 60, 40), (30, 90, 170)
TOWN = Path(__file__).parent.parent / "data_samples" / "town.tif"


def panel(shapes: Geometries, truth: Geometries, box: tuple[float, ...], title: str) -> Image.Image:
    """Outlines over the grey truth; ground that two of them cover in black."""
    scale = SCALE * FINER
    size = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)

    def at(ring: Any) -> list[tuple[float, float]]:
        return [((x - box[0]) * scale, (y - box[1]) * scale) for x, y in ring.coords]

    def fill(geometry: Any, colour: Any) -> None:
        for part in shapely.get_parts([geometry]):
            if part.geom_type == "Polygon" and not part.is_empty:
                pen.polygon(at(part.exterior), fill=colour)
                for hole in part.interiors:
                    pen.polygon(at(hole), fill="white")

    for shape in truth:
        fill(shape, TRUTH)
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    for common in shapely.intersection(shapes[one[one < other]], shapes[other[one < other]]):
        for part in shapely.get_parts(common):
            fill(part, "black")
    for shape in shapes:
        for part in shapely.get_parts([shape]):
            for ring in (part.exterior, *part.interiors):
                pen.line(at(ring), fill=LINE, width=FINER * 2, joint="curve")
                for x, y in at(ring):
                    pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=WALL)
    image = image.resize((size[0] // FINER, size[1] // FINER), Image.Resampling.LANCZOS)
    ImageDraw.Draw(image).text((6, 4), title, fill="black", font_size=16)
    return image


def row(panels: list[Image.Image], path: Path) -> None:
    """Pictures side by side."""
    gap = 8
    paper = Image.new("RGB", (sum(p.width + gap for p in panels) - gap, panels[0].height), (120, 120, 120))
    left = 0
    for each in panels:
        paper.paste(each, (left, 0))
        left += each.width + gap
    paper.quantize(128).save(path, optimize=True)


def known(folder: Path) -> None:
    """A straight terrace, a bent one, a courtyard and an L, as a network draws them, and in shape; and ships."""
    truth = placed([(3, "terrace"), (14, "terrace"), (1, "courtyard"), (2, "L")], columns=2)
    seen = drawn(truth, seed=4, ragged=1.0)
    box = (0.0, 0.0, 2.0 * PLOT, 2.0 * PLOT)
    panels = [panel(seen.geometry, truth, box, "as the network draws them")]
    for way in ("none", "buildings"):
        panels.append(panel(shaped(seen, shaping_of(way)).geometry, truth, box, f'regularize = "{way}"'))
    row(panels, folder / "shapes-buildings.png")
    fleet = ships(12, seed=2)[0][[2, 5, 8, 11]]
    for number, ship in enumerate(fleet):
        at = PLOT * (np.array([number % 2, number // 2]) + 0.5) - np.array(ship.centroid.coords[0])
        fleet[number] = translate(ship, *at)
    raw = drawn(fleet, seed=2, ragged=1.0)
    two = [raw.geometry, shaped(raw, shaping_of("ships")).geometry]
    names = ("as the network draws them", 'regularize = "ships"')
    row([panel(shapes, fleet, box, name) for shapes, name in zip(two, names, strict=True)], folder / "shapes-ships.png")


def placed(plots: list[tuple[int, str]], *, columns: int) -> Geometries:
    """Buildings of the given seeds and kinds, a plot each, turned."""
    found: list[Any] = []
    for number, (seed, kind) in enumerate(plots):
        houses = one_building(kind, np.random.default_rng(seed))
        middle = shapely.union_all(houses).envelope.centroid
        at = PLOT * (np.array([number % columns, number // columns]) + 0.5) - [middle.x, middle.y]
        found += [translate(rotate(house, 20 + 15 * number, origin=middle), *at) for house in houses]
    truth = np.empty(len(found), dtype=object)
    truth[:] = found
    return resolve_overlaps(truth)


def town(folder: Path) -> None:
    """What the bundled model finds, before and after."""
    model = geoseg.load_model("buildings")
    view = Window(row_off=90, col_off=100, height=300, width=400)
    panels = []
    for way in ("none", "buildings"):
        settings = Settings.model_validate({"shapes": {"regularize": way}})
        found = geoseg.extract(TOWN, model, settings=settings)
        pixels, _, grid = read_view(TOWN, window=view, max_side=800)
        image = Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
        pen = ImageDraw.Draw(image)
        for shape in to_picture(found.geometry, grid):
            for part in shapely.get_parts([shape]):
                for ring in (part.exterior, *part.interiors):
                    pen.line([(x, y) for x, y in ring.coords], fill=(255, 210, 60), width=3, joint="curve")
        pen.text((6, 4), f'regularize = "{way}"', fill="white", font_size=16, stroke_width=2, stroke_fill="black")
        panels.append(image)
    row(panels, folder / "shapes-town.png")


def main(folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    known(Path(folder))
    town(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
