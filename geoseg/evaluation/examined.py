"""What a run of geoseg examined, read back from its output: the area in which it can be judged."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
import shapely.affinity
from pyproj import CRS
from pyproj.exceptions import ProjError

from geoseg.aoi import read_aoi
from geoseg.errors import GeosegError
from geoseg.polygons import polygonal, united
from geoseg.sinks import written_run
from geoseg.turns import turn
from geoseg.vectors import read_gaps, reprojected

_log = logging.getLogger(__name__)
_NOTED = re.compile(r"\s*(SRID=\d+;)?\s*(MULTI)?POLYGON\s*\(", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """Where a run looked."""

    aoi: gpd.GeoDataFrame | None
    """Its AOI, as far as its raster (of a merged layer: its scenes) reaches; None where the output does not say."""
    gaps: gpd.GeoDataFrame | None
    """What of that it did not examine; None: nothing."""
    extent: gpd.GeoDataFrame | None
    """The ground of its raster (of a merged layer: what its scenes saw), beyond which predictions cannot reach; None:
    not known."""
    said: str
    """Both in words."""


def examined(path: str | Path) -> Examined | None:
    """Where the run looked that wrote an output; None where the file does not come from a run, or does not say.

    Raises:
        ConfigError: the gaps beside it cannot be read.
    """
    run = written_run(path)
    if not run.get("run"):
        return None
    merged = run.get("scenes") is not None
    gaps = read_gaps(path)
    aoi, extent = _area(run.get("aoi")), _area(run.get("extent"))
    if run.get("aoi") and aoi is None:
        _log.warning("the run's AOI is too long to be kept in its output: give it with --aoi, to be exact")
    if aoi is None and run.get("extent") and extent is None:
        _log.warning("where the run's scenes lie is too long to be kept in its output: --aoi says where to look")
    if gaps is not None and not (run.get("aoi") and aoi is None):
        gaps = gaps[gaps["reason"] != "outside_aoi"]
    if gaps is not None and merged and extent is not None:
        gaps = gaps[:0]  # its extent is what at least one scene saw
    where = _within(aoi, extent)
    reasons = [] if gaps is None else sorted({str(reason) for reason in gaps["reason"]})
    if where is None and not reasons:
        return None
    its = "what its scenes saw" if merged else "its raster"
    told = [] if where is None else [its if aoi is None else "its AOI" if where is aoi else f"its AOI on {its}"]
    told += [f"without gaps ({', '.join(reasons)})"] if reasons else []
    return Examined(aoi=where, gaps=gaps if reasons else None, extent=extent, said=" ".join(told))


def _within(aoi: gpd.GeoDataFrame | None, extent: gpd.GeoDataFrame | None) -> gpd.GeoDataFrame | None:
    """What of an AOI lies in an extent, in the AOI's CRS: the AOI itself where that is all of it. None: not known."""
    if aoi is None or extent is None:
        return extent if aoi is None else aoi
    crs = CRS(aoi.crs)
    try:
        [ground] = reprojected(extent, crs).geometry
    except ProjError:  # as far apart as two CRSs can be
        return aoi
    [asked], whole = aoi.geometry, turn(crs)
    # An AOI may go on beyond 180 degrees, where the extent is cut.
    grounds = [shapely.affinity.translate(ground, shift) for shift in ((-whole, 0.0, whole) if whole else (0.0,))]
    if not np.isfinite(ground.bounds).all():
        return aoi
    shared = united(polygonal(shapely.intersection(asked, np.array(grounds, object))))
    if shared.area > (1 - 1e-9) * asked.area:  # one that was cut from the raster's own border meets it to rounding
        return aoi
    return gpd.GeoDataFrame(geometry=[] if shared.is_empty else [shared], crs=crs)


def _area(text: str | None) -> gpd.GeoDataFrame | None:
    """An area that a run noted as WKT. Nothing else that :func:`read_aoi` takes: the text of somebody else's file must
    not choose what else is opened."""
    if not isinstance(text, str) or not _NOTED.match(text):
        return None
    try:
        area = read_aoi(text)
    except GeosegError:  # summed up: of too many vertices, or without an EPSG code
        return None
    return gpd.GeoDataFrame(geometry=[area.geometry], crs=area.crs)
