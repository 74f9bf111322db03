"""How the C library's malloc keeps house, in a process that runs a network on the CPU.

From glibc, each thread takes fresh pages for every activation of a network, and gives them back when it is freed: a
quarter of a run's time goes into that. One pool for all threads, that keeps what a batch of tiles takes, does without,
and peaks no higher (``python -m benchmarks.allocator``).
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": 1,
    "MALLOC_TRIM_THRESHOLD_": 512 << 20,
    "MALLOC_MMAP_THRESHOLD_": 256 << 20,
}
"""For processes yet to start: how many pools; bytes that are kept at the end of one; bytes from which an array gets
pages of its own, that go when it does."""
_NUMBERS = {"MALLOC_ARENA_MAX": -8, "MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
"""Of the same in glibc's ``malloc.h``, for ``mallopt``."""


@cache
def keep_freed() -> bool:
    """Have this process keep what is freed for what comes next, from now on; whether it does.

    Another C library than glibc, and one that the environment has instructed, are left alone. To be called early:
    threads that have a pool of their own keep it.
    """
    if not sys.platform.startswith("linux") or {*ENVIRONMENT, "GLIBC_TUNABLES"} & {*os.environ}:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    # Before 2.35 glibc refuses the last of them: arrays above 32 MiB then go on getting pages of their own.
    return all([mallopt(_NUMBERS[name], value) for name, value in ENVIRONMENT.items()])
