"""Where a store lies: a local folder, or what a URL names. Objects of bytes under keys."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from geoseg.errors import StoreError
from geoseg.paths import expanded

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A local folder or a URL, as a flat set of objects. Raises whatever the library underneath raises."""

    path: str
    """Absolute path, or URL."""

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Place:
        """The place that a user names: a path, or a URL of any kind that fsspec knows.

        A path is never taken for anything but a path, and nothing is reached before something is read or written.
        """
        name = path if isinstance(path, str) else str(expanded(path))
        if name.startswith("file://"):
            name = url2pathname(urlsplit(name).path)
        return cls(name.rstrip("/") if "://" in name else os.path.abspath(expanded(name)))

    @property
    def local(self) -> bool:
        """True for a folder of this machine."""
        return "://" not in self.path

    def check(self) -> None:
        """Refuse, where it is a path, a file, and a folder in one that is not there: a slip makes no folders.

        Raises:
            StoreError: it is one of these.
        """
        if not self.local or os.path.isdir(self.path):
            return
        if os.path.lexists(self.path):
            raise StoreError(f"the store {self.path}, which is no folder", allowed="a folder, or a URL")
        if not os.path.isdir(os.path.dirname(self.path)):
            raise StoreError(f"the store {self.path}, whose folder does not exist", remedy="Create the folder first")

    @cached_property
    def reading(self) -> ZarrStore:
        """The place as zarr knows it, to read from: makes no folder."""
        return self._open(read_only=True)

    @cached_property
    def writing(self) -> ZarrStore:
        """The place as zarr knows it, to write to."""
        return self._open(read_only=False)

    def _open(self, *, read_only: bool) -> ZarrStore:
        if self.local:
            return LocalStore(self.path, read_only=read_only)
        try:
            return FsspecStore.from_url(self.path, read_only=read_only)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"{self.path}, which cannot be opened ({error})",
                allowed="a folder, or a URL of a kind whose fsspec driver is installed (s3://: s3fs, gs://: gcsfs)",
            ) from error

    def get(self, key: str) -> bytes | None:
        """What an object holds; None where there is none."""
        try:
            found = run(self.reading.get(key, default_buffer_prototype()))[0]
        except FileNotFoundError:  # no folder at all
            return None
        return None if found is None else found.to_bytes()

    def put(self, key: str, value: bytes, *, replace: bool = True) -> None:
        """Have an object hold ``value``: whole or not at all. Without ``replace``, one that is there stays."""
        buffer = default_buffer_prototype().buffer.from_bytes(value)
        try:
            run((self.writing.set if replace else self.writing.set_if_not_exists)(key, buffer))
        except NotImplementedError:  # many stores cannot make a write depend on what is there
            if self.get(key) is None:
                run(self.writing.set(key, buffer))

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Bytes in each object; None where there is none."""
        return run(*(self._size(key) for key in keys))

    async def _size(self, key: str) -> int | None:
        try:
            return int(await self.reading.getsize(key))
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """What lies at the top: objects and folders."""
        try:
            return run(_listed(self.reading.list_dir("")))[0]
        except FileNotFoundError:
            return []

    def remove(self, folder: str) -> None:
        """Remove all objects under a key, as far as they are there."""
        run(self.writing.delete_dir(folder))


def run(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Do coroutines of zarr together, on its own loop; results in order. If one fails, the rest end first."""

    async def together() -> list[T | BaseException]:
        return await asyncio.gather(*work, return_exceptions=True)

    done = sync(together())
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return done  # type: ignore[return-value]


async def _listed(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]
