"""The families of networks that geoseg can run: the ``architecture`` of a card, told apart by ``family``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from geoseg.detectors.heads import Head, QueryHead
from geoseg.detectors.network import Architecture, Pixels, Ratio
from geoseg.errors import ModelError
from geoseg.tomls import said

Stride = Annotated[int, Field(ge=1, le=1024)]
_Side = Annotated[float, Pixels]


class TorchvisionArchitecture(BaseModel):
    """A Mask R-CNN as torchvision builds it, for the state dict of one that was trained with torchvision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["torchvision"]
    version: Literal[1, 2] = 1
    """1: maskrcnn_resnet50_fpn, or the same on another ResNet; 2: maskrcnn_resnet50_fpn_v2."""
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    """Version 2 has resnet50 only."""
    norm_eps: float = Field(default=1e-5, ge=0, le=1e-2)
    """Of version 1's frozen batch normalisation: 0 for torchvision's own COCO weights and what was tuned from them."""
    anchor_sizes: tuple[_Side, _Side, _Side, _Side, _Side] = (32, 64, 128, 256, 512)
    """Pixels, one per pyramid level from stride 4 to 64."""
    anchor_ratios: tuple[Ratio, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1, max_length=9)
    """Height / width."""
    mask_hidden: int = Field(default=256, ge=8, le=1024)
    """Channels between the mask head and its predictor."""
    box_nms: float = Field(default=0.5, gt=0, le=1)
    """IoU above which the lower-scored of two boxes goes."""
    detections: int = Field(default=300, ge=1, le=10_000)
    """At most so many instances per chip (torchvision's own default is 100)."""


class OnnxArchitecture(BaseModel):
    """A network exported to one ONNX file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["onnx"]
    head: Head
    """What its outputs mean."""
    stride: Stride = 32
    """Chips are filled up to a multiple of it, in pixels, where the network takes any size."""


class Mask2FormerArchitecture(BaseModel):
    """A Mask2Former of the transformers library."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["mask2former"]
    config: dict[str, Any] = Field(default_factory=dict)
    """The network's config.json. ``geoseg models add`` fills it in from the file beside the weights."""
    head: QueryHead = QueryHead()
    """What its outputs mean."""
    stride: Stride = 32
    """Chips are filled up to a multiple of it, in pixels."""


Family = Annotated[
    Architecture | TorchvisionArchitecture | OnnxArchitecture | Mask2FormerArchitecture, Field(discriminator="family")
]
_READER: TypeAdapter[Any] = TypeAdapter(Family)
FAMILIES = ("maskrcnn", "torchvision", "onnx", "mask2former")


def family_of(architecture: Mapping[str, Any]) -> Any:
    """The architecture of a card, checked, with defaults filled in: one of the models of :data:`Family`.

    Raises:
        ModelError: a family that there is not, unknown keys, or values out of bounds.
    """
    name = architecture.get("family", "maskrcnn")
    if name not in FAMILIES:
        raise ModelError(
            f"a model card with the family {name!r}",
            allowed=", ".join(FAMILIES),
            remedy="Set family in the card's [architecture]; a newer geoseg may know more of them",
        )
    try:
        return _READER.validate_python({"family": name, **architecture})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'][1:]))}: {said(e)}" for e in error.errors(include_url=False)[:3]]
        raise ModelError(
            f"an architecture that cannot be built ({'; '.join(lines)})",
            allowed=f"{', '.join(_fields(name))} in the family {name!r}",
        ) from error


def _fields(name: str) -> list[str]:
    for model in get_args(get_args(Family)[0]):
        if name in get_args(model.model_fields["family"].annotation):
            return [key for key in model.model_fields if key != "family"]
    return []
