"""What tells, without reading a file, that it has not changed."""

from __future__ import annotations

import os
from pathlib import Path


def signature(path: str | Path) -> str | None:
    """Size, times of change and inode of a file and of the mask beside it; None where there is no such file.

    The time of the last change of the inode is among them, which no program can set back: as git's index does, a
    file is taken for unchanged while all of these are the same.
    """
    found = []
    for each in (path, f"{path}.msk"):
        try:
            stat = os.stat(each)
        except (OSError, ValueError):
            found.append("-")
        else:
            found.append(f"{stat.st_size}.{stat.st_mtime_ns}.{stat.st_ctime_ns}.{stat.st_ino}")
    return None if found[0] == "-" else " ".join(found)
