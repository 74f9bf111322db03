"""GeoPackage: the file an analyst opens in QGIS, styled, with what was not examined and where it comes from.

One write per layer at the end, never appends: two writers, or a live R-tree fed in parts, leave
``gpkg_ogr_contents.feature_count`` wrong, and readers then miss rows without a word.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio

from geoseg.errors import SinkError
from geoseg.sinks import qgis_style, tables
from geoseg.sinks.atomic import printable, replacing
from geoseg.sinks.output import Output, naming_the_column

_DESCRIPTIONS = {
    "footprints": "Objects found, one row each",
    "gaps": "Ground that was not examined, and why",
    "errors": "What differs from the truth, one row each",
    "cores": "What each tile owns",
    "windows": "What each tile sees",
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
OF_A_RUN = ("footprints", "gaps", "run")
"""What a file of footprints may hold: all of it goes when the next run replaces the file."""
OF_A_PLAN = ("cores", "windows")
"""What a file of tiles may hold."""
_FORMATS_OWN = ("gpkg_", "rtree_", "sqlite_")
_SIDECARS = ("-wal", "-shm", "-journal")
_date_lock = threading.Lock()  # GDAL's date is one setting of the whole process


def write(output: Output) -> None:
    """Write the layers ``footprints`` and ``gaps``, the table ``run`` and their QGIS styles.

    Raises:
        ConfigError: a column that the format cannot hold.
        SinkError: it cannot be written, somebody may miss what stands there (:func:`check_replaceable`), or it
            does not hold what was written.
    """
    with replacing_geopackage(output.target, OF_A_RUN, force=output.force) as draft:
        _write_file(draft, output.layers(), output.run)


def write_errors(target: Path, errors: gpd.GeoDataFrame, *, force: bool = False) -> None:
    """Write a layer ``errors`` with its QGIS style, by its column ``kind``; errors as for :func:`write`."""
    with replacing_geopackage(target, ("errors",), force=force) as draft:
        _write_file(draft, {"errors": tables.flat(errors)}, None)


def write_tiles(target: Path, layers: Mapping[str, gpd.GeoDataFrame], *, force: bool = False) -> None:
    """Write the layers ``cores`` and ``windows`` with their QGIS styles; errors as for :func:`write`."""
    with replacing_geopackage(target, OF_A_PLAN, force=force) as draft:
        _write_file(draft, layers, None)


def _write_file(draft: Path, layers: Mapping[str, tables.Table], run: Mapping[str, Any] | None) -> None:
    date = tables.run_date(run)
    with _dated(date):
        for name, table in layers.items():
            with naming_the_column(name, table):
                _write_layer(draft, name, table)
    with closing(sqlite3.connect(draft)) as db, db:
        _write_styles(db, layers, date)
        if run is not None:
            _write_run(db, run, date)
    for name, table in layers.items():
        _check_counts(draft, name, table)


def geometry_column(table: tables.Table) -> str:
    """Name of the geometry column in the file: ``geom``, or another where an attribute has that name."""
    return _free_name("geom", table)


def _free_name(wanted: str, table: tables.Table) -> str:
    taken = {name.lower() for name in tables.attributes(table)}  # SQLite's names ignore case
    while wanted in taken:
        wanted += "_"
    return wanted


def _write_layer(draft: Path, name: str, table: tables.Table) -> None:
    tables.write_layer(
        table,
        draft,
        layer=name,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},  # read without a warning by GDAL before 3.7 (QGIS 3.22, 3.28)
        multi=True,
        layer_options={
            "GEOMETRY_NAME": geometry_column(table),
            "FID": _free_name("fid", table),
            "SPATIAL_INDEX": "YES",
            "DESCRIPTION": _DESCRIPTIONS[name],
        },
    )


def _write_styles(db: sqlite3.Connection, layers: Mapping[str, tables.Table], date: datetime) -> None:
    db.execute(_LAYER_STYLES)
    for name, table in layers.items():
        columns = tables.attributes(table)
        if name == "gaps":
            qml = qgis_style.gaps_qml(columns, tables.texts(table, "reason"))
        elif name == "errors":
            qml = qgis_style.errors_qml(columns)
        elif name in OF_A_PLAN:
            qml = qgis_style.tiles_qml(window=name == "windows")
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
    """Enter a table without geometry where GeoPackage readers look for tables.

    Not in ``gpkg_ogr_contents``: without GDAL's triggers its count would be wrong after the next insert.
    """
    db.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id)"
        " VALUES (?, 'attributes', ?, ?, ?, 0)",
        (table, table, _DESCRIPTIONS[table], _stamp(date)),
    )


def _check_counts(draft: Path, layer: str, table: tables.Table) -> None:
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
    expected = {**dict.fromkeys(found, len(table)), "R-tree": tables.shape_count(table)}
    if found != expected or health != "ok":
        raise SinkError(
            f"the layer {layer!r} should count {expected} but counts {found}; SQLite finds it {health!r}",
            remedy="What stood there before is intact. Check the disk and write again",
        )


@contextmanager
def replacing_geopackage(target: Path, own: Collection[str], *, force: bool) -> Iterator[Path]:
    """A path to write a GeoPackage to, which takes the place of ``target`` when the block ends well.

    Raises:
        SinkError: it cannot be written, or ``target`` must not be replaced (:func:`check_replaceable`).
    """
    check_replaceable(target, own, force=force)
    with replacing(
        target,
        gone=_journals(target) if force else (),  # SQLite would replay them into the new file
        library_errors=(*tables.GDAL_ERRORS, sqlite3.Error),
        make_way=lambda: check_replaceable(target, own, force=force),  # again: the work before may have taken a while
    ) as (draft,):
        yield draft


def read_only(path: Path) -> sqlite3.Connection:
    """A GeoPackage opened for a look: with what another program that has it open has saved, and else leaving no
    journal beside it."""
    shared = any(os.path.exists(each) for each in _journals(path))
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro{'' if shared else '&immutable=1'}", uri=True)


def check_replaceable(target: Path, own: Collection[str] = OF_A_RUN, *, force: bool) -> None:
    """Refuse, unless forced, to replace a file that is in use or holds other layers than ``own``.

    QGIS keeps a ``-wal`` beside a file while it edits; a ``-journal`` is a transaction not finished.

    Raises:
        SinkError: there is such a file beside ``target``, or a table in it that is not one of ``own``.
    """
    if force:
        return
    present = [name for name in ("-wal", "-journal") if os.path.exists(os.path.realpath(target) + name)]
    if present:
        raise SinkError(
            f"{printable(target)} has a {present[0]!r} file beside it: it is open for editing in QGIS or"
            " another program, or was left in the middle of an edit",
            remedy="End the edit session there, write to another name, or pass force (--force), which drops"
            " what was not saved",
        )
    if others := _other_tables(target, own):
        raise SinkError(
            f"{printable(target)} holds what is not written here and would go: tables named"
            f" {printable(', '.join(others[:5]))}{', ...' if len(others) > 5 else ''}",
            remedy="Write to another name, or pass force (--force), which replaces the whole file",
        )


def _other_tables(target: Path, own: Collection[str]) -> list[str]:
    """Tables and views in a GeoPackage besides ``own``, styles and the format's; none where it is no SQLite."""
    if not os.path.isfile(target):
        return []
    try:
        with closing(read_only(target)) as db:
            names = [str(n) for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    except sqlite3.Error:
        return []
    return sorted(name for name in names if name not in (*own, "layer_styles") and not name.startswith(_FORMATS_OWN))


def _journals(path: Path) -> list[Path]:
    """What SQLite may keep beside a file."""
    return [Path(os.path.realpath(path) + suffix) for suffix in _SIDECARS]


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
