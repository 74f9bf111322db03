"""The work folder of a run: what its blocks came to, on disk, until the output stands."""

from geoseg.work.folder import Parts, WorkFolder
from geoseg.work.parts import Part
from geoseg.work.stream import Rows, Stream

__all__ = ["Part", "Parts", "Rows", "Stream", "WorkFolder"]
