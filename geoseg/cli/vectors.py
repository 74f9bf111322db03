"""Reading vector files that a command is pointed at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import ConfigError

if TYPE_CHECKING:
    import geopandas as gpd


def read_footprints(path: Path) -> gpd.GeoDataFrame:
    """Any vector file as a table; of a GeoPackage the layer ``footprints``, or the first where there is none.

    Raises:
        ConfigError: no such file, or not a vector file.
    """
    import geopandas as gpd
    import pyogrio

    path = path.expanduser()
    if not path.is_file():
        raise ConfigError(f"no file at {path}", allowed="a vector file: GeoPackage, GeoParquet, GeoJSON, ...")
    with path.open("rb") as file:
        if file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            # XML may be an OGR VRT, which names other files and hosts to be read in its stead.
            raise ConfigError(f"{path}, which is XML", allowed="GeoPackage, GeoParquet, GeoJSON, FlatGeobuf, ...")
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            return gpd.read_parquet(path)
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise ValueError("it has no layer with geometries")
        return gpd.read_file(path, layer="footprints" if "footprints" in layers else layers[0])
    except (ValueError, OSError, pyogrio.errors.DataSourceError) as error:
        raise ConfigError(
            f"{path}, which cannot be read as vectors ({error})",
            allowed="GeoPackage, GeoParquet, GeoJSON, ...",
        ) from error
