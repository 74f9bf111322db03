"""What every detector is: a card and a ``predict``."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from geoseg.errors import ModelError
from geoseg.instances import Chip, Instances

REGULARIZE = ("none", "buildings", "ships")
"""Ways to redraw outlines."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What would steer a terminal that shows it, and halves of characters, which nothing can show or write."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model is and how it wants its imagery. Travels inside the weights file's metadata.

    Raises:
        ModelError: values that cannot be used.
    """

    classes: tuple[str, ...]
    """Names of the classes, all different; an instance's label is an index into it."""
    name: str = "custom"
    """Short name, as in ``load_model(name)``."""
    version: str = "0"
    """Version of the weights."""
    gsd_m: float | None = None
    """Ground sampling distance in metres that imagery is resampled to; None: taken as it is."""
    bands: tuple[str, ...] | None = None
    """Band roles wanted, in order, of red, green, blue, nir, ...; None: all of the raster's bands as they are."""
    mean: tuple[float, ...] | None = None
    """Per-band mean of 8-bit values, subtracted on the device; None: no normalisation."""
    std: tuple[float, ...] | None = None
    """Per-band deviation of 8-bit values, divided by on the device."""
    score_threshold: float = 0.5
    """Instances below it are dropped unless the settings say otherwise."""
    core: int = 512
    """Tile core in pixels that suits the model."""
    halo: int = 64
    """Halo in pixels that suits the model: about half its largest common object."""
    regularize: str = "none"
    """How outlines are redrawn unless the settings say otherwise: none, buildings (right angles) or ships (hulls)."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """What is needed to rebuild the network: ``family`` and that family's own keys."""
    licence: str = ""
    """Licence of the weights."""
    training_data: str = ""
    """What it was trained on, with attribution."""
    notes: str = ""
    """What a user should know: what it is good and bad at."""

    def __post_init__(self) -> None:
        for name in ("classes", "bands", "mean", "std"):
            value = getattr(self, name)
            if isinstance(value, str) or not (value is None or isinstance(value, Iterable)):
                raise ModelError(f"a model card with {name} = {value!r}", allowed=f"a list, such as [{value!r}]")
            if value is not None:
                object.__setattr__(self, name, tuple(map(_plain, value)))
        for name in ("gsd_m", "score_threshold", "core", "halo"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        self._check_types()
        names = {name.strip() for name in self.classes or ()}
        if not names or "" in names or len(names) < len(self.classes):
            said = f"a model card with classes {self.classes!r}"
            raise ModelError(said, allowed="at least one name, each another, none of them empty")
        if self.bands is not None and not all(band.strip() for band in self.bands or ("",)):
            said = f"a model card with bands {self.bands!r}"
            raise ModelError(said, allowed="at least one name, none of them empty; None: all of the raster as they are")
        if self.gsd_m is not None and not 0.001 <= self.gsd_m <= 10_000:
            raise ModelError(f"a model card with gsd_m {self.gsd_m}", allowed="metres on the ground, 0.001 to 10000")
        if not 0.0 <= self.score_threshold <= 1.0:
            raise ModelError(f"a model card with score_threshold {self.score_threshold}", allowed="0 to 1")
        if self.regularize not in REGULARIZE:
            raise ModelError(f"a model card with regularize {self.regularize!r}", allowed=", ".join(REGULARIZE))
        self._check_normalisation()
        if not (32 <= self.core <= 16_384 and 0 <= self.halo <= self.core):
            raise ModelError(
                f"a model card with core {self.core} and halo {self.halo}",
                allowed="32 to 16384 and 0 to core",
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ModelError(f"the model name {self.name!r}", allowed="letters, digits, '.', '_', '-'")

    def _check_types(self) -> None:
        """A card may be somebody else's, and travels as JSON, which promises no types."""
        texts: dict[str, tuple[Any, ...]] = {
            name: (getattr(self, name),) for name in ("name", "version", "licence", "training_data", "notes")
        }
        for name, given in {**texts, "classes": self.classes or (), "bands": self.bands or ()}.items():
            for text in given:
                if not isinstance(text, str) or _CONTROL.search(text):
                    said = f"a model card with {text!r} as {name}"
                    raise ModelError(said, allowed="text (in quotes) without control characters")
        numbers: dict[str, tuple[Any, ...]] = {
            "score_threshold": (self.score_threshold,),
            "gsd_m": () if self.gsd_m is None else (self.gsd_m,),
        }
        for name, values in {**numbers, "mean": self.mean or (), "std": self.std or ()}.items():
            for number in values:
                if isinstance(number, bool) or not _is_number(number):
                    raise ModelError(f"a model card with {str(number)[:40]!r} as {name}", allowed="a number")
        if type(self.core) is not int or type(self.halo) is not int:
            raise ModelError(f"a model card with core {self.core!r} and halo {self.halo!r}", allowed="whole pixels")
        if not isinstance(self.architecture, dict):
            raise ModelError(f"a model card with the architecture {self.architecture!r}", allowed="keys and values")

    def _check_normalisation(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ModelError("a model card with only one of mean and std", allowed="both or neither")
        if self.mean == ():
            raise ModelError("a model card with an empty mean", allowed="a number per band; None: no normalisation")
        mean, std, bands = self.mean or (), self.std or (), self.bands or self.mean or ()
        if not len(mean) == len(std) == len(bands) * bool(mean):
            raise ModelError(f"a model card with {len(mean)} means and {len(std)} deviations for {len(bands)} bands")
        if not all(map(math.isfinite, mean)) or not all(math.isfinite(s) and s > 0 for s in std):
            raise ModelError(f"a model card with mean {mean} and std {std}", allowed="finite, and std above 0")

    def to_json(self) -> str:
        """The card as JSON text, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """The inverse of :meth:`to_json`.

        Raises:
            ModelError: not JSON, or keys that a card does not have.
        """
        try:
            values = json.loads(text)
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise ModelError(f"a model card with unknown keys {sorted(unknown)}")
            return cls(**values)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"a model card that cannot be read ({error})") from error


def _plain(value: Any) -> Any:
    """Python's own number of one of NumPy's, which JSON does not know."""
    return value.item() if isinstance(value, np.number) else value


def _is_number(value: Any) -> bool:
    """Whether it is a float, or a whole number that can be one: JSON's have no end."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53)


@runtime_checkable
class Detector(Protocol):
    """Anything with a card and a ``predict``: geoseg asks for nothing else.

    It may also have a ``digest``, a string that is another one when the weights are: part of a run's identity; and a
    ``floor``, the lowest score that it ever gives: a run that asks for lower ones says so.
    """

    @property
    def card(self) -> ModelCard:
        """What the model is and wants."""

    def predict(self, chips: list[Chip]) -> Sequence[Instances]:
        """One ``Instances`` per chip, in order. Must not depend on how chips are grouped into calls."""


class InSteps(ABC):
    """A detector whose ``predict`` is three steps, of which only the second needs the device: a run does the others on
    some threads while another has the device (:mod:`geoseg.predicting`)."""

    card: ModelCard
    """What the model is and wants."""

    @abstractmethod
    def pack(self, chips: list[Chip]) -> Any:
        """What the device is to be given, in the host's memory."""

    @abstractmethod
    def look(self, packed: Any) -> Any:
        """What the network says of it, in the host's memory again. One call at a time."""

    @abstractmethod
    def unpack(self, seen: Any) -> list[Instances]:
        """Instances of each chip, in order."""

    def predict(self, chips: list[Chip]) -> Sequence[Instances]:
        """Instances of each chip, in order: all steps, one after the other."""
        return self.unpack(self.look(self.pack(chips)))


def in_steps(detector: Detector) -> TypeGuard[InSteps]:
    """Whether a detector's steps are all that it does: not where its class has a ``predict`` of its own."""
    return isinstance(detector, InSteps) and type(detector).predict is InSteps.predict
