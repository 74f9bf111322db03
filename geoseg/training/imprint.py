"""What the files of labels say at this moment, as a number: a training goes on with what it began with alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import shapely

from geoseg.errors import ConfigError
from geoseg.paths import expanded
from geoseg.training.source_config import Source
from geoseg.vectors import PLACES, POLYGONS, read_table

_TABLES = ("labels", "footprints", "aoi", "ignore", "hard")
"""Fields of sources that name a vector file."""


def imprint(source: Source, root: Path) -> dict[str, str]:
    """SHA-256 of what each file of labels or regions that a source names says: of a vector file its features and
    attributes in their order, however it keeps them. A file that cannot be read has none yet.

    Args:
        source: of a training, or of its validation.
        root: the folder that paths start from.
    """
    found = {}
    for field in (*_TABLES, "annotations"):
        if name := getattr(source, field, ""):
            path = (root / expanded(name)).resolve()
            forms = PLACES if field == "hard" else POLYGONS
            try:
                content = path.read_bytes() if field == "annotations" else _features(read_table(path, forms=forms))
            except (ConfigError, OSError):
                content = b""
            found[field] = hashlib.sha256(content).hexdigest() if content else ""
    return found


def _features(table: Any) -> bytes:
    """Geometry and attributes of all rows; the CRS too."""
    attributes = table.drop(columns=table.geometry.name).astype(str)
    rows = pd.util.hash_pandas_object(attributes, index=False).to_numpy().tobytes()
    shapes = b"".join(shape or b"-" for shape in shapely.to_wkb(table.geometry.to_numpy()))
    return b"\0".join([str(table.crs).encode(), "\0".join(attributes.columns).encode(), rows, shapes])
