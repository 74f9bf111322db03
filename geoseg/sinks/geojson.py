"""GeoJSON by RFC 7946, for small areas: longitude and latitude on WGS 84, 7 decimals (about 1 cm)."""

from __future__ import annotations

from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.sinks import tables
from geoseg.sinks.output import Output, write_with_siblings


def write(output: Output) -> None:
    """Write the footprints, cut in two at the antimeridian as RFC 7946 section 3.1.9 asks.

    Gaps and run lie beside it (``NAME.gaps.geojson``, ``NAME.geojson.run.json``).

    Raises:
        ConfigError: the table has no CRS, or a column that the format cannot hold.
        SinkError: it cannot be written.
    """
    if output.footprints.crs is None or (output.gaps is not None and output.gaps.crs is None):
        raise ConfigError(
            "a table without a CRS for GeoJSON",
            allowed="tables with a CRS, which are turned into longitude and latitude",
            remedy="Set it with footprints.set_crs(...)",
        )
    write_with_siblings(_write_layer, output)


def _write_layer(draft: Path, layer: str, table: tables.Table) -> None:
    # GDAL projects, cuts at 180 degrees, orders the rings and rounds, all by this one option.
    options = {"RFC7946": "YES", "COORDINATE_PRECISION": "7", "WRITE_BBOX": "YES", "ID_FIELD": "id"}
    if "id" not in tables.attributes(table):
        del options["ID_FIELD"]
    tables.write_layer(
        table,
        draft,
        layer=layer,
        driver="GeoJSON",
        multi=False,
        layer_options=options,
    )
