"""What every sink does to a table before writing it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyogrio
import shapely
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, GeometryError
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError as ProjCRSError
from pyproj.exceptions import ProjError

from geoseg.errors import ConfigError, SinkError
from geoseg.sinks.atomic import printable
from geoseg.sinks.colours import label_text
from geoseg.vectors import LONLAT, SET_CRS, reprojected

GDAL_ERRORS: tuple[type[Exception], ...] = (
    DataSourceError,
    DataLayerError,
    FeatureError,
    GeometryError,
    CRSError,
)
"""What pyogrio raises where GDAL cannot write."""

UNDATED = datetime(1970, 1, 1, tzinfo=UTC)
"""The date of an output whose run says no date: writing again must not change a byte."""

_POLYGONS = tuple(
    (struct.pack("<I", kind), struct.pack("<BII", 1, kind + 3, 1))
    for kind in (shapely.GeometryType.POLYGON, shapely.GeometryType.POLYGON + 1000)
)
"""Heads in WKB (OGC 06-103r4, 8.2): the type of a polygon; byte order, type and number of parts of a MultiPolygon.
Without heights, and with."""


class RowStream(Protocol):
    """Polygons that are not in memory together: footprints, in the schema of docs/outputs.md."""

    def __len__(self) -> int:
        """Rows."""

    @property
    def schema(self) -> pa.Schema:
        """The attributes in order, then ``geometry`` as WKB."""

    @property
    def crs(self) -> Any:
        """Of the geometry, as pyproj has it."""

    @property
    def labels(self) -> list[str]:
        """What is in the column ``label``, sorted."""

    @property
    def bounds(self) -> Any:
        """``(4,)`` around all of them, in the CRS; NaN where there are none."""

    def batches(self, size: int) -> Iterator[pa.Table]:
        """Tables of ``size`` rows (the last one of fewer), in order."""


Table: TypeAlias = gpd.GeoDataFrame | RowStream
"""What a sink writes."""
BATCH = 1024
"""Rows of a stream at a time. SQLite counts transactions in a file, one for each: another number is other bytes."""


def flat(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The table with a plain index and text for names; an index with a name becomes a column, as when geopandas writes.
    True, false and nulls in one column are that in every format: pandas makes objects of them where tables are put
    together, and GDAL text of those.

    Raises:
        ConfigError: two columns of the same name.
    """
    named = any(name is not None for name in table.index.names)
    plain = table.reset_index(allow_duplicates=True) if named else table.reset_index(drop=True)
    if not all(isinstance(name, str) for name in plain.columns):  # pivot tables and the like count theirs
        plain = plain.rename(columns=str).set_geometry(str(plain.geometry.name))
    if not plain.columns.is_unique:
        twice = str(plain.columns[plain.columns.duplicated()][0])
        raise ConfigError(f"a table with two columns named {twice!r}", allowed="columns of different names")
    objects = [name for name, kind in plain.dtypes.items() if pd.api.types.is_object_dtype(kind)]
    yes_or_no = [name for name in objects if pd.api.types.infer_dtype(plain[name]) == "boolean"]
    return plain.astype(dict.fromkeys(yes_or_no, "boolean"))


def attributes(table: Table) -> list[str]:
    """Names of all columns but the geometry."""
    if not isinstance(table, gpd.GeoDataFrame):
        return list(table.schema.names[:-1])
    return [str(column) for column in table.columns if column != table.geometry.name]


def texts(table: Table, column: str) -> list[str]:
    """The different values of a column as sorted text, as QGIS has it; nulls left out, none without such a column."""
    if not isinstance(table, gpd.GeoDataFrame):
        return table.labels if column == "label" else []
    if column not in table.columns:
        return []
    return sorted({label_text(value) for value in table[column].dropna()})


def all_polygons(table: gpd.GeoDataFrame) -> bool:
    """True where every geometry is a Polygon, a MultiPolygon or none: also where there are no rows."""
    kinds = {shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON, shapely.GeometryType.MISSING}
    found = set(shapely.get_type_id(table.geometry.to_numpy()).tolist())
    return found <= {int(kind) for kind in kinds}


def geometry_kind(table: Table) -> str | None:
    """``MultiPolygon`` for polygons, declared even with no rows, ``MultiPolygon Z`` where all have heights; None lets
    GDAL say for other geometries."""
    if not isinstance(table, gpd.GeoDataFrame):
        return "MultiPolygon"
    if not all_polygons(table):
        return None
    return "MultiPolygon Z" if heights(table) == {True} else "MultiPolygon"


def heights(table: gpd.GeoDataFrame) -> set[bool]:
    """Whether its geometries have heights: True, False, both or, with nothing but empty ones, neither."""
    shapes = table.geometry.to_numpy()
    return set(shapely.has_z(shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]).tolist())


def shape_count(table: Table) -> int:
    """Rows with a geometry that is not empty."""
    if not isinstance(table, gpd.GeoDataFrame):
        return len(table)
    return int((~(table.geometry.is_empty | table.geometry.isna())).sum())


def check_coordinates(table: gpd.GeoDataFrame) -> None:
    """Refuse shapes that a layer cannot hold, or that no program would find in it again.

    Raises:
        ConfigError: coordinates with NaN or infinity, or measures (M).
    """
    shapes = table.geometry.to_numpy()
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    odd = owner[~np.isfinite(xy).all(axis=1)]
    if len(odd) or shapely.has_m(shapes).any():
        row = odd[0] if len(odd) else np.argmax(shapely.has_m(shapes))
        what = "NaN or infinity among its coordinates" if len(odd) else "measures (M)"
        raise ConfigError(
            f"a table whose row {row} is a shape with {what}",
            allowed="finite x and y, and z if there is one",
            remedy="Leave such rows out, or make the shapes anew" if len(odd) else "Drop them with shapely.force_2d",
        )


def check_crs(crs: Any, what: str) -> None:
    """Refuse a table of which nothing leads to longitude and latitude on WGS 84.

    Raises:
        ConfigError: it has no CRS, or one of another planet or of no place at all.
    """
    if crs is None:
        raise ConfigError(
            f"a table without a CRS for {what}",
            allowed="tables with a CRS, which are turned into longitude and latitude",
            remedy=SET_CRS,
        )
    try:
        Transformer.from_crs(crs, LONLAT)
    except ProjError as error:
        raise ConfigError(
            f"a table in {crs.name} for {what}, from which nothing leads to {LONLAT.name}",
            allowed="a CRS that is tied to the earth's ellipsoid",
            remedy="Take another format, such as .gpkg, or set the true CRS",
        ) from error


def write_layer(table: Table, path: Path, *, multi: bool, **options: Any) -> None:
    """Have GDAL write a table, all at once or, of a stream, some rows at a time in one go.

    Args:
        table: the table.
        path: the file.
        multi: whether polygons are written as MultiPolygons of one.
        options: of ``pyogrio.write_dataframe`` and ``pyogrio.write_arrow`` alike.
    """
    kind, crs = geometry_kind(table), _crs_text(table.crs)
    if isinstance(table, gpd.GeoDataFrame):
        if crs is None or crs.startswith("EPSG:") or _wkt1(table.crs):
            pyogrio.write_dataframe(table, path, geometry_type=kind, promote_to_multi=multi, **options)
            return
        # pyogrio gives GDAL every other CRS as WKT 1.
        arrow = pa.table(table.to_arrow(index=False))
        columns = attributes(table)
        arrow = arrow.select([*columns, table.geometry.name]).rename_columns([*columns, "geometry"])
        schema, batches = arrow.schema, _promoting([arrow], multi=multi)
    else:
        schema, batches = table.schema, _promoting(table.batches(BATCH), multi=multi)
    raised: list[BaseException] = []
    reader = pa.RecordBatchReader.from_batches(schema, _noting(batches, raised))
    try:
        pyogrio.write_arrow(reader, path, geometry_name="geometry", geometry_type=kind, crs=crs, **options)
    except Exception as error:
        if raised:  # Ctrl-C, a part that cannot be read: between Arrow and GDAL it became "error accessing batch"
            raise raised[0] from error
        raise


def _noting(batches: Iterable[pa.RecordBatch], raised: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """The same batches; what ends them early goes into ``raised``, too."""
    try:
        yield from batches
    except GeneratorExit:  # GDAL itself has failed
        raise
    except BaseException as error:
        raised.append(error)
        raise


def _crs_text(crs: Any) -> str | None:
    """A pyproj CRS as GDAL takes it: by its code, else as WKT 1, which every reader knows, else (Equal Earth, rotated
    poles) as WKT 2."""
    if crs is None:
        return None
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else _wkt1(crs) or str(crs.to_wkt())


def _wkt1(crs: Any) -> str | None:
    try:
        return str(crs.to_wkt("WKT1_GDAL"))
    except ProjCRSError:
        return None


def _promoting(tables: Iterable[pa.Table], *, multi: bool) -> Iterator[pa.RecordBatch]:
    for batch in tables:
        if multi:
            batch = batch.set_column(batch.num_columns - 1, "geometry", _promoted(batch.column("geometry")))
        yield from batch.to_batches()


def _promoted(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """WKB (little-endian, as shapely writes it) with each polygon as a MultiPolygon of one: its head goes before."""
    for head, multi_of_one in _POLYGONS:
        single = pc.equal(pc.binary_slice(column, 1, 5), head)
        if pc.any(single).as_py():
            promoted = pc.binary_join_element_wise(multi_of_one, column, b"")
            column = promoted if pc.all(single).as_py() else pc.if_else(single, promoted, column)
    return column


def same_crs(gaps: gpd.GeoDataFrame, table: Table) -> gpd.GeoDataFrame:
    """The gaps in the CRS of the footprints."""
    if gaps.crs is None or table.crs is None or gaps.crs == table.crs:
        return gaps
    return reprojected(gaps, CRS(table.crs))


def run_items(run: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Provenance as pairs of text, in the order given: dates as ISO 8601 UTC, mappings and lists as JSON."""
    return [(printable(key), _as_text(value)) for key, value in run.items()]


def run_values(run: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance as JSON holds it: numbers, true and false, mappings and lists as such, dates as ISO 8601 UTC."""
    return {printable(key): _as_json(value) for key, value in run.items()}


def run_text(value: Any) -> str | None:
    """A value of :func:`run_values`, read back from JSON, as :func:`run_items` tells it."""
    return value if isinstance(value, str) else _as_text(value)


def run_date(run: Mapping[str, Any] | None) -> datetime:
    """When the run started, which dates its output; :data:`UNDATED` where it does not say.

    Raises:
        ConfigError: ``started`` is no date.
    """
    started = (run or {}).get("started")
    if started is None:
        return UNDATED
    try:
        date = started if isinstance(started, datetime) else datetime.fromisoformat(str(started))
    except ValueError as error:
        raise ConfigError(f"a run started at {started!r}", allowed="a datetime or ISO 8601 text") from error
    return _utc(date)


def read_count(path: Path, layer: str | None = None) -> int:
    """How many rows a reader that is not ours (pyogrio, as geopandas calls it) gets out of a layer."""
    _, ids, _, _ = pyogrio.raw.read(path, layer=layer, columns=[], read_geometry=False, return_fids=True)
    return len(ids)


def check_count(path: Path, *, expected: int) -> None:
    """Refuse an output from which a reader gets another number of rows than went in.

    Raises:
        SinkError: the numbers differ.
    """
    found = read_count(path)
    if found != expected:
        raise SinkError(f"{expected} rows were written but {found} are read back", remedy="Check the disk")


def check_shapes(path: Path, *, expected: int) -> None:
    """Refuse an output from which a reader gets fewer geometries with something in them than went in.

    Raises:
        SinkError: there are fewer.
    """
    found = 0
    with pyogrio.open_arrow(path, columns=[], batch_size=BATCH, use_pyarrow=True) as (meta, reader):
        for batch in reader:
            column = batch.column(meta["geometry_name"] or "wkb_geometry")
            shapes = shapely.from_wkb(column.to_numpy(zero_copy_only=False))
            found += int((~(shapely.is_missing(shapes) | shapely.is_empty(shapes))).sum())
    if found != expected:
        raise SinkError(
            f"{expected} shapes were written but {found} are read back", remedy="Take another format, such as .gpkg"
        )


def _utc(date: datetime) -> datetime:
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _as_text(value: Any) -> str | None:
    if value is None or value is pd.NaT:
        return None
    if isinstance(value, datetime):
        return _utc(value).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(_as_json(value))
    return printable(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {printable(key): _as_json(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _as_text(value)  # JSON has no word for NaN and infinity
