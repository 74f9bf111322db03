"""What a run keeps of what came out, and what tells runs apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from painted import Painted, write_raster

import geoseg.job
from geoseg import Settings
from geoseg.carrying import open_engine
from geoseg.errors import RasterError
from geoseg.gaps import Gap
from geoseg.job import Job, opened
from geoseg.outlines import Outlines
from geoseg.seams import Merged


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "a.tif", np.ones((120, 200), np.uint8))


def _job(raster: Any, settings: Settings | None = None) -> Job:
    return Job.of(raster, Painted(), aoi=None, tiling=None, settings=settings or Settings())


def _merged(shapes: Any) -> Merged:
    n = len(shapes)
    outlines = Outlines(
        geometry=np.array(shapes, dtype=object),
        scores=np.full(n, 0.9, np.float32),
        labels=np.zeros(n, np.int64),
        tiles=np.zeros((n, 2), np.int32),
    )
    return Merged(outlines=outlines, n_tiles=np.ones(n, np.int32), agreement=np.full(n, np.nan))


def test_objects_on_a_gap_of_many_parts_are_compared_with_the_near_ones_only(
    raster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(raster, Settings.model_validate({"shapes": {"resolve_overlaps": False}}))
    # Stripes of two pixels every five: no object lies on one part by half, some lie on several together.
    gap = Gap(geometry=shapely.MultiPolygon([shapely.box(x, 0, x + 2, 120) for x in range(0, 200, 5)]), reason="nodata")
    rng = np.random.default_rng(2)
    shapes = [shapely.box(x, y, x + w, y + 4) for x, y, w in rng.uniform((2, 2, 1), (180, 110, 9), (60, 3))]
    shapes += [shapely.box(5.5, 50, 12.5, 60), shapely.box(5, 70, 12, 75)]  # 3.5 of 7: kept; 4 of 7: dropped
    on_gap = [shape.intersection(gap.geometry).area / shape.area for shape in shapes]
    compared: list[int] = []
    intersection = shapely.intersection

    def watched(a: Any, b: Any) -> Any:
        compared.append(int(np.max(shapely.get_num_geometries(b), initial=0)))
        return intersection(a, b)

    monkeypatch.setattr(geoseg.job.shapely, "intersection", watched)
    found, _ = job.ground([gap]).footprints(_merged(shapes))
    assert compared and max(compared) == 1
    assert len(found) == sum(share <= 0.5 + 1e-12 for share in on_gap) < len(shapes)
    assert found["cut_by_edge"].sum() > 0


@pytest.mark.parametrize(("asked", "card", "told"), [(0.05, 0.5, True), (None, 0.05, True), (0.1, 0.05, False)])
def test_a_threshold_that_the_detector_never_goes_down_to_is_told(
    raster: Path, asked: float | None, card: float, told: bool
) -> None:
    from geoseg.detectors.maskrcnn import MaskRCNNDetector

    class Floored(Painted):
        floor = MaskRCNNDetector.floor

    settings = Settings.model_validate({"detect": {"score_threshold": asked}})
    for kind, expected in ((Floored, told), (Painted, False)):
        model = kind(card=replace(Painted.card, score_threshold=card))
        job = Job.of(raster, model, aoi=None, tiling=None, settings=settings)
        assert any("gives none below 0.1" in warning for warning in job.warnings) == expected


def test_a_crs_that_is_tied_to_no_ellipsoid_is_refused_before_any_work(tmp_path: Path) -> None:
    local = write_raster(tmp_path / "a.tif", np.zeros((50, 70), np.uint8), crs='LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(RasterError, match="tied to no ellipsoid"):
        _job(local)


def test_a_raster_that_is_open_is_not_opened_again(raster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = opened(raster, Settings().raster)
    monkeypatch.setattr(geoseg.job, "open_raster", None)
    assert _job(info).info is info


def test_a_cluster_is_waited_for_as_long_as_the_settings_say(raster: Path) -> None:
    settings = Settings.model_validate({"engine": {"workers": 1, "patience_s": 7.5}})
    job = Job.of(raster, Painted(), aoi=None, tiling=None, settings=settings)
    with open_engine(job) as engine:
        assert engine.patience_s == 7.5
