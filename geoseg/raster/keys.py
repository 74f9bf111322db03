"""Telling rasters apart by what they hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from geoseg.errors import RasterError

THOROUGH = 2**30
"""Bytes: read in a second or two, and few rasters are larger."""
QUICK = 2**21
"""Bytes: what each of a thousand workers may read of a file before it begins."""
_PIECE = 16 * 2**10
_CHUNK = 2**20
_MULTIHASH = {"d50110": "md5", "1114": "sha1", "1220": "sha256", "1340": "sha512"}
"""Algorithms by what a multihash of theirs begins with: code and length, hexadecimal."""


def content_key(paths: Iterable[str], *, most: int = THOROUGH) -> str:
    """A key of what files hold, whatever they are called: 32 hexadecimal digits of a SHA-256.

    Files are hashed whole up to ``most`` bytes, which many files (a mosaic) share evenly, down to 64 KiB each. Of a
    larger one go in: its size, and as many bytes in pieces of 16 KiB, spread evenly from the first byte to the last. A
    change that keeps the size and falls between the pieces is not seen.
    """
    paths = list(paths)
    share = max(4 * _PIECE, most // max(1, len(paths)))
    digest = hashlib.sha256()
    for path in paths:
        size = os.path.getsize(path)
        digest.update(f"{size};".encode())
        with open(path, "rb") as file:
            if size <= share:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                continue
            pieces = share // _PIECE
            for piece in range(pieces):
                file.seek((size - _PIECE) * piece // (pieces - 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest()[:32]


def check_file(path: str, checksum: str) -> None:
    """Compare a file with its multihash, hexadecimal, as STAC's ``file:checksum`` is; of other algorithms than MD5,
    SHA-1, SHA-256 and SHA-512 nothing is compared.

    Raises:
        RasterError: it holds something else.
    """
    for start, algorithm in _MULTIHASH.items():
        stated = checksum.lower().removeprefix(start)
        whole = len(checksum) == len(start) + 2 * int(start[-2:], 16)  # else it is a bare digest, of who knows what
        if not whole or stated == checksum.lower():
            continue
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != stated:
            raise RasterError(
                f"{path}, whose {algorithm.upper()} is {found}, another than its catalogue states",
                allowed="the very bytes that the catalogue tells of",
                remedy="Copy or download it again; where it was changed on purpose, mend file:checksum of its asset",
            )
