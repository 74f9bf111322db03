"""Rows on their way to one file: on disk, for what is written needs to know of all of them before the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely
from pyproj import CRS

from geoseg.footprints import COLUMNS

_KINDS = {
    "str": pa.string(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "datetime64[ms, UTC]": pa.timestamp("ms", tz="UTC"),
}
SCHEMA = pa.schema([*((name, _KINDS[kind]) for name, kind in COLUMNS.items()), ("geometry", pa.binary())])
"""Footprints as Arrow has them, the geometry as WKB."""


class Spool:
    """Footprints in a file, as :func:`geoseg.sinks.write_stream` takes them."""

    def __init__(self, path: Path, tables: Iterable[gpd.GeoDataFrame], crs: CRS) -> None:
        """Write all rows of ``tables``, which are in ``crs``, to ``path``."""
        self.schema, self.crs = SCHEMA, crs
        self._path, self._count, self._labels = path, 0, set[str]()
        self._bounds = np.full((1, 4), np.nan)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            for table in tables:
                if len(table):
                    self._note(table)
                    writer.write_table(as_arrow(table))

    def _note(self, table: gpd.GeoDataFrame) -> None:
        self._count += len(table)
        self._labels |= set(table["label"].dropna())
        both = np.vstack([self._bounds, table.total_bounds])
        self._bounds = np.hstack([np.fmin.reduce(both[:, :2]), np.fmax.reduce(both[:, 2:])])[None]

    def __len__(self) -> int:
        return self._count

    @property
    def labels(self) -> list[str]:
        """What is in the column ``label``, sorted."""
        return sorted(self._labels)

    @property
    def bounds(self) -> Any:
        """``(4,)`` around all rows; NaN where there are none."""
        return self._bounds[0]

    def batches(self, size: int) -> Iterator[pa.Table]:
        """Tables of ``size`` rows, out of the file as they are asked for."""
        with pa.memory_map(str(self._path)) as file:
            rows = pa.ipc.open_file(file).read_all()
            for start in range(0, rows.num_rows, size):
                yield rows.slice(start, size)


def as_arrow(table: gpd.GeoDataFrame) -> pa.Table:
    """Footprints in :data:`SCHEMA`."""
    columns = [pa.Array.from_pandas(table[field.name], type=field.type) for field in SCHEMA if field.name in COLUMNS]
    shapes = pa.array(shapely.to_wkb(table.geometry.to_numpy(), flavor="iso"), type=pa.binary())
    return pa.Table.from_arrays([*columns, shapes], schema=SCHEMA)
