"""Images with outlines, from real rasters or generated, all in one form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.errors import ConfigError
from geoseg.scenes.scene import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """An image held in memory with the outlines of its objects."""

    pixels: Tensor
    """``(3, height, width)`` uint8."""
    polygons: NDArray[np.object_]
    """``(n,)`` shapely polygons in image pixels (x = column, y = row)."""
    labels: NDArray[np.int64]
    """``(n,)`` class index from 1 (0 is the background)."""
    gsd_m: float
    """Ground metres per image pixel."""

    @cached_property
    def tree(self) -> shapely.STRtree:
        """Spatial index over ``polygons``."""
        return shapely.STRtree(self.polygons)

    @cached_property
    def centres_xy(self) -> NDArray[np.float64]:
        """``(n, 2)`` centroids, in image pixels."""
        return np.asarray(shapely.get_coordinates(shapely.centroid(self.polygons)), np.float64).reshape(-1, 2)

    @classmethod
    def of_scene(cls, scene: Scene, classes: tuple[str, ...]) -> Labelled:
        """A generated scene.

        Raises:
            ConfigError: it shows objects of a class that the model does not have.
        """
        if missing := sorted(set(scene.labels) - set(classes)):
            raise ConfigError(
                f"generated scenes of {', '.join(missing)} for a model of {', '.join(classes)}",
                allowed="the class 'building' with town scenes, 'ship' with harbour scenes",
            )
        polygons = np.empty(len(scene.polygons), dtype=object)
        polygons[:] = scene.polygons
        return cls(
            pixels=torch.from_numpy(np.ascontiguousarray(scene.pixels)),
            polygons=polygons,
            labels=np.array([classes.index(label) + 1 for label in scene.labels], np.int64),
            gsd_m=scene.gsd_m,
        )
