"""The rasters that fit a pattern, as :mod:`glob` finds files; but a folder that cannot be listed is told, where glob
takes it for an empty one, and a link back to a folder above is not followed, where glob goes round forty times."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from geoseg.archive.names import plain
from geoseg.errors import ConfigError
from geoseg.raster.access import is_zarr
from geoseg.raster.zarr.nodes import holds_predictions

log = logging.getLogger("geoseg")

_MAGIC = re.compile(r"[*?[]")
_Entries = list[os.DirEntry[str]]


def matching(pattern: Path) -> list[str]:
    """Paths of files, and of folders that are a Zarr, that fit an absolute pattern, sorted; ``**`` is any number of
    folders (but of none inside a Zarr), and what begins with a dot is found only where the pattern says the dot. What
    geoseg keeps predictions in is passed over: it is no imagery, and stands beside it where somebody likes that.

    Raises:
        ConfigError: the folder in which the pattern begins is not there, or cannot be listed.
    """
    parts = pattern.parts
    first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts) - 1)
    folder = str(Path(*parts[:first]))
    try:
        os.scandir(folder).close()
    except (OSError, ValueError) as error:  # ValueError: a character 0
        why = "is no folder" if isinstance(error, FileNotFoundError | NotADirectoryError) else "cannot be listed"
        raise ConfigError(
            f"the pattern {plain(str(pattern))}, where {plain(folder)} {why} ({getattr(error, 'strerror', error)})",
            allowed="patterns in folders that are there",
            remedy="Mend [input] globs, or mount what should be there",
        ) from error
    found = _matching(folder, parts[first:], frozenset([os.path.realpath(folder)]))
    return sorted({path for path in found if not os.path.isdir(path) or (is_zarr(path) and not _passed_over(path))})


def _passed_over(path: str) -> bool:
    if kept := holds_predictions(path):
        log.info("passed over, for it holds predictions: %s", plain(path))
    return kept


def _matching(
    folder: str, parts: Sequence[str], above: frozenset[str], entries: _Entries | None = None
) -> Iterator[str]:
    """What fits in a folder, of which ``entries`` may be known already; ``above`` are the real paths of it and of those
    that were gone through."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        entries = _listed(folder) if entries is None else entries
        if rest:
            yield from _matching(folder, rest, above, entries)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not rest:
                yield entry.path
            # What a Zarr holds are its chunks; an array in it is found where the pattern names the way from there on.
            if _is_folder(entry) and not is_zarr(entry.path) and (real := os.path.realpath(entry.path)) not in above:
                yield from _matching(entry.path, parts, above | {real})
    elif _MAGIC.search(part):
        for entry in _listed(folder) if entries is None else entries:
            shown = part.startswith(".") or not entry.name.startswith(".")
            if shown and fnmatchcase(entry.name, part):
                yield from _in(entry.path, rest, above)
    else:
        yield from _in(os.path.join(folder, part), rest, above)


def _in(path: str, rest: Sequence[str], above: frozenset[str]) -> Iterator[str]:
    if not rest:
        if os.path.lexists(path):
            yield path
    elif os.path.isdir(path):
        yield from _matching(path, rest, above | {os.path.realpath(path)})


def _listed(folder: str) -> _Entries:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:  # removed meanwhile
        return []
    except OSError as error:
        log.warning("%s cannot be listed (%s): rasters in it are not found", plain(folder), error.strerror)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
