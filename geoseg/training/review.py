"""What an analyst's corrections say: which footprints are objects, which are wrong, which tell nothing."""

from __future__ import annotations

import logging

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from geoseg.coco.writing import column_of
from geoseg.errors import ConfigError
from geoseg.evaluation.frame import scores_of
from geoseg.sinks.review import REVIEW, text, verdicts
from geoseg.training.labelled import named
from geoseg.training.source_config import ReviewSource

_log = logging.getLogger(__name__)
OBJECTS = ("keep", "edited", "added")
"""Values of ``review`` that make an object."""


def judged(table: gpd.GeoDataFrame, source: ReviewSource, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Per footprint: class index from 1 for an object, 0 where nothing is punished, -1 for what is wrong.

    A feature without an ``id`` was drawn by the analyst, whatever ``review`` says. One that nobody judged is an object
    from ``keep_above`` on, wrong below ``wrong_below``, else ignored.

    Raises:
        ConfigError: no column ``review``, or verdicts, labels and scores that it may not hold.
    """
    if "review" not in table:
        raise ConfigError(
            f"{source.footprints} without a column 'review'", allowed="footprints made ready by geoseg review"
        )
    review = verdicts(table, str(source.footprints))
    scores = scores_of(table)
    scores[np.isinf(scores)] = np.nan
    untouched = review == ""
    if untouched.all() and source.keep_above is None and source.wrong_below is None:
        _log.warning(
            "%s: nobody has judged any footprint, so all are ignored, and the other ground is taken as free of objects",
            source.footprints,
        )
    result = np.where(np.isin(review, OBJECTS), _labels(table, source, classes), 0)
    if source.keep_above is not None:
        kept = untouched & (scores >= source.keep_above)
        result[kept] = _labels(table, source, classes)[kept]
    if source.wrong_below is not None:
        result[untouched & (scores < source.wrong_below)] = -1
    result[review == "wrong"] = -1
    said = ", ".join(f"{verdict} {(review == verdict).sum()}" for verdict in REVIEW)
    _log.info(
        "%s: %d footprints, of which objects %d, wrong %d, ignored %d (%s, not judged %d)",
        *(source.footprints, len(result), (result > 0).sum(), (result < 0).sum(), (result == 0).sum()),
        *(said, untouched.sum()),
    )
    return result.astype(np.int64)


def _labels(table: gpd.GeoDataFrame, source: ReviewSource, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Class of each feature; one that was drawn without a label is of the first class."""
    names = [text(value) or classes[0] for value in column_of(table, "label", "")]
    return named(names, classes, source.ignore_labels, source.footprints)
