"""Footprints as COCO instance JSON in the pixels of their raster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geoseg.coco.dataset import Annotation, Coco, Image
from geoseg.coco.rle import Rle
from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.paths import expanded
from geoseg.sinks.atomic import replacing
from geoseg.vectors import from_table, in_pixels

Form = Literal["polygon", "rle"]
_DIGITS = 3
"""Decimals of a pixel that are written."""
_NO_LABEL = "object"


def coco_of(footprints: gpd.GeoDataFrame, grid: Grid, file_name: str, *, form: Form = "polygon") -> Coco:
    """Footprints of one raster as one image with annotations.

    What lies beyond the raster is cut off. COCO's polygons have no holes, so a footprint with holes goes as run
    lengths in any case. Numbers of classes follow the sorted labels, from 1; without a column ``label`` there is one
    class, ``object``. A column ``iscrowd`` or ``ignore`` is kept.

    Args:
        footprints: polygons with a CRS (any), or in grid pixels without one.
        grid: of the raster.
        file_name: what to call the image.
        form: ``polygon`` (sub-pixel outlines) or ``rle`` (whole pixels, by their centres).

    Raises:
        ConfigError: another ``form``, footprints of which none lies on the grid, or scores that are no numbers.
    """
    if form not in ("polygon", "rle"):
        raise ConfigError(f"masks as {form!r}", allowed="polygon, rle")
    shapes = np.asarray(footprints.geometry.array, dtype=object)
    pixels = shapes if footprints.crs is None else in_pixels(from_table(footprints, "footprints"), grid)
    frame = shapely.box(0, 0, grid.width, grid.height)
    seen = np.flatnonzero(~shapely.is_missing(pixels) & shapely.intersects(pixels, frame))
    inside = shapely.intersection(shapely.make_valid(pixels[seen]), frame)
    labels = column_of(footprints, "label", _NO_LABEL).astype(str)
    classes = dict(enumerate(sorted(set(labels.tolist()) or {_NO_LABEL}), 1))
    numbers = {name: number for number, name in classes.items()}
    scores, ignore = _scores(footprints), ignored(footprints)
    annotations: list[Annotation] = []
    for row, shape in zip(seen, inside, strict=True):
        segmentation = _segmentation(shape, grid, form)
        if segmentation is None:
            continue
        score = None if np.isnan(scores[row]) else float(scores[row])
        annotations.append(
            Annotation(
                id=len(annotations) + 1,
                image_id=1,
                category_id=numbers[labels[row]],
                segmentation=segmentation,
                ignore=bool(ignore[row]),
                score=score,
            )
        )
    left_out = len(pixels) - len(annotations)
    if left_out and not annotations:
        raise ConfigError(
            f"{left_out} footprints, none of which lies on {file_name}",
            allowed="footprints of that raster",
            remedy="Check that both are of one place, and state their true CRS",
        )
    warnings = (f"{left_out} footprints left out: none of their ground is on the raster",) if left_out else ()
    image = Image(id=1, file_name=file_name, height=grid.height, width=grid.width)
    return Coco(images=(image,), classes=classes, annotations=tuple(annotations), warnings=warnings)


def _scores(table: gpd.GeoDataFrame) -> Any:
    """``(n,)`` scores; NaN where there is none.

    Raises:
        ConfigError: text that is no number, or infinity.
    """
    try:
        scores = pd.to_numeric(pd.Series(column_of(table, "score", np.nan))).to_numpy(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"scores that are no numbers ({error})", allowed="numbers, or none") from error
    if np.isinf(scores).any():
        raise ConfigError("a score that is infinite, which JSON cannot say", allowed="numbers, or none")
    return scores


def ignored(table: gpd.GeoDataFrame) -> Any:
    """``(n,)`` True for rows that a column ``iscrowd`` or ``ignore`` marks; null is no mark."""
    marked = np.zeros(len(table), bool)
    for name in ("iscrowd", "ignore"):
        if name in table:
            marked |= np.array([_marks(value) for value in table[name]], bool)
    return marked


def _marks(value: Any) -> bool:
    """Shapefiles and GeoJSON have flags as numbers and text too."""
    if value is None or value != value:
        return False
    return str(value).strip().lower() not in ("", "0", "0.0", "false", "no", "n", "<na>", "none", "nan")


def write_coco(coco: Coco, path: str | Path) -> Path:
    """Write a COCO file, whole or not at all.

    Raises:
        ConfigError: a name that does not end in ``.json``.
        SinkError: it cannot be written.
    """
    target = expanded(path)
    if target.suffix.lower() != ".json":
        raise ConfigError(f"a COCO file named {target.name!r}", allowed="a name that ends in .json")
    with replacing(target) as (draft,), open(draft, "w", encoding="utf-8") as file:
        for piece in json.JSONEncoder(allow_nan=False, separators=(",", ":")).iterencode(_content(coco)):
            file.write(piece)
        file.write("\n")
    return target


def _content(coco: Coco) -> dict[str, Any]:
    return {
        "info": {"description": "Written by geoseg; pixels with (0, 0) at the outer corner of the corner pixel"},
        "images": [
            {"id": image.id, "file_name": image.file_name, "height": image.height, "width": image.width}
            for image in coco.images
        ],
        "categories": [{"id": number, "name": name} for number, name in coco.classes.items()],
        "annotations": list(_annotations(coco)),
    }


def _annotations(coco: Coco) -> Iterator[Mapping[str, Any]]:
    sizes = {image.id: (image.height, image.width) for image in coco.images}
    for annotation in coco.annotations:
        form = annotation.segmentation
        written: Any
        if isinstance(form, Rle):
            (left, top, right, bottom), area = form.xyxy, float(form.area)
            written = {"size": list(sizes[annotation.image_id]), "counts": form.text}
        else:
            (left, top, right, bottom), area = annotation.polygon.bounds, annotation.polygon.area
            written = [np.round(ring, _DIGITS).ravel().tolist() for ring in form]
        score = {} if annotation.score is None else {"score": round(annotation.score, 6)}
        yield {
            "id": annotation.id,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "segmentation": written,
            "area": round(area, _DIGITS),
            "bbox": [round(value, _DIGITS) for value in (left, top, right - left, bottom - top)],
            "iscrowd": int(annotation.ignore),
            **score,
        }


def _segmentation(shape: Any, grid: Grid, form: Form) -> Rle | tuple[Any, ...] | None:
    """Rings or run lengths; None where nothing is left on the raster."""
    parts = shapely.get_parts(shapely.get_parts(np.array([shape], dtype=object)))
    parts = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)]
    if not len(parts):
        return None
    if form == "rle" or shapely.get_num_interior_rings(parts).any():
        rle = Rle.of_polygon(shapely.MultiPolygon(list(parts)), height=grid.height, width=grid.width)
        return rle if rle.area else None
    return tuple(shapely.get_coordinates(part)[:-1] for part in parts)


def column_of(table: gpd.GeoDataFrame, name: str, otherwise: Any) -> Any:
    """``(n,)`` values of a column with ``otherwise`` for nulls, and everywhere where there is no such column."""
    values = np.full(len(table), otherwise, dtype=object)
    if name in table:
        # A null makes floats of whole numbers: back to those, for 1.0 is the name of no class.
        column = table[name].convert_dtypes()
        known = column.notna().to_numpy()
        # GeoJSON may have lists there, which numpy does not make text of.
        told = (value if pd.api.types.is_scalar(value) else str(value) for value in column[known])
        values[known] = np.fromiter(told, object, int(known.sum()))
    return values
