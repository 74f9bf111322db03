"""Whether a run would only make again what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.cli.console import log

if TYPE_CHECKING:
    from geoseg.config import Settings
    from geoseg.job import Job
    from geoseg.raster import RasterInfo


def sketched(raster: RasterInfo, model: str, *, aoi: str | None, settings: Settings) -> Job:
    """The run that is asked for, without the network: of the weights only the header is read.

    Args:
        raster: the raster.
        model: as for ``load_model``.
        aoi: as for ``extract``.
        settings: of the run.

    Raises:
        GeosegError: a raster, model, AOI or settings that cannot be used.
    """
    from geoseg.detectors import model_card, model_digest
    from geoseg.job import Job, Sketch

    sketch = Sketch(card=model_card(model), digest=model_digest(model))
    return Job.of(raster, sketch, aoi=aoi, tiling=None, settings=settings)


def unchanged(job: Job, output: Path, *, store: str | None = None) -> bool:
    """True where the output comes from the very run that is asked for, no part of it is missing, and the store is
    there. The log says so then.

    The very run is: the same raster content, model card, digest of the weights, AOI, settings and version of geoseg.

    Args:
        job: the run.
        output: to be written.
        store: where predictions are to be kept; None: nowhere.
    """
    from geoseg.sinks import written_run

    found = written_run(output)
    if found.get("complete") != str(True) or found.get("run") != job.identity:
        return False
    kept = job.store(store)
    if kept is not None and not _keeps(kept, job.predictions_key):
        return False
    fields = {"output": str(output), "footprints": int(found.get("footprints") or 0), "exit_code": 0, "unchanged": True}
    log.info("%s: unchanged, whole and of this very run: --again makes it anew", output, extra={"fields": fields})
    return True


def _keeps(store: str | Path, key: str) -> bool:
    """Whether the run's predictions are kept there."""
    from geoseg.errors import StoreError
    from geoseg.store import Store

    try:
        return Store.open(store).key == key
    except StoreError:
        return False
