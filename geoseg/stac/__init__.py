"""STAC: scenes found in catalogues, and Items and Collections of what was produced."""

from geoseg.stac.products import Product, item_of
from geoseg.stac.scene import Scene
from geoseg.stac.search import search
from geoseg.stac.settings import StacSettings
from geoseg.stac.writing import CollectionNote, write_collection, write_item

__all__ = [
    "CollectionNote",
    "Product",
    "Scene",
    "StacSettings",
    "item_of",
    "search",
    "write_collection",
    "write_item",
]
