"""The fixed schema of footprints, through every format and back."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
from pyproj import CRS
from sink_tables import UTM, footprints

from geoseg.footprints import COLUMNS, empty
from geoseg.sinks import SINKS, write
from geoseg.sinks.qgis_style import FIELD_LOOKS


def test_the_test_tables_have_the_schema() -> None:
    table = footprints()
    assert [c for c in table.columns if c != "geometry"] == list(COLUMNS)
    dtypes = {name: pd.Series(dtype=kind).dtype for name, kind in COLUMNS.items()}  # pandas 2 has objects for "str"
    assert {name: table[name].dtype for name in COLUMNS} == dtypes


@pytest.mark.parametrize("suffix", list(SINKS))
def test_no_footprints_still_have_all_columns(tmp_path: Path, suffix: str) -> None:
    path = write(empty(CRS(UTM)), tmp_path / f"out{suffix}")
    found = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path, layer=0)
    assert len(found) == 0
    if suffix != ".geojson":  # it names columns in its rows only
        assert [c for c in found.columns if c != "geometry"] == list(COLUMNS)
        assert found.crs == UTM


def test_every_column_has_a_name_for_people_and_a_line_in_the_documents() -> None:
    assert set(COLUMNS) <= set(FIELD_LOOKS)
    text = (Path(__file__).parent.parent / "docs" / "outputs.md").read_text("utf-8")
    for name in COLUMNS:
        assert f"| `{name}` |" in text
