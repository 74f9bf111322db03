"""Settings of a training: TOML to checked values."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geoseg.errors import ConfigError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelPart(_Part):
    """What is trained: the model card's fields that a training decides."""

    name: str
    version: str = "1"
    classes: tuple[str, ...]
    gsd_m: float = Field(gt=0, description="ground metres per pixel that the model is trained at")
    card_gsd_m: float | None = Field(
        default=None, gt=0, description="what the card asks for, where another GSD measures better; None: gsd_m"
    )
    mean: tuple[float, float, float] = (110.0, 110.0, 110.0)
    std: tuple[float, float, float] = (58.0, 58.0, 58.0)
    core: int = Field(default=512, ge=64, description="tile core in pixels, written to the card")
    halo: int = Field(default=64, ge=0, description="halo in pixels, written to the card")
    score_threshold: float = Field(default=0.5, ge=0, le=1, description="written to the card")
    architecture: dict[str, Any] = Field(default_factory=dict)
    start: str = Field(default="", description="weights file to go on from; empty: random weights")
    licence: str = ""
    training_data: str = ""
    notes: str = ""


class RasterSource(_Part):
    """A raster with a vector layer of labels."""

    kind: Literal["raster"]
    raster: str
    labels: str
    label: str = Field(default="", description="class of every feature; empty: the first class")
    columns: tuple[float, float] = Field(
        default=(0.0, 1.0), description="the share of the raster's columns to use, e.g. [0.0, 0.75]"
    )
    weight: float = Field(default=1.0, gt=0, description="how often it is drawn, relative to the others")


class GeneratedSource(_Part):
    """Generated scenes, made when first drawn and kept in memory."""

    kind: Literal["generated"]
    scene: Literal["town", "harbour"]
    scenes: int = Field(default=100, ge=1, description="how many different scenes")
    first_seed: int = 1000
    height: int = 640
    width: int = 768
    gsd_m: tuple[float, float] = Field(default=(0.2, 0.35), description="range in metres, drawn per scene")
    weight: float = Field(default=1.0, gt=0)


Source = Annotated[RasterSource | GeneratedSource, Field(discriminator="kind")]


class Schedule(_Part):
    """How long and how fast."""

    steps: int = Field(default=4000, ge=1, description="optimiser steps")
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="wall-clock budget; the learning rate then falls with steps or time, whichever is further",
    )
    batch: int = Field(default=4, ge=1)
    chip: int = Field(default=256, ge=64, description="side of a training chip in pixels")
    learning_rate: float = Field(default=6e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup: int = Field(default=200, ge=0, description="steps")
    ema: float = Field(default=0.998, ge=0, lt=1, description="decay of the averaged weights that are saved")
    scale: tuple[float, float] = Field(default=(0.7, 1.45), description="range of the GSD jitter")
    free_rotation: float = Field(default=0.5, ge=0, le=1, description="share turned by any angle, the rest by 90s")
    seed: int = 0
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's default")
    checkpoint_every: int = Field(default=250, ge=1, description="steps")


class TrainConfig(_Part):
    """Everything that decides a training."""

    model: ModelPart
    sources: tuple[Source, ...] = Field(min_length=1)
    schedule: Schedule = Schedule()
    root: Path = Path(".")
    """Folder that relative paths start from: the config file's own."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a resumed training must have in common with its checkpoint."""
        model = self.model.model_dump(mode="json", include={"classes", "gsd_m", "mean", "std", "architecture", "start"})
        schedule = self.schedule.model_dump(
            mode="json", exclude={"steps", "minutes", "threads", "checkpoint_every", "learning_rate", "warmup"}
        )
        sources = [source.model_dump(mode="json") for source in self.sources]
        return hashlib.sha256(json.dumps([model, schedule, sources], sort_keys=True).encode()).hexdigest()

    def path(self, text: str) -> Path:
        """A path of the config, relative to the config's folder."""
        return (self.root / text).resolve()


def read_train_config(path: str | Path) -> TrainConfig:
    """Read a training's TOML file.

    Raises:
        ConfigError: no such file, no TOML, or keys and values that do not fit, each named.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the training settings {path}: {error}") from error
    values["root"] = Path(path).resolve().parent
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        said = f"the training settings {path}: {problems}"
        raise ConfigError(said, remedy="See configs/train/ for examples") from error
