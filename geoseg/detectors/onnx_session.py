"""One onnxruntime session: where it runs, what the network takes. The only door to onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.detectors.onnx_file import missing
from geoseg.errors import ModelError, ResourceError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Kinds of devices and what onnxruntime calls what runs there."""
TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}

_BANDS_LAST = 16
"""Fewer columns than this no network has: they are bands."""
_LARGEST = 16_384
"""Rows, columns or bands, of which no tile has more."""
_TOLD = 300
"""Characters of onnxruntime's messages."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a network takes."""

    name: str
    """Its name in the file."""
    dtype: type[np.generic]
    """float32, float16 or uint8."""
    batched: bool
    """False: one image ``(bands, rows, columns)``, without the batch's dimension."""
    batch: int | None
    """Images per call; None: any number."""
    bands: int | None
    """Bands per image; None: any number."""
    size: tuple[int | None, int | None]
    """Rows and columns; None: any number."""


class Session:
    """A network that onnxruntime runs."""

    def __init__(self, data: bytes, device: str = "auto", outputs: Sequence[str] = ()) -> None:
        """Make ready to run a checked file.

        Args:
            data: from :func:`geoseg.detectors.onnx_file.read_onnx`.
            device: auto (CUDA where onnxruntime has it, else the CPU), cpu, cuda, cuda:N, tensorrt, tensorrt:N.
            outputs: names of the outputs to return, in order; empty: all.

        Raises:
            ModelError: onnxruntime refuses the network, or it takes anything but one image tensor.
            ResourceError: no such device here, or no onnxruntime.
        """
        # From its import on 1.31 tells its maker what it runs, and notes an id of the machine.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise missing(error) from error
        providers = _providers(device, ort.get_available_providers())
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Other threads read and vectorize while the network waits for its next call.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Only what was checked: onnxruntime would also take its own format, if the same bytes could be read as that.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.log_severity_level = 4  # what fails is raised, too
        try:
            self._session: Any = ort.InferenceSession(data, options, providers=providers)
        except Exception as error:  # onnxruntime's own errors have no common base
            raise ModelError(f"a network that onnxruntime refuses ({_line(error)})") from error
        first = providers[0][0]
        if first not in self._session.get_providers():
            raise ResourceError(
                f"the device {device!r}, which onnxruntime could not set up",
                remedy="Install the CUDA libraries that your onnxruntime-gpu asks for, or use --device cpu",
            )
        self.kind = next(kind for kind, name in PROVIDERS.items() if name == first)
        inputs = self._session.get_inputs()
        self.input = described([i.name for i in inputs], [i.shape for i in inputs], [i.type for i in inputs])
        self._outputs = output_names([each.name for each in self._session.get_outputs()], outputs)

    def run(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for images ``(n, bands, rows, columns)``, or for one ``(bands, rows, columns)``."""
        feed = {self.input.name: np.ascontiguousarray(images, dtype=self.input.dtype)}
        return [np.asarray(output) for output in self._session.run(self._outputs, feed)]


def _providers(device: str, there: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """What to ask onnxruntime for: the device's provider, and those that take what it cannot run."""
    kind, _, index = device.partition(":")
    if kind == "auto":
        kind = "cuda" if PROVIDERS["cuda"] in there else "cpu"
    if kind not in PROVIDERS or (index and (kind == "cpu" or not index.isdecimal())):
        raise ResourceError(
            f"the device {device!r} for an ONNX model", allowed="auto, cpu, cuda, cuda:N, tensorrt, tensorrt:N"
        )
    if PROVIDERS[kind] not in there:
        raise ResourceError(
            f"the device {device!r}, where onnxruntime has only {', '.join(there)}",
            remedy="Install onnxruntime-gpu in place of onnxruntime, or use --device cpu",
        )
    place = {"device_id": int(index or 0)}
    chain = {"cpu": ["cpu"], "cuda": ["cuda", "cpu"], "tensorrt": ["tensorrt", "cuda", "cpu"]}[kind]
    return [(PROVIDERS[each], {} if each == "cpu" else place) for each in chain if PROVIDERS[each] in there]


def described(names: Sequence[str], shapes: Sequence[Sequence[Any]], types: Sequence[str]) -> Input:
    """What a network takes, from the names, shapes and ONNX types of all of its inputs.

    Raises:
        ModelError: anything but one image tensor.
    """
    if len(names) != 1 or len(shapes[0]) not in (3, 4) or types[0] not in TYPES:
        raise ModelError(
            f"a network with the inputs {dict(zip(names, shapes, strict=True))} of {list(types)}",
            allowed="one image tensor, (n, bands, rows, columns) or (bands, rows, columns), float or uint8",
            remedy="Export the network without its other inputs",
        )
    sizes = [size if isinstance(size, int) and size > 0 else None for size in shapes[0]]
    if sizes[-1] is not None and sizes[-1] <= _BANDS_LAST:
        raise ModelError(
            f"a network that takes images of the shape {list(shapes[0])}, whose bands come last",
            allowed="(n, bands, rows, columns) or (bands, rows, columns)",
            remedy="Export the network with its bands first (NCHW)",
        )
    if max(size or 0 for size in sizes[-3:]) > _LARGEST:
        raise ModelError(
            f"a network that takes images of the shape {list(shapes[0])}",
            allowed=f"up to {_LARGEST} rows, columns and bands",
            remedy="Export the network for smaller images, or for any size",
        )
    batched = len(sizes) == 4
    return Input(
        name=names[0],
        dtype=TYPES[types[0]],
        batched=batched,
        batch=sizes[0] if batched else 1,
        bands=sizes[-3],
        size=(sizes[-2], sizes[-1]),
    )


def output_names(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The outputs to return of those that there are.

    Raises:
        ModelError: a wanted one is not there.
    """
    lost = sorted(set(wanted) - set(names))
    if lost:
        raise ModelError(
            f"a network without outputs named {', '.join(lost)}",
            allowed=", ".join(names),
            remedy="Set outputs in the card's [architecture.head]",
        )
    return list(wanted) or list(names)


def _line(error: Exception) -> str:
    """The end of what it says: onnxruntime begins with the place in its own source."""
    said = " ".join(str(error).split())
    return said if len(said) <= _TOLD else f"... {said[-_TOLD:]}"
