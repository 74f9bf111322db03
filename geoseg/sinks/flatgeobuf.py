"""FlatGeobuf: one indexed layer that a web map streams by bounding box."""

from __future__ import annotations

from pathlib import Path

from geoseg.sinks import tables
from geoseg.sinks.output import Output, write_with_siblings


def write(output: Output) -> None:
    """Write the footprints with their spatial index; ``NAME.gaps.fgb`` and ``NAME.fgb.run.json`` beside it.

    Raises:
        ConfigError: a column that the format cannot hold.
        SinkError: it cannot be written.
    """
    write_with_siblings(_write_layer, output)


def _write_layer(draft: Path, layer: str, table: tables.Table) -> None:
    tables.write_layer(
        table,
        draft,
        layer=layer,
        driver="FlatGeobuf",
        multi=True,
        # GDAL's writer cannot index a layer without rows.
        layer_options={"SPATIAL_INDEX": "YES" if len(table) else "NO"},
    )
