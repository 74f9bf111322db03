"""Whether a run would only make again what is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geoseg.config import Settings
    from geoseg.raster import RasterInfo


def unchanged(
    wanted: Sequence[Path | None],
    raster: RasterInfo,
    model: str,
    *,
    aoi: str | None,
    settings: Settings,
    store: str | None = None,
) -> bool:
    """True where the output, and its report if one is asked for, come from the very run that is asked for, no part of
    it is missing, and the store is there.

    The very run is: the same raster content, model card, digest of the weights, AOI, settings and version of geoseg.
    Of the weights only the header is read.

    Args:
        wanted: the output, and the report to be written or None.
        raster: the raster.
        model: as for ``load_model``.
        aoi: as for ``extract``.
        settings: of the run.
        store: where predictions are to be kept; None: nowhere.

    Raises:
        GeosegError: a raster, model, AOI or settings that cannot be used.
    """
    from geoseg.detectors import model_card, model_digest
    from geoseg.job import Job, Sketch
    from geoseg.sinks import written_run

    output, report = wanted
    assert output is not None
    found = written_run(output)
    if found.get("complete") != str(True):
        return False
    sketch = Sketch(card=model_card(model), digest=model_digest(model))
    job = Job.of(raster, sketch, aoi=aoi, tiling=None, settings=settings)
    if job.identity != found.get("run") or (report is not None and _run_of(report) != job.identity):
        return False
    kept = job.store(store)
    return kept is None or _keeps(kept, job.predictions_key)


def _run_of(report: Path) -> str | None:
    """The run that a report tells of; None where it is none."""
    try:
        run = json.loads(report.read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if isinstance(run, str) else None


def _keeps(store: str | Path, key: str) -> bool:
    """Whether the run's predictions are kept there."""
    from geoseg.errors import StoreError
    from geoseg.store import Store

    try:
        return Store.open(store).key == key
    except StoreError:
        return False
