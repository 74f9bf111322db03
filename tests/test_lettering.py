"""Text in pictures: no letter is drawn as the box of a font that lacks it, and none runs off the picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from geoseg.lettering import lettered, shortened


def drawn(text: str) -> str:
    """The text as it comes into a picture; a letter that the font lacks fails."""
    shown, font = lettered(text, 15)
    box = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(letter)) != box for letter in shown), (text, shown, font.getname())
    return shown


@given(st.text(max_size=40))
def test_every_letter_can_be_seen(text: str) -> None:
    drawn(text)


def test_text_is_kept_where_a_font_has_it_and_told_by_number_where_none_has() -> None:
    assert drawn("building (1,234)") == "building (1,234)"
    assert drawn("two\nlines ") == "two lines"
    assert drawn("Gebäude") in ("Gebäude", "Gebaude")  # by the fonts of the machine
    assert drawn("\U0010fffd ä") in ("\\U0010fffd a", "\\U0010fffd ä")


@pytest.mark.parametrize("length", [1, 30, 3000])
def test_a_long_name_keeps_its_start_and_its_count(length: int) -> None:
    font = ImageFont.load_default(size=15)
    text = f"a{'m' * length}z (12)"
    short = shortened(text, font, 200)
    assert font.getlength(short) <= 200 and short[0] == "a" and short.endswith("z (12)")
    assert (short == text) == (font.getlength(text) <= 200)
