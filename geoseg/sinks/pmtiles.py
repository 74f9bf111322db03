"""PMTiles: a picture of footprints for web maps, as vector tiles in one file of which a browser fetches parts.

Outlines are rounded to the grid of their tile, and thinned where that is coarse: nothing to measure or to evaluate.
"""

from __future__ import annotations

import gzip
import json
import logging
import struct
import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
import shapely.affinity
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.errors import ConfigError, SinkError
from geoseg.paths import expanded
from geoseg.polygons import polygonal, valid
from geoseg.sinks import tables
from geoseg.sinks.atomic import printable, replacing
from geoseg.sinks.output import naming_the_column
from geoseg.vectors import check_table, reprojected

_log = logging.getLogger(__name__)

_LAYER = "footprints"
_EDGE_M = 20037508.342789244
"""Of the map, from its middle, in the metres of EPSG:3857: at 180 degrees, and at 85.05 degrees north and south."""
_UNITS = 4096
"""Steps of the grid to which a tile's outlines are rounded, along a side; an eighth of a pixel on the screen."""
_RIM = 80
"""Steps that a tile reaches beyond its sides."""
_FINE = 64
"""Steps across the typical footprint, at least, at the highest zoom."""
_LEVELS = 6
"""Zooms below the highest: from 64 steps across the typical footprint to about one, which is hardly seen any more."""
_MOST = 5_000
"""Footprints of a tile where it may leave some out, about 0.8 MB; below the highest zoom."""
_HIGHEST = 22
"""Zoom, the highest that GDAL writes."""


def write_pmtiles(footprints: gpd.GeoDataFrame, path: str | Path) -> Path:
    """Write polygons as vector tiles for web maps, whole or not at all: one layer, ``footprints``, with all columns.

    The highest zoom has all of them; below it a tile may hold only the largest. What could not be drawn is told in a
    warning: what has no area, lies beyond 85.05 degrees, or is finer than the highest zoom.

    Args:
        footprints: a table of polygons in any CRS. Without a column ``id`` of text that tells its rows apart they
            get one, ``row``, counted from 1.
        path: ``.pmtiles``. A file that stands there is replaced.

    Raises:
        ConfigError: another suffix, no GeoDataFrame, no CRS, one that does not lead to longitude and latitude, rows of
            which none can be drawn, or a column that the format cannot hold.
        SinkError: it cannot be written.
    """
    target = expanded(path)
    if target.suffix.lower() != ".pmtiles":
        raise ConfigError(f"a map named {target.name!r}", allowed="a name that ends in .pmtiles")
    check_table(footprints, _LAYER)
    tables.check_crs(footprints.crs, "web maps")
    drawn, key = _told_apart(_on_the_map(tables.flat(footprints)))
    with replacing(target, library_errors=tables.GDAL_ERRORS) as (draft,):
        if len(drawn):
            _write_tiles(drawn, draft, printable(target.stem), key)
        else:
            draft.write_bytes(_no_tiles(tables.attributes(drawn), printable(target.stem)))
    return target


def _on_the_map(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The rows that the map has room for, in its CRS: valid, 2-D, cut off at its edges.

    Raises:
        ConfigError: there are rows, and none of them is on the map.
    """
    areas = table[np.isin(shapely.get_type_id(table.geometry), (3, 6)) & ~table.geometry.is_empty]
    moved = reprojected(areas, CRS.from_epsg(3857))
    shapes = shapely.force_2d(moved.geometry.to_numpy())
    shapes[~np.isfinite(shapely.bounds(shapes)).all(axis=1)] = shapely.Polygon()  # a pole is infinitely far away
    shapes = valid(shapes)
    over = np.flatnonzero((np.abs(shapely.bounds(shapes)) > _EDGE_M).any(axis=1))
    shapes[over] = [_once_around(shape) for shape in shapes[over]]
    seen = shapely.area(shapes) > 0
    if left_out := len(table) - int(seen.sum()):
        if not seen.any():
            raise ConfigError(
                f"{left_out} footprints, none of which is on the map of the web",
                allowed="polygons, up to 85.05 degrees north and south",
                remedy="Take another format, such as .gpkg",
            )
        _log.warning("%s footprints left out: no polygons, or beyond 85.05 degrees, where web maps end", left_out)
    return moved.set_geometry(gpd.GeoSeries(shapes, moved.index, moved.crs))[seen].reset_index(drop=True)


def _once_around(shape: shapely.Geometry) -> shapely.Geometry:
    """What of a polygon is on the map: what goes on beyond 180 degrees begins at its other end."""
    turns = 2 * _EDGE_M * np.arange(-1, 2)
    pieces = shapely.intersection(shape, shapely.box(turns - _EDGE_M, -_EDGE_M, turns + _EDGE_M, _EDGE_M))
    moved = [shapely.affinity.translate(piece, -turn) for piece, turn in zip(pieces, turns, strict=True)]
    return polygonal(np.array([shapely.union_all(moved)], dtype=object))[0]


def _told_apart(table: gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, str]:
    """The table, and which of its columns tells rows apart: text, as readers round whole numbers beyond 2^53."""
    if "id" in table and table["id"].map(lambda value: isinstance(value, str)).all() and table["id"].is_unique:
        return table, "id"
    name = "row"
    while name in table:
        name += "_"
    return table.assign(**{name: np.arange(1, len(table) + 1)}), name


def _write_tiles(table: gpd.GeoDataFrame, draft: Path, name: str, key: str) -> None:
    # Part by part: GDAL goes through all tiles of a shape's bounds, and two parts may lie at both ends of the map.
    parts = table.explode()
    low, high, most = _zooms(parts.geometry.to_numpy())
    with naming_the_column(_LAYER, table):
        tables.write_layer(
            parts,
            draft,
            layer=_LAYER,
            driver="PMTiles",
            multi=False,
            dataset_options={
                "NAME": name,
                "MINZOOM": low,
                "MAXZOOM": high,
                "EXTENT": _UNITS,
                "BUFFER": _RIM,
                "SIMPLIFICATION": 1,  # steps of the tile's grid
                "SIMPLIFICATION_MAX_ZOOM": 0,
                # Above its limits GDAL first rounds coarser, then leaves out the smallest, without a word: the highest
                # zoom must meet none, and these are for all zooms alike.
                "MAX_SIZE": 2**31 - 1,
                "MAX_FEATURES": max(_MOST, most + 1),
            },
        )
    found = {zoom: _different(draft, key, zoom) for zoom in range(low, high + 1)}
    whole = max((zoom + 1 for zoom in found if found[zoom] < len(table)), default=low)
    if lost := len(table) - found[high]:
        across = pd.Series(_across(parts.geometry.to_numpy()), parts.index).groupby(level=0).max()
        if lost > int((across < 4 * _step(high)).sum()):  # others cannot have been rounded away
            raise SinkError(f"{len(table)} rows were written but {found[high]} are read back", remedy="Check the disk")
        _log.warning("%s footprints left out: finer than zoom %s, the highest, shows", lost, high)
    _log.info("zooms %s to %s%s", low, high, f"; all footprints from zoom {whole} on" if not lost else "")


def _zooms(shapes: NDArray[Any]) -> tuple[int, int, int]:
    """The lowest and the highest zoom, and how many footprints a tile of that one holds at most."""
    steps = _step(0) / _across(shapes)
    fine = int(np.clip(np.ceil(np.log2(np.median(steps) * _FINE)), 0, _HIGHEST))
    finest = int(np.clip(np.ceil(np.log2(steps.max() * 2)), fine, min(fine + 2, _HIGHEST)))  # the smallest ones, too
    bounds, room = shapely.bounds(shapes), 2_000 + 16 * len(shapes)
    # Among small ones one that is large lies in very many tiles: then outlines are coarser rather.
    high = next(zoom for zoom in range(finest, -1, -1) if zoom == 0 or _tiles(bounds, zoom)[1].sum() < room)
    return min(max(fine - _LEVELS, 0), high), high, _most_in_a_tile(*_tiles(bounds, high))


def _across(shapes: NDArray[Any]) -> NDArray[np.float64]:
    """``(n,)`` metres: of a square its side, of a long strip twice its width."""
    return np.asarray(4 * shapely.area(shapes) / shapely.length(shapes), float)


def _step(zoom: int) -> float:
    """Metres of the grid of a tile."""
    return 2 * _EDGE_M / _UNITS / 2.0**zoom


def _tiles(bounds: NDArray[np.float64], zoom: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Tiles that polygons lie in by their bounds ``(n, 4)``: ``(n, 2)`` the first, ``(n,)`` how many, ``(n,)`` of them
    side by side."""
    side = 2 * _EDGE_M / 2**zoom
    rim = side * _RIM / _UNITS
    first = np.floor((bounds[:, :2] + _EDGE_M - rim) / side).astype(np.int64)
    count = np.floor((bounds[:, 2:] + _EDGE_M + rim) / side).astype(np.int64) - first + 1
    return first, count.prod(axis=1), count[:, 0]


def _most_in_a_tile(first: NDArray[np.int64], count: NDArray[np.int64], wide: NDArray[np.int64]) -> int:
    of = np.repeat(np.arange(len(count)), count)
    down, right = np.divmod(np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count), wide[of])
    tiles = np.column_stack([first[of, 0] + right, first[of, 1] + down])
    return int(np.unique(tiles, axis=0, return_counts=True)[1].max())


def _different(path: Path, key: str, zoom: int) -> int:
    """Rows that a reader finds at a zoom, each counted once in however many tiles it lies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of other columns, with whole numbers beyond 2^53
        _, _, _, (values,) = pyogrio.raw.read(path, columns=[key], read_geometry=False, ZOOM_LEVEL=zoom)
    return len(np.unique(values))


def _no_tiles(columns: list[str], name: str) -> bytes:
    """An archive without a tile, which GDAL does not write: https://github.com/protomaps/PMTiles, version 3."""
    layer = {"id": _LAYER, "fields": dict.fromkeys(columns, "String"), "minzoom": 0, "maxzoom": 0}
    about = {"name": name, "format": "pbf", "type": "overlay", "vector_layers": [layer]}
    directory, metadata = (gzip.compress(each, mtime=0) for each in (b"\0", json.dumps(about).encode()))
    ends = np.cumsum([127, len(directory), len(metadata)]).tolist()
    places = (ends[0], len(directory), ends[1], len(metadata), ends[2], 0, ends[2], 0, 0, 0, 0)
    kinds = (1, 2, 2, 1, 0, 0)  # in order; gzip inside and in tiles; MVT; zooms
    whole_world = (-1800000000, -850000000, 1800000000, 850000000, 0, 0, 0)
    return b"PMTiles\3" + struct.pack("<11Q6B4iB2i", *places, *kinds, *whole_world) + directory + metadata
