"""PMTiles for web maps, read back by a reader of their own and by GDAL."""

from __future__ import annotations

import logging
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
import shapely.affinity
from commands import cli
from pmtiles_reader import EDGE_M, Archive
from pyproj import CRS
from sink_tables import ORIGIN, UTM, footprints

from geoseg.errors import ConfigError, SinkError
from geoseg.footprints import COLUMNS
from geoseg.sinks import check_output, write
from geoseg.sinks.pmtiles import write_pmtiles

SHOWN = [name for name in COLUMNS if name != "geometry"]


def grid(n: int, *, step: float = 14.0, side: float = 8.0, crs: str = UTM) -> gpd.GeoDataFrame:
    """A dense town of ``n`` squares in rows."""
    across = int(n**0.5)
    x, y = ORIGIN[0] + np.arange(n) % across * step, ORIGIN[1] + np.arange(n) // across * step
    table = footprints(n).drop(columns="geometry")
    return gpd.GeoDataFrame(table, geometry=shapely.box(x, y, x + side, y + side), crs=crs)


def at(lon: float, lat: float, side: float = 0.001) -> shapely.Polygon:
    return shapely.box(lon - side, lat - side, lon + side, lat + side)


def test_the_highest_zoom_has_every_footprint_and_every_value(tmp_path: Path) -> None:
    table = footprints(150)
    archive = Archive(write_pmtiles(table, tmp_path / "town.pmtiles"))
    drawn = archive.table(archive.high)
    once = drawn.drop_duplicates("id").set_index("id").sort_index()
    wanted = table.set_index("id").sort_index()
    assert list(once.index) == list(wanted.index)
    assert set(drawn.columns) == {*SHOWN, "geometry"} - {"agreement"}  # null in every row, which tiles leave out
    for name in ("label", "raster", "model", "model_version", "run", "n_tiles", "cut_by_edge"):
        assert list(once[name]) == list(wanted[name]), name
    for name in ("score", "area_m2", "orientation_deg", "lon", "lat"):
        np.testing.assert_array_equal(once[name], wanted[name].to_numpy(float))
    pd.testing.assert_series_equal(
        pd.to_datetime(once["acquired"]).dt.as_unit("ms"), wanted["acquired"], check_names=False, check_freq=False
    )
    # Tiles hold parts, with a rim: together they are the outline, to a step of the grid.
    whole = drawn.dissolve("id").geometry.sort_index()
    true = wanted.to_crs(3857).geometry
    step = 2 * EDGE_M / 2**archive.high / 4096
    assert shapely.hausdorff_distance(whole.to_numpy(), true.to_numpy()).max() < step
    assert archive.metadata["name"] == "town" and archive.high - archive.low >= 6
    assert [layer["id"] for layer in archive.metadata["vector_layers"]] == ["footprints"]
    assert set(archive.metadata["vector_layers"][0]["fields"]) == {*SHOWN}
    np.testing.assert_allclose(archive.bounds, table.to_crs(4326).total_bounds, atol=1e-6)


def test_a_crowded_town_is_thinned_below_the_highest_zoom_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """GDAL's own limits, 500,000 bytes a tile among them, would leave footprints out at all zooms, without a word."""
    table = grid(5_500)[["id", "geometry"]]
    with caplog.at_level(logging.INFO, logger="geoseg"):
        archive = Archive(write_pmtiles(table, tmp_path / "town.pmtiles"))
    counts = {zoom: archive.table(zoom)["id"].nunique() for zoom in range(archive.low, archive.high + 1)}
    assert counts[archive.high] == 5_500 and counts[archive.low + 2] <= 5_000
    whole = min(zoom for zoom in counts if all(counts[above] == 5_500 for above in range(zoom, archive.high + 1)))
    assert f"zooms {archive.low} to {archive.high}; all footprints from zoom {whole} on" in caplog.text
    assert "left out" not in caplog.text


def test_more_in_one_place_than_a_tile_holds_elsewhere(tmp_path: Path) -> None:
    """Many dates on top of each other: no zoom is high enough to part them."""
    table = pd.concat([grid(4)[["id", "geometry"]]] * 1_300, ignore_index=True)
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    drawn = archive.table(archive.high)
    assert drawn["row"].nunique() == 5_200 and drawn["id"].nunique() == 4


def test_the_zooms_follow_the_sizes(tmp_path: Path) -> None:
    highs = []
    for side in (3.0, 10.0, 300.0):
        archive = Archive(write_pmtiles(grid(9, step=2 * side, side=side), tmp_path / "a.pmtiles"))
        step = 2 * EDGE_M / 2**archive.high / 4096
        assert side / 200 < step < side / 50
        highs.append(archive.high)
    assert highs == sorted(set(highs), reverse=True)


def test_a_speck_among_buildings_is_there_and_what_is_finer_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = grid(20)
    table.loc[0, "geometry"] = shapely.box(*ORIGIN, ORIGIN[0] + 0.15, ORIGIN[1] + 0.15)
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    assert archive.table(archive.high)["id"].nunique() == 20 and "left out" not in caplog.text
    table.loc[0, "geometry"] = shapely.box(*ORIGIN, ORIGIN[0] + 1e-4, ORIGIN[1] + 1e-4)
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    assert archive.table(archive.high)["id"].nunique() == 19
    assert f"1 footprints left out: finer than zoom {archive.high}" in caplog.text


def test_a_forest_around_sheds_does_not_take_for_ever(tmp_path: Path) -> None:
    """One polygon that would lie in hundreds of thousands of the sheds' tiles."""
    table = grid(5, side=3.0)
    table.loc[0, "geometry"] = shapely.box(*ORIGIN, ORIGIN[0] + 150_000, ORIGIN[1] + 150_000)
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    assert archive.table(archive.high)["id"].nunique() == 5


def test_an_empty_layer_is_an_empty_map(tmp_path: Path) -> None:
    """And not yesterday's."""
    target = tmp_path / "ships.pmtiles"
    write_pmtiles(footprints(3), target)
    archive = Archive(write_pmtiles(footprints(0), target))
    assert archive.entries == {} and archive.metadata["name"] == "ships"
    assert pyogrio.list_layers(target).tolist() == [["footprints", "Unknown"]]
    found = pyogrio.read_dataframe(target, read_geometry=False)
    assert len(found) == 0 and {*SHOWN} <= set(found.columns)


def test_across_the_antimeridian_and_at_the_ends_of_the_map(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shapes = [at(180.0, 0.0), at(-179.9995, 10.0), at(20.0, 85.051), at(20.0, 89.0), shapely.Point(0, 0), None]
    table = gpd.GeoDataFrame({"id": list("abcdef")}, geometry=shapes, crs=4326)
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    drawn = archive.table(archive.high).dissolve("id").geometry
    assert sorted(drawn.index) == ["a", "b", "c"]
    assert "3 footprints left out: no polygons, or beyond 85.05 degrees" in caplog.text
    assert np.abs(drawn.total_bounds).max() <= EDGE_M + 1
    west, _, east, _ = drawn["a"].bounds
    assert west < -EDGE_M + 1 and east > EDGE_M - 1  # on both sides, ...
    assert drawn["a"].area == pytest.approx(222.6**2, rel=0.1)  # ... and not around the world


def test_a_raster_of_the_web_that_goes_on_beyond_180_degrees(tmp_path: Path) -> None:
    across = shapely.box(EDGE_M - 40, 0, EDGE_M + 60, 50)
    table = gpd.GeoDataFrame(
        {"id": ["a", "b"]}, geometry=[across, shapely.affinity.translate(across, -2 * EDGE_M)], crs=3857
    )
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    drawn = archive.table(archive.high).dissolve("id").geometry
    for shape in drawn:
        assert shape.intersection(shapely.box(-EDGE_M, 0, -EDGE_M + 60, 50)).area == pytest.approx(3000, rel=0.02)
        assert shape.intersection(shapely.box(EDGE_M - 40, 0, EDGE_M, 50)).area == pytest.approx(2000, rel=0.02)


def test_around_the_pole_and_of_no_place(tmp_path: Path) -> None:
    around = gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(-9e4, -9e4, 9e4, 9e4)], crs=3413)
    with pytest.raises(ConfigError, match="1 footprints, none of which is on the map of the web"):
        write_pmtiles(around, tmp_path / "a.pmtiles")
    with pytest.raises(ConfigError, match="without a CRS for web maps"):
        write_pmtiles(footprints(1, crs=None), tmp_path / "a.pmtiles")
    moon = CRS.from_proj4("+proj=longlat +R=1737400 +no_defs")
    with pytest.raises(ConfigError, match="nothing leads to"):
        write_pmtiles(footprints(1).set_crs(moon, allow_override=True), tmp_path / "a.pmtiles")
    assert list(tmp_path.iterdir()) == []


def test_columns_of_your_own(tmp_path: Path) -> None:
    table = footprints(3)[["geometry"]].assign(
        id=["x", "x", None], row=["u", "v", "w"], count=pd.array([1, None, 3], "Int64"), seen=[True, False, True]
    )
    archive = Archive(write_pmtiles(table.set_index(pd.Index([7, 8, 9], name="block")), tmp_path / "a.pmtiles"))
    drawn = archive.table(archive.high).drop_duplicates("row_").sort_values("row_")
    assert list(drawn["row_"]) == [1, 2, 3] and list(drawn["row"]) == ["u", "v", "w"]
    assert list(drawn["seen"]) == [True, False, True] and list(drawn["block"]) == [7, 8, 9]
    assert list(drawn["id"].fillna("")) == ["x", "x", ""]
    with pytest.raises(ConfigError, match="'c'"):
        write_pmtiles(footprints(2).assign(c=[1j, 2j]), tmp_path / "b.pmtiles")


@pytest.mark.filterwarnings("error")
def test_whole_numbers_that_readers_round_are_no_ids(tmp_path: Path) -> None:
    """Ids of 19 digits, as of S2 cells: as floats they are all the same."""
    table = grid(9).assign(id=2**62 + np.arange(9))
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    drawn = archive.table(archive.high).drop_duplicates("row")
    assert sorted(drawn["id"]) == list(table["id"])


def test_invalid_outlines_and_heights_are_drawn(tmp_path: Path) -> None:
    """GDAL cuts what lies across tiles, and leaves out what cannot be cut: a bow tie, for one."""
    x, y = ORIGIN
    bow = shapely.Polygon([(x, y, 5.0), (x + 900, y + 900, 5.0), (x + 900, y, 5.0), (x, y + 900, 5.0)])
    table = gpd.GeoDataFrame({"id": ["bow", *"abcde"]}, geometry=[bow, *grid(5).geometry], crs=UTM)
    archive = Archive(write_pmtiles(table, tmp_path / "a.pmtiles"))
    drawn = archive.table(archive.high).dissolve("id").to_crs(UTM).geometry
    assert drawn["bow"].area == pytest.approx(405_000, rel=0.01)


def test_the_same_table_is_the_same_bytes_and_what_fails_leaves_the_old_map(tmp_path: Path) -> None:
    first, second = (write_pmtiles(grid(200), tmp_path / f"{i}" / "a.pmtiles") for i in _folders(tmp_path))
    assert first.read_bytes() == second.read_bytes()
    before = first.read_bytes()
    (tmp_path / "0" / "d.pmtiles").mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        write_pmtiles(grid(2), tmp_path / "0" / "d.pmtiles")
    with pytest.raises(ConfigError):
        write_pmtiles(footprints(2).assign(c=[1j, 2j]), first)
    assert first.read_bytes() == before and sorted(p.name for p in first.parent.iterdir()) == ["a.pmtiles", "d.pmtiles"]


def _folders(tmp_path: Path) -> list[int]:
    for i in (0, 1):
        (tmp_path / str(i)).mkdir()
    return [0, 1]


def test_a_map_is_an_export_and_no_output(tmp_path: Path) -> None:
    for refuse in (lambda path: write(footprints(1), path), check_output):
        with pytest.raises(ConfigError, match=r"geoseg export .* -o a\.pmtiles"):
            refuse(tmp_path / "a.pmtiles")


def test_the_command(tmp_path: Path, samples: Path) -> None:
    source = write(footprints(20), tmp_path / "a.gpkg")
    done = cli("export", source, "-o", tmp_path / "a.pmtiles")
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "a.pmtiles")
    archive = Archive(tmp_path / "a.pmtiles")
    assert archive.table(archive.high)["id"].nunique() == 20
    needless = cli("export", source, "-o", tmp_path / "b.pmtiles", "--raster", samples / "town.tif", "--masks", "rle")
    assert needless.exit_code == 2 and "--raster, --masks with a map" in needless.stderr
    for name in ("b.json", "b.mbtiles"):
        lacking = cli("export", source, "-o", tmp_path / name)
        assert lacking.exit_code == 2 and "without --raster" in lacking.stderr and ".pmtiles" in lacking.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gpkg", "a.pmtiles"]


def test_the_command_tells_of_a_file_without_a_crs_and_of_one_without_rows(tmp_path: Path) -> None:
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 3, 2)]).to_file(tmp_path / "nowhere.gpkg")
    done = cli("export", tmp_path / "nowhere.gpkg", "-o", tmp_path / "a.pmtiles")
    assert done.exit_code == 2 and "without a CRS for web maps" in done.output and "ogr2ogr -a_srs" in done.output
    empty = write(footprints(0), tmp_path / "empty.gpkg")
    done = cli("export", empty, "-o", tmp_path / "a.pmtiles")
    assert done.exit_code == 0 and "the map has no tiles" in done.output
    assert not Archive(tmp_path / "a.pmtiles").tiles(0)
