"""The merge at tile seams: many tiles' outlines in, each object once out."""

from geoseg.seams.merging import Merged, merge, split

__all__ = ["Merged", "merge", "split"]
