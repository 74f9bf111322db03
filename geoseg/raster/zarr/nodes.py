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
from typing import Any, Literal

import numpy as np

from geoseg.errors import RasterError, in_a_line
from geoseg.raster.access import Access, is_zarr
from geoseg.raster.zarr.packing import PACKINGS

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_V3 = frozenset(
    ["zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"]
) | {"attributes", "dimension_names", "storage_transformers"}
_MOST_BYTES = 64 * 2**20
_MOST_SIDE, _MOST_SIDES = 2**63, 32
"""An array's sizes are below, and no more than: of others Python cannot even tell how many bytes they are."""
PREDICTIONS = "geoseg_store"
"""The attribute by which a store of predictions is known."""


class Folder:
    """The files under one folder, and under those that ``raster.roots`` names. No link leads farther."""

    def __init__(self, path: str, access: Access) -> None:
        self._roots = [os.path.realpath(root) for root in (path, *access.roots)]
        self.nodes: dict[str, dict[str, Any] | None] = {}
        """What :func:`metadata` found, by path: arrays that are bands ask for the same siblings again and again."""

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
class Shard:
    """How the files of an array hold many chunks each."""

    size: tuple[int, ...]
    """Values in one file, by the array's dimensions: whole chunks."""
    index_at_end: bool
    """Or at the beginning."""
    index_dtype: np.dtype[Any]
    """Of offsets and lengths, with its order of bytes."""
    index_checked: bool
    """Whether a CRC-32C follows."""

    def chunks(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        """How many chunks it holds, by the array's dimensions."""
        return tuple(size // part for size, part in zip(self.size, chunk, strict=True))

    def index_bytes(self, chunk: tuple[int, ...]) -> int:
        """How long its index is."""
        return 16 * math.prod(self.chunks(chunk)) + 4 * self.index_checked


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an array is stored, in the order of its dimensions."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    """What is decoded at once."""
    shard: Shard | None = None
    """What lies in one file; None: a chunk."""
    dtype: np.dtype[Any]
    """With its order of bytes."""
    packing: str
    """One of a few codecs, or "": none."""
    checked: bool = False
    """Whether a CRC-32C follows each chunk."""
    key: tuple[str, str]
    """What the names of chunks begin with, and what parts their numbers."""
    fill: float | None
    """What reads where there is no chunk; None: undefined."""
    fill_is_nodata: bool
    """Whether that stands for nodata where no attribute states it, as xarray and GDAL take it."""

    def __post_init__(self) -> None:
        file = self.shard.size if self.shard else self.chunk
        whole = all(type(size) is int and 0 < size < _MOST_SIDE for size in (*self.shape, *self.chunk, *file))
        if not whole or len({len(self.shape), len(self.chunk), len(file)}) > 1 or len(file) > _MOST_SIDES:
            raise ValueError(f"{list(self.shape)} values in chunks of {list(self.chunk)}")
        if any(size % part for size, part in zip(file, self.chunk, strict=True)):
            raise ValueError(f"shards of {list(file)} values in chunks of {list(self.chunk)}")
        if self.packing not in ("", *PACKINGS):
            raise ValueError(f"the codec {self.packing!r}")
        if self.key[1] not in (".", "/"):
            raise ValueError(f"chunks in {self.key[1]!r}")
        if self.fill is not None and self.dtype.kind != "f":
            most = np.iinfo(self.dtype)
            if not (most.min <= self.fill <= most.max and self.fill % 1 == 0):
                raise ValueError(f"the fill value {self.fill:g}, which no {self.dtype.name} has")


def metadata(folder: Folder, path: str) -> dict[str, Any] | None:
    """The metadata of a node, ``attributes`` among them; None where there is no node. Consolidated ones are not looked
    at: they are a copy. They are read once per ``folder``.

    Raises:
        RasterError: they cannot be read.
    """
    if path not in folder.nodes:
        folder.nodes[path] = _metadata(folder, path)
    return folder.nodes[path]


def _metadata(folder: Folder, path: str) -> dict[str, Any] | None:
    try:
        whole, array, group, attributes = (_json(folder, os.path.join(path, name)) for name in METADATA)
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(path, f"metadata that cannot be read ({in_a_line(error)})") from error
    if whole is not None:
        if whole.get("zarr_format") != 3:  # drafts of v3 kept theirs in other files
            raise _refused(path, f"metadata of the format {whole.get('zarr_format')!r}")
        return {"attributes": {}, **whole}
    if array is None and group is None:
        return None
    return {
        **(array or group or {}),
        "node_type": "group" if array is None else "array",
        "attributes": attributes or {},
    }


def holds_predictions(path: str) -> bool:
    """Whether the folder of a Zarr is one that geoseg keeps predictions in (``--store``), and so no imagery."""
    try:
        node = metadata(Folder(path, Access()), path)
    except RasterError:
        return False
    return node is not None and PREDICTIONS in node["attributes"]


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
    index = found.shard.index_bytes(found.chunk) if found.shard else 0
    if index > access.max_block_bytes:
        raise RasterError(
            f"{path}, a Zarr array in shards with an index of {index} bytes each",
            allowed=f"an index of up to {access.max_block_bytes} bytes",
            remedy="Write it in smaller shards or larger chunks, or raise raster.max_block_bytes",
        )
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
    grid, keys, codecs = node["chunk_grid"], node["chunk_key_encoding"], node["codecs"]
    begin, mark = {"default": ("c", "/"), "v2": ("", ".")}[keys["name"]]
    if grid["name"] != "regular":
        raise ValueError(f"the chunk grid {grid['name']!r}")
    chunk, shard = tuple(grid["configuration"]["chunk_shape"]), None
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        chunk, codecs, shard = _sharded(chunk, codecs[0]["configuration"])
    order, packing, checked = _codecs(codecs)
    fill = number(node["fill_value"])
    return Layout(
        shape=tuple(node["shape"]),
        chunk=chunk,
        shard=shard,
        dtype=_type(node["data_type"]).newbyteorder(order),
        packing=packing,
        checked=checked,
        key=(begin, keys.get("configuration", {}).get("separator", mark)),
        fill=fill,
        fill_is_nodata=fill != 0,  # every array of v3 has one, and 0 is what nobody chose
    )


def _sharded(size: tuple[int, ...], said: Mapping[str, Any]) -> tuple[tuple[int, ...], list[Any], Shard]:
    """The chunks in shards of a size, their codecs, and how the shards hold them."""
    order, packing, checked = _codecs(said["index_codecs"])
    location = said.get("index_location", "end")
    if packing or location not in ("start", "end"):
        raise ValueError(f"shards with an index packed by {packing!r} at {location!r}")
    shard = Shard(
        size=size,
        index_at_end=location == "end",
        index_dtype=np.dtype(np.uint64).newbyteorder(order),
        index_checked=checked,
    )
    return tuple(said["chunk_shape"]), said["codecs"], shard


def _codecs(said: list[Any]) -> tuple[Literal["<", ">"], str, bool]:
    """The order of bytes, what packs them, and whether a checksum follows."""
    names = [codec["name"] for codec in said]
    checked = names[-1] == "crc32c"
    kind, *packing = names[:-1] if checked else names
    if kind != "bytes" or len(packing) > 1:
        raise ValueError(f"the codecs {names}")
    order = (said[0].get("configuration") or {}).get("endian", "little")
    return "<" if order == "little" else ">", packing[0].removeprefix("numcodecs.") if packing else "", checked


def _type(said: Any) -> np.dtype[Any]:
    # NumPy would take expressions, records and objects, too.
    if not re.fullmatch(r"[<>|]([iu][1248]|f[48])|u?int(8|16|32|64)|float(32|64)", str(said)):
        raise ValueError(f"values of the type {said!r}")
    kind: np.dtype[Any] = np.dtype(said)
    return kind


def number(said: Any) -> float | None:
    """A fill or nodata value as metadata have it: in v3, xarray packs those of floats into Base64.

    Raises:
        TypeError, ValueError, OverflowError, struct.error: it is no number, or no float.
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
        allowed="Zarr v2 or v3 of whole numbers or floats in regular chunks or shards, in row order, without filters, "
        f"packed by {', '.join(PACKINGS)} or not at all",
        remedy="Write it again so, e.g. with xarray's to_zarr",
    )
