"""FlatGeobuf: one indexed layer that a web map streams by bounding box."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio

from geoseg.sinks import tables


def write(
    footprints: gpd.GeoDataFrame,
    target: Path,
    *,
    gaps: gpd.GeoDataFrame | None = None,
    run: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write the footprints with their spatial index; ``NAME.gaps.fgb`` and ``NAME.run.json`` lie beside it.

    Raises:
        SinkError: it cannot be written.
    """
    return tables.write_with_siblings(_write_layer, footprints, target, gaps=gaps, run=run)


def _write_layer(draft: Path, layer: str, table: gpd.GeoDataFrame) -> None:
    pyogrio.write_dataframe(
        table,
        draft,
        layer=layer,
        driver="FlatGeobuf",
        geometry_type=tables.geometry_kind(table),
        promote_to_multi=True,
        # GDAL's writer cannot index a layer without rows.
        layer_options={"SPATIAL_INDEX": "YES" if len(table) else "NO"},
    )
