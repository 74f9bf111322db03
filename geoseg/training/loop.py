"""The training loop: one process, one device, resumable."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from geoseg.detectors.base import ModelCard
from geoseg.detectors.device import pick_device, reduced_precision
from geoseg.detectors.network import build
from geoseg.detectors.weights import load_state, read_weights, save_weights
from geoseg.errors import ConfigError
from geoseg.training.chips import Example
from geoseg.training.config import TrainConfig
from geoseg.training.sources import Mix, mix

Log = Callable[[str], None]


@dataclass
class State:
    """What a checkpoint holds besides the tensors."""

    step: int = 0
    """Optimiser steps done."""
    seconds: float = 0.0
    """Training time spent, over all resumed pieces."""


def train(config: TrainConfig, out: str | Path, *, device: str = "auto", log: Log = print) -> Path:
    """Train a Mask R-CNN and write its weights file; started again, it goes on from the last checkpoint.

    Args:
        config: see :class:`TrainConfig`.
        out: weights file to write (``.safetensors``); ``<out>.checkpoint`` and ``<out>.jsonl`` lie beside it.
        device: ``auto``, ``cpu``, ``cuda``.
        log: gets a line now and then.

    Returns:
        The path of the weights file.

    Raises:
        ConfigError: settings or sources that cannot be used; a loss that is no longer finite.
    """
    if config.schedule.threads:
        torch.set_num_threads(config.schedule.threads)
    torch.manual_seed(config.schedule.seed)
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    _Trainer(config, target, pick_device(device), log).run()
    return target


class _Trainer:
    def __init__(self, config: TrainConfig, target: Path, device: torch.device, log: Log) -> None:
        self.config, self.target, self.device, self.log = config, target, device, log
        net = _start(config)
        self.net: MaskRCNN = net.to(device, memory_format=torch.channels_last).train()
        self.optimiser = torch.optim.AdamW(
            _decay_groups(self.net, config.schedule.weight_decay), lr=config.schedule.learning_rate
        )
        self.average = AveragedModel(self.net, multi_avg_fn=self._ema, use_buffers=True)
        self.state = State()
        self.checkpoint = target.with_name(target.name + ".checkpoint")
        self.mean = torch.tensor(config.model.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(config.model.std, device=device).view(3, 1, 1)

    def run(self) -> None:
        """All steps, from the last checkpoint on."""
        if self.checkpoint.exists():
            self._resume()
        schedule, recent = self.config.schedule, deque[dict[str, float]](maxlen=50)
        started, before = time.monotonic(), self.state.seconds
        batches = _prefetch(mix(self.config), schedule.batch, self.state.step, schedule.steps)
        for batch in batches:
            share = self._progress()
            if share >= 1.0:
                break
            recent.append(self._step(batch, share))
            self.state.step += 1
            self.state.seconds = before + time.monotonic() - started
            if self.state.step % 50 == 0:
                self._report(recent, share)
            if self.state.step % schedule.checkpoint_every == 0:
                self._save()
        self._save()

    def _progress(self) -> float:
        schedule = self.config.schedule
        by_time = self.state.seconds / (60 * schedule.minutes) if schedule.minutes else 0.0
        return max(self.state.step / schedule.steps, by_time)

    def _step(self, batch: list[Example], share: float) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(share)
        images = torch.stack([e.pixels for e in batch]).to(self.device).float()
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        targets = [{k: v.to(self.device) for k, v in e.target.items()} for e in batch]
        with reduced_precision(self.device):
            parts = losses(self.net, images, targets)
            total = torch.stack([v.float() for v in parts.values()]).sum()
        if not torch.isfinite(total):
            raise ConfigError(
                f"a loss that is no longer finite at step {self.state.step}",
                remedy="Lower schedule.learning_rate and start again; the last checkpoint is kept",
            )
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimiser.step()
        self.average.update_parameters(self.net)
        return {k: float(v.detach()) for k, v in parts.items()}

    def _learning_rate(self, share: float) -> float:
        """Linear warm-up, then half a cosine to zero."""
        schedule = self.config.schedule
        warm = min(1.0, (self.state.step + 1) / max(1, schedule.warmup))
        return schedule.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    @torch.no_grad()
    def _ema(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        """Exponential average whose memory grows at first, so that the random start is soon forgotten."""
        decay = min(self.config.schedule.ema, (1 + int(count)) / (10 + int(count)))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), 1 - decay)
            else:
                old.copy_(new)

    def _report(self, recent: deque[dict[str, float]], share: float) -> None:
        means = {k.removeprefix("loss_"): sum(r[k] for r in recent) / len(recent) for k in recent[0]}
        left = self.state.seconds / max(share, 1e-6) * (1 - share) / 60
        rounded = {k: round(v, 4) for k, v in means.items()}
        row = {"step": self.state.step, "seconds": round(self.state.seconds), **rounded}
        with self.target.with_name(self.target.name + ".jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        parts = " ".join(f"{k} {v:.3f}" for k, v in means.items())
        self.log(f"step {self.state.step}  {share:.0%}  loss {sum(means.values()):.3f} ({parts})  {left:.0f} min left")

    def _save(self) -> None:
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.state.step,
            "seconds": self.state.seconds,
            "settings": self.config.fingerprint,
        }
        partial = self.checkpoint.with_name(self.checkpoint.name + ".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)
        save_weights(self.average.module, self._card(), self.target)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state.get("settings") != self.config.fingerprint:
            raise ConfigError(
                f"the checkpoint {self.checkpoint}, which was made with other settings",
                allowed="a change of steps, minutes, threads, checkpoint_every or of the card's texts and thresholds",
                remedy="Move it away to start afresh, or give another output",
            )
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.state = State(step=state["step"], seconds=state["seconds"])
        self.log(f"going on from step {self.state.step}")

    def _card(self) -> ModelCard:
        model = self.config.model
        return ModelCard(
            **model.model_dump(exclude={"architecture", "start", "gsd_m", "card_gsd_m"}),
            gsd_m=model.card_gsd_m or model.gsd_m,
            bands=("red", "green", "blue"),
            architecture=dict(model.architecture),
        )


def _start(config: TrainConfig) -> MaskRCNN:
    """The network with random weights, or those of ``model.start``."""
    net = build(config.model.architecture, len(config.model.classes))
    if config.model.start:
        path = config.path(config.model.start)
        load_state(net, read_weights(path)[0], path)
    return net


def losses(net: MaskRCNN, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Training losses of a batch of normalised images, past torchvision's resizing transform."""
    sizes = [(images.shape[2], images.shape[3])] * len(images)
    features: Any = net.backbone(images)
    proposals, rpn = net.rpn(ImageList(images, sizes), features, targets)
    _, heads = net.roi_heads(features, proposals, sizes, targets)
    return {**rpn, **heads}


def _decay_groups(net: MaskRCNN, weight_decay: float) -> list[dict[str, Any]]:
    """No weight decay on biases and normalisation."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _prefetch(source: Mix, batch: int, first: int, last: int) -> Iterator[list[Example]]:
    """Batches ``first`` to ``last``, the next ones drawn on another thread meanwhile."""

    def draw(step: int) -> list[Example]:
        return [source.draw(step * batch + i) for i in range(batch)]

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(draw, step) for step in range(first, min(first + 3, last)))
        following = first + len(waiting)
        with suppress(GeneratorExit):
            while waiting:
                yield waiting.popleft().result()
                if following < last:
                    waiting.append(pool.submit(draw, following))
                    following += 1
        for future in waiting:
            future.cancel()
