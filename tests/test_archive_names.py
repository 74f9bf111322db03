"""Names of outputs, from whatever an archive calls its rasters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.archive import Scene
from geoseg.archive.names import LONGEST, check_template, distinct, fit, folded, named, plain


@settings(max_examples=40)
@given(st.text(max_size=400))
def test_any_text_becomes_a_name_that_a_file_can_have(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    name = fit(text)
    assert name and len(name.encode()) <= LONGEST
    assert not set(name) & set("/\\\"'`$*?<>|:;&!\n\0") and name[0] not in "-. "
    assert fit(name) == name
    path = tmp_path_factory.mktemp("n") / f".{name}.gpkg.lock"
    path.touch()
    assert path.exists()


def test_what_a_name_becomes() -> None:
    assert fit("ortho 2026-03.v1") == "ortho 2026-03.v1"
    assert fit("пристань_北") == "пристань_北"
    assert fit("a/b\\c'd\"e") == "a_b_c_d_e"
    assert fit("../../etc/passwd") == "_.._etc_passwd"
    assert fit("..") == fit("") == "_"
    assert fit("NUL") == "_NUL" and fit("nul.tif") == "_nul.tif"
    assert fit("a\udcffb") == "a_b"
    assert fit("a.gaps") == "a.gaps_"
    long = [fit("x" * 300), fit("x" * 299 + "y")]
    assert long[0] != long[1] and all(len(name) == LONGEST for name in long)
    assert len(fit("北" * 300).encode()) <= LONGEST


def test_templates() -> None:
    scene = Scene(href="/a/b.c.tif", name="b.c.tif", acquired=datetime(2026, 3, 4, 23, 30, tzinfo=UTC))
    assert named("{stem}", scene, 7) == "b.c"
    assert named("{date}-{name}", scene, 7) == "20260304-b.c.tif"
    assert named("{number}", scene, 7) == "000007"
    assert named("{date}_{stem}", Scene(href="x", name="S2/item.1"), 1) == "undated_S2_item.1"
    for right in ("{stem}", "{date}-{name}", "{number:>8}", "{stem:.20}-{number}"):
        check_template(right)
    odd = ("{number:d}", "{stem}{date:%Y}", "{stem!x}", "{stem:{name}}")
    for wrong in ("all", "{date}", "{path}", "{stem", "{}", "{stem}{0}", *odd):
        with pytest.raises(ValueError, match=r"archive\.name|expected|Single"):
            check_template(wrong)


def test_names_that_collide_get_a_number() -> None:
    taken: set[str] = set()
    found = []
    for name in ("Port", "port", "PORT", "port-2", "ﬁx", "fix"):
        found.append(distinct(name, taken.__contains__))
        taken.add(folded(found[-1]))
    assert found == ["Port", "port-2", "PORT-3", "port-2-2", "ﬁx", "fix-2"]


def test_scenes_that_are_all_called_the_same_do_not_each_ask_for_all_before() -> None:
    class Asked(set[str]):
        times = 0

        def __contains__(self, name: object) -> bool:
            self.times += 1
            return super().__contains__(name)

    taken = Asked()
    for _ in range(2000):
        taken.add(folded(distinct("ortho", taken.__contains__)))
    assert taken == {"ortho", *(f"ortho-{number}" for number in range(2, 2001))}
    assert taken.times < 2000 * 2 * 12


def test_a_scene_is_checked_and_its_date_is_utc() -> None:
    with pytest.raises(ValueError, match="path and a name"):
        Scene(href="", name="x")
    moment = Scene(href=str(Path("/x")), name="x", acquired=datetime(2026, 3, 4, 12)).acquired
    assert moment == datetime(2026, 3, 4, 12, tzinfo=UTC)


def test_what_a_terminal_is_shown() -> None:
    assert plain("é 北 'q'\"") == "é 北 'q'\""
    assert plain("a\x1b[31m\n\udcff") == "a\\x1b[31m\\n\\udcff"
