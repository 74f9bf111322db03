"""The benchmarks that claims of speed rest on: they run, say what they should, and go on where memory ends."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Calls a benchmark with arguments from the repository's root, beside whose package it lies: its exit code and
    what it printed."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)

    def run(name: str, *arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        code = importlib.import_module(f"benchmarks.{name}").main()
        return code or 0, capsys.readouterr().out

    return run


def rows(text: str) -> dict[str, list[str]]:
    """Cells of the tables' rows by the name in their first."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return {each[0]: each[1:] for each in cells if each[0] and not each[0].startswith("---")}


def test_detector_speed_gives_a_row_to_each_contestant_and_a_profile(weights: Path, bench: Any) -> None:
    code, told = bench(
        *("detector_speed", weights, "--tiles", 2, "--rounds", 1, "--batch", 2, "--profile"),
        *("--only", "torchvision, no resize", "geoseg, float32", "geoseg as it comes"),
    )
    assert code == 0
    assert "2 tiles of 128 x 128, batches of 2, 1 rounds" in told
    found = rows(told)
    for name in ("torchvision, no resize", "torchvision, no resize, autocast", "geoseg, float32", "geoseg as it comes"):
        seconds, megapixels, times = (float(cell) for cell in found[name][:3])
        assert seconds > 0 and megapixels > 0 and times > 0 and re.fullmatch(r"\d+% of \d+", found[name][4])
    assert "openvino" not in told and "torchvision as it comes" not in found
    # All but one: of what a random network scores alike, the last to be kept differs from one torch to the next.
    assert int(found["geoseg, float32"][4].partition("%")[0]) >= 90 and found["torchvision, no resize"][2] == "1.00"
    assert "Self CPU" in told and "aten::" in told


@pytest.mark.parametrize(("more", "limit", "code"), [((), 1e9, 0), (("--torchvision",), 1e-9, 1)])
def test_end_to_end_compares_and_exits_by_the_limit(
    weights: Path, more: tuple[str, ...], limit: float, code: int, bench: Any
) -> None:
    small = ("--model", weights, "--tiles", 2, "--rounds", 1, "--core", 64, "--batch", 3)
    got, told = bench("end_to_end", *small, "--limit", limit, *more)
    assert got == code
    assert len(re.findall(r"^(?:network|run): [\d.]+ s wall, [\d.]+ s CPU$", told, re.MULTILINE)) == 2
    assert re.search(r"^4 tiles: wall [\d.]+x \(limit [\d.]+x\), CPU time [\d.]+x", told, re.MULTILINE)


def test_peers_run_on_the_device_that_is_asked_for(weights: Path) -> None:
    """As a command of its own, for it starts others."""
    small = ("--model", weights, "--size", 150, 200, "--only", "geoseg", "geoseg, openvino", "--device", "cuda:97")
    command = [sys.executable, "-m", "benchmarks.peers", *map(str, small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0 and "the device 'cuda:97'" in done.stderr
    assert rows(done.stdout)["geoseg"][0].startswith("ended with") and "openvino" not in done.stdout


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which lies beside the package and not in it."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import detector_speed

    return detector_speed


@pytest.mark.parametrize("full", ["torchvision", "another"])
def test_one_without_memory_is_out_and_the_others_go_on(
    full: str, weights: Path, speed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    import geoseg
    from benchmarks.contestants import Contestant, ours, torchvisions

    detector: Any = geoseg.load_model(str(weights), device="cpu")
    calls: list[int] = []

    def too_much(chips: Any) -> Any:
        calls.append(len(chips))
        return torch.empty(1 << 50)

    runs = {"torchvision": torchvisions(detector), "another": ours(detector), "geoseg": ours(detector)}
    runs[full] = Contestant(run=too_much, told=lambda result, chips: [])
    chips = speed.cut(str(ROOT / "data_samples" / "town.tif"), 2, detector.card)
    speed.compared(runs, [[chip] for chip in chips], 2, detector)
    found = rows(capsys.readouterr().out)
    assert calls == [1] and found[full][0] == "out of memory"
    assert float(found["geoseg"][0]) > 0
    assert (found["geoseg"][2] == "-") == (found["geoseg"][4] == "-") == (full == "torchvision")


def test_other_errors_of_a_contestant_end_the_comparison(speed: Any) -> None:
    import torch

    def broken() -> None:
        raise RuntimeError("no such operator")

    with pytest.raises(RuntimeError, match="no such operator"):
        speed.if_there_is_room(broken, torch.device("cpu"))


def test_only_the_call_of_the_network_is_timed(weights: Path, speed: Any) -> None:
    """Neither what comes before nor the copying of planes after: the clock is read between the steps."""
    import torch

    from benchmarks.contestants import Contestant

    order: list[str] = []
    clock = speed.clock
    speed.clock = lambda where: (order.append("clock"), clock(where))[1]
    steps = Contestant(
        given=lambda chips: order.append("given"),
        run=lambda given: order.append("run"),
        told=lambda result, chips: order.append("told") or [],  # type: ignore[func-returns-value]
    )
    try:
        speed.Standings({"one": steps}, torch.device("cpu")).turn("one", [], tell=True)
    finally:
        speed.clock = clock
    assert order == ["given", "clock", "run", "clock", "told"]
