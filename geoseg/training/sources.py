"""Where training chips come from: a weighted mix of rasters, COCO images, reviews and generated scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from geoseg.scenes import harbour, town
from geoseg.training.augment import photometric
from geoseg.training.chips import Example, Pose, cut
from geoseg.training.coco_source import CocoImages
from geoseg.training.config import Augment, Sampling, Schedule, TrainConfig
from geoseg.training.keeping import Kept
from geoseg.training.labelled import Labelled
from geoseg.training.placing import anywhere, near_hard, near_object, on_empty, shown
from geoseg.training.pools import Objects, Pool
from geoseg.training.rasters import labelled_raster
from geoseg.training.source_config import CocoSource, GeneratedSource, Source

_CLASS_OF = {"town": "building", "harbour": "ship"}
"""The class of each kind of scene."""

SCENES_BYTES = 2 * 2**30
"""Pixels of a source's scenes that stay in memory: 1,500 scenes of the default size. One takes a second to make."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mix:
    """Draws augmented chips; the ``index``-th draw is a pure function of the seed."""

    pools: tuple[Pool, ...]
    """The images of each source; weighted by ``weights``."""
    weights: tuple[float, ...]
    """Relative, one per pool."""
    gsd_m: float
    """The model's GSD in metres."""
    schedule: Schedule
    """Chip size, jitter, seed."""
    augment: Augment = field(default_factory=Augment)
    """How chips are changed."""
    sampling: Sampling = field(default_factory=Sampling)
    """Which ground they show."""

    def draw(self, index: int) -> Example:
        """The ``index``-th chip of the training."""
        rng = np.random.default_rng([self.schedule.seed, index])
        low, high = self.schedule.scale
        zoom = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        image, centre = self._ground(rng, zoom)
        free = rng.random() < self.schedule.free_rotation
        angle = float(rng.uniform(0, 360)) if free else 90.0 * int(rng.integers(4))
        flip = bool(rng.random() < 0.5)
        pose = Pose(centre_xy=centre, step=self.gsd_m / image.gsd_m * zoom, angle_deg=angle, flip=flip)
        example = cut(image, pose, self.schedule.chip)
        return Example(pixels=photometric(example.pixels, rng, self.augment), target=example.target)

    def plain(self, index: int) -> Example:
        """The ``index``-th chip as the network will see it in use: not turned, not jittered, not changed."""
        rng = np.random.default_rng([self.schedule.seed, 2**31, index])
        image, centre = self._ground(rng, 1.0)
        pose = Pose(centre_xy=centre, step=self.gsd_m / image.gsd_m, angle_deg=0.0, flip=False)
        return cut(image, pose, self.schedule.chip)

    @cached_property
    def _objects(self) -> Objects:
        return Objects.of(self.pools, self.weights, self.sampling.balance)

    def _ground(self, rng: np.random.Generator, zoom: float) -> tuple[Labelled, tuple[float, float]]:
        """An image, and the centre in it of a chip ``zoom`` times as wide as one in use."""
        share = np.asarray(self.weights) / sum(self.weights)
        pool = self.pools[int(rng.choice(len(self.pools), p=share))]
        asked = shown(self.sampling, rng)
        if asked == "objects" and len(pool.full):
            label, source, number = self._objects.draw(rng)
            image = self.pools[source].image(number)
            return image, near_object(image, rng, self._half(image, zoom), label)
        if asked == "empty":
            for image in pool.further(rng):
                if (centre := on_empty(image, rng, self._half(image, zoom))) is not None:
                    return image, centre
            return image, anywhere(image, rng, self._half(image, zoom))
        image = pool.any(rng)
        to_place = near_hard if asked == "hard" else anywhere
        return image, to_place(image, rng, self._half(image, zoom))

    def _half(self, image: Labelled, zoom: float) -> float:
        """Half the side of a chip in image pixels."""
        return self.schedule.chip * self.gsd_m / image.gsd_m * zoom / 2


def mix(config: TrainConfig, sources: Sequence[Source] = ()) -> Mix:
    """The mix that a config asks for; rasters are opened now, scenes are made when first drawn.

    Args:
        config: what to train.
        sources: other sources than the config's own, to validate on.

    Raises:
        ConfigError, RasterError: a source that cannot be used.
    """
    used = tuple(sources) or config.sources
    return Mix(
        pools=tuple(_pool(source, config) for source in used),
        weights=tuple(source.weight for source in used),
        gsd_m=config.model.gsd_m,
        schedule=config.schedule,
        augment=config.augment,
        sampling=config.sampling,
    )


def _pool(source: Source, config: TrainConfig) -> Pool:
    classes = config.model.classes
    if isinstance(source, GeneratedSource):
        # Of the one class that such scenes show, in each.
        counts = np.tile([name == _CLASS_OF[source.scene] for name in classes], (source.scenes, 1)).astype(np.int64)
        return Pool(image=_scenes(source, classes), counts=counts)
    if isinstance(source, CocoSource):
        images = CocoImages(source, config)
        return Pool(image=images, counts=images.counts)
    return Pool.of_one(labelled_raster(source, config), len(classes))


def _scenes(source: GeneratedSource, classes: tuple[str, ...]) -> Kept:
    """Generated scenes, each made once while :data:`SCENES_BYTES` hold them; then those longest not drawn go."""

    def made(number: int) -> Labelled:
        seed = source.first_seed + number
        gsd_m = float(np.random.default_rng(seed).uniform(*source.gsd_m))
        make = town if source.scene == "town" else harbour
        scene = make(seed, height=source.height, width=source.width, gsd_m=gsd_m)
        return Labelled.of_scene(scene, classes)

    return Kept(made, most=max(1, SCENES_BYTES // (3 * source.height * source.width)))
