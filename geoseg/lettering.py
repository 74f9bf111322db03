"""Text for pictures, in a font that has its letters."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont
# Pillow's own font has hardly more than ASCII, not even "ä". These are looked for where a system keeps its fonts.
_FONTS = (
    *("DejaVuSans.ttf", "Arial.ttf", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc"),  # Linux
    *("arial.ttf", "msyh.ttc", "Nirmala.ttf"),  # Windows
    *("Arial Unicode.ttf", "PingFang.ttc"),  # macOS
)
_NO_LETTER = "\uffff"  # every font draws its sign for what it lacks


def lettered(text: str, size: float) -> tuple[str, Font]:
    """A text on one line and a font, of ``size`` pixels, that has all its letters.

    Where no font of this machine has them, letters lose their accents or become their number (``\\u5efa``): an empty
    box in place of each would tell nothing.
    """
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    own = ImageFont.load_default(size=size)
    if all(_has(own, letter) for letter in text):
        return text, own
    for name in _FONTS:
        font = _found(name, size)
        if font is not None and all(_has(font, letter) for letter in text):
            return text, font
    return "".join(letter if _has(own, letter) else _spelt(letter) for letter in text), own


def shortened(text: str, font: Font, width: float) -> str:
    """The text, or as much of its start and end as goes into ``width`` pixels with an ellipsis between."""
    if font.getlength(text) <= width:
        return text
    for kept in range(min(len(text), max(2, int(width))), 1, -1):  # no letter is narrower than a pixel
        short = f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= width:
            break
    return short


@cache
def _found(name: str, size: float) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _has(font: Font, letter: str) -> bool:
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER))


def _spelt(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else letter.encode("unicode_escape").decode()
