"""How the C library's malloc keeps house, in a process that runs a network on the CPU.

From glibc, each thread takes fresh pages for every activation of a network, and gives them back when it is freed: a
fifth of a run's time goes into that. One pool for all threads, that keeps what a batch of tiles takes, does without,
and peaks no higher (``python -m benchmarks.allocator``).
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

_NUMBERS = {"MALLOC_ARENA_MAX": -8, "MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_TRIM_THRESHOLD_": -1}
"""Variables of the environment that a process begins with, and their numbers in glibc's ``malloc.h``."""


def settings() -> dict[str, int]:
    """For processes yet to start, by variable of the environment: how many pools; bytes from which an array gets pages
    of its own, that go when it does; bytes that are kept at the end of a pool. Empty where the C library is not glibc,
    or the environment has told it something already."""
    name, version = platform.libc_ver()
    told = any(each.startswith("MALLOC_") for each in os.environ) or "GLIBC_TUNABLES" in os.environ
    if name != "glibc" or told:
        return {}
    # Before 2.35 more than half a heap of 64 MiB is refused, and what is refused leaves 128 KiB for good.
    recent = tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= (2, 35)
    own_pages = (256 if recent else 32) << 20
    return {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_THRESHOLD_": own_pages, "MALLOC_TRIM_THRESHOLD_": 512 << 20}


@cache
def keep_freed() -> bool:
    """Have this process keep what is freed for what comes next, from now on; whether malloc was told so.

    To be called early: threads that have a pool of their own keep it.
    """
    asked = settings()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if asked else None
    return mallopt is not None and all([mallopt(_NUMBERS[name], value) for name, value in asked.items()])
