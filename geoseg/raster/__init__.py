"""Reading rasters: what may be opened, how it is read for a model, and the chips themselves."""

from geoseg.raster.access import Access
from geoseg.raster.info import RasterInfo, open_raster
from geoseg.raster.reading import Reader, reader
from geoseg.raster.scaling import Scaling
from geoseg.raster.source import Source, model_grid, source_for, warnings_of

__all__ = [
    "Access",
    "RasterInfo",
    "Reader",
    "Scaling",
    "Source",
    "model_grid",
    "open_raster",
    "reader",
    "source_for",
    "warnings_of",
]
