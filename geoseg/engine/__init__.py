"""The only door to dask: one function over many items, in this process or on a cluster."""

from geoseg.engine.mapping import IN_FLIGHT, Engine, map_blocks

__all__ = ["IN_FLIGHT", "Engine", "map_blocks"]
