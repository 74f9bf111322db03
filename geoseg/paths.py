"""Paths as a user writes them, and that none is given twice."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from geoseg.errors import ConfigError


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ``~/`` and ``~user/`` as the folders that they stand for, as in a shell; ``~name`` alone is a
    file's where there is no such user.

    Raises:
        ConfigError: no such user, or one without a home folder, as in a container with a user id of its own; or a
            character 0, which no path has; or what is no path at all, such as None or an open file.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"a path of type {type(path).__name__}", allowed="text, or a pathlib.Path")
    text = os.path.expanduser(os.fspath(path))  # Path.expanduser raises a RuntimeError, of a file ~name, too
    if "\0" in text:
        raise ConfigError(f"the path {text!r}, with a character 0 in it", allowed="any other character")
    if text == "~" or (text.startswith("~") and "/" in text):
        raise ConfigError(
            f"the path {path}, in which {text.partition('/')[0]} is no home folder that is known",
            allowed="~ for your own home folder, ~user for another user's",
            remedy="Write the folder out",
        )
    return Path(text)


def distinct(written: Iterable[str | Path | None], read: Iterable[str | Path | None]) -> None:
    """Refuse to write over what is read, or two things to one file.

    Raises:
        ConfigError: a path is named twice, or a folder to write holds an input.
    """
    inputs = [path for path in read if path is not None]
    taken = {_place(path) for path in inputs}
    for path in written:
        if path is None:
            continue
        if _place(path) in taken:
            raise ConfigError(
                f"{path} named twice, once as a file to write",
                allowed="files to write that are none of the inputs, and each its own",
                remedy="Give what is written another name",
            )
        taken.add(_place(path))
        if held := [str(each) for each in inputs if Path(_place(each)).is_relative_to(_place(path))]:
            raise ConfigError(
                f"the output folder {path}, which holds {held[0]}",
                allowed="a folder without inputs: it is replaced as a whole",
                remedy="Write to another name",
            )


def _place(path: str | Path) -> str:
    return os.path.realpath(expanded(path))
