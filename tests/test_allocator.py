"""What becomes of freed memory: seen from outside, in processes of their own, for it is for good."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from geoseg import allocator
from geoseg.allocator import settings
from geoseg.engine.mapping import Engine
from geoseg.tiling import Block

FREE = """
import resource
import numpy as np
{first}
np.ones(1 << 17)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(1 << 17)  # 1 MiB: too small for a huge page
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PLAIN = "import ctypes; ctypes.CDLL(None).mallopt(-3, 128 << 10)"
"""A process that has not freed anything as large yet: glibc learns from what is freed."""
KEEP = "from geoseg.allocator import keep_freed; assert keep_freed() is {kept}"
LOADED = 'import geoseg; geoseg.load_model("buildings", device="cpu")'
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told anything")


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word on malloc in the environment, whatever this machine has."""
    for name in list(os.environ):
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)


def pages(first: str, **environment: str) -> int:
    """Pages that a hundred arrays, one after the other, take from the system."""
    command = [sys.executable, "-c", FREE.format(first=first)]
    env = {**os.environ, **environment}
    return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


@glibc
def test_what_is_freed_is_used_again() -> None:
    plain = pages(PLAIN)
    assert plain > 10 * 1000
    assert pages(KEEP.format(kept=True)) < plain / 10
    assert pages(LOADED) < plain / 10


@glibc
def test_a_word_in_the_environment_is_the_last() -> None:
    assert pages(f"{PLAIN}; {KEEP.format(kept=False)}", MALLOC_PERTURB_="0") > 10 * 1000


@pytest.mark.parametrize(
    ("libc", "own_pages"),
    [(("glibc", "2.34"), 32 << 20), (("glibc", "2.36"), 256 << 20), (("glibc", "2.100"), 256 << 20), (("", ""), None)],
)
def test_each_glibc_is_asked_for_what_it_grants(
    monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str], own_pages: int | None
) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: libc)
    assert settings().get("MALLOC_MMAP_THRESHOLD_") == own_pages
    monkeypatch.setenv("MALLOC_TOP_PAD_", "0")
    assert settings() == {}


def environment_of(block: Block) -> dict[str, str]:
    """What the process of a task finds."""
    return {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}


@glibc
def test_processes_of_this_machine_begin_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {name: str(value) for name, value in settings().items()}
    for name in asked:  # dask leaves what it starts processes with in this one's environment
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with Engine.open(processes=1, workers=1) as engine:
        ((_, found),) = engine.map(environment_of, [Block(row=0, col=0, tiles=())])
    assert found == asked
