"""Images with outlines, from real rasters or generated, all in one form."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.scenes.scene import Scene
from geoseg.training.pixels import Held, Pixels


def _none() -> NDArray[np.object_]:
    return np.empty(0, dtype=object)


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """An image with the outlines of its objects."""

    pixels: Pixels
    """8-bit red, green, blue; held in memory or read by window."""
    polygons: NDArray[np.object_]
    """``(n,)`` shapely (Multi)Polygons in image pixels (x = column, y = row), one per object."""
    labels: NDArray[np.int64]
    """``(n,)`` class index from 1 (0 is the background)."""
    gsd_m: float
    """Ground metres per image pixel."""
    ignore: NDArray[np.object_] = field(default_factory=_none)
    """``(m,)`` (Multi)Polygons in image pixels in which nothing is punished."""
    area: Any = None
    """(Multi)Polygon in image pixels of what is labelled; None: all of it."""
    hard_xy: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    """``(k, 2)`` places where something was wrongly found, in image pixels."""

    @cached_property
    def tree(self) -> shapely.STRtree:
        """Spatial index over ``polygons``."""
        return shapely.STRtree(self.polygons)

    @cached_property
    def ignore_tree(self) -> shapely.STRtree:
        """Spatial index over ``ignore``."""
        return shapely.STRtree(self.ignore)

    @cached_property
    def centres_xy(self) -> NDArray[np.float64]:
        """``(n, 2)`` centroids, in image pixels; of several parts the largest one's: much ground may lie between."""
        parts, owner = shapely.get_parts(self.polygons, return_index=True)
        by_area = np.lexsort((shapely.area(parts), owner))
        largest = by_area[np.flatnonzero(np.diff(owner, append=-1))]  # the last row of each owner
        return np.asarray(shapely.get_coordinates(shapely.centroid(parts[largest])), np.float64).reshape(-1, 2)

    @cached_property
    def members(self) -> dict[int, NDArray[np.int64]]:
        """Rows of the objects of each class that there is."""
        return {int(label): np.flatnonzero(self.labels == label) for label in np.unique(self.labels)}

    @cached_property
    def parts(self) -> tuple[Any, ...]:
        """The polygons of ``area``; empty where all is labelled. Never prepared: several threads ask, which ends the
        process with GEOS's index."""
        return () if self.area is None else tuple(shapely.get_parts(self.area))

    def is_labelled(self, xy: tuple[float, float]) -> bool:
        """Whether a place in image pixels lies on labelled ground."""
        return not self.parts or bool(shapely.contains_xy(self.parts, *xy).any())

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
            pixels=Held(values=torch.from_numpy(np.ascontiguousarray(scene.pixels))),
            polygons=polygons,
            labels=np.array([classes.index(label) + 1 for label in scene.labels], np.int64),
            gsd_m=scene.gsd_m,
        )


def named(values: list[Any], classes: tuple[str, ...], ignore_labels: tuple[str, ...], what: str) -> NDArray[np.int64]:
    """Class indices from 1, and 0 for labels in which nothing is punished.

    Raises:
        ConfigError: labels that are neither.
    """
    number = {name: 0 for name in ignore_labels} | {name: i for i, name in enumerate(classes, 1)}
    if unknown := sorted({str(value) for value in values} - set(number)):
        raise ConfigError(
            f"{what} with the labels {', '.join(unknown[:8])}",
            allowed=f"the model's classes ({', '.join(classes)})",
            remedy="Name those that are no class of the model in ignore_labels, or add them to its classes",
        )
    return np.array([number[str(value)] for value in values], np.int64)
