"""What the chaos suite throws things at: a raster full of seams, a detector that can be told to fail, real processes.

Workers import this file to get the detector, so it imports little.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import scipy.ndimage

import geoseg

HERE = Path(__file__).resolve().parent
CORE, HALO, BLOCK = 32, 8, 2
CARD = geoseg.ModelCard(classes=("spot",), name="spots", core=CORE, halo=HALO)
ENGINE = ("scheduler", "workers", "processes", "patience_s")
BEGUN = "begun"
"""What a driver says when it takes signals: before that, it is Python that does."""
MARK = "GEOSEG_CHAOS"
"""Environment variable that every process of a test inherits, however deep: what still has it later is an orphan."""


@dataclass(frozen=True, kw_only=True)
class Spots:
    """Sees each connected bright area as one object, cut at the window; a pure function of the chip."""

    card: geoseg.ModelCard = CARD
    log: str = ""
    """File to which a line is appended for every chip: what was predicted, and how often."""
    pause_s: float = 0.0
    """Seconds that it sleeps over a chip."""
    kills: tuple[int, int] | None = None
    """Row and column of a tile that kills its process."""
    hangs: tuple[int, int] | None = None
    """Likewise, at which it never comes back."""
    waits: str = ""
    """File that has to be there before it says anything."""

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """One set of instances per chip."""
        return [self._one(chip) for chip in chips]

    def _one(self, chip: geoseg.Chip) -> geoseg.Instances:
        place = chip.tile.row, chip.tile.col
        if self.log:
            handle = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, f"{os.getpid()} {place[0]} {place[1]}\n".encode())
            os.close(handle)
        time.sleep(3600 if place == self.hangs else self.pause_s)
        if place == self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        while self.waits and not os.path.exists(self.waits):
            time.sleep(0.02)
        components, _ = scipy.ndimage.label(np.where(chip.valid, chip.pixels[0], 0) >= 100)
        found = scipy.ndimage.find_objects(components)
        return geoseg.Instances(
            boxes=np.array([(c.start, r.start, c.stop, r.stop) for r, c in found], float).reshape(-1, 4),
            scores=[0.9] * len(found),
            labels=[0] * len(found),
            masks=[components[box] == i + 1 for i, box in enumerate(found)],
        )


def scene(path: Path, rows: int, cols: int) -> int:
    """A raster of ``rows`` x ``cols`` tiles, never quite full ones, of boxes and strips that seams cut; how many."""
    from painted import write_raster

    rng = np.random.default_rng(11)
    pixels = np.zeros((rows * CORE - 5, cols * CORE - 11), np.uint8)
    for _ in range(rows * cols * 2):
        row, col = rng.integers(0, pixels.shape[0]), rng.integers(0, pixels.shape[1])
        tall, wide = (4, 90) if rng.random() < 0.05 else rng.integers(3, 14, 2).tolist()
        pixels[row : row + tall, col : col + wide] = 200
    write_raster(path, pixels, "rotated", tiled=True, blockxsize=64, blockysize=64)
    return int(scipy.ndimage.label(pixels)[1])


def digest(output: Path) -> str:
    """Of a FlatGeobuf output and its gaps: of all but the run's times."""
    gaps = output.with_name(f"{output.stem}.gaps{output.suffix}")
    return hashlib.sha256(output.read_bytes() + b"|" + gaps.read_bytes()).hexdigest()


def predicted(log: Path) -> Counter[tuple[int, int]]:
    """How often each tile was shown to the detector."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter((int(row), int(col)) for _, row, col in map(str.split, lines))


def eventually(what: Callable[[], Any], within_s: float = 120.0) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < end, f"{what} did not come true in {within_s:g} s"
        time.sleep(0.05)
    return found


# --- drivers ----------------------------------------------------------------------------------------------


def command(raster: Path, output: Path, options: dict[str, Any]) -> None:
    """`geoseg extract` as the command does it, but for the model: same lock, signals, messages and exit codes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    import typer

    from geoseg.cli.console import start
    from geoseg.cli.exits import Commands
    from geoseg.extraction import extract_to
    from geoseg.signals import stoppable

    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    engine = {name: options.pop(name) for name in ENGINE if name in options}
    engine["block_timeout_s"] = options.pop("limit_s", 3600.0)
    store = options.pop("store", None)
    settings = geoseg.Settings.model_validate({"tiling": {"block": BLOCK}, "engine": engine})

    @app.command()
    def extract() -> None:
        start()
        with stoppable():
            print(BEGUN, flush=True)
            report = extract_to(raster, Spots(**options), output, settings=settings, store=store)
        raise typer.Exit(report.exit_code)

    app(["extract"])


def _entered(said: Path, raster: Path, output: Path, options: dict[str, Any]) -> None:
    import warnings

    warnings.simplefilter("ignore")
    os.environ["TERM"] = "dumb"
    handle = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.setpgid(0, 0)
    command(raster, output, options)


@dataclass
class Driver:
    """A run in a process of its own, made by a server that has all libraries loaded: real, but quick to start."""

    raster: Path
    output: Path
    options: dict[str, Any]
    said: Path = field(init=False)
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        self.said = self.output.parent.parent / f"said-{uuid.uuid4().hex[:8]}.txt"
        context = get_context("forkserver")
        context.set_forkserver_preload(["chaos", "geoseg.extraction", "geoseg.cli.exits", "typer"])
        work = (self.said, self.raster, self.output, self.options)
        self.process = context.Process(target=_entered, args=work)
        self.process.start()

    @property
    def running(self) -> bool:
        """Whether it still is."""
        return self.process.is_alive()

    def signal(self, *numbers: int) -> None:
        """Send signals, one after the other."""
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
            time.sleep(0.05)

    def wait(self, within_s: float = 300.0) -> int:
        """Its exit code; negative: the signal that ended it."""
        self.process.join(within_s)
        assert not self.running, f"still at work after {within_s:g} s: {self.text}"
        return int(self.process.exitcode)

    def until_begun(self) -> None:
        """Wait until it takes signals, or has ended."""
        eventually(lambda: BEGUN in self.text or not self.running)

    @property
    def text(self) -> str:
        """What it has said."""
        return self.said.read_text() if self.said.exists() else ""


def drive(raster: Path, output: Path, **options: Any) -> Driver:
    """Begin a run; options are fields of :class:`Spots`, ``[engine]`` settings, ``limit_s`` and ``store``."""
    output.parent.mkdir(exist_ok=True)
    return Driver(raster, output, options)


# --- clusters ---------------------------------------------------------------------------------------------


@dataclass
class Cluster:
    """`dask scheduler` and `dask worker` processes on loopback."""

    folder: Path
    nannies: int = 2
    threads: int = 1
    address: str = ""
    _scheduler: Any = None
    _nannies: list[Any] = field(default_factory=list)

    def start(self) -> None:
        """Both."""
        self.start_scheduler()
        for _ in range(self.nannies):
            self.start_worker()

    def start_scheduler(self) -> None:
        """The scheduler, at the address that it had before if it had one."""
        said = self.folder / f"scheduler-{uuid.uuid4().hex[:8]}.json"
        port = self.address.rsplit(":", 1)[-1] if self.address else "0"
        place = ["--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0"]
        self._scheduler = self._begin("scheduler", *place, "--scheduler-file", str(said))
        import json

        def told() -> str:
            assert self._scheduler.poll() is None, (self.folder / "dask.txt").read_text()[-2000:]
            with suppress(OSError, ValueError):
                return str(json.loads(said.read_text())["address"])
            return ""

        self.address = eventually(told)

    def start_worker(self) -> None:
        """One more nanny, and its worker."""
        place = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--local-directory", str(self.folder)]
        how = ["--nthreads", str(self.threads), "--preload-nanny", "chaos_nanny", "--death-timeout", "300"]
        self._nannies.append(self._begin("worker", self.address, *place, *how))

    def _begin(self, *arguments: str) -> Any:
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
            "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver",
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
        }
        with open(self.folder / "dask.txt", "ab") as said:
            return subprocess.Popen([sys.executable, "-m", "dask", *arguments], env=env, stdout=said, stderr=said)

    def workers(self) -> list[int]:
        """The processes that do the work: they are forked from servers, which the nannies have started."""
        found = []
        for nanny in self._nannies:
            with suppress(psutil.Error):
                for each in psutil.Process(nanny.pid).children(recursive=True):
                    with suppress(psutil.Error):
                        if "forkserver" in " ".join(each.parent().cmdline()):
                            found.append(each.pid)
        return found

    def kill_scheduler(self) -> None:
        """As a machine that is gone does."""
        self._scheduler.kill()
        self._scheduler.wait()

    def freeze_scheduler(self) -> None:
        """It is there, and does nothing."""
        self._scheduler.send_signal(signal.SIGSTOP)

    def kill_nannies(self) -> None:
        """All workers too, for good."""
        workers = self.workers()
        for nanny in self._nannies:
            nanny.kill()
            nanny.wait()
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._nannies.clear()

    def stop(self) -> None:
        """Everything."""
        self.kill_nannies()
        if self._scheduler is not None:
            self.kill_scheduler()


@contextmanager
def cluster(folder: Path, *, nannies: int = 2, threads: int = 1) -> Iterator[Cluster]:
    """A cluster for as long as the block runs."""
    folder.mkdir(exist_ok=True)
    found = Cluster(folder, nannies, threads)
    try:
        found.start()
        eventually(lambda: len(found.workers()) == nannies)
        yield found
    finally:
        found.stop()


@contextmanager
def marked() -> Iterator[Callable[[], list[str]]]:
    """Gives what lists the processes that were begun inside the block (and what these began) and still are there."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark

    def left() -> list[str]:
        found = []
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                if each.pid != os.getpid() and each.environ().get(MARK) == mark:
                    found.append(" ".join(each.cmdline()))
        return found

    try:
        yield left
    finally:
        del os.environ[MARK]


def spawn(raster: str | bytes, output: str | bytes, options: dict[str, Any], **env: str) -> subprocess.Popen[str]:
    """A run in a process begun from nothing, with environment variables of its own. Paths may be any bytes."""
    import json

    code = "import json, os, sys, pathlib, chaos; a = sys.argv; " + (
        "chaos.command(pathlib.Path(a[1]), pathlib.Path(a[2]), json.loads(a[3]))"
    )
    return _spawned(code, raster, output, json.dumps(options), **env)


def spawn_archive(folder: Path, **options: Any) -> subprocess.Popen[str]:
    """`geoseg run` over the rasters in ``folder/in``, as :func:`spawn`; options are fields of :class:`Spots`."""
    import json

    return _spawned(
        "import chaos, json, sys; chaos.archive(sys.argv[1], json.loads(sys.argv[2]))", str(folder), json.dumps(options)
    )


def archive(folder: str, options: dict[str, Any]) -> None:
    """What `geoseg run` does, but for the model."""
    from geoseg.signals import stoppable

    signal.signal(signal.SIGINT, signal.default_int_handler)
    values = {
        "archive": {"model": "spots", "folder": "out", "format": "fgb", "at_once": 2},
        "input": {"globs": ["in/*.tif"]},
        "merge": {"output": "merged.fgb"},
        "tiling": {"block": BLOCK},
        "engine": {"workers": 1},
    }
    try:
        with stoppable():
            print(BEGUN, flush=True)
            done = geoseg.run_archive(geoseg.RunConfig.model_validate(values).rooted(folder), model=Spots(**options))
    except KeyboardInterrupt as error:
        raise SystemExit(geoseg.errors.exit_code(error)) from None
    raise SystemExit(done.exit_code)


def _spawned(code: str, *arguments: str | bytes, **env: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    return subprocess.Popen(
        [os.fsencode(each) for each in (sys.executable, "-c", code, *arguments)],
        env={**os.environ, "PYTHONPATH": path, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
