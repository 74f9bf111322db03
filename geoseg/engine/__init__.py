"""The only door to dask: one function over many items, in this process or on a cluster."""

from geoseg.engine.flight import IN_FLIGHT
from geoseg.engine.mapping import Engine

__all__ = ["IN_FLIGHT", "Engine"]
