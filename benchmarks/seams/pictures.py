"""The pictures of docs/seams.md.

python -m benchmarks.seams.pictures docs/img
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image, ImageDraw
from shapely import affinity

from benchmarks.seams.detectors import Seen, ragged
from benchmarks.seams.merges import nmm, nms, ours
from benchmarks.seams.scenes import Scene
from geoseg.tiling import Plan, Tiling
from geoseg.window import Window

SCALE = 2
"""Picture pixels to a grid pixel."""
AREA = Window(row_off=0, col_off=0, height=230, width=330)
TILING = Tiling(core=110, halo=24)
SHADES = ((214, 92, 70), (56, 132, 190), (70, 160, 90), (190, 140, 40), (140, 90, 180), (60, 160, 160), (200, 90, 150))


def known() -> Scene:
    """A quay across three tiles, a terrace, boats side by side, a yard with a house in it."""
    quay = affinity.rotate(shapely.box(14, 192, 316, 205), -7)
    terrace = [shapely.box(68 + 17 * k, 16, 85 + 17 * k, 44) for k in range(5)]
    boats = [affinity.rotate(shapely.box(232, 66 + 13 * k, 296, 79 + 13 * k), 24, origin=(264, 98)) for k in range(4)]
    yard = [shapely.box(74, 78, 166, 148).difference(shapely.box(90, 94, 150, 132)), shapely.box(104, 104, 136, 122)]
    geometry = np.array([quay, *terrace, *boats, *yard])
    return Scene(
        area=AREA, geometry=geometry, labels=np.zeros(len(geometry), np.int64), kinds=np.full(len(geometry), "shown")
    )


def draw(geometry: Any, plan: Plan, *, title: str) -> Image.Image:
    """Outlines over the lattice of tiles: cores in grey lines, windows' edges dotted by their rims."""
    size = (AREA.width * SCALE, AREA.height * SCALE + 26)
    image = Image.new("RGB", size, "white")
    for number, outline in enumerate(geometry):
        layer = Image.new("L", size, 0)
        brush = ImageDraw.Draw(layer)
        for part in shapely.get_parts([outline]):
            brush.polygon(_points(part.exterior), fill=110)
            for ring in part.interiors:
                brush.polygon(_points(ring), fill=0)
        image.paste(SHADES[number % len(SHADES)], mask=layer)
        pen = ImageDraw.Draw(image)
        for part in shapely.get_parts([outline]):
            for ring in (part.exterior, *part.interiors):
                pen.line(_points(ring), fill=SHADES[number % len(SHADES)], width=2)
    pen = ImageDraw.Draw(image)
    for tile in plan.tiles():
        x0, y0, x1, y1 = (SCALE * value for value in tile.core.xyxy)
        pen.rectangle((x0, y0 + 26, x1 - 1, y1 + 25), outline=(170, 170, 170))
    pen.rectangle((0, 0, size[0], 25), fill="white")
    pen.text((6, 6), f"{title}: {len(geometry)}", fill="black", font_size=15)
    return image


def _points(ring: Any) -> list[tuple[float, float]]:
    return [(x * SCALE, y * SCALE + 26) for x, y in ring.coords]


def sheet(images: list[Image.Image], path: Path) -> None:
    """Pictures in two columns."""
    width, height = images[0].size
    paper = Image.new("RGB", (2 * width + 12, -(-len(images) // 2) * (height + 12) - 12), "white")
    for number, image in enumerate(images):
        paper.paste(image, (number % 2 * (width + 12), number // 2 * (height + 12)))
    paper.quantize(64).save(path, optimize=True)


def main(folder: str) -> None:
    """Draw them all."""
    plan, scene = TILING.plan(AREA), known()
    seen: Seen = ragged(scene, plan, 7)
    results = [("what the tiles say", seen.outlines.geometry), ("box NMS", nms(seen, plan)[0])]
    results += [("box NMM", nmm(seen, plan)[0]), (f"geoseg ({len(scene)} true)", ours(seen, plan)[0])]
    sheet([draw(geometry, plan, title=title) for title, geometry in results], Path(folder) / "seams-four-ways.png")


if __name__ == "__main__":
    main(sys.argv[1])
