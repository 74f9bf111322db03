"""Painting in metres: a frame that lies anywhere on the canvas at any angle, and a brush that works in it.

Rectangles and discs are antialiased from their distance to the pixel centres: rails of 0.3 m and decks of
300 m go through the same few lines of array code, each in its own small box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg.scenes.texture import Box, Floats, blend, darken

Extent = tuple[float, float, float, float]
"""u from, u to, v from, v to: metres in a frame."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where an object lies: u runs along `angle`, v at a right angle to it, clockwise on the image."""

    x: float
    """Column of the origin, pixels."""
    y: float
    """Row of the origin, pixels."""
    angle: float
    """Direction of u, radians from +x towards +y."""
    scale: float
    """Pixels per metre."""

    def to_pixels(self, uv: ArrayLike) -> NDArray[np.float64]:
        """Metres (n, 2) in this frame to pixels (n, 2), xy."""
        metres = np.asarray(uv, np.float64)
        cos, sin = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        return np.column_stack(
            [
                self.x + metres[:, 0] * cos - metres[:, 1] * sin,
                self.y + metres[:, 0] * sin + metres[:, 1] * cos,
            ]
        )

    def moved(self, u: float, v: float, turn: float = 0.0) -> Frame:
        """The frame with its origin at (u, v) of this one, turned by `turn` radians."""
        x, y = self.to_pixels([(u, v)])[0]
        return Frame(x=float(x), y=float(y), angle=self.angle + turn, scale=self.scale)

    def corners(self, extent: Extent) -> NDArray[np.float64]:
        """Corners (4, 2) of a rectangle, xy in pixels."""
        u0, u1, v0, v1 = extent
        return self.to_pixels([(u0, v0), (u1, v0), (u1, v1), (u0, v1)])


@dataclass(frozen=True, kw_only=True)
class Sun:
    """How shadows fall, the same for all of a scene."""

    x_px: float
    """Columns that a shadow reaches for each metre of height."""
    y_px: float
    """Rows that a shadow reaches for each metre of height."""
    shade: float
    """What is left of the light in a shadow, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Brush:
    """A canvas, a frame on it and the sun above."""

    canvas: Floats
    """(height, width, 3), painted in place."""
    frame: Frame
    """Where the metres of every call lie."""
    sun: Sun
    """How blocks throw their shadows."""

    def at(self, frame: Frame) -> Brush:
        """The same canvas and sun, in another frame."""
        return Brush(canvas=self.canvas, frame=frame, sun=self.sun)

    def window(self, extent: Extent, margin_px: float = 1.0) -> tuple[Box, Floats, Floats] | None:
        """The canvas box around a rectangle, and u, v (h, w) of its pixels in metres; None if outside."""
        xy = self.frame.corners(extent)
        height, width = self.canvas.shape[:2]
        left, top = np.maximum(np.floor(xy.min(axis=0) - margin_px), 0).astype(int).tolist()
        right, bottom = np.minimum(np.ceil(xy.max(axis=0) + margin_px), (width, height)).astype(int).tolist()
        if left >= right or top >= bottom:
            return None
        dx = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - self.frame.x)) / np.float32(self.frame.scale)
        dy = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - self.frame.y)) / np.float32(self.frame.scale)
        cos, sin = np.float32(math.cos(self.frame.angle)), np.float32(math.sin(self.frame.angle))
        u = (dx * cos)[None, :] + (dy * sin)[:, None]
        v = (dx * -sin)[None, :] + (dy * cos)[:, None]
        return (slice(top, bottom), slice(left, right)), u, v

    def rectangle_coverage(self, extent: Extent, u: Floats, v: Floats) -> Floats:
        """Share of each pixel in a rectangle, thin ones included: (h, w) in [0, 1]."""
        u0, u1, v0, v1 = extent
        along = _slab(u, u0, u1, self.frame.scale)
        return along * _slab(v, v0, v1, self.frame.scale)

    def rectangle(self, extent: Extent, colour: ArrayLike, alpha: float = 1.0) -> None:
        """Paint a rectangle."""
        if (found := self.window(extent)) is not None:
            box, u, v = found
            blend(self.canvas, alpha * self.rectangle_coverage(extent, u, v), colour, box)

    def disc(self, u_m: float, v_m: float, radius_m: float, colour: ArrayLike, alpha: float = 1.0) -> None:
        """Paint a disc."""
        extent = (u_m - radius_m, u_m + radius_m, v_m - radius_m, v_m + radius_m)
        if (found := self.window(extent)) is not None:
            box, u, v = found
            blend(
                self.canvas,
                alpha * self._disc(u - np.float32(u_m), v - np.float32(v_m), radius_m),
                colour,
                box,
            )

    def shade_disc(self, u_m: float, v_m: float, radius_m: float, height_m: float) -> None:
        """The shadow of a tank, a tree or a dome of that height."""
        for part in (0.5, 1.0):
            moved = self.at(self._shifted(part * height_m))
            extent = (u_m - radius_m, u_m + radius_m, v_m - radius_m, v_m + radius_m)
            if (found := moved.window(extent)) is not None:
                box, u, v = found
                cover = self._disc(u - np.float32(u_m), v - np.float32(v_m), radius_m)
                darken(self.canvas, cover, 0.5 + 0.5 * self.sun.shade, box)

    def shade_rectangle(self, extent: Extent, height_m: float) -> None:
        """The shadow of a box of that height: the rectangle swept away from the sun."""
        shift = self._shifted(height_m)
        reach = max(abs(self.sun.x_px), abs(self.sun.y_px)) * height_m
        if (found := self.window(extent, 1.0 + reach)) is None:
            return
        box, u, v = found
        cos, sin = math.cos(self.frame.angle), math.sin(self.frame.angle)
        dx, dy = (shift.x - self.frame.x) / self.frame.scale, (shift.y - self.frame.y) / self.frame.scale
        du, dv = dx * cos + dy * sin, dy * cos - dx * sin
        cover = np.zeros_like(u)
        for part in np.linspace(0.0, 1.0, 2 + min(6, int(reach / 4))).tolist():
            shifted = self.rectangle_coverage(extent, u - np.float32(part * du), v - np.float32(part * dv))
            np.maximum(cover, shifted, out=cover)
        darken(self.canvas, cover, self.sun.shade, box)

    def block(self, extent: Extent, height_m: float, colour: ArrayLike) -> None:
        """Paint the flat top of a box and its shadow."""
        self.shade_rectangle(extent, height_m)
        self.rectangle(extent, colour)

    def cells(self, extent: Extent, colours: Floats, alpha: float = 1.0) -> None:
        """Paint a rectangle of equal cells in `colours`, (cells along u, cells along v, 3)."""
        if (found := self.window(extent)) is None:
            return
        box, u, v = found
        u0, u1, v0, v1 = extent
        rows, cols = colours.shape[:2]
        row = np.clip(((u - np.float32(u0)) * np.float32(rows / (u1 - u0))).astype(np.intp), 0, rows - 1)
        col = np.clip(((v - np.float32(v0)) * np.float32(cols / (v1 - v0))).astype(np.intp), 0, cols - 1)
        blend(self.canvas, alpha * self.rectangle_coverage(extent, u, v), colours[row, col], box)

    def _disc(self, u: Floats, v: Floats, radius_m: float) -> Floats:
        cover = np.clip((np.float32(radius_m) - np.hypot(u, v)) * np.float32(self.frame.scale) + 0.5, 0.0, 1.0)
        # Discs smaller than a pixel dim instead of vanishing.
        return np.asarray(cover * np.float32(min(1.0, (1.8 * radius_m * self.frame.scale) ** 2)), np.float32)

    def _shifted(self, height_m: float) -> Frame:
        frame = self.frame
        return Frame(
            x=frame.x + self.sun.x_px * height_m,
            y=frame.y + self.sun.y_px * height_m,
            angle=frame.angle,
            scale=frame.scale,
        )


def _slab(coordinate: Floats, low: float, high: float, scale: float) -> Floats:
    half, centre = (high - low) / 2, (low + high) / 2
    distance = np.abs(coordinate - np.float32(centre))
    cover = np.clip((np.float32(half) - distance) * np.float32(scale) + 0.5, 0.0, 1.0)
    return np.asarray(cover * np.float32(min(1.0, 2 * half * scale)) if 2 * half * scale < 1 else cover, np.float32)
