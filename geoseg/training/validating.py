"""How good the averaged network is on ground that it is not trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import torch
from torchvision.models.detection import MaskRCNN

from geoseg.coco import Rle
from geoseg.detectors.base import ModelCard
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.errors import ConfigError
from geoseg.evaluation import average_precision, curve
from geoseg.evaluation.comparison import Comparison, lay
from geoseg.instances import Chip
from geoseg.tiling import Tile
from geoseg.training.chips import Example
from geoseg.training.config import Sampling, TrainConfig
from geoseg.training.sources import mix
from geoseg.vectorize import vectorize
from geoseg.window import Window

IOU = 0.5
"""From which a pair counts."""
MOST = 150
"""Objects that are looked at in one chip, those that score best."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One chip with its truth and what the network saw in it."""

    example: Example
    """The chip."""
    truth: gpd.GeoDataFrame
    """Outlines in chip pixels, with ``label`` and ``iscrowd``."""
    pred: gpd.GeoDataFrame
    """Outlines in chip pixels, with ``label`` and ``score``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Validated:
    """A validation."""

    f1: float
    """The best over all thresholds, at IoU 0.5; 0 where nothing was found."""
    score_threshold: float
    """The threshold that gives it."""
    ap50: float
    """Average precision at IoU 0.5; 0 where nothing was found."""


class Validator:
    """The same chips each time: those that the validation's sources and the seed give.

    Raises:
        ConfigError, RasterError: a source that cannot be used, or chips of which none shows an object: all figures
            would be 0, and the weights those of the first look.
    """

    def __init__(self, config: TrainConfig, card: ModelCard, device: torch.device) -> None:
        self.card, self.device = card, device
        asked = config.validation
        self.examples: list[Example] = []
        if asked is not None:
            source = replace(mix(config, asked.sources), sampling=Sampling(objects=0.3))
            self.examples = [source.plain(i) for i in range(asked.chips)]
        self.truths = [_truth(example, card.classes) for example in self.examples]
        if asked is not None and all(truth["iscrowd"].all() for truth in self.truths):
            raise ConfigError(
                f"a validation whose {asked.chips} chips show no object",
                allowed="chips of labelled ground with objects on it",
                remedy="Raise [validation] chips, or give other validation.sources",
            )

    def __call__(self, net: MaskRCNN) -> Validated:
        """Predict on every chip and compare."""
        return judged(self.look(net))

    def look(self, net: MaskRCNN, examples: list[Example] | None = None) -> list[Look]:
        """What the network sees in the chips of the validation, or in others."""
        given = self.examples if examples is None else examples
        truths = self.truths if examples is None else [_truth(example, self.card.classes) for example in given]
        detector = replace(MaskRCNNDetector.of(net, self.card, device=str(self.device)), most=MOST)
        found = [_seen(detector, example) for example in given]
        return [Look(example=e, truth=t, pred=p) for e, t, p in zip(given, truths, found, strict=True)]


def judged(looks: list[Look]) -> Validated:
    """F1 and AP50 over chips together."""
    scenes: list[Comparison] = [lay(look.pred, look.truth, iou=IOU) for look in looks]
    best = curve(scenes).best
    ap50 = average_precision(scenes).ap50
    threshold, f1 = best or (0.5, 0.0)
    return Validated(f1=_number(f1), score_threshold=float(threshold), ap50=_number(ap50))


def _number(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0


def _truth(example: Example, classes: tuple[str, ...]) -> gpd.GeoDataFrame:
    """The outlines of the masks that are trained on, and of what is ignored."""
    masks = [mask.numpy().astype(bool) for mask in example.target["masks"]]
    labels = [classes[int(label) - 1] for label in example.target["labels"]]
    shapes: list[Any] = [_outline(mask) for mask in masks]
    region = example.target["ignore"].numpy().astype(bool)
    ignored = [_outline(region)] * len(classes) if region.any() else []
    return gpd.GeoDataFrame(
        {
            "label": np.array([*labels, *(classes if ignored else ())], dtype=object),
            "iscrowd": np.array([False] * len(shapes) + [True] * len(ignored), bool),
        },
        geometry=[*shapes, *ignored],
    )


def _outline(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Any:
    return Rle.of_mask(mask).polygon()


def _seen(detector: MaskRCNNDetector, example: Example) -> gpd.GeoDataFrame:
    height, width = example.pixels.shape[1:]
    window = Window(row_off=0, col_off=0, height=height, width=width)
    tile = Tile(row=0, col=0, core=window, window=window)
    chip = Chip(tile=tile, pixels=example.pixels.numpy(), valid=np.ones((height, width), bool))
    outlines = vectorize(detector.predict([chip]), [tile])
    labels = np.array(detector.card.classes, dtype=object)[outlines.labels]
    scores = outlines.scores.astype(np.float64)
    keep = shapely.area(outlines.geometry) > 0
    return gpd.GeoDataFrame({"label": labels[keep], "score": scores[keep]}, geometry=outlines.geometry[keep])
