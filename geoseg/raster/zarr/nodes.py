"""What lies in a Zarr folder: arrays and groups by their own metadata, in words that v2 and v3 share."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoseg.errors import RasterError, in_a_line
from geoseg.raster.access import Access, is_zarr

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_PACKINGS = ("blosc", "gzip", "zlib", "zstd")
"""What may pack a chunk. Of other codecs some run code (pickle), and most are rare."""
_V3 = frozenset(
    ["zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"]
) | {"attributes", "dimension_names", "storage_transformers"}
_MOST_BYTES = 64 * 2**20


class Folder:
    """The files under one folder, and under those that ``raster.roots`` names. No link leads farther."""

    def __init__(self, path: str, access: Access) -> None:
        self._roots = [os.path.realpath(root) for root in (path, *access.roots)]

    def find(self, path: str) -> tuple[str, os.stat_result] | None:
        """The real path of a file and what is known of it; None where there is none.

        Raises:
            OSError: it lies elsewhere, is no regular file, or may not be looked at.
        """
        real = os.path.realpath(path)
        if not any(os.path.commonpath([root, real]) == root for root in self._roots):
            raise OSError(f"{path} is a link that leads out of the folder")
        try:
            found = os.stat(real)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no file")
        return real, found


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an array is stored, in the order of its dimensions."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    """What is decoded at once."""
    dtype: np.dtype[Any]
    """With its order of bytes."""
    packing: str
    """One of a few codecs, or "": none."""
    key: tuple[str, str]
    """What the names of chunks begin with, and what parts their numbers."""
    fill: float | None
    """What reads where there is no chunk; None: undefined."""
    fill_is_nodata: bool
    """Whether that stands for nodata where no attribute states it, as xarray and GDAL take it."""

    def __post_init__(self) -> None:
        whole = all(type(size) is int and size > 0 for size in (*self.shape, *self.chunk))
        if not whole or len(self.shape) != len(self.chunk):
            raise ValueError(f"{list(self.shape)} values in chunks of {list(self.chunk)}")
        if self.packing not in ("", *_PACKINGS):
            raise ValueError(f"the codec {self.packing!r}")
        if self.key[1] not in (".", "/"):
            raise ValueError(f"chunks in {self.key[1]!r}")
        if self.fill is not None and self.dtype.kind != "f":
            most = np.iinfo(self.dtype)
            if not (most.min <= self.fill <= most.max and self.fill % 1 == 0):
                raise ValueError(f"the fill value {self.fill:g}, which no {self.dtype.name} has")


def metadata(folder: Folder, path: str) -> dict[str, Any] | None:
    """The metadata of a node, ``attributes`` among them; None where there is no node. Consolidated ones are not looked
    at: they are a copy.

    Raises:
        RasterError: they cannot be read.
    """
    try:
        whole, array, group, attributes = (_json(folder, os.path.join(path, name)) for name in METADATA)
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(path, f"metadata that cannot be read ({in_a_line(error)})") from error
    if whole is not None:
        return {"attributes": {}, **whole}
    if array is None and group is None:
        return None
    return {
        **(array or group or {}),
        "node_type": "group" if array is None else "array",
        "attributes": attributes or {},
    }


def children(folder: Folder, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and metadata of the nodes in a group, by name."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise _refused(path, f"a group that cannot be listed ({error.strerror})") from error
    for name in names:
        if is_zarr(os.path.join(path, name)) and (found := metadata(folder, os.path.join(path, name))):
            yield os.path.join(path, name), found


def dimensions(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of an array's dimensions, "" where one has none; empty where nothing is said of them."""
    names = node.get("dimension_names") or node["attributes"].get("_ARRAY_DIMENSIONS")
    return tuple(name if isinstance(name, str) else "" for name in names) if isinstance(names, list) else ()


def layout(path: str, node: Mapping[str, Any], access: Access) -> Layout:
    """What an array's metadata say of how it is stored.

    Raises:
        RasterError: something is not understood, or a chunk is beyond the limits of ``access``.
    """
    try:
        if node["node_type"] != "array" or node["zarr_format"] not in (2, 3):
            raise ValueError(f"a node of the type {node['node_type']!r}, of format {node['zarr_format']!r}")
        found = _v2(node) if node["zarr_format"] == 2 else _v3(node)
    except KeyError as error:
        raise _refused(path, f"metadata without {error}") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError, struct.error) as error:
        raise _refused(path, in_a_line(error)) from error
    cost = math.prod(found.chunk) * found.dtype.itemsize
    if cost > access.max_block_bytes:
        raise RasterError(
            f"{path}, a Zarr array in chunks of {' x '.join(map(str, found.chunk))}, {cost} bytes each once decoded",
            allowed=f"chunks of up to {access.max_block_bytes} bytes",
            remedy="Write it in smaller chunks, or raise raster.max_block_bytes",
        )
    return found


def _v2(node: Mapping[str, Any]) -> Layout:
    if node.get("filters") or node.get("order", "C") != "C":
        raise ValueError(f"the filters {node.get('filters')} and the order {node.get('order')!r}")
    return Layout(
        shape=tuple(node["shape"]),
        chunk=tuple(node["chunks"]),
        dtype=_type(node["dtype"]),
        packing=node["compressor"]["id"] if node.get("compressor") else "",
        key=("", node.get("dimension_separator", ".")),
        fill=number(node.get("fill_value")),
        fill_is_nodata=True,
    )


def _v3(node: Mapping[str, Any]) -> Layout:
    extra = [name for name in node.keys() - _V3 if (node[name] or {}).get("must_understand") is not False]
    if extra or node.get("storage_transformers"):
        raise ValueError(f"the extension {(extra or ['storage_transformers'])[0]!r}")
    grid, keys, (first, *packing) = node["chunk_grid"], node["chunk_key_encoding"], node["codecs"]
    begin, mark = {"default": ("c", "/"), "v2": ("", ".")}[keys["name"]]
    if grid["name"] != "regular" or first["name"] != "bytes" or len(packing) > 1:
        raise ValueError(f"the chunk grid {grid['name']!r} and codecs {[each['name'] for each in node['codecs']]}")
    endian = first.get("configuration", {}).get("endian", "little")
    fill = number(node["fill_value"])
    return Layout(
        shape=tuple(node["shape"]),
        chunk=tuple(grid["configuration"]["chunk_shape"]),
        dtype=_type(node["data_type"]).newbyteorder("<" if endian == "little" else ">"),
        packing=packing[0]["name"].removeprefix("numcodecs.") if packing else "",
        key=(begin, keys.get("configuration", {}).get("separator", mark)),
        fill=fill,
        fill_is_nodata=fill != 0,  # every array of v3 has one, and 0 is what nobody chose
    )


def _type(said: Any) -> np.dtype[Any]:
    # NumPy would take expressions, records and objects, too.
    if not re.fullmatch(r"[<>|]([iu][1248]|f[48])|u?int(8|16|32|64)|float(32|64)", str(said)):
        raise ValueError(f"values of the type {said!r}")
    kind: np.dtype[Any] = np.dtype(said)
    return kind


def number(said: Any) -> float | None:
    """A fill or nodata value as metadata have it: in v3, xarray packs those of floats into Base64.

    Raises:
        TypeError, ValueError, struct.error: it is no number.
    """
    if said is None:
        return None
    try:
        return float(said)
    except ValueError:
        return float(struct.unpack("<d", base64.b64decode(said, validate=True))[0])


def _json(folder: Folder, path: str) -> dict[str, Any] | None:
    found = folder.find(path)
    if found is None:
        return None
    with open(found[0], "rb") as file:
        value = json.loads(file.read(_MOST_BYTES))  # one that is longer is cut, and no JSON
    # JSON can name characters that no text can hold, and that would fail when somebody tells or records them.
    value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    if not isinstance(value, dict) or not isinstance(value.get("attributes", {}), dict):
        raise ValueError(f"{path} holds no object")
    return value


def _refused(path: str, what: str) -> RasterError:
    return RasterError(
        f"{path}, a Zarr array with {what}",
        allowed="Zarr v2 or v3 of whole numbers or floats in regular chunks, in row order, without shards or filters, "
        f"packed by {', '.join(_PACKINGS)} or not at all",
        remedy="Write it again so, e.g. with xarray's to_zarr",
    )
