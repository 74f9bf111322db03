"""What a town is painted on: colours, heights, noise and light, and which roofs the town has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from geoseg.scenes.texture import Box, Floats, blend, fill
from geoseg.scenes.town_cuts import Rng


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the painters share: the canvas, the heights on it, noise to take pieces from, and the light."""

    canvas: Floats
    """(height, width, 3) in [0, 1]; painted in place, unshaded."""
    heights: Floats
    """(height, width), metres above ground of what is seen there; filled in place, for the shadows."""
    fine: Floats
    """(h, w) noise in [0, 1] a few pixels wide."""
    coarse: Floats
    """(h, w) noise in [0, 1] a few metres wide."""
    px_per_m: float
    """Pixels per metre."""
    light_xy: tuple[float, float]
    """Direction towards the sun in the image, length 1."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the canvas."""
        return self.heights.shape[0], self.heights.shape[1]

    def piece(self, noise: Floats, rng: Rng, box: Box) -> Floats:
        """A part of the noise as large as the box, from anywhere, centred on 0."""
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        top = int(rng.integers(0, max(noise.shape[0] - height, 0) + 1))
        left = int(rng.integers(0, max(noise.shape[1] - width, 0) + 1))
        return noise[top : top + height, left : left + width] - np.float32(0.5)

    def lay(self, polygon: shapely.Polygon, colour: Floats, height_m: float) -> tuple[Floats, Box]:
        """Paint the polygon (pixels) in one colour at one height; returns what it covers."""
        coverage, box = fill(self.shape, polygon)
        if coverage.size:
            blend(self.canvas, coverage, colour, box)
            self.heights[box][coverage > 0.5] = height_m
        return coverage, box


@dataclass(frozen=True, kw_only=True)
class RoofMix:
    """Which roofs a town has: how likely each kind is, and the sheet and concrete colours in use."""

    flat: float
    metal: float
    tile: float
    thatch: float
    unfinished: float
    sheets: tuple[str, ...]
    """Keys of `SHEETS`; repeated ones are likelier."""
    rust: float
    """0 (new sheets) to 1 (rusty all over)."""
    clutter: float
    """Things on flat roofs per 10 m2."""
    dirt: float
    """How stained the roofs are, 0 to 1."""
