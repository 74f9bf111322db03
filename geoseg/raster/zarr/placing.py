"""Where a Zarr array lies, by what it and its group say: CF grid mappings and coordinates, GDAL's CRS, GeoZarr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.errors import RasterError

_AGREE_PX = 0.25
"""Half a pixel is another convention, a whole one another window; less is how coordinates of 32 bits are rounded."""
_EVEN_PX = 0.1
_METRES = {"m", "metre", "metres", "meter", "meters"}


def crs_of(attributes: Mapping[str, Any], mapping: Mapping[str, Any]) -> CRS | None:
    """The CRS by the attributes of an array, its group's among them, and of its grid mapping; None: not said.

    Raises:
        CRSError, KeyError, TypeError, ValueError: one is said that cannot be understood.
    """
    gdal = attributes.get("_CRS") or {}
    for said in (*(attributes.get(f"proj:{key}") for key in ("code", "wkt2", "projjson")), gdal.get("wkt")):
        if said:
            return CRS.from_json_dict(said) if isinstance(said, dict) else CRS.from_user_input(str(said))
    if any(key in mapping for key in ("crs_wkt", "spatial_ref", "grid_mapping_name")):
        return CRS.from_cf(dict(mapping))
    return None


def stated_transform(attributes: Mapping[str, Any], mapping: Mapping[str, Any]) -> Affine | None:
    """From pixels, corners first, to the ground, where that is said outright.

    Raises:
        TypeError, ValueError, OverflowError: what is said are not six numbers, or the places of pixels' centres.
    """
    if (said := attributes.get("spatial:transform")) is not None:
        if attributes.get("spatial:registration", "pixel") != "pixel":
            raise ValueError("its transform is one of pixels' centres (spatial:registration)")
        return Affine(*(float(number) for number in said))
    if (said := mapping.get("GeoTransform")) is not None:
        c, a, b, f, d, e = (float(number) for number in (said.split() if isinstance(said, str) else said))
        return Affine(a, b, c, d, e, f)
    return None


def check_centres(name: str, values: NDArray[np.float64], units: object, crs: CRS | None) -> None:
    """Refuse centres of pixels that are not evenly spaced, or in other units than the CRS has.

    Raises:
        RasterError: they are.
    """
    step = (values[-1] - values[0]) / max(1, len(values) - 1)
    even = values[0] + step * np.arange(len(values))
    # Written so that NaN is refused, too.
    if len(values) > 1 and not np.abs(values - even).max() <= _EVEN_PX * abs(step) > 0:
        raise not_placed(f"{name}, whose values are not evenly spaced")
    if crs is None or not crs.axis_info or units is None:
        return
    wanted, given = crs.axis_info[0].unit_name.lower(), str(units).lower()
    if not (given == wanted or (given in _METRES if wanted == "metre" else wanted in given)):
        raise not_placed(f"{name} in units of {units!r}, where its CRS has {wanted}s")


def transform_of(name: str, stated: Affine | None, centres: tuple[NDArray[Any], NDArray[Any]] | None) -> Affine:
    """From pixels, corners first, to the ground: as stated, else by the centres of columns (x) and rows (y).

    Raises:
        RasterError: nothing is said, what is said lays all pixels on a line, or one says otherwise than the other.
    """
    if stated is not None and not 0 < abs(stated.determinant) < np.inf:
        raise not_placed(f"{name}, whose geotransform {tuple(stated)[:6]} leaves its pixels no area")
    if centres is not None:
        x, y = centres
        if stated is not None:
            # (columns, rows) of the first pixel's centre and of the last one's.
            found = np.array([~stated @ (x[end], y[end]) for end in (0, -1)])
            if np.abs(found - [(0.5, 0.5), (len(x) - 0.5, len(y) - 0.5)]).max() > _AGREE_PX:
                raise not_placed(f"{name}, whose coordinates and geotransform lay it in two places")
        elif min(len(x), len(y)) > 1:
            dx, dy = (x[-1] - x[0]) / (len(x) - 1), (y[-1] - y[0]) / (len(y) - 1)
            return Affine(dx, 0, x[0] - dx / 2, 0, dy, y[0] - dy / 2)
    if stated is None:
        raise not_placed(f"{name}, of which nothing says where it lies")
    return stated


def not_placed(got: str) -> RasterError:
    """The refusal of an array that does not say, or not clearly, where it lies."""
    return RasterError(
        got,
        allowed="evenly spaced x and y coordinates of two pixels or more, a GeoTransform in the grid mapping, or "
        "GeoZarr's spatial:transform",
        remedy="Write it with its coordinates, and after cutting one out say anew where it lies, e.g. with rioxarray's "
        "write_transform",
    )
