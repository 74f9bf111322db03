"""Little Zarr rasters for tests, laid out as xarray and rioxarray lay them out, written by the zarr package itself."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rasters import NORTH_UP, UTM

Array = zarr.Array
_AXES = {"band": 0, "y": 1, "lat": 1, "northing": 1, "x": 2, "lon": 2, "easting": 2}


def add(group: zarr.Group, name: str, values: NDArray[Any], dims: tuple[str, ...], **options: Any) -> Array:
    """An array with named dimensions, in either format."""
    v3 = group.metadata.zarr_format == 3
    named = {"dimension_names": dims} if v3 else {}
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, **named, **options)
    array[...] = values
    if not v3:
        array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    return array


def write_zarr(
    path: Path,
    pixels: NDArray[Any],
    *,
    zarr_format: int = 3,
    transform: Affine = NORTH_UP,
    crs: str | None = UTM,
    nodata: float | None = None,
    dims: tuple[str, ...] = ("band", "y", "x"),
    said: str = "centres",
    **options: Any,
) -> Path:
    """A group with ``(band, y, x)`` pixels as ``image``, in the order of ``dims``.

    ``said`` is how it tells where it lies: ``centres`` of pixels, a ``GeoTransform``, ``both``, or ``geozarr``.
    """
    group = zarr.create_group(path, zarr_format=zarr_format)
    bands, height, width = pixels.shape
    axes = [_AXES[name] for name in dims]
    rows, cols = dims[axes.index(1)], dims[axes.index(2)]
    options = {"chunks": tuple((bands, 16, 32)[axis] for axis in axes)} | options
    if zarr_format == 2:  # where xarray puts a nodata value
        options["fill_value"] = nodata
    image = add(group, "image", pixels.transpose(axes), dims, **options)
    if nodata is not None and zarr_format == 3:
        packed = base64.b64encode(struct.pack("<d", nodata)).decode()
        image.attrs["_FillValue"] = packed if pixels.dtype.kind == "f" else nodata
    mapping: dict[str, Any] = {}
    if said in ("centres", "both"):
        add(group, cols, transform.c + transform.a * (np.arange(width) + 0.5), (cols,))
        add(group, rows, transform.f + transform.e * (np.arange(height) + 0.5), (rows,))
    if said in ("GeoTransform", "both"):
        mapping["GeoTransform"] = " ".join(map(repr, transform.to_gdal()))
    if said == "geozarr":
        group.attrs.update(
            {"spatial:dimensions": [rows, cols], "spatial:transform": list(transform)[:6], "proj:code": crs}
        )
    elif crs is not None:
        mapping["crs_wkt"] = CRS.from_user_input(crs).to_wkt()
    if mapping:
        image.attrs["grid_mapping"] = "spatial_ref"
        add(group, "spatial_ref", np.array(0), ()).attrs.update(mapping)
    return path
