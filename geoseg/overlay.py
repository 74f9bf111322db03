"""A picture to look at: the raster, the footprints on it, the truth where there is one, a legend."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from geoseg.config import Settings
from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.job import access_of
from geoseg.paths import expanded
from geoseg.raster import Reader, Scaling, open_raster, source_for
from geoseg.sinks.atomic import replacing
from geoseg.sinks.colours import RGB, darker, label_colours
from geoseg.tiling import Tile
from geoseg.vectors import from_table, in_pixels
from geoseg.window import Window

log = logging.getLogger("geoseg")

_FINER = 4  # shapes are drawn on a lattice this many times finer, then averaged: that smooths their edges
_MAGNIFIED = 4.0  # small rasters are enlarged at most this much
_FILL, _NO_DATA, _TRUTH = 0.25, (228, 228, 228), (255, 255, 255)
_LINE, _TRUTH_LINE = 2.2, 1.5  # picture pixels
_OUTSIDE, _LOST, _VEIL = (90, 90, 90), (200, 20, 20), 0.55
_TEXT, _ROW, _MARGIN = 15, 26, 10  # picture pixels


def preview(
    raster: str | Path,
    footprints: gpd.GeoDataFrame,
    out_png: str | Path,
    *,
    truth: gpd.GeoDataFrame | None = None,
    gaps: gpd.GeoDataFrame | None = None,
    max_side: int = 1600,
    window: Window | None = None,
    settings: Settings | None = None,
) -> Path:
    """Draw footprints over their raster, coloured by label, with the truth as thin white lines on top.

    Ground that was not examined is told from ground where nothing was found: outside the AOI the picture is pale.

    Args:
        raster: what the footprints were found in.
        footprints: polygons in any CRS; the colours follow ``label`` where there is such a column.
        out_png: the picture to write (``.png``).
        truth: polygons in any CRS.
        gaps: those of the run (``Extraction.gaps``): the AOI's border, and what could not be examined.
        max_side: longer side of the picture in pixels, without the legend under it.
        window: the part of the raster to show, in its pixels; None: all of it.
        settings: those of the run, of which ``[raster]`` counts (assumed CRS, bands, limits); None: the defaults.

    Logs a warning where there are footprints, or truth, but none of them comes into the picture.

    Raises:
        ConfigError: another suffix, no such folder, a table without a CRS, or a window off the raster.
        RasterError: the raster cannot be read.
        SinkError: the picture cannot be written; what stood there before is intact.
    """
    target = expanded(out_png)
    if target.suffix.lower() != ".png":
        raise ConfigError(f"a picture {target.name!r}", allowed="a name that ends in .png")
    if max_side < 1:
        raise ConfigError(f"a picture of {max_side} pixels", allowed="1 or more")
    pixels, valid, grid = read_view(raster, window=window, max_side=max_side, settings=settings)
    picture = np.where(valid[..., None], pixels, np.array(_NO_DATA, np.uint8)).astype(np.float32)
    entries, drawn = [] if gaps is None else _draw_gaps(picture, gaps, grid), 0
    for name, colour, shapes in _by_label(footprints):
        places = to_picture(shapes, grid, "footprints")
        drawn += len(places)
        _blend(picture, _filled(places, grid), colour, _FILL)
        _blend(picture, _lines(places, grid, _LINE), darker(colour, 0.9), 1.0)
        entries.append(_Entry(text=f"{name} ({len(places):,})", colour=colour, framed=False))
    _say_if_apart("footprints", len(footprints), drawn)
    if truth is not None:
        places = to_picture(_ground(truth, "truth"), grid, "truth")
        _say_if_apart("truth", len(truth), len(places))
        _blend(picture, _lines(places, grid, _TRUTH_LINE + 1.2), (0, 0, 0), 0.55)
        _blend(picture, _lines(places, grid, _TRUTH_LINE), _TRUTH, 1.0)
        entries.append(_Entry(text=f"truth ({len(places):,})", colour=_TRUTH, framed=True))
    whole = _with_legend(Image.fromarray(picture.round().astype(np.uint8)), entries, grid)
    with replacing(target) as (draft,):
        whole.save(draft, format="PNG", optimize=False)
    return target


def _draw_gaps(picture: NDArray[np.float32], gaps: gpd.GeoDataFrame, grid: Grid) -> list[_Entry]:
    """Lay gaps on the picture, and tell them; what holds nothing has a colour of its own already."""
    if "reason" not in gaps:
        raise ConfigError("gaps without a column reason", allowed="those of a run (Extraction.gaps)")
    entries, reasons = [], gaps.reason.to_numpy(str)
    lost = sorted({*reasons} - {"outside_aoi", "nodata"})
    for text, which, veil, line in (
        ("outside the AOI", ["outside_aoi"], _TRUTH, _OUTSIDE),
        (f"not examined ({', '.join(lost)})", lost, _LOST, _LOST),
    ):
        places = to_picture(gaps.geometry[np.isin(reasons, which)], grid, "gaps")
        if len(places):
            _blend(picture, _filled(places, grid), veil, _VEIL)
            _blend(picture, _lines(places, grid, _TRUTH_LINE), line, 1.0)
            entries.append(_Entry(text=text, colour=veil, framed=False))
    return entries


def _say_if_apart(name: str, given: int, drawn: int) -> None:
    if given and not drawn:
        log.warning(
            "none of the %d %s lie in the picture: are they of this raster, in the CRS they state?", given, name
        )


def read_view(
    raster: str | Path, *, window: Window | None, max_side: int, settings: Settings | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Grid]:
    """The raster as a picture: ``(height, width, 3)`` colours, ``(height, width)`` valid, and their grid.

    Colours are the bands called red, green and blue (by the settings, else by the file), else the first three, else
    the first as grey. What is not 8-bit is stretched between its 2nd and 98th percentiles.
    """
    told = (settings or Settings()).raster
    info = open_raster(raster, access=access_of(told), assume_crs=told.assume_crs)
    area = info.grid.window if window is None else window.intersection(info.grid.window)
    if area.empty:
        raise ConfigError(f"a window ({window}) off {info.name}", allowed=f"parts of {info.grid.window}")
    scale = min(_MAGNIFIED, max_side / max(area.height, area.width))
    source = source_for(
        info,
        ModelCard(classes=("object",)),
        bands=_colour_bands(info.roles, told.bands or {}),
        scaling=None if info.dtype == "uint8" else Scaling.stretch(2, 98),
    )
    height, width = (max(1, round(side * scale)) for side in (info.grid.height, info.grid.width))
    shrunk = info.grid.resized(height=height, width=width)
    part = _scaled(area, info.grid, shrunk)
    with Reader(replace(source, grid=shrunk)) as reader:
        chips, _ = reader.read([Tile(row=0, col=0, core=part, window=part)])
    if not chips:  # nothing valid at all
        shape = (part.height, part.width)
        return np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool), shrunk.crop(part)
    colours = np.moveaxis(chips[0].pixels, 0, -1)
    return np.broadcast_to(colours, (*colours.shape[:2], 3)), chips[0].valid, shrunk.crop(part)


def to_picture(shapes: gpd.GeoSeries, grid: Grid, what: str = "shapes") -> NDArray[Any]:
    """Those of the shapes (with a CRS) that touch the picture, in its pixels (x = column, y = row)."""
    moved = in_pixels(from_table(shapes, what), grid)
    frame = shapely.box(0, 0, grid.width, grid.height)
    return np.asarray(moved[shapely.intersects(moved, frame)], dtype=object)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One line of the legend."""

    text: str
    """What it says."""
    colour: RGB
    """Colour of the sample."""
    framed: bool
    """Whether the sample is a line in a dark frame, as the truth is drawn."""


def _colour_bands(roles: Sequence[str], told: Mapping[str, int]) -> dict[str, int]:
    names = ("red", "green", "blue")
    if all(name in told for name in names):
        return {name: told[name] for name in names}
    if all(roles.count(name) == 1 for name in names):
        return {name: roles.index(name) + 1 for name in names}
    usable = [number for number, role in enumerate(roles, 1) if role != "alpha"] or [1]
    return dict(zip(names, usable[:3], strict=False)) if len(usable) >= 3 else {"gray": usable[0]}


def _scaled(area: Window, grid: Grid, shrunk: Grid) -> Window:
    """The window of ``shrunk`` that covers ``area`` of ``grid``."""
    y, x = shrunk.height / grid.height, shrunk.width / grid.width
    row_off, col_off = math.floor(area.row_off * y + 1e-6), math.floor(area.col_off * x + 1e-6)
    return Window(
        row_off=row_off,
        col_off=col_off,
        height=max(1, math.ceil(area.row_end * y - 1e-6) - row_off),
        width=max(1, math.ceil(area.col_end * x - 1e-6) - col_off),
    )


def _ground(table: gpd.GeoDataFrame, name: str) -> gpd.GeoSeries:
    from_table(table, name)  # refused where it has no CRS
    return table.geometry[~(table.geometry.isna() | table.geometry.is_empty)]


def _by_label(table: gpd.GeoDataFrame) -> Iterable[tuple[str, RGB, gpd.GeoSeries]]:
    """Name, colour and shapes of each label; one group where there are no labels."""
    shapes = _ground(table, "footprints")
    if "label" not in table.columns:
        yield "footprints", label_colours(["building"])["building"], shapes
        return
    labels = table.label.loc[shapes.index].astype(object).where(lambda column: column.notna(), "no label")
    for label, colour in label_colours(str(label) for label in labels).items():
        yield label, colour, shapes[(labels.astype(str) == label).to_numpy()]


def _blend(picture: NDArray[np.float32], cover: NDArray[np.float32], colour: RGB, strength: float) -> None:
    """Lay ``colour`` on the picture, in place, by how much of each pixel is covered (0 to 1)."""
    weight = (cover * strength)[..., None]
    picture += weight * (np.asarray(colour, np.float32) - picture)


def _filled(shapes: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """How much of each pixel lies inside the shapes; their holes are left open."""
    canvas = Image.new("L", (grid.width * _FINER, grid.height * _FINER))
    draw = ImageDraw.Draw(canvas)
    for polygon in _polygons(shapes):
        if polygon.interiors:
            _fill_with_holes(canvas, polygon)
        else:
            draw.polygon(_points(polygon.exterior), fill=255)
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
    for ring, value in [(polygon.exterior, 255), *((hole, 0) for hole in polygon.interiors)]:
        draw.polygon([(x - left, y - top) for x, y in _points(ring)], fill=value)
    canvas.paste(255, (left, top), stencil)


def _lines(shapes: NDArray[Any], grid: Grid, width: float) -> NDArray[np.float32]:
    """How much of each pixel the outlines cover, ``width`` pixels wide, holes included."""
    canvas = Image.new("L", (grid.width * _FINER, grid.height * _FINER))
    draw = ImageDraw.Draw(canvas)
    for polygon in _polygons(shapes):
        for ring in (polygon.exterior, *polygon.interiors):
            points = _points(ring)
            draw.line([*points, points[1]], fill=255, width=max(1, round(width * _FINER)), joint="curve")
    return _cover(canvas)


def _polygons(shapes: NDArray[Any]) -> Iterable[shapely.Polygon]:
    parts = shapely.get_parts(shapes)
    return (part for part in parts if part.geom_type == "Polygon" and not part.is_empty)


def _points(ring: shapely.LinearRing) -> list[tuple[int, int]]:
    # Pillow cuts coordinates down towards 0; a point lies in the pixel whose corner is below it.
    xy = np.floor(shapely.get_coordinates(ring) * _FINER).astype(int)
    return [(int(x), int(y)) for x, y in xy]


def _cover(canvas: Image.Image) -> NDArray[np.float32]:
    return np.asarray(canvas.reduce(_FINER), np.float32) / np.float32(255)


def _with_legend(picture: Image.Image, entries: Sequence[_Entry], grid: Grid) -> Image.Image:
    """The picture with a strip under it: the labels, and a bar of a round length of ground."""
    font = ImageFont.load_default(size=_TEXT)
    width = max(picture.width, 300)
    bar_m, bar_px = scale_bar(grid.gsd_xy_m[0], picture.width)
    places, x, row = [], _MARGIN, 0
    for entry in entries:
        length = 30 + round(font.getlength(entry.text)) + 2 * _MARGIN
        if x > _MARGIN and x + length > width:
            x, row = _MARGIN, row + 1
        places.append((x, row))
        x += length
    bar_text = f"{bar_m:g} m" if bar_m < 1000 else f"{bar_m / 1000:g} km"
    bar_length = bar_px + 2 * _MARGIN + round(font.getlength(bar_text))
    if x + bar_length > width:
        row += 1
    whole = Image.new("RGB", (width, picture.height + (row + 1) * _ROW + _MARGIN), "white")
    whole.paste(picture, ((width - picture.width) // 2, 0))
    draw, top = ImageDraw.Draw(whole), picture.height + _MARGIN // 2
    for entry, (left, line) in zip(entries, places, strict=True):
        _draw_entry(draw, entry, (left, top + line * _ROW), font)
    left, middle = width - bar_length, top + row * _ROW + _ROW // 2
    ticks = [(left, middle - 5), (left, middle), (left + bar_px, middle), (left + bar_px, middle - 5)]
    draw.line(ticks, fill="black", width=2)
    draw.text((left + bar_px + _MARGIN, middle), bar_text, fill="black", font=font, anchor="lm")
    return whole


def _draw_entry(draw: ImageDraw.ImageDraw, entry: _Entry, corner: tuple[int, int], font: Any) -> None:
    x, y = corner[0], corner[1] + _ROW // 2
    if entry.framed:
        draw.line([(x, y), (x + 22, y)], fill=(90, 90, 90), width=6)
        draw.line([(x + 1, y), (x + 21, y)], fill=entry.colour, width=3)
    else:
        light = tuple(round(255 - (255 - channel) * 0.4) for channel in entry.colour)
        draw.rectangle([(x, y - 7), (x + 22, y + 7)], fill=light, outline=darker(entry.colour, 0.9), width=2)
    draw.text((x + 30, y), entry.text, fill="black", font=font, anchor="lm")


def scale_bar(metres_per_pixel: float, width: int) -> tuple[float, int]:
    """A round length (1, 2 or 5 times a power of ten) of at most a quarter of the picture: metres, pixels."""
    most = max(width / 4, 1) * metres_per_pixel
    power = 10.0 ** math.floor(math.log10(most))
    metres = max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9))
    return metres, max(1, round(metres / metres_per_pixel))
