"""A raster's header: what it is and where it lies, or why it is refused."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from geoseg.errors import RasterError, in_a_line
from geoseg.grid import Grid
from geoseg.raster.access import Access, driver_of, gdal_env, is_remote, local_path, name_of, open_dataset
from geoseg.raster.alpha import looks_like_imagery
from geoseg.raster.keys import QUICK, THOROUGH, content_key
from geoseg.raster.parts import (
    bits_of,
    check_inner,
    check_size,
    checked_sources,
    has_own_mask,
    mask_file_of,
    written_end,
)
from geoseg.raster.vrt import Mosaic, read_vrt
from geoseg.raster.zarr.dataset import ZarrRaster

_ROLES = ("red", "green", "blue", "nir", "rededge", "swir", "pan", "coastal", "gray", "palette", "alpha")
_SYNONYMS = {
    "near infrared": "nir",
    "near-infrared": "nir",
    "infrared": "nir",
    "grey": "gray",
    "red edge": "rededge",
}


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """What is known of a raster from its header. Small, picklable, and enough to open it again."""

    path: str
    """Absolute path, or URL."""
    grid: Grid
    """Where its pixels lie."""
    dtype: str
    """NumPy name of the type of all bands."""
    bands: int
    """How many, alpha included."""
    roles: tuple[str, ...]
    """Per band: red, green, blue, nir, rededge, swir, pan, coastal, gray, palette, alpha or unknown."""
    bits: int | None
    """Bits that a TIFF or JPEG 2000 says its numbers use (of a VRT's sources the fewest); None: all of their type's."""
    nodata: float | None
    """The declared value of pixels that hold nothing; may be NaN."""
    file_block: tuple[int, int]
    """Rows and columns that the file decodes at once."""
    acquired: datetime | None
    """UTC, from TIFFTAG_DATETIME, or a Zarr's ``time``."""
    name: str
    """File name."""
    key: str
    """Content key: the same for the same bytes under any name; see :func:`geoseg.raster.keys.content_key`."""
    seal: str
    """The same of a sample of it, by which a worker knows the file again."""
    driver: str
    """The one GDAL driver that opens it, or "Zarr"."""
    access: Access
    """What it may reach."""
    mask_file: str | None = None
    """A .msk file beside it, itself a TIFF."""
    data_end: int | None = None
    """Bytes of the file from here on are zeros that look unwritten; None where nothing is suspected."""
    warnings: tuple[str, ...] = ()
    """What a user should know of it."""
    descriptions: tuple[str, ...] = ()
    """What the file calls each band, "" where it does not; empty: none of them."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Per band its role or, where that is unknown, what the file calls it."""
        told = self.descriptions or ("",) * self.bands
        return tuple(role if role != "unknown" else text or role for role, text in zip(self.roles, told, strict=True))

    @property
    def alpha(self) -> int | None:
        """The alpha band, from 1."""
        return self.roles.index("alpha") + 1 if "alpha" in self.roles else None

    @property
    def colour_bands(self) -> tuple[int, ...]:
        """All bands but alpha, from 1."""
        return tuple(band for band, role in enumerate(self.roles, 1) if role != "alpha")


def open_raster(path: str | Path, *, access: Access | None = None, assume_crs: str | None = None) -> RasterInfo:
    """Read a raster's header, or refuse it. No pixel is read, but a few blocks of an alpha band, and of a file
    whose last bytes are all zero.

    Args:
        path: GeoTIFF, COG, JPEG 2000, a VRT of local GeoTIFFs, or the folder of a Zarr array or group.
        access: limits on what it may reach and how big it may be.
        assume_crs: CRS to take where the raster has none (``EPSG:32645``, WKT, PROJ text).

    Raises:
        RasterError: it is not what it should be; the message says what was got, what is allowed, what to do.
    """
    if not isinstance(path, str | os.PathLike):
        raise RasterError(
            f"a raster of type {type(path).__name__}",
            allowed="the path of a file",
            remedy="Of a dataset that is open take its name, and write an array to a GeoTIFF first",
        )
    access, name = access or Access(), local_path(path)
    driver = driver_of(name, access)
    with gdal_env(access), open_source(name, driver, access) as (dataset, mosaic):
        check_size(dataset, access, name)
        if has_own_mask(dataset):
            check_inner(dataset, access, name)
        _check_pixels(dataset, name)
        mask_file = mask_file_of(name, dataset, access)
        roles = _roles(dataset)
        if mosaic:
            warnings, bits = checked_sources(name, mosaic, dataset, access, has_mask=bool(mask_file))
        else:
            warnings, bits = _told(dataset), bits_of(dataset, name)
        return RasterInfo(
            path=name,
            grid=_grid(dataset, name, assume_crs),
            dtype=str(dataset.dtypes[0]),
            bands=dataset.count,
            roles=roles,
            bits=bits,
            nodata=_nodata(dataset, roles, name),
            file_block=tuple(dataset.block_shapes[0]),
            acquired=_acquired(dataset),
            # In a locale that is not UTF-8, Python has escapes for what no table can hold.
            name=os.fsencode(name_of(name)).decode("utf-8", "replace"),
            key=key_of(name, dataset, mosaic, mask_file),
            seal=key_of(name, dataset, mosaic, mask_file, most=QUICK),
            driver=driver,
            access=access,
            mask_file=mask_file,
            data_end=None if mosaic or mask_file else written_end(dataset, name),
            warnings=(*warnings, *_told_of_alpha(dataset, roles, os.path.basename(name))),
            # In one line each, whatever a file says.
            descriptions=tuple(in_a_line(text or "", 40) for text in dataset.descriptions),
        )


def key_of(
    name: str, dataset: DatasetReader, mosaic: Mosaic | None, mask_file: str | None, *, most: int = THOROUGH
) -> str:
    """The content key of an open raster: its file, a mosaic's sources and a mask file, of which ``most`` bytes are
    read; the header of a remote one."""
    if isinstance(dataset, ZarrRaster):
        return dataset.key(most)
    if is_remote(name):
        text = repr((dataset.name, dataset.profile, dataset.tags()))
        return hashlib.sha256(text.encode()).hexdigest()[:32]
    return content_key([name, *(mosaic.sources if mosaic else ()), *([mask_file] if mask_file else [])], most=most)


@contextmanager
def open_source(name: str, driver: str, access: Access) -> Iterator[tuple[DatasetReader, Mosaic | None]]:
    """The dataset of an admitted path, and the mosaic behind it if it is a VRT; use inside ``gdal_env``."""
    if driver == "Zarr":
        yield ZarrRaster(name, access), None
        return
    mosaic = read_vrt(name, access) if driver == "VRT" else None
    with open_dataset(mosaic.xml if mosaic else name, driver) as dataset:
        yield dataset, mosaic


def _told(dataset: DatasetReader) -> tuple[str, ...]:
    """Warnings of what a TIFF holds besides its first image, its masks and overviews; and of a negative."""
    found, count = [], len(dataset.subdatasets)
    if count > 1:
        found.append(
            f"{dataset.name} holds {count} images: the first is examined, the others are not; write each to a file of "
            f"its own, e.g. with gdal_translate {dataset.subdatasets[1]} second.tif"
        )
    if dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
        found.append(
            f"{dataset.name} is a negative: its smallest value means white, and the model sees it as black; turn it "
            "round, e.g. with gdal_translate -scale 0 255 255 0 -co PHOTOMETRIC=MINISBLACK"
        )
    return tuple(found)


def _told_of_alpha(dataset: DatasetReader, roles: tuple[str, ...], name: str) -> tuple[str, ...]:
    """A warning of a band that GDAL calls alpha, nothing in the file says so, and that looks like imagery."""
    band = roles.index("alpha") + 1 if "alpha" in roles else 0
    if not band or dataset.descriptions[band - 1] or not (values := looks_like_imagery(dataset, band)):
        return ()
    return (
        f"band {band} of {name} is marked as alpha, as GDAL marks a fourth band unasked, but takes {values} values "
        "between nothing and all where a mask has none: it looks like imagery (near infrared?). It is left out of what "
        f"a model sees, and pixels where it is 0 are taken for nodata. Where it is no alpha, say so in the file: "
        f"gdal_edit.py -colorinterp_{band} undefined FILE; and which band is which with --bands",
    )


def _nodata(dataset: DatasetReader, roles: tuple[str, ...], name: str) -> float | None:
    """The nodata value that all bands but alpha declare."""
    values = [value for value, role in zip(dataset.nodatavals, roles, strict=True) if role != "alpha"]
    if len({"none" if value is None else repr(float(value)) for value in values}) > 1:
        raise RasterError(
            f"{name} with a nodata value of its own for each band ({', '.join(map(str, values))})",
            allowed="one nodata value for all bands, or none",
            remedy="Give all bands the same, e.g. with gdal_edit -a_nodata or gdalbuildvrt -vrtnodata; or turn them "
            "into a mask with gdal_translate -b 1 -b 2 -b 3 -b mask",
        )
    value = values[0] if values else None
    # GDAL would cut it to a whole one, which nobody has said.
    if value is not None and value % 1 and np.issubdtype(dataset.dtypes[0], np.integer):
        raise RasterError(
            f"{name} with a nodata value of {value:g}, which no {dataset.dtypes[0]} pixel has",
            allowed="a whole number, or none",
            remedy="State the value of its empty pixels, e.g. with gdal_edit -a_nodata",
        )
    return value


def _check_pixels(dataset: DatasetReader, name: str) -> None:
    kinds = set(dataset.dtypes)
    if len(kinds) > 1:
        raise RasterError(f"{name} with bands of several types ({', '.join(sorted(kinds))})", allowed="one type")
    kind = kinds.pop()
    if "complex" in kind:
        raise RasterError(
            f"{name} with {kind} pixels",
            allowed="real numbers",
            remedy="Write its amplitude to a GeoTIFF first",
        )
    if not all(dataset.mask_flag_enums):
        raise RasterError(
            f"{name} with a mask of its own for each band",
            allowed="one mask for all bands, a nodata value or alpha",
            remedy="Make one of them, e.g. with gdal_translate -mask 1",
        )


def _grid(dataset: DatasetReader, name: str, assume_crs: str | None) -> Grid:
    transform = dataset.transform
    if transform.is_identity:
        raise RasterError(
            f"{name}, which {_unplaced(dataset)}",
            allowed="a raster with a geotransform",
            remedy="Warp it first, e.g. gdalwarp in.tif out.tif (add -rpc for RPCs, or gdal_translate -a_ullr and "
            "-a_srs where you know the corners)",
        )
    crs = dataset.crs.to_wkt(version="WKT2_2019") if dataset.crs else assume_crs
    if not crs:
        raise RasterError(
            f"{name}, which has no coordinate reference system",
            allowed="a raster with a CRS",
            remedy="Name it with --assume-crs EPSG:..., or write it into the file with gdal_edit -a_srs",
        )
    try:
        parsed = CRS.from_user_input(crs)
        epsg = parsed.to_epsg()
        return Grid(
            crs=CRS.from_epsg(epsg) if epsg else parsed,
            transform=transform,
            height=dataset.height,
            width=dataset.width,
        )
    except CRSError as error:
        given = "" if dataset.crs else f", {assume_crs!r} by --assume-crs,"
        raise RasterError(
            f"{name} with a CRS{given} that cannot be understood ({str(error)[:200]})",
            remedy="Name it as EPSG:..., WKT or PROJ text" if given else "Set it with gdal_edit -a_srs",
        ) from error


def _unplaced(dataset: DatasetReader) -> str:
    if dataset.gcps[0]:
        return "is placed by ground control points only"
    if dataset.rpcs is not None:
        return "is placed by rational polynomials (RPC) only"
    return "has no geotransform: nothing says where it lies"


def _roles(dataset: DatasetReader) -> tuple[str, ...]:
    """A role per band: what its description names, else its colour interpretation."""
    return tuple(_role(text, colour) for text, colour in zip(dataset.descriptions, dataset.colorinterp, strict=True))


def _role(description: str | None, colour: ColorInterp) -> str:
    interpreted = colour.name.lower() if colour.name.lower() in _ROLES else "unknown"
    if interpreted == "palette":
        return interpreted
    # Alpha, too: GDAL calls the fourth band of 8 bits so where it is not told otherwise, near infrared as a rule.
    text = (description or "").strip().lower()
    named = _SYNONYMS.get(text, text)
    if named == "palette":  # a word makes none: it would have colours
        return interpreted
    return named if named in _ROLES else interpreted


def _acquired(dataset: DatasetReader) -> datetime | None:
    text = str(dataset.tags().get("TIFFTAG_DATETIME", "")).strip()
    match = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)Z?", text)
    if not match:
        return None
    try:
        return datetime(*(int(part) for part in match.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
