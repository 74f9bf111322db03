"""Footprints: the table of objects on the ground, with one fixed schema."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.detectors.base import ModelCard
from geoseg.errors import ModelError
from geoseg.grid import Grid
from geoseg.measures import measure
from geoseg.polygons import valid
from geoseg.seams import Merged

COLUMNS: dict[str, str] = {
    "id": "str",
    "label": "str",
    "score": "float64",
    "area_m2": "float64",
    "perimeter_m": "float64",
    "length_m": "float64",
    "width_m": "float64",
    "orientation_deg": "float64",
    "lon": "float64",
    "lat": "float64",
    "raster": "str",
    "acquired": "datetime64[ms, UTC]",
    "model": "str",
    "model_version": "str",
    "run": "str",
    "n_tiles": "int32",
    "agreement": "float64",
    "cut_by_edge": "bool",
}
"""Attributes of a footprint in order, and their dtypes; ``geometry`` follows. ``score`` and ``agreement`` are
NaN and ``acquired`` is NaT where unknown."""

EDGE_PX = 0.5
"""An outline that comes this near to the raster's edge, in pixels, is cut by it."""

_PIECE = 1000
"""Rows that are hashed and measured at a time: what that takes in memory is many times the rows themselves."""

_STEP = 1 / 256
"""Outlines are rounded to this many pixels before they are hashed: ids survive noise of the last bits."""


def empty(crs: CRS) -> geopandas.GeoDataFrame:
    """The table of no footprints, with all columns and dtypes."""
    return _table({}, np.empty(0, dtype=object), crs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Keys:
    """What rows are put in order by: a function of each row alone, so that tables made apart can be put together."""

    top: NDArray[np.int64]
    """``(n,)`` of the outline, in 1/256 pixels."""
    left: NDArray[np.int64]
    """``(n,)`` likewise."""
    shape: NDArray[np.uint64]
    """``(n,)`` digest of the outline: tells twins apart."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What all footprints of a run say alike."""

    card: ModelCard
    """Of the model; names the labels."""
    raster: str
    """Name of the raster."""
    raster_key: str = ""
    """Of its content, which ids are made from; empty: its name."""
    acquired: datetime | None = None
    """When it was taken; without a time zone it is UTC."""
    run: str = ""
    """Id of the run."""


def drawn(merged: Merged, *, grid: Grid, told: Told, cut: NDArray[np.bool_]) -> tuple[geopandas.GeoDataFrame, Keys]:
    """Objects in grid pixels to footprints on the ground.

    A function of each row alone, and of their set: rows come out by the top, then the left of their outline, and ids
    depend on the raster's content, the label and the outline (equal twins have one id, until a stream numbers them).

    Args:
        merged: the objects.
        grid: the grid that the model saw.
        told: what is the same for all of them.
        cut: ``(n,)`` True for objects that ground that was not examined cuts.

    Returns:
        The rows, and what they are ordered by.

    Raises:
        ModelError: a label that the card does not name.
    """
    outlines = merged.outlines
    if not len(outlines):
        none = np.zeros(0, np.int64)
        return empty(grid.crs), Keys(top=none, left=none, shape=none.astype(np.uint64))
    labels = _label_names(outlines.labels, told.card)
    pixel = shapely.normalize(outlines.geometry)
    source = told.raster_key or told.raster
    ids = np.concatenate([_ids(pixel[rows], labels[rows], source) for rows in _pieces(len(pixel))])
    keys = _keys(pixel)
    order = np.lexsort((keys.shape, merged.n_tiles, -outlines.scores, ids, keys.left, keys.top))
    pixel, ids, labels = pixel[order], ids[order], labels[order]
    ground = on_ground(pixel, grid)
    columns: dict[str, Any] = {
        "id": ids,
        "label": labels,
        "score": outlines.scores[order],
        **_measured(ground, grid.crs),
        "raster": told.raster,
        "acquired": _utc(told.acquired),
        "model": told.card.name,
        "model_version": told.card.version,
        "run": told.run,
        "n_tiles": merged.n_tiles[order],
        "agreement": merged.agreement[order],
        "cut_by_edge": at_edge(pixel, grid) | cut[order],
    }
    keys = Keys(top=keys.top[order], left=keys.left[order], shape=keys.shape[order])
    return _table(columns, ground, grid.crs), keys


def on_ground(pixel: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Normalized polygons in grid pixels as valid polygons on the ground, shells counterclockwise; empty for what lies
    nowhere on the earth."""
    # Where a hole touches a wall between two of its vertices, rounding may lay one across the other.
    ground: NDArray[Any] = shapely.orient_polygons(grid.on_earth(valid(grid.geometry_to_world(pixel))))
    return ground


def _table(columns: dict[str, Any], geometry: NDArray[Any], crs: CRS) -> geopandas.GeoDataFrame:
    """The schema's columns in order, in their dtypes."""
    index = pd.RangeIndex(len(geometry))
    series = {name: pd.Series(columns.get(name), index=index, dtype=dtype) for name, dtype in COLUMNS.items()}
    return geopandas.GeoDataFrame(series, geometry=geometry, crs=crs)


def _utc(acquired: datetime | None) -> pd.Timestamp | Any:
    if acquired is None:
        return pd.NaT
    moment = pd.Timestamp(acquired)
    return moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")


def _label_names(labels: NDArray[np.int64], card: ModelCard) -> NDArray[Any]:
    if labels.max() >= len(card.classes):
        raise ModelError(
            f"label {labels.max()} from model {card.name!r}",
            allowed=f"0 to {len(card.classes) - 1}, an index into its classes {card.classes}",
            remedy="Add the class to the model card, or count labels from 0",
        )
    return np.array(card.classes, dtype=object)[labels]


def _pieces(count: int) -> list[slice]:
    return [slice(start, start + _PIECE) for start in range(0, count, _PIECE)]


def _measured(ground: NDArray[Any], crs: CRS) -> dict[str, NDArray[np.float64]]:
    found = [measure(ground[rows], crs) for rows in _pieces(len(ground))]
    return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}


def _ids(pixel: NDArray[Any], labels: NDArray[Any], raster: str) -> NDArray[Any]:
    """13 letters and digits per outline: 64 bits of a hash of raster, label and rounded outline."""
    rounded = shapely.transform(pixel, lambda xy: np.rint(xy / _STEP))
    shapes = shapely.to_wkb(shapely.normalize(rounded), byte_order=1)
    keys = {label: hashlib.sha256(f"{raster}\0{label}".encode()).digest() for label in set(labels)}
    digests = [
        hashlib.blake2b(shape, digest_size=8, key=keys[label]).digest()
        for shape, label in zip(shapes, labels, strict=True)
    ]
    return _base32(b"".join(digests))


def _base32(digests: bytes) -> NDArray[Any]:
    """Base 32 (RFC 4648) of each 8 bytes, in lower case, without padding."""
    bits = np.unpackbits(np.frombuffer(digests, np.uint8).reshape(-1, 8), axis=1)
    fives = np.pad(bits, ((0, 0), (0, 1))).reshape(-1, 13, 5) @ np.array([16, 8, 4, 2, 1], np.uint8)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8)[fives]
    return letters.view("S13").ravel().astype("U13").astype(object)


def _keys(pixel: NDArray[Any]) -> Keys:
    """Of normalized polygons in grid pixels: top and left by their bounds, rounded."""
    left, top, _, _ = np.rint(shapely.bounds(pixel).T / _STEP).astype(np.int64)
    digests = [hashlib.blake2b(shape, digest_size=8).digest() for shape in shapely.to_wkb(pixel, byte_order=1)]
    return Keys(top=top, left=left, shape=np.frombuffer(b"".join(digests), ">u8").astype(np.uint64))


def at_edge(pixel: NDArray[Any], grid: Grid) -> NDArray[np.bool_]:
    """``(n,)`` True where an outline in grid pixels comes to the raster's edge."""
    left, top, right, bottom = shapely.bounds(pixel).T
    near = (left <= EDGE_PX) | (top <= EDGE_PX)
    return np.asarray(near | (right >= grid.width - EDGE_PX) | (bottom >= grid.height - EDGE_PX), np.bool_)
