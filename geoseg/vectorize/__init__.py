"""Instances to outlines: mask crops become polygons in grid pixels, all instances of a batch at once."""

from geoseg.vectorize.outline import vectorize

__all__ = ["vectorize"]
