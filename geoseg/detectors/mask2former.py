"""Mask2Former of the transformers library as a detector. Nothing is downloaded, and no code comes with the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from geoseg.detectors.base import ModelCard
from geoseg.detectors.canvas import FLOOR, Canvas, by_canvas, prepared
from geoseg.detectors.device import pick_device, reduced_precision
from geoseg.detectors.families import Mask2FormerArchitecture, family_of
from geoseg.errors import ModelError, ResourceError, in_a_line
from geoseg.instances import Chip, Instances

BACKBONES = ("swin", "resnet", "convnext")
"""Backbones that transformers builds by itself: others would need further packages or a download."""
OUTSIDE = (
    *("auto_map", "backbone", "use_timm_backbone", "use_pretrained_backbone"),
    *("quantization_config", "per_layer_config"),
)
"""Keys that reach for what is not in the weights, or hide it deeper in the config."""
BUILT_IN = (None, "eager", "sdpa")
"""Ways to attend that torch has; None: transformers chooses one of these."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask2FormerDetector:
    """A :class:`~geoseg.detectors.base.Detector` around a ``Mask2FormerForUniversalSegmentation``."""

    net: nn.Module = field(repr=False)
    """In evaluation mode, on its device."""
    card: ModelCard
    """Must declare mean and std; its architecture is of the family ``mask2former``."""
    architecture: Mask2FormerArchitecture
    """The same, checked."""
    device: torch.device
    """Where the network is."""
    wanted: str = "auto"
    """The device that was asked for; asked for again wherever the detector is unpickled."""
    digest: str = ""
    """SHA-256 over the tensors of the weights file; empty for a network that comes from none."""
    floor: ClassVar[float] = FLOOR
    """The lowest score that it gives."""

    @classmethod
    def of(cls, net: nn.Module, card: ModelCard, *, device: str = "auto", digest: str = "") -> Mask2FormerDetector:
        """Put ``net`` on a device, ready to predict.

        Raises:
            ModelError: a card of another family, or without mean and std.
            ResourceError: no such device.
        """
        architecture = family_of(card.architecture)
        if not isinstance(architecture, Mask2FormerArchitecture) or card.mean is None:
            raise ModelError(
                f"a Mask2Former whose card is of the family {architecture.family!r} with mean {card.mean}",
                allowed="the family 'mask2former', and mean and std per band",
            )
        where = pick_device(device)
        return cls(
            net=net.eval().to(where), card=card, architecture=architecture, device=where, wanted=device, digest=digest
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as tensors on the CPU, and be built anew: transformers hangs functions on a network that has run
        that cannot be pickled."""
        state = {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}
        return _arrive, (state, self.card, self.wanted, self.digest)

    @torch.inference_mode()
    def predict(self, chips: list[Chip]) -> Sequence[Instances]:
        """Instances of each chip, in order.

        Raises:
            AnswerError: the network gives NaN or infinity.
            ModelError: pixels that are not uint8, or not one band per mean of the card.
        """
        found: dict[int, Instances] = {}
        for size, members in by_canvas(chips, stride=self.architecture.stride).items():
            classes, masks = self._logits(prepared([chips[i] for i in members], size, self.card, self.device))
            for i, *outputs in zip(members, classes, masks, strict=True):
                found[i] = self.architecture.head.decode(outputs, Canvas.of(chips[i], size, self.card))
        return [found[i] for i in range(len(chips))]

    def _logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits ``(n, queries, classes + 1)`` and mask logits ``(n, queries, h, w)``."""
        # Only where bfloat16 is native on a GPU: the deformable attention of this network is slower in it on CPUs.
        with reduced_precision(self.device) if self.device.type == "cuda" else torch.no_grad():
            out = self.net(pixel_values=images, output_auxiliary_logits=False)
        return out.class_queries_logits.float(), out.masks_queries_logits.float()


def build_mask2former(config: Mapping[str, Any], classes: int) -> nn.Module:
    """The network that a config.json describes, with random weights.

    Args:
        config: of the transformers library.
        classes: number of classes of the card.

    Raises:
        ModelError: a config that is not of a Mask2Former, would reach for anything outside, or has other classes.
        ResourceError: transformers is not installed.
    """
    checked_config(config)
    try:
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
    except ImportError as error:
        raise ResourceError(
            "a Mask2Former, where transformers is not installed", remedy="pip install 'geoseg[transformers]'"
        ) from error
    try:
        settings = Mask2FormerConfig.from_dict(dict(config))
        if settings.num_labels != classes:
            raise ModelError(f"a card with {classes} class(es) for a network with {settings.num_labels}")
        return Mask2FormerForUniversalSegmentation(settings)
    except ModelError:
        raise
    except Exception as error:  # what transformers raises at configs that cannot be has no common base
        raise ModelError(f"a Mask2Former config that cannot be built ({in_a_line(error)})") from error


def checked_config(config: Mapping[str, Any]) -> None:
    """Refuse configs that would download, run code that comes with them, or need other packages.

    Raises:
        ModelError: saying which key.
    """
    backbone = config.get("backbone_config")
    kind = backbone.get("model_type") if isinstance(backbone, Mapping) else None
    if config.get("model_type") != "mask2former" or kind not in BACKBONES:
        raise ModelError(
            f"a config of the model type {config.get('model_type')!r} on a backbone of the type {kind!r}",
            allowed=f"mask2former on {', '.join(BACKBONES)}, given in backbone_config",
            remedy="Give the config.json that came with the weights",
        )
    for part in (config, backbone or {}):
        for key in OUTSIDE:
            if part.get(key):
                raise ModelError(f"a config with {key} = {part[key]!r}", allowed="none", remedy="Take it out")
        for key, value in part.items():
            # Any other name is one of a package, or of code on the hub.
            if key.removesuffix("_internal").endswith("_implementation") and value not in BUILT_IN:
                raise ModelError(f"a config with {key} = {value!r}", allowed="eager, sdpa", remedy="Take it out")


def _arrive(state: dict[str, Tensor], card: ModelCard, wanted: str, digest: str) -> Mask2FormerDetector:
    net = build_mask2former(family_of(card.architecture).config, len(card.classes))
    net.load_state_dict(state)
    return Mask2FormerDetector.of(net, card, device=wanted, digest=digest)
