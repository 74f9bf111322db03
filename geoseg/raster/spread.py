"""Which file blocks to look at when a few must speak for all."""

from __future__ import annotations

_STEPS = (0.7548776662466927, 0.5698402909980532)
"""1/p and 1/p² of the plastic number p (p³ = p + 1): the R2 sequence, M. Roberts, "The unreasonable effectiveness
of quasirandom sequences" (2018)."""


def spread_blocks(down: int, across: int, count: int) -> list[tuple[int, int]]:
    """Rows and columns of ``count`` different blocks of ``down`` x ``across``, all if there are no more.

    The first few are spread over rows and columns as well as all of them. A step through the blocks in the order of
    the file would fall into step with the blocks per row, and see one column of them.
    """
    if down * across <= count:
        return [(row, col) for row in range(down) for col in range(across)]
    found: dict[tuple[int, int], None] = {}
    number = 0
    while len(found) < count:  # ends: the sequence comes to every block in the end
        row, col = ((0.5 + number * step) % 1 for step in _STEPS)
        found[int(row * down), int(col * across)] = None
        number += 1
    return list(found)
