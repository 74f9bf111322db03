"""How fast a network learns, what of it decays, and how its weights are averaged."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoseg.training.config import Schedule


def learning_rate(schedule: Schedule, step: int, share: float) -> float:
    """Linear warm-up, then half a cosine to zero.

    Args:
        schedule: with the highest rate and the steps of the warm-up.
        step: that is to be done, from 0.
        share: of the training that is done, 0 to 1.
    """
    warm = min(1.0, (step + 1) / max(1, schedule.warmup))
    return schedule.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def decay_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """No weight decay on biases and normalisation."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def averaging(ema: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Exponential average for ``AveragedModel``, whose memory grows at first: the random start is soon forgotten."""

    @torch.no_grad()
    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        decay = min(ema, (1 + int(count)) / (10 + int(count)))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), 1 - decay)
            else:
                old.copy_(new)

    return average


@torch.no_grad()
def between(start: Mapping[str, Tensor], trained: nn.Module, share: float) -> nn.Module:
    """A copy of a trained network with its weights moved towards those that it began with.

    What is learned on the ground of a training costs something on other ground; between the two networks there are some
    that are nearly as good on the one and better on the other (Wortsman et al., "Robust fine-tuning of zero-shot
    models", CVPR 2022).

    Args:
        start: its state at the start, with the same statistics of normalisation.
        trained: is left as it is.
        share: of the start, 0 to 1.
    """
    net = copy.deepcopy(trained)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value), share)
    return net
