from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal
from sink_tables import ORIGIN, RUN, UTM, footprints, gaps

from geoseg.errors import ConfigError, SinkError
from geoseg.sinks import check_output, write
from geoseg.sinks.gpkg import write_errors


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def multi(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    parts = [g if g.geom_type == "MultiPolygon" else shapely.MultiPolygon([g]) for g in table.geometry]
    return table.set_geometry(gpd.GeoSeries(parts, crs=table.crs, index=table.index))


def test_geopandas_reads_what_was_written(tmp_path: Path) -> None:
    table = footprints()
    path = write(table, tmp_path / "out.gpkg", gaps=gaps(), run=RUN)
    found = gpd.read_file(path, layer="footprints")
    assert_geodataframe_equal(found, multi(table), check_dtype=False, check_less_precise=False)
    assert found.cut_by_edge.dtype == bool and found.n_tiles.dtype == np.int32
    assert rows(path, "SELECT count(*) FROM footprints WHERE score IS NULL") == [(table.score.isna().sum(),)]
    assert found.acquired.dropna().iloc[0] == pd.Timestamp("2024-02-29T23:59:59.250Z")
    assert found.geometry.iloc[0].geoms[0].interiors, "the hole is gone"
    assert_geodataframe_equal(gpd.read_file(path, layer="gaps"), multi(gaps()), check_dtype=False)
    run = gpd.read_file(path, layer="run").set_index("key")["value"]
    assert run["raster"] == RUN["raster"] and json.loads(run["settings"]) == RUN["settings"]
    assert run["folder"] == "latin-\\udce9" and run["exit_code"] == "0" and pd.isna(run["device"])


@pytest.mark.parametrize("n", [0, 1, 37])
def test_all_counts_agree(tmp_path: Path, n: int) -> None:
    path = write(footprints(n), tmp_path / "out.gpkg", gaps=gaps(min(n, 2)), run=RUN)
    for layer, expected in (("footprints", n), ("gaps", min(n, 2))):
        assert rows(path, f"SELECT count(*) FROM {layer}") == [(expected,)]
        assert rows(path, f"SELECT count(*) FROM rtree_{layer}_geom") == [(expected,)]
        assert rows(path, f"SELECT feature_count FROM gpkg_ogr_contents WHERE table_name='{layer}'") == [(expected,)]
        assert len(gpd.read_file(path, layer=layer)) == expected
        assert pyogrio.read_info(path, layer=layer)["geometry_type"] == "MultiPolygon"
        assert pyogrio.read_info(path, layer=layer)["crs"] == UTM


def test_bounding_box_reads_use_the_index(tmp_path: Path) -> None:
    table = footprints(200)
    path = write(table, tmp_path / "out.gpkg")
    box = (ORIGIN[0] + 500, ORIGIN[1] + 100, ORIGIN[0] + 900, ORIGIN[1] + 300)
    found = gpd.read_file(path, layer="footprints", bbox=box)
    assert sorted(found.id) == sorted(table[table.intersects(shapely.box(*box))].id)
    assert 0 < len(found) < 200


def test_tables_are_registered_and_nothing_is_left_beside(tmp_path: Path) -> None:
    path = write(footprints(), tmp_path / "out.gpkg", gaps=gaps(), run=RUN)
    kinds = dict(rows(path, "SELECT table_name, data_type FROM gpkg_contents"))
    assert kinds == {
        "footprints": "features", "gaps": "features", "run": "attributes", "layer_styles": "attributes",
    }  # fmt: skip
    assert rows(path, "PRAGMA integrity_check") == [("ok",)] and rows(path, "PRAGMA foreign_key_check") == []
    assert rows(path, "PRAGMA journal_mode") == [("delete",)]
    assert os.listdir(tmp_path) == ["out.gpkg"]


def test_styles_name_their_layer_and_parse(tmp_path: Path) -> None:
    path = write(footprints(), tmp_path / "out.gpkg", gaps=gaps())
    styles = rows(path, "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles")
    columns = dict(rows(path, "SELECT table_name, column_name FROM gpkg_geometry_columns"))
    assert [style[0] for style in styles] == ["footprints", "gaps"]
    for layer, column, default, qml in styles:
        assert column == columns[layer] == "geom" and default == 1
        assert ET.fromstring(str(qml)).tag == "qgis"
    assert rows(path, "SELECT DISTINCT f_table_catalog, f_table_schema FROM layer_styles") == [("", "")]


def test_without_gaps_and_run_nothing_is_claimed_about_them(tmp_path: Path) -> None:
    path = write(footprints(), tmp_path / "out.gpkg")
    assert {name for (name,) in rows(path, "SELECT table_name FROM gpkg_contents")} == {
        "footprints",
        "layer_styles",
    }


def test_gaps_come_in_the_crs_of_the_footprints(tmp_path: Path) -> None:
    path = write(footprints(), tmp_path / "out.gpkg", gaps=gaps().to_crs(4326))
    found = gpd.read_file(path, layer="gaps")
    assert found.crs == UTM
    assert np.allclose(found.total_bounds, gaps().total_bounds, atol=1e-6)


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    first = write(footprints(), tmp_path / "a.gpkg", gaps=gaps(), run=RUN).read_bytes()
    second = write(footprints(), tmp_path / "b.gpkg", gaps=gaps(), run=RUN).read_bytes()
    assert first == second
    assert write(footprints(), tmp_path / "a.gpkg", gaps=gaps(), run=RUN).read_bytes() == first
    later = write(footprints(), tmp_path / "c.gpkg", gaps=gaps(), run={**RUN, "started": datetime.now(UTC)})
    assert later.read_bytes() != first
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_dates_come_from_the_run(tmp_path: Path) -> None:
    path = write(footprints(), tmp_path / "out.gpkg", gaps=gaps(), run=RUN)
    stamps = rows(path, "SELECT last_change FROM gpkg_contents UNION SELECT update_time FROM layer_styles")
    assert stamps == [("2026-11-20T23:21:07.500Z",)]
    with pytest.raises(ConfigError, match="started at 'yesterday'"):
        write(footprints(), tmp_path / "out.gpkg", run={"started": "yesterday"})


def test_a_users_own_table(tmp_path: Path) -> None:
    shapes = [shapely.box(0, 0, 2, 1), None, shapely.Polygon(), shapely.box(5, 5, 6, 8)]
    own = gpd.GeoDataFrame(
        {"fid": ["a", "b", "c", "d"], "geom": [1, 2, 3, 4], "Bbox": [1.5, None, 2.0, 3.0]},
        geometry=shapes,
        crs=3857,
        index=pd.Index([9, 8, 7, 6], name="plot"),
    )
    path = write(own, tmp_path / "own.gpkg")
    found = gpd.read_file(path, layer="footprints")
    assert list(found.columns) == ["plot", "fid", "geom", "Bbox", "geometry"]
    assert found.geometry.iloc[0].equals(shapes[0]) and found.geometry.iloc[1] is None
    assert found["fid"].tolist() == ["a", "b", "c", "d"] and found["plot"].tolist() == [9, 8, 7, 6]
    assert rows(path, "SELECT f_geometry_column FROM layer_styles") == [("geom_",)]
    points = gpd.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(3, 4)], crs=4326)
    path = write(points, tmp_path / "points.gpkg")
    assert gpd.read_file(path, layer="footprints").geometry.iloc[0] == shapely.MultiPoint([(3, 4)])


def test_refuses_a_file_that_is_being_edited(tmp_path: Path) -> None:
    path = write(footprints(3), tmp_path / "out.gpkg")
    with closing(sqlite3.connect(path)) as editor:
        editor.execute("PRAGMA journal_mode=WAL")
        editor.execute("UPDATE layer_styles SET description = 'mine'")
        editor.commit()
        shutil.copyfile(tmp_path / "out.gpkg-wal", tmp_path / "kept")
        assert (tmp_path / "kept").stat().st_size > 0
        with pytest.raises(SinkError, match="open for editing") as refusal:
            write(footprints(9), path)
        assert refusal.value.exit_code == 4 and "force" in str(refusal.value)
        assert editor.execute("SELECT count(*) FROM footprints").fetchone() == (3,)
    shutil.copyfile(tmp_path / "kept", tmp_path / "out.gpkg-wal")  # as a killed editor leaves it
    write(footprints(9), path, force=True)
    assert sorted(os.listdir(tmp_path)) == ["kept", "out.gpkg"]
    assert len(gpd.read_file(path, layer="footprints")) == 9
    assert rows(path, "SELECT description FROM layer_styles") == [("Objects found, one row each",)]


def test_a_reader_that_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    path = write(footprints(3), tmp_path / "out.gpkg")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
        assert reader.execute("SELECT count(*) FROM footprints").fetchone() == (3,)
        write(footprints(9), path)
        assert reader.execute("SELECT count(*) FROM footprints").fetchone() == (3,)
    assert len(gpd.read_file(path, layer="footprints")) == 9


def test_refuses_to_replace_layers_that_are_not_geosegs(tmp_path: Path) -> None:
    parcels = gpd.GeoDataFrame({"owner": ["me"]}, geometry=[shapely.box(0, 0, 3, 1)], crs=UTM)
    path = tmp_path / "project.gpkg"
    parcels.to_file(path, layer="footprints")
    parcels.to_file(path, layer="parcels")
    before = path.read_bytes()
    for attempt in (lambda: write(footprints(2), path), lambda: check_output(path)):
        with pytest.raises(SinkError, match=r"tables named parcels\..*--force"):
            attempt()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["project.gpkg"]
    assert check_output(path, force=True) == path
    write(footprints(2), path, gaps=gaps(), run=RUN, force=True)
    assert gpd.list_layers(path)["name"].tolist() == ["footprints", "gaps", "layer_styles", "run"]
    assert check_output(path) == write(footprints(3), path), "geoseg's own file is replaced as ever"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE VIEW big AS SELECT * FROM footprints WHERE area_m2 > 9")
    with pytest.raises(SinkError, match="big"):
        write(footprints(2), path)


def test_a_file_that_is_no_geopackage_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.gpkg").write_text("notes")
    assert len(gpd.read_file(write(footprints(2), tmp_path / "out.gpkg"), layer="footprints")) == 2


def test_force_keeps_the_journal_until_the_new_file_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(footprints(3), tmp_path / "out.gpkg")
    journal = tmp_path / "out.gpkg-wal"
    journal.write_bytes(b"unsaved")

    def fails(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(SinkError, match="full"):
        write(footprints(9), path, force=True)
    assert journal.read_bytes() == b"unsaved"
    monkeypatch.undo()
    write(footprints(9), path, force=True)
    assert not journal.exists()


def test_an_edit_begun_during_the_write_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(footprints(3), tmp_path / "out.gpkg")
    before, flush = path.read_bytes(), os.fsync

    def flush_while_somebody_edits(handle: int) -> None:
        (tmp_path / "out.gpkg-wal").write_bytes(b"unsaved")
        flush(handle)

    monkeypatch.setattr(os, "fsync", flush_while_somebody_edits)
    with pytest.raises(SinkError, match="open for editing"):
        write(footprints(9), path)
    assert path.read_bytes() == before and (tmp_path / "out.gpkg-wal").read_bytes() == b"unsaved"


def test_no_count_goes_stale_when_others_add_rows(tmp_path: Path) -> None:
    path = write(footprints(3), tmp_path / "out.gpkg", gaps=gaps(), run=RUN)
    assert rows(path, "SELECT table_name FROM gpkg_ogr_contents ORDER BY 1") == [("footprints",), ("gaps",)]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO run (key, value) VALUES ('note', 'checked in the field')")
    assert pyogrio.read_info(path, layer="run", force_feature_count=True)["features"] == len(RUN) + 1
    assert len(gpd.read_file(path, layer="run")) == len(RUN) + 1


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_the_file_keeps_to_the_geopackage_standard(tmp_path: Path, crs: str) -> None:
    """OGC 12-128r17: requirements 2 (application id), 11 (srs rows), 13-15 (contents), 75-77 (R-tree)."""
    path = write(footprints(crs=crs), tmp_path / "out.gpkg", gaps=gaps(), run=RUN)
    assert rows(path, "PRAGMA application_id") == [(int.from_bytes(b"GPKG"),)]
    assert rows(path, "PRAGMA user_version") == [(10300,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)] and rows(path, "PRAGMA foreign_key_check") == []
    known = {srs for (srs,) in rows(path, "SELECT srs_id FROM gpkg_spatial_ref_sys")}
    assert known >= {-1, 0, 4326, int(crs.removeprefix("EPSG:"))}
    listed = {name for (name,) in rows(path, "SELECT table_name FROM gpkg_contents")}
    tables = {name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert listed == {t for t in tables if not t.startswith(("gpkg_", "rtree_", "sqlite_"))}
    extensions = rows(path, "SELECT table_name, extension_name FROM gpkg_extensions ORDER BY 1")
    assert extensions == [("footprints", "gpkg_rtree_index"), ("gaps", "gpkg_rtree_index")]
    triggers = {name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    for layer in ("footprints", "gaps"):
        assert {f"rtree_{layer}_geom_{event}" for event in ("insert", "delete", "update1", "update3")} <= triggers
        corners = "min_x, min_y, max_x, max_y"
        (stored,) = rows(path, f"SELECT {corners} FROM gpkg_contents WHERE table_name = '{layer}'")
        assert np.allclose(stored, gpd.read_file(path, layer=layer).total_bounds)


def test_layers_of_another_command_are_not_replaced(tmp_path: Path) -> None:
    """A layer of errors, or of tiles, in place of footprints is a slip of the keyboard."""
    path = write(footprints(3), tmp_path / "a.gpkg")
    with pytest.raises(SinkError, match="footprints"):
        write_errors(path, gaps().rename(columns={"reason": "kind"}))
    assert len(gpd.read_file(path, layer="footprints")) == 3


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet"])
@pytest.mark.parametrize(
    "crs", ["+proj=eqearth +lon_0=20 +datum=WGS84", "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=40 +lon_0=10"]
)
def test_a_crs_that_only_wkt_2_can_say(tmp_path: Path, crs: str, suffix: str) -> None:
    table = footprints(4, crs=crs)
    path = write(table, tmp_path / f"a{suffix}")
    back = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path)
    there = shapely.get_coordinates(back.to_crs(4326).geometry).mean(axis=0)
    assert there == pytest.approx(shapely.get_coordinates(table.to_crs(4326).geometry).mean(axis=0), abs=1e-9)
    assert sorted(back["id"]) == sorted(table["id"])
    if suffix == ".gpkg":
        assert set(back.geom_type) == {"MultiPolygon"}
