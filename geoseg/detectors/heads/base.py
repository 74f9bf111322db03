"""What all heads have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from geoseg.errors import AnswerError, ModelError

_ROUNDING = 1e-3
"""By which a probability may come out above 1, in 16 bits."""
_SHARES = 1.5
"""Where two boxes or more all end before it, in pixels, they are shares of the image's sides."""


class HeadSettings(BaseModel):
    """Settings of a head, as a card's architecture has them. Bounded, for a card may come from somebody else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outputs: tuple[str, ...] = ()
    """Names of the network's outputs, in the order that the head wants them; empty: told apart by their shapes."""
    mask_overlap: float = Field(default=0.5, gt=0, le=1)
    """Of two instances of one class, the lower-scored goes where their masks share more than this fraction of the
    smaller; 1: all stay."""


def by_rank(outputs: Sequence[Tensor], ranks: Sequence[int], what: str) -> list[Tensor]:
    """The outputs of the given numbers of dimensions, in that order; others are left out.

    Raises:
        ModelError: not exactly one of each.
    """
    found = [[output for output in outputs if output.ndim == rank] for rank in ranks]
    if any(len(each) != 1 for each in found):
        raise ModelError(
            f"outputs of shapes {[tuple(output.shape) for output in outputs]}",
            allowed=what,
            remedy="Name the outputs to use in the card: outputs = [...] in [architecture.head]",
        )
    return [each[0] for each in found]


def check_scores(scores: Tensor, *, lowest: bool = False) -> None:
    """Refuse scores that are no probabilities: cut off at 1, all that is likely would score alike; and of logits below
    0 (looked at where ``lowest`` says that no row only fills up) nothing would be found.

    Raises:
        ModelError: one above 1, or below 0.
    """
    if not scores.numel():
        return
    least, most = float(scores.min()) if lowest else 0.0, float(scores.max())
    if most > 1 + _ROUNDING or least < -_ROUNDING:
        raise ModelError(
            f"scores up to {most:.4g}" if most > 1 else f"scores down to {least:.4g}",
            allowed="0 to 1",
            remedy="Export the network with the sigmoid or softmax of its scores",
        )


def check_boxes(boxes: Tensor) -> None:
    """Refuse boxes ``(n, 4)`` that are no corners in pixels: they would hold nothing, and nothing would be found.

    Raises:
        AnswerError: some end before they begin, or all are shares of the image's sides.
    """
    allowed, remedy = "x1, y1, x2, y2 in pixels of the image", "Export the network with boxes of that form"
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise AnswerError("boxes that end before they begin", allowed=allowed, remedy=remedy)
    if len(boxes) > 1 and (most := float(boxes.max())) <= _SHARES:
        raise AnswerError(f"{len(boxes)} boxes of which none reaches beyond {most:.2g}", allowed=allowed, remedy=remedy)


def hats(at: Tensor, first: int, count: int) -> Tensor:
    """``(len(at), count)`` weights of linear interpolation at places ``at`` between cells ``first`` and on.

    ``at`` counts in cell centres (0 = the first cell's), and is held within the ``count`` cells.
    """
    cells = torch.arange(first, first + count, device=at.device, dtype=at.dtype)
    return (1 - (at.clamp(first, first + count - 1)[:, None] - cells).abs()).clamp(min=0)
