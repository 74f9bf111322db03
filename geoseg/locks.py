"""One run per output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from geoseg.errors import LockedError, SinkError


@contextmanager
def output_lock(target: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold ``.<target>.lock`` while the block runs. The system drops the lock when the process dies.

    The empty, hidden file stays: were it removed, a run that had opened it just before and one that makes it anew
    would each hold a lock, and both would write.

    Args:
        target: the output, a file or folder.
        wait_s: seconds to wait for another to let go.

    Raises:
        LockedError: another process holds it.
        SinkError: the lock file cannot be made (no such folder, read-only), or the file system has no locks.
    """
    path = Path(os.path.realpath(target))
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=wait_s)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"another run is writing {target} (it holds {lock.lock_file})",
            allowed="one run per output",
            remedy="Wait for it to end, or write to another name",
        ) from None
    except (OSError, NotImplementedError) as error:  # the second where a file system has no locks, by old filelocks
        raise SinkError(
            f"{target} cannot be written ({error})",
            remedy="Create the folder, or choose one that can be written to",
        ) from error
    try:
        yield
    finally:
        lock.release()
