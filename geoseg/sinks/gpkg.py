"""GeoPackage: the file an analyst opens in QGIS, styled, with what was not examined and where it comes from.

One write per layer at the end, never appends: two writers, or a live R-tree fed in parts, leave
``gpkg_ogr_contents.feature_count`` wrong, and readers then miss rows without a word.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio

from geoseg.errors import SinkError
from geoseg.sinks import qgis_style, tables
from geoseg.sinks.atomic import printable, replacing

_DESCRIPTIONS = {
    "footprints": "Objects found, one row each",
    "gaps": "Ground that was not examined, and why",
    "run": "Where the footprints come from",
    "layer_styles": "QGIS styles",
}
# The names and types are those QGIS looks for.
_LAYER_STYLES = """CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"""
_RUN = """CREATE TABLE run (
    fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT NOT NULL UNIQUE, value TEXT)"""
_SIDECARS = ("-wal", "-shm", "-journal")
_date_lock = threading.Lock()  # GDAL's date is one setting of the whole process


def write(
    footprints: gpd.GeoDataFrame,
    target: Path,
    *,
    gaps: gpd.GeoDataFrame | None = None,
    run: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write the layers ``footprints`` and ``gaps``, the table ``run`` and their QGIS styles.

    Raises:
        SinkError: it cannot be written, is open for editing elsewhere, or does not hold what was written.
    """
    date = tables.run_date(run)
    layers = {"footprints": tables.flat(footprints)}
    if gaps is not None:
        layers["gaps"] = tables.flat(tables.same_crs(gaps, footprints))
    refuse_if_open(target, force=force)
    with replacing(target, library_errors=(*tables.GDAL_ERRORS, sqlite3.Error)) as (draft,):
        with _dated(date):
            for name, table in layers.items():
                _write_layer(draft, name, table)
        with closing(sqlite3.connect(draft)) as db, db:
            _write_styles(db, layers, date)
            if run is not None:
                _write_run(db, run, date)
        for name, table in layers.items():
            _check_counts(draft, name, table)
        if force:
            _remove_sidecars(target)
    return target


def geometry_column(table: gpd.GeoDataFrame) -> str:
    """Name of the geometry column in the file: ``geom``, or another where an attribute has that name."""
    return _free_name("geom", table)


def _free_name(wanted: str, table: gpd.GeoDataFrame) -> str:
    taken = {name.lower() for name in tables.attributes(table)}  # SQLite's names ignore case
    while wanted in taken:
        wanted += "_"
    return wanted


def _write_layer(draft: Path, name: str, table: gpd.GeoDataFrame) -> None:
    pyogrio.write_dataframe(
        table,
        draft,
        layer=name,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},  # read without a warning by GDAL before 3.7 (QGIS 3.22, 3.28)
        geometry_type=tables.geometry_kind(table),
        promote_to_multi=True,
        layer_options={
            "GEOMETRY_NAME": geometry_column(table),
            "FID": _free_name("fid", table),
            "SPATIAL_INDEX": "YES",
            "DESCRIPTION": _DESCRIPTIONS[name],
        },
    )


def _write_styles(db: sqlite3.Connection, layers: Mapping[str, gpd.GeoDataFrame], date: datetime) -> None:
    db.execute(_LAYER_STYLES)
    for name, table in layers.items():
        columns = tables.attributes(table)
        if name == "gaps":
            qml = qgis_style.gaps_qml(columns, tables.texts(table, "reason"))
        else:
            qml = qgis_style.footprints_qml(columns, tables.texts(table, "label"))
        db.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,"
            " styleName, styleQML, styleSLD, useAsDefault, description, owner, ui, update_time)"
            " VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '', NULL, ?)",
            (name, geometry_column(table), name, qml, _DESCRIPTIONS[name], _stamp(date)),
        )
    _register(db, "layer_styles", date)


def _write_run(db: sqlite3.Connection, run: Mapping[str, Any], date: datetime) -> None:
    db.execute(_RUN)
    db.executemany("INSERT INTO run (key, value) VALUES (?, ?)", tables.run_items(run))
    _register(db, "run", date)


def _register(db: sqlite3.Connection, table: str, date: datetime) -> None:
    """Enter a table without geometry where GeoPackage readers look for tables."""
    db.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id)"
        " VALUES (?, 'attributes', ?, ?, ?, 0)",
        (table, table, _DESCRIPTIONS[table], _stamp(date)),
    )
    (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    db.execute("INSERT INTO gpkg_ogr_contents (table_name, feature_count) VALUES (?, ?)", (table, count))


def _check_counts(draft: Path, layer: str, table: gpd.GeoDataFrame) -> None:
    """All who count must agree: SQL, GDAL's note, a reader, and the R-tree (of the rows with a shape)."""
    with closing(sqlite3.connect(draft)) as db:
        rows = {
            "table": f"SELECT count(*) FROM {layer}",
            "gpkg_ogr_contents": f"SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = '{layer}'",
            "R-tree": f'SELECT count(*) FROM "rtree_{layer}_{geometry_column(table)}_rowid"',
        }
        found = {name: db.execute(query).fetchone()[0] for name, query in rows.items()}
        (health,) = db.execute("PRAGMA quick_check(1)").fetchone()
    found["reader"] = tables.read_count(draft, layer)
    shapes = int((~(table.geometry.is_empty | table.geometry.isna())).sum())
    expected = {**dict.fromkeys(found, len(table)), "R-tree": shapes}
    if found != expected or health != "ok":
        raise SinkError(
            f"the layer {layer!r} should count {expected} but counts {found}; SQLite finds it {health!r}",
            remedy="What stood there before is intact. Check the disk and write again",
        )


def refuse_if_open(target: Path, *, force: bool) -> None:
    """Refuse to replace a file in use, unless forced.

    QGIS keeps a ``-wal`` beside a file while it edits; a ``-journal`` is a transaction not finished.

    Raises:
        SinkError: there is such a file beside ``target``.
    """
    present = [name for name in ("-wal", "-journal") if os.path.exists(_beside(target, name))]
    if present and not force:
        raise SinkError(
            f"{printable(target)} has a {present[0]!r} file beside it: it is open for editing in QGIS or"
            " another program, or was left in the middle of an edit",
            remedy="End the edit session there, write to another name, or pass force (--force), which drops"
            " what was not saved",
        )


def _remove_sidecars(target: Path) -> None:
    """Journals of the old file, which SQLite would else replay into the new one."""
    for suffix in _SIDECARS:
        if os.path.exists(_beside(target, suffix)):
            os.unlink(_beside(target, suffix))


def _beside(target: Path, suffix: str) -> str:
    return os.path.realpath(target) + suffix


@contextmanager
def _dated(date: datetime) -> Iterator[None]:
    """Have GDAL write ``date`` as the time of change, so that the same content is the same bytes."""
    with _date_lock:
        before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _stamp(date)})
        try:
            yield
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _stamp(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{date.microsecond // 1000:03d}Z"
