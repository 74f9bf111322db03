"""Whether a run would only make again what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geoseg.config import Settings
    from geoseg.raster import RasterInfo


def unchanged(output: Path, raster: RasterInfo, model: str, *, aoi: str | None, settings: Settings) -> bool:
    """True where ``output`` has no part missing and comes from the very run that is asked for.

    That is: the same raster content, model card, digest of the weights, AOI, settings and version of geoseg. Of the
    weights only the header is read.

    Raises:
        GeosegError: a raster, model, AOI or settings that cannot be used.
    """
    from geoseg.detectors import model_card, model_digest
    from geoseg.job import Job, Sketch
    from geoseg.sinks import written_run

    found = written_run(output)
    if found.get("complete") != str(True):
        return False
    sketch = Sketch(card=model_card(model), digest=model_digest(model))
    job = Job.of(raster, sketch, aoi=aoi, tiling=None, settings=settings)
    return job.identity == found.get("run")
