"""Training images from rasters and the vector layers that label them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.aoi import load_aoi
from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError
from geoseg.evaluation.reviewed import is_reviewed
from geoseg.grid import Grid
from geoseg.polygons import pieces, polygonal, share_inside
from geoseg.raster import Scaling, open_raster, source_for, warnings_of
from geoseg.training.config import TrainConfig
from geoseg.training.labelled import Labelled, named
from geoseg.training.pixels import Windowed, hold
from geoseg.training.review import judged
from geoseg.training.source_config import RasterSource, ReviewSource
from geoseg.vectors import PLACES, POLYGONS, from_table, in_pixels, read_layer, read_shapes, read_table
from geoseg.window import Window

_log = logging.getLogger(__name__)
OVERSAMPLING = 0.7
"""Rasters are read this much finer than the model's GSD, so that zoomed chips keep their sharpness."""
MOSTLY = 0.5
"""An object is labelled where at least this share of it lies on labelled ground; else it is ignored."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """What a vector layer says of the ground."""

    geometries: NDArray[Any]
    """``(n,)`` in their CRS, or in image pixels."""
    labels: NDArray[np.int64]
    """``(n,)`` class index from 1; 0: nothing is punished here; -1: something was wrongly found here."""

    def where(self, keep: NDArray[np.bool_]) -> Marks:
        """Some of them."""
        return Marks(geometries=self.geometries[keep], labels=self.labels[keep])


def labelled_raster(source: RasterSource | ReviewSource, config: TrainConfig) -> Labelled:
    """A raster with its labels, seen a little finer than the model's GSD; a large one is read by window.

    Raises:
        ConfigError: labels that cannot be read or do not meet the raster, or a class the model does not have.
        RasterError: a raster that cannot be read for a model of red, green and blue.
    """
    window = raster_window(source.raster, config, columns=source.columns, bands=source.bands, scaling=source.scaling)
    info = window.source.info
    for warning in warnings_of(info, min(config.model.gsd_m, info.grid.gsd_m)):  # a finer one shows all there is to see
        _log.warning("%s", warning)
    grid = window.source.grid.crop(window.area)
    marks = _marks(source, config, grid)
    return assembled(window, marks, area=_area(source, config, grid), config=config)


def raster_window(
    raster: str,
    config: TrainConfig,
    *,
    columns: tuple[float, float] = (0.0, 1.0),
    bands: dict[str, int] | None = None,
    scaling: tuple[float, float] | None = None,
) -> Windowed:
    """How a raster is read for training: errors as for :func:`labelled_raster`."""
    model = config.model
    info = open_raster(config.path(raster))
    # A GSD is asked for also where the raster's own is coarser (finer would invent detail): its pixels may be oblong on
    # the ground, as those in degrees are, and a chip is square ground, as it is in use.
    gsd_m = max(model.gsd_m * OVERSAMPLING, min(info.grid.gsd_xy_m))
    card = ModelCard(classes=model.classes, gsd_m=gsd_m, bands=("red", "green", "blue"), mean=model.mean, std=model.std)
    rule = None if scaling is None else Scaling(low=(scaling[0],), high=(scaling[1],))
    reading = source_for(info, card, scaling=rule, bands=bands)
    low, high = (round(share * reading.grid.width) for share in columns)
    if high <= low:
        raise ConfigError(f"the columns {columns} of {raster}, which hold no pixel", allowed="0 <= first < last <= 1")
    return Windowed(source=reading, area=Window(row_off=0, col_off=low, height=reading.grid.height, width=high - low))


def assembled(windowed: Windowed, marks: Marks, *, area: Any, config: TrainConfig) -> Labelled:
    """The image with marks in its pixels; ``area``: what is labelled, None for all."""
    size = 3 * windowed.height * windowed.width
    frame = shapely.box(0, 0, windowed.width, windowed.height)
    objects = inside(marks.where(marks.labels > 0), frame)
    ignore = shapely.get_parts(inside(marks.where(marks.labels == 0), frame).geometries)
    wrong = marks.geometries[marks.labels == -1]
    windowed = replace(windowed, labelled=area)
    if area is not None:
        labelled = share_inside(objects.geometries, area) >= MOSTLY
        outside = shapely.get_parts(shapely.difference(frame, area))
        ignore = np.concatenate([ignore, shapely.get_parts(objects.geometries[~labelled]), outside])
        objects = objects.where(labelled)
    return Labelled(
        pixels=hold(windowed) if size <= config.schedule.hold_mb * 2**20 else windowed,
        polygons=objects.geometries,
        labels=objects.labels,
        gsd_m=windowed.source.grid.gsd_m,
        # A chip then costs what is there, where all that lies between 40,000 parcels is one polygon.
        ignore=pieces(ignore[shapely.area(ignore) > 0]),
        area=area,
        hard_xy=shapely.get_coordinates(shapely.centroid(wrong[shapely.intersects(wrong, frame)])),
    )


def _marks(source: RasterSource | ReviewSource, config: TrainConfig, grid: Grid) -> Marks:
    """All that the source's layers say, in the pixels of ``grid``."""
    if isinstance(source, ReviewSource):
        what = source.footprints
        table = read_table(config.path(what), kind="reviewed")
        labels = judged(table, source, config.model.classes)
    else:
        what = source.labels
        table = read_table(config.path(what), kind="label")
        if is_reviewed(table):
            raise ConfigError(
                f"{what}, a reviewed copy, as labels: what is wrong in it, and what nobody judged, would be objects",
                remedy='Give it as footprints of a source of kind = "review"',
            )
        labels = _classes(table, source, config.model.classes)
    parts = [Marks(geometries=in_pixels(from_table(table, what), grid), labels=labels)]
    if flat := int(np.isin(shapely.get_dimensions(parts[0].geometries), (0, 1)).sum()):
        _log.warning("%s: %d of %d features are points or lines, not polygons, and left out", what, flat, len(table))
    for path, label, forms in ((source.ignore, 0, POLYGONS), (source.hard, -1, PLACES)):
        if path:
            moved = in_pixels(read_shapes(config.path(path), kind="region", forms=forms), grid)
            parts.append(Marks(geometries=moved, labels=np.full(len(moved), label, np.int64)))
    both = Marks(
        geometries=np.concatenate([part.geometries for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )
    frame = shapely.box(0, 0, grid.width, grid.height)
    ground = (shapely.get_dimensions(both.geometries) == 2) | (both.labels == -1)  # a point is a place, too
    here = both.where(ground & shapely.intersects(both.geometries, frame))
    # A layer of nothing says that nothing is there; one of which nothing is here is most often of another place.
    if len(table) and not (here.labels > 0).any() and isinstance(source, RasterSource):
        raise ConfigError(
            f"{source.labels}, none of whose polygons of a class meets {source.raster}",
            allowed="polygons around objects that the raster shows, or, where it shows none, a layer without features",
        )
    return here


def _classes(table: gpd.GeoDataFrame, source: RasterSource, classes: tuple[str, ...]) -> NDArray[np.int64]:
    if not source.label_column:
        return named([source.label or classes[0]] * len(table), classes, source.ignore_labels, source.labels)
    if not len(table):  # GeoJSON without features has no columns either
        return np.zeros(0, np.int64)
    if source.label_column not in table:
        columns = ", ".join(str(name) for name in table.columns if name != table.geometry.name)
        raise ConfigError(f"{source.labels} without a column {source.label_column!r}", allowed=columns)
    # A null makes floats of whole numbers: back to those, for 1.0 is the name of no class.
    column = table[source.label_column].convert_dtypes().astype("string")
    values = column.fillna("").str.strip().tolist()
    if (nameless := values.count("")) and "" not in source.ignore_labels:
        raise ConfigError(
            f"{source.labels}, of whose {len(values):,} features {nameless:,} have no label in {source.label_column!r}",
            allowed=f"the model's classes ({', '.join(classes)})",
            remedy='Give them one or take them out, or put "" into ignore_labels: nothing is punished where they lie',
        )
    return named(values, classes, source.ignore_labels, source.labels)


def _area(source: RasterSource | ReviewSource, config: TrainConfig, grid: Grid) -> Any:
    """What is labelled, in the pixels of ``grid``; None: all of it."""
    areas = []
    if source.aoi:
        areas.append(load_aoi(config.path(source.aoi), grid)[0])
    if isinstance(source, ReviewSource):
        gaps = read_layer(config.path(source.footprints), "gaps", "reviewed")
        if gaps is None and not source.aoi:
            _log.warning(
                "%s holds no layer 'gaps' (one layer saved to another file leaves it behind): ground that the run did"
                " not examine is taken as free of objects, unless aoi says what was gone through",
                source.footprints,
            )
        if gaps is not None and len(gaps):
            frame = shapely.box(0, 0, grid.width, grid.height)
            lost = in_pixels(from_table(gaps, "the gaps"), grid)
            areas.append(shapely.difference(frame, shapely.union_all(shapely.make_valid(lost))))
    if not areas:
        return None
    area = reduce(shapely.intersection, areas)
    if area.area == 0:
        raise ConfigError(f"an AOI that leaves nothing of {source.raster}", allowed="some ground that is labelled")
    return area


def inside(marks: Marks, frame: shapely.Geometry) -> Marks:
    """What lies in ``frame``, as labels often go on beyond their raster: a valid Polygon, or MultiPolygon, of each mark
    that shows there. What has several parts stays one object, as it is one to an evaluation."""
    cut = polygonal(shapely.intersection(shapely.make_valid(marks.geometries), frame))
    return Marks(geometries=cut, labels=marks.labels).where(~shapely.is_empty(cut))
