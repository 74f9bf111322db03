"""Heads: what the raw outputs of a family's networks mean, as instances. Plain functions of tensors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from geoseg.detectors.heads.maskrcnn import MaskRCNNHead
from geoseg.detectors.heads.queries import QueryHead
from geoseg.detectors.heads.yolo import YoloHead

Head = Annotated[MaskRCNNHead | YoloHead | QueryHead, Field(discriminator="kind")]
"""What the outputs of a network are: told apart by ``kind``."""

__all__ = ["Head", "MaskRCNNHead", "QueryHead", "YoloHead"]
