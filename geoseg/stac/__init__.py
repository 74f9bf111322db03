"""STAC: scenes found in catalogues, and Items and Collections of what was produced."""

from geoseg.stac.products import Product, item_of
from geoseg.stac.run import describe_run
from geoseg.stac.search import finder, search
from geoseg.stac.settings import StacSettings
from geoseg.stac.writing import CollectionNote, write_collection, write_item

__all__ = [
    "CollectionNote",
    "Product",
    "StacSettings",
    "describe_run",
    "finder",
    "item_of",
    "search",
    "write_collection",
    "write_item",
]
