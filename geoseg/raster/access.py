"""What may be opened, by which GDAL driver, and with which of GDAL's doors shut.

Nothing here rests on GDAL's own probing: the kind of a file is told from its first bytes, one driver is named
for it, and neighbouring files (.ovr, .aux.xml, world files) are hidden from GDAL. See docs/inputs.md.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geoseg.errors import ConfigError, RasterError, in_a_line
from geoseg.paths import expanded

CACHE_BYTES = 64 * 2**20
"""GDAL's cache of decoded blocks, one for all rasters and threads of a process; by default 5 % of RAM."""
STRIP_BYTES = CACHE_BYTES // 8
"""A reader decodes at most this much, or one row of file blocks, in one request; several threads then fit."""

READ_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What rasterio raises where a file cannot be opened or decoded; GDAL's own errors are not all wrapped."""

_GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no .ovr, .msk, .aux.xml, world file is looked for
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "VRT_VIRTUAL_OVERVIEWS": "NO",
    "VRT_SHARED_SOURCE": "0",
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    # As GDAL has them by itself. In somebody's environment they would move a raster by half a pixel, turn it over or
    # change its colours, and two workers would see two rasters.
    "GTIFF_POINT_GEO_IGNORE": "NO",
    "GTIFF_HONOUR_NEGATIVE_SCALEY": "NO",
    "CONVERT_YCBCR_TO_RGB": "YES",
    "GDAL_NUM_THREADS": "1",  # parallelism is over blocks of tiles, one thread each
}
_NO_NETWORK = {
    # A second lock only: no driver that is let in goes there. GDAL has no one switch for the network. An extension that
    # cannot exist shuts /vsicurl; a proxy that cannot shuts the rest, but for hosts in the environment's NO_PROXY.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".geoseg-allows-no-network",
    "GDAL_HTTP_PROXY": "127.0.0.1:9",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_HTTP_CONNECTTIMEOUT": "1",
}

# What lies nowhere is refused later, and mask files lie nowhere by nature. Set once, and for the calls in this file
# alone: a filter set around each call is one for all threads, and files are opened on several.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=re.escape(__name__))

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JP2 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_OTHERS = {
    b"\x89PNG": "a PNG picture, which cannot say where it lies",
    b"\xff\xd8\xff": "a JPEG picture, which cannot say where it lies",
    b"GIF8": "a GIF picture",
    b"\x89HDF": "an HDF5 or netCDF file",
    b"CDF": "a netCDF file",
    b"SQLite format 3": "a SQLite or GeoPackage file",
    b"%PDF": "a PDF document",
    b"NITF": "a NITF file",
}
_ARCHIVES = {(b"PK\x03\x04", 0): "a ZIP archive", (b"\x1f\x8b", 0): "a gzip archive", (b"ustar", 257): "a tar archive"}
"""By what they hold, and where."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a raster may reach, and how big it may be.

    Raises:
        ConfigError: limits below 1.
    """

    allow_remote: bool = False
    """Whether http(s)://, s3://, gs://, az:// and /vsi... paths may be opened, as GeoTIFF only."""
    roots: tuple[str, ...] = ()
    """Folders that a VRT's sources, a Zarr's links or a catalogue's files may lead to, besides its own folder; ``~`` is
    expanded."""
    max_pixels: int = 10**12
    """Most pixels (rows x columns) of a raster."""
    max_block_bytes: int = 256 * 2**20
    """Most bytes of one decoded file block, with all bands stored together: the cost of the smallest read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roots", tuple(str(expanded(root)) for root in self.roots))
        if self.max_pixels < 1 or self.max_block_bytes < 1:
            raise ConfigError(
                f"limits of {self.max_pixels} pixels and {self.max_block_bytes} bytes", allowed="at least 1"
            )


def gdal_env(access: Access) -> rasterio.Env:
    """The GDAL settings that every open and every read runs under.

    The cache's size is one number for the whole process. It is set for good, not given back with the
    settings: a thread that is done would else lift it for others. GDAL_CACHEMAX in the environment wins.
    """
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)
    return rasterio.Env(**_GDAL_OPTIONS, **({} if access.allow_remote else _NO_NETWORK))


def open_dataset(name: str, driver: str) -> DatasetReader:
    """Open with one driver and no other; call it inside :func:`gdal_env`.

    Raises:
        RasterError: GDAL cannot open it, or it names another file.
    """
    dataset = _opened(name, driver)
    # Read at fewer pixels than it has, as a VRT may ask for, a file is replaced by what its own metadata name here: any
    # path or URL, of any format (OVERVIEW_FILE, in GDAL's gdaldefaultoverviews.cpp).
    if dataset.tags(ns="OVERVIEWS"):
        dataset.close()
        raise RasterError(
            f"{name}, whose metadata name another file as its overviews",
            allowed="a file that stands for itself",
            remedy="Rewrite it with gdal_translate, if you trust it",
        )
    return dataset


def _opened(name: str, driver: str) -> DatasetReader:
    try:
        if is_remote(name):  # finds credentials, which a local file needs none of
            return rasterio.open(name, driver=driver, sharing=False)
        # GDAL takes UTF-8, whatever the locale is.
        spelled = name if driver == "VRT" else os.fsencode(name).decode("utf-8")
        return DatasetReader(spelled, driver=driver, sharing=False)
    except UnicodeError:
        raise RasterError(
            f"a path that is not UTF-8 ({os.fsencode(name).decode('utf-8', 'backslashreplace')})",
            allowed="UTF-8 in names of files and folders: GDAL takes no others",
            remedy="Rename it, or link to it under another name (ln -s)",
        ) from None
    except READ_ERRORS as error:
        shown = "the VRT" if driver == "VRT" else name
        raise RasterError(
            f"{shown}, which {driver} cannot open ({one_line(error)})",
            allowed="a whole, readable file",
            remedy="Look at it with gdalinfo; copy or download it again",
        ) from error
    except ValueError as error:  # rasterio takes URLs apart
        raise RasterError(f"{name}, which is no path or URL ({error})", allowed="scheme://host/path") from error


def is_remote(path: str) -> bool:
    """True for URLs and for GDAL's virtual file systems."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path)) or path.startswith("/vsi")


def name_of(path: str) -> str:
    """The last part of a path, or all from ``.zarr`` on: inside, many are called the same. Of a URL without its query,
    which may be a key. Empty: it ends in none."""
    inside = re.search(r"[^/]+\.zarr/.*[^/]", path)
    last = inside[0] if inside else os.path.basename(path.rstrip("/"))
    return last.partition("?")[0] if is_remote(path) else last


def is_zarr(path: str) -> bool:
    """True for the folder of a Zarr array or group, v2 or v3."""
    return any(os.path.lexists(os.path.join(path, name)) for name in ("zarr.json", ".zarray", ".zgroup"))


def driver_of(path: str, access: Access) -> str:
    """The one driver that may open ``path``: GTiff, JP2OpenJPEG or VRT of GDAL's, or Zarr, which is geoseg's own.

    Raises:
        RasterError: no such file, remote without leave, or of a kind that is not read; says of which kind.
    """
    if is_remote(path):
        if not access.allow_remote:
            raise RasterError(
                f"the remote path {path}",
                allowed="local files, unless remote ones are allowed",
                remedy="Set allow_remote = true under [raster], or download the file",
            )
        return "GTiff"
    if is_zarr(path):
        return "Zarr"
    head = read_head(path)
    if head.startswith(_TIFF):
        return "GTiff"
    if head.startswith(_JP2):
        return "JP2OpenJPEG"
    if re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<VRTDataset", head, re.DOTALL):
        return "VRT"
    what, remedy = _describe(head)
    raise RasterError(
        f"{path}, which is {what}",
        allowed="GeoTIFF, COG, JPEG 2000, a VRT of local GeoTIFFs, or Zarr",
        remedy=remedy,
    )


def read_head(path: str, size: int = 4096) -> bytes:
    """The first bytes of a regular file.

    Raises:
        RasterError: absent, a folder, a device, unreadable or empty.
    """
    wanted = "a raster file"
    if os.path.isdir(path):
        raise RasterError(f"{path}, which is a folder", allowed=f"{wanted}, or a Zarr", remedy="Name the files in it")
    if not os.path.exists(path):
        raise RasterError(f"{path}, which does not exist", allowed=wanted, remedy="Check the path")
    if not os.path.isfile(path):
        raise RasterError(f"{path}, which is a device or pipe", allowed=wanted)
    try:
        with open(path, "rb") as file:
            head = file.read(size)
    except OSError as error:
        raise RasterError(f"{path}, which cannot be read ({error.strerror})", remedy="Check its rights") from error
    if not head:
        raise RasterError(f"{path}, which is an empty file (0 bytes)", allowed=wanted, remedy="Download it again")
    return head


def is_tiff(path: str) -> bool:
    """True where a regular file starts as a TIFF does."""
    return read_head(path, 4).startswith(_TIFF)


def _describe(head: bytes) -> tuple[str, str]:
    """What a file that is not read is, and what to do about it."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself", "Fetch the file with: git lfs pull"
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a download that failed?)", "Download the raster itself"
    if b"<gdal_wms" in text or b"<wms" in text:
        return "a description of a web map service (WMS XML)", "Export the area to a GeoTIFF first"
    if text.startswith(b"<"):
        return "an XML or HTML text", "Name the raster itself"
    for (magic, at), what in _ARCHIVES.items():
        if head.startswith(magic, at):
            return what, "Unpack it, and name the raster itself"
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            return what, "Convert it to a georeferenced GeoTIFF, e.g. with gdal_translate"
    if not any(byte < 9 or 13 < byte < 32 for byte in head[:512]):
        return "a text file", "Name the raster itself"
    if not head.strip(b"\0"):
        return "a file that starts with zeros (an unfinished download?)", "Download it again"
    return "of an unknown format", "Convert it to GeoTIFF, e.g. with gdal_translate"


def local_path(path: str | Path) -> str:
    """A path as text: absolute for a local file, untouched for a remote one."""
    text = os.fspath(path)
    return text if is_remote(text) else os.path.abspath(expanded(text))


def one_line(error: BaseException) -> str:
    """The message of the innermost cause (GDAL's own words), on one line, at most 300 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = getattr(error, "errmsg", "") or str(error)
    return in_a_line(text)
