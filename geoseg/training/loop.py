"""The training loop: resumable, on one device or one per process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import MaskRCNN

from geoseg.detectors.cards import model_digest, weights_path
from geoseg.detectors.device import reduced_precision
from geoseg.detectors.weights import save_weights
from geoseg.durations import duration
from geoseg.errors import ConfigError, GeosegError
from geoseg.locks import output_lock
from geoseg.paths import distinct, expanded
from geoseg.sinks.atomic import clear_leftovers, replacing
from geoseg.training.checkpoint import State, Trained, checkpoint_of, load_checkpoint, save_checkpoint
from geoseg.training.chips import Example
from geoseg.training.config import TrainConfig
from geoseg.training.drawing import Batches, drawers, drawn, pinned
from geoseg.training.failing import environment_told
from geoseg.training.journal import Journal, read_rows
from geoseg.training.norms import fix_norms
from geoseg.training.optimising import averaging, between, decay_groups, learning_rate
from geoseg.training.page import page
from geoseg.training.processes import Crew, crew
from geoseg.training.sources import Mix, mix
from geoseg.training.sparing import Losses, weighted
from geoseg.training.starting import check_same_start, start_digest, untrained
from geoseg.training.stopping import Stop
from geoseg.training.validating import Validated, Validator

Log = Callable[[str], None]
_TOLD = 50
"""Steps between two lines of the log."""
_FIRST_S = 5.0
"""Seconds after which there is a first line, however few the steps: it says how long all will take."""
_SHOWN = 4
"""Chips of each kind on the page."""


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    device: str = "auto",
    log: Log = print,
    tensorboard: str | Path | None = None,
    stop_after_min: float | None = None,
) -> Path:
    """Train a Mask R-CNN and write its weights file; started again, it goes on from the last checkpoint.

    Started by ``torchrun`` it is one of several processes, of which the first writes and speaks. Ctrl-C, SIGTERM and
    SIGHUP wait for the end of the step at hand and a checkpoint of it; a second one does not.

    Args:
        config: see :class:`TrainConfig`.
        out: weights file to write (``.safetensors``); ``<out>.checkpoint``, ``<out>.jsonl`` and ``<out>.html`` lie
            beside it.
        device: ``auto``, ``cpu``, ``cuda``.
        log: gets a line now and then.
        tensorboard: folder for TensorBoard.
        stop_after_min: minutes from now after which it stops with a checkpoint, as if interrupted between two steps:
            another call goes on. The learning rate knows nothing of it. At least one step is done.

    Returns:
        The path of the weights file.

    Raises:
        ConfigError: another suffix, or the file to start from; settings or sources that cannot be used; a loss that is
            no longer finite; less than no minutes.
        LockedError: another training is writing that file.
        ResourceError: no such device, too little memory, or TensorBoard is not installed.
        SinkError: the weights, the checkpoint or the page at the end cannot be written.
    """
    if not isinstance(config, TrainConfig):
        raise ConfigError(
            f"a training of type {type(config).__name__}",
            allowed="a geoseg.TrainConfig",
            remedy="Of a file make one with geoseg.read_train_config(path)",
        )
    stop = Stop(stop_after_min)
    if config.schedule.threads:
        torch.set_num_threads(config.schedule.threads)
    target = expanded(out)
    if target.suffix != ".safetensors":
        raise ConfigError(f"the weights file {target}", allowed="a name that ends in .safetensors")
    begin = config.start
    if begin is not None and (config.schedule.from_start or isinstance(begin, Path)):
        distinct([target], [weights_path(begin)])  # a model's name, if all of it goes: its next version
    target.parent.mkdir(parents=True, exist_ok=True)
    with crew(device) as (processes, where), output_lock(target) if processes.leads else nullcontext():
        board = None if tensorboard is None else expanded(tensorboard)
        journal = Journal(target.with_name(target.name + ".jsonl") if processes.leads else None, board)
        for path in (target, checkpoint_of(target)) if processes.leads else ():
            clear_leftovers(path)  # a checkpoint is large, and a training may be killed many times a day
        said = log if processes.leads else lambda line: None
        try:
            with environment_told():
                _Trainer(config, target, where, processes, said).run(journal, stop)
        finally:
            journal.close()
    return target


class _Trainer:
    def __init__(self, config: TrainConfig, target: Path, device: torch.device, crew: Crew, log: Log) -> None:
        self.config, self.target, self.device, self.crew, self.log = config, target, device, crew, log
        self.settings = config.fingerprint()  # now: labels may be corrected while it trains on what they were
        torch.manual_seed(config.schedule.seed)
        net: MaskRCNN = untrained(config).to(device, memory_format=torch.channels_last).train()
        if config.schedule.norm == "fixed":
            fix_norms(net)
        self.start = (
            {name: value.clone() for name, value in net.state_dict().items()} if config.schedule.from_start else {}
        )
        groups = decay_groups(net, config.schedule.weight_decay)
        self.average = AveragedModel(net, multi_avg_fn=averaging(config.schedule.ema), use_buffers=True)
        self.trained = Trained(
            net=net,
            average=self.average.module,
            optimiser=torch.optim.AdamW(groups, lr=config.schedule.learning_rate),
        )
        self.losses = crew.wrapped(Losses(net), device)
        self.judged_by = config.judged_by()
        self.state = State(judged_by=self.judged_by, start_weights=start_digest(config, target))
        self.kept = (-1, False)  # the step last kept, and whether it was validated: the last one may be due twice
        self.checkpoint = checkpoint_of(target)
        self.mean = torch.tensor(config.model.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(config.model.std, device=device).view(3, 1, 1)

    def run(self, journal: Journal, stop: Stop) -> None:
        """All steps from the last checkpoint on, or those before ``stop`` is due."""
        if self.checkpoint.exists():
            self._resume()
        source = mix(self.config)
        if not any(len(pool.full) for pool in source.pools):
            raise ConfigError(
                "sources none of which shows an object of a class of the model: there is nothing to learn",
                allowed="one source at least with objects, on ground that counts (columns, aoi)",
                remedy="Look at the labels and the aoi over the raster, in QGIS for example",
            )
        validator = Validator(self.config, self.config.model.card(), self.device)
        with stop.between_steps():
            with self._drawn(source) as ahead:
                done = self._steps(ahead, validator, journal, stop)
            if done:
                self._keep(validator, journal, last=True)
        if done and self.crew.leads:
            self._write_page(validator, source)

    def _steps(self, ahead: Iterator[Batches], validator: Validator, journal: Journal, stop: Stop) -> bool:
        """False where it stopped before all was done."""
        recent, told = deque[dict[str, float]](maxlen=_TOLD), False
        started, before = time.monotonic(), self.state.seconds
        share = self._progress()
        for batches in ahead:
            if share >= 1.0:
                break
            recent.append(self._step(batches, share))
            self.state.step += 1
            self.state.seconds = before + time.monotonic() - started
            share = self._progress()
            stops = share < 1.0 and self.crew.any(stop.due, self.device)
            if share >= 1.0 or stops or self.state.step % _TOLD == 0:
                self._tell(recent, share, journal)
                told = True
            elif not told and self.state.seconds - before >= _FIRST_S:
                self._tell(recent, share)
                told = True
            self._keep(validator, journal, asked=stops)
            if stops:
                self.log(f"stopped at step {self.state.step}, which is kept: run the same command again to go on")
                return False
        return True

    def _drawn(self, source: Mix) -> AbstractContextManager[Iterator[Batches]]:
        schedule, on_gpu = self.config.schedule, self.device.type == "cuda"
        draw = (lambda index: pinned(source.draw(index))) if on_gpu else source.draw
        steps, threads = range(self.state.step, schedule.steps), drawers(schedule, self.device)
        return drawn(draw, schedule, self.crew, steps=steps, threads=threads)

    def _progress(self) -> float:
        schedule = self.config.schedule
        share = self.state.step / schedule.steps
        if not schedule.minutes:
            return share
        return self.crew.same(max(share, self.state.seconds / (60 * schedule.minutes)), self.device)

    def _step(self, batches: list[list[Example]], share: float) -> dict[str, float]:
        """One optimiser step."""
        schedule = self.config.schedule
        optimiser = self.trained.optimiser
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(schedule, self.state.step, share)
        optimiser.zero_grad(set_to_none=True)
        told: dict[str, float] = {}
        for number, batch in enumerate(batches, 1):
            waits = self.crew.size > 1 and number < len(batches)
            with self.losses.no_sync() if waits else nullcontext():  # type: ignore[operator]
                self._seed(self.crew.batch(self.state.step * len(batches) + number - 1))
                parts = self._parts(batch)
                (weighted(parts, self.config.loss.by_part) / len(batches)).backward()  # type: ignore[no-untyped-call]
            told = {k: told.get(k, 0.0) + float(v.detach()) / len(batches) for k, v in parts.items()}
        norm = torch.nn.utils.clip_grad_norm_(self.trained.net.parameters(), 10.0)
        if not torch.isfinite(norm):  # shared gradients: all processes see it at the same step
            raise ConfigError(
                f"a loss that is no longer finite at step {self.state.step}",
                remedy="Lower schedule.learning_rate and start again; the last checkpoint, if any, is kept",
            )
        optimiser.step()
        self.average.update_parameters(self.trained.net)
        return told

    def _seed(self, batch: int) -> None:
        """What is random in a batch follows from its number: a resume repeats it, and so does another process."""
        torch.manual_seed(int(np.random.SeedSequence([self.config.schedule.seed, batch]).generate_state(1)[0]))

    def _parts(self, batch: list[Example]) -> dict[str, Tensor]:
        images = torch.stack([e.pixels.to(self.device, non_blocking=True) for e in batch]).float()
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        targets = [{k: v.to(self.device, non_blocking=True) for k, v in e.target.items()} for e in batch]
        with reduced_precision(self.device):
            parts: dict[str, Tensor] = self.losses(images, targets)
        return parts

    def _tell(self, recent: deque[dict[str, float]], share: float, journal: Journal | None = None) -> None:
        """A line of the log, and one of the journal; ``share`` of the training is done."""
        means = {k.removeprefix("loss_"): sum(r[k] for r in recent) / len(recent) for k in recent[0]}
        step, seconds = self.state.step, self.state.seconds
        if journal is not None:
            rate = {"learning_rate": self.trained.optimiser.param_groups[0]["lr"]}
            journal.row("training", step, {"seconds": seconds, **rate, **means})
        left = duration(seconds / max(share, 1e-6) * max(0.0, 1 - share))
        parts = " ".join(f"{k} {v:.3f}" for k, v in means.items())
        self.log(f"step {step}  {min(share, 1.0):.0%}  loss {sum(means.values()):.3f} ({parts})  {left} to go")

    def _keep(self, validator: Validator, journal: Journal, *, last: bool = False, asked: bool = False) -> None:
        """Validate and write what is due after this step; ``asked``: write in any case."""
        step, validation = self.state.step, self.config.validation
        validates = validation is not None and (last or step % validation.every == 0)
        saves = last or asked or validates or step % self.config.schedule.checkpoint_every == 0
        if not saves or self.kept == (step, validates):
            return
        self.kept = (step, validates)
        if self.crew.leads:
            if validation is not None and validates:
                self._validated(validator(self._saved), validation.metric, journal)
            elif validation is None or self.state.best < 0:
                self._write_weights()
            compact = self.config.schedule.checkpoint == "compact"
            save_checkpoint(self.checkpoint, self.trained, self.state, settings=self.settings, compact=compact)
        self.crew.wait()

    def _validated(self, result: Validated, metric: str, journal: Journal) -> None:
        """Keep the weights where they are the best so far."""
        figures = {"f1": result.f1, "score_threshold": result.score_threshold, "ap50": result.ap50}
        journal.row("validation", self.state.step, figures)
        # Where nothing was right yet, more training is better.
        better = figures[metric] > self.state.best or self.state.best == 0
        if better:
            self._write_weights()
            self.state.best, self.state.best_step = figures[metric], self.state.step
            self.state.best_weights = model_digest(self.target.resolve())
        kept = "kept" if better else f"the best was {self.state.best:.3f} at step {self.state.best_step}"
        told = f"F1 {result.f1:.3f} at score {result.score_threshold:.2f}, AP50 {result.ap50:.3f}"
        self.log(f"validation at step {self.state.step}: {told} ({kept})")

    @property
    def _saved(self) -> MaskRCNN:
        """What goes into the weights file, and is judged: the averaged network, or one between it and the start."""
        share, net = self.config.schedule.from_start, self.trained.average
        whole: Any = between(self.start, net, share) if share else net
        return whole

    def _write_weights(self) -> None:
        with replacing(self.target) as (draft,):
            save_weights(self._saved, self.config.model.card(), draft)

    def _write_page(self, validator: Validator, source: Mix) -> None:
        self.log("drawing the report")
        rows = read_rows(self.target.with_name(self.target.name + ".jsonl"))
        drawn = [source.draw(i) for i in range(_SHOWN)]
        chips = {
            "Chips of the validation": validator.look(self._saved, validator.examples[:_SHOWN]),
            "Chips of the training": validator.look(self._saved, drawn),
        }
        path = self.target.with_name(self.target.name + ".html")
        with replacing(path) as (draft,):
            draft.write_text(page(self.config, self.state, rows, chips), encoding="utf-8")

    def _resume(self) -> None:
        now = self.state.start_weights
        self.state = load_checkpoint(self.checkpoint, self.trained, settings=self.settings)
        check_same_start(self.state.start_weights, now, self.config, self.checkpoint)
        self.average.n_averaged.fill_(self.state.step)
        self.log(f"going on from step {self.state.step}")
        if self._progress() >= 1.0:
            schedule = self.config.schedule
            by_steps = self.state.step >= schedule.steps
            end = f"all {schedule.steps} steps are done" if by_steps else f"its {schedule.minutes:g} minutes are over"
            self.log(
                f"{end} already: nothing is trained. Raise [schedule] {'steps' if by_steps else 'minutes'},"
                f" or remove {self.checkpoint} to train anew"
            )
        if self.state.best >= 0 and self.crew.leads and not self._best_is_here():
            self.log(
                f"the weights of the best validation so far (step {self.state.best_step}) are not in {self.target}: "
                "the best starts anew"
            )
            self.state = replace(self.state, best=-1.0, best_step=0)
        if self.state.judged_by != self.judged_by:
            self.state = replace(self.state, best=-1.0, best_step=0, judged_by=self.judged_by)

    def _best_is_here(self) -> bool:
        """A checkpoint may be carried to where there is no weights file, or that of another piece."""
        try:
            return self.state.best_weights in ("", model_digest(self.target.resolve()))
        except GeosegError:
            return False
