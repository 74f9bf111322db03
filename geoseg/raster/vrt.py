"""VRT mosaics, read and rewritten by geoseg before GDAL sees them.

GDAL never parses the user's text: it is handed XML that holds only what was understood here. So a VRT can
reach nothing but plain local GeoTIFFs (GDAL alone would read any file, URL or raw bytes that a VRT names).
"""

from __future__ import annotations

import math
import os
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyproj import CRS
from pyproj.exceptions import CRSError

from geoseg.errors import RasterError
from geoseg.raster.access import Access, is_remote, is_tiff

_MAX_BYTES = 256 * 2**20

_KEPT: dict[str, frozenset[str]] = {
    "VRTDataset": frozenset({"rasterXSize", "rasterYSize"}),
    "SRS": frozenset({"dataAxisToSRSAxisMapping", "coordinateEpoch"}),
    "GeoTransform": frozenset(),
    "MaskBand": frozenset(),
    "VRTRasterBand": frozenset({"dataType", "band", "subClass", "blockXSize", "blockYSize"}),
    "ColorInterp": frozenset(),
    "Description": frozenset(),
    "NoDataValue": frozenset(),
    "HideNoDataValue": frozenset(),
    "ColorTable": frozenset(),
    "Entry": frozenset({"c1", "c2", "c3", "c4"}),
    "SimpleSource": frozenset({"resampling"}),
    "ComplexSource": frozenset({"resampling"}),
    "SourceFilename": frozenset({"relativeToVRT", "shared"}),
    "SourceBand": frozenset(),
    "SourceProperties": frozenset({"RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize"}),
    "SrcRect": frozenset({"xOff", "yOff", "xSize", "ySize"}),
    "DstRect": frozenset({"xOff", "yOff", "xSize", "ySize"}),
    "NODATA": frozenset(),
    "ScaleOffset": frozenset(),
    "ScaleRatio": frozenset(),
    "UseMaskBand": frozenset(),
    "Metadata": frozenset({"domain"}),
    "MDI": frozenset({"key"}),
}
"""Elements and their attributes that are passed on."""
_DROPPED = frozenset(
    {"OverviewList", "Histograms", "CategoryNames", "UnitType", "Offset", "Scale", "BlockXSize", "BlockYSize"}
)
"""Elements that are harmless and mean nothing here."""
_SOURCES = ("SimpleSource", "ComplexSource")
_RESAMPLINGS = ("", "near", "nearest", "bilinear", "cubic", "cubicspline", "lanczos")
"""Of which GDAL places the kernel by the mosaic's pixels. Its average, RMS and Gauss begin theirs anew at each window
that is read, and its mode decides ties by the window, so that pixels would follow from how tiles are grouped."""
_COUNTS = {2: "two", 4: "four"}
_SAME_PX = 1e-3
"""Rectangles that differ by less than this are one to GDAL."""


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """A VRT as geoseg understood it."""

    xml: str
    """What GDAL is given in place of the file."""
    sources: tuple[str, ...]
    """Absolute paths of the source rasters, in order of first mention."""
    covered: tuple[tuple[float, float, float, float], ...]
    """Where any source lies, as (col_off, row_off, col_end, row_end) in pixels of the mosaic."""
    stated: Mapping[str, frozenset[tuple[float, float]]]
    """Widths and heights that each source is said to have."""
    reached: Mapping[str, tuple[float, float]]
    """How far into each source the mosaic reaches: column and row."""
    holes: frozenset[str]
    """What of its sources it leaves out: the values of ``NODATA``, as they stand, and "mask" for ``UseMaskBand``."""


def read_vrt(path: str, access: Access) -> Mosaic:
    """Check a VRT file and rewrite it.

    Raises:
        RasterError: anything in it that is not a plain mosaic of local GeoTIFFs inside the allowed folders.
    """
    root = _parse(path)
    reader = _Rewriter(path, access)
    try:
        xml = ET.tostring(reader.rewrite(root), encoding="unicode")
    except RecursionError as error:
        raise _refused(path, "elements that are nested without end") from error
    if not reader.sources:
        raise _refused(path, "no source raster")
    return Mosaic(
        xml=xml,
        sources=tuple(reader.sources),
        covered=tuple(dict.fromkeys(reader.covered)),
        stated={path: frozenset(sizes) for path, sizes in reader.stated.items()},
        reached=dict(reader.reached),
        holes=frozenset(reader.holes),
    )


def _parse(path: str) -> ET.Element:
    if os.path.getsize(path) > _MAX_BYTES:
        raise _refused(path, f"more than {_MAX_BYTES} bytes of XML")
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(path, "text that is not UTF-8") from error
    # Entities and document types are how XML reaches files and fills memory; no VRT needs them.
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise _refused(path, "a document type or entity")
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise _refused(path, f"XML that cannot be parsed ({error})") from error


class _Rewriter:
    """Copies what is allowed, collects the sources, refuses the rest."""

    def __init__(self, path: str, access: Access) -> None:
        self.path = path
        self.folder = os.path.dirname(os.path.realpath(path))
        self.roots = [self.folder, *(os.path.realpath(root) for root in access.roots)]
        self.sources: dict[str, None] = {}
        self.covered: list[tuple[float, float, float, float]] = []
        self.stated: defaultdict[str, set[tuple[float, float]]] = defaultdict(set)
        self.reached: dict[str, tuple[float, float]] = {}
        self.size = (0.0, 0.0)
        self.holes: set[str] = set()

    def rewrite(self, element: ET.Element) -> ET.Element:
        if element.tag not in _KEPT:
            raise _refused(self.path, f"the element <{element.tag}>")
        unknown = set(element.attrib) - _KEPT[element.tag]
        if unknown:
            raise _refused(self.path, f"the attribute {sorted(unknown)[0]!r} of <{element.tag}>")
        if element.attrib.get("subClass", "VRTSourcedRasterBand") != "VRTSourcedRasterBand":
            raise _refused(self.path, f"a band of subclass {element.attrib['subClass']!r}")
        clean = ET.Element(element.tag, dict(element.attrib))
        clean.text = element.text
        if element.tag == "VRTDataset":
            width, height = self._numbers(element, "rasterXSize", "rasterYSize")
            self.size = (width, height)
        if element.tag == "SRS":
            self._axes(element)
        if element.tag == "SourceFilename":
            self._source(element, clean)
        if element.tag in ("NODATA", "UseMaskBand"):
            self.holes.add("mask" if element.tag == "UseMaskBand" else element.text or "")
        if element.tag in _SOURCES:
            self.covered.append(self._destination(element))
            self._resampling(element, clean)
        for child in element:
            if child.tag in _DROPPED or (child.tag == "Metadata" and child.get("domain")):
                continue
            clean.append(self.rewrite(child))
        if element.tag in _SOURCES:
            self._extent(clean)
        return clean

    def _source(self, element: ET.Element, clean: ET.Element) -> None:
        """Make a source's name absolute and check where it leads and what it is."""
        name = (element.text or "").strip()
        if not name or is_remote(name) or re.match(r"[A-Za-z0-9_]{2,}:", name) or "<" in name or "\0" in name:
            raise _refused(self.path, f"the source {name!r}")
        whole = os.path.join(self.folder if element.get("relativeToVRT") == "1" else os.getcwd(), name)
        real = os.path.realpath(whole)
        if real not in self.sources:
            if not any(os.path.commonpath([root, real]) == root for root in self.roots):
                raise _refused(self.path, f"the source {name!r}, which lies outside its folder")
            if not os.path.isfile(real):
                raise _refused(self.path, f"the source {name!r}, which does not exist")
            if not is_tiff(real):
                raise _refused(self.path, f"the source {name!r}, which is not a GeoTIFF")
            self.sources[real] = None
        clean.text = real
        clean.attrib = {"relativeToVRT": "0", "shared": "0"}

    def _axes(self, element: ET.Element) -> None:
        """Refuse a geotransform that puts latitude or northing first, which rasterio takes for the other way round."""
        mapping = element.get("dataAxisToSRSAxisMapping")
        if mapping is None:
            return
        try:
            axes = CRS.from_user_input((element.text or "").strip()).axis_info
            x, y = (axes[int(axis) - 1].direction if int(axis) > 0 else "" for axis in mapping.split(",")[:2])
        except (CRSError, ValueError, IndexError):
            x = y = ""
        if (x, y) == ("north", "east") or "" in (x, y):
            raise _refused(
                self.path,
                f"its axes in the order {mapping!r}",
                "Build it again with gdalbuildvrt from sheets that have longitude or easting first",
            )

    def _extent(self, clean: ET.Element) -> None:
        """Note what a source is said to hold, to be compared with what it holds."""
        path, properties = clean.findtext("SourceFilename"), clean.find("SourceProperties")
        if path is None:
            return
        if properties is not None and "RasterXSize" in properties.attrib:  # else GDAL asks the source, too
            width, height = self._numbers(properties, "RasterXSize", "RasterYSize")
            self.stated[path].add((width, height))
        # GDAL lays a source without rectangles where the mosaic begins, as far as it goes.
        x, y, w, h = self._rect(clean, "SrcRect") or (0.0, 0.0, *self.size)
        if min(x, y) <= -0.5:
            raise _refused(
                self.path, f"a source of which pixels are taken from column {x:g}, row {y:g} on: it has none"
            )
        far = self.reached.get(path, (0.0, 0.0))
        self.reached[path] = (max(far[0], x + w), max(far[1], y + h))

    def _destination(self, element: ET.Element) -> tuple[float, float, float, float]:
        """Where a source lands; without a DstRect, everywhere: see :meth:`_extent`."""
        rect = self._rect(element, "DstRect")
        if rect is None:
            return (float("-inf"), float("-inf"), float("inf"), float("inf"))
        x, y, w, h = rect
        return (x, y, x + w, y + h)

    def _resampling(self, element: ET.Element, clean: ET.Element) -> None:
        """Leave out what a source laid pixel on pixel has no use for, as GDAL's average is wrong even there; of others
        read the full size alone."""
        method = element.get("resampling", "")
        taken, laid = self._rect(element, "SrcRect"), self._rect(element, "DstRect")
        if (taken is None) != (laid is None):
            raise _refused(self.path, "a source with a SrcRect or a DstRect alone")
        if _pixel_on_pixel(taken, laid):
            clean.attrib.pop("resampling", None)
        elif method.lower() not in _RESAMPLINGS:
            raise _refused(
                self.path,
                f"the resampling {method!r} for a source whose pixels are not the mosaic's",
                "Bring the sheets to one grid with gdalwarp -tr -tap, or rebuild it with gdalbuildvrt -r bilinear",
            )
        else:
            # Which of a source's overviews GDAL would take follows from the window that is read.
            options = ET.SubElement(clean, "OpenOptions")
            ET.SubElement(options, "OOI", key="OVERVIEW_LEVEL").text = "NONE"

    def _rect(self, element: ET.Element, tag: str) -> tuple[float, float, float, float] | None:
        """(x, y, width, height) in pixels; None where the source has no such rectangle."""
        rect = element.find(tag)
        if rect is None:
            return None
        x, y, w, h = self._numbers(rect, "xOff", "yOff", "xSize", "ySize")
        return (x, y, w, h)

    def _numbers(self, element: ET.Element, *names: str) -> tuple[float, ...]:
        try:
            values = tuple(float(element.attrib[name]) for name in names)
            if not all(map(math.isfinite, values)):
                raise ValueError
        except (KeyError, ValueError) as error:
            raise _refused(self.path, f"a {element.tag} that is not {_COUNTS[len(names)]} numbers") from error
        return values


def _pixel_on_pixel(
    taken: tuple[float, float, float, float] | None, laid: tuple[float, float, float, float] | None
) -> bool:
    """Whether each pixel of the mosaic is one of the source's, not stretched nor shifted by a part of one."""
    if taken is None or laid is None:
        return True  # none of both: GDAL lays it where the mosaic begins
    x, y, w, h = (there - here for here, there in zip(taken, laid, strict=True))
    return max(abs(x - round(x)), abs(y - round(y)), abs(w), abs(h)) < _SAME_PX


def check_extent(mosaic: Mosaic, path: str, width: int, height: int) -> None:
    """Refuse a source that has changed since the mosaic was built.

    GDAL would take its pixels one to one, as if they were as many as before, so that they lie elsewhere, and give zeros
    beyond its end.

    Raises:
        RasterError: it has another size than is stated, or ends before what is taken of it.
    """
    other = mosaic.stated.get(path, frozenset()) - {(width, height)}
    right, bottom = mosaic.reached.get(path, (0.0, 0.0))
    if not other and right < width + 0.5 and bottom < height + 0.5:  # a part of a pixel is the tool's rounding
        return
    asked = " and ".join(f"{h:g} x {w:g}" for w, h in sorted(other or {(right, bottom)}))
    raise RasterError(
        f"{path}, a source of the mosaic, with {height} x {width} pixels where the mosaic goes by {asked}",
        allowed="sources that are as they were when the mosaic was built",
        remedy="Build it again with gdalbuildvrt",
    )


def _refused(path: str, what: str, remedy: str = "") -> RasterError:
    return RasterError(
        f"the VRT {path} with {what}",
        allowed="a mosaic of GeoTIFFs in the VRT's own folder, or in folders named as roots",
        remedy=remedy
        or "Rebuild it with gdalbuildvrt, name further folders in raster.roots, or make one GeoTIFF "
        "of it with gdal_translate",
    )
