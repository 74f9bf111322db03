"""Shapes and a legend laid on a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geoseg.grid import Grid
from geoseg.lettering import lettered, shortened
from geoseg.polygons import polygonal
from geoseg.sinks.colours import RGB, darker

_FINER = 4  # shapes are drawn on a lattice this many times finer, then averaged: that smooths their edges
_TEXT, _ROW, _MARGIN, _SAMPLE = 15, 26, 10, 30  # picture pixels


def blend(picture: NDArray[np.float32], cover: NDArray[np.float32], colour: RGB, strength: float) -> None:
    """Lay ``colour`` on the picture, in place, by how much of each pixel is covered (0 to 1)."""
    weight = (cover * strength)[..., None]
    picture += weight * (np.asarray(colour, np.float32) - picture)


def filled(shapes: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """How much of each pixel lies inside the shapes; their holes are left open."""
    canvas = Image.new("L", (grid.width * _FINER, grid.height * _FINER))
    draw = ImageDraw.Draw(canvas)
    polygons = _polygons(shapes)
    holed = shapely.get_num_interior_rings(polygons) > 0
    for points in _points(shapely.get_exterior_ring(polygons[~holed])):
        draw.polygon(points, fill=255)
    for polygon in polygons[holed]:
        _fill_with_holes(canvas, polygon)
    return _cover(canvas)


def _fill_with_holes(canvas: Image.Image, polygon: shapely.Polygon) -> None:
    """Through a stencil of its own, so that its holes do not erase what lies in them."""
    west, north, east, south = (value * _FINER for value in polygon.bounds)
    left, top = max(0, math.floor(west)), max(0, math.floor(north))
    right, bottom = min(canvas.width, math.ceil(east) + 1), min(canvas.height, math.ceil(south) + 1)
    if right <= left or bottom <= top:
        return
    stencil = Image.new("L", (right - left, bottom - top))
    draw = ImageDraw.Draw(stencil)
    for number, points in enumerate(_points(shapely.get_rings(polygon), left, top)):
        draw.polygon(points, fill=0 if number else 255)
    canvas.paste(255, (left, top), stencil)


def lines(shapes: NDArray[Any], grid: Grid, width: float) -> NDArray[np.float32]:
    """How much of each pixel the outlines cover, ``width`` pixels wide, holes included."""
    reach = round(width * _FINER) // 2
    canvas = Image.new("L", (grid.width * _FINER + 2 * reach, grid.height * _FINER + 2 * reach))
    draw = ImageDraw.Draw(canvas)
    for points in _points(shapely.get_rings(_polygons(shapes)), -reach, -reach):
        draw.line(points, fill=255)
    thick = Image.fromarray(_thickened(np.asarray(canvas), reach))
    return _cover(thick.crop((reach, reach, canvas.width - reach, canvas.height - reach)))


def _thickened(thin: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """What lies within ``reach`` and a half of a pixel that is set. All lines at once: Pillow draws the joints of wide
    ones one by one, which takes minutes for 100,000 outlines."""
    thick, wide, done = thin.copy(), thin.copy(), 0
    for dy in range(reach, -1, -1):
        half = int(math.sqrt((reach + 0.5) ** 2 - dy**2))
        for dx in range(done + 1, half + 1):
            np.maximum(wide[:, dx:], thin[:, :-dx], out=wide[:, dx:])
            np.maximum(wide[:, :-dx], thin[:, dx:], out=wide[:, :-dx])
        done = half
        np.maximum(thick[dy:], wide[: len(wide) - dy], out=thick[dy:])
        np.maximum(thick[: len(thick) - dy], wide[dy:], out=thick[: len(thick) - dy])
    return thick


def _polygons(shapes: NDArray[Any]) -> NDArray[Any]:
    parts = shapely.get_parts(polygonal(shapes))
    return np.asarray(parts[~shapely.is_empty(parts)], dtype=object)


def _points(rings: NDArray[Any], left: int = 0, top: int = 0) -> Iterator[list[int]]:
    """Of each ring x and y by turns, from the corner of the canvas."""
    # Pillow cuts coordinates down towards 0; a point lies in the pixel whose corner is below it.
    xy, of = shapely.get_coordinates(rings, return_index=True)
    xy = np.floor(xy * _FINER).astype(int) - (left, top)
    flat, count = xy.ravel().tolist(), 2 * np.bincount(of, minlength=len(rings))
    for end, some in zip(np.cumsum(count).tolist(), count.tolist(), strict=True):
        yield flat[end - some : end]


def _cover(canvas: Image.Image) -> NDArray[np.float32]:
    return np.asarray(canvas.reduce(_FINER), np.float32) / np.float32(255)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the legend."""

    text: str
    """What it says."""
    colour: RGB
    """Colour of the sample."""
    framed: bool
    """Whether the sample is a line in a dark frame, as the truth is drawn."""


def with_legend(picture: Image.Image, entries: Sequence[Entry], grid: Grid) -> Image.Image:
    """The picture with a strip under it: the labels, and a bar of a round length of ground."""
    width = max(picture.width, 300)
    bar_m, bar_px = scale_bar(grid.gsd_xy_m[0], picture.width)
    places, x, row = [], _MARGIN, 0
    for entry in entries:
        text, font = lettered(entry.text, _TEXT)
        text = shortened(text, font, width - _SAMPLE - 3 * _MARGIN)
        length = _SAMPLE + round(font.getlength(text)) + 2 * _MARGIN
        if x > _MARGIN and x + length > width:
            x, row = _MARGIN, row + 1
        places.append((x, row, text, font))
        x += length
    bar_text, font = lettered(f"{bar_m:g} m" if bar_m < 1000 else f"{bar_m / 1000:g} km", _TEXT)
    bar_length = bar_px + 2 * _MARGIN + round(font.getlength(bar_text))
    if x + bar_length > width:
        row += 1
    whole = Image.new("RGB", (width, picture.height + (row + 1) * _ROW + _MARGIN), "white")
    whole.paste(picture, ((width - picture.width) // 2, 0))
    draw, top = ImageDraw.Draw(whole), picture.height + _MARGIN // 2
    for entry, (left, line, text, letters) in zip(entries, places, strict=True):
        _draw_sample(draw, entry, (left, top + line * _ROW))
        draw.text((left + _SAMPLE, top + line * _ROW + _ROW // 2), text, fill="black", font=letters, anchor="lm")
    left, middle = width - bar_length, top + row * _ROW + _ROW // 2
    ticks = [(left, middle - 5), (left, middle), (left + bar_px, middle), (left + bar_px, middle - 5)]
    draw.line(ticks, fill="black", width=2)
    draw.text((left + bar_px + _MARGIN, middle), bar_text, fill="black", font=font, anchor="lm")
    return whole


def _draw_sample(draw: ImageDraw.ImageDraw, entry: Entry, corner: tuple[int, int]) -> None:
    x, y = corner[0], corner[1] + _ROW // 2
    if entry.framed:
        draw.line([(x, y), (x + 22, y)], fill=(90, 90, 90), width=6)
        draw.line([(x + 1, y), (x + 21, y)], fill=entry.colour, width=3)
    else:
        light = tuple(round(255 - (255 - channel) * 0.4) for channel in entry.colour)
        draw.rectangle([(x, y - 7), (x + 22, y + 7)], fill=light, outline=darker(entry.colour, 0.9), width=2)


def scale_bar(metres_per_pixel: float, width: int) -> tuple[float, int]:
    """A round length (1, 2 or 5 times a power of ten) of at most a quarter of the picture: metres, pixels."""
    most = max(width / 4, 1) * metres_per_pixel
    power = 10.0 ** math.floor(math.log10(most))
    metres = max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9))
    return metres, max(1, round(metres / metres_per_pixel))
