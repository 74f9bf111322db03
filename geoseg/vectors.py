"""Vector files of a few known kinds, read by their content and never by GDAL's guessing."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from numpy.typing import NDArray
from pyogrio.util import vsi_path
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from geoseg.bends import bending
from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.paths import expanded
from geoseg.polygons import valid
from geoseg.turns import beside, cut, turn

LONLAT = CRS.from_epsg(4326)
_JOINT_PX = 1e-6
"""Pixels to which parts that abut are rounded before they become one: what reprojection leaves between them."""
_HEAD = 64 * 1024  # more than GDAL looks at
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
POLYGONS, PLACES = ("Polygon",), ("Polygon", "Point")
"""Layers of a GeoPackage by what they hold: polygons, or also points where a place is all that is asked for."""
_MIXED = ("Unknown", "GeometryCollection")
"""Layers that may hold any of these."""
_ALLOWED = "a GeoJSON, GeoPackage, Shapefile, FlatGeobuf or GeoParquet file, or a folder that geoseg wrote"
PARTS, RUN_FILE = "part-*.parquet", "_run.json"
"""Files of a dataset: its rows, and the note of its run, which tells it from any other folder."""
_SHAPEFILE = (".shp", ".shx", ".dbf", ".prj", ".cpg")
SET_CRS = "Set it: of a file with ogr2ogr -a_srs EPSG:... new.gpkg <it>, of a table with set_crs(...)"
"""What to do about polygons without a CRS."""
_ALL_ROWS = {"use_arrow": True}
"""Of a GeoPackage, as a stream: else pyogrio reads as many rows as the file notes, and that is too few where two
programs have added to it at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shapes:
    """Geometries in their own CRS."""

    geometries: NDArray[Any]
    """``(n,)`` shapely geometries; may hold None."""
    crs: CRS
    """Theirs; x or longitude first."""
    what: str
    """What to call them in a message."""


def from_table(table: Any, what: str) -> Shapes:
    """Those of a GeoDataFrame or GeoSeries.

    Raises:
        ConfigError: it has no CRS, or no column of geometries that counts.
    """
    if not isinstance(table, geopandas.GeoSeries):
        check_table(table, what)
    if table.crs is None:
        raise ConfigError(
            f"{what} without a CRS",
            allowed="a CRS",
            remedy=SET_CRS,
        )
    geometries = np.asarray(table.geometry.array, object)
    return Shapes(geometries=geometries, crs=CRS.from_user_input(table.crs), what=what)


def check_table(table: Any, what: str) -> None:
    """Refuse what is no GeoDataFrame, or one whose geometry column was never set, or renamed.

    Raises:
        ConfigError: it is so.
    """
    if not isinstance(table, geopandas.GeoDataFrame):
        raise ConfigError(
            f"{what} of type {type(table).__name__}",
            allowed="a geopandas GeoDataFrame",
            remedy="Read a file first, e.g. with geopandas.read_file",
        )
    if not hasattr(table, "geometry"):
        raise ConfigError(
            f"{what} without an active geometry column",
            allowed="a GeoDataFrame with one",
            remedy="Say which it is with set_geometry(...), and rename one with rename_geometry(...)",
        )


def in_pixels(shapes: Shapes, grid: Grid) -> NDArray[Any]:
    """``(n,)`` geometries in the pixels of ``grid`` (x = column, y = row), 2-D, on its side of the antimeridian.

    Parts of one that was cut there become one again. None for one that lies where the grid's CRS has no place at all:
    far away, or metres that are said to be degrees.

    Raises:
        ConfigError: nothing leads from their CRS to the grid's, or not all of a shape.
    """
    middle_x, middle_y = grid.to_world(grid.height / 2, grid.width / 2)
    try:
        moved, cut = beside(shapes.geometries, shapes.crs, grid.crs, (float(middle_x), float(middle_y)))
    except ProjError as error:
        raise _unreached(shapes, grid, str(error)) from error
    xy, owner = shapely.get_coordinates(moved, return_index=True)
    placed = np.isfinite(xy).all(axis=1)
    lost = np.setdiff1d(owner[~placed], owner[placed])
    if np.isin(owner[~placed], lost, invert=True).any():
        raise _unreached(shapes, grid, "of one shape only a part does")
    moved[lost] = None
    pixels = grid.geometry_to_pixel(moved)
    for i in np.flatnonzero(cut):
        pixels[i] = shapely.union_all(shapely.make_valid(shapely.get_parts(pixels[i])), grid_size=_JOINT_PX)
    return pixels


def _unreached(shapes: Shapes, grid: Grid, why: str) -> ConfigError:
    return ConfigError(
        f"{shapes.what} in {shapes.crs.name}, which does not lead to {grid.crs.name} ({why[:200]})",
        allowed="shapes near the raster, in the CRS that they are said to be in",
        remedy="State their true CRS, or leave out what reaches far away",
    )


def reprojected(table: geopandas.GeoDataFrame, crs: CRS) -> geopandas.GeoDataFrame:
    """A table of polygons in another CRS. One that reaches round to the other end of it (degrees, Mercator) is cut at
    180 degrees into a MultiPolygon: else it would lie around the earth. One that moving its vertices alone would make
    invalid (a hole that touches a wall between two of them) is repaired. Long edges that the other CRS bends
    get vertices (:func:`geoseg.bends.bending`)."""
    if table.crs == crs:
        return table.to_crs(crs)
    fine = bending(table.geometry.to_numpy(), CRS(table.crs), crs)
    table = table.set_geometry(geopandas.GeoSeries(fine, table.index, table.crs))
    moved = table.to_crs(crs)
    west, _, east, _ = moved.geometry.bounds.to_numpy().T
    geod = crs.get_geod()
    radius = geod.a / crs.axis_info[0].unit_conversion_factor if geod else np.inf
    around = east - west > (turn(crs) / 2 or radius)
    if whole := turn(CRS(table.crs)):  # longitudes from 10 to 350 may come out as those of -10 to 10
        parts, owner = shapely.get_parts(table.geometry.to_numpy(), return_index=True)
        first, _, last, _ = shapely.bounds(parts).T
        around[owner[last - first > whole / 2]] = True
    wide = np.flatnonzero(around)
    shapes = moved.geometry.to_numpy().copy()
    for i in wide:
        shapes[i] = cut(table.geometry.iloc[i], CRS(table.crs), crs) or shapes[i]
    broken = np.flatnonzero(~shapely.is_valid(shapes) & np.isfinite(shapely.bounds(shapes)).all(axis=1))
    if not len(wide) and not len(broken):
        return moved
    shapes[broken] = shapely.orient_polygons(valid(shapes[broken]))
    return moved.set_geometry(geopandas.GeoSeries(shapes, moved.index, moved.crs))


def read_shapes(path: str | Path, kind: str = "vector", *, forms: Sequence[str] = POLYGONS) -> Shapes:
    """The geometries of :func:`read_table`; the same arguments and errors.

    Raises:
        ConfigError: also where it has no CRS.
    """
    return from_table(read_table(path, kind, forms=forms), _what(path, kind))


def read_table(path: str | Path, kind: str = "vector", *, forms: Sequence[str] = POLYGONS) -> geopandas.GeoDataFrame:
    """A vector file, told by its first bytes; text that names other files (an OGR VRT) is never opened.

    Of a GeoPackage the layer ``footprints``, or else its one layer of polygons; of a dataset all files.

    Args:
        path: a local file, or the folder of a dataset.
        kind: what to call it in messages: ``the {kind} file ...``.
        forms: which layers of a GeoPackage are looked at, :data:`POLYGONS` or :data:`PLACES`.

    Raises:
        ConfigError: absent, of another kind, broken, or with several layers to choose from.
    """
    what, path = _what(path, kind), _absolute(path)
    if parts := sorted(Path(path).glob(PARTS)):
        return _dataset(parts, what)
    head = _head(path, what)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return _geojson(path, what)
    if head.startswith(b"PAR1"):
        return _opened(geopandas.read_parquet, path, what)
    driver = _driver(head)
    if driver:
        options = {"layer": _layer(path, what, forms), **_ALL_ROWS} if driver == "GPKG" else {}
        return _opened(geopandas.read_file, path, what, **options)
    found = "an empty file" if not head else "XML" if head.lstrip().startswith(b"<") else "of another kind"
    remedy = "Convert it, e.g. ogr2ogr new.gpkg <it>"
    if head.startswith(_TIFF):
        found, remedy = "a raster", "Draw or give polygons; gdaltindex new.gpkg <it> makes one of a raster's extent"
    raise ConfigError(f"{what}, which is {found}", allowed=_ALLOWED, remedy=remedy)


def read_layer(path: str | Path, layer: str, kind: str = "vector") -> geopandas.GeoDataFrame | None:
    """A layer of a GeoPackage by its name; None where the file has none of that name with geometries.

    Raises:
        ConfigError: the file is absent or broken.
    """
    what, path = _what(path, kind), _absolute(path)
    if _driver(_head(path, what)) != "GPKG" or not any(name == layer and form for name, form in _layers(path, what)):
        return None
    return _opened(geopandas.read_file, path, what, layer=layer, **_ALL_ROWS)


def read_gaps(path: str | Path) -> geopandas.GeoDataFrame | None:
    """The gaps that were written with an output, in it or beside it; None where there are none of polygons.

    Raises:
        ConfigError: they cannot be read.
    """
    output = Path(_absolute(path))
    if output.suffix.lower() == ".gpkg":
        table = read_layer(output, "gaps", "footprints")
    else:
        inside = output / "_gaps" / "gaps.parquet"
        beside = inside if output.is_dir() else output.with_name(f"{output.stem}.gaps{output.suffix}")
        if not beside.is_file():
            return None
        table = read_table(beside, "gaps")
    return table if table is not None and len(table) and "reason" in table else None


@contextmanager
def gdal_name(path: str | Path) -> Iterator[str]:
    """A name by which pyogrio and GDAL open the file at an absolute ``path`` and no other: its own, or that of a link.

    pyogrio takes a path for an address: it opens what follows a ``!``, drops a ``;`` and what follows, line breaks,
    and what stands between two leading slashes and a third. GDAL takes names in UTF-8 alone.
    """
    path = os.fspath(path)
    if vsi_path(path) == path and path.isprintable():
        yield path
        return
    stem, suffix = os.path.splitext(path)
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        name = os.path.join(folder, "file")
        for beside in {suffix, *(ending.upper() if suffix.isupper() else ending for ending in _SHAPEFILE)}:
            if beside[1:].isalnum() and os.path.isfile(stem + beside):
                os.symlink(stem + beside, name + beside)
        if not suffix[1:].isalnum():
            suffix = ""
            os.symlink(path, name)
        yield name + suffix


def _dataset(parts: list[Path], what: str) -> geopandas.GeoDataFrame:
    """All files of a folder that geoseg wrote, of which it noted how many there are."""
    tables = [_opened(geopandas.read_parquet, str(part), what) for part in parts]
    try:
        noted = int(json.loads((parts[0].parent / RUN_FILE).read_text(encoding="utf-8")).get("parts") or 0)
    except (OSError, ValueError, AttributeError):
        noted = 0
    if len(parts) < noted or any(table.crs != tables[0].crs for table in tables):
        state = f"{len(parts)} of its {noted} files" if len(parts) < noted else "files of several CRSs"
        raise ConfigError(
            f"{what}, which has {state}", allowed="the folder as geoseg wrote it", remedy="Write it again"
        )
    return pandas.concat(tables, ignore_index=True)


def _head(path: str, what: str) -> bytes:
    if not os.path.isfile(path):
        state = "is a folder" if os.path.isdir(path) else "does not exist"
        raise ConfigError(f"{what}, which {state}", allowed=_ALLOWED)
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _driver(head: bytes) -> str | None:
    """The GDAL driver of a file that starts so; None where it has none that is let in."""
    # GDAL looks for a VRT's first tag wherever in the head of a file, and opens what it names.
    if b"<OGRVRTDataSource" in head:
        return None
    if head.startswith(b"SQLite format 3\0") and head[68:72] in (b"GPKG", b"GP10", b"GP11"):
        return "GPKG"
    if head.startswith(b"fgb\x03"):
        return "FlatGeobuf"
    return "ESRI Shapefile" if head.startswith(b"\x00\x00\x27\x0a") else None


def _absolute(path: str | Path) -> str:
    return os.path.abspath(expanded(path))


def _what(path: str | Path, kind: str) -> str:
    return f"the {kind} file {_absolute(path)}"


def _opened(read: Any, path: str, what: str, **options: Any) -> Any:
    """A table read by geopandas, whose many kinds of error become one."""
    try:
        with gdal_name(path) as name:
            table = read(name, **options)
    except Exception as error:
        raise ConfigError(f"{what}, which cannot be read ({str(error)[:200]})", allowed=_ALLOWED) from error
    if not isinstance(table, geopandas.GeoDataFrame):
        raise ConfigError(f"{what} without geometries", allowed=_ALLOWED)
    return table


def _layer(path: str, what: str, forms: Sequence[str]) -> str:
    """The layer of a GeoPackage that is meant."""
    layers = _layers(path, what)
    if "footprints" in (name for name, _ in layers):
        return "footprints"
    names = [str(name) for name, kind in layers if kind and any(form in kind for form in (*forms, *_MIXED))]
    sought = " or ".join(f"{form.lower()}s" for form in forms)
    if not names:
        raise ConfigError(f"{what} without {sought}", allowed=f"one layer of {sought}, or one named footprints")
    if len(names) > 1:
        raise ConfigError(
            f"{what} with {len(names)} layers of {sought} ({', '.join(names[:5])})",
            allowed="one layer, or one named footprints",
            remedy="Save the layer you mean to a file of its own",
        )
    return names[0]


def _layers(path: str, what: str) -> list[tuple[Any, Any]]:
    """Names and kinds of geometry; a table without geometries has none."""
    try:
        with gdal_name(path) as name:
            table = geopandas.list_layers(name)
    except Exception as error:
        raise ConfigError(f"{what}, which cannot be read ({str(error)[:200]})", allowed=_ALLOWED) from error
    # None is NaN in a column of text as pandas 3 has it.
    kinds = [kind if isinstance(kind, str) else None for kind in table["geometry_type"]]
    return list(zip(table["name"], kinds, strict=True))


def _geojson(path: str, what: str) -> geopandas.GeoDataFrame:
    """GeoJSON by the JSON parser alone; the old ``crs`` member is honoured."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        crs = _geojson_crs(content)
        features = list(_features(content))
        shapes = [feature["geometry"] for feature in features]
        parts = [None if shape is None else json.dumps(shape) for shape in shapes]
        geometries = shapely.from_geojson(parts) if parts else np.zeros(0, object)
        rows = pandas.DataFrame([_properties(feature) for feature in features], index=range(len(features)))
    except (ValueError, TypeError, KeyError, RecursionError, CRSError, shapely.errors.ShapelyError) as error:
        raise ConfigError(f"{what}, which is not sound GeoJSON ({str(error)[:200]})", allowed=_ALLOWED) from error
    return geopandas.GeoDataFrame(rows, geometry=geometries, crs=crs)


def _geojson_crs(content: dict[str, Any]) -> CRS:
    declared = content.get("crs")
    if not declared:
        return LONLAT
    crs = CRS.from_user_input(str(declared["properties"]["name"]))
    return LONLAT if crs.is_geographic and crs.name.startswith("WGS 84") else crs


def _features(content: Any) -> Iterator[dict[str, Any]]:
    """Every feature; a geometry alone is one without properties."""
    kind = content["type"]
    if kind == "FeatureCollection":
        for feature in content["features"]:
            yield from _features(feature)
    elif kind == "Feature":
        yield content
    else:
        yield {"geometry": content}


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    """A feature's attributes; its ``id`` is one where no property has that name."""
    named = {} if feature.get("id") is None else {"id": feature["id"]}
    properties = {**named, **(feature.get("properties") or {})}
    return {name: value for name, value in properties.items() if name != "geometry"}
