"""Drawing the chips of the steps to come on other threads while the device works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from geoseg.cpus import usable_cpus
from geoseg.training.chips import Example
from geoseg.training.config import Schedule
from geoseg.training.processes import Crew

_AHEAD = 3
"""Steps whose chips are drawn before they are asked for."""
_MOST = 8
"""Threads that draw, at most: more of them wait for Python's lock."""

Batches = list[list[Example]]


def drawers(schedule: Schedule, device: torch.device) -> int:
    """How many threads draw. On the CPU one: the network takes all cores; beside a GPU one for each CPU."""
    if device.type == "cpu":
        return 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # the processes of this machine share its CPUs
    return max(1, min(_MOST, schedule.threads or usable_cpus() // here))


@contextmanager
def drawn(
    draw: Callable[[int], Example], schedule: Schedule, crew: Crew, *, steps: range, threads: int
) -> Iterator[Iterator[Batches]]:
    """The batches of each step, in order: the same chips however many threads draw them.

    Args:
        draw: gives the chip of an index; called on several threads.
        schedule: how many chips make a step.
        crew: the processes, each of which has chips of its own.
        steps: whose batches are asked for.
        threads: that draw.
    """
    # Several of them take one core each, not all cores each.
    alone: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)} if threads > 1 else {}
    with ThreadPoolExecutor(threads, thread_name_prefix="draw", **alone) as pool:
        try:
            yield _ahead(lambda step: _asked(pool, draw, schedule, crew, step), steps, threads)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ahead(ask: Callable[[int], list[list[Future[Example]]]], steps: range, threads: int) -> Iterator[Batches]:
    """As many steps are asked for ahead as keep all threads at work, and no more: chips take memory."""
    waiting: deque[list[list[Future[Example]]]] = deque()
    for step in steps:
        waiting.append(ask(step))
        chips = sum(map(len, waiting[0]))
        if len(waiting) > max(_AHEAD - 1, 2 * threads // chips):
            yield _come(waiting.popleft())
    while waiting:
        yield _come(waiting.popleft())


def _come(batches: list[list[Future[Example]]]) -> Batches:
    return [[future.result() for future in batch] for batch in batches]


def _asked(
    pool: ThreadPoolExecutor, draw: Callable[[int], Example], schedule: Schedule, crew: Crew, step: int
) -> list[list[Future[Example]]]:
    """The chips of a step, counted through all batches of all processes."""
    numbers = (crew.batch(step * schedule.accumulate + i) for i in range(schedule.accumulate))
    return [[pool.submit(draw, n * schedule.batch + i) for i in range(schedule.batch)] for n in numbers]


def pinned(example: Example) -> Example:
    """In memory that a GPU reads by itself, so that the CPU need not wait for it."""
    target = {name: tensor.pin_memory() for name, tensor in example.target.items()}
    return replace(example, pixels=example.pixels.pin_memory(), target=target)
