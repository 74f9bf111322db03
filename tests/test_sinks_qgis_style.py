from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.sinks.colours import PALETTE, label_colours
from geoseg.sinks.qgis_style import FIELD_LOOKS, footprints_qml, gaps_qml, tiles_qml

COLUMNS = ["id", "label", "score", "area_m2", "lon", "mine"]


def fills(qml: str) -> dict[str, str]:
    """Value of each category -> fill colour."""
    renderer = ET.fromstring(qml).find("renderer-v2")
    assert renderer is not None
    symbols = {s.get("name"): s for s in renderer.findall("symbols/symbol")}
    found = {}
    for category in renderer.findall("categories/category"):
        option = symbols[category.get("symbol")].find("layer/Option/Option[@name='color']")
        assert option is not None
        found[category.get("value", "")] = option.get("value", "")
    return found


def test_a_light_fill_and_a_strong_outline_per_label() -> None:
    qml = footprints_qml(COLUMNS, ["ship", "building", "ship"])
    root = ET.fromstring(qml)
    renderer = root.find("renderer-v2")
    assert renderer is not None and renderer.get("type") == "categorizedSymbol" and renderer.get("attr") == "label"
    assert list(fills(qml)) == ["building", "ship", ""]
    assert len(set(fills(qml).values())) == 3  # what has no label looks like no class
    for value in fills(qml).values():
        assert value.endswith(",89")  # 35 % of 255
    for option in root.findall(".//Option[@name='outline_color']"):
        assert option.get("value", "").endswith(",255")


def test_names_units_and_digits() -> None:
    root = ET.fromstring(footprints_qml(COLUMNS, ["ship"]))
    aliases = {a.get("field"): (a.get("name"), a.get("index")) for a in root.findall("aliases/alias")}
    assert aliases["area_m2"] == ("Area (m²)", "4") and "mine" not in aliases
    field = root.find("fieldConfiguration/field[@name='area_m2']//Option[@name='Precision']")
    assert field is not None and field.get("value") == "1"
    assert {"perimeter_m", "length_m", "width_m", "orientation_deg", "acquired"} <= set(FIELD_LOOKS)


def test_gaps_are_hatched_by_reason() -> None:
    root = ET.fromstring(gaps_qml(["reason", "detail", "area_m2"], ["nodata", "failed"]))
    patterns = root.findall(".//layer[@class='LinePatternFill']")
    angles = [p.find("Option/Option[@name='angle']") for p in patterns]
    assert [c.get("value") for c in root.findall(".//category")] == ["failed", "nodata", ""]
    assert len({a.get("value") for a in angles if a is not None}) == 3


@pytest.mark.parametrize("qml", [gaps_qml(["reason"], ["nodata"]), tiles_qml(window=True), tiles_qml(window=False)])
def test_grey_lines_have_a_light_rim_for_dark_imagery(qml: str) -> None:
    def told(line: ET.Element, name: str) -> str:
        option = line.find(f"Option/Option[@name='{name}']")
        assert option is not None
        return option.get("value", "")

    seen = 0
    for symbol in ET.fromstring(qml).iter("symbol"):
        rims_and_lines = symbol.findall("layer[@class='SimpleLine']")
        for rim, line in zip(rims_and_lines[::2], rims_and_lines[1::2], strict=True):  # the first is drawn first
            assert told(rim, "line_color").startswith("255,255,255") and told(line, "line_color") == "90,90,90,255"
            assert float(told(rim, "line_width")) > float(told(line, "line_width"))
            assert (rim.get("locked"), line.get("locked")) == ("1", "0")  # another colour is given to the line alone
            seen += 1
    assert seen


def test_a_table_without_labels_gets_one_symbol() -> None:
    renderer = ET.fromstring(footprints_qml(["name"], [])).find("renderer-v2")
    assert renderer is not None and renderer.get("type") == "singleSymbol"


@given(st.lists(st.text(max_size=12), max_size=30))
def test_any_label_gives_a_document_that_parses(labels: list[str]) -> None:
    values = list(fills(footprints_qml(COLUMNS, labels)))
    assert values[-1] == "" and set(values[:-1]) <= set(labels)
    plain = {label for label in labels if re.fullmatch(r"[\x20-\x7e\xa0-\u0fff]+", label)}
    assert plain <= set(values)


@given(st.sets(st.text(max_size=12), max_size=20), st.text(max_size=12))
def test_colours_differ_within_a_file_and_stay_between_files(labels: set[str], extra: str) -> None:
    colours = label_colours(labels)
    assert list(colours) == sorted(labels)
    assert len(set(colours.values())) == min(len(labels), len(PALETTE))
    assert label_colours([extra, *labels][::-1]) == label_colours([extra, *labels])


@pytest.mark.parametrize("others", [[], ["car", "tree", "ship"], [f"class{i}" for i in range(11)]])
def test_the_bundled_labels_keep_their_colours(others: list[str]) -> None:
    assert label_colours(["building", *others])["building"] == PALETTE[1]
