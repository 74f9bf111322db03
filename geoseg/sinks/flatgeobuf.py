"""FlatGeobuf: one indexed layer that a web map streams by bounding box."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd

from geoseg.errors import ConfigError
from geoseg.sinks import tables
from geoseg.sinks.output import Output, write_with_siblings


def write(output: Output) -> None:
    """Write the footprints with their spatial index; ``NAME.gaps.fgb`` and ``NAME.fgb.run.json`` beside it.

    Raises:
        ConfigError: a column that the format cannot hold, or polygons of which some have heights and some have none.
        SinkError: it cannot be written.
    """
    write_with_siblings(_write_layer, output)


def _write_layer(draft: Path, layer: str, table: tables.Table) -> None:
    if isinstance(table, gpd.GeoDataFrame) and tables.all_polygons(table) and len(tables.heights(table)) > 1:
        raise ConfigError(
            f"polygons for {layer} of which some have heights (3-D) and some have none",
            allowed="all of one kind in FlatGeobuf",
            remedy="Drop the heights with shapely.force_2d, or write another format",
        )
    tables.write_layer(
        table,
        draft,
        layer=layer,
        driver="FlatGeobuf",
        multi=True,
        # GDAL's writer cannot index a layer without rows, nor rows without a shape.
        layer_options={"SPATIAL_INDEX": "YES" if 0 < len(table) == tables.shape_count(table) else "NO"},
    )
