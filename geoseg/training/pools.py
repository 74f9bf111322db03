"""The images of the sources, and in which of them a chip looks for an object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geoseg.training.labelled import Labelled

_FURTHER = 3
"""Images that are looked through for empty ground where the first has none: each may have to be read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The images of a source, with what is known of them before any is read."""

    image: Callable[[int], Labelled]
    """The image of a number from 0."""
    counts: NDArray[np.int64]
    """``(images, classes)`` objects in each."""

    @classmethod
    def of_one(cls, image: Labelled, classes: int) -> Pool:
        """One image, of a model of so many classes."""
        return cls(image=lambda number: image, counts=np.bincount(image.labels, minlength=classes + 1)[None, 1:])

    @cached_property
    def full(self) -> NDArray[np.int64]:
        """Numbers of the images that hold objects."""
        return np.flatnonzero(self.counts.any(axis=1))

    @cached_property
    def bare(self) -> NDArray[np.int64]:
        """Numbers of those that hold none."""
        return np.flatnonzero(~self.counts.any(axis=1))

    def any(self, rng: np.random.Generator) -> Labelled:
        """Any image, with the same chance."""
        return self.image(int(rng.integers(len(self.counts))))

    def further(self, rng: np.random.Generator) -> Iterator[Labelled]:
        """Any image, then others that may have ground without an object: one that holds none, else a few."""
        yield self.any(rng)
        if len(self.bare):
            yield self.image(int(rng.choice(self.bare)))
        elif len(self.counts) > 1:
            yield from (self.any(rng) for _ in range(_FURTHER))


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """Which class of object is looked for, and where."""

    chance: NDArray[np.float64]
    """``(classes,)`` of each."""
    share: NDArray[np.float64]
    """``(n, classes)`` of each image that holds objects, of all sources: how often it is drawn when none is preferred,
    times the share of the class in it."""
    places: NDArray[np.int64]
    """``(n, 2)`` number of the source, number of the image in it."""

    @classmethod
    def of(cls, pools: Sequence[Pool], weights: Sequence[float], balance: float) -> Objects:
        """Sources by weight, images of a source alike, objects of an image alike; with ``balance`` 1 classes alike."""
        share, places = [], []
        for number, (pool, weight) in enumerate(zip(pools, weights, strict=True)):
            counts = pool.counts[pool.full]
            share.append(weight / max(len(counts), 1) * counts / counts.sum(axis=1, keepdims=True))
            places.append(np.column_stack([np.full(len(counts), number), pool.full]))
        mass = np.concatenate(share)
        often = mass.sum(axis=0)
        chance = np.where(often > 0, often, 1.0) ** (1 - balance) * (often > 0)
        return cls(chance=chance / max(chance.sum(), 1e-300), share=mass, places=np.concatenate(places))

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """A class, from 1; a source; and an image of it that holds such an object."""
        label = int(rng.choice(len(self.chance), p=self.chance))
        share = self.share[:, label]
        source, number = self.places[int(rng.choice(len(share), p=share / share.sum()))]
        return label + 1, int(source), int(number)
