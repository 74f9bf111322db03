"""The errors geoseg raises on purpose: each says what was got, what is allowed and what to do about it."""

from __future__ import annotations

from typing import ClassVar


class GeosegError(Exception):
    """Base of every error that geoseg raises on purpose.

    ``str(error)`` is one message built from three parts: what was got, what is allowed, what to do.
    """

    exit_code: ClassVar[int] = 2
    """Exit status of the command line for this kind of error (see docs/cli.md)."""

    def __init__(self, got: str, *, allowed: str = "", remedy: str = "") -> None:
        self.got, self.allowed, self.remedy = got, allowed, remedy
        parts = [got, f"Allowed: {allowed}" if allowed else "", remedy]
        super().__init__(" ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the three parts, so that the error crosses process borders whole."""
        return _rebuild, (type(self), self.got, self.allowed, self.remedy)


def _rebuild(kind: type[GeosegError], got: str, allowed: str, remedy: str) -> GeosegError:
    return kind(got, allowed=allowed, remedy=remedy)


def in_a_line(text: object, most: int = 300) -> str:
    """What a library says, as part of a message: on one line, ``most`` characters of it."""
    return " ".join(str(text).split())[:most]


class ConfigError(GeosegError):
    """Settings, arguments or an AOI that cannot be used."""


class RasterError(GeosegError):
    """A raster that cannot be opened, or is refused."""


class ModelError(GeosegError):
    """A weights file or a detector that cannot be used, or does not fit the raster."""


class AnswerError(ModelError):
    """What a detector said of one chip cannot be used: that tile becomes a gap, and the run goes on."""


class LockedError(GeosegError):
    """Another run holds the output."""

    exit_code = 3


class SinkError(GeosegError):
    """An output that cannot be written; what stood there before is intact."""

    exit_code = 4


class StoreError(GeosegError):
    """Kept predictions that cannot be used: no store, another run's, damaged, or not there."""


class StoreWriteError(StoreError):
    """Predictions that could not be kept; what was kept before is intact."""

    exit_code = 4


class ResourceError(GeosegError):
    """The environment fails: device, memory, disk, workers."""

    exit_code = 4


class ClusterError(ResourceError):
    """The cluster cannot be reached, or has no worker for the work: nothing that needs it can begin."""


def exit_code(error: BaseException) -> int:
    """The exit status that an error means: its own, or that of bad input (2), the environment (4), a fault (70) or a
    Ctrl-C (130). Whoever starts geoseg from a program of their own ends as the command does."""
    if isinstance(error, GeosegError):
        return error.exit_code
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return 2
    if isinstance(error, OSError | MemoryError | ImportError):
        return 4
    return 130 if isinstance(error, KeyboardInterrupt) else 70
