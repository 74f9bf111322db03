"""What a scheduler tells of its workers: how many threads tasks may go to, and whether anybody is there at all."""

# distributed leaves most of its client untyped.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from typing import Any

from distributed import Client

from geoseg.engine.asking import ask, rpc
from geoseg.engine.troubles import no_workers, silent

GPU_SHARE = 1 / 16
"""What a task takes of a worker's resource ``GPU``: not all of it, for the other threads are to read and outline
meanwhile. In a process one thread at a time runs the network anyway."""
FRESH_S = 0.5
"""Seconds for which what was told is taken as still true."""


class Room:
    """The workers that tasks may go to, as last told.

    Once a worker with the resource ``GPU`` was seen, tasks ask for one for good: where the last of them is lost, the
    others are no room for tasks that wait for a GPU.
    """

    def __init__(self, client: Client, *, with_gpu: bool, patience_s: float) -> None:
        self.client, self.with_gpu, self.patience_s = client, with_gpu, patience_s
        self.workers: dict[str, dict[str, Any]] = {}
        """What is told of each worker, by its address."""
        self.threads = 0
        """Of the workers that a task may go to; 0 where nobody answers."""
        self.asks: dict[str, float] = {}
        """Resources that a task asks for."""
        self._heard = True
        self._looked = -FRESH_S
        self._seen = time.monotonic()

    def wait(self) -> None:
        """From now on the cluster may be without workers for ``patience_s``."""
        self._seen = time.monotonic()

    def look(self) -> None:
        """Have it told again, unless it just was."""
        if time.monotonic() - self._looked < FRESH_S:
            return
        try:
            # The RPC and not client.scheduler_info, which in some versions tells of five workers at most.
            found = ask(self.client, rpc(self.client, "identity"))["workers"]
            self._heard = True
        except (OSError, ValueError, AttributeError):  # AttributeError: the client was closed
            found, self._heard = self.workers, False
        now = self._looked = time.monotonic()
        self.workers = found
        with_gpu = {address for address, worker in found.items() if worker["resources"].get("GPU")}
        if self.with_gpu and with_gpu:
            self.asks = {"GPU": GPU_SHARE}
        fit = with_gpu if self.asks else found.keys()
        self.threads = sum(found[address]["nthreads"] for address in fit) if self._heard else 0
        if self.threads:
            self._seen = now

    def check(self) -> None:
        """Look, and give up on what has been missing for too long.

        Raises:
            ResourceError: the scheduler has not answered, or had no worker that a task may go to, for ``patience_s``.
        """
        self.look()
        if time.monotonic() - self._seen > self.patience_s:
            raise no_workers(self.patience_s, gpu=bool(self.asks)) if self._heard else silent(self.patience_s)
