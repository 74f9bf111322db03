"""A Zarr array, open as a raster: to the rest of geoseg it is what rasterio makes of a file."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj.exceptions import CRSError
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.windows import Window as RioWindow

from geoseg.errors import RasterError, in_a_line
from geoseg.raster.access import Access, is_zarr
from geoseg.raster.keys import content_key
from geoseg.raster.spread import spread_blocks
from geoseg.raster.zarr.chunks import Chunks
from geoseg.raster.zarr.nodes import METADATA, Folder, children, dimensions, layout, metadata, number
from geoseg.raster.zarr.placing import check_centres, crs_of, not_placed, stated_transform, transform_of

_ROWS = ("y", "lat", "latitude", "northing")
_COLS = ("x", "lon", "longitude", "easting")
_BANDS = ("band", "bands", "channel", "channels", "c", "variable", "wavelength")
_PIECE = 2**16
"""Bytes that :func:`content_key` takes of each of many files, at least."""
_MOST_CENTRES, _MOST_BANDS = 2**24, 2**16
_LISTED = 20
_ALLOWED = "one array with dimensions named y and x (or lat and lon) and one named band, others having one place only"


class ZarrRaster:
    """A Zarr array of a local folder, with what geoseg asks of a ``rasterio.DatasetReader``.

    Args:
        path: the array's folder, or a group's with one array of imagery in it.
        access: limits on what it may reach and how big it may be.

    Raises:
        RasterError: it is none, or not one that is understood.
    """

    driver, rpcs, gcps, subdatasets = "Zarr", None, ((), None), ()

    def __init__(self, path: str, access: Access) -> None:
        above = os.path.dirname(path)
        self._access, self._folder = access, Folder(above if is_zarr(above) else path, access)
        self.name, node = self._chosen(path)
        self._group = os.path.dirname(self.name)
        group = metadata(self._folder, self._group) if is_zarr(self._group) else None
        own = node["attributes"]
        # GeoZarr's hold for all arrays in a group.
        shared = {} if group is None else {k: v for k, v in group["attributes"].items() if ":" in k}
        axes, wrong = _axes(node, shared | own)
        if wrong:
            raise RasterError(
                f"{self.name}, a Zarr array with {wrong}",
                allowed=_ALLOWED,
                remedy="Name its dimensions (zarr: dimension_names); of several dates write one to an array of its own "
                "(xarray: isel(time=0))",
            )
        stored = layout(self.name, node, access)
        self._chunks = Chunks(self._folder, self.name, stored, axes)
        self.count, self.height, self.width = self._chunks.shape
        self.shape, bands = (self.height, self.width), self.count
        if bands > _MOST_BANDS:
            raise RasterError(f"{self.name} with {bands} bands", allowed=f"up to {_MOST_BANDS} bands")
        self.dtypes = (stored.dtype.name,) * bands
        self.block_shapes = [self._chunks.chunk[1:]] * bands
        self.interleaving = Interleaving.pixel if self._chunks.chunk[0] > 1 else Interleaving.band
        self.mask_flag_enums = ([MaskFlags.all_valid],) * bands
        self.colorinterp = (ColorInterp.undefined,) * bands
        names = own.get("long_name", own.get("COLOR_INTERPRETATION"))  # rioxarray's word, and GDAL's
        named = isinstance(names, list) and len(names) == bands
        self.descriptions = tuple(map(str, names)) if named else (None,) * bands
        try:
            nodata = number(own.get("_FillValue", stored.fill if stored.fill_is_nodata else None))
            mapping = self._sibling(str(own.get("grid_mapping", "spatial_ref"))) or {"attributes": {}}
            self.crs = crs_of(shared | own, mapping["attributes"])
            stated = stated_transform(shared | own, mapping["attributes"])
        except (CRSError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
            raise RasterError(
                f"{self.name}, a Zarr array with attributes that cannot be understood ({in_a_line(error)})",
                allowed="a nodata value, CRS and geotransform as CF, GDAL or GeoZarr have them",
                remedy="Write it again, e.g. with rioxarray's write_nodata, write_crs and write_transform",
            ) from error
        self.nodatavals = (nodata,) * bands
        y, x = (self._centres(dimensions(node)[axis], stored.shape[axis]) for axis in axes[1:])
        self.transform = transform_of(self.name, stated, None if x is None or y is None else (x, y))
        self.absent = np.zeros((0, 0), bool)
        """``(h, w)`` of the last window read: True where a chunk is not there, and its fill value is read."""

    def tags(self, *_: object, **__: object) -> dict[str, str]:
        """None of GDAL's."""
        return {}

    def read(self, indexes: Sequence[int], *, window: RioWindow) -> NDArray[Any]:
        """Pixels ``(bands, h, w)`` of bands from 1; :attr:`absent` is of the same window.

        Raises:
            OSError: a chunk that is there cannot be decoded.
        """
        rows = range(window.row_off, window.row_off + window.height)
        cols = range(window.col_off, window.col_off + window.width)
        values, self.absent = self._chunks.read([index - 1 for index in indexes], rows, cols)
        return values

    def files(self, most: int) -> list[str]:
        """Its metadata, and of its chunks as many, evenly spread, as share ``most`` bytes in pieces that are worth it.
        Not all of them need be there."""
        bands, rows, cols = (-(-a // b) for a, b in zip(self._chunks.shape, self._chunks.chunk, strict=True))
        spread = spread_blocks(rows, bands * cols, most // _PIECE)
        chunks = [self._chunks.file_of((col // cols, row, col % cols)) for row, col in spread]
        return [*(os.path.join(self.name, name) for name in METADATA), *chunks]

    def key(self, most: int) -> str:
        """A key of what :meth:`files` hold, of which of them are there, and of where the array lies.

        Raises:
            RasterError: one of them is a link that leads elsewhere, or no file.
        """
        try:
            found = {path: real for path in self.files(most) if (real := self._folder.find(path))}
            names = [os.path.relpath(path, self.name) for path in found]
            said = (names, self.transform, self.crs and self.crs.srs)
            text = repr(said) + content_key([real for real, _ in found.values()], most=most)
        except OSError as error:
            raise RasterError(
                f"{self.name}, a Zarr array that cannot be read ({in_a_line(error)})",
                allowed="files inside its own folder, or in folders named as roots",
                remedy="Copy what is linked into the folder, or name further folders in raster.roots",
            ) from error
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _chosen(self, path: str) -> tuple[str, dict[str, Any]]:
        """The array at a path, or the one with imagery in the group there, and its metadata."""
        node = metadata(self._folder, path)
        if node is None or node.get("node_type") == "array":
            return path, node or {"attributes": {}}
        if "geoseg_store" in node["attributes"]:
            raise RasterError(
                f"{path}, which holds predictions that geoseg kept (--store)",
                allowed="imagery",
                remedy="Name the raster that they are of; `geoseg vectorize` makes footprints of them without it",
            )
        judged = [
            (name, each, _axes(each, {**node["attributes"], **each["attributes"]})[1])
            for name, each in children(self._folder, path)
        ]
        images = [(name, each) for name, each, wrong in judged if not wrong]
        if len(images) == 1:
            return images[0]
        if images:
            raise RasterError(
                f"{path}, a Zarr group with {len(images)} arrays of imagery: {_names((at, '') for at, _ in images)}",
                allowed=_ALLOWED,
                remedy=f"Name the one that you mean by its own path, such as {images[0][0]}; bring bands that lie in "
                "arrays of their own into one (in xarray: to_dataarray), or into a GeoTIFF",
            )
        close = [(name, f" ({wrong})" * _is_plane(each)) for name, each, wrong in judged if _may_hold(each)]
        raise RasterError(
            f"{path}, a Zarr group with no array of imagery: {_names(close) or 'it holds none of rows and columns'}",
            allowed=_ALLOWED,
            remedy=f"Name a group further in by its own path ({path}/NAME); else name dimensions (zarr: "
            "dimension_names), and take one date of several (xarray: isel(time=0))",
        )

    def _sibling(self, name: str) -> dict[str, Any] | None:
        """The metadata of another array in the group; its name is never a way to elsewhere."""
        known = re.fullmatch(r"[\w-]+", name) and is_zarr(self._group)
        return metadata(self._folder, os.path.join(self._group, name)) if known else None

    def _centres(self, dimension: str, size: int) -> NDArray[np.float64] | None:
        """The coordinates of a dimension's pixels, checked; None where there is no such array."""
        node, path = self._sibling(dimension), os.path.join(self._group, dimension)
        if node is None or dimensions(node) != (dimension,):
            return None
        stored, packed = layout(path, node, self._access), {"scale_factor", "add_offset"} & node["attributes"].keys()
        if stored.shape != (size,) or size > _MOST_CENTRES or packed:
            raise not_placed(f"{path}, coordinates of {stored.shape[0]} pixels of {size}{', scaled' * bool(packed)}")
        try:
            values, absent = Chunks(self._folder, path, stored, (None, None, 0)).read([0], range(1), range(size))
        except OSError as error:
            raise not_placed(f"{path}, coordinates that cannot be read ({in_a_line(error)})") from error
        if absent.any():
            raise not_placed(f"{path}, coordinates of which a chunk is not there")
        centres: NDArray[np.float64] = values[0, 0].astype(np.float64)
        check_centres(path, centres, node["attributes"].get("units"), self.crs)
        return centres


def _names(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(os.path.basename(path) + why for path, why in islice(found, _LISTED))


def _is_plane(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("shape"), list) and len(node["shape"]) > 1


def _may_hold(node: Mapping[str, Any]) -> bool:
    """Whether somebody may mean it: a group, or an array that is no coordinate and no grid mapping."""
    return node.get("node_type") == "group" or _is_plane(node)


def _axes(node: Mapping[str, Any], attributes: Mapping[str, Any]) -> tuple[tuple[int | None, int, int], str]:
    """Which dimensions of an array are bands, rows and columns, and what is wrong with them, if anything is."""
    names, shape = [name.lower() for name in dimensions(node)], node.get("shape")
    if not isinstance(shape, list) or len(names) != len(shape) or not names:
        return (None, 0, 0), "no name for each of its dimensions"
    said = attributes.get("spatial:dimensions")
    rows, cols = ([str(name).lower()] for name in said) if isinstance(said, list) and len(said) == 2 else (_ROWS, _COLS)
    y, x = ([axis for axis, name in enumerate(names) if name in known] for known in (rows, cols))
    if len(y) != 1 or len(x) != 1 or x == y:
        return (None, 0, 0), f"the dimensions {', '.join(map(repr, names))}"
    rest = [axis for axis, size in enumerate(shape) if axis not in (*y, *x) and size != 1]
    for axis in rest:
        if names[axis] not in _BANDS or len(rest) > 1:
            return (None, 0, 0), f"{shape[axis]} places along its dimension {names[axis]!r}"
    return (rest[0] if rest else None, y[0], x[0]), ""
