"""Names of outputs: what an archive calls its rasters, made fit for any file system."""

from __future__ import annotations

import string
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath

from geoseg.stac.scene import Scene

FIELDS = ("stem", "name", "date", "number")
LONGEST = 120
"""Bytes of a name in UTF-8: a file system takes 255, and suffixes, locks and drafts come around it."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}


def check_template(template: str) -> None:
    """Refuse a template that names no raster apart.

    Raises:
        ValueError: unknown or no fields, a format that text does not have, or braces that do not pair.
    """
    found = [(field, spec) for _, field, spec, _ in string.Formatter().parse(template) if field is not None]
    fields = {field for field, _ in found}
    unknown = fields - set(FIELDS) or any("{" in (spec or "") for _, spec in found)
    if unknown or not fields & {"stem", "name", "number"}:
        allowed = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise ValueError(f"archive.name {template!r} should be text with some of {allowed}, the date never alone")
    try:
        named(template, Scene(href="town.tif", name="town.tif"), 1)
    except ValueError as error:  # {number:d}, {date:%Y}: all of them are text
        raise ValueError(f"archive.name {template!r} cannot be filled in ({error})") from error


def named(template: str, scene: Scene, number: int) -> str:
    """The name that a template gives a scene, fit for a file. ``number`` counts the scenes of a run's folder."""
    stem = PurePosixPath(scene.name).stem if "/" not in scene.name else scene.name
    date = f"{scene.acquired:%Y%m%d}" if scene.acquired else "undated"
    return fit(template.format(stem=stem, name=scene.name, date=date, number=f"{number:06}"))


def fit(text: str) -> str:
    """``text`` with nothing in it that a file system, a shell or GDAL takes for something else.

    Letters and digits of any script stay, and ``- _ . +`` and spaces inside; all else becomes ``_``. What is longer
    than :data:`LONGEST` is cut and gets a checksum of all of it.
    """
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    name = "".join(mark if mark.isalnum() or mark in "-_.+ " else "_" for mark in text)
    name = name.strip(" .").lstrip("-") or "_"
    if name.split(".")[0].lower() in _RESERVED:
        name = f"_{name}"
    if name.lower().endswith(".gaps"):  # beside x.parquet lies x.gaps.parquet
        name += "_"
    if len(name.encode()) > LONGEST:
        kept = name.encode()[: LONGEST - 9].decode("utf-8", "ignore").rstrip(" .")
        name = f"{kept}-{zlib.crc32(text.encode()):08x}"
    return name


def plain(text: str) -> str:
    """``text`` as a terminal may show it: what would steer it, or is no text at all, as escapes."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


def distinct(name: str, taken: Callable[[str], bool]) -> str:
    """``name``, or with a number behind it where that is taken; ``taken`` is asked in :func:`folded` form.

    The number is looked for by doubling and halving: of the many scenes that are called the same in folders of their
    own, each would else ask for all before it.
    """
    if not taken(folded(name)):
        return name
    known, free = 1, 2
    while taken(folded(f"{name}-{free}")):
        known, free = free, 2 * free
    while free - known > 1:
        middle = (known + free) // 2
        known, free = (middle, free) if taken(folded(f"{name}-{middle}")) else (known, middle)
    return f"{name}-{free}"


def folded(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFKC", name).casefold()
