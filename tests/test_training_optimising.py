"""What a step does with its settings: learning rate, weight decay, weights of the losses."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import TINY

from geoseg.detectors.weights import read_weights, save_weights
from geoseg.errors import ConfigError
from geoseg.training import read_train_config
from geoseg.training.chips import Example
from geoseg.training.config import Schedule
from geoseg.training.loop import _Trainer, train
from geoseg.training.norms import fix_norms
from geoseg.training.optimising import averaging, learning_rate
from geoseg.training.processes import Crew
from geoseg.training.sources import mix


def trainer(folder: Path, more: str = "", loss: str = "", *, start: str = "") -> tuple[_Trainer, list[Example]]:
    """A training of one step, and the chips of a batch that shows objects."""
    path = folder / "t.toml"
    text = TINY.format(steps=1).replace("chip = 96", f"chip = 64\n{more}")
    path.write_text(text.replace("[model]", f'[model]\nstart = "{start}"') + loss)
    config = read_train_config(path)
    source = mix(config)
    drawn = (source.draw(i) for i in range(100))
    batch = list(islice((example for example in drawn if len(example.target["boxes"]) > 1), 2))
    return _Trainer(config, folder / "x.safetensors", torch.device("cpu"), Crew(), lambda line: None), batch


@pytest.mark.parametrize(
    ("step", "share", "of_the_highest"),
    [
        (0, 0.0, 1 / 10),  # the first of ten steps of warm-up
        (4, 0.0, 5 / 10),
        (9, 0.0, 1.0),
        (50, 0.25, 0.5 + 0.5**1.5),  # cos(pi / 4) is the root of 1/2
        (50, 0.5, 0.5),
        (4, 0.5, 0.25),  # little was done, and half of the time is gone
        (99, 1.0, 0.0),
        (99, 1.5, 0.0),
    ],
)
def test_the_learning_rate_warms_up_and_falls_to_zero(step: int, share: float, of_the_highest: float) -> None:
    schedule = Schedule(steps=100, learning_rate=0.02, warmup=10)
    assert learning_rate(schedule, step, share) == pytest.approx(0.02 * of_the_highest, abs=1e-12)


def test_a_step_takes_the_learning_rate_of_its_share_and_decays_matrices_alone(tmp_path: Path) -> None:
    trained, batch = trainer(tmp_path, "learning_rate = 0.004\nweight_decay = 0.3")
    trained._step([batch], 0.75)
    groups = trained.trained.optimiser.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.004 * (0.5 - 0.5**1.5)] * 2)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    parameters = dict(trained.trained.net.named_parameters())
    assert len(decays) == len(parameters)
    assert all(decays[id(p)] == (0.3 if p.ndim > 1 else 0.0) for p in parameters.values())
    assert {p.ndim for p in parameters.values()} >= {1, 2, 4}


def test_fixed_norms_keep_the_statistics_of_the_start_and_learn_the_rest(tmp_path: Path) -> None:
    start, _ = trainer(tmp_path)
    norms = [m for m in start.trained.net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for number, norm in enumerate(norms):
        norm.running_mean.fill_(0.01 * number)  # type: ignore[union-attr]
        norm.running_var.fill_(1.5)  # type: ignore[union-attr]
    save_weights(start.trained.net, start.config.model.card(), tmp_path / "start.safetensors")

    def after(norm: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """State before and after two steps and one without objects between them."""
        trained, batch = trainer(tmp_path, f"norm = '{norm}'", start="start.safetensors")
        before = {name: value.clone() for name, value in trained.trained.net.state_dict().items()}
        empty = [
            replace(each, target={k: v[:0] if k != "ignore" else v for k, v in each.target.items()}) for each in batch
        ]
        for some in (batch, empty, batch):
            trained._step([some], 0.0)
        saved = trained.trained.average.state_dict()
        assert saved.keys() == before.keys()
        return before, trained.trained.net.state_dict()

    def statistics(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value for name, value in state.items() if "running" in name}

    before, fixed = after("fixed")
    assert len(statistics(fixed)) == 2 * len(norms)
    assert all(torch.equal(value, before[name]) for name, value in statistics(fixed).items())
    learnt = {name for name in fixed if not torch.equal(fixed[name], before[name])}
    assert {name for name in fixed if name.endswith("bn1.weight")} <= learnt
    before, moving = after("batch")
    assert all(not torch.equal(value, before[name]) for name, value in statistics(moving).items())


def test_norms_are_fixed_where_and_as_they_are() -> None:
    """On a GPU, where nothing may come from the CPU; here told by another type of numbers."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4, eps=0.3)).double().train()
    tensors = {name: value.data_ptr() for name, value in net.state_dict().items()}
    fix_norms(net)
    assert {name: value.data_ptr() for name, value in net.state_dict().items()} == tensors
    net.train()
    assert net.training and not net[1].training and net[1].eps == 0.3
    net(torch.randn(2, 3, 5, 7, dtype=torch.float64))
    assert (net[1].running_mean == 0).all()


def test_fixed_norms_need_a_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="norm"):
        trainer(tmp_path, "norm = 'fixed'")


def test_a_share_of_the_start_is_saved_and_judged_and_the_training_knows_nothing_of_it(tmp_path: Path) -> None:
    first, _ = trainer(tmp_path)
    save_weights(first.trained.net, first.config.model.card(), tmp_path / "start.safetensors")
    saved, settings = {}, set()
    for share in (0.0, 0.25, 1.0):
        with_share = f"norm = 'fixed'\nlearning_rate = 0.01\nfrom_start = {share}"
        trained, batch = trainer(tmp_path, with_share, start="start.safetensors")
        settings.add(trained.settings)
        trained._step([batch], 0.0)
        trained._write_weights()
        saved[share], _ = read_weights(trained.target)
        judged = trained._saved.state_dict()
        assert all(
            torch.allclose(value.float(), judged[name].float(), atol=2e-3) for name, value in saved[share].items()
        )
    start, _ = read_weights(tmp_path / "start.safetensors")
    assert len(settings) == 1 and any((saved[0.0][name] != start[name]).any() for name in start)
    for name, value in start.items():
        between = 0.75 * saved[0.0][name].float() + 0.25 * value.float()
        assert torch.allclose(saved[0.25][name].float(), between, atol=2e-3)
        assert torch.allclose(saved[1.0][name].float(), value.float(), atol=2e-3)


def test_a_share_of_the_start_needs_its_statistics(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from_start only with norm"):
        trainer(tmp_path, "from_start = 0.5", start="buildings")


def test_the_gradient_follows_the_weights_of_the_loss(tmp_path: Path) -> None:
    none = dict.fromkeys(("objectness", "rpn_box", "classifier", "box", "mask"), 0.0)

    def gradient(**weights: float) -> dict[str, torch.Tensor]:
        """Of each part of the network; small, so that it is not clipped."""
        table = "\n[loss]\n" + "\n".join(f"{name} = {value}" for name, value in (none | weights).items())
        trained, batch = trainer(tmp_path, loss=table)
        trained._step([batch], 0.0)
        found = {n: p.grad for n, p in trained.trained.net.named_parameters() if p.grad is not None}
        assert torch.stack([g.square().sum() for g in found.values()]).sum().sqrt() < 9
        return found

    heads = {
        "objectness": "rpn.head.cls_logits.weight",
        "rpn_box": "rpn.head.bbox_pred.weight",
        "classifier": "roi_heads.box_predictor.cls_score.weight",
        "box": "roi_heads.box_predictor.bbox_pred.weight",
        "mask": "roi_heads.mask_predictor.mask_fcn_logits.weight",
    }
    # Powers of two: bfloat16 rounds the same then.
    one, other = (gradient(**{name: k * 2.0**i for i, name in enumerate(heads)}) for k in (2.0**-12, 2.0**-10))
    for name in heads.values():
        assert one[name].abs().max() > 0
        torch.testing.assert_close(other[name], 4 * one[name], rtol=1e-3, atol=1e-9)
    alone = gradient(mask=2.0**-12)
    assert [name for name in heads if alone[heads[name]].any()] == ["mask"]
    torch.testing.assert_close(one[heads["mask"]], 16 * alone[heads["mask"]], rtol=1e-3, atol=1e-9)


def test_the_average_remembers_longer_as_it_goes_on() -> None:
    average, old = averaging(0.9), torch.zeros(1)
    for count, kept in ((0, 1 / 10), (8, 9 / 18), (1000, 0.9)):
        old.zero_()
        average([old], [torch.ones(1)], count)
        assert float(old) == pytest.approx(1 - kept)
    whole = torch.zeros(1, dtype=torch.int64)
    average([whole], [torch.tensor([7])], 5)
    assert np.array_equal(whole.numpy(), [7])


def test_of_weights_that_are_mixed_in_no_file_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written at each checkpoint, they would be what the next call takes for the start: also by a model's name."""
    first, _ = trainer(tmp_path)
    home = tmp_path / "models"
    home.mkdir()
    save_weights(first.trained.net, first.config.model.card(), home / "mine.safetensors")
    monkeypatch.setenv("GEOSEG_MODELS", str(home))
    before = (home / "mine.safetensors").read_bytes()
    path = tmp_path / "t.toml"
    for share, refused in ((0.5, True), (0.0, False)):
        text = TINY.format(steps=1).replace("chip = 96", f"chip = 64\nnorm = 'fixed'\nfrom_start = {share}")
        path.write_text(text.replace("[model]", '[model]\nstart = "mine"'))
        with pytest.raises(ConfigError, match="named twice") if refused else nullcontext():
            train(read_train_config(path), home / "mine.safetensors", device="cpu")
        assert refused == ((home / "mine.safetensors").read_bytes() == before)
