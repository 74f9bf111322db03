"""Scenes put aside on disk while they are still being found: there may be too many for memory."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from geoseg.errors import SinkError
from geoseg.stac.scene import Scene


@contextmanager
def spooled(scenes: Iterable[Scene]) -> Iterator[Iterator[Scene]]:
    """Find all of ``scenes``, then give them once more, in their order.

    Raises:
        SinkError: the folder for temporary files has no room for them.
    """
    with _told():
        kept = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, where what is left to flush may fail once more
    try:
        for scene in scenes:
            with _told():
                pickle.dump(scene, kept)
        with _told():
            kept.seek(0)
        yield _again(kept)
    finally:
        with suppress(OSError):
            kept.close()


def _again(kept: IO[bytes]) -> Iterator[Scene]:
    with suppress(EOFError):
        while True:
            yield pickle.load(kept)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SinkError(
            f"a list of scenes that cannot be kept in the folder for temporary files ({error})",
            remedy="Make room there, or name another folder in TMPDIR, and run the same again",
        ) from error
