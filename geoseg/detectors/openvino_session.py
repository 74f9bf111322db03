"""A network from an ONNX file, run by OpenVINO; for onnxruntime see :mod:`geoseg.detectors.onnx_session`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.detectors.onnx_session import described, output_names
from geoseg.detectors.openvino_core import Program, parsed

TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "u8": "tensor(uint8)"}
"""OpenVINO's names of types and ONNX's."""


class OpenVINOSession:
    """A network that OpenVINO runs."""

    kind = "openvino"
    """Where it runs, as a run's report says it."""

    def __init__(self, data: bytes, device: str, outputs: Sequence[str] = ()) -> None:
        """Make ready to run a checked file.

        Args:
            data: from :func:`geoseg.detectors.onnx_file.read_onnx`.
            device: one of :data:`geoseg.detectors.openvino_core.DEVICES`.
            outputs: names of the outputs to return, in order; empty: all.

        Raises:
            ModelError: OpenVINO refuses the network, or it takes anything but one image tensor.
            ResourceError: no OpenVINO.
        """
        self._program = Program(parsed(data), device)
        inputs = self._program.model.inputs
        self.input = described(
            [port.get_any_name() for port in inputs],
            [[size.get_length() if size.is_static else None for size in port.get_partial_shape()] for port in inputs],
            [TYPES.get(port.get_element_type().get_type_name(), "another type") for port in inputs],
        )
        ports = self._program.model.outputs
        # An output that ONNX makes by copying (Identity) has the names of both in OpenVINO, in no order.
        places = {name: place for place, port in enumerate(ports) for name in port.get_names()}
        named = [places[name] for name in output_names(sorted(places), outputs)]
        self._places = named if outputs else list(range(len(ports)))

    def run(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for images ``(n, bands, rows, columns)``, or for one ``(bands, rows, columns)``."""
        found = self._program.run([np.ascontiguousarray(images, dtype=self.input.dtype)])
        # Copies, for masks are views of them, and the next call writes there.
        return [np.array(found[place]) for place in self._places]
