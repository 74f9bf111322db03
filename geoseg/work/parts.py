"""A part: tables and a few facts in one file, which is there whole or not at all, and checked when it is read."""

from __future__ import annotations

import json
import mmap
import os
import struct
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from geoseg.errors import SinkError
from geoseg.sinks.atomic import write_failed

_HEAD = struct.Struct("<8sIIQ40x")
"""Magic, CRC-32, bytes of the index, bytes of all that follows. 64 bytes keep Arrow aligned."""
_MAGIC = b"geosegP1"
_ALIGN = 64


class DamagedPart(SinkError):
    """A part that is not as it was written."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some tables, and facts about them."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """What JSON can hold."""
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    """By name."""

    def pack(self) -> bytes:
        """The part as bytes."""
        body, places = bytearray(), {}
        for name, table in self.tables.items():
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            places[name] = [len(body), sink.tell()]
            body += _padded(sink.getvalue().to_pybytes())
        index = json.dumps({"facts": dict(self.facts), "tables": places}, allow_nan=False).encode()
        rest = _padded(index) + bytes(body)
        return _HEAD.pack(_MAGIC, _digest(rest, len(index)), len(index), len(rest)) + rest

    @staticmethod
    def unpack(data: Any) -> Part:
        """The part that bytes (or a memory map) hold; tables are views of them.

        Raises:
            DamagedPart: cut, or changed.
        """
        view = memoryview(data)
        if len(view) < _HEAD.size:
            raise DamagedPart("a part of a run that is cut")
        magic, crc, length, size = _HEAD.unpack(view[: _HEAD.size])
        rest = view[_HEAD.size :]
        if magic != _MAGIC or len(rest) != size or _digest(rest, length) != crc:
            raise DamagedPart("a part of a run that is cut or changed")
        index = json.loads(bytes(rest[:length]))
        start = length + -length % _ALIGN
        buffer = pa.py_buffer(rest)
        tables = {
            name: pa.ipc.open_stream(buffer.slice(start + offset, size)).read_all()
            for name, (offset, size) in index["tables"].items()
        }
        return Part(facts=index["facts"], tables=tables)


def save(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Have ``path`` hold ``data``: whole or not at all. Of two that save at once one wins.

    Args:
        path: the file.
        data: its content.
        flush: whether it is to outlast a power cut, too.

    Raises:
        SinkError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        try:
            with open(draft, "xb") as out:
                out.write(data)
                out.flush()
                if flush:
                    os.fsync(out.fileno())
            os.replace(draft, path)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
    except OSError as error:
        raise write_failed(path, error) from error


def load(path: Path) -> Part:
    """The part at ``path``, in memory only as far as it is looked at.

    Raises:
        DamagedPart: cut or changed; the file is removed, so that it is made anew.
        FileNotFoundError: there is none.
    """
    with open(path, "rb") as source:
        if not os.fstat(source.fileno()).st_size:
            mapped: Any = b""
        else:
            mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return Part.unpack(mapped)
    except DamagedPart as error:
        with suppress(OSError):
            path.unlink()
        raise DamagedPart(
            f"{path} is damaged", remedy="It was removed: run the same command again, and look after the disk"
        ) from error


def _digest(rest: Any, length: int) -> int:
    """CRC-32 of all that follows the head, and of where its index ends."""
    return zlib.crc32(rest, length)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)
