"""A copy of footprints that an analyst corrects in QGIS: a field ``review`` and a form that offers its values."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.sinks import qgis_style
from geoseg.sinks.atomic import printable
from geoseg.sinks.colours import label_text
from geoseg.sinks.gpkg import OF_A_RUN, read_only, replacing_geopackage

REVIEW = ("keep", "wrong", "edited", "added")
"""What an analyst may say of a footprint; nothing: not judged."""


def review_path(footprints: Path) -> Path:
    """Where the copy goes unless told otherwise: ``town.gpkg`` becomes ``town.review.gpkg``, and that is itself."""
    return footprints.parent / f"{footprints.stem.removesuffix('.review')}.review.gpkg"


def write_review(footprints: Path, target: Path, *, force: bool = False) -> Path:
    """Copy a GeoPackage that geoseg wrote, with a column ``review`` (text, null) and the style of a review.

    Args:
        footprints: what ``geoseg extract`` wrote; it stays as it is.
        target: file to write, by rename.
        force: replace what stands there, corrections and all.

    Raises:
        ConfigError: not such a file, the same file, one that is no GeoPackage by its name, or ``target`` stands.
        SinkError: it cannot be written.
    """
    columns, labels = _described(footprints)
    if target.suffix.lower() != ".gpkg":
        raise ConfigError(f"a copy named {printable(target.name)!r}", allowed="a name that ends in .gpkg")
    if target.exists() and target.samefile(footprints):
        raise ConfigError(
            f"{printable(target)}, which is the footprints' own file",
            remedy="Correct it as it is, if it is a copy for review already, or write to another name",
        )
    if target.exists() and not force:
        raise ConfigError(
            f"{printable(target)} stands already and may hold corrections",
            remedy="Go on correcting it, write to another name, or pass --force, which drops it",
        )
    with replacing_geopackage(target, OF_A_RUN, force=force) as draft:
        with closing(sqlite3.connect(draft)) as copy, closing(read_only(footprints)) as source:
            source.backup(copy)  # unlike a copy of the file, with what QGIS has saved but not yet moved into it
            copy.execute("PRAGMA journal_mode = DELETE")
        with closing(sqlite3.connect(draft)) as db, db:
            if "review" not in columns:
                db.execute("ALTER TABLE footprints ADD COLUMN review TEXT")
                columns = [*columns, "review"]
            qml = qgis_style.footprints_qml(columns, labels)
            db.execute("UPDATE layer_styles SET styleQML = ? WHERE f_table_name = 'footprints'", (qml,))
    return target


def verdicts(table: gpd.GeoDataFrame, what: str) -> NDArray[np.object_]:
    """What an analyst said of each footprint; empty: not judged.

    One without an ``id`` was drawn by the analyst: ``added``, where ``review`` says nothing.

    Args:
        table: footprints with a column ``review``.
        what: what to call them in an error.

    Raises:
        ConfigError: a value that is no verdict.
    """
    said = np.array([text(value) for value in table["review"]], object)
    if unknown := sorted(set(said.tolist()) - {*REVIEW, ""}):
        raise ConfigError(
            f"{what} with {', '.join(map(repr, unknown[:5]))} in 'review'", allowed=f"{', '.join(REVIEW)}, or nothing"
        )
    drawn = np.array([not text(value) for value in table["id"]] if "id" in table else [True] * len(table), bool)
    said[(said == "") & drawn] = "added"
    return said


def text(value: Any) -> str:
    """Nulls, of whatever kind a reader gives, as nothing; a number, too, is something that was said."""
    return "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value).strip()


def _described(footprints: Path) -> tuple[list[str], list[str]]:
    """Attributes and labels of the footprints in a file of geoseg's."""
    remedy = "Give the .gpkg that geoseg extract wrote; geoseg.write makes one of a table"
    if not footprints.is_file():
        raise ConfigError(f"{printable(footprints)}, which is no file", remedy=remedy)
    try:
        with closing(read_only(footprints)) as db:
            geometry = db.execute("SELECT column_name FROM gpkg_geometry_columns WHERE table_name = 'footprints'")
            hidden = {str(name) for (name,) in geometry}
            shape = db.execute("PRAGMA table_info(footprints)").fetchall()
            labels = [row[0] for row in db.execute("SELECT DISTINCT label FROM footprints WHERE label NOT NULL")]
            db.execute("SELECT styleQML FROM layer_styles LIMIT 1").fetchone()
    except sqlite3.Error as error:
        said = f"{printable(footprints)}, which is no GeoPackage of geoseg's ({error})"
        raise ConfigError(said, remedy=remedy) from error
    columns = {str(row[1]): str(row[2]) for row in shape if not row[5] and str(row[1]) not in hidden}
    yes_or_no = columns.get("label") == "BOOLEAN"  # 1 and 0 to SQLite
    return [*columns], [label_text(bool(label) if yes_or_no else label) for label in labels]
