"""A generated scene: an image with the exact outline of every object in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One generated image and its truth; raises `ConfigError` if the parts do not fit each other."""

    pixels: NDArray[np.uint8]
    """(3, height, width), RGB."""
    polygons: tuple[shapely.Polygon, ...]
    """Outlines in pixel space: x = column, y = row, (0, 0) = corner of the corner pixel. May have holes."""
    labels: tuple[str, ...]
    """(n,), the class name of each polygon."""
    gsd_m: float
    """Side of a pixel on the ground, metres."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[0] != 3 or self.pixels.dtype != np.uint8:
            raise ConfigError(
                f"Scene.pixels is {self.pixels.dtype} {self.pixels.shape}; "
                "allowed: uint8 (3, height, width); convert the image first"
            )
        if len(self.polygons) != len(self.labels):
            raise ConfigError(
                f"Scene has {len(self.polygons)} polygons and {len(self.labels)} labels; "
                "allowed: as many labels as polygons; give each polygon one label"
            )
        if not self.gsd_m > 0:
            raise ConfigError(f"Scene.gsd_m is {self.gsd_m}; allowed: > 0 metres; give the ground size of a pixel")
