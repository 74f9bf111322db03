"""FlatGeobuf, GeoJSON, and what all formats share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import pytest
import shapely
from pyproj import Geod
from sink_tables import ORIGIN, RUN, UTM, footprints, gaps

from geoseg.errors import ConfigError, SinkError
from geoseg.sinks import SINKS, check_output, check_suffix, write, write_stream, written_run


@pytest.mark.parametrize("suffix", list(SINKS))
@pytest.mark.parametrize("n", [0, 1, 37])
def test_every_format_gives_back_every_row(tmp_path: Path, suffix: str, n: int) -> None:
    table = footprints(n)
    path = write(table, str(tmp_path / f"out{suffix}"), gaps=gaps(min(n, 2)), run=RUN)
    assert path == tmp_path / f"out{suffix}"
    found = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path, layer=0)
    assert len(found) == n
    if n:
        assert sorted(found.id) == sorted(table.id)
        assert math.isclose(found.to_crs(UTM).area.sum(), table.area.sum(), rel_tol=1e-3)
        assert found.score.isna().sum() == table.score.isna().sum()


@pytest.mark.parametrize("suffix", [".shp", "", ".GPK", ".json"])
def test_another_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ConfigError, match=r"\.gpkg, \.parquet, \.fgb, \.geojson"):
        write(footprints(1), tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_dot_in_its_name_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or without a dot, a folder"):
        check_output(tmp_path / "towns_v1.2")


def test_suffix_ignores_case_and_tables_are_checked(tmp_path: Path) -> None:
    assert check_suffix("A.GPKG") == Path("A.GPKG")
    assert write(footprints(1), tmp_path / "A.GPKG").exists()
    with pytest.raises(ConfigError, match="footprints of type list"):
        write([], tmp_path / "a.gpkg")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gaps of type str"):
        write(footprints(1), tmp_path / "a.gpkg", gaps="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gaps without an active geometry"):
        write(footprints(1), tmp_path / "a.gpkg", gaps=gaps(1).rename(columns={"geometry": "shape"}))
    with pytest.raises(ConfigError, match="a run of type list"):
        write(footprints(1), tmp_path / "a.gpkg", run=[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", list(SINKS))
def test_columns_of_any_name_and_labels_of_any_kind_are_written(tmp_path: Path, suffix: str) -> None:
    """A pivot table's names are numbers and tuples; labels that are lists become text, or stay lists."""
    table = footprints(3).assign(label=[["a"], ["b", "c"], []]).rename(columns={"score": 2024, "lon": ("mean", 1)})
    path = write(table.rename_geometry(0), tmp_path / f"out{suffix}")
    back = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path)
    assert {"2024", "('mean', 1)", "label"} <= set(back.columns) and len(back) == 3
    with pytest.raises(ConfigError, match="two columns named '2024'"):
        write(table.assign(**{"2024": 1}), path)


@pytest.mark.parametrize("suffix", list(SINKS))
@pytest.mark.parametrize("rows", [0, 2])
def test_polygons_without_any_attribute_are_written(tmp_path: Path, suffix: str, rows: int) -> None:
    bare = footprints(2)[["geometry"]].iloc[:rows]
    path = write(bare, tmp_path / f"out{suffix}", gaps=bare)
    back = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path, layer=0)
    assert list(back.columns) == ["geometry"] and len(back) == rows
    assert back.to_crs(UTM).area.sum() == pytest.approx(bare.area.sum(), rel=1e-3)


@pytest.mark.parametrize("ids", [[10, 20, 30], ["a", "a", None], [1.5, np.nan, 2.0]])
def test_geojson_keeps_ids_that_are_not_text_in_each_row(tmp_path: Path, ids: list[Any]) -> None:
    back = gpd.read_file(write(footprints(3).assign(id=ids), tmp_path / "out.geojson"))
    told, wanted = ([None if pd.isna(each) else each for each in some] for some in (back["id"], ids))
    assert told == wanted


@pytest.mark.parametrize("crs", ['LOCAL_CS["site",UNIT["metre",1]]', "+proj=eqc +R=1737400"], ids=["site", "moon"])
def test_geojson_of_a_crs_that_does_not_lead_to_the_earth_is_refused(tmp_path: Path, crs: str) -> None:
    site = footprints(1).set_crs(crs, allow_override=True)
    with pytest.raises(ConfigError, match="leads to WGS 84"):
        write(site, tmp_path / "a.geojson")
    assert write(site, tmp_path / "a.gpkg").exists()


def test_flatgeobuf_is_indexed_and_brings_its_gaps(tmp_path: Path) -> None:
    table = footprints(200)
    path = write(table, tmp_path / "out.fgb", gaps=gaps(), run=RUN)
    info = pyogrio.read_info(path)
    assert info["geometry_type"] == "MultiPolygon" and info["crs"] == UTM
    assert info["capabilities"]["fast_spatial_filter"]
    box = (ORIGIN[0] + 500, ORIGIN[1] + 100, ORIGIN[0] + 900, ORIGIN[1] + 300)
    assert sorted(gpd.read_file(path, bbox=box).id) == sorted(table[table.intersects(shapely.box(*box))].id)
    assert gpd.read_file(tmp_path / "out.gaps.fgb").reason.tolist().count("nodata") == 1
    assert json.loads((tmp_path / "out.fgb.run.json").read_text())["model"] == "buildings"


def test_geojson_is_rfc_7946(tmp_path: Path) -> None:
    path = write(footprints(), tmp_path / "out.geojson", gaps=gaps(), run=RUN)
    document = json.loads(path.read_text("utf-8"))
    assert document["type"] == "FeatureCollection" and "crs" not in document
    first = document["features"][0]
    assert first["id"] == "f0000"
    outer, hole = first["geometry"]["coordinates"]
    assert shapely.LinearRing(outer).is_ccw and not shapely.LinearRing(hole).is_ccw
    for lon, lat in outer:
        assert 87.0 < lon < 87.1 and 27.6 < lat < 27.8
        assert round(lon, 7) == lon and round(lat, 7) == lat
    assert json.loads((tmp_path / "out.gaps.geojson").read_text())["features"][0]["properties"]["detail"]
    with pytest.raises(ConfigError, match="without a CRS"):
        write(footprints(crs=None), path)


@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:3832", "degrees past 180"])
def test_geojson_is_cut_at_the_antimeridian(tmp_path: Path, crs: str) -> None:
    centre = gpd.GeoSeries([shapely.Point(180, 18)], crs=4326).to_crs(32660)
    ring = centre.buffer(900).difference(centre.buffer(300))
    if crs == "degrees past 180":
        lonlat = shapely.transform(ring.to_crs(4326).iloc[0], lambda xy: np.c_[xy[:, 0] % 360, xy[:, 1]])
        ring = gpd.GeoSeries([lonlat], crs=4326)
    else:
        ring = ring.to_crs(crs)
    table = gpd.GeoDataFrame({"label": ["ship"]}, geometry=ring)
    found = gpd.read_file(write(table, tmp_path / "out.geojson")).geometry.iloc[0]
    assert found.geom_type == "MultiPolygon" and found.is_valid and len(found.geoms) == 2
    assert all(part.bounds[2] - part.bounds[0] < 0.02 for part in found.geoms), "a part spans the globe"
    area = sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(part)[0]) for part in found.geoms)
    assert math.isclose(area, math.pi * (900**2 - 300**2), rel_tol=5e-3)


class _Stream:
    """A table's labels and shapes as rows that come one by one."""

    def __init__(self, table: gpd.GeoDataFrame) -> None:
        self._table, self.crs, self.bounds = table, table.crs, table.total_bounds
        self.schema = pa.schema({"label": pa.string(), "geometry": pa.binary()})
        self.labels = sorted(set(table.label))

    def __len__(self) -> int:
        return len(self._table)

    def batches(self, size: int) -> Iterator[pa.Table]:
        del size
        for _, row in self._table.iterrows():
            yield pa.table([[row.label], [shapely.to_wkb(row.geometry)]], schema=self.schema)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("west", "expected"),
    [
        (359.9995, [(-0.0005, 0.0005)]),  # of a raster that is counted from 0 to 360, and goes on
        (-360.0005, [(-0.0005, 0.0005)]),
        (360.5, [(0.5, 0.501)]),
        (180.0005, [(-179.9995, -179.9985)]),
        (539.9995, [(-180, -179.9995), (179.9995, 180)]),
        (-180.0005, [(-180, -179.9995), (179.9995, 180)]),
        (179.9995, [(-180, -179.9995), (179.9995, 180)]),
    ],
)
def test_geojson_of_any_turn_of_longitude(
    tmp_path: Path, west: float, expected: list[tuple[float, float]], streamed: bool
) -> None:
    shapes = [shapely.box(west, 10, west + 0.001, 10.002), shapely.box(12, 10, 12.001, 10.002)]
    table = gpd.GeoDataFrame({"label": ["ship", "ship"]}, geometry=shapes, crs=4326)
    path = tmp_path / "out.geojson"
    if streamed:
        write_stream(_Stream(table), path)
    else:
        write(table, path)
    first, second = gpd.read_file(path).geometry
    assert second.bounds == (12, 10, 12.001, 10.002)
    found = sorted((part.bounds[0], part.bounds[2]) for part in shapely.get_parts(first))
    assert np.allclose(found, expected, rtol=0, atol=2e-7)
    assert math.isclose(first.area, 2e-6, rel_tol=1e-3)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SinkError("a part that is not there"), MemoryError()])
@pytest.mark.parametrize("suffix", list(SINKS))
@pytest.mark.parametrize("after", [0, 1])
def test_what_ends_a_stream_early_comes_out_as_it_is(
    tmp_path: Path, suffix: str, after: int, error: BaseException
) -> None:
    """Of Ctrl-C the exit code is 130, though it comes while GDAL asks for rows."""

    class Ending(_Stream):
        def batches(self, size: int) -> Iterator[pa.Table]:
            yield from islice(super().batches(size), after)
            raise error

    path = tmp_path / f"out{suffix}"
    with pytest.raises(type(error)) as told:
        write_stream(Ending(footprints(3)[["label", "geometry"]]), path)
    assert told.value is error and not list(tmp_path.iterdir())


@pytest.mark.parametrize("streamed", [False, True])
def test_geojson_of_imagery_of_a_centimetre_holds_valid_polygons_alone(tmp_path: Path, streamed: bool) -> None:
    """Rounding lets a spike and a slit collapse; GDAL leaves a line in their place, in a collection."""
    spike = shapely.Polygon([(0, 0), (2, 0), (2, 1.004), (5, 1.006), (2, 1.008), (2, 2), (0, 2)])
    slit = shapely.box(0, 0, 2, 2).difference(shapely.box(0.5, 1.001, 1.5, 1.003))
    shapes = shapely.transform(np.array([spike, slit], object), lambda xy: xy + ORIGIN)
    table = gpd.GeoDataFrame({"label": ["ship", "ship"]}, geometry=shapes, crs=UTM)
    path = tmp_path / "out.geojson"
    if streamed:
        write_stream(_Stream(table), path)
    else:
        write(table, path)
    found = gpd.read_file(path)
    assert found.is_valid.all() and set(found.geom_type) == {"Polygon"}
    assert found.to_crs(UTM).area.tolist() == pytest.approx([4, 4], abs=0.1)


def test_geojson_that_lost_a_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(footprints(3), tmp_path / "out.geojson")
    before = path.read_bytes()
    table = gpd.GeoDataFrame({"label": ["ship"]}, geometry=[shapely.box(539.9, 10, 540.1, 10.1)], crs=4326)
    monkeypatch.setattr("geoseg.sinks.geojson.first_turn", lambda shapes, _: shapes)  # GDAL empties it
    with pytest.raises(SinkError, match="1 shapes were written but 0 are read back"):
        write(table, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".fgb", ".geojson"])
def test_same_arguments_same_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = (write(footprints(), tmp_path / f"{name}{suffix}", run=RUN) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("suffix", list(SINKS))
def test_true_and_false_stay_that_where_tables_were_put_together(tmp_path: Path, suffix: str) -> None:
    """pandas makes a column of objects of them where one of the tables has no such column."""
    own = gpd.GeoDataFrame({"id": ["own"]}, geometry=[shapely.box(*ORIGIN, ORIGIN[0] + 9, ORIGIN[1] + 9)], crs=UTM)
    table = pd.concat([footprints(4).assign(cut_by_edge=[True, False, False, True]), own], ignore_index=True)
    assert table.cut_by_edge.dtype == object
    path = write(table, tmp_path / f"out{suffix}")
    back = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path, layer=0)
    told = back.set_index("id").cut_by_edge.dropna()
    assert told.astype(float).sum() == 2 and "own" not in told


@pytest.mark.parametrize("suffix", list(SINKS))
def test_a_column_that_cannot_be_held_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(footprints(3), tmp_path / f"out{suffix}")
    before = path.read_bytes()
    bad = footprints(3).assign(phase=[1 + 2j, 3, 4])
    bad = bad[["geometry", *bad.columns.drop("geometry")]]  # the number in GDAL's message leaves it out
    with pytest.raises(ConfigError, match=r"column 'phase' of type complex128 for footprints"):
        write(bad, path)
    with pytest.raises(ConfigError, match=r"column 'phase' of type complex128 for gaps"):
        write(footprints(3), path, gaps=gaps(2).assign(phase=[1j, 2]))
    twice = footprints(3)[["id", "id", "geometry"]]
    with pytest.raises(ConfigError, match="two columns named 'id'"):
        write(twice, path)
    with pytest.raises(ConfigError, match="two columns named 'score'"):
        write(footprints(3).rename_axis("score"), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("suffix", "columns", "named"),
    [
        (".parquet", {"notes": [1, "two", 3.5]}, "'notes' of type object"),
        (".gpkg", {"Use": [1, 2, 3], "use": [1, 2, 3]}, "'use'"),
    ],
)
def test_what_one_format_cannot_hold_is_named(
    tmp_path: Path, suffix: str, columns: dict[str, list[object]], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        write(footprints(3).assign(**columns), tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "values"),
    [(suffix, np.array([1, 2**63, 3], np.uint64)) for suffix in (".gpkg", ".fgb", ".geojson")]
    + [(".parquet", np.array([1, None, -(2**63) - 1], object))],
)
def test_a_whole_number_that_cannot_be_held_is_named(tmp_path: Path, suffix: str, values: Any) -> None:
    table = footprints(3).assign(count=np.array([7, 2**63 - 1, 9], np.uint64), big=pd.Series(values))
    with pytest.raises(ConfigError, match="column 'big' of type"):
        write(table, tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []
    found = gpd.read_file(write(table.drop(columns="big"), tmp_path / "out.gpkg"), layer="footprints")
    assert found["count"].tolist() == [7, 2**63 - 1, 9]


@pytest.mark.parametrize("suffix", list(SINKS))
@pytest.mark.parametrize("crs", [UTM, "ESRI:54030", "+proj=ob_tran +o_proj=longlat +o_lat_p=39 +lon_0=18"])
def test_heights_and_rows_without_a_shape_are_kept(tmp_path: Path, suffix: str, crs: str) -> None:
    boxes = shapely.box([0, 2, 4], 0, [1, 3, 5], 1)
    boxes[2] = shapely.union(boxes[2], shapely.box(7, 0, 8, 1))  # a MultiPolygon among Polygons
    for name, shapes in (
        ("high", shapely.force_3d(boxes, 7.5)),
        ("some", np.array([shapely.force_3d(boxes[0], 7.5), None, shapely.force_3d(boxes[2], 7.5)])),
        ("flat", np.array([boxes[0], None, boxes[2]])),
        ("empty", np.array([boxes[0], shapely.Polygon(), boxes[2]])),
    ):
        table = gpd.GeoDataFrame({"n": [0, 1, 2]}, geometry=shapes, crs=crs)
        path = write(table, tmp_path / f"{name}{suffix}")
        found = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path, layer=0)
        found = found.sort_values("n", ignore_index=True)
        shown = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
        assert (~(found.geometry.isna() | found.geometry.is_empty) == shown).all()
        assert (found.geometry.has_z == shapely.has_z(shapes))[shown].all()
        if suffix != ".geojson":  # in longitude and latitude
            assert shapely.equals(found.geometry.to_numpy()[shown], shapes[shown]).all()


@pytest.mark.parametrize("suffix", list(SINKS))
@pytest.mark.parametrize(
    ("wkt", "said"),
    [
        ("POLYGON M ((0 0 5, 4 0 5, 4 3 5, 0 0 5))", r"row 1 .*measures \(M\)"),
        ("POLYGON ((0 0, inf 0, 4 3, 0 0))", "row 1 .*infinity"),
        ("POLYGON ((0 0, 4 nan, 4 3, 0 0))", "row 1 .*NaN"),
    ],
)
def test_shapes_that_no_format_holds_are_refused_by_row(tmp_path: Path, suffix: str, wkt: str, said: str) -> None:
    table = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 2, 1), shapely.from_wkt(wkt)], crs=UTM)
    with pytest.raises(ConfigError, match=said):
        write(table, tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_flatgeobuf_refuses_some_heights(tmp_path: Path) -> None:
    boxes = shapely.box([0, 2], 0, [1, 3], 1)
    boxes[1] = shapely.force_3d(boxes[1], 7.5)
    with pytest.raises(ConfigError, match="some have heights"):
        write(gpd.GeoDataFrame(geometry=boxes, crs=UTM), tmp_path / "out.fgb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".parquet", ".fgb", ".geojson"])
def test_gaps_and_run_of_an_earlier_output_do_not_stay(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(footprints(3), tmp_path / f"out{suffix}", gaps=gaps(), run=RUN)
    (tmp_path / f"out.v2.gaps{suffix}").write_text("of another output")
    write(footprints(3), path, run=RUN)
    assert not (tmp_path / f"out.gaps{suffix}").exists() and f"out.gaps{suffix}" in caplog.text
    write(footprints(3), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, f"out.v2.gaps{suffix}"])
    assert written_run(path) == {}


def test_outputs_of_one_name_keep_each_their_own_run(tmp_path: Path) -> None:
    first = write(footprints(1), tmp_path / "out.fgb", run={"model": "a"})
    second = write(footprints(1), tmp_path / "out.geojson", run={"model": "b"})
    assert written_run(first) == {"model": "a"} and written_run(second) == {"model": "b"}
    write(footprints(1), second)
    assert written_run(first) == {"model": "a"} and written_run(second) == {}
