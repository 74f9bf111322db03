"""A reader of PMTiles (version 3) and vector tiles (2.1) by their specifications alone, independent of GDAL."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

EDGE_M = 20037508.342789244


class Archive:
    """An archive, read whole."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        assert self.data[:8] == b"PMTiles\3"
        self.sections = struct.unpack("<11Q", self.data[8:96])
        self.clustered, self.inner, self.outer, self.kind, self.low, self.high = self.data[96:102]
        west, south, east, north = np.array(struct.unpack("<4i", self.data[102:118])) / 1e7
        self.bounds = (west, south, east, north)
        assert (self.inner, self.outer, self.kind) == (2, 2, 1)  # gzip, gzip, MVT
        root, root_length, about, about_length, *_ = self.sections
        self.metadata = json.loads(gzip.decompress(self.data[about : about + about_length]))
        self.entries = dict(self._entries(root, root_length))

    def _entries(self, offset: int, length: int) -> Iterator[tuple[int, bytes]]:
        values = varints(gzip.decompress(self.data[offset : offset + length]))
        count = next(values)
        ids = np.cumsum([next(values) for _ in range(count)]).tolist()
        runs = [next(values) for _ in range(count)]
        lengths = [next(values) for _ in range(count)]
        at = 0
        for number, run, size, raw in zip(ids, runs, lengths, list(values), strict=True):
            at = raw - 1 if raw else at
            if run == 0:
                yield from self._entries(self.sections[4] + at, size)
            start = self.sections[6] + at
            for each in range(number, number + run):
                yield each, self.data[start : start + size]
            at += size

    def tiles(self, zoom: int) -> dict[tuple[int, int], list[Any]]:
        """Features of the layers, by tile: (columns, polygon in EPSG:3857)."""
        found = {}
        for number, data in self.entries.items():
            z, x, y = place(number)
            if z == zoom:
                found[x, y] = list(features(gzip.decompress(data), z, x, y))
        return found

    def table(self, zoom: int) -> gpd.GeoDataFrame:
        """All that is drawn at a zoom, as it is in its tiles, beyond their sides too."""
        rows = [feature for tile in self.tiles(zoom).values() for feature in tile]
        shapes = gpd.GeoSeries([shape for _, shape in rows], crs=3857)
        return gpd.GeoDataFrame([columns for columns, _ in rows], geometry=shapes, crs=3857)


def place(number: int) -> tuple[int, int, int]:
    """Zoom, column and row of a tile by its number on the Hilbert curves."""
    zoom = 0
    while number >= 4**zoom:
        number -= 4**zoom
        zoom += 1
    x = y = 0
    side = 1
    while side < 2**zoom:
        right, down = 1 & (number // 2), 1 & (number ^ (number // 2))
        if down == 0:
            if right:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        x, y = x + side * right, y + side * down
        number //= 4
        side *= 2
    return zoom, x, y


def varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a message in protobuf's encoding."""
    at = 0

    def varint() -> int:
        nonlocal at
        begin = at
        while data[at] >= 128:
            at += 1
        at += 1
        return next(varints(data[begin:at]))

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, data[at : at + size]
            at += size


def value_of(data: bytes) -> Any:
    [(kind, raw)] = fields(data)
    if kind in (2, 3):
        return struct.unpack("<f" if kind == 2 else "<d", raw)[0]
    return {1: lambda: raw.decode(), 4: lambda: raw, 5: lambda: raw, 6: lambda: zigzag(raw), 7: lambda: bool(raw)}[
        kind
    ]()


def zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def features(tile: bytes, z: int, x: int, y: int) -> Iterator[tuple[dict[str, Any], Any]]:
    for _, layer in fields(tile):
        parts: dict[int, list[Any]] = {number: [] for number in range(1, 16)}
        for number, value in fields(layer):
            parts[number].append(value)
        assert parts[1] == [b"footprints"] and parts[15] == [2]
        keys, values = [key.decode() for key in parts[3]], [value_of(value) for value in parts[4]]
        step = 2 * EDGE_M / 2**z / parts[5][0]
        corner = np.array([x * 2 * EDGE_M / 2**z - EDGE_M, EDGE_M - y * 2 * EDGE_M / 2**z])
        for feature in parts[2]:
            found = dict(fields(feature))
            tags = list(varints(found.get(2, b"")))
            assert found[3] == 3  # polygon
            shape = polygons(list(varints(found[4])), corner, step)
            yield {keys[k]: values[v] for k, v in zip(tags[::2], tags[1::2], strict=True)}, shape


def polygons(commands: list[int], corner: Any, step: float) -> Any:
    """Rings: what turns clockwise on the screen begins a polygon, the others are its holes."""
    right = down = 0
    rings, numbers = [], iter(commands)
    for command in numbers:
        count = command >> 3
        if command & 7 == 7:
            continue
        if command & 7 == 1:
            rings.append([])
        for _ in range(count):
            right, down = right + zigzag(next(numbers)), down + zigzag(next(numbers))
            rings[-1].append((corner[0] + right * step, corner[1] - down * step))
    shells: list[list[Any]] = []
    for ring in rings:
        if shapely.is_ccw(shapely.linearrings(ring)):  # y upwards here, so: clockwise there is outside
            shells[-1].append(ring)
        else:
            shells.append([ring])
    return shapely.MultiPolygon([shapely.Polygon(shell[0], shell[1:]) for shell in shells])
