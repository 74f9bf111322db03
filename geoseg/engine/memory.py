"""What is freed goes back to the system: a process is as large as what it holds, not as all its largest moments. And
Python does not look for garbage where there is none."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from dask.utils import key_split

LOOK_S = 30.0
"""Seconds after which it is worthwhile to go through all objects: it takes some tenths of one."""
NAMES = 1000
"""Of so many tasks dask may remember the names."""
_looked = time.monotonic()


def give_back() -> None:
    """Have Arrow take memory from the C library, in this process and for good. Its own pools (mimalloc, jemalloc) keep
    what each thread ever took: more than a run holds of tables at any time. ``ARROW_DEFAULT_MEMORY_POOL`` in the
    environment wins."""
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


def forget_names() -> None:
    """Each task has a name of its own, and in each process dask keeps what it made of the last 100,000 of them, 0.5 kB
    each: nobody asks again for one that is done."""
    if key_split.cache_info().currsize > NAMES:
        key_split.cache_clear()


@contextmanager
def spared() -> Iterator[None]:
    """For as long as the block lasts, the garbage collector leaves alone what there was before it: hundreds of
    thousands of objects of imported modules, through all of which it would go time and again with every thread at a
    halt.

    What is garbage already would be left alone, too, and what one run leaves would pile up over many: it is looked for
    before, but not each time where runs are short.
    """
    global _looked
    if time.monotonic() - _looked > LOOK_S:
        gc.collect()
        _looked = time.monotonic()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
