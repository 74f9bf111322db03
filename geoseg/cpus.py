"""How many CPUs there are to use."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Those that this process may use, which in a container or a batch job may be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1
