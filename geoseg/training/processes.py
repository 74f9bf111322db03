"""One training in several processes, as ``torchrun`` starts them: each draws chips of its own, gradients are shared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from geoseg.detectors.device import pick_device


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The processes of a training; alone, there is one."""

    rank: int = 0
    """Number of this process."""
    size: int = 1
    """How many there are."""

    @classmethod
    def here(cls) -> Crew:
        """That of this process, by the environment that ``torchrun`` gave it."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        return cls() if size == 1 else cls(rank=int(os.environ["RANK"]), size=size)

    @property
    def leads(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    def batch(self, number: int) -> int:
        """The number, among the batches of all processes, of this one's ``number``-th."""
        return number * self.size + self.rank

    def wrapped(self, losses: nn.Module, device: torch.device) -> nn.Module:
        """The module whose gradients all processes share."""
        if self.size == 1:
            return losses
        return DistributedDataParallel(losses, device_ids=[device.index] if device.type == "cuda" else None)

    def same(self, value: float, device: torch.device) -> float:
        """What the first process says: clocks differ."""
        if self.size == 1:
            return value
        held = torch.tensor([value], dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        distributed.broadcast(held, 0)
        return float(held)

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether one of them says so: signals and clocks reach each at another moment."""
        if self.size == 1:
            return value
        held = torch.tensor([int(value)], dtype=torch.int32, device=device)
        distributed.all_reduce(held, distributed.ReduceOp.MAX)
        return bool(held)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def crew(device: str) -> Iterator[tuple[Crew, torch.device]]:
    """The processes that ``torchrun`` started, by its environment, and the device of this one.

    NCCL between GPUs, gloo between CPUs. ``auto`` and ``cuda`` give each process of a machine a GPU of its own.

    Raises:
        ResourceError: no such device.
    """
    found = Crew.here()
    if found.size == 1:
        yield found, pick_device(device)
        return
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    where = pick_device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    distributed.init_process_group("nccl" if where.type == "cuda" else "gloo", rank=found.rank, world_size=found.size)
    try:
        yield found, where
    finally:
        distributed.destroy_process_group()
