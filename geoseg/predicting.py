"""Asking a detector: what it sees in each chip, or why it could not say. Failure is narrowed down to single chips."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from geoseg.detectors.base import Detector, in_steps
from geoseg.errors import AnswerError, ConfigError, GeosegError, ModelError, RasterError, ResourceError
from geoseg.instances import Chip, Instances

log = logging.getLogger("geoseg")

SICK = 8
"""This many failures in a row in one process, or as many and most tiles of a run, are no accident any more."""
_INSIDE = 0.9
"""Share of a mask's cells that tells by where they lie what the mask is of: edges of masks may reach out of a box."""
_DEVICE = threading.Lock()
"""One network call at a time per process: it keeps the device busy by itself, and detectors need not be
thread-safe. Other threads read and outline meanwhile, and make Instances of what the network said."""
_mine = threading.local()

Cause = Literal["memory", "device", "raster", "answer", "other"]
"""``memory``: there was no room. ``device``: the GPU, or a worker, broke. ``raster``: the file could not be opened.
``answer``: what the detector said cannot be used. ``other``: whatever else it raised."""

# Told by name and text, since a detector may bring any library: torch is imported nowhere here.
_NO_ROOM = ("out of memory", "can't allocate memory", "failed to allocate memory")
_BROKEN = ("cuda error", "cudnn error", "cudnn_status", "cublas_status", "hip error")
_ASSERTED = "device-side assert"
"""What CUDA says where a network reads beyond the end of a tensor, by the number of a class that it does not have, say:
the GPU is well."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a tile or a block could not be done."""

    cause: Cause
    """What kind of trouble it is."""
    said: str
    """The exception, in one line."""

    @classmethod
    def of(cls, error: BaseException, detector: object = None) -> Failure:
        """What an exception means, and in which line of the detector's module it came about; not in geoseg's own."""
        said = str(error).splitlines()[0] if str(error) else ""
        place = _place(error, type(detector).__module__)
        return cls(cause=_cause(error, str(error).lower()), said=f"{type(error).__name__}: {said}"[:200] + place)


@dataclass(eq=False)
class Health:
    """How a detector has fared in this process, during one run. It does not travel: each process counts its own."""

    worked: bool = False
    """It has seen a chip."""
    in_a_row: int = 0
    """Chips that failed since."""
    room: int = 0
    """Chips per call that memory was found to have room for; 0: as many as were asked for."""
    halved: int = 0
    """How often that was found out, and not told yet."""
    lock: Any = field(default_factory=threading.Lock)

    def __reduce__(self) -> tuple[Any, ...]:
        return Health, ()

    def well(self) -> None:
        """Some chips were seen."""
        with self.lock:
            self.worked, self.in_a_row = True, 0

    def full(self, count: int) -> bool:
        """Memory has no room for so many chips: half of them from now on, so that no later call fails likewise.
        Whether that is news; it counts once the halves were seen (:meth:`halve`), for one chip may be to blame."""
        with self.lock:
            news = not self.room or self.room >= count
            if news:
                self.room = count // 2
            return news

    def halve(self) -> None:
        """A batch was to blame, not one of its chips."""
        with self.lock:
            self.halved += 1

    def told(self) -> tuple[int, int]:
        """How often a batch was halved since this was asked last, and the room that there is."""
        with self.lock:
            halved, self.halved = self.halved, 0
            return halved, self.room

    def failed(self, failure: Failure) -> None:
        """One chip was not.

        Raises:
            GeosegError: it was one too many, see :func:`given_up`.
        """
        with self.lock:
            self.in_a_row += 1
            if failure.cause == "memory":  # the chip has no room by itself: batches were not to blame
                self.room = 0
            if self.in_a_row >= SICK:
                said = f"a detector that failed on {self.in_a_row} tiles in a row ({failure.said})"
                raise given_up(said, failure.cause, worked=self.worked)


def given_up(got: str, cause: Cause, *, worked: bool) -> GeosegError:
    """The error that ends a run in which too much failed: the environment's, unless the cause says otherwise.

    Args:
        got: what happened.
        cause: of most failures.
        worked: whether anything was seen at all. A detector that never worked is itself to blame.
    """
    if cause == "memory":
        return ResourceError(got, remedy="Take smaller tiles (--core), a smaller [detect] batch, or another device")
    if cause == "raster":
        return RasterError(got, remedy="Look after the file, and the disk or network it comes from; then run again")
    if cause == "answer" or (cause == "other" and not worked):
        return ModelError(got, remedy="Look into the detector, and whether it suits this raster")
    return ResourceError(got, remedy="Look after the device (`geoseg doctor`), and run the same command again")


def most_common(causes: Mapping[Cause, int]) -> Cause:
    """The cause of most failures; of equals the first by name."""
    return min(causes, key=lambda cause: (-causes[cause], cause))


def predict(detector: Detector, chips: Sequence[Chip], health: Health) -> list[Instances | Failure]:
    """What the detector sees in each chip, or why it failed there.

    A call that runs out of memory is made again with half the chips, down to one, and so are all that come after; one
    that fails otherwise, with each of its chips alone, once.

    Raises:
        ModelError: it returns what is no set of instances.
        GeosegError: it fails again and again.
    """
    if 0 < (room := health.room) < len(chips):
        return _in_parts(detector, chips, health, room)
    try:
        found = _asked(detector, list(chips))
    except (Exception, SystemExit) as error:  # some code, called as if it were a command, ends with sys.exit()
        if isinstance(error, GeosegError) and not isinstance(error, AnswerError):
            raise
        failure = Failure.of(error, detector)
        log.debug("the detector's traceback:", exc_info=error)
    else:
        health.well()
        return list(found)
    if len(chips) == 1:
        log.warning("the detector failed on tile (%d, %d): %s", chips[0].tile.row, chips[0].tile.col, failure.said)
        health.failed(failure)
        return [failure]
    log.warning("the detector failed on %d chips (%s): trying with fewer", len(chips), failure.said)
    if failure.cause != "memory":
        return _in_parts(detector, chips, health, 1)
    news = health.full(len(chips))
    parts = _in_parts(detector, chips, health, len(chips) // 2)
    if news and not any(isinstance(each, Failure) and each.cause == "memory" for each in parts):
        health.halve()
    return parts


def _in_parts(detector: Detector, chips: Sequence[Chip], health: Health, size: int) -> list[Instances | Failure]:
    parts = [chips[start : start + size] for start in range(0, len(chips), size)]
    return [each for part in parts for each in predict(detector, part, health)]


def _asked(detector: Detector, chips: list[Chip]) -> Sequence[Instances]:
    """One call of the detector; of one in steps, only what needs the device keeps others from it."""
    count, sizes = len(chips), [chip.valid.shape for chip in chips]  # the list is the detector's, which may empty it
    if not in_steps(detector):
        with _alone():
            found = _checked(detector.predict(chips), count, detector)
        for each, size in zip(found, sizes, strict=True):
            _refuse_planes(each, size)
        return found
    packed = detector.pack(chips)
    with _alone():
        seen = detector.look(packed)
    return _checked(detector.unpack(seen), count, detector)


@contextmanager
def _alone() -> Iterator[None]:
    with _DEVICE:
        _mine.asking = True
        try:
            yield
        finally:
            _mine.asking = False


def check_not_asked() -> None:
    """Refuse a run that a detector begins in its ``predict``: each would wait for the other to be done with the device.

    Raises:
        ConfigError: it is so.
    """
    if getattr(_mine, "asking", False):
        raise ConfigError(
            "a run that is begun by a detector while it is asked for another",
            allowed="runs one after the other, or on other threads that no detector waits for",
            remedy="In predict, call the predict of the other detector",
        )


def _checked(found: Any, count: int, detector: Detector) -> Sequence[Instances]:
    listed = list(found) if isinstance(found, Sequence) else [found]
    if len(listed) != count or not all(isinstance(each, Instances) for each in listed):
        got = ", ".join(type(each).__name__ for each in listed) or "nothing"
        raise ModelError(
            f"a detector that returned {got} for {count} chips",
            allowed="a list with one geoseg.Instances per chip, in order; Instances() where there is nothing",
        )
    classes = detector.card.classes
    for each in listed:
        if len(each) and each.labels.max() >= len(classes):
            raise ModelError(
                f"a detector that returned the label {each.labels.max()}",
                allowed=f"0 to {len(classes) - 1}, an index into the card's classes {classes}",
            )
    return listed


def _refuse_planes(found: Instances, size: tuple[int, ...]) -> None:
    """Refuse masks of the whole chip, as many libraries give them: as crops they would shrink into their boxes, and
    nothing would tell. A crop may be as large as the chip by chance, but then it does not lie within its box there.

    Raises:
        ModelError: a mask of the chip's size has nearly all its cells inside a box that is at most half as wide or
            high.
    """
    for box, mask in zip(found.boxes, found.masks, strict=True):
        x1, y1, x2, y2 = box
        if mask.shape != size or (x2 - x1 > size[1] / 2 and y2 - y1 > size[0] / 2):
            continue
        rows, cols = np.nonzero(mask >= 0.5)
        inside = (x1 - 1 <= cols) & (cols <= x2) & (y1 - 1 <= rows) & (rows <= y2)
        if len(rows) and inside.mean() >= _INSIDE:
            raise ModelError(
                f"a mask of the whole chip, {size[0]} x {size[1]} pixels, for a box of {y2 - y1:g} x {x2 - x1:g}",
                allowed="a crop over the box: cell (r, c) of an (h, w) crop covers that fraction of it",
                remedy="With boxes of whole pixels take mask[y1:y2, x1:x2]",
            )


def _place(error: BaseException, module: str) -> str:
    """The innermost line of a module that an exception came through. Ours are known from the traceback, with -v."""
    if module == "builtins" or module.partition(".")[0] == "geoseg":
        return ""
    through = [
        frame for frame in traceback.walk_tb(error.__traceback__) if frame[0].f_globals.get("__name__") == module
    ]
    return f" (in {through[-1][0].f_code.co_name}, line {through[-1][1]})" if through else ""


def _cause(error: BaseException, text: str) -> Cause:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"MemoryError", "OutOfMemoryError"} or any(words in text for words in _NO_ROOM):
        return "memory"
    if isinstance(error, RasterError):
        return "raster"
    if isinstance(error, AnswerError) or _ASSERTED in text:
        return "answer"
    if kinds & {"AcceleratorError", "KilledWorker", "HungError"} or any(words in text for words in _BROKEN):
        return "device"
    return "other"
