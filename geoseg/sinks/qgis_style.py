"""QGIS styles (QML) for the layers of a GeoPackage: colours by label, names with units, digits worth showing.

QML is what QGIS itself saves ("Save style"); it has no published schema. The elements and names below are
those that QGIS 3.22 and later write and read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from geoseg.sinks.colours import ERROR_COLOURS, GREY, RGB, darker, label_colours

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_FILL_ALPHA = 89  # 35 % of 255: the roof or hull under the fill stays visible
_WHITE: RGB = (255, 255, 255)
_RIM_ALPHA = 178  # 70 % of 255
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_HATCH_DEGREES = {"unreadable": 45, "failed": 135, "suspect_missing": 90, "nodata": 0, "outside_aoi": 30}


@dataclass(frozen=True, kw_only=True)
class FieldLook:
    """How QGIS shows one attribute."""

    alias: str
    """Name shown instead of the column's, with the unit."""
    digits: int | None = None
    """Decimals shown; None: as stored."""


FIELD_LOOKS: dict[str, FieldLook] = {
    "id": FieldLook(alias="Id"),
    "label": FieldLook(alias="Label"),
    "score": FieldLook(alias="Score (0-1)", digits=3),
    "area_m2": FieldLook(alias="Area (m²)", digits=1),
    "perimeter_m": FieldLook(alias="Perimeter (m)", digits=1),
    "length_m": FieldLook(alias="Length (m)", digits=1),
    "width_m": FieldLook(alias="Width (m)", digits=1),
    "orientation_deg": FieldLook(alias="Orientation (° from true north)", digits=1),
    "lon": FieldLook(alias="Longitude (°)", digits=7),
    "lat": FieldLook(alias="Latitude (°)", digits=7),
    "raster": FieldLook(alias="Raster"),
    "acquired": FieldLook(alias="Acquired (UTC)"),
    "model": FieldLook(alias="Model"),
    "model_version": FieldLook(alias="Model version"),
    "run": FieldLook(alias="Run"),
    "n_tiles": FieldLook(alias="Tiles that saw it"),
    "agreement": FieldLook(alias="Agreement of tiles (IoU)", digits=3),
    "cut_by_edge": FieldLook(alias="Cut by the data's edge"),
    "reason": FieldLook(alias="Why not examined"),
    "detail": FieldLook(alias="Detail"),
    "kind": FieldLook(alias="Error"),
    "iou": FieldLook(alias="IoU with the true object", digits=3),
    "objects": FieldLook(alias="Objects involved"),
    "review": FieldLook(alias="Review"),
}
"""Column -> how QGIS shows it; other columns are shown as they are."""

_REVIEWS = {
    "not judged": "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}",  # what QGIS's value map takes for null
    "keep: right as it is": "keep",
    "wrong: no such object": "wrong",
    "edited: its outline was mended": "edited",
    "added: it was missed": "added",
}
# What was drawn has no id; what was changed in any way, and not judged, was mended.
_REVIEWED = """coalesce("review", if("id" IS NULL, 'added', 'edited'))"""


def footprints_qml(columns: Sequence[str], labels: Iterable[str]) -> str:
    """The style of the footprints: a strong outline and light fill per label, grey without one; one colour for all
    where there is no such column."""
    names = _names(labels)
    symbols = [_fill(colour) for colour in label_colours(names).values()]
    every = _fill(next(iter(label_colours(["building"]).values())))
    categorised = "label" in columns
    # What an analyst draws has neither score nor area: no unit is left behind.
    tip = (
        '<b>[% "label" %]</b> [% coalesce(round("score", 2), \'\') %]'
        "<br/>[% coalesce(round(\"area_m2\", 1) || ' m²', '') %]"
    )
    shows_tip = {"label", "score", "area_m2"} <= set(columns)
    return _qml(
        _categories("label", names, [*symbols, _fill(GREY)]) if categorised else _single(every),
        columns=columns,
        map_tip=tip if shows_tip else "",
    )


def gaps_qml(columns: Sequence[str], reasons: Iterable[str]) -> str:
    """The style of the gaps: grey hatching, at an angle of its own for each reason."""
    names = _names(reasons)
    symbols = [_hatch(_HATCH_DEGREES.get(name, 60)) for name in [*names, "other"]]
    renderer = _categories("reason", names, symbols) if "reason" in columns else _single(symbols[-1])
    tip = 'Not examined: <b>[% "reason" %]</b><br/>[% coalesce("detail", \'\') %]'
    return _qml(renderer, columns=columns, map_tip=tip if {"reason", "detail"} <= set(columns) else "")


def errors_qml(columns: Sequence[str]) -> str:
    """The style of errors: a colour per kind, the same in every file."""
    other = _fill(GREY)
    symbols = [_fill(colour) for colour in ERROR_COLOURS.values()]
    tip = '<b>[% "kind" %]</b> [% coalesce(round("score", 2), \'\') %]<br/>[% "detail" %]'
    return _qml(
        _categories("kind", list(ERROR_COLOURS), [*symbols, other]) if "kind" in columns else _single(other),
        columns=columns,
        map_tip=tip if {"kind", "score", "detail"} <= set(columns) else "",
    )


def tiles_qml(*, window: bool) -> str:
    """The style of tiles: their borders alone, those of windows thin and dashed, with the imagery to be seen."""
    symbol = _symbol("fill")
    symbol.extend(_lines(0.26, "dash") if window else _lines(0.5))
    return _qml(_single(symbol), columns=(), map_tip='Tile <b>[% "row" %], [% "col" %]</b>')


def _qml(renderer: ET.Element, *, columns: Sequence[str], map_tip: str) -> str:
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|Forms|MapTips")
    root.append(renderer)
    _fields(root, columns)
    if map_tip:
        ET.SubElement(root, "mapTip").text = map_tip
    ET.SubElement(root, "layerGeometryType").text = "2"  # polygons
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode")


def _fields(root: ET.Element, columns: Sequence[str]) -> None:
    configuration = ET.SubElement(root, "fieldConfiguration")
    aliases = ET.SubElement(root, "aliases")
    for index, column in enumerate(columns, start=1):  # 0 is the feature number
        look = FIELD_LOOKS.get(column)
        if look is None:
            continue
        ET.SubElement(aliases, "alias", field=column, index=str(index), name=look.alias)
        if look.digits is not None:
            field = ET.SubElement(configuration, "field", name=column, configurationFlags="None")
            config = ET.SubElement(ET.SubElement(field, "editWidget", type="Range"), "config")
            options = ET.SubElement(config, "Option", type="Map")
            ET.SubElement(options, "Option", name="AllowNull", type="bool", value="true")
            ET.SubElement(options, "Option", name="Precision", type="int", value=str(look.digits))
            ET.SubElement(options, "Option", name="Style", type="QString", value="SpinBox")
    if "review" in columns:
        _review(root, configuration)


def _review(root: ET.Element, configuration: ET.Element) -> None:
    """A list to choose from, and values that QGIS sets by itself on drawing and on editing a feature."""
    field = ET.SubElement(configuration, "field", name="review", configurationFlags="None")
    config = ET.SubElement(ET.SubElement(field, "editWidget", type="ValueMap"), "config")
    values = ET.SubElement(ET.SubElement(config, "Option", type="Map"), "Option", name="map", type="List")
    for shown, value in _REVIEWS.items():
        ET.SubElement(ET.SubElement(values, "Option", type="Map"), "Option", name=shown, type="QString", value=value)
    defaults = ET.SubElement(root, "defaults")
    ET.SubElement(defaults, "default", field="review", expression=_REVIEWED, applyOnUpdate="1")


def _categories(attribute: str, values: Sequence[str], symbols: Sequence[ET.Element]) -> ET.Element:
    """A renderer with an entry per value and a last one, of the last symbol, for whatever else there is."""
    renderer = ET.Element("renderer-v2", type="categorizedSymbol", attr=attribute, enableorderby="0", forceraster="0")
    entries = ET.SubElement(renderer, "categories")
    for number, value in enumerate([*values, ""]):
        shown, kind = (value, "string") if number < len(values) else ("other", "NULL")
        ET.SubElement(entries, "category", symbol=str(number), value=value, label=shown, render="true", type=kind)
    holder = ET.SubElement(renderer, "symbols")
    for number, symbol in enumerate(symbols):
        symbol.set("name", str(number))
        holder.append(symbol)
    return renderer


def _single(symbol: ET.Element) -> ET.Element:
    renderer = ET.Element("renderer-v2", type="singleSymbol", enableorderby="0", forceraster="0")
    symbol.set("name", "0")
    ET.SubElement(renderer, "symbols").append(symbol)
    return renderer


def _symbol(kind: str) -> ET.Element:
    return ET.Element("symbol", type=kind, alpha="1", clip_to_extent="1", force_rhr="0")


def _fill(colour: RGB) -> ET.Element:
    symbol = _symbol("fill")
    symbol.append(
        _layer(
            "SimpleFill",
            {
                "color": _rgba(colour, _FILL_ALPHA),
                "style": "solid",
                "outline_color": _rgba(darker(colour, 0.85), 255),
                "outline_style": "solid",
                "outline_width": "0.5",
                "outline_width_unit": "MM",
                "joinstyle": "miter",
            },
        )
    )
    return symbol


def _hatch(degrees: int) -> ET.Element:
    symbol, line = _symbol("fill"), _symbol("line")
    line.set("name", "@0@0")
    line.extend(_lines(0.26))
    pattern = _layer("LinePatternFill", {"angle": str(degrees), "distance": "2.5", "distance_unit": "MM"})
    pattern.append(line)
    symbol.extend([pattern, *_lines(0.4)])
    return symbol


def _lines(width_mm: float, style: str = "solid") -> list[ET.Element]:
    """A grey line on a wider white one: on imagery, dark or bright, one of the two is seen."""
    rim = _line((*_WHITE, _RIM_ALPHA), width_mm + 0.3)
    rim.set("locked", "1")  # whoever gives the symbol another colour means the line
    return [rim, _line((*GREY, 255), width_mm, style)]


def _line(rgba: tuple[int, ...], width_mm: float, style: str = "solid") -> ET.Element:
    colour = ",".join(str(channel) for channel in rgba)
    width = {"line_width": f"{width_mm:.2f}", "line_width_unit": "MM"}
    return _layer("SimpleLine", {"line_color": colour, "line_style": style, **width})


def _layer(kind: str, properties: Mapping[str, str]) -> ET.Element:
    layer = ET.Element("layer", {"class": kind, "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    for name, value in properties.items():
        ET.SubElement(options, "Option", name=name, type="QString", value=value)
        ET.SubElement(layer, "prop", k=name, v=value)  # QGIS before 3.20 reads these only
    return layer


def _rgba(colour: RGB, alpha: int) -> str:
    return ",".join(str(channel) for channel in (*colour, alpha))


def _names(values: Iterable[str]) -> list[str]:
    """The different values, sorted; but for the empty and what XML 1.0 cannot write (control characters).

    Rows of such a value fall under "other".
    """
    return sorted({value for value in values if value and not _NOT_XML.search(value)})
