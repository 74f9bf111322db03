"""A file appears whole, by rename, or not at all."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyogrio.util import vsi_path

from geoseg.errors import ConfigError, SinkError
from geoseg.signals import STOPS

_log = logging.getLogger(__name__)
_LEFTOVER_S = 24 * 3600
_NOTHING = 64 * 1024
"""Free bytes of a full disk, at most: what a library could not write any more does not count as used."""
_LONG = 600
"""Characters of what a library says, at most."""
_REMEDIES = {
    errno.ENOSPC: "The disk is full: make room, or write elsewhere",
    errno.EDQUOT: "The disk quota is used up: make room, or write elsewhere",
    errno.EFBIG: "The file is larger than this file system or the process's limit (ulimit -f) allows",
    errno.EROFS: "The file system is read-only: write elsewhere",
    errno.EACCES: "The folder may not be written to: write elsewhere, or change its permissions",
    errno.ENOENT: "Create the folder first",
    errno.ENOTDIR: "Create the folder first",
    errno.ENAMETOOLONG: "Take a shorter name",
}


@contextmanager
def replacing(
    target: Path,
    *siblings: Path,
    seal: Path | None = None,
    gone: Iterable[Path] = (),
    library_errors: tuple[type[Exception], ...] = (),
    make_way: Callable[[], None] = lambda: None,
) -> Iterator[list[Path]]:
    """Paths to write to, which become ``target``, ``siblings`` and ``seal`` when the block ends well.

    They lie in a hidden folder beside the target, hence on the same file system, together with whatever
    journals a library puts next to them. At the end each is flushed to the disk, what stood beside the old target
    is set aside, and the drafts are renamed: siblings, target, seal. So a target stands for its siblings, a seal for
    all, however the process ends. Ctrl-C, SIGTERM and SIGHUP wait until all are. On an error before that nothing is
    renamed; where a renaming is refused, what stood there is put back.

    Args:
        target: the output. A symbolic link is followed.
        siblings: files that belong to it, in the same folder.
        seal: another of them, which says what the target is.
        gone: files of the old output that the new one does not have; they are removed.
        library_errors: further exceptions of the library at work that mean that writing failed.
        make_way: called just before the renaming, once all drafts are on the disk; its errors prevent it.

    Raises:
        ConfigError: there is no such folder.
        SinkError: an OSError, or one of ``library_errors``, came out of the block or the renaming.
    """
    target = Path(os.path.realpath(target))
    _check_folder(target)
    belongings = [*siblings, *([seal] if seal else [])]
    finals = [target, *(target.with_name(path.name) for path in belongings)]
    stale = [target.with_name(path.name) for path in gone]
    failures: tuple[type[Exception], ...] = (OSError, *library_errors)
    folder: Path | None = None
    try:
        _check_target(target)
        _remove_leftovers(target, _LEFTOVER_S)
        folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        drafts = [folder / f"{i}{final.suffix.lower()}" for i, final in enumerate(finals)]
        (folder / "mode").touch()
        mode = stat.S_IMODE((folder / "mode").stat().st_mode)
        with _gdal_readable(drafts) as shown:
            yield shown
        for draft in drafts:
            with suppress(OSError):  # not every file system has modes
                os.chmod(draft, mode)  # as the umask has it: SQLite never lets a group write
            flush(draft)
        with signals_held():
            make_way()
            for path in filter(Path.is_file, stale):
                _log.warning("%s is of the output that is replaced: removed", printable(path))
            last = 1 + len(siblings)
            with _set_aside([*finals[last:], *finals[1:last], *stale], folder, target):
                moves = list(zip(drafts, finals, strict=True))
                for draft, final in (*moves[1:last], moves[0], *moves[last:]):
                    os.replace(draft, final)
            with suppress(OSError):  # not every file system can (CIFS, FUSE, Windows), and the files are in place
                flush(target.parent)
    except failures as error:
        raise write_failed(target, error) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _set_aside(paths: list[Path], folder: Path, target: Path) -> Iterator[None]:
    """Files out of the way while their successors come, into ``folder``; back in their place if that fails. The target
    stays where it is, and is known by a second name."""
    before: dict[Path, Path | None] = {}
    with suppress(OSError):  # not every file system can
        os.link(target, folder / "old")
        before[target] = folder / "old"
    try:
        for i, path in enumerate(paths):
            if path.is_file():
                os.replace(path, aside := folder / f"old-{i}")
                before[path] = aside
            elif not path.exists():
                before[path] = None
        yield
    except OSError:
        for path, kept in before.items():
            if kept:
                os.replace(kept, path)
            else:
                path.unlink(missing_ok=True)
        raise


def check_place(target: Path) -> None:
    """Find out before the work whether a file can be written there.

    Raises:
        ConfigError: there is no such folder.
        SinkError: it cannot.
    """
    target = Path(os.path.realpath(target))
    _check_folder(target)
    try:
        _check_target(target)
        os.rmdir(tempfile.mkdtemp(prefix=".geoseg-", dir=target.parent))
    except OSError as error:
        raise write_failed(target, error) from error


def _check_folder(target: Path) -> None:
    if not target.parent.is_dir():
        if target.parent.exists():
            raise ConfigError(f"the output {printable(target)} in what is no folder", allowed="a file in a folder")
        raise ConfigError(
            f"the output {printable(target)}, whose folder does not exist", remedy="Create the folder first"
        )


def write_failed(target: Path, error: BaseException) -> SinkError:
    """The SinkError for what a library raised while writing ``target``."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and ("is full" in str(error).lower() or _full(target.parent)):
        number = errno.ENOSPC  # SQLite says "database or disk is full", GDAL often nothing of the kind
    said = printable(error)
    if len(said) > _LONG:  # GDAL repeats all the SQL that SQLite did not take, and says why at its end
        said = f"{said[: _LONG // 2]} ... {said[-_LONG // 2 :]}"
    return SinkError(
        f"{printable(target)} could not be written ({said})",
        remedy=_REMEDIES.get(number or 0, "Check the disk, the folder and its permissions")
        + ". What stood there before is intact",
    )


def _full(folder: Path) -> bool:
    """Whether next to nothing, or no further file, can be written there any more."""
    try:
        if hasattr(os, "statvfs"):  # not on Windows
            found = os.statvfs(folder)
            if found.f_files and not found.f_favail:  # btrfs and others count no files: 0 of 0
                return True
        return shutil.disk_usage(folder).free < _NOTHING
    except OSError:
        return False


def printable(text: object) -> str:
    """Text that any terminal takes: bytes of a file name that are not UTF-8 are shown as escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _check_target(target: Path) -> None:
    """Find out before the work what the renaming would stumble over: a folder, or a name that is too long."""
    with suppress(FileNotFoundError):
        target.lstat()
    if target.is_dir():
        raise SinkError(f"{printable(target)} is a folder", allowed="the path of a file")


def clear_leftovers(target: Path) -> None:
    """Remove what killed processes left of an output, for one that holds its lock: nobody else is at work on it."""
    _remove_leftovers(Path(os.path.realpath(target)), -math.inf)  # whatever the file system's clock says


def _prefix(target: Path) -> str:
    return f".geoseg-{zlib.crc32(os.fsencode(target.name)):08x}-"


def _remove_leftovers(target: Path, older_s: float) -> None:
    """Remove what a killed process left of the same output, once it is too old (seconds) to be at work still."""
    for leftover in target.parent.glob(_prefix(target) + "*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime >= older_s:
                shutil.rmtree(leftover)


@contextmanager
def _gdal_readable(drafts: list[Path]) -> Iterator[list[Path]]:
    """The drafts; or stand-ins elsewhere, copied at the end, where the folder's name would not get through.

    GDAL takes paths as UTF-8 only, where Linux lets a folder be named with any bytes; SQLite takes 512 bytes;
    pyogrio takes a path for an address, and reads ``!``, ``;``, ``.zip`` and more as parts of it.
    """
    path = str(drafts[0])
    if printable(path) == path and len(os.fsencode(path)) < 480 and vsi_path(path) == path and path.isprintable():
        yield drafts
    else:
        with tempfile.TemporaryDirectory(prefix="geoseg-") as elsewhere:
            shown = [Path(elsewhere) / draft.name for draft in drafts]
            yield shown
            for stand_in, draft in zip(shown, drafts, strict=True):
                shutil.copyfile(stand_in, draft)


@contextmanager
def signals_held() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait for the end of the block; in other threads they do not interrupt anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in before:
        signal.signal(number, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, signal.SIG_DFL if handler is None else handler)  # None: not set by Python
        for late in dict.fromkeys(held):
            signal.raise_signal(late)


def flush(path: Path) -> None:
    """Have a file's or folder's content on the disk: a rename may else outlive the bytes it names."""
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
