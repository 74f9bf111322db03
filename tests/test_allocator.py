"""What freed memory becomes: seen from outside, in processes of their own, for it is for good."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from geoseg.allocator import ENVIRONMENT
from geoseg.engine.mapping import Engine
from geoseg.tiling import Block

FREE = """
import resource
import numpy as np
{first}
np.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(1 << 24)  # 128 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from geoseg.allocator import keep_freed; assert keep_freed() is {kept}"
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told anything")


def pages(first: str, **environment: str) -> int:
    """Pages that ten arrays, one after the other, take from the system."""
    clean = {name: value for name, value in os.environ.items() if name not in {*ENVIRONMENT, "GLIBC_TUNABLES"}}
    command = [sys.executable, "-c", FREE.format(first=first)]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@glibc
def test_what_is_freed_is_used_again() -> None:
    plain, kept = pages(""), pages(KEEP.format(kept=True))
    assert plain > 1000
    assert kept < plain / 10


@glibc
def test_a_word_in_the_environment_is_the_last() -> None:
    assert pages(KEEP.format(kept=False), MALLOC_TRIM_THRESHOLD_="65536") > 1000


@glibc
def test_a_bundled_model_brings_it() -> None:
    assert pages('import geoseg; geoseg.load_model("buildings", device="cpu")') < 1000


def environment_of(block: Block) -> dict[str, str]:
    """What the process of a task finds."""
    return {name: os.environ.get(name, "") for name in ENVIRONMENT}


def test_processes_of_this_machine_begin_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    with Engine.open(processes=1, workers=1) as engine:
        ((_, found),) = engine.map(environment_of, [Block(row=0, col=0, tiles=())])
    assert found == {**{name: str(value) for name, value in ENVIRONMENT.items()}, "MALLOC_ARENA_MAX": "3"}
