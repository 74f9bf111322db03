"""A Zarr array, or several of one grid, open as a raster: to the rest of geoseg what rasterio makes of a file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.windows import Window as RioWindow

from geoseg.errors import RasterError, in_a_line
from geoseg.raster.access import Access, is_zarr
from geoseg.raster.keys import content_key
from geoseg.raster.zarr.array import ALLOWED, ZarrArray, axes_of
from geoseg.raster.zarr.nodes import PREDICTIONS, Folder, children, dimensions, metadata

_PIECE = 2**16
"""Bytes that :func:`content_key` takes of each of many files, at least."""
_LISTED = 20


class ZarrRaster:
    """A Zarr array of a local folder, with what geoseg asks of a ``rasterio.DatasetReader``.

    Args:
        path: the array's folder, or that of a group with one array of imagery in it, or with several of one band each
            that are of one grid.
        access: limits on what it may reach and how big it may be.

    Raises:
        RasterError: it is none, or not one that is understood.
    """

    driver, rpcs, gcps, subdatasets = "Zarr", None, ((), None), ()

    def __init__(self, path: str, access: Access) -> None:
        above = os.path.dirname(path)
        self._access, self._folder = access, Folder(above if is_zarr(above) else path, access)
        self._arrays = self._chosen(path)
        first = self._arrays[0]
        self.name = first.path if len(self._arrays) == 1 else path
        self._bands = [(array, band) for array in self._arrays for band in range(array.count)]
        self.count, self.height, self.width = len(self._bands), first.height, first.width
        self.shape = (self.height, self.width)
        self.dtypes = (first.dtype,) * self.count
        self.block_shapes = [first.chunks.chunk[1:]] * self.count
        self.interleaving = Interleaving.pixel if first.chunks.chunk[0] > 1 else Interleaving.band
        self.mask_flag_enums = ([MaskFlags.all_valid],) * self.count
        self.colorinterp = (ColorInterp.undefined,) * self.count
        self.descriptions = tuple(text for array in self._arrays for text in array.descriptions)
        if len(self._arrays) > 1:
            self.descriptions = tuple(
                text or os.path.basename(array.path)
                for text, array in zip(self.descriptions, self._arrays, strict=True)
            )
        self.nodatavals = (first.nodata,) * self.count
        self.crs, self.transform = first.crs, first.transform
        self.absent = np.zeros((0, 0), bool)
        """``(h, w)`` of the last window read: True where a chunk is not there, and its fill value is read."""

    def tags(self, *_: object, ns: str | None = None) -> dict[str, str]:
        """Of GDAL's the one of when it was taken, where all of it was at one time."""
        dates = {array.acquired for array in self._arrays}
        date = dates.pop() if ns is None and len(dates) == 1 else None
        return {"TIFFTAG_DATETIME": f"{date:%Y-%m-%d %H:%M:%S}"} if date else {}

    def read(self, indexes: Sequence[int], *, window: RioWindow) -> NDArray[Any]:
        """Pixels ``(bands, h, w)`` of bands from 1; :attr:`absent` is of the same window.

        Raises:
            OSError: a chunk that is there cannot be decoded.
        """
        rows = range(window.row_off, window.row_off + window.height)
        cols = range(window.col_off, window.col_off + window.width)
        values = np.empty((len(indexes), len(rows), len(cols)), self.dtypes[0])
        self.absent = np.zeros(values.shape[1:], bool)
        for array in self._arrays:
            places = [place for place, index in enumerate(indexes) if self._bands[index - 1][0] is array]
            if places:
                bands = [self._bands[indexes[place] - 1][1] for place in places]
                values[places], absent = array.chunks.read(bands, rows, cols)
                self.absent |= absent
        return values

    def files(self, most: int) -> list[str]:
        """Its metadata, and of the files of its chunks as many, evenly spread, as share ``most`` bytes in pieces that
        are worth it. Not all of them need be there."""
        each = max(1, most // _PIECE // len(self._arrays))
        return [file for array in self._arrays for file in array.files(each)]

    def key(self, most: int) -> str:
        """A key of what :meth:`files` hold, of which of them are there, and of where the array lies and its date.

        Raises:
            RasterError: one of them is a link that leads elsewhere, or no file.
        """
        try:
            found = {path: real for path in self.files(most) if (real := self._folder.find(path))}
            names = [os.path.relpath(path, self.name) for path in found]
            said = (names, self.transform, self.crs and self.crs.srs, self.tags())
            text = repr(said) + content_key([real for real, _ in found.values()], most=most)
        except OSError as error:
            raise RasterError(
                f"{self.name}, a Zarr array that cannot be read ({in_a_line(error)})",
                allowed="files inside its own folder, or in folders named as roots",
                remedy="Copy what is linked into the folder, or name further folders in raster.roots",
            ) from error
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _chosen(self, path: str) -> list[ZarrArray]:
        """The array at a path, or the one with imagery in the group there, or those that are bands of one grid."""
        node = metadata(self._folder, path)
        if node is None or node.get("node_type") == "array":
            return [self._opened(path, node or {"attributes": {}})]
        if PREDICTIONS in node["attributes"]:
            raise RasterError(
                f"{path}, which holds predictions that geoseg kept (--store)",
                allowed="imagery",
                remedy="Name the raster that they are of; `geoseg vectorize` makes footprints of them without it",
            )
        nodes = list(children(self._folder, path))
        said = [str(each["attributes"].get("coordinates", "")) for _, each in (*nodes, (path, node))]
        beside = set(" ".join(said).split())  # CF's coordinates of two dimensions are planes, and no imagery
        judged = [
            (name, each, axes_of(each, {**node["attributes"], **each["attributes"]})[1])
            for name, each in nodes
            if os.path.basename(name) not in beside
        ]
        images = sorted(((name, each) for name, each, wrong in judged if not wrong), key=lambda image: _order(image[0]))
        if len(images) == 1:
            return [self._opened(*images[0])]
        if images:
            return self._of_one_grid(path, images)
        close = [(name, f" ({wrong})" * _is_plane(each)) for name, each, wrong in judged if _may_hold(each)]
        raise RasterError(
            f"{path}, a Zarr group with no array of imagery: {_names(close) or 'it holds none of rows and columns'}",
            allowed=ALLOWED,
            remedy=f"Name a group further in by its own path ({path}/NAME); else name dimensions (zarr: "
            "dimension_names), and take one date of several (xarray: isel(time=0))",
        )

    def _opened(self, path: str, node: Mapping[str, Any]) -> ZarrArray:
        return ZarrArray(path, node, self._folder, self._access)

    def _of_one_grid(self, path: str, images: Sequence[tuple[str, Mapping[str, Any]]]) -> list[ZarrArray]:
        """Several arrays as bands of one raster, which they are where nothing but their pixels tells them apart."""
        said = [(each["shape"], dimensions(each), each.get("data_type", each.get("dtype"))) for _, each in images]
        unlike = "shapes, dimensions or types" if any(each != said[0] for each in said) else ""
        # One that cannot be read is named only where it would be a band.
        arrays = [] if unlike else [self._opened(*image) for image in images]
        if any(array.count > 1 for array in arrays):
            unlike = "sets of bands"
        elif len({repr((array.transform, array.nodata, array.crs and array.crs.srs)) for array in arrays}) > 1:
            unlike = "places, CRSs or nodata values"
        if not unlike:
            return arrays
        raise RasterError(
            f"{path}, a Zarr group with {len(images)} arrays of imagery, of several {unlike}: "
            f"{_names((at, '') for at, _ in images)}",
            allowed=f"{ALLOWED}; or several arrays of one band each, all of one shape, type, nodata value and grid",
            remedy=f"Name the one that you mean by its own path, such as {images[0][0]}; bring bands that lie among "
            "other arrays into a group of their own",
        )


def _order(path: str) -> list[tuple[int, str]]:
    """What sorts Band2 before Band10."""
    parts = re.split(r"(\d+)", os.path.basename(path))
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]


def _names(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(os.path.basename(path) + why for path, why in islice(found, _LISTED))


def _is_plane(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("shape"), list) and len(node["shape"]) > 1


def _may_hold(node: Mapping[str, Any]) -> bool:
    """Whether somebody may mean it: a group, or an array that is no coordinate and no grid mapping."""
    return node.get("node_type") == "group" or _is_plane(node)
