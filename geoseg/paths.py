"""Paths as a user writes them."""

from __future__ import annotations

import os
from pathlib import Path

from geoseg.errors import ConfigError


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ``~/`` and ``~user/`` as the folders that they stand for, as in a shell; ``~name`` alone is a
    file's where there is no such user.

    Raises:
        ConfigError: no such user, or one without a home folder, as in a container with a user id of its own.
    """
    text = os.path.expanduser(os.fspath(path))  # Path.expanduser raises a RuntimeError, of a file ~name, too
    if text == "~" or (text.startswith("~") and "/" in text):
        raise ConfigError(
            f"the path {path}, in which {text.partition('/')[0]} is no home folder that is known",
            allowed="~ for your own home folder, ~user for another user's",
            remedy="Write the folder out",
        )
    return Path(text)
