"""Where footprints go: one file per format, chosen by the suffix of the path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd

from geoseg.errors import ConfigError
from geoseg.paths import expanded
from geoseg.sinks.atomic import check_place
from geoseg.sinks.dataset import check_dataset, is_dataset
from geoseg.sinks.flatgeobuf import write as write_flatgeobuf
from geoseg.sinks.geojson import write as write_geojson
from geoseg.sinks.gpkg import check_replaceable
from geoseg.sinks.gpkg import write as write_gpkg
from geoseg.sinks.output import Output
from geoseg.sinks.parquet import write as write_parquet
from geoseg.sinks.provenance import written_run
from geoseg.sinks.tables import RowStream
from geoseg.vectors import check_table

__all__ = ["SINKS", "RowStream", "check_output", "check_suffix", "write", "write_stream", "written_run"]

Sink = Callable[[Output], None]
SINKS: dict[str, Sink] = {
    ".gpkg": write_gpkg,
    ".parquet": write_parquet,
    ".fgb": write_flatgeobuf,
    ".geojson": write_geojson,
}
"""Suffix of the path -> the function that writes that format."""


def write(
    footprints: gpd.GeoDataFrame,
    path: str | Path,
    *,
    gaps: gpd.GeoDataFrame | None = None,
    run: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write a table of polygons as one whole file: it appears by rename, or what stood there before stays.

    What is written depends on the arguments alone, so the same arguments give the same bytes.

    Args:
        footprints: the table of docs/outputs.md, or any GeoDataFrame of yours.
        path: ``.gpkg``, ``.parquet``, ``.fgb`` or ``.geojson``. A file that stands there is replaced.
        gaps: ground that was not examined: columns ``reason``, ``detail``, ``area_m2`` and the geometry.
            A layer of the GeoPackage; a file beside the others (``NAME.gaps.SUFFIX``). None: nothing is said,
            and a file of that name from an earlier output is removed.
        run: provenance, a flat mapping. Its ``started`` (ISO 8601) dates the GeoPackage.
        force: replace a GeoPackage even when another program seems to have it open for editing, or it holds
            layers that geoseg did not write.

    Returns:
        The path written.

    Raises:
        ConfigError: another suffix, not a GeoDataFrame or one without an active geometry, a column that the format
            cannot hold, no CRS where it needs one, or a run that is no mapping.
        SinkError: it cannot be written (disk full, read-only folder, open for editing elsewhere, layers of others);
            the old file is intact.
    """
    target = check_suffix(path)
    for name, table in (("footprints", footprints), ("gaps", gaps)):
        if not (name == "gaps" and table is None):
            check_table(table, name)
    if not (run is None or isinstance(run, Mapping)):
        raise ConfigError(
            f"a run of type {type(run).__name__}", allowed="a mapping", remedy="Of a report take report.as_dict()"
        )
    SINKS[target.suffix.lower()](Output(target=target, footprints=footprints, gaps=gaps, run=run, force=force))
    return target


def write_stream(
    rows: RowStream,
    path: str | Path,
    *,
    gaps: gpd.GeoDataFrame | None = None,
    run: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """As :func:`write`, of rows that are not in memory together.

    Raises:
        ConfigError: as :func:`write`.
        SinkError: likewise.
    """
    target = check_suffix(path)
    SINKS[target.suffix.lower()](Output(target=target, footprints=rows, gaps=gaps, run=run, force=force))
    return target


def check_output(path: str | Path, *, force: bool = False) -> Path:
    """The path of an output, once nothing is known that would refuse it: to ask before hours of work.

    Raises:
        ConfigError: another suffix; none is that of a folder, for a dataset.
        SinkError: the folder cannot be written to, or a GeoPackage there is open for editing or holds
            layers that geoseg did not write.
    """
    target = expanded(path)
    if is_dataset(target):
        check_dataset(target, force=force)
        if not target.exists():
            check_place(target)
        return target
    target = check_suffix(target, folders=True)
    check_place(target)
    if target.suffix.lower() == ".gpkg":
        check_replaceable(target, force=force)
    return target


def check_suffix(path: str | Path, *, folders: bool = False) -> Path:
    """The path of an output, once its suffix is known to name a format.

    Args:
        path: a file's.
        folders: whether a folder would do as well, as the message says then.

    Raises:
        ConfigError: another suffix.
    """
    target = expanded(path)
    if target.suffix.lower() not in SINKS:
        raise ConfigError(
            f"an output named {target.name!r}",
            allowed="names that end in " + ", ".join(SINKS) + (", or without a dot, a folder" if folders else ""),
            remedy=f"Web maps are made of one of these: geoseg export FILE -o {target.name}"
            if target.suffix.lower() == ".pmtiles"
            else "Take .gpkg for QGIS, .parquet for analysis at scale",
        )
    return target
