"""A validation is quick and quiet also for a network that knows nothing yet."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import TINY

from geoseg.detectors import maskrcnn
from geoseg.detectors.canvas import _TOLD_FULL
from geoseg.errors import ConfigError
from geoseg.instances import Instances
from geoseg.training import read_train_config, train
from geoseg.training.loop import _Trainer
from geoseg.training.processes import Crew
from geoseg.training.sources import mix
from geoseg.training.validating import MOST, Validator


@pytest.mark.parametrize(("limit", "looked_at"), [(1000, MOST), (20, 20)])
def test_an_untrained_network_is_looked_at_for_its_best_and_not_called_full(
    limit: int, looked_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.toml"
    architecture = f"box_nms = 1.0\ndetections = {limit}"  # no box goes for another
    path.write_text(TINY.format(steps=1).replace("mask_head = [8]", f"mask_head = [8]\n{architecture}"))
    config = read_train_config(path)
    trainer = _Trainer(config, tmp_path / "x.safetensors", torch.device("cpu"), Crew(), lambda line: None)
    counts: list[int] = []
    given = maskrcnn._instances

    def counted(boxes: torch.Tensor, *rest: torch.Tensor) -> Instances:
        counts.append(len(boxes))
        assert (rest[0].diff() <= 0).all()  # by falling score: the best were taken
        return given(boxes, *rest)

    monkeypatch.setattr(maskrcnn, "_instances", counted)
    _TOLD_FULL.discard("tiny")
    with caplog.at_level(logging.WARNING, logger="geoseg"):
        validator = Validator(config, config.model.card(), torch.device("cpu"))
        for _ in range(2):
            looks = validator.look(trainer._saved, [mix(config).plain(0)])
    assert counts == [looked_at] * 2 and len(looks[0].pred) <= looked_at
    assert not caplog.records
    assert trainer._saved.roi_heads.detections_per_img == limit  # what is trained stays as it is


def test_a_validation_that_shows_no_object_is_refused(tmp_path: Path) -> None:
    """All its figures are 0: the weights of the first look were kept for good, however long the training went on."""
    Image.fromarray(np.full((120, 150, 3), 90, np.uint8)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": 120, "width": 150}]
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "annotations": []}))
    path = tmp_path / "t.toml"
    held_out = '[validation]\nchips = 3\n[[validation.sources]]\nkind = "coco"\nannotations = "c.json"\ngsd_m = 0.3\n'
    path.write_text(TINY.format(steps=1) + held_out)
    with pytest.raises(ConfigError, match=r"whose 3 chips show no object.*validation\.sources"):
        train(read_train_config(path), tmp_path / "x.safetensors", device="cpu", log=lambda line: None)
    assert not (tmp_path / "x.safetensors").exists()
