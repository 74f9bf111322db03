"""Predictions kept per block, so that everything after the detector can be done again without it. The door to zarr."""

from geoseg.store.store import Store

__all__ = ["Store"]
