"""Where training chips come from: a weighted mix of labelled rasters and generated scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from geoseg.detectors.base import ModelCard
from geoseg.errors import ConfigError
from geoseg.raster import Reader, open_raster, source_for
from geoseg.scenes import harbour, town
from geoseg.tiling import Tiling
from geoseg.training.augment import photometric
from geoseg.training.chips import Example, Pose, cut
from geoseg.training.config import GeneratedSource, RasterSource, Schedule, TrainConfig
from geoseg.training.labelled import Labelled
from geoseg.vectors import read_shapes
from geoseg.window import Window

OVERSAMPLING = 0.7
"""Rasters are held in memory this much finer than the model's GSD, so that zoomed chips keep their sharpness."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mix:
    """Draws augmented chips; the ``index``-th draw is a pure function of the seed."""

    pools: tuple[Callable[[np.random.Generator], Labelled], ...]
    """Each gives a labelled image; weighted by ``weights``."""
    weights: tuple[float, ...]
    """Relative, one per pool."""
    gsd_m: float
    """The model's GSD in metres."""
    schedule: Schedule
    """Chip size, jitter, seed."""

    def draw(self, index: int) -> Example:
        """The ``index``-th chip of the training."""
        rng = np.random.default_rng([self.schedule.seed, index])
        share = np.asarray(self.weights) / sum(self.weights)
        image = self.pools[int(rng.choice(len(self.pools), p=share))](rng)
        example = cut(image, self._pose(image, rng), self.schedule.chip)
        return Example(pixels=photometric(example.pixels, rng), target=example.target)

    def _pose(self, image: Labelled, rng: np.random.Generator) -> Pose:
        low, high = self.schedule.scale
        step = self.gsd_m / image.gsd_m * float(np.exp(rng.uniform(np.log(low), np.log(high))))
        free = rng.random() < self.schedule.free_rotation
        angle = float(rng.uniform(0, 360)) if free else 90.0 * int(rng.integers(4))
        height, width = image.pixels.shape[1:]
        half = self.schedule.chip * step / 2
        if len(image.polygons) and rng.random() < 0.6:
            centre = image.centres_xy[int(rng.integers(len(image.polygons)))] + rng.uniform(-0.7, 0.7, 2) * half
        else:
            centre = rng.uniform(0, 1, 2) * (width, height)
        limit = np.array([width, height], float)
        rim = np.minimum(0.85 * half, limit / 2)
        x, y = np.clip(centre, rim, limit - rim)
        return Pose(centre_xy=(float(x), float(y)), step=step, angle_deg=angle, flip=bool(rng.random() < 0.5))


def mix(config: TrainConfig) -> Mix:
    """The mix that a config asks for; rasters are read now, scenes are made when first drawn."""
    pools = [_pool(source, config) for source in config.sources]
    return Mix(
        pools=tuple(pools),
        weights=tuple(source.weight for source in config.sources),
        gsd_m=config.model.gsd_m,
        schedule=config.schedule,
    )


def _pool(source: RasterSource | GeneratedSource, config: TrainConfig) -> Callable[[np.random.Generator], Labelled]:
    if isinstance(source, GeneratedSource):
        return _Scenes(source, config.model.classes)
    image = labelled_raster(source, config)
    return lambda rng: image


class _Scenes:
    """Generated scenes, each made once."""

    def __init__(self, source: GeneratedSource, classes: tuple[str, ...]) -> None:
        self.source, self.classes = source, classes
        self.made: dict[int, Labelled] = {}

    def __call__(self, rng: np.random.Generator) -> Labelled:
        number = int(rng.integers(self.source.scenes))
        if number not in self.made:
            seed = self.source.first_seed + number
            gsd_m = float(np.random.default_rng(seed).uniform(*self.source.gsd_m))
            make = town if self.source.scene == "town" else harbour
            scene = make(seed, height=self.source.height, width=self.source.width, gsd_m=gsd_m)
            self.made[number] = Labelled.of_scene(scene, self.classes)
        return self.made[number]


def labelled_raster(source: RasterSource, config: TrainConfig) -> Labelled:
    """A raster with its labels, resampled to a little finer than the model's GSD.

    Raises:
        ConfigError: labels that cannot be read or do not meet the raster, or a class the model does not have.
    """
    model = config.model
    card = ModelCard(
        classes=model.classes, gsd_m=model.gsd_m * OVERSAMPLING, bands=("red", "green", "blue"),
        mean=model.mean, std=model.std,
    )  # fmt: skip
    info = open_raster(config.path(source.raster))
    grid = info.grid
    if grid.gsd_m > model.gsd_m * OVERSAMPLING:  # never invent detail that is not there
        card = ModelCard(classes=model.classes, bands=card.bands, mean=card.mean, std=card.std)
    reading = source_for(info, card)
    grid = reading.grid
    low, high = (round(share * grid.width) for share in source.columns)
    area = Window(row_off=0, col_off=low, height=grid.height, width=high - low)
    side = max(area.height, area.width)
    [tile] = Tiling(core=side, halo=0).plan(area).tiles()
    with Reader(reading) as reader:
        chips, _ = reader.read([tile])
    if not chips:
        raise ConfigError(f"{source.raster}, which has no valid pixel in the columns {source.columns}")
    label = source.label or model.classes[0]
    if label not in model.classes:
        raise ConfigError(f"the label {label!r}", allowed=", ".join(model.classes))
    shapes = read_shapes(config.path(source.labels), kind="label")
    on_ground = gpd.GeoSeries(shapes.geometries, crs=shapes.crs).dropna().to_crs(grid.crs)
    polygons = _inside(
        grid.crop(area).geometry_to_pixel(on_ground.to_numpy()), shapely.box(0, 0, area.width, area.height)
    )
    if not len(polygons):
        raise ConfigError(f"{source.labels}, none of whose features meets {source.raster}")
    return Labelled(
        pixels=torch.from_numpy(np.ascontiguousarray(chips[0].pixels)),
        polygons=polygons,
        labels=np.full(len(polygons), model.classes.index(label) + 1, np.int64),
        gsd_m=grid.gsd_m,
    )


def _inside(polygons: NDArray[np.object_], frame: shapely.Geometry) -> NDArray[np.object_]:
    """The single, valid polygons of what lies in ``frame``: labels often go on beyond their raster."""
    parts = shapely.get_parts(shapely.intersection(shapely.make_valid(polygons), frame))
    keep = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    return np.asarray(parts[keep], dtype=object)
