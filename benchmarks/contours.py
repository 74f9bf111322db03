"""Masks to polygons: how near to the true outline, with how many vertices, how fast.

Buildings of known outline (rectangles, L and U shapes, 35 to 60 px, at any angle and sub-pixel place) are
sampled onto 28 x 28 masks over their boxes, as a network gives them: a cell holds the share of it that the
building covers. Each way of making polygons then sees the same masks:

- geoseg: ``geoseg.vectorize`` (tolerance 0.25 px)
- regularized: the same, then ``geoseg.regularize.regularize_buildings`` (tolerance 1 px)
- crop + shapes: each mask resized to the pixels of its own box, thresholded, ``rasterio.features.shapes``
- paste + shapes: each mask pasted into a plane of the whole tile (torchvision's ``paste_masks_in_image``
where
  it is installed), thresholded, ``rasterio.features.shapes`` over the plane

    python -m benchmarks.contours [--buildings 400] [--tile 1024] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes as rasterio_shapes
from scipy.ndimage import map_coordinates
from shapely.affinity import rotate, translate
from shapely.geometry import shape as shape_of

from geoseg.instances import Instances
from geoseg.regularize import regularize_buildings
from geoseg.tiling import Tile
from geoseg.vectorize import vectorize
from geoseg.window import Window

MASK = 28
Boxes = NDArray[np.float64]
Masks = Sequence[NDArray[np.float32]]


def building(rng: np.random.Generator, tile: int) -> Any:
    """A rectangle, an L or a U, 35 to 60 px in both directions, anywhere in the tile."""
    length, width = rng.uniform(35, 60, 2)
    body = shapely.box(0, 0, length, width)
    kind = rng.integers(3)
    if kind == 1:
        body -= shapely.box(length * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6), 99, 99)
    elif kind == 2:
        body -= shapely.box(length * 0.33, width * rng.uniform(0.4, 0.6), length * 0.67, 99)
    return translate(rotate(body, rng.uniform(0, 360)), *rng.uniform(60, tile - 120, 2))


def sample(shape: Any, margin: float) -> tuple[NDArray[np.float32], list[float]]:
    """The share of each mask cell that a shape covers, and the box: its bounds and a margin in pixels."""
    x1, y1, x2, y2 = shapely.box(*shape.bounds).buffer(margin, join_style="mitre").bounds
    xs, ys = np.linspace(x1, x2, MASK + 1), np.linspace(y1, y2, MASK + 1)
    cells = shapely.box(xs[None, :-1], ys[:-1, None], xs[None, 1:], ys[1:, None])
    shapely.prepare(shape)
    share = shapely.area(shapely.intersection(cells, shape)) / ((xs[1] - xs[0]) * (ys[1] - ys[0]))
    return np.clip(share, 0, 1).astype(np.float32), [x1, y1, x2, y2]


def by_geoseg(masks: Masks, boxes: Boxes, tile: int) -> NDArray[Any]:
    whole = Window(row_off=0, col_off=0, height=tile, width=tile)
    n = len(masks)
    instances = Instances(boxes=boxes, scores=np.ones(n), labels=np.zeros(n), masks=masks)
    return vectorize([instances], [Tile(row=0, col=0, core=whole, window=whole)]).geometry


def by_regularize(masks: Masks, boxes: Boxes, tile: int) -> NDArray[Any]:
    # Buildings of this scene lie on each other: apart, none takes ground from another.
    away = np.arange(len(boxes)) * 2.0 * tile
    found = regularize_buildings(_moved(by_geoseg(masks, boxes, tile), away))
    return _moved(found, -away)


def _moved(geometry: NDArray[Any], dx: NDArray[np.float64]) -> NDArray[Any]:
    xy, owner = shapely.get_coordinates(geometry, return_index=True)
    return np.asarray(shapely.set_coordinates(geometry.copy(), xy + np.column_stack([dx, 0 * dx])[owner]))


def by_crop(masks: Masks, boxes: Boxes, tile: int) -> NDArray[Any]:
    """Only the pixels of each box are touched."""
    found = []
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        left, top = int(np.floor(x1)), int(np.floor(y1))
        cols = (np.arange(left, np.ceil(x2)) + 0.5 - x1) / (x2 - x1) * MASK - 0.5
        rows = (np.arange(top, np.ceil(y2)) + 0.5 - y1) / (y2 - y1) * MASK - 0.5
        grid = np.meshgrid(rows, cols, indexing="ij")
        pixels = map_coordinates(mask, grid, order=1, mode="nearest")
        found.append(_traced(pixels, Affine.translation(left, top)))
    return np.array(found, dtype=object)


def by_paste(masks: Masks, boxes: Boxes, tile: int) -> NDArray[Any]:
    """Every mask becomes a plane of the whole tile."""
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    stack, places = torch.from_numpy(np.stack(masks))[:, None], torch.from_numpy(boxes.astype(np.float32))
    planes = paste_masks_in_image(stack, places, (tile, tile))
    return np.array([_traced(plane.numpy(), Affine.identity()) for plane in planes[:, 0]], dtype=object)


def _traced(plane: NDArray[np.float32], transform: Affine) -> Any:
    inside = plane >= 0.5
    found = rasterio_shapes(inside.astype(np.uint8), mask=inside, transform=transform)
    return shapely.union_all([shape_of(polygon) for polygon, _ in found])


def score(found: NDArray[Any], truth: NDArray[Any]) -> str:
    iou = shapely.area(shapely.intersection(found, truth)) / shapely.area(shapely.union(found, truth))
    bias = shapely.area(found).sum() / shapely.area(truth).sum() - 1
    vertices = shapely.get_num_coordinates(found).mean()
    valid = shapely.is_valid(found).mean()
    return f"{iou.mean():8.4f} {np.quantile(iou, 0.05):8.4f} {bias:+10.2%} {vertices:9.1f} {valid:7.0%}"


def timed(work: Callable[[], NDArray[Any]], repeats: int) -> tuple[NDArray[Any], float]:
    """The result, and CPU seconds of the best run (other work on the machine counts less)."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--buildings", type=int, default=400)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    truth = np.array([building(rng, arguments.tile) for _ in range(arguments.buildings)], dtype=object)
    ways = {
        "geoseg": by_geoseg,
        "regularized": by_regularize,
        "crop + shapes": by_crop,
        "paste + shapes": by_paste,
    }
    for margin in (0.0, 2.0):
        masks, boxes = zip(*[sample(shape, margin) for shape in truth], strict=True)
        print(f"\n{len(truth)} buildings, masks {MASK} x {MASK}, boxes {margin:g} px wider than the building")
        print(f"{'':16}     IoU   5th pc  area bias  vertices   valid   per CPU s   geoseg is")
        rate = {}
        for name, way in ways.items():
            # The whole-tile planes are slow: a part of the buildings tells their speed.
            n = min(len(truth), 60) if name == "paste + shapes" else len(truth)
            try:
                found, seconds = timed(partial(way, masks[:n], np.array(boxes[:n]), arguments.tile), 3)
            except ImportError:
                print(f"{name:16} torchvision is not installed")
                continue
            rate[name] = n / seconds
            ratio = f"{rate['geoseg'] / rate[name]:8.0f} x" if name != "geoseg" else ""
            print(f"{name:16}{score(found, truth[:n])} {rate[name]:11.0f} {ratio}")


if __name__ == "__main__":
    main()
