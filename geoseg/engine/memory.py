"""What is freed goes back to the system: a process is as large as what it holds, not as all its largest moments. And
Python does not look for garbage where there is none."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


def give_back() -> None:
    """Have Arrow take memory from the C library, in this process and for good. Its own pools (mimalloc, jemalloc) keep
    what each thread ever took: more than a run holds of tables at any time. ``ARROW_DEFAULT_MEMORY_POOL`` in the
    environment wins."""
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


@contextmanager
def spared() -> Iterator[None]:
    """For as long as the block lasts, the garbage collector leaves alone what there was before it: hundreds of
    thousands of objects of imported modules, through all of which it would go time and again with every thread at a
    halt."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
