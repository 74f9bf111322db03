from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS
from sink_tables import ORIGIN, RUN, UTM, footprints, gaps

from geoseg.sinks import write
from geoseg.sinks.parquet import hilbert_sorted, to_arrow


def by_id(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return table.sort_values("id").reset_index(drop=True)


def geo(path: Path) -> dict[str, object]:
    return json.loads(pq.read_metadata(path).metadata[b"geo"])


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857", None])
@pytest.mark.parametrize("n", [0, 1, 37])
def test_geopandas_reads_what_was_written(tmp_path: Path, n: int, crs: str | None) -> None:
    table = footprints(n, crs=crs)
    path = write(table, tmp_path / "out.parquet", run=RUN)
    found = gpd.read_parquet(path)
    assert_geodataframe_equal(by_id(found), by_id(table))
    assert list(found.columns) == list(table.columns)
    assert pq.read_table(path)["score"].null_count == table.score.isna().sum()


def test_metadata_is_geoparquet_1_1(tmp_path: Path) -> None:
    table = footprints()
    path = write(table, tmp_path / "out.parquet", run=RUN)
    note = geo(path)
    assert note["version"] == "1.1.0" and note["primary_column"] == "geometry"
    column = note["columns"]["geometry"]
    assert set(column) == {"encoding", "geometry_types", "crs", "bbox", "covering"}
    assert column["encoding"] == "WKB" and column["geometry_types"] == ["MultiPolygon", "Polygon"]
    assert CRS.from_json_dict(column["crs"]) == CRS(UTM)
    assert np.allclose(column["bbox"], table.total_bounds)
    schema = pq.read_schema(path)
    assert schema.field("geometry").type == pa.binary()
    for edge, where in column["covering"]["bbox"].items():
        assert where == ["bbox", edge] and schema.field("bbox").type.field(edge).type == pa.float64()
    assert json.loads(schema.metadata[b"geoseg:run"])["raster"] == RUN["raster"]
    chunk = pq.read_metadata(path).row_group(0).column(0)
    assert chunk.compression == "ZSTD"


def test_geopandas_writes_the_same_metadata(tmp_path: Path) -> None:
    """The oracle: geopandas' own writer, but for its note of who wrote it."""
    table = footprints()
    ours = geo(write(table, tmp_path / "ours.parquet"))
    table.to_parquet(tmp_path / "theirs.parquet", write_covering_bbox=True, schema_version="1.1.0")
    theirs = geo(tmp_path / "theirs.parquet")
    theirs.pop("creator", None)
    assert ours == theirs


def test_boxes_let_a_reader_skip(tmp_path: Path) -> None:
    table = footprints(400)
    path = write(table, tmp_path / "out.parquet")
    box = (ORIGIN[0] + 500, ORIGIN[1] + 100, ORIGIN[0] + 900, ORIGIN[1] + 300)
    found = gpd.read_parquet(path, bbox=box)
    assert sorted(found.id) == sorted(table[table.intersects(shapely.box(*box))].id)
    # With small row groups the order must let most of them be left unread.
    pq.write_table(pq.read_table(path), tmp_path / "small.parquet", row_group_size=20)
    meta = pq.read_metadata(tmp_path / "small.parquet")
    names = [meta.row_group(0).column(i).path_in_schema for i in range(meta.num_columns)]
    at = {edge: names.index(f"bbox.{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")}
    touched = 0
    for g in range(meta.num_row_groups):
        stats = {edge: meta.row_group(g).column(i).statistics for edge, i in at.items()}
        touched += (
            stats["xmin"].min <= box[2] and stats["xmax"].max >= box[0]
            and stats["ymin"].min <= box[3] and stats["ymax"].max >= box[1]
        )  # fmt: skip
    assert meta.num_row_groups == 20 and touched <= 8


def test_gaps_lie_beside(tmp_path: Path) -> None:
    path = write(footprints(), tmp_path / "out.v1.parquet", gaps=gaps().to_crs(4326), run=RUN)
    beside = gpd.read_parquet(tmp_path / "out.v1.gaps.parquet")
    assert beside.crs == UTM and sorted(beside.reason) == ["nodata", "unreadable"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.v1.gaps.parquet", path.name]


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    first = write(footprints(), tmp_path / "a.parquet", gaps=gaps(), run=RUN)
    second = write(footprints(), tmp_path / "b.parquet", gaps=gaps(), run=RUN)
    assert first.read_bytes() == second.read_bytes()


def test_a_users_own_table(tmp_path: Path) -> None:
    own = gpd.GeoDataFrame(
        {"bbox": ["a", "b", "c"], "when": pd.to_datetime(["2024-01-01", None, "2025-01-01"])},
        geometry=[None, shapely.box(0, 0, 3, 1), shapely.Polygon()],
        crs=4326,
        index=pd.Index([5, 6, 7], name="plot"),
    ).rename_geometry("shape")
    own.attrs["note"] = object()  # what a user hangs on a table does not go into the file
    found = gpd.read_parquet(write(own, tmp_path / "own.parquet")).sort_values("plot")
    assert found.geometry.name == "shape" and found["bbox"].tolist() == ["a", "b", "c"]
    assert found.geometry.iloc[0] is None and found.geometry.iloc[2].is_empty


@given(st.lists(st.sampled_from([None, "empty", (0, 0), (1, 7), (5, 2), (5, 2.5)]), max_size=8))
def test_hilbert_order_is_a_permutation(spots: list[object]) -> None:
    def shape(spot: object) -> shapely.Geometry | None:
        if spot is None or spot == "empty":
            return shapely.Polygon() if spot else None
        x, y = spot
        return shapely.box(x, y, x + 1, y + 2)

    table = gpd.GeoDataFrame({"n": np.arange(len(spots))}, geometry=gpd.GeoSeries([shape(s) for s in spots], crs=4326))
    ordered = hilbert_sorted(table)
    assert sorted(ordered.n) == list(range(len(spots)))
    blank = (ordered.geometry.isna() | ordered.geometry.is_empty).tolist()
    assert blank == sorted(blank), "rows without a shape come last"
    assert to_arrow(ordered).num_rows == len(spots)
