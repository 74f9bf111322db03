"""A copy that somebody corrected, as the truth."""

from __future__ import annotations

import logging

import geopandas as gpd
import numpy as np

from geoseg.coco.writing import column_of, ignored
from geoseg.sinks.review import text, verdicts
from geoseg.vectors import check_table

_log = logging.getLogger(__name__)


def is_reviewed(table: gpd.GeoDataFrame) -> bool:
    """Whether it is a copy that ``geoseg review`` made."""
    return {"review", "run"} <= set(table)


def reviewed(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The objects of a copy that ``geoseg review`` made; any other table as it is.

    What is ``wrong`` is left out, what nobody judged becomes a region to ignore, and an object without a label has that
    of the others where they have but one.

    Raises:
        ConfigError: a verdict that there is not, or no table at all.
    """
    check_table(table, "a table to compare")
    if not is_reviewed(table):
        return table
    said = verdicts(table, "a reviewed copy")
    wrong, unjudged = said == "wrong", said == ""
    if wrong.any() or unjudged.any():
        counts = int(wrong.sum()), int(unjudged.sum())
        _log.info("of the reviewed copy %s are wrong and left out, %s not judged and ignored", *counts)
    table = table.assign(ignore=ignored(table) | unjudged)
    if "label" in table:
        labels = np.array([text(value) for value in column_of(table, "label", "")], object)
        if len(known := set(labels.tolist()) - {""}) == 1:
            table = table.assign(label=known.pop())
    return table[~wrong]


def objects(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The objects of a copy that ``geoseg review`` made, without what nobody judged; any other table as it is.

    Raises:
        ConfigError: as :func:`reviewed`.
    """
    said = reviewed(table)
    return said[~ignored(said)] if is_reviewed(table) else table
