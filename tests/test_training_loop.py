"""A training learns, goes on where it stopped to the last bit, and shares its work between processes."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from PIL import Image
from safetensors.torch import load_file
from test_training import TINY

from geoseg.detectors import load_model
from geoseg.detectors.cards import model_card
from geoseg.detectors.network import build
from geoseg.errors import ConfigError, GeosegError, RasterError, ResourceError, SinkError
from geoseg.sinks.atomic import replacing
from geoseg.training import read_train_config, train
from geoseg.training.checkpoint import State, Trained, load_checkpoint, save_checkpoint
from geoseg.training.config import TrainConfig
from geoseg.training.journal import Journal, read_rows
from geoseg.training.labelled import Labelled
from geoseg.training.loop import _Trainer
from geoseg.training.page import page
from geoseg.training.pixels import Held
from geoseg.training.pools import Pool
from geoseg.training.processes import Crew
from geoseg.training.sources import mix
from geoseg.training.sparing import Losses, _integral, share_in
from geoseg.training.validating import Validated, Validator, judged


def blocks(seed: int, height: int = 160, width: int = 224) -> Labelled:
    """Bright rectangles on dark ground."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(20, 60, (3, height, width)).astype(np.uint8)
    polygons = []
    for row in range(12, height - 40, 48):
        for col in range(12, width - 44, 56):
            h, w = rng.integers(18, 30, 2)
            pixels[:, row : row + h, col : col + w] = rng.integers(170, 240, 3)[:, None, None]
            polygons.append(shapely.box(col, row, col + w, row + h))
    return Labelled(
        pixels=Held(values=torch.from_numpy(pixels)),
        polygons=np.array(polygons, dtype=object),
        labels=np.ones(len(polygons), np.int64),
        gsd_m=0.3,
    )


def tiny(folder: Path, steps: int, *, more: str = "") -> Path:
    path = folder / f"tiny_{steps}.toml"
    path.write_text(TINY.format(steps=steps).replace("chip = 96", f"chip = 64\n{more}"))
    return path


def test_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    fixed = "minutes = 1e6\nema = 0.9\naccumulate = 2"
    config = read_train_config(tiny(tmp_path, 5, more=fixed))
    train(config, tmp_path / "whole.safetensors", device="cpu", log=lambda line: None)
    lines: list[str] = []
    target = tmp_path / "a" / "pieces.safetensors"

    def go_on(stop_after_min: float | None = None) -> None:
        lines.clear()
        train(config, target, device="cpu", log=lines.append, stop_after_min=stop_after_min)

    # The first piece is as short as can be; the second is interrupted between the two halves of its step; the third is
    # cut by a crash after the checkpoint of step 4.
    go_on(stop_after_min=0)
    assert "stopped at step 1," in lines[-1] and "run the same command again" in lines[-1] and target.exists()
    target.unlink()  # the checkpoint is all that is carried
    with pytest.raises(KeyboardInterrupt), _at(2, "_parts", lambda: os.kill(os.getpid(), signal.SIGINT)):
        go_on()
    assert lines[0] == "going on from step 1" and "stopped at step 2," in lines[-1]
    with pytest.raises(RuntimeError, match="crash"), _at(5, "_step", _crash):
        go_on()
    assert lines[0] == "going on from step 2"
    go_on()
    assert lines[0] == "going on from step 4"
    once, pieces = (load_file(f"{path}.checkpoint") for path in (tmp_path / "whole.safetensors", target))
    assert once.keys() == pieces.keys() and any(name.startswith("exp_avg_sq.") for name in once)
    assert all(torch.equal(once[name], pieces[name]) for name in once)
    assert (tmp_path / "whole.safetensors").read_bytes() == target.read_bytes()


def _crash() -> None:
    raise RuntimeError("crash")


@contextmanager
def _at(step: int, what: str, then: Callable[[], None]) -> Iterator[None]:
    """Something that happens the first time that a method is called in a step, counted from 1."""
    before, happened = getattr(_Trainer, what), list[int]()

    def patched(self: _Trainer, *given: object) -> object:
        if self.state.step == step - 1 and not happened:
            happened.append(step)
            then()
        return before(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Trainer, what, patched)
        yield
    assert happened == [step]


def _told(lines: list[str]) -> list[tuple[int, int]]:
    """Step and per cent of each line of progress."""
    return [(int(a), int(b)) for a, b in re.findall(r"^step (\d+)  (\d+)%", "\n".join(lines), re.MULTILINE)]


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    config = read_train_config(tiny(tmp_path, 3))
    with pytest.raises(ConfigError, match=r"\.safetensors"):
        train(config, tmp_path / "found.gpkg", device="cpu")
    missing = config.model_copy(update={"model": config.model.model_copy(update={"start": "./none.safetensors"})})
    with pytest.raises(GeosegError, match=r"none\.safetensors"):
        train(missing, tmp_path / "new.safetensors", device="cpu")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("found", "new"))] == []


def test_a_full_disk_leaves_the_checkpoint_before_and_no_leftover(tmp_path: Path) -> None:
    config, target = read_train_config(tiny(tmp_path, 4)), tmp_path / "t" / "full.safetensors"
    with pytest.raises(RuntimeError, match="crash"), _at(3, "_step", _crash):
        train(config, target, device="cpu", log=lambda line: None)
    before = (target.parent / "full.safetensors.checkpoint").read_bytes()
    here = {path.name for path in target.parent.iterdir()} | {"full.safetensors.jsonl"}
    with replacing(target.parent / "full.safetensors.checkpoint") as (draft,):
        draft.write_bytes(before)
        shutil.copytree(draft.parent, f"{draft.parent}-killed")  # what kill -9 while it is written leaves
    for limit, name in ((2**20, "full.safetensors"), (100 * 2**20, "full.safetensors.checkpoint")):
        with _no_file_above(limit), pytest.raises(SinkError, match=f"/{name} could not be written .*intact"):
            train(config, target, device="cpu", log=lambda line: None)
        assert {path.name for path in target.parent.iterdir()} == here
        assert (target.parent / "full.safetensors.checkpoint").read_bytes() == before
    lines: list[str] = []
    train(config, target, device="cpu", log=lines.append)
    assert lines[0] == "going on from step 2"


@contextmanager
def _no_file_above(size: int) -> Iterator[None]:
    """A limit in bytes, which a write meets as it meets a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_progress_is_told_early_and_at_the_end_and_is_that_of_the_steps_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Trainer, "_step", lambda self, batches, share: {"loss_mask": 1.0})  # losses are not looked at
    lines: list[str] = []
    monkeypatch.setattr("geoseg.training.loop._FIRST_S", 0.0)
    out = tmp_path / "s.safetensors"
    train(read_train_config(tiny(tmp_path, 3)), out, device="cpu", log=lines.append)
    assert _told(lines) == [(1, 33), (3, 100)]
    assert [row["step"] for row in read_rows(Path(f"{out}.jsonl"))["training"]] == [3]
    # Out of time after its first step: that one is told, and is all.
    lines.clear()
    config, out = read_train_config(tiny(tmp_path, 60, more="minutes = 1e-9")), tmp_path / "m.safetensors"
    train(config, out, device="cpu", log=lines.append)
    assert _told(lines) == [(1, 100)] and "0:00 to go" in lines[-2]
    assert lines[-1] == "drawing the report"  # which takes a while
    assert [row["step"] for row in read_rows(Path(f"{out}.jsonl"))["training"]] == [1]
    lines.clear()
    train(config, out, device="cpu", log=lines.append)
    assert "its 1e-09 minutes are over already: nothing is trained. Raise [schedule] minutes" in lines[1]


def _trained(seed: int) -> Trained:
    torch.manual_seed(seed)
    net, average = (torch.nn.Sequential(torch.nn.Linear(70, 90), torch.nn.BatchNorm1d(90)) for _ in range(2))
    average.load_state_dict({k: v + 1e-3 * torch.randn(v.shape) if v.ndim else v for k, v in net.state_dict().items()})
    optimiser = torch.optim.AdamW(net.parameters())
    for _ in range(3):
        optimiser.zero_grad()
        net(torch.randn(16, 70)).square().sum().backward()
        optimiser.step()
    return Trained(net=net, average=average, optimiser=optimiser)


def test_a_compact_checkpoint_is_small_and_near(tmp_path: Path) -> None:
    true, other = _trained(1), _trained(2)
    path = tmp_path / "c.checkpoint"
    save_checkpoint(path, true, State(step=3), settings="s", compact=True)
    assert load_checkpoint(path, other, settings="s").step == 3
    count = sum(p.numel() for p in true.net.parameters())
    assert path.stat().st_size < 4.5 * count + 4000
    for (name, p), q in zip(true.net.named_parameters(), other.net.parameters(), strict=True):
        away = (p - true.average.state_dict()[name]).abs().max()
        assert (p - q).abs().max() <= away / 100 + p.abs().max() * 2**-10
        square, back = (t.optimiser.state[x]["exp_avg_sq"] for t, x in ((true, p), (other, q)))
        assert ((back / square.clamp(min=1e-30)).log()[square > 1e-30].abs() < 0.1).all()
        assert not other.optimiser.state[q]["exp_avg"].any()


def test_a_compact_checkpoint_of_a_bundled_network_takes_less_than_60_mib(tmp_path: Path) -> None:
    card = model_card("buildings")
    net, average = (build(card.architecture, len(card.classes)) for _ in range(2))
    optimiser = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    trained = Trained(net=net, average=average, optimiser=optimiser)
    path = tmp_path / "c.checkpoint"
    save_checkpoint(path, trained, State(step=1), settings="s", compact=True)
    assert 40 < path.stat().st_size / 2**20 < 60
    assert load_checkpoint(path, trained, settings="s").step == 1


def test_what_is_spared_is_not_punished() -> None:
    region = torch.zeros(40, 60, dtype=torch.uint8)
    region[10:20, 30:50] = 1
    boxes = torch.tensor([[30.0, 10, 50, 20], [20, 10, 40, 20], [0, 0, 10, 10], [-90, -90, -50, -50]])
    assert share_in(boxes, _integral(region)).tolist() == [1.0, 0.5, 0.0, 0.0]


def test_a_batch_that_is_spared_whole_has_no_loss_and_gradients_of_zero(tmp_path: Path) -> None:
    config = read_train_config(tiny(tmp_path, 1))
    trainer = _Trainer(config, tmp_path / "x.safetensors", torch.device("cpu"), Crew(), lambda line: None)
    example = mix(config).draw(0)
    target = {**example.target, "ignore": torch.ones(64, 64, dtype=torch.uint8)}
    target |= {name: target[name][:0] for name in ("boxes", "labels", "masks")}
    losses = trainer.losses
    assert isinstance(losses, Losses)
    parts = losses(torch.randn(1, 3, 64, 64), [target])
    assert all(float(value.detach()) == 0 for value in parts.values())
    sum(parts.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None or not p.grad.any() for p in trainer.trained.net.parameters())


def test_learns_eight_chips_by_heart(tmp_path: Path) -> None:
    more = "learning_rate = 2e-3\nema = 0.9"
    config = read_train_config(tiny(tmp_path, 240, more=more))
    trainer = _Trainer(config, tmp_path / "x.safetensors", torch.device("cpu"), Crew(), lambda line: None)
    source = mix(config)
    object.__setattr__(source, "pools", (Pool.of_one(blocks(3), 1),))
    chips = [source.plain(i) for i in range(8)]
    assert sum(len(chip.target["boxes"]) for chip in chips) >= 8
    for step in range(240):
        trainer._step([chips[:4] if step % 2 else chips[4:]], step / 240)
        trainer.state.step += 1
    found = judged(Validator(config, config.model.card(), torch.device("cpu")).look(trainer._saved, chips))
    assert found.ap50 > 0.95


RANKS = """
import sys
from safetensors.torch import save_file
from geoseg.training import loop

run = loop._Trainer.run


def run_and_show(self, *given):
    run(self, *given)
    shown = {name: p.detach().contiguous() for name, p in self.trained.net.named_parameters()}
    save_file(shown, f"{sys.argv[0]}.{self.crew.rank}")


loop._Trainer.run = run_and_show
from geoseg.cli import app
app()
"""


KILLED = """
import os
import signal
from geoseg.training import loop


def step(self, *args, once=loop._Trainer._step):
    if self.crew.rank == 1 and self.state.step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return once(self, *args)


loop._Trainer._step = step
from geoseg.cli import app
app()
"""


def test_two_processes_train_one_network_as_one_does_with_twice_the_batches(tmp_path: Path) -> None:
    paths = [tiny(tmp_path, 2, more=f"accumulate = {n}").rename(tmp_path / f"{n}.toml") for n in (2, 4)]
    out, script = tmp_path / "two.safetensors", tmp_path / "run.py"
    script.write_text(RANKS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    done = subprocess.run(
        [*launch, str(script), "train", str(paths[0]), "-o", str(out), "--device", "cpu"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(re.findall("step 2", done.stderr)) == 1  # the first process alone speaks
    assert done.stdout.split() == [str(out)]
    assert len(read_rows(Path(f"{out}.jsonl"))["training"]) == 1
    assert load_model(out, device="cpu").card.name == "tiny"
    first, second = (load_file(f"{script}.{rank}") for rank in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    config = read_train_config(paths[1])
    begun = _Trainer(config, out, torch.device("cpu"), Crew(), lambda line: None).trained.net.state_dict()
    train(config, tmp_path / "one.safetensors", device="cpu", log=lambda line: None)
    alone = load_file(tmp_path / "one.safetensors.checkpoint")
    for name, here in first.items():
        there = alone[f"net.{name}"]
        assert (here - there).norm() <= 0.02 * (there - begun[name]).norm(), name  # of how far it went


def test_a_process_that_is_killed_is_no_fault_of_the_others(tmp_path: Path) -> None:
    """As the kernel does where memory is short: the first process took it for a fault in geoseg."""
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    done = subprocess.run(
        [*launch, str(script), "train", str(tiny(tmp_path, 4)), "-o", str(tmp_path / "a.safetensors"),
         "--device", "cpu"], capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "another one has ended" in done.stderr and "fault in geoseg" not in done.stderr, done.stderr[-2000:]


def test_the_page_shows_curves_chips_and_seeds_and_the_best_is_kept(tmp_path: Path) -> None:
    path = tiny(tmp_path, 2)
    held_out = TINY.split("[[sources]]")[1].replace("scenes = 2", "scenes = 1\nfirst_seed = 7")
    path.write_text(path.read_text() + "[validation]\nevery = 1\nchips = 2\n[[validation.sources]]" + held_out)
    lines: list[str] = []
    board = tmp_path / "board"
    wants = board if find_spec("tensorboard") else None
    train(read_train_config(path), tmp_path / "v.safetensors", device="cpu", log=lines.append, tensorboard=wants)
    rows = read_rows(tmp_path / "v.safetensors.jsonl")
    assert [row["step"] for row in rows["validation"]] == [1, 2]
    assert all(0 <= row["f1"] <= 1 for row in rows["validation"])
    shown = (tmp_path / "v.safetensors.html").read_text()
    assert shown.count("<svg") >= 3 and shown.count("data:image/png;base64") == 6
    assert "1000 to 1001" in shown and "http" not in shown
    assert 'name="viewport"' in shown and shown.count('aria-label="') == shown.count("<svg")
    assert wants is None or list(board.glob("events.out*"))
    assert any("validation at step 1" in line for line in lines)


def _judged(monkeypatch: pytest.MonkeyPatch, *figures: tuple[float, float]) -> None:
    """What the validations to come find, as F1 and AP50."""
    given = iter(figures)

    def judge(self: Validator, net: object) -> Validated:
        f1, ap50 = next(given)
        return Validated(f1=f1, ap50=ap50, score_threshold=0.5)

    monkeypatch.setattr(Validator, "__call__", judge)


def _validated(folder: Path, steps: int, metric: str) -> TrainConfig:
    path = tiny(folder, steps)
    held_out = TINY.split("[[sources]]")[1].replace("scenes = 2", "scenes = 1\nfirst_seed = 7")
    validation = f'[validation]\nevery = 1\nchips = 1\nmetric = "{metric}"\n[[validation.sources]]{held_out}'
    path.write_text(path.read_text() + validation)
    return read_train_config(path)


def test_another_validation_has_another_best_and_none_is_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lines = tmp_path / "v.safetensors", list[str]()

    def go_on(steps: int, metric: str) -> list[bool]:
        """Whether each validation kept the weights."""
        lines.clear()
        train(_validated(tmp_path, steps, metric), out, device="cpu", log=lines.append)
        return [line.endswith("(kept)") for line in lines if line.startswith("validation")]

    _judged(monkeypatch, (0.9, 0.5))
    assert go_on(1, "f1") == [True]
    first = out.read_bytes()
    _judged(monkeypatch, (0.8, 0.5))
    assert go_on(2, "f1") == [False]  # the best of the same validation stands
    assert out.read_bytes() == first
    _judged(monkeypatch, (0.7, 0.55), (0.7, 0.6))
    assert go_on(4, "ap50") == [True, True]
    assert out.read_bytes() != first


def test_of_validations_that_find_nothing_the_last_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the first: the least trained weights."""
    lines: list[str] = []
    _judged(monkeypatch, (0.0, 0.0), (0.0, 0.0), (0.3, 0.3), (0.3, 0.3))
    train(_validated(tmp_path, 4, "f1"), tmp_path / "v.safetensors", device="cpu", log=lines.append)
    told = [line.endswith("(kept)") for line in lines if line.startswith("validation")]
    assert told == [True, True, True, False]


@pytest.mark.parametrize("there", ["nothing", "weights of another piece"])
def test_a_best_whose_weights_were_left_behind_is_forgotten(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lines = tmp_path / "v.safetensors", list[str]()
    _judged(monkeypatch, (0.2, 0.2), (0.9, 0.9))
    train(_validated(tmp_path, 1, "f1"), out, device="cpu", log=lines.append)
    older = out.read_bytes()
    train(_validated(tmp_path, 2, "f1"), out, device="cpu", log=lines.append)
    assert not any("anew" in line for line in lines)
    assert [line for line in lines if line.startswith("validation")][-1].endswith("(kept)")
    best = out.read_bytes()
    if there == "nothing":
        out.unlink()
    else:
        out.write_bytes(older)
    lines.clear()
    _judged(monkeypatch, (0.5, 0.5), (0.4, 0.4))
    train(_validated(tmp_path, 4, "f1"), out, device="cpu", log=lines.append)
    assert any("step 2" in line and "the best starts anew" in line for line in lines)
    assert [line.endswith("(kept)") for line in lines if line.startswith("validation")] == [True, False]
    assert load_model(out, device="cpu").card.name == "tiny" and out.read_bytes() not in (older, best)


def test_a_tiny_learning_rate_is_told(tmp_path: Path) -> None:
    """To six places it was 0, and its labels began beyond the chart."""
    path = tmp_path / "x.jsonl"
    Journal(path).row("training", 50, {"learning_rate": 3.14159265e-7, "loss": 1234.56789})
    rows = read_rows(path)
    assert rows["training"] == [{"step": 50, "learning_rate": 3.14159e-7, "loss": 1234.57}]
    rows["training"][0]["learning_rate"] = 4.15e-4
    text = page(read_train_config(tiny(tmp_path, 1)), State(step=1), rows, {})
    ends = re.findall(r'<text x="(\d+)" y="[\d.]+" text-anchor="end">([\d.e-]+)</text>', text)
    assert "0.000415" in [label for _, label in ends]
    assert all(8 * len(label) <= int(x) for x, label in ends)  # pixels: 12 px digits are some 7 wide


def test_a_line_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    Journal(path).row("training", 50, {"loss": 1.0})
    with path.open("ab") as file:
        file.write(b'{"kind": "training", "st\xc3')  # the process was killed here
    journal = Journal(path)
    journal.row("training", 100, {"loss": 0.5})
    with path.open("a") as file:
        file.write('[1]\n{"kind": "training"}\n{"kind": "training", "step": null}\n\n')
    assert [row["step"] for row in read_rows(path)["training"]] == [50, 100]


def test_an_annotation_around_nothing_moves_no_other(tmp_path: Path) -> None:
    Image.fromarray(np.full((300, 400, 3), 90, np.uint8)).save(tmp_path / "a.png")
    rings = [[10, 10, 20, 10, 30, 10], [100, 100, 120, 100, 120, 120, 100, 120], [390, 200, 450, 200, 450, 220]]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 300, "width": 400}],
        "categories": [{"id": 1, "name": "building"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "segmentation": [ring]} for i, ring in enumerate(rings)
        ],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    path = tmp_path / "coco.toml"
    source = '[[sources]]\nkind = "coco"\nannotations = "c.json"\ngsd_m = 0.3\n[sampling]\nobjects = 1.0\n'
    path.write_text(TINY.format(steps=1).split("[[sources]]")[0] + source)
    source_mix = mix(read_train_config(path))
    image = source_mix.pools[0].image(0)
    assert len(image.centres_xy) == len(image.polygons) == 2
    assert all(shapely.contains_xy(p, *xy) for p, xy in zip(image.polygons, image.centres_xy, strict=True))
    assert image.polygons[1].bounds[2] == 400  # cut at the image's edge
    for i in range(12):
        source_mix.draw(i)


def test_boxes_alone_are_told_and_teach_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Annotations without a segmentation were left out unsaid: all was taught as free of objects."""
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "a.png")
    boxes = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 15]} for i in (1, 2)]
    whole = {"id": 3, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 25, 5, 25, 20, 5, 20]]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 50, "width": 70}],
        "categories": [{"id": 1, "name": "building"}],
    }
    path = tmp_path / "coco.toml"
    source = '[[sources]]\nkind = "coco"\nannotations = "c.json"\ngsd_m = 0.3\n'
    path.write_text(TINY.format(steps=1).split("[[sources]]")[0] + source)
    (tmp_path / "c.json").write_text(json.dumps({**content, "annotations": boxes}))
    with pytest.raises(
        ConfigError, match=r"outline nothing: 2 annotations with a box alone.*no segmentation.*boxes alone teach"
    ):
        mix(read_train_config(path))
    (tmp_path / "c.json").write_text(json.dumps({**content, "annotations": [*boxes, whole]}))
    caplog.clear()
    assert len(mix(read_train_config(path)).pools[0].image(0).polygons) == 1
    assert caplog.messages == ["c.json: 2 annotations with a box alone are regions to ignore: no segmentation"]
    (tmp_path / "c.json").write_text(json.dumps({**content, "annotations": []}))  # bare ground may be a source
    assert not len(mix(read_train_config(path)).pools[0].image(0).polygons)
    with pytest.raises(ConfigError, match="nothing to learn"):  # but not the only one
        train(read_train_config(path), tmp_path / "bare.safetensors", device="cpu", log=lambda line: None)


def test_memory_that_runs_out_is_told_as_such(tmp_path: Path) -> None:
    """It was a fault of geoseg's: exit code 70."""
    path = tmp_path / "wide.toml"
    path.write_text(TINY.format(steps=1).replace("chip = 96", f"chip = {2**24}"))  # more than there are addresses
    with pytest.raises(ResourceError, match=r"that the memory fails .*Lower \[schedule\] batch") as told:
        train(read_train_config(path), tmp_path / "wide.safetensors", device="cpu", log=lambda line: None)
    assert told.value.exit_code == 4


@pytest.mark.parametrize(
    ("turn", "height", "width", "upright"),
    [(1, 50, 70, True), (3, 50, 70, False), (6, 50, 70, True), (6, 70, 50, False), (2, 50, 70, False)],
)
def test_a_picture_that_is_shown_turned_is_taken_where_its_sides_tell_how(
    tmp_path: Path, turn: int, height: int, width: int, upright: bool
) -> None:
    """One on its head was trained on with its outlines the wrong way up. The sides are those that the file states."""
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    images = [{"id": 1, "file_name": "a.jpg", "height": height, "width": width}]
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    path = tmp_path / "coco.toml"
    source = '[[sources]]\nkind = "coco"\nannotations = "c.json"\ngsd_m = 0.3\n'
    path.write_text(TINY.format(steps=1).split("[[sources]]")[0] + source)
    image = mix(read_train_config(path)).pools[0].image
    if upright:
        assert image(0).pixels.height == 50
    else:
        with pytest.raises(ConfigError, match=f"orientation {turn}"):
            image(0)


def test_pictures_without_a_gsd_are_told_to_want_one(tmp_path: Path) -> None:
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": 50, "width": 70}]
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    path = tmp_path / "coco.toml"
    path.write_text(
        TINY.format(steps=1).split("[[sources]]")[0] + '[[sources]]\nkind = "coco"\nannotations = "c.json"\n'
    )
    with pytest.raises(RasterError, match=r"cannot say where it lies.*or give it a gsd_m"):
        mix(read_train_config(path)).pools[0].image(0)
    with rasterio.open(
        tmp_path / "a.png",
        "w",
        driver="GTiff",
        width=70,
        height=50,
        count=3,
        dtype="uint16",
        crs="EPSG:32632",
        transform=Affine(0.3, 0, 5e5, 0, -0.3, 5e6),
        photometric="RGB",
    ) as file:
        file.write(np.full((3, 50, 70), 900, np.uint16))  # fmt: skip
    with pytest.raises(RasterError, match=r"16 pixels.*has no bands and no scaling") as told:
        mix(read_train_config(path)).pools[0].image(0)
    assert "[[sources]]" not in str(told.value)  # where such a source has no keys for it


def test_jpeg_of_images_is_not_needed_to_be_georeferenced(tmp_path: Path) -> None:
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "c.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "height": 50, "width": 70}],'
        ' "categories": [{"id": 1, "name": "building"}, {"id": 2, "name": "tree"}], "annotations": ['
        '{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 25, 5, 25, 20, 5, 20]]},'
        '{"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [50, 70], "counts": '
        '[1520, 20, 30, 20, 1910]}, "iscrowd": 1},'
        '{"id": 4, "image_id": 1, "category_id": 1, "bbox": [30, 2, 5, 4]},'
        '{"id": 3, "image_id": 1, "category_id": 2, "segmentation": [[50, 30, 60, 30, 60, 40, 50, 40]]}]}'
    )
    path = tmp_path / "coco.toml"
    source = 'kind = "coco"\nannotations = "c.json"\ngsd_m = 0.3\nignore_labels = ["tree"]\n'
    path.write_text(TINY.format(steps=1).split("[[sources]]")[0] + "[[sources]]\n" + source)
    image = mix(read_train_config(path)).pools[0].image(0)
    assert [polygon.area for polygon in image.polygons] == [300.0]
    assert sorted(region.area for region in image.ignore) == [20.0, 40.0, 100.0]
    path.write_text(path.read_text() + 'label = "building"\n')  # was of the ignored category, too
    image = mix(read_train_config(path)).pools[0].image(0)
    assert [polygon.area for polygon in image.polygons] == [300.0]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_curves_go_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="TensorBoard"):
        Journal(tmp_path / "x.jsonl", tmp_path / "file")
