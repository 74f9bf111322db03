"""One layer over overlapping scenes, in which each object is once: from the outputs of scenes to the layer.

``reading`` gives the outputs back, ``coverage`` says where scenes lie, ``spill`` deals footprints out over cells on
disk, ``overlaps`` holds the rule, ``uniting`` puts parts of one object together, ``layer`` writes; ``merging`` is where
they meet.
"""

from geoseg.archive.merge.merging import merge_scenes
from geoseg.archive.merge.reading import batches

__all__ = ["batches", "merge_scenes"]
