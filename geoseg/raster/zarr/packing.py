"""What packs a chunk's bytes, undone within bounds: each makes at most about as much as was asked for, whatever the
data say of themselves."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

ERRORS = (OSError, ValueError, RuntimeError, zlib.error)
"""What :func:`unpacked` and :func:`checked` raise of bytes that are broken."""


def unpacked(data: bytes, packing: str, size: int) -> bytes:
    """``size`` bytes, by one of :data:`PACKINGS` or "": none.

    Raises:
        ValueError, RuntimeError, OSError, zlib.error: they are broken, or more or fewer.
    """
    data = _UNPACK[packing](data, size)
    if len(data) != size:
        raise ValueError(f"it holds {len(data)} bytes, not {size}")
    return data


def checked(data: bytes) -> bytes:
    """What stands before a CRC-32C, which it fits.

    Raises:
        ValueError, RuntimeError: it does not, or there is none.
    """
    from numcodecs.checksum32 import CRC32C  # as below: not for those who read no Zarr

    return bytes(CRC32C(location="end").decode(data))


def _inflated(data: bytes, size: int) -> bytes:
    unit = zlib.decompressobj(wbits=47)  # zlib or gzip, by what it begins with
    made = unit.decompress(data, size + 1)
    if not unit.eof:
        raise ValueError("it is cut off, or holds more than it should")
    return made


def _unblosced(data: bytes, size: int) -> bytes:
    from numcodecs.blosc import decompress

    # The library believes the header: it makes as much as that says, and reads on beyond the end of what was cut off.
    if len(data) < 16 or struct.unpack_from("<4xI4xI", data) != (size, len(data)):
        raise ValueError("it is cut off, or holds more or less than it should")
    return bytes(decompress(data))


def _unzstded(data: bytes, size: int) -> bytes:
    from pyarrow import decompress

    return bytes(decompress(data, size, codec="zstd", asbytes=True))


_UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "": lambda data, _: data,
    "blosc": _unblosced,
    "gzip": _inflated,
    "zlib": _inflated,
    "zstd": _unzstded,
}
PACKINGS = tuple(filter(None, _UNPACK))
"""What may pack a chunk. Of other codecs some run code (pickle), and most are rare."""
