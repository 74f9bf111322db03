"""Telling rasters apart by what they hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

THOROUGH = 2**30
"""Bytes: read in a second or two, and few rasters are larger."""
QUICK = 2**21
"""Bytes: what each of a thousand workers may read of a file before it begins."""
_PIECE = 16 * 2**10
_CHUNK = 2**20


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
