"""What covers the land of a harbour: sheds, containers, tanks, cars, trees - and nothing that floats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely
from scipy import ndimage

from geoseg.scenes.brush import Brush, Extent
from geoseg.scenes.shore import Shore
from geoseg.scenes.texture import Floats, blend, darken, fill, grain, jitter, value_noise

_CONCRETE = (
    (0.60, 0.58, 0.54),
    (0.50, 0.49, 0.47),
    (0.66, 0.62, 0.55),
    (0.42, 0.42, 0.42),
    (0.55, 0.48, 0.40),
)
_GREEN = ((0.26, 0.34, 0.20), (0.34, 0.38, 0.24), (0.20, 0.28, 0.18), (0.46, 0.42, 0.30))
_ROOFS = (
    (0.80, 0.80, 0.78),
    (0.62, 0.63, 0.64),
    (0.45, 0.47, 0.50),
    (0.60, 0.34, 0.27),
    (0.35, 0.45, 0.52),
    (0.72, 0.68, 0.58),
)
_CARGO = (
    (0.62, 0.22, 0.18),
    (0.22, 0.36, 0.55),
    (0.28, 0.46, 0.38),
    (0.80, 0.80, 0.78),
    (0.80, 0.48, 0.22),
    (0.45, 0.46, 0.48),
    (0.50, 0.28, 0.22),
)
_WHOLE = (slice(None), slice(None))


def paint_land(rng: np.random.Generator, brush: Brush, shore: Shore) -> None:
    """All solid ground with its surf and shadow, in place."""
    if shore.land.is_empty:
        return
    canvas = brush.canvas
    mask = _mask(canvas.shape[:2], shore.land)
    if not mask.any():
        return
    _paint_edge(rng, brush, mask, shore)
    ground = _ground(rng, canvas.shape[:2], shore.wild)
    layer = Brush(canvas=ground, frame=shore.frame, sun=brush.sun)
    for bank in shore.banks:
        _paint_bank(rng, layer.at(bank), shore.wild)
    stone = jitter(rng, _CONCRETE[int(rng.integers(len(_CONCRETE)))], 0.1)
    for extent in shore.piers:
        _paint_pier(rng, layer, extent, stone)
    for wall in shore.breakwaters:
        cover, box = fill(canvas.shape[:2], wall)
        rubble = 0.48 + 0.22 * ndimage.gaussian_filter(grain(rng, *cover.shape), 0.7)
        blend(ground, cover, rubble[..., None] * np.array([1.0, 0.97, 0.92], np.float32), box)
    blend(canvas, mask, np.clip(ground, 0, 1), _WHOLE)


def _mask(shape_hw: tuple[int, int], land: shapely.Geometry) -> Floats:
    frame = shapely.box(-2, -2, shape_hw[1] + 2, shape_hw[0] + 2)
    mask = np.zeros(shape_hw, np.float32)
    for part in shapely.get_parts(land.intersection(frame)):
        if isinstance(part, shapely.Polygon):
            cover, box = fill(shape_hw, part)
            np.maximum(mask[box], cover, out=mask[box])
    return mask


def _paint_edge(rng: np.random.Generator, brush: Brush, mask: Floats, shore: Shore) -> None:
    """Shadow of the quay on the water; on wild coasts, or in front of rubble, shallows and surf."""
    height = rng.uniform(1.5, 4.0)
    shifted = ndimage.shift(mask, (brush.sun.y_px * height, brush.sun.x_px * height), order=1, mode="nearest")
    darken(brush.canvas, shifted, brush.sun.shade, _WHOLE)
    if shore.wild or shore.breakwaters:
        scale = brush.frame.scale
        near = ndimage.gaussian_filter(mask, rng.uniform(2.0, 10.0) * scale)
        noise = value_noise(rng, mask.shape[0], mask.shape[1], 12.0 * scale, 3)
        if shore.wild:
            shallow = np.array([0.42, 0.50, 0.44]) * rng.uniform(0.6, 1.1)
            blend(brush.canvas, np.clip(near * 1.4, 0, 0.8), shallow, _WHOLE)
        surf = np.clip((near - 0.15) * 4, 0, 1) * np.clip((noise - 0.45) * 5, 0, 1)
        blend(brush.canvas, surf * np.float32(rng.uniform(0.0, 0.9)), (0.9, 0.93, 0.94), _WHOLE)


def _ground(rng: np.random.Generator, shape_hw: tuple[int, int], wild: bool) -> Floats:
    colours = _GREEN if wild else _CONCRETE
    first, second = (jitter(rng, colours[int(rng.integers(len(colours)))], 0.1) for _ in range(2))
    if rng.random() < 0.4:
        second = jitter(rng, _GREEN[int(rng.integers(len(_GREEN)))], 0.1)
    patches = np.clip((value_noise(rng, *shape_hw, 120.0, 4) - 0.5) * 5 + 0.5, 0, 1)
    rough = 1 + np.float32(rng.uniform(0.02, 0.09)) * grain(rng, *shape_hw)
    return np.asarray((first + patches[..., None] * (second - first)) * rough[..., None], np.float32)


def _paint_bank(rng: np.random.Generator, brush: Brush, wild: bool) -> None:
    """Lots in rows behind the waterfront, each with one use; they grow with the pixel, their number stays."""
    height, width = brush.canvas.shape[:2]
    scale = brush.frame.scale
    unit = max(1.0, 0.9 / scale)
    apron = rng.uniform(12, 45) * unit * (not wild)
    if not wild:
        _paint_apron(rng, brush, apron)
    span = float(np.hypot(height, width)) / scale
    uses = _WILD_USES if wild else _PORT_USES
    weights = rng.dirichlet(np.full(len(uses), 0.7))
    v = -apron
    while v > -span:
        depth = rng.uniform(40, 90) * unit
        u = -span / 2 - rng.uniform(0, 60) * unit
        while u < span / 2:
            long = rng.uniform(50, 180) * unit
            lot = (u, u + long, v - depth, v)
            if brush.window(lot, 0.0) is not None:
                uses[int(rng.choice(len(uses), p=weights))](rng, brush, lot)
            u += long + rng.uniform(4, 12) * unit
        road = (-span, span, v - depth - 9 * unit, v - depth - 1 * unit)
        brush.rectangle(road, jitter(rng, (0.36, 0.36, 0.37), 0.1), rng.uniform(0.4, 1.0))
        v -= depth + 10 * unit


def _paint_apron(rng: np.random.Generator, brush: Brush, depth: float) -> None:
    """The strip along the water's edge: concrete, a coping, crane rails and odd cargo."""
    span = float(np.hypot(*brush.canvas.shape[:2])) / brush.frame.scale
    brush.rectangle((-span, span, -depth, 1.0), jitter(rng, _CONCRETE[int(rng.integers(len(_CONCRETE)))], 0.1))
    brush.rectangle((-span, span, -1.2, 0.0), jitter(rng, (0.7, 0.69, 0.66), 0.15), rng.uniform(0, 1))
    for rail in (3.0, 3.0 + rng.uniform(8, 30)):
        if rail < depth:
            brush.rectangle((-span, span, -rail - 0.3, -rail + 0.3), (0.25, 0.25, 0.26), 0.6)
    for _ in range(int(rng.integers(0, 60))):
        u, v, size = rng.uniform(-0.5, 0.5) * span, -rng.uniform(0.1, 1) * depth, rng.uniform(1, 8)
        brush.block((u, u + size, v, v + rng.uniform(1, 3)), 2.0, jitter(rng, _CARGO[int(rng.integers(len(_CARGO)))]))


def _paint_pier(rng: np.random.Generator, brush: Brush, extent: Extent, stone: Floats) -> None:
    u0, u1, v0, v1 = extent
    brush.rectangle(extent, stone)
    if u1 - u0 < 12:
        planks = np.stack([jitter(rng, stone, 0.06) for _ in range(24)])[None]
        brush.cells(extent, planks)
        return
    brush.rectangle((u0 + 1, u1 - 1, v0, v1 - 1), jitter(rng, stone, 0.1))
    if rng.random() < 0.5:
        inner = 0.22 * (u1 - u0)
        _sheds(rng, brush, (u0 + inner, u1 - inner, v0 + 0.1 * (v1 - v0), v1 - 0.1 * (v1 - v0)))
    for _ in range(int(rng.integers(0, 25))):
        u, v, size = rng.uniform(u0 + 2, u1 - 4), rng.uniform(v0, v1 - 6), rng.uniform(1, 5)
        brush.block((u, u + 2, v, v + size), 2.0, jitter(rng, _CARGO[int(rng.integers(len(_CARGO)))]))


def paint_cranes(rng: np.random.Generator, brush: Brush, length_m: float) -> None:
    """Ship-to-shore gantries along a berth (u from 0, water at v > 0): booms over what is moored there."""
    colour = jitter(rng, ((0.75, 0.76, 0.78), (0.25, 0.42, 0.60), (0.75, 0.30, 0.22))[int(rng.integers(3))], 0.1)
    u = rng.uniform(10, 80)
    while u < length_m:
        reach = rng.uniform(25, 55) * float(rng.random() < 0.6)
        for du in (-2.5, 2.5):
            brush.shade_rectangle((u + du - 0.7, u + du + 0.7, -40, reach), 22.0)
        for du in (-2.5, 2.5):
            brush.rectangle((u + du - 0.7, u + du + 0.7, -40, reach), colour)
        brush.block((u - 9, u + 9, -32, -26), 12.0, colour)
        brush.block((u - 9, u + 9, -6, -3), 12.0, colour)
        u += rng.uniform(30, 160)


def _containers(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    u0, u1, v0, v1 = lot
    palette = np.array(_CARGO, np.float32)
    weights = rng.dirichlet(np.full(len(palette), 0.8))
    brush.rectangle(lot, jitter(rng, (0.45, 0.44, 0.43), 0.1))
    row = max(15.0, 8 / brush.frame.scale)
    for v in np.arange(v0, v1 - row, row + rng.uniform(2, 8)).tolist():
        if rng.random() < 0.2:
            continue
        cols, ranks = max(int((u1 - u0) / 6.3), 1), max(int(row / 2.6), 1)
        picks = rng.choice(len(palette), (cols, ranks), p=weights)
        colours = palette[picks] * rng.normal(0.95, 0.1, (cols, ranks, 1))
        brush.shade_rectangle((u0, u1, v, v + row), 5.0)
        brush.cells((u0, u1, v, v + row), np.clip(colours, 0, 1).astype(np.float32))


def _sheds(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    u0, u1, v0, v1 = lot
    count = int(rng.integers(1, 4))
    step = (u1 - u0) / count
    for i in range(count):
        roof = jitter(rng, _ROOFS[int(rng.integers(len(_ROOFS)))], 0.08)
        a, b = u0 + i * step, u0 + (i + rng.uniform(0.7, 0.97)) * step
        c, d = v0 + rng.uniform(0, 0.3) * (v1 - v0), v1 - rng.uniform(0, 0.2) * (v1 - v0)
        brush.block((a, b, c, d), rng.uniform(5, 14), roof)
        ribs = int(rng.integers(1, 12))
        stripes = np.clip(roof * rng.normal(1, 0.05, (ribs, 2, 1)) * np.array([[[1.06], [0.92]]]), 0, 1)
        brush.cells((a, b, c, d), stripes.astype(np.float32))


def _cars(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    u0, u1, v0, v1 = lot
    asphalt = jitter(rng, (0.36, 0.36, 0.37), 0.1)
    brush.rectangle(lot, asphalt)
    cols, rows = max(int((u1 - u0) / 2.6), 1), max(int((v1 - v0) / 5.2), 1)
    tones = np.array([(0.85, 0.85, 0.85), (0.1, 0.1, 0.12), (0.5, 0.52, 0.55), (0.55, 0.15, 0.12)], np.float32)
    colours = tones[rng.integers(0, 4, (cols, rows))]
    empty = rng.random((cols, rows)) < rng.uniform(0.1, 0.8)
    empty[:, ::3] = True
    colours[empty] = asphalt
    brush.cells(lot, colours, 0.9)


def _tanks(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    u0, u1, v0, v1 = lot
    brush.rectangle(lot, jitter(rng, (0.52, 0.47, 0.38), 0.1))
    radius = min(rng.uniform(5, 22) * max(1.0, 0.9 / brush.frame.scale), 0.4 * (v1 - v0))
    top = jitter(rng, (0.84, 0.84, 0.82), 0.08)
    for u in np.arange(u0 + radius, u1 - radius, 2.6 * radius).tolist():
        for v in np.arange(v0 + radius, v1 - radius, 2.6 * radius).tolist():
            if rng.random() < 0.85:
                brush.shade_disc(u, v, radius, 12.0)
                brush.disc(u, v, radius, top)
                brush.disc(u, v, 0.85 * radius, jitter(rng, top, 0.06))


def _trees(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    u0, u1, v0, v1 = lot
    if rng.random() < 0.6:
        brush.rectangle(lot, jitter(rng, _GREEN[int(rng.integers(len(_GREEN)))], 0.1), 0.8)
    unit = max(1.0, 0.9 / brush.frame.scale)
    for _ in range(int(rng.integers(5, 45))):
        u, v, radius = rng.uniform(u0, u1), rng.uniform(v0, v1), rng.uniform(2, 6) * unit
        leaf = jitter(rng, (0.20, 0.29, 0.15), 0.2)
        brush.shade_disc(u, v, radius, 7.0)
        brush.disc(u, v, radius, leaf)
        brush.disc(u - 0.3 * radius, v - 0.3 * radius, 0.5 * radius, leaf * 1.3, 0.6)


def _houses(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    _trees(rng, brush, lot)
    u0, u1, v0, v1 = lot
    unit = max(1.0, 0.6 / brush.frame.scale)
    for u in np.arange(u0 + 4, u1 - 16 * unit, rng.uniform(16, 26) * unit).tolist():
        for v in (v0 + 6 * unit, v1 - 18 * unit):
            long, wide = rng.uniform(8, 14) * unit, rng.uniform(7, 11) * unit
            roof = jitter(rng, _ROOFS[int(rng.integers(len(_ROOFS)))], 0.12)
            brush.block((u, u + long, v, v + wide), 5.0, roof)
            brush.rectangle((u, u + long, v, v + wide / 2), np.clip(roof * 1.12, 0, 1))


def _heaps(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    u0, u1, v0, v1 = lot
    tone = jitter(rng, ((0.15, 0.15, 0.16), (0.60, 0.50, 0.36), (0.40, 0.27, 0.21))[int(rng.integers(3))], 0.1)
    for _ in range(int(rng.integers(3, 12))):
        radius = rng.uniform(0.1, 0.3) * (v1 - v0)
        u, v = rng.uniform(u0, u1), rng.uniform(v0 + radius, v1 - radius)
        brush.shade_disc(u, v, radius, 6.0)
        brush.disc(u, v, radius, tone)
        brush.disc(u - 0.25 * radius, v - 0.25 * radius, 0.5 * radius, tone * 1.15, 0.7)


def _empty(rng: np.random.Generator, brush: Brush, lot: Extent) -> None:
    brush.rectangle(lot, jitter(rng, _CONCRETE[int(rng.integers(len(_CONCRETE)))], 0.12), rng.uniform(0, 0.8))


_Use = Callable[[np.random.Generator, Brush, Extent], None]
_PORT_USES: tuple[_Use, ...] = (_containers, _sheds, _sheds, _cars, _tanks, _trees, _heaps, _empty, _houses)
_WILD_USES: tuple[_Use, ...] = (_trees, _houses, _trees, _empty)
