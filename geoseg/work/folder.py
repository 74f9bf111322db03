"""The folder in which a run works, beside its output: claimed, filled, taken up again, removed."""

from __future__ import annotations

import glob
import json
import logging
import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import SinkError
from geoseg.sinks.atomic import printable, write_failed
from geoseg.work.parts import DamagedPart, Part, load, save

log = logging.getLogger("geoseg")

_MARKER = "geoseg-work.json"
"""Tells a work folder from a folder of the user's, which is never touched."""
_TOKEN = "token"
"""Says whose the folder is: what an earlier run left at work somewhere does not write into it any more."""
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a run. Travels to workers, which write to it where they see the very folder of the run."""

    path: Path
    """Where they lie."""
    token: str
    """Of the run."""
    lasting: bool = True
    """Whether another run is to find them, even after a power cut."""

    @property
    def shared(self) -> bool:
        """True where this process sees the folder, and the run still is the one that it is of."""
        try:
            return (self.path / _TOKEN).read_text() == self.token
        except OSError:
            return False

    def put(self, name: str, part: Part) -> bytes | None:
        """Keep a part; where the folder is not seen from here, its bytes for whoever sees it.

        Raises:
            SinkError: it cannot be written.
        """
        data = part.pack()
        if not self.shared:
            return data
        save(self.path / name, data, flush=self.lasting)
        return None

    def save(self, name: str, data: bytes) -> None:
        """Keep what :meth:`put` gave back elsewhere.

        Raises:
            SinkError: it cannot be written.
        """
        save(self.path / name, data, flush=self.lasting)

    def get(self, name: str) -> Part:
        """A part that is known to be there.

        Raises:
            SinkError: it is gone or damaged.
        """
        try:
            return load(self.path / name)
        except OSError as error:
            raise SinkError(
                f"{self.path / name}, which a run wrote and now cannot be read ({error})",
                remedy="Run the same command again: what is missing is made anew. Look after the disk",
            ) from error

    def find(self, name: str) -> Part | None:
        """A part, or None where there is none that is whole."""
        try:
            return load(self.path / name)
        except (OSError, DamagedPart):
            return None

    def clear(self, prefix: str) -> None:
        """Remove the parts whose names begin so, and drafts of killed writers."""
        with os.scandir(self.path) as entries:  # one by one: a list of a million names takes its memory
            for entry in entries:
                if entry.name.startswith((prefix, ".")):
                    with suppress(OSError):
                        os.unlink(entry)


@dataclass(frozen=True, kw_only=True)
class WorkFolder:
    """A folder that is this run's alone."""

    path: Path
    """Where it is."""

    @staticmethod
    def beside(output: Path) -> Path:
        """Where the work folder of an output is: ``.NAME.work`` beside it."""
        target = Path(os.path.realpath(output))
        return target.with_name(f".{target.name}.work")

    @classmethod
    def claim(cls, path: Path, *, key: str) -> WorkFolder:
        """Have a folder for the predictions of ``key``: the one that is there, as far as it is of that key.

        The caller sees to it that no two runs claim one folder (:func:`geoseg.locks.output_lock`).

        Raises:
            SinkError: it cannot be made, or something that is no work folder has its name.
        """
        try:
            _sweep(path)
            found = cls._found(path)
            if found is not None and found.get("key") != key:
                log.warning("%s is of another raster, model, AOI or tiling: begun anew", printable(path))
                cls(path=path).remove()
                found = None
            if found is None:
                path.mkdir(exist_ok=True)
                save(path / _MARKER, json.dumps({"version": _VERSION, "key": key}).encode())
            else:
                log.info("%s is taken up where it was left", printable(path))
            return cls(path=path)
        except OSError as error:
            raise write_failed(path, error) from error

    @staticmethod
    def _found(path: Path) -> dict[str, Any] | None:
        """What the folder says of itself; None where there is none, or an empty one."""
        if not path.exists() and not path.is_symlink():
            return None
        try:
            said = json.loads((path / _MARKER).read_bytes())
            if isinstance(said, dict):
                return said if said.get("version") == _VERSION else {}
        except ValueError:
            return {}  # ours by its name, but cut: begun anew
        except OSError:
            if (
                path.is_dir()
                and not path.is_symlink()
                and all(n.name.startswith(f".{_MARKER}") for n in path.iterdir())
            ):
                return None
        raise SinkError(
            f"{printable(path)}, which is no work folder of geoseg's",
            allowed="nothing else under that name",
            remedy="Move it away, or write to another name",
        )

    @property
    def store(self) -> Path:
        """Where predictions are kept unless the user names a place."""
        return self.path / "store"

    def dataset(self) -> Path:
        """An empty folder for an output of many files, on the same file system.

        Raises:
            SinkError: it cannot be made.
        """
        home = self.path / "dataset"
        try:
            _remove(home)
            home.mkdir()
        except OSError as error:
            raise write_failed(home, error) from error
        return home

    def parts(self, run: str, *, lasting: bool = True) -> Parts:
        """The parts of one run, taken up again where there are some; those of other runs go.

        Raises:
            SinkError: they cannot be written.
        """
        home = self.path / f"parts-{run}"
        try:
            for other in self.path.glob("parts-*"):
                if other != home:
                    log.info("parts of another run (%s) are removed", other.name.removeprefix("parts-"))
                    _remove(other)
            home.mkdir(exist_ok=True)
            parts = Parts(path=home, token=uuid.uuid4().hex, lasting=lasting)
            parts.clear(".")
            save(home / _TOKEN, parts.token.encode())
        except OSError as error:
            raise write_failed(home, error) from error
        return parts

    def remove(self) -> None:
        """Remove it all: first renamed, so that what is still at work elsewhere does not find it."""
        _sweep(self.path)
        gone = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}")
        try:
            os.replace(self.path, gone)
        except OSError:
            gone = self.path
        _remove(gone)


def _sweep(path: Path) -> None:
    """Remove what is left of work folders that were being removed when the process was killed."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.????????"):
        if leftover.is_dir() and not leftover.is_symlink():
            _remove(leftover)


def _remove(folder: str | Path) -> None:
    """Remove a folder as far as that can be done, file by file: :func:`shutil.rmtree` lists each folder first, and one
    of a million blocks is a list of a hundred megabytes and more."""
    if os.path.islink(folder):
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
            else:
                with suppress(OSError):
                    os.unlink(entry)
    shutil.rmtree(folder, ignore_errors=True)  # it, and what a file system passed over while others went
