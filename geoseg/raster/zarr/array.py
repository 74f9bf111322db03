"""One Zarr array of imagery: its bands, how they are stored, and where it lies."""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj.exceptions import CRSError

from geoseg.errors import RasterError, in_a_line
from geoseg.raster.access import Access, is_zarr
from geoseg.raster.spread import spread_blocks
from geoseg.raster.zarr.chunks import Chunks
from geoseg.raster.zarr.nodes import METADATA, Folder, Layout, dimensions, layout, metadata, number
from geoseg.raster.zarr.placing import check_centres, crs_of, not_placed, stated_transform, transform_of
from geoseg.raster.zarr.times import moment

_ROWS = ("y", "lat", "latitude", "northing")
_COLS = ("x", "lon", "longitude", "easting")
_BANDS = ("band", "bands", "channel", "channels", "c", "variable", "wavelength")
_PACKED = {"scale_factor", "add_offset"}
_MOST_CENTRES, _MOST_BANDS = 2**24, 2**16
ALLOWED = "one array with dimensions named y and x (or lat and lon) and one named band, others having one place only"


class ZarrArray:
    """An array as bands of one grid.

    Args:
        path: the array's folder.
        node: its metadata.
        folder: what may be read.
        access: limits on how big it may be.

    Raises:
        RasterError: it is not understood, or not imagery.
    """

    def __init__(self, path: str, node: Mapping[str, Any], folder: Folder, access: Access) -> None:
        self.path, self._group = path, os.path.dirname(path)
        self._folder, self._access = folder, access
        group = metadata(folder, self._group) if is_zarr(self._group) else None
        own = node["attributes"]
        # GeoZarr's hold for all arrays in a group.
        shared = {} if group is None else {k: v for k, v in group["attributes"].items() if ":" in k}
        axes, wrong = axes_of(node, shared | own)
        if wrong:
            raise RasterError(
                f"{path}, a Zarr array with {wrong}",
                allowed=ALLOWED,
                remedy="Name its dimensions (zarr: dimension_names); of several dates write one to an array of its own "
                "(xarray: isel(time=0))",
            )
        stored = layout(path, node, access)
        self.chunks, self.dtype = Chunks(folder, path, stored, axes), stored.dtype.name
        self.count, self.height, self.width = self.chunks.shape
        if self.count > _MOST_BANDS:
            raise RasterError(f"{path} with {self.count} bands", allowed=f"up to {_MOST_BANDS} bands")
        self.descriptions = _descriptions(own, self.count)
        try:
            self.nodata = _nodata(own, stored)
            mapping = self._sibling(str(own.get("grid_mapping", "spatial_ref"))) or {"attributes": {}}
            self.crs = crs_of(shared | own, mapping["attributes"])
            stated = stated_transform(shared | own, mapping["attributes"])
        except (CRSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
            raise RasterError(
                f"{path}, a Zarr array with attributes that cannot be understood ({in_a_line(error)})",
                allowed="a nodata value, CRS and geotransform as CF, GDAL or GeoZarr have them",
                remedy="Write it again, e.g. with rioxarray's write_nodata, write_crs and write_transform",
            ) from error
        y, x = (self._centres(dimensions(node)[axis], stored.shape[axis]) for axis in axes[1:])
        self.transform = transform_of(path, stated, None if x is None or y is None else (x, y))
        self.acquired = self._date(node)

    def files(self, most: int) -> list[str]:
        """Its metadata, and of the files of its chunks at most so many, evenly spread. Not all of them need be
        there."""
        bands, rows, cols = (-(-a // b) for a, b in zip(self.chunks.shape, self.chunks.file, strict=True))
        spread = spread_blocks(rows, bands * cols, most)
        chunks = [self.chunks.file_of((col // cols, row, col % cols)) for row, col in spread]
        return [*(os.path.join(self.path, name) for name in METADATA), *chunks]

    def _sibling(self, name: str) -> dict[str, Any] | None:
        """The metadata of another array in the group; its name is never a way to elsewhere."""
        known = re.fullmatch(r"[\w-]+", name) and is_zarr(self._group)
        return metadata(self._folder, os.path.join(self._group, name)) if known else None

    def _centres(self, dimension: str, size: int) -> NDArray[np.float64] | None:
        """The coordinates of a dimension's pixels, checked; None where there is no such array."""
        node, path = self._sibling(dimension), os.path.join(self._group, dimension)
        if node is None or dimensions(node) != (dimension,):
            return None
        stored, packed = layout(path, node, self._access), _PACKED & node["attributes"].keys()
        if stored.shape != (size,) or size > _MOST_CENTRES or packed:
            raise not_placed(
                f"{path}, coordinates of {math.prod(stored.shape)} pixels of {size}{', scaled' * bool(packed)}"
            )
        centres, step = np.empty(size), stored.chunk[0]
        for start in range(0, size, step):  # to the first chunk that is not there: there may be millions of them
            try:
                values, absent = self._line(path, stored, range(start, min(start + step, size)))
            except OSError as error:
                raise not_placed(f"{path}, coordinates that cannot be read ({in_a_line(error)})") from error
            if absent.any():
                raise not_placed(f"{path}, coordinates of which a chunk is not there")
            centres[start : start + step] = values[0, 0]
        check_centres(path, centres, node["attributes"].get("units"), self.crs)
        return centres

    def _line(self, path: str, stored: Layout, places: range) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        axis = 0 if stored.shape else None
        return Chunks(self._folder, path, stored, (None, None, axis)).read([0], range(1), places)

    def _date(self, node: Mapping[str, Any]) -> datetime | None:
        """The one date of a coordinate ``time`` that it has, where CF says it simply; None: not said, or not so."""
        listed = str(node["attributes"].get("coordinates", "")).split()
        if "time" not in (*dimensions(node), *listed):
            return None
        try:
            time, path = self._sibling("time"), os.path.join(self._group, "time")
            if time is None or dimensions(time) not in ((), ("time",)) or _PACKED & time["attributes"].keys():
                return None
            stored = layout(path, time, self._access)
            if stored.shape not in ((), (1,)):
                return None
            values, absent = self._line(path, stored, range(1))
            value = float(values[0, 0, 0])
            known = not absent.any() and value != _nodata(time["attributes"], stored)
        except (RasterError, OSError, TypeError, ValueError, OverflowError, struct.error):
            return None  # it is of no matter to the pixels
        return moment(value, time["attributes"]) if known else None


def axes_of(node: Mapping[str, Any], attributes: Mapping[str, Any]) -> tuple[tuple[int | None, int, int], str]:
    """Which dimensions of an array are bands, rows and columns, and what is wrong with them, if anything is."""
    names, shape = [name.lower() for name in dimensions(node)], node.get("shape")
    if not isinstance(shape, list) or len(names) != len(shape) or not names:
        return (None, 0, 0), "no name for each of its dimensions"
    said = attributes.get("spatial:dimensions")
    rows, cols = ([str(name).lower()] for name in said) if isinstance(said, list) and len(said) == 2 else (_ROWS, _COLS)
    y, x = ([axis for axis, name in enumerate(names) if name in known] for known in (rows, cols))
    if len(y) != 1 or len(x) != 1 or x == y:
        return (None, 0, 0), f"the dimensions {in_a_line(', '.join(map(repr, names)))}"
    rest = [axis for axis, size in enumerate(shape) if axis not in (*y, *x) and size != 1]
    for axis in rest:
        if names[axis] not in _BANDS or len(rest) > 1:
            return (None, 0, 0), f"{shape[axis]} places along its dimension {in_a_line(repr(names[axis]))}"
    return (rest[0] if rest else None, y[0], x[0]), ""


def _nodata(attributes: Mapping[str, Any], stored: Layout) -> float | None:
    """The nodata value of an array.

    Raises:
        TypeError, ValueError, OverflowError, struct.error: it is no number, or no float.
    """
    return number(attributes.get("_FillValue", stored.fill if stored.fill_is_nodata else None))


def _descriptions(attributes: Mapping[str, Any], bands: int) -> Sequence[str | None]:
    names = attributes.get("long_name", attributes.get("COLOR_INTERPRETATION"))  # rioxarray's word, and GDAL's
    if isinstance(names, list) and len(names) == bands:
        return tuple(map(str, names))
    colour = attributes.get("COLOR_INTERPRETATION")  # a word; what one band is called elsewhere is a sentence
    return (colour,) if bands == 1 and isinstance(colour, str) else (None,) * bands
