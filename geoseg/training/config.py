"""Settings of a training: TOML to checked values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationInfo, field_validator, model_validator

from geoseg.detectors.base import ModelCard
from geoseg.detectors.cards import model_card
from geoseg.errors import ConfigError
from geoseg.paths import expanded
from geoseg.tomls import checked, listed, read_toml
from geoseg.training.imprint import imprint
from geoseg.training.source_config import Listed, Part, Range, Share, Source

_FROM_START = ("classes", "gsd_m", "mean", "std", "core", "halo", "score_threshold", "regularize", "architecture")


class ModelPart(Part):
    """What is trained: the model card's fields that a training decides."""

    name: str
    version: str = "1"
    classes: Annotated[tuple[str, ...], Listed]
    gsd_m: float = Field(gt=0, description="ground metres per pixel that the model is trained at")
    card_gsd_m: float | None = Field(
        default=None, gt=0, description="what the card asks for, where another GSD measures better; None: gsd_m"
    )
    mean: Annotated[tuple[float, float, float], Listed] = (110.0, 110.0, 110.0)
    std: Annotated[tuple[float, float, float], Listed] = (58.0, 58.0, 58.0)
    core: int = Field(default=512, ge=64, description="tile core in pixels, written to the card")
    halo: int = Field(default=64, ge=0, description="halo in pixels, written to the card")
    score_threshold: float = Field(default=0.5, ge=0, le=1, description="written to the card")
    regularize: Literal["none", "buildings", "ships"] = Field(default="none", description="written to the card")
    architecture: dict[str, Any] = Field(default_factory=dict)
    start: str = Field(default="", description="name of a model, or weights file, to go on from; empty: random weights")
    licence: str = ""
    training_data: str = ""
    notes: str = ""

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if not classes or not all(classes):
            raise ValueError("one name or more, none of them empty")
        if twice := [name for name in classes if classes.count(name) > 1]:
            raise ValueError(f"different names, not {twice[0]!r} twice: one of the two would be taught nothing")
        return classes

    def card(self) -> ModelCard:
        """The card that the weights get."""
        return ModelCard(
            **self.model_dump(exclude={"architecture", "start", "gsd_m", "card_gsd_m"}),
            gsd_m=self.card_gsd_m or self.gsd_m,
            bands=("red", "green", "blue"),
            architecture=dict(self.architecture),
        )


class Schedule(Part):
    """How long and how fast."""

    steps: int = Field(default=4000, ge=1, description="optimiser steps")
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="wall-clock budget; the learning rate then falls with steps or time, whichever is further",
    )
    batch: int = Field(default=4, ge=1, description="chips at a time, per process")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    chip: int = Field(default=256, ge=64, description="side of a training chip in pixels")
    learning_rate: float = Field(default=6e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup: int = Field(default=200, ge=0, description="steps")
    ema: float = Field(default=0.998, ge=0, lt=1, description="decay of the averaged weights that are saved")
    norm: Literal["batch", "fixed"] = Field(
        default="batch", description="statistics to normalise by: of each batch, or fixed, those of model.start"
    )
    from_start: Share = Field(default=0.0, description="share of model.start in the weights that are saved")
    scale: Range = Field(default=(0.7, 1.45), description="range of the GSD jitter")
    free_rotation: Share = Field(default=0.5, description="share turned by any angle, the rest by 90s")
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's default")
    checkpoint_every: int = Field(default=250, ge=1, description="steps")
    checkpoint: Literal["exact", "compact"] = Field(
        default="exact", description="exact: to go on to the last bit; compact: a quarter of the size, rounded"
    )
    hold_mb: float = Field(default=128, ge=0, description="rasters that take more memory are read window by window")


class Augment(Part):
    """How chips are changed: shares of the chips, and one strength for all."""

    strength: float = Field(default=1.0, ge=0, le=2, description="of every change; 0: none")
    colour: Share = Field(default=0.9, description="share with other brightness, contrast, gamma, white balance")
    saturation: Share = 0.5
    blur: Share = 0.3
    noise: Share = 0.4
    haze: Share = 0.15
    shadow: Share = 0.15
    jpeg: Share = 0.15


class Sampling(Part):
    """Which ground the chips show: shares of the chips of each source, together 1 at most; the rest lies anywhere."""

    objects: Share = Field(default=0.6, description="share of chips laid near an object")
    empty: Share = Field(default=0.0, description="share of chips that show no object, where there is such ground")
    hard: Share = Field(default=0.0, description="share of chips laid on what was wrongly found (hard, review)")
    balance: Share = Field(default=0.0, description="0: objects as often as they come; 1: every class as often")

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Self:
        if (total := self.objects + self.empty + self.hard) > 1 + 1e-9:
            raise ValueError(f"objects + empty + hard of 1 at most, not {total:g} (unless set, objects is 0.6)")
        return self


class Loss(Part):
    """Weights of the parts of the loss."""

    objectness: float = Field(default=1.0, ge=0)
    rpn_box: float = Field(default=1.0, ge=0)
    classifier: float = Field(default=1.0, ge=0)
    box: float = Field(default=1.0, ge=0)
    mask: float = Field(default=1.0, ge=0)

    @property
    def by_part(self) -> dict[str, float]:
        """By torchvision's names."""
        return {
            "loss_objectness": self.objectness,
            "loss_rpn_box_reg": self.rpn_box,
            "loss_classifier": self.classifier,
            "loss_box_reg": self.box,
            "loss_mask": self.mask,
        }


class Validation(Part):
    """Chips of ground that is kept out of the training, looked at now and then."""

    sources: Annotated[tuple[Source, ...], Listed] = Field(min_length=1)
    every: int = Field(default=500, ge=1, description="steps")
    chips: int = Field(default=24, ge=1)
    metric: Literal["f1", "ap50"] = Field(default="f1", description="by which the best weights are kept")


class TrainConfig(Part):
    """Everything that decides a training.

    Raises:
        ConfigError: an unknown or missing key, a value of the wrong type or out of range.
    """

    model: ModelPart
    sources: Annotated[tuple[Source, ...], Listed] = Field(min_length=1)
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    sampling: Sampling = Sampling()
    loss: Loss = Loss()
    validation: Validation | None = None
    root: Path = Field(default=Path("."), exclude=True)
    """Folder that relative paths start from: the config file's own. No key of it."""

    @model_validator(mode="after")
    def _start_where_it_counts(self) -> Self:
        if self.schedule.norm == "fixed" and not self.model.start:
            raise ValueError("[schedule] norm = 'fixed' only with [model] start: random weights have no statistics yet")
        if self.schedule.from_start > 0 and self.schedule.norm != "fixed":
            raise ValueError("[schedule] from_start only with norm = 'fixed': other statistics are of other weights")
        return self

    @model_validator(mode="after")
    def _ignored_are_no_classes(self) -> Self:
        for source in (*self.sources, *(self.validation.sources if self.validation else ())):
            if both := sorted(set(getattr(source, "ignore_labels", ())) & set(self.model.classes)):
                raise ValueError(f"ignore_labels that are no class of the model, as {both[0]!r} is")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        return checked(cls, values, handler, info)

    def fingerprint(self) -> str:
        """SHA-256 of all that a resumed training must have in common with its checkpoint, what its label files say at
        this moment included."""
        model = self.model.model_dump(mode="json", include={"classes", "gsd_m", "mean", "std", "architecture", "start"})
        free = {"steps", "minutes", "learning_rate", "warmup", "from_start"}  # the last is of what is saved
        free |= {"threads", "checkpoint_every", "checkpoint", "hold_mb"}
        schedule = self.schedule.model_dump(mode="json", exclude=free)
        sources = [(source.model_dump(mode="json"), imprint(source, self.root)) for source in self.sources]
        rest = [part.model_dump(mode="json") for part in (self.augment, self.sampling, self.loss)]
        return hashlib.sha256(json.dumps([model, schedule, sources, rest], sort_keys=True).encode()).hexdigest()

    def judged_by(self) -> str:
        """SHA-256 of what the best weights are told by: figures of another validation, or by other labels, do not
        compare."""
        if self.validation is None:
            return hashlib.sha256(b"").hexdigest()
        asked = self.validation.model_dump(mode="json", exclude={"every"})
        labels = [imprint(source, self.root) for source in self.validation.sources]
        return hashlib.sha256(json.dumps([asked, labels], sort_keys=True).encode()).hexdigest()

    def path(self, text: str) -> Path:
        """A path of the config, relative to the config's folder."""
        return (self.root / expanded(text)).resolve()

    @property
    def start(self) -> str | Path | None:
        """The weights to go on from: a file, or the name of a model."""
        return _start(self.model.start, self.root)


def read_train_config(path: str | Path) -> TrainConfig:
    """Read a training's TOML file.

    Where ``model.start`` names weights to go on from, what the model table leaves out is as in their card.

    Raises:
        ConfigError: no such file, no TOML, or keys and values that do not fit: names the file, the line and the
            nearest valid name.
        ModelError: no weights to start from where ``model.start`` names some.
    """
    text, values = read_toml(path, example="configs/train/finetune.toml")
    remedy = "See configs/train/ for examples"
    if not values:
        raise ConfigError(f"{path}, which holds no settings", allowed=f"{listed(TrainConfig)}", remedy=remedy)
    if "root" in values:
        raise ConfigError(f"{path}: root is no setting", allowed=listed(TrainConfig), remedy="Take the line out")
    root = expanded(path).resolve().parent
    if isinstance(model := values.get("model"), dict) and isinstance(model.get("start"), str):
        values["model"] = _completed(model, root)
    return TrainConfig.model_validate({**values, "root": root}, context={"path": str(path), "text": text})


def _start(start: str, root: Path) -> str | Path | None:
    if not start:
        return None
    is_name = not ("/" in start or start.endswith((".safetensors", ".onnx")))
    return start if is_name else (root / expanded(start)).resolve()


def _completed(model: dict[str, Any], root: Path) -> dict[str, Any]:
    """A model table with what it leaves out as in the card of its start, where that stands already."""
    start = _start(model["start"], root)
    if start is None or (isinstance(start, Path) and not start.exists() and {"classes", "gsd_m"} <= set(model)):
        return model
    card = model_card(start)
    if (family := card.architecture.get("family", "maskrcnn")) != "maskrcnn":
        raise ConfigError(
            f"the start {model['start']!r}, a model of the family {family!r}",
            allowed="a model that `geoseg train` wrote, of the family 'maskrcnn': the only one that is trained here",
            remedy="Leave [model] start out, or name another",
        )
    known = {name: value for name in _FROM_START if (value := getattr(card, name)) is not None}
    if model.get("classes", [*card.classes]) != [*card.classes]:  # right angles suit buildings, not trees
        del known["regularize"]
    if isinstance(own := model.get("architecture"), dict):  # of a network that is gone on with nothing else is new
        model = model | {"architecture": known["architecture"] | own}
    return known | model
