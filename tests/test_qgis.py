"""The layers in QGIS itself: they load, look as they should by themselves, and can be corrected.

QGIS brings its own Python (Debian: ``python3-qgis``), so each test hands it a script; without it they are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from sink_tables import footprints, gaps

import geoseg
from geoseg.sinks.colours import GREY, label_colours, label_text
from geoseg.sinks.review import write_review

BEGIN = """
import json, sys
from qgis.core import *
from qgis.gui import *
from qgis.PyQt.QtCore import QSize
app = QgsApplication([], True)
app.initQgis()
QgsGui.editorWidgetRegistry().initEditors()
def layer(path, name):
    found = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")
    assert found.isValid(), path
    return found
def told(values):
    print("TOLD " + json.dumps(values))
"""


@cache
def qgis_python() -> str | None:
    """The Python that knows QGIS, if any."""
    for name in ("/usr/bin/python3", shutil.which("python3")):
        if name and subprocess.run([name, "-c", "import qgis.core"], capture_output=True).returncode == 0:
            return name
    return None


def in_qgis(script: str, *arguments: object) -> Any:
    """What the script tells, with its arguments in ``sys.argv``."""
    python = qgis_python()
    if python is None:
        pytest.skip("QGIS's Python bindings are not here (Debian: python3-qgis)")
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [python, "-c", BEGIN + script, *map(str, arguments)],
        env=env | {"QT_QPA_PLATFORM": "offscreen", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[-1].removeprefix("TOLD "))


LOOKS = """
found, missing = layer(sys.argv[1], "footprints"), layer(sys.argv[1], "gaps")
settings = QgsMapSettings()
settings.setLayers([found])
settings.setExtent(found.extent())
settings.setDestinationCrs(found.crs())
settings.setOutputSize(QSize(420, 300))
job = QgsMapRendererSequentialJob(settings)
job.start()
job.waitForFinished()
image = job.renderedImage()
colours = {image.pixelColor(x, y).name() for x in range(420) for y in range(300)}
told({
    "rows": found.featureCount(),
    "crs": found.crs().authid(),
    "by": found.renderer().classAttribute(),
    "values": sorted(each.value() for each in found.renderer().categories() if each.value()),
    "reasons": sorted(each.value() for each in missing.renderer().categories() if each.value()),
    "alias": found.attributeAlias(found.fields().indexOf("area_m2")),
    "colours": len(colours),
})
"""


def test_layers_load_with_their_style_and_names(tmp_path: Path) -> None:
    table = footprints()
    path = geoseg.write(table, tmp_path / "a town, näher.gpkg", gaps=gaps())
    seen = in_qgis(LOOKS, path)
    assert seen["rows"] == len(table) and seen["crs"] == "EPSG:32645"
    assert seen["by"] == "label" and seen["values"] == sorted(set(table["label"]))
    assert seen["reasons"] == sorted(set(gaps()["reason"]))
    assert seen["alias"] == "Area (m²)"
    assert seen["colours"] > 3  # ground, fill and outline of two classes


COLOURS = """
found = layer(sys.argv[1], "footprints")
renderer, context = found.renderer(), QgsRenderContext()
renderer.startRender(context, found.fields())
told([renderer.symbolForFeature(each, context).color().getRgb()[:3] for each in found.getFeatures()])
renderer.stopRender(context)
"""


@pytest.mark.parametrize(
    "labels", [[True, False, True], [True, None, False], [1.0, np.nan, 2.0], [3, 1, 2], ["True", None, "2.0"]]
)
def test_labels_of_any_kind_have_their_colours(tmp_path: Path, labels: list[object]) -> None:
    shapes = [shapely.box(10 * n, 0, 10 * n + 8, 5) for n in range(3)]
    table = geopandas.GeoDataFrame({"label": labels}, geometry=shapes, crs=32645)
    path = geoseg.write(table, tmp_path / "a.gpkg")
    of = label_colours(label_text(label) for label in labels if not pd.isna(label))
    wanted = [list(GREY if pd.isna(label) else of[label_text(label)]) for label in labels]
    for each in (path, write_review(path, tmp_path / "a.review.gpkg")):
        assert in_qgis(COLOURS, each) == wanted


REVIEW = """
found = layer(sys.argv[1], "footprints")
field = found.fields().indexOf("review")
first, second, third = list(found.getFeatures())[:3]
form = QgsAttributeForm(found, first)
found.startEditing()
found.changeAttributeValue(first.id(), field, "wrong")
moved = second.geometry()
moved.translate(2, 0)
found.changeGeometry(second.id(), moved)
found.addFeature(QgsVectorLayerUtils.createFeature(found, third.geometry()))
assert found.commitChanges(), found.commitErrors()
again = layer(sys.argv[1], "footprints")
widget = again.editorWidgetSetup(field)
drawn = [f for f in again.getFeatures() if f["review"] == "added"][0]
context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(again))
context.setFeature(drawn)
values = [value for choice in widget.config()["map"] for value in choice.values()]
told({
    "widget": widget.type(),
    "choices": sorted(value for value in values if not value.startswith("{")),  # QGIS's mark for null
    "verdicts": [f["review"] for f in again.getFeatures() if f["review"]],
    "rows": again.featureCount(),
    "tip": QgsExpression.replaceExpressionText(again.mapTipTemplate(), context),
})
"""


def test_corrections_are_a_choice_and_mark_themselves(tmp_path: Path) -> None:
    table = footprints()
    path = write_review(geoseg.write(table, tmp_path / "a.gpkg"), tmp_path / "a.review.gpkg")
    seen = in_qgis(REVIEW, path)
    assert seen["widget"] == "ValueMap" and seen["choices"] == ["added", "edited", "keep", "wrong"]
    assert seen["verdicts"] == ["wrong", "edited", "added"]  # only the first was chosen by hand
    assert seen["rows"] == len(table) + 1
    assert seen["tip"] == "<b></b> <br/>"  # of what was drawn nothing is known: no unit without a number
