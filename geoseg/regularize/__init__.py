"""Shapes that analysts accept: right-angled buildings, ship hulls, ground that belongs to one footprint."""

from geoseg.regularize.buildings import regularize_buildings
from geoseg.regularize.ground import resolve_overlaps
from geoseg.regularize.hulls import Hulls, fit_hulls

__all__ = ["Hulls", "fit_hulls", "regularize_buildings", "resolve_overlaps"]
