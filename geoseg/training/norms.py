"""Batch normalisation with the statistics that the network starts with, instead of those of a few chips."""

from __future__ import annotations

from typing import Self

from torch import nn


class _Fixed(nn.BatchNorm2d):
    """Normalises by its running statistics also while it is trained, and leaves them as they are."""

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode; scale and shift are learned as ever."""
        return super().train(False)


def fix_norms(net: nn.Module) -> None:
    """Fix the statistics of every batch normalisation in ``net``; its parameters and their names stay.

    What is learned then is what will predict: with two or three chips at a time their statistics differ from step to
    step, and from those of the averaged network that is saved (detection libraries fine-tune so, too).
    """
    for norm in net.modules():
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = _Fixed  # in place: its tensors stay where they are, and as they are
            norm.eval()
