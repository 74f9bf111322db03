"""A network in an ONNX file as a detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.detectors.base import InSteps, ModelCard
from geoseg.detectors.canvas import FLOOR, Canvas, by_canvas, prepared
from geoseg.detectors.families import OnnxArchitecture, family_of
from geoseg.detectors.onnx_file import onnx_digest
from geoseg.detectors.onnx_session import Session
from geoseg.detectors.openvino_core import asks_for_openvino
from geoseg.detectors.openvino_session import OpenVINOSession
from geoseg.errors import ModelError
from geoseg.instances import Chip, Instances

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Chips that run together."""

    members: list[int]
    """Their places in the call."""
    canvases: list[Canvas]
    """What each lies on."""
    images: NDArray[np.float32]
    """``(n, bands, rows, columns)``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What the network says of a chip."""

    member: int
    """Its place in the call."""
    canvas: Canvas
    """What it lies on."""
    outputs: list[Tensor]
    """Without the batch's dimension."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxDetector(InSteps):
    """A :class:`~geoseg.detectors.base.Detector` around an ONNX network, run by onnxruntime or OpenVINO."""

    card: ModelCard
    """Its architecture is of the family ``onnx``."""
    architecture: OnnxArchitecture
    """The same, checked."""
    session: Session | OpenVINOSession = field(repr=False)
    """The network, on its device."""
    data: bytes = field(repr=False)
    """The file, to be sent along where the detector is pickled."""
    wanted: str = "auto"
    """The device that was asked for; asked for again wherever the detector is unpickled."""
    digest: str = ""
    """SHA-256 of the file."""
    floor: ClassVar[float] = FLOOR
    """The lowest score that it gives."""

    @classmethod
    def of(cls, data: bytes, card: ModelCard, *, device: str = "auto") -> OnnxDetector:
        """A checked file (see :func:`geoseg.detectors.onnx_file.read_onnx`), ready to predict.

        Raises:
            ModelError: a card or a network that do not fit each other.
            ResourceError: no such device, or no onnxruntime or OpenVINO.
        """
        architecture = family_of(card.architecture)
        if not isinstance(architecture, OnnxArchitecture):
            raise ModelError(
                f"an ONNX file whose card is of the family {architecture.family!r}",
                remedy='Set family = "onnx" in the card\'s [architecture]',
            )
        door = OpenVINOSession if asks_for_openvino(device) else Session
        session = door(data, device, architecture.head.outputs)
        bands = len(card.mean or card.bands or ())
        if bands and session.input.bands not in (None, bands):
            raise ModelError(f"a card with {bands} band(s) for a network that takes {session.input.bands}")
        if session.input.dtype is np.uint8 and card.mean is not None:
            raise ModelError("a card with mean and std for a network that takes 8-bit values", allowed="neither")
        if architecture.head.kind == "maskrcnn" and session.input.batch not in (None, 1):
            raise ModelError(f"a Mask R-CNN for {session.input.batch} images at once", allowed="one image")
        digest = onnx_digest(data)
        return cls(card=card, architecture=architecture, session=session, data=data, wanted=device, digest=digest)

    @property
    def device(self) -> str:
        """What it runs on, as a run's report says it."""
        return self.session.kind

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the file: a session cannot, and the worker's device may be another."""
        return _arrive, (self.data, self.card, self.wanted)

    def pack(self, chips: list[Chip]) -> list[_Batch]:
        """Chips of one size in one piece each, as many as the network takes.

        Raises:
            ModelError: chips larger than the network takes, or pixels that the card does not announce.
        """
        takes = self.session.input
        wide = {str(chip.pixels.dtype) for chip in chips} - {"uint8"}
        if takes.dtype is np.uint8 and wide:  # more than 8 bits would be wrapped modulo 256
            raise ModelError(
                f"pixels of {', '.join(sorted(wide))} for {self.card.name!r}, a network that takes 8-bit values",
                allowed="uint8, or a declared scaling",
                remedy="Give the range of the raster's values, e.g. --scaling 0,3000 (in settings: [raster] scaling)",
            )
        # Outputs of a Mask R-CNN are those of one image.
        most = 1 if self.architecture.head.kind == "maskrcnn" else takes.batch
        batches = []
        for size, members in by_canvas(chips, stride=self.architecture.stride, fixed=takes.size).items():
            for at in range(0, len(members), most or len(members)):
                some = members[at : at + (most or len(members))]
                images = prepared([chips[i] for i in some], size, self.card, CPU).numpy()
                canvases = [Canvas.of(chips[i], size, self.card) for i in some]
                batches.append(_Batch(members=some, canvases=canvases, images=images))
        return batches

    def look(self, packed: list[_Batch]) -> list[_Seen]:
        """What the network says of each chip.

        Raises:
            ModelError: outputs that are not one per image.
        """
        return [
            _Seen(member=member, canvas=canvas, outputs=outputs)
            for batch in packed
            for member, canvas, outputs in zip(batch.members, batch.canvases, self._run(batch.images), strict=True)
        ]

    def unpack(self, seen: list[_Seen]) -> list[Instances]:
        """Instances of each chip, in order.

        Raises:
            AnswerError: the network gave NaN or infinity.
            ModelError: outputs that are not those of the card's head.
        """
        found = {each.member: self.architecture.head.decode(each.outputs, each.canvas) for each in seen}
        return [found[i] for i in range(len(found))]

    def _run(self, images: NDArray[np.float32]) -> list[list[Tensor]]:
        """The outputs of each image, without the batch's dimension."""
        takes = self.session.input
        n = len(images)
        if takes.batch and n < takes.batch:
            images = np.concatenate([images, np.zeros((takes.batch - n, *images.shape[1:]), images.dtype)])
        outputs = [_tensor(output) for output in self.session.run(images if takes.batched else images[0])]
        alone = not takes.batched and any(output.ndim == 0 or len(output) != 1 for output in outputs)
        if alone or self.architecture.head.kind == "maskrcnn":
            return [outputs]
        short = [tuple(output.shape) for output in outputs if output.ndim == 0 or len(output) < n]
        if short:
            raise ModelError(f"an output of shape {short[0]} for {n} image(s)", allowed="(images, ...)")
        return [[output[i] for output in outputs] for i in range(n)]


def _tensor(output: NDArray[Any]) -> Tensor:
    return torch.from_numpy(output.astype(np.float32) if output.dtype == np.float16 else output)


def _arrive(data: bytes, card: ModelCard, wanted: str) -> OnnxDetector:
    return OnnxDetector.of(data, card, device=wanted)
