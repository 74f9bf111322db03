"""ONNX files: read whole, checked before any of it runs. One file, standard operators, nothing beside it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoseg.errors import ModelError, ResourceError

MAX_BYTES = 2 * 2**30
"""Largest file: protobuf, which ONNX is stored as, holds no more in one message."""
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Sets of operators that onnxruntime has built in. Others need a library of machine code beside the file."""
FORBIDDEN = frozenset({"EPContext"})
"""Built-in operators that load compiled code from files of their own."""

_NAMES = re.compile(r"""(\d{1,6}): (['"])(.*?)\2(?=[,}])""")
"""A class in YOLO's metadata, ``{0: 'building', 1: 'shed'}``: text of Python's, which is not run."""
_LONGEST = 100_000
"""Characters of it that are looked at."""


def read_onnx(path: str | Path) -> bytes:
    """The bytes of an ONNX file, checked.

    Raises:
        ModelError: no ONNX file, too large, with tensors in other files, or with operators that are not built in.
        ResourceError: the package ``onnx`` is not installed.
    """
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{path}, of {size:,} bytes", allowed=f"ONNX files up to {MAX_BYTES:,} bytes")
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path}, which cannot be read ({error.strerror})") from error
    check_onnx(data, path)
    return data


def onnx_digest(data: bytes) -> str:
    """The SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def check_onnx(data: bytes, path: str | Path) -> None:
    """See :func:`read_onnx`."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise missing(error) from error
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, TypeError) as error:
        raise ModelError(f"{path}, which is no ONNX file ({error})", remedy="Export the network again") from error
    if not model.graph.node:
        raise ModelError(f"{path}, an ONNX file without a network in it", remedy="Export the network again")
    own = {function.domain for function in model.functions}
    for graph in [model.graph, *model.functions]:
        for node in _nodes(graph):
            if node.domain not in DOMAINS | own or node.op_type in FORBIDDEN:
                raise ModelError(
                    f"{path}, with the operator {node.domain or 'ai.onnx'}.{node.op_type}",
                    allowed="operators that onnxruntime has built in",
                    remedy="Export the network without custom operators",
                )
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{path}, whose tensor {tensor.name!r} is in another file",
                allowed="one file that holds everything",
                remedy="Export with external_data=False, or onnx.save_model(onnx.load(FILE), NEW)",
            )


def class_names(data: bytes) -> dict[int, str]:
    """Names of classes by number, where a checked file has them in its metadata as YOLO exports do; else nothing."""
    import onnx

    stated = [entry.value for entry in onnx.load_model_from_string(data).metadata_props if entry.key == "names"]
    return {int(number): name for text in stated for number, _, name in _NAMES.findall(text[:_LONGEST])}


def missing(error: ImportError) -> ResourceError:
    """What to say where the optional packages are not installed."""
    return ResourceError(
        f"an ONNX model, where {error.name or 'a package'} is not installed",
        remedy="pip install 'geoseg[onnx]' (for a GPU: onnxruntime-gpu in place of onnxruntime)",
    )


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes of a graph or function, those of inner graphs (loops, conditions) included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _nodes(inner)


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors that a model stores: initial values and constants, at any depth."""
    for graph in [model.graph, *model.functions]:
        yield from _initial(graph)
        for node in _nodes(graph):
            for attribute in node.attribute:
                yield from [attribute.t, *attribute.tensors]
                for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
                    yield from (sparse.values, sparse.indices)
                for inner in [attribute.g, *attribute.graphs]:
                    yield from _initial(inner)


def _initial(graph: Any) -> Iterator[Any]:
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
