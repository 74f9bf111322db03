"""What every generated scene is painted with: noise, shapes, shadows, and a camera.

A canvas is float32 (height, width, 3), display values in [0, 1]. Everything that belongs to one object is
done in the box of pixels around it, so that the cost follows the area painted and not objects times scene.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Floats = NDArray[np.float32]
Box = tuple[slice, slice]
"""Rows and columns of the part of a canvas that something covers."""

_SUPERSAMPLE = 4


def value_noise(rng: np.random.Generator, height: int, width: int, scale_px: float, octaves: int = 3) -> Floats:
    """Smooth random field (height, width) in [0, 1] about 0.5; its largest blobs are about `scale_px` wide.

    Value noise: random grids, each octave twice as fine and half as strong, interpolated by cubics and
    summed.
    """
    field = np.zeros((height, width), np.float32)
    total, weight = 0.0, 1.0
    for octave in range(octaves):
        step = max(scale_px / 2**octave, 1.0)
        rows, cols = int(height / step) + 3, int(width / step) + 3
        grid = Image.fromarray(rng.random((rows, cols), dtype=np.float32))
        top, left = rng.random(2)
        part = (left, top, min(left + width / step, cols), min(top + height / step, rows))
        field += weight * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=part))
        total += weight
        weight *= 0.5
    field /= total
    return np.clip(field, 0.0, 1.0, out=field)


def grain(rng: np.random.Generator, height: int, width: int) -> Floats:
    """White noise (height, width), mean 0, standard deviation 1."""
    return rng.standard_normal((height, width), dtype=np.float32)


def fill(shape_hw: tuple[int, int], polygon: shapely.Polygon) -> tuple[Floats, Box]:
    """Share of each pixel that the polygon covers, (h, w) in [0, 1], and the box of the canvas that this is.

    Holes are left open. A polygon wholly outside gives an empty box.
    """
    return fill_rings(shape_hw, _rings(polygon), [np.asarray(ring.coords) for ring in polygon.interiors])


def fill_rings(
    shape_hw: tuple[int, int], rings: Iterable[NDArray[np.float64]], holes: Iterable[NDArray[np.float64]] = ()
) -> tuple[Floats, Box]:
    """As `fill`, for the union of many rings, each (n, 2) xy in pixels, less the holes."""
    rings = list(rings)
    box = _box(shape_hw, rings)
    rows, cols = box[0].stop - box[0].start, box[1].stop - box[1].start
    if rows == 0 or cols == 0:
        return np.zeros((rows, cols), np.float32), box
    mask = Image.new("L", (cols * _SUPERSAMPLE, rows * _SUPERSAMPLE))
    draw = ImageDraw.Draw(mask)
    origin = np.array([box[1].start, box[0].start])
    for value, group in ((255, rings), (0, holes)):
        for ring in group:
            # Pillow puts integer coordinates at sub-pixel centres, we put them at corners: hence the half.
            draw.polygon(((ring - origin) * _SUPERSAMPLE - 0.5).ravel().tolist(), fill=value)
    return np.asarray(mask.reduce(_SUPERSAMPLE), np.float32) / 255.0, box


def _rings(polygon: shapely.Polygon) -> list[NDArray[np.float64]]:
    return [] if polygon.is_empty else [np.asarray(polygon.exterior.coords)]


def _box(shape_hw: tuple[int, int], rings: list[NDArray[np.float64]]) -> Box:
    if not rings:
        return slice(0, 0), slice(0, 0)
    low = np.floor(np.min([ring.min(axis=0) for ring in rings], axis=0)).astype(int)
    high = np.ceil(np.max([ring.max(axis=0) for ring in rings], axis=0)).astype(int)
    left, right = np.clip([low[0], high[0]], 0, shape_hw[1])
    top, bottom = np.clip([low[1], high[1]], 0, shape_hw[0])
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def blend(canvas: Floats, coverage: Floats, colour: ArrayLike, box: Box) -> None:
    """Lay `colour`, (3,) or (h, w, 3), over the box of the canvas, in place, by its `coverage` (h, w)."""
    part = canvas[box]
    part += coverage[..., None] * (np.asarray(colour, np.float32) - part)


def darken(canvas: Floats, coverage: Floats, factor: ArrayLike, box: Box) -> None:
    """Multiply the box of the canvas, in place, by `factor`, () or (3,), where `coverage` (h, w) is 1."""
    canvas[box] *= 1.0 - coverage[..., None] * (1.0 - np.asarray(factor, np.float32))


def swept(polygon: shapely.Polygon, offset_xy: ArrayLike) -> list[NDArray[np.float64]]:
    """Rings whose union is the ground that the polygon's walls pass over when it moves by `offset_xy` pixels.

    That is one parallelogram an edge, and the moved polygon if it has no holes: a cast shadow, or the walls
    of a leaning building.
    """
    offset = np.asarray(offset_xy, np.float64)
    quads: list[NDArray[np.float64]] = []
    for ring in (polygon.exterior, *polygon.interiors):
        xy = np.asarray(ring.coords)
        start, end = xy[:-1], xy[1:]
        quads.extend(np.stack([start, end, end + offset, start + offset], axis=1))
    if not polygon.interiors:
        quads.append(np.asarray(polygon.exterior.coords) + offset)
    return quads


def shadow(shape_hw: tuple[int, int], casters: Iterable[tuple[shapely.Polygon, ArrayLike]], soft_px: float) -> Floats:
    """Shade (height, width) in [0, 1] on flat ground from many (outline, offset_xy of its shadow, pixels).

    One field for the whole scene, so that shadows that overlap are not darker than one.
    """
    shade = np.zeros(shape_hw, np.float32)
    for polygon, offset_xy in casters:
        coverage, box = fill_rings(shape_hw, swept(polygon, offset_xy))
        np.maximum(shade[box], coverage, out=shade[box])
    return np.asarray(ndimage.gaussian_filter(shade, soft_px)) if soft_px > 0 else shade


def cast(heights: Floats, offset_xy_per_m: ArrayLike, soft_px: float) -> Floats:
    """Shade (height, width) in [0, 1] that a height field (metres) casts on itself, as roofs on lower roofs.

    `offset_xy_per_m` is how far, in pixels, the shadow of a point one metre up falls. The highest sun ray
    that is cut above each pixel is found by doubling: after k rounds it reaches 2^k steps of one pixel, so
    that the cost is logarithmic in the length of the longest shadow.
    """
    offset = np.asarray(offset_xy_per_m, np.float64)
    per_m = float(np.abs(offset).max())
    rays = heights.copy()
    steps = 1
    while per_m > 0 and steps <= per_m * float(heights.max()):
        shift_x, shift_y = np.rint(offset / per_m * steps).astype(int)
        to, source = _shifted(heights.shape, int(shift_y), int(shift_x))
        lowered = rays[source] - np.float32(steps / per_m)
        rays[to] = np.maximum(rays[to], lowered)
        steps *= 2
    shade = (rays > heights + 0.15).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(shade, soft_px)) if soft_px > 0 else shade


def _shifted(shape: tuple[int, ...], rows: int, cols: int) -> tuple[Box, Box]:
    """Where an array moved by (rows, cols) lands inside its own frame, and where that part comes from."""
    height, width = shape
    to = slice(max(rows, 0), min(height + rows, height)), slice(max(cols, 0), min(width + cols, width))
    source = slice(max(-rows, 0), min(height - rows, height)), slice(max(-cols, 0), min(width - cols, width))
    return (to, source) if abs(rows) < height and abs(cols) < width else ((slice(0, 0),) * 2, (slice(0, 0),) * 2)


def jitter(rng: np.random.Generator, colour: ArrayLike, value: float = 0.06, tint: float = 0.015) -> Floats:
    """A colour (3,) near the given one: brightness varied by about `value`, relative, bands by `tint`."""
    base = np.asarray(colour, np.float32) * (1.0 + value * rng.standard_normal())
    return np.clip(base + tint * rng.standard_normal(3), 0.02, 0.98).astype(np.float32)


def sensor(rng: np.random.Generator, canvas: Floats) -> NDArray[np.uint8]:
    """What a camera makes of the canvas: uint8 (3, height, width), every draw with its own look.

    Haze, white balance, contrast and gamma; blur of lens and resampling; at times over-sharpening; noise;
    JPEG.
    """
    image = canvas * (1.0 + 0.05 * rng.standard_normal(3).astype(np.float32))
    haze = np.float32(max(0.0, rng.normal(0.04, 0.08)))
    image = image * (1.0 - haze) + haze * np.array([0.78, 0.82, 0.88], np.float32)
    image = (image - 0.4) * rng.uniform(0.85, 1.3) + 0.46 + rng.normal(0.0, 0.07)
    # A soft shoulder, as cameras have: bright roofs side by side stay apart.
    image = np.where(image > 0.75, 0.75 + 0.25 * np.tanh((image - 0.75) / 0.35), np.maximum(image, 0.0))
    image = image ** np.float32(rng.uniform(0.75, 1.2))
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(rng.uniform(0.5, 1.05))
    sigma = rng.uniform(0.15, 0.8)
    image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=3.0)
    if rng.random() < 0.5:
        image = image + rng.uniform(0.3, 1.5) * (image - ndimage.gaussian_filter(image, (1.2, 1.2, 0), truncate=2.0))
    image = image + rng.uniform(0.0, 0.02) * rng.standard_normal(image.shape, dtype=np.float32)
    return _jpeg(np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8), quality=int(rng.integers(60, 97)))


def _jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    memory = io.BytesIO()
    Image.fromarray(image).save(memory, "JPEG", quality=quality)
    return np.ascontiguousarray(np.moveaxis(np.asarray(Image.open(memory)), -1, 0))
