"""Arrays of a store: Zarr v3, of one kind each. What describes an array is made here and never taken from a file.

A store may come from anybody. What zarr would make of an array's own description (codecs, shapes, object types) is
not left to chance: the description has to be the very one that geoseg writes for the shape that it expects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr import AsyncArray
from zarr.abc.store import Store as ZarrStore
from zarr.core.array_spec import ArrayConfig
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import StorePath

from geoseg.errors import StoreError

DTYPES = {"instances": "float32", "distances": "float16", "cells": "uint8", "gaps": "uint8"}
"""The arrays that a block may have."""
COLUMNS_OF = {"instances": [10]}
"""Sides of an array after the first; the others have none."""
MOST_BYTES = 4 * 2**30
"""A block holds no more than this, unpacked."""
_CHUNK_BYTES = 2**27
"""Blosc takes at most 2 GiB at a time; a block as a network leaves it is one chunk per array."""


def check_size(shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse, before any memory is taken, arrays that no block needs.

    Raises:
        StoreError: they do not fit.
    """
    total = sum(math.prod(shape) * np.dtype(DTYPES[name]).itemsize for name, shape in shapes.items())
    if total > MOST_BYTES:
        raise StoreError(
            f"a block of {total / 2**30:.1f} GiB",
            allowed=f"{MOST_BYTES / 2**30:.0f} GiB",
            remedy="Take smaller blocks ([tiling] block)",
        )


def object_keys(name: str, shape: tuple[int, ...]) -> list[str]:
    """The objects of an array under its own path: its description first, then its chunks."""
    chunks = -(-shape[0] // _chunk(name, shape)[0])
    return ["zarr.json", *(".".join([str(i)] + ["0"] * (len(shape) - 1)) for i in range(chunks))]


async def write_array(store: ZarrStore, path: str, name: str, values: NDArray[Any]) -> None:
    """Write an array; its description last."""
    described = _description(name, values.shape)
    await _array(store, path, described).setitem(..., values)
    buffer = default_buffer_prototype().buffer.from_bytes(json.dumps(described).encode())
    await store.set(f"{path}/zarr.json", buffer)


async def read_array(store: ZarrStore, path: str, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read an array of known shape. A chunk that is not there reads as zeros: whoever asks has a checksum.

    Raises:
        StoreError: it is described otherwise than geoseg describes it.
    """
    described = _description(name, shape)
    found = await store.get(f"{path}/zarr.json", default_buffer_prototype())
    if found is None or json.loads(found.to_bytes()) != described:
        raise StoreError(f"an array {path} that is not there, or not as geoseg writes it")
    return np.asarray(await _array(store, path, described).getitem(...))


def _array(store: ZarrStore, path: str, described: dict[str, Any]) -> AsyncArray[ArrayV3Metadata]:
    metadata = ArrayV3Metadata.from_dict(dict(described))
    # A chunk of nothing but zeros is written too: what is missing can then be told from what is zero.
    config = ArrayConfig(order="C", write_empty_chunks=True)
    return AsyncArray(metadata=metadata, store_path=StorePath(store, path), config=config)


def _description(name: str, shape: Sequence[int]) -> dict[str, Any]:
    """The ``zarr.json`` of an array: Zarr v3 core specification, codecs ``bytes`` and ``blosc``."""
    dtype = np.dtype(DTYPES[name])
    little: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        little["configuration"] = {"endian": "little"}
    blosc = {"typesize": dtype.itemsize, "cname": "zstd", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": _chunk(name, shape)}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "fill_value": 0,
        "codecs": [little, {"name": "blosc", "configuration": blosc}],
        "attributes": {},
        "storage_transformers": [],
    }


def _chunk(name: str, shape: Sequence[int]) -> list[int]:
    row = math.prod(shape[1:]) * np.dtype(DTYPES[name]).itemsize
    return [min(shape[0], max(1, _CHUNK_BYTES // row)), *shape[1:]]
