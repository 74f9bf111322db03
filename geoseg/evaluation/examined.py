"""What a run of geoseg examined, read back from its output: the area in which it can be judged."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd

from geoseg.aoi import read_aoi
from geoseg.errors import GeosegError
from geoseg.sinks import written_run
from geoseg.vectors import read_gaps

_log = logging.getLogger(__name__)
_NOTED = re.compile(r"\s*(SRID=\d+;)?\s*(MULTI)?POLYGON\s*\(", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """Where a run looked."""

    aoi: gpd.GeoDataFrame | None
    """Its AOI, or else the extent of its raster; None where the output does not say."""
    gaps: gpd.GeoDataFrame | None
    """What of that it did not examine; None: nothing."""
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
    gaps = read_gaps(path)
    aoi, what = _area(run.get("aoi"), "its AOI")
    if aoi is None:
        if run.get("aoi"):
            _log.warning("the run's AOI is too long to be kept in its output: give it with --aoi, to be exact")
        aoi, what = _area(run.get("extent"), "its raster")
    if run.get("aoi") and gaps is not None and what != "its AOI":
        gaps_left = gaps
    else:
        gaps_left = None if gaps is None else gaps[gaps["reason"] != "outside_aoi"]
    reasons = [] if gaps_left is None else sorted({str(reason) for reason in gaps_left["reason"]})
    if aoi is None and not reasons:
        return None
    told = [what] if aoi is not None else []
    told += [f"without gaps ({', '.join(reasons)})"] if reasons else []
    return Examined(aoi=aoi, gaps=gaps_left if reasons else None, said=" ".join(told))


def _area(text: str | None, what: str) -> tuple[gpd.GeoDataFrame | None, str]:
    """An area that a run noted as WKT. Nothing else that :func:`read_aoi` takes: the text of somebody else's file must
    not choose what else is opened."""
    if not isinstance(text, str) or not _NOTED.match(text):
        return None, ""
    try:
        area = read_aoi(text)
    except GeosegError:  # summed up: of too many vertices, or without an EPSG code
        return None, ""
    return gpd.GeoDataFrame(geometry=[area.geometry], crs=area.crs), what
