"""What is freed goes back to the system: a process is as large as what it holds, not as all its largest moments."""

from __future__ import annotations

import os

import pyarrow as pa


def give_back() -> None:
    """Have Arrow take memory from the C library, in this process and for good. Its own pools (mimalloc, jemalloc) keep
    what each thread ever took: more than a run holds of tables at any time. ``ARROW_DEFAULT_MEMORY_POOL`` in the
    environment wins."""
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
