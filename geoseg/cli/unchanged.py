"""Whether a run would only make again what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geoseg.config import Settings


def unchanged(output: Path, raster: str, model: str, *, aoi: str | None, settings: Settings) -> bool:
    """True where ``output`` has no part missing and comes from the very run that is asked for.

    That is: the same raster content, model card, AOI, settings and version of geoseg. The network is not loaded:
    a weights file that was replaced since counts as another even if its card says otherwise.

    Raises:
        GeosegError: a raster, model, AOI or settings that cannot be used.
    """
    from geoseg.detectors import model_card
    from geoseg.job import Job, Sketch
    from geoseg.sinks import written_run

    found = written_run(output)
    if found.get("complete") != str(True):
        return False
    weights = Path(model).expanduser()
    if weights.is_file() and weights.stat().st_mtime > output.stat().st_mtime:
        return False
    job = Job.of(raster, Sketch(card=model_card(model)), aoi=aoi, tiling=None, settings=settings)
    return job.identity == found.get("run")
