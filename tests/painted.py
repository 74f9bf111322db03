"""Painted rasters, and a detector that sees exactly what was painted: for the tests of whole runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import scipy.ndimage
import shapely
from affine import Affine
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import shapes

import geoseg

CARD = geoseg.ModelCard(classes=("first", "second"), name="painted", core=64, halo=16)
PLACES: dict[str, tuple[str, Affine]] = {
    "north_up": ("EPSG:32645", Affine(0.5, 0, 350_000, 0, -0.5, 3_050_000)),
    "rotated": (
        "EPSG:32645",
        Affine.translation(350_000, 3_050_000) @ Affine.rotation(31.0) @ Affine.scale(0.4, -0.4),
    ),
    "south_up": ("EPSG:32645", Affine(2.0, 0, 350_000, 0, 2.0, 3_050_000)),
    "non_square": ("EPSG:32645", Affine(1.0, 0, 350_000, 0, -2.5, 3_050_000)),
    "degrees": ("EPSG:4326", Affine(4e-6, 0, 85.5, 0, -3e-6, 27.63)),
    "mercator": ("EPSG:3857", Affine(0.5, 0, 9_520_000, 0, -0.5, 3_200_000)),
}


@dataclass(frozen=True, kw_only=True)
class Painted:
    """Sees each connected area of one value as one object, cut at the window; odd values are the first class."""

    card: geoseg.ModelCard = CARD
    ignore: tuple[int, ...] = ()
    """Values that are no object."""
    seen: list[Any] = field(default_factory=list)
    """Chips, as they came."""

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """One set of instances per chip."""
        self.seen.extend(chips)
        return [self._one(chip) for chip in chips]

    def _one(self, chip: geoseg.Chip) -> geoseg.Instances:
        boxes, masks, values = [], [], []
        pixels = np.where(chip.valid, chip.pixels[0], 0)
        for value in np.unique(pixels):
            if value == 0 or value in self.ignore:
                continue
            components, _ = scipy.ndimage.label(pixels == value)
            for number, (rows, cols) in enumerate(scipy.ndimage.find_objects(components), start=1):
                boxes.append((cols.start, rows.start, cols.stop, rows.stop))
                masks.append(components[rows, cols] == number)
                values.append(int(value))
        return geoseg.Instances(
            boxes=np.array(boxes, float),
            scores=[0.5 + value / 512 for value in values],
            labels=[(value + 1) % 2 for value in values],
            masks=masks,
        )


def write_raster(path: Path, pixels: NDArray[Any], place: str = "north_up", **profile: Any) -> Path:
    """A GeoTIFF of ``(h, w)`` or ``(bands, h, w)`` pixels."""
    bands = pixels[None] if pixels.ndim == 2 else pixels
    crs, transform = PLACES[place]
    profile = {"compress": "deflate", "crs": crs, "transform": transform, **profile}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=bands.shape[1],
        width=bands.shape[2],
        count=len(bands),
        dtype=bands.dtype,
        **profile,
    ) as out:
        out.write(bands)
    return path


def truth_of(pixels: NDArray[Any], place: str = "north_up") -> list[tuple[str, Any]]:
    """Label and ground polygon of each painted object, by GDAL's own polygonizing."""
    return [(CARD.classes[(value + 1) % 2], shape) for value, shape in areas_of(pixels, PLACES[place][1])]


def areas_of(pixels: NDArray[Any], transform: Affine) -> list[tuple[int, Any]]:
    """Value and polygon of each connected area that is not 0, by GDAL's own polygonizing."""
    found = shapes(pixels.astype(np.uint8), mask=pixels > 0, connectivity=4, transform=transform)
    return [(int(value), shapely.geometry.shape(shape)) for shape, value in found]


def pixel_area(place: str) -> float:
    """Area of a pixel in the units of the CRS."""
    return abs(PLACES[place][1].determinant)


def boxes(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Boxes of rows and columns, valued 1, 2, ..."""
    pixels = np.zeros(shape, np.uint8)
    for value, (top, bottom, left, right) in enumerate(boxes, start=1):
        pixels[top:bottom, left:right] = value
    return pixels


BESIDE = boxes((93, 23), (29, 60, 22, 23), (46, 53, 12, 22), (38, 45, 12, 22))
"""A thin one that windows cut, beside two that are seen whole."""


@st.composite
def scenes(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Boxes, rings, Ls and strips, over and beside each other, on a canvas that is never square by design."""
    height, width = draw(st.integers(20, 90)), draw(st.integers(20, 120))
    pixels = np.zeros((height, width), np.uint8)
    for value in range(1, draw(st.integers(1, 7)) + 1):
        row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        tall, wide = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["box", "ring", "ell", "row", "column"]))
        if kind == "row":
            tall, wide = draw(st.integers(1, 6)), width
        elif kind == "column":
            tall, wide = height, draw(st.integers(1, 6))
        pixels[row : row + tall, col : col + wide] = value
        if kind == "ring":
            pixels[row + 3 : row + tall - 3, col + 3 : col + wide - 3] = 0
        if kind == "ell":
            pixels[row : row + tall // 2, col : col + wide // 2] = 0
    return pixels


def numbered(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """A table of footprints in order with unique ids, as a run's stream gives them: later twins have got a number."""
    rank = table.groupby("id").cumcount()
    return table.assign(id=table["id"].where(rank == 0, table["id"] + "-" + (rank + 1).astype(str)))
