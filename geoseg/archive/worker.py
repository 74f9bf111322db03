"""What the process does that works on scenes: looks at each, and extracts from it where it is told to go on.

A process of its own, for a raster can end the process that reads it: a fault in a codec, a full memory, a read that
never returns. And one process for many scenes, for loading a model onto a device takes longer than many a raster.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import re
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import shapely
from pyproj import CRS, Transformer

from geoseg.aoi import Area
from geoseg.archive.heard import Heard
from geoseg.archive.record import Died, Done, Failed, Looked
from geoseg.config import RasterSettings, Settings
from geoseg.detectors import Detector, ModelCard
from geoseg.errors import ClusterError, GeosegError, RasterError, ResourceError, exit_code
from geoseg.grid import Grid
from geoseg.job import Job, Sketch, opened
from geoseg.locks import output_lock
from geoseg.raster import RasterInfo
from geoseg.raster.access import is_remote
from geoseg.raster.keys import check_file
from geoseg.report import Report
from geoseg.signals import STOPS
from geoseg.stac.place import outline_of
from geoseg.stac.reach import shown
from geoseg.watch import HUNG

LOCK_WAIT_S = 3.0
"""A killed run's process may hold an output's lock for a moment still."""
_TOLD_S = 2.0
_NO_ROOM = ("No space left", "disk is full", "quota", "read-only")
_AWAY = re.compile(r"HTTP response code: (408|429|5\d\d)|CURL error")
"""What GDAL says of a server or a network that may be back later."""
_LEFT_OUT = ("settings", "versions", "aoi", "raster_key", "raster", "run")


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What is the same for all scenes of a run."""

    model: str | Detector
    """Bundled name or weights file; or a detector of one's own, which then has to be picklable."""
    card: ModelCard
    """The model's."""
    digest: str
    """Of its weights; empty where it has none."""
    settings: Settings
    """Of each run, but for what its raster may be."""
    aoi: Area | None
    """Only this; None: everything."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One scene to be worked on."""

    id: int
    """Its number in the manifest."""
    href: str
    """Path or URL."""
    acquired: datetime | None
    """When it was taken; None: as the raster says."""
    output: Path
    """Where it goes."""
    raster: RasterSettings
    """What it may be, and what its file does not say."""
    checksum: str | None = None
    """Its multihash, where a catalogue states one."""

    def settings(self, orders: Orders) -> Settings:
        """Those of its run."""
        return orders.settings.model_copy(update={"raster": self.raster})


def work(pipe: Connection, orders: Orders) -> None:
    """Take tasks from ``pipe`` until None comes, and answer each with a Looked and, if told to go on, with what came
    of it: a Done or a Failed. In between come pairs of tiles done and in all. A Died is the last answer of all."""
    heard = Heard()
    _settle(heard)
    detector: Detector | None = None
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while (task := pipe.recv()) is not None:
            try:
                heard.taken()
                info, looked = _look(task, orders)
                pipe.send(looked)
                if not pipe.recv():
                    continue
                if detector is None:
                    detector = _loaded(orders)
                done = _extract(task, info, detector, orders, pipe)
                warnings = [_plain(warning, task) for warning in heard.taken(done.figures["warnings"])]
                pipe.send(replace(done, figures={**done.figures, "warnings": warnings}))
            except _CannotLoadError as error:
                pipe.send(Failed(code=exit_code(error.error), error=_message(error.error), fatal=True))
            except Exception as error:
                failed = _failed(error, task)
                if failed.code == 4 and not failed.fatal and _left_at_work():
                    pipe.send(Died(why=failed.error))
                    return
                pipe.send(failed)


def _settle(heard: Heard) -> None:
    """Make this a process that ends when its run does, and that goes first where memory is short."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    for number in STOPS:  # the others go to all of a terminal's processes: the run decides, and says so by SIGTERM
        signal.signal(number, stop if number == signal.SIGTERM else signal.SIG_IGN)
    logging.getLogger("geoseg").addHandler(heard)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    with suppress(OSError, AttributeError):  # Linux: the kernel's word that we go with the run, even inside GDAL
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Elsewhere than on Linux: nobody may be left who works for a run that was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(130)


class _CannotLoadError(Exception):
    """The model cannot be loaded: that is so for every scene."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _loaded(orders: Orders) -> Detector:
    if not isinstance(orders.model, str):
        return orders.model
    try:
        from geoseg.detectors import load_model  # torch: not before something has to be done

        return load_model(orders.model, orders.settings.detect.device)
    except Exception as error:
        raise _CannotLoadError(error) from error


def _look(task: Task, orders: Orders) -> tuple[RasterInfo, Looked]:
    """Open a raster and find out which run it would be."""
    settings = task.settings(orders)
    info = opened(task.href, settings.raster)
    if task.checksum is not None and os.path.isfile(info.path):
        check_file(info.path, task.checksum)
    if task.acquired is not None:
        info = replace(info, acquired=task.acquired)
    sketch = Sketch(card=orders.card, digest=orders.digest)
    job = Job.of(info, sketch, aoi=orders.aoi, tiling=None, settings=settings)
    looked = Looked(
        key=info.key,
        run=job.identity,
        extent=extent(info.grid),
        seen=info.acquired,
        plain=info.driver != "VRT" and os.path.isfile(info.path),
    )
    return info, looked


def _extract(task: Task, info: RasterInfo, detector: Detector, orders: Orders, pipe: Connection) -> Done:
    # Here, for dask takes a second to load, and a run where nothing has changed needs none of it.
    from geoseg.extraction import run_to

    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _TOLD_S:
            last = time.monotonic()
            pipe.send((done, total))

    with output_lock(task.output, wait_s=LOCK_WAIT_S):
        report = run_to(info, detector, task.output, aoi=orders.aoi, settings=task.settings(orders), progress=tell)
    return Done(figures=_in_short(report), run=report.run, footprints=report.footprints, code=report.exit_code)


def _in_short(report: Report) -> dict[str, Any]:
    """What of a report is not the same for all scenes."""
    return {name: value for name, value in report.as_dict().items() if name not in _LEFT_OUT}


def _left_at_work() -> bool:
    """Whether a thread that hung is in its block still: nothing can end it, and it may hold the device, for which all
    that comes after in this process would wait."""
    return any(thread.name == HUNG for thread in threading.enumerate())


def _plain(text: str, task: Task) -> str:
    """A message without the query of the scene's URL, which may be a key."""
    return text.replace(task.href, shown(task.href)) if is_remote(task.href) else text


def _failed(error: Exception, task: Task) -> Failed:
    text = _plain(_message(error), task)
    if isinstance(error, RasterError) and is_remote(task.href) and _AWAY.search(text):
        return Failed(code=ResourceError.exit_code, error=text, alone=True)
    full = exit_code(error) == 4 and any(sign.lower() in text.lower() for sign in _NO_ROOM)
    return Failed(code=exit_code(error), error=text, fatal=full or isinstance(error, ClusterError))


def _message(error: Exception) -> str:
    text = str(error) if isinstance(error, GeosegError) else f"{type(error).__name__}: {error}"
    return text.encode("utf-8", "backslashreplace").decode()[:2000]


def extent(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east, north of a grid in degrees; west is east of east across the antimeridian."""
    if grid.earth is not None:  # its corners lie nowhere
        west, south, east, north = outline_of(grid)[1]
        return west, south, east, north
    outline = grid.geometry_to_world(np.array([shapely.box(*grid.window.xyxy)], dtype=object))[0]
    to_degrees = Transformer.from_crs(grid.crs, CRS.from_epsg(4326), always_xy=True)
    left, bottom, right, top = outline.bounds
    west, south, east, north = to_degrees.transform_bounds(left, bottom, right, top, densify_pts=21)
    return (round(west, 7), round(south, 7), round(east, 7), round(north, 7))
