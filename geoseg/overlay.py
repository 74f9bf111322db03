"""A picture to look at: the raster, the footprints on it, the truth where there is one, a legend."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from geoseg.config import Settings
from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError
from geoseg.gaps import EXPECTED
from geoseg.grid import Grid
from geoseg.job import opened
from geoseg.paths import distinct, expanded
from geoseg.picture import Entry, blend, filled, lines, with_legend
from geoseg.polygons import share_inside
from geoseg.raster import Reader, Scaling, source_for
from geoseg.sinks.atomic import replacing
from geoseg.sinks.colours import ERROR_COLOURS, GREY, RGB, darker, label_colours, label_text
from geoseg.tiling import Tile
from geoseg.vectors import check_table, from_table, in_pixels
from geoseg.window import Window

log = logging.getLogger("geoseg")

_MAGNIFIED = 4.0  # small rasters are enlarged at most this much
_FILL, _NO_DATA, _TRUTH = 0.25, (228, 228, 228), (255, 255, 255)
_LINE, _TRUTH_LINE = 2.2, 1.5  # picture pixels
_OUTSIDE, _LOST, _VEIL = (90, 90, 90), (200, 20, 20), 0.55


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
        footprints: polygons in any CRS; the colours follow ``label`` where there is such a column, in a layer of errors
            their ``kind``.
        out_png: the picture to write (``.png``).
        truth: polygons in any CRS.
        gaps: those of the run (``Extraction.gaps``): the AOI's border, and what could not be examined.
        max_side: longer side of the picture in pixels, without the legend under it.
        window: the part of the raster to show, in its pixels; None: all of it.
        settings: those of the run, of which ``[raster]`` counts (assumed CRS, bands, limits); None: the defaults.

    Logs a warning where there are footprints, or truth, but none of them comes into the picture.

    Raises:
        ConfigError: another suffix, the raster itself, no such folder, no table or one without a CRS, or a window off
            the raster.
        RasterError: the raster cannot be read.
        SinkError: the picture cannot be written; what stood there before is intact.
    """
    target = expanded(out_png)
    if target.suffix.lower() != ".png":
        raise ConfigError(f"a picture {target.name!r}", allowed="a name that ends in .png")
    distinct([target], [raster])
    if not isinstance(max_side, Real) or not max_side >= 1:
        raise ConfigError(f"a picture of {max_side!r} pixels", allowed="1 or more")
    if not isinstance(window, Window | None):
        raise ConfigError(f"a window of type {type(window).__name__}", allowed="a geoseg.Window")
    for name, table in (("footprints", footprints), ("truth", truth), ("gaps", gaps)):
        if not (table is None and name != "footprints"):
            check_table(table, name)
    pixels, valid, grid = read_view(raster, window=window, max_side=max_side, settings=settings)
    picture = np.where(valid[..., None], pixels, np.array(_NO_DATA, np.uint8)).astype(np.float32)
    entries, drawn = [] if gaps is None else _draw_gaps(picture, gaps, grid), 0
    for name, colour, shapes in _by_label(footprints):
        places = to_picture(shapes, grid, "footprints")
        drawn += len(places)
        blend(picture, filled(places, grid), colour, _FILL)
        blend(picture, lines(places, grid, _LINE), darker(colour, 0.9), 1.0)
        entries.append(Entry(text=f"{name} ({len(places):,})", colour=colour, framed=False))
    _say_if_apart("footprints", len(footprints), drawn)
    if truth is not None:
        places = to_picture(_ground(truth, "truth").geometry, grid, "truth")
        _say_if_apart("truth", len(truth), len(places))
        blend(picture, lines(places, grid, _TRUTH_LINE + 1.2), (0, 0, 0), 0.55)
        blend(picture, lines(places, grid, _TRUTH_LINE), _TRUTH, 1.0)
        looked = len(places) if gaps is None else _looked_at(places, to_picture(gaps.geometry, grid, "gaps"))
        told = f"{looked:,}" if looked == len(places) else f"{looked:,} on examined ground, {len(places):,} in all"
        entries.append(Entry(text=f"truth ({told})", colour=_TRUTH, framed=True))
    whole = with_legend(Image.fromarray(picture.round().astype(np.uint8)), entries, grid)
    with replacing(target) as (draft,):
        whole.save(draft, format="PNG", optimize=False)
    return target


def _draw_gaps(picture: NDArray[np.float32], gaps: gpd.GeoDataFrame, grid: Grid) -> list[Entry]:
    """Lay gaps on the picture, and tell them; what holds nothing has a colour of its own already."""
    if "reason" not in gaps:
        raise ConfigError("gaps without a column reason", allowed="those of a run (Extraction.gaps)")
    entries, reasons = [], gaps.reason.to_numpy(str)
    lost = sorted({*reasons} - {*EXPECTED})
    for text, which, veil, line in (
        ("outside the AOI", ["outside_aoi"], _TRUTH, _OUTSIDE),
        (f"not examined ({', '.join(lost)})", lost, _LOST, _LOST),
    ):
        places = to_picture(gaps.geometry[np.isin(reasons, which)], grid, "gaps")
        if len(places):
            blend(picture, filled(places, grid), veil, _VEIL)
            blend(picture, lines(places, grid, _TRUTH_LINE), line, 1.0)
            entries.append(Entry(text=text, colour=veil, framed=False))
    return entries


def _looked_at(places: NDArray[Any], gaps: NDArray[Any]) -> int:
    """How many lie by at least half where the run looked, as evaluation counts them."""
    unseen = shapely.union_all(shapely.make_valid(gaps))
    return int((share_inside(shapely.make_valid(places), unseen) <= 0.5).sum())


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
    info = opened(raster, told)
    area = info.grid.window if window is None else window.intersection(info.grid.window)
    if area.empty:
        raise ConfigError(f"a window ({window}) off {info.name}", allowed=f"parts of {info.grid.window}")
    scale = min(_MAGNIFIED, max_side / max(area.height, area.width))
    source = source_for(
        info,
        ModelCard(classes=("object",)),
        bands=_colour_bands(info.roles, told.bands or {}),
        scaling=None if info.dtype == "uint8" else Scaling(percentiles=(2, 98)),
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


def _ground(table: gpd.GeoDataFrame, name: str) -> gpd.GeoDataFrame:
    """Its rows with a shape. They go by their place from here on: names in the index may be there twice."""
    from_table(table, name)  # refused where it has no CRS
    return table[~(table.geometry.isna() | table.geometry.is_empty).to_numpy()]


def _by_label(table: gpd.GeoDataFrame) -> Iterable[tuple[str, RGB, gpd.GeoSeries]]:
    """Name, colour and shapes of each label, or kind of error; one group where there are no labels."""
    table = _ground(table, "footprints")
    shapes = table.geometry
    if "kind" in table.columns and set(table.kind) <= set(ERROR_COLOURS):  # as ``geoseg evaluate --errors`` writes them
        kinds = table.kind.to_numpy(str)
        for kind, colour in ERROR_COLOURS.items():
            if (kinds == kind).any():
                yield kind, colour, shapes[kinds == kind]
        return
    if "label" not in table.columns:
        yield "footprints", label_colours(["building"])["building"], shapes
        return
    known = table.label.astype(object).where(lambda column: column.notna(), "")
    labels = known.map(label_text).to_numpy(str)
    for label, colour in label_colours(set(labels) - {""}).items():
        yield label, colour, shapes[labels == label]
    if (labels == "").any():
        yield "no label", GREY, shapes[labels == ""]
