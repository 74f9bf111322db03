"""The merge at tile seams: many tiles' outlines in, each object once out."""

from geoseg.seams.merging import Merged, heard, merge, split

__all__ = ["Merged", "heard", "merge", "split"]
