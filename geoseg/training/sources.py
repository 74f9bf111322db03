"""Where training chips come from: a weighted mix of rasters, COCO images, reviews and generated scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from geoseg.scenes import harbour, town
from geoseg.training.augment import photometric
from geoseg.training.chips import Example, Pose, cut
from geoseg.training.coco_source import CocoImages
from geoseg.training.config import Augment, Sampling, Schedule, TrainConfig
from geoseg.training.keeping import Kept
from geoseg.training.labelled import Labelled
from geoseg.training.placing import place
from geoseg.training.rasters import labelled_raster
from geoseg.training.source_config import CocoSource, GeneratedSource, Source

SCENES_BYTES = 2 * 2**30
"""Pixels of a source's scenes that stay in memory: 1,500 scenes of the default size. One takes a second to make."""

Pool = Callable[[np.random.Generator], Labelled]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mix:
    """Draws augmented chips; the ``index``-th draw is a pure function of the seed."""

    pools: tuple[Pool, ...]
    """Each gives a labelled image; weighted by ``weights``."""
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
        image = self._image(rng)
        example = cut(image, self._pose(image, rng), self.schedule.chip)
        return Example(pixels=photometric(example.pixels, rng, self.augment), target=example.target)

    def plain(self, index: int) -> Example:
        """The ``index``-th chip as the network will see it in use: not turned, not jittered, not changed."""
        rng = np.random.default_rng([self.schedule.seed, 2**31, index])
        image = self._image(rng)
        step = self.gsd_m / image.gsd_m
        centre = place(image, rng, half=self.schedule.chip * step / 2, sampling=self.sampling)
        return cut(image, Pose(centre_xy=centre, step=step, angle_deg=0.0, flip=False), self.schedule.chip)

    def _image(self, rng: np.random.Generator) -> Labelled:
        share = np.asarray(self.weights) / sum(self.weights)
        return self.pools[int(rng.choice(len(self.pools), p=share))](rng)

    def _pose(self, image: Labelled, rng: np.random.Generator) -> Pose:
        low, high = self.schedule.scale
        step = self.gsd_m / image.gsd_m * float(np.exp(rng.uniform(np.log(low), np.log(high))))
        free = rng.random() < self.schedule.free_rotation
        angle = float(rng.uniform(0, 360)) if free else 90.0 * int(rng.integers(4))
        centre = place(image, rng, half=self.schedule.chip * step / 2, sampling=self.sampling)
        return Pose(centre_xy=centre, step=step, angle_deg=angle, flip=bool(rng.random() < 0.5))


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
    if isinstance(source, GeneratedSource):
        return _Scenes(source, config.model.classes)
    if isinstance(source, CocoSource):
        return CocoImages(source, config)
    image = labelled_raster(source, config)
    return lambda rng: image


class _Scenes:
    """Generated scenes, each made once while :data:`SCENES_BYTES` hold them; then those longest not drawn go."""

    def __init__(self, source: GeneratedSource, classes: tuple[str, ...]) -> None:
        self.source, self.classes = source, classes
        self.kept = Kept(self._make, most=max(1, SCENES_BYTES // (3 * source.height * source.width)))

    def __call__(self, rng: np.random.Generator) -> Labelled:
        return self.kept(int(rng.integers(self.source.scenes)))

    def _make(self, number: int) -> Labelled:
        seed = self.source.first_seed + number
        gsd_m = float(np.random.default_rng(seed).uniform(*self.source.gsd_m))
        make = town if self.source.scene == "town" else harbour
        scene = make(seed, height=self.source.height, width=self.source.width, gsd_m=gsd_m)
        return Labelled.of_scene(scene, self.classes)
