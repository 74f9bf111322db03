"""One colour per label, the same in every file and picture."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

RGB = tuple[int, int, int]

PALETTE: tuple[RGB, ...] = (
    (230, 85, 13),  # orange
    (0, 176, 230),  # cyan
    (214, 39, 120),  # magenta
    (112, 72, 196),  # violet
    (46, 160, 67),  # green
    (228, 172, 0),  # amber
    (31, 86, 200),  # blue
    (200, 36, 36),  # red
    (0, 150, 130),  # teal
    (120, 72, 40),  # brown
    (150, 190, 30),  # lime
    (236, 112, 160),  # pink
)
"""Strong on imagery, and told apart from each other."""

ERROR_COLOURS: dict[str, RGB] = {
    "missed": (214, 30, 30),  # red
    "false": (31, 86, 200),  # blue
    "poor outline": (228, 172, 0),  # amber
    "duplicate": (214, 39, 170),  # magenta
    "split": (112, 72, 196),  # violet
    "merged": (0, 150, 130),  # teal
}
"""Kind of an error against the truth -> its colour."""
GREY: RGB = (90, 90, 90)
"""Of what has no label, and of what is no object."""

# Against what they lie on: roofs are mostly warm or grey, water is blue or dark.
_PINNED = {"building": 1, "ship": 0}


def label_colours(labels: Iterable[str]) -> dict[str, RGB]:
    """A colour for each label, sorted by label.

    A label's colour comes from its own text, so it is the same in every file. Only where two labels of one
    file fall on the same colour does the second in the alphabet take the next free one.
    """
    chosen: dict[str, int] = {}
    unique = sorted(set(labels), key=lambda label: (label not in _PINNED, label))
    for label in unique:
        index = _PINNED.get(label, zlib.crc32(label.encode("utf-8", "backslashreplace")) % len(PALETTE))
        taken = set(chosen.values())
        while index in taken and len(taken) < len(PALETTE):
            index = (index + 1) % len(PALETTE)
        chosen[label] = index
    return {label: PALETTE[chosen[label]] for label in sorted(chosen)}


def label_text(value: Any) -> str:
    """A label as text, as QGIS makes it of what is no text: ``true``, and ``2`` of the 2.0 of numbers beside nulls."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def darker(colour: RGB, factor: float = 0.65) -> RGB:
    """The same hue with less light, for outlines and text."""
    r, g, b = (round(channel * factor) for channel in colour)
    return r, g, b
