"""OpenVINO, which runs networks on CPUs: the only door to it."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoseg.detectors.device import cpu_has_bf16
from geoseg.errors import ModelError, ResourceError, in_a_line

DEVICES = ("openvino", "openvino:f32", "openvino:bf16")
"""What asks for it: with a precision, or with the one that the CPU multiplies fastest."""


def asks_for_openvino(device: str) -> bool:
    """Whether a device's name means OpenVINO."""
    return device.partition(":")[0] == "openvino"


class Program:
    """A network that OpenVINO has made ready for this CPU. Not for several threads at once."""

    def __init__(self, model: Any, device: str) -> None:
        """Compile for any sizes that the model leaves open.

        Args:
            model: of :func:`traced` or :func:`parsed`.
            device: one of :data:`DEVICES`.

        Raises:
            ResourceError: another device.
            ModelError: OpenVINO cannot run it.
        """
        if device not in DEVICES:
            raise ResourceError(f"the device {device!r}", allowed=", ".join(DEVICES))
        precision = device.partition(":")[2] or ("bf16" if cpu_has_bf16() else "f32")
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # Where a run's process may be, the operating system says.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self.model = _core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"a network that OpenVINO cannot run ({in_a_line(error)})") from error
        self._request = self.model.create_infer_request()

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """All outputs. Their memory is the program's: good until the next call."""
        results = self._request.infer(list(inputs), share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]


def traced(part: nn.Module, example: Sequence[Tensor]) -> Any:
    """OpenVINO's form of a module that takes and gives tensors; all sizes but the last are left open.

    Raises:
        ResourceError: OpenVINO is not installed.
    """
    import warnings

    openvino = _openvino()
    open_sizes = [[*[-1] * (each.ndim - 1), each.shape[-1]] for each in example]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing says of each number that it stays as it is, such as the strides
        return openvino.convert_model(part, example_input=tuple(example), input=open_sizes)


def parsed(data: bytes) -> Any:
    """OpenVINO's form of an ONNX file.

    Raises:
        ResourceError: OpenVINO is not installed.
        ModelError: it cannot read the file.
    """
    _openvino()
    from openvino.frontend import FrontEndManager

    try:
        # By name, so that the bytes are read as what they were checked as.
        frontend = FrontEndManager().load_by_framework("onnx")
        return frontend.convert(frontend.load(io.BytesIO(data)))
    except RuntimeError as error:
        raise ModelError(f"a network that OpenVINO cannot read ({in_a_line(error)})") from error


@cache
def _core() -> Any:
    return _openvino().Core()


def _openvino() -> Any:
    # Its converter sends what it is given to do, and on what machine, to its maker by way of Google Analytics; without
    # this package it uses the stub that it has for that case.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ResourceError("no openvino", remedy="pip install 'geoseg[openvino]', or use --device cpu") from error
    return openvino
