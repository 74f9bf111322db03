"""The loop of a run: scenes handed out one by one, answers recorded as they come."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from geoseg.archive.config import RunConfig
from geoseg.archive.crew import Crew, Hand
from geoseg.archive.manifest import Manifest
from geoseg.archive.names import plain
from geoseg.archive.plan import Plan
from geoseg.archive.record import BAD, WRITTEN, Died, Done, Failed, Looked, Record, State
from geoseg.archive.signature import signature
from geoseg.archive.worker import Orders, Task
from geoseg.sinks import written_run

log = logging.getLogger("geoseg")

_WAIT_S = 1.0


class Stopped(Exception):
    """The run cannot go on: what it stands on fails. What is left is left for the next one."""

    def __init__(self, why: str, code: int = 4) -> None:
        super().__init__(why)
        self.code = code


class Drive:
    """Hands the scenes of a manifest to a crew until none is left."""

    def __init__(
        self,
        manifest: Manifest,
        orders: Orders,
        config: RunConfig,
        plan: Plan,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.manifest, self.plan, self.progress = manifest, plan, progress
        self.archive = config.archive
        self.crew = Crew(orders, config.archive.at_once, config.archive.scene_timeout_s)
        self._began: dict[int, float] = {}
        self._row = 0
        self._total, self._done = manifest.count("pending"), 0

    def __enter__(self) -> Drive:
        return self

    def __exit__(self, *_: object) -> None:
        self.crew.stop()

    def run(self) -> None:
        """Until no scene is left.

        Raises:
            Stopped: the environment fails.
        """
        while True:
            left = True
            while left and self.crew.free:
                left = self._begin_next()
            self.manifest.settle()
            if not self.crew.busy:
                return
            for hand, answer in self.crew.answers(_WAIT_S):
                self._hear(hand, answer)

    def _begin_next(self) -> bool:
        """Settle or hand out the first scene that is left; False: there is none."""
        record = self.manifest.next()
        if record is None:
            return False
        if reason := record.extra.get("refused"):
            self._finish(record.id, "refused", error=reason, code=2)
            return True
        now = signature(record.href)
        if not self._settled(record, now):
            self._start(record, now)
            self._began[record.id] = time.monotonic()
            task = Task(
                id=record.id,
                href=record.href,
                acquired=record.acquired,
                output=self.manifest.folder / record.output,
                raster=self.plan.rules.raster(record.href),
                checksum=record.extra.get("checksum"),
            )
            self.crew.give(task)
        return True

    def _start(self, record: Record, now: str | None) -> None:
        """Note that a scene is begun. Until it is finished its output is of no known plan: a killed run must not leave
        what looks like a scene that nothing has to be done with."""
        known = {"signature": now, "plan": self.plan.scene(record), "key": None, "stamp": None}
        self.manifest.update(record.id, state="running", started=_now(), tries=record.tries + 1, **known)

    def _settled(self, record: Record, now: str | None) -> bool:
        """Whether a scene needs no look: neither its file nor its output has changed since it was done."""
        if not self.plan.known(record, now):
            return False
        owner = self.manifest.owner(str(record.key), record.id)
        if owner is not None:
            self._finish(record.id, "same", soon=True, same_as=owner)
            return True
        if not self.plan.untouched(record, self.manifest.folder):
            return False
        self._finish(record.id, "done", soon=True, unchanged=True)
        return True

    def _hear(self, hand: Hand, answer: Any) -> None:
        assert hand.task is not None
        number = hand.task.id
        if isinstance(answer, tuple):
            self.manifest.update(number, tiles=answer)
        elif isinstance(answer, Looked):
            self._looked(hand, number, answer)
        elif isinstance(answer, Done):
            stamp = signature(hand.task.output)
            state: State = "parts" if answer.code else "done"
            self.crew.release(hand)
            values: dict[str, Any] = {
                "footprints": answer.footprints,
                "figures": answer.figures,
                "code": answer.code,
                "stamp": stamp,
            }
            self._finish(number, state, run=answer.run, **values)
        elif isinstance(answer, Died):
            self._died(number, answer)
        else:
            self.crew.release(hand)
            self._failed(number, answer)

    def _looked(self, hand: Hand, number: int, looked: Looked) -> None:
        """Decide whether anything has to be done with a scene."""
        record = self.manifest.get(number)
        facts: dict[str, Any] = {"key": looked.key, "extent": looked.extent, "seen": looked.seen}
        if not looked.plain:
            facts["signature"] = None
        owner = self.manifest.owner(looked.key, number)
        if owner is not None:
            hand.send(False)
            self.crew.release(hand)
            self._finish(number, "same", same_as=owner, **facts)
        elif record.seen == looked.seen and self._stands(record, looked):
            hand.send(False)
            self.crew.release(hand)
            stamp = signature(self.manifest.folder / record.output)
            self._finish(number, "done", unchanged=True, stamp=stamp, **facts)
        else:
            # Its last figures are not those of what will stand there: killed before it is recorded, it is of no run.
            self.manifest.update(number, run=None, last=None, **facts)
            hand.send(True)

    def _stands(self, record: Record, looked: Looked) -> bool:
        found = written_run(self.manifest.folder / record.output)
        return record.run == looked.run == found.get("run") and found.get("complete") == str(True)

    def _died(self, number: int, died: Died) -> None:
        record = self.manifest.get(number)
        if record.tries <= self.archive.retries:
            log.warning("%s: %s; tried again", plain(record.name), died.why)
            self.manifest.update(number, state="pending", error=died.why)
            return
        self._failed(number, Failed(code=4, error=died.why))

    def _failed(self, number: int, failed: Failed) -> None:
        """Record a scene that came to nothing, and give up where that is no accident.

        Raises:
            Stopped: the same would happen to the next one.
        """
        if failed.fatal:
            self.manifest.update(number, state="pending", error=failed.error, code=failed.code)
            raise Stopped(failed.error, failed.code)
        self._finish(number, failed.state, error=failed.error, code=failed.code)
        self._row += failed.code == 4 and not failed.alone
        if self._row >= self.archive.give_up_after:
            many = f"{self._row} scenes in a row failed by the environment"
            raise Stopped(f"{many}, the last so: {failed.error}")

    def _finish(self, number: int, state: State, *, soon: bool = False, **values: Any) -> None:
        """Commit what a scene came to, at once or ``soon``, and say so."""
        began = self._began.pop(number, None)
        seconds = 0.0 if began is None else round(time.monotonic() - began, 3)
        put = self.manifest.update_soon if soon else self.manifest.update
        put(number, state=state, seconds=seconds, ended=_now(), tiles=None, **values)
        if state in WRITTEN and not values.get("unchanged"):  # only what was worked on tells of the environment
            self._row = 0
        self._done += 1
        if self.progress:
            self.progress(self._done, self._total)
        record = self.manifest.get(number)
        _say(record, None if record.same_as is None else self.manifest.get(record.same_as))


def _say(record: Record, same: Record | None) -> None:
    """One line of log on a scene, and on the one whose content it has."""
    name = plain(record.name)
    fields = {
        "scene": record.name,
        "state": record.state,
        "footprints": record.footprints,
        "seconds": record.seconds,
        "output": record.output,
    }
    if record.state in BAD:
        log.warning("%s: %s: %s", name, record.state, plain(record.error or ""), extra={"fields": fields})
    elif record.unchanged:
        log.debug("%s: unchanged", name, extra={"fields": fields})
    elif same is not None:
        log.info("%s: the content of %s, done once", name, plain(same.name), extra={"fields": fields})
    else:
        missing = ", parts missing" if record.state == "parts" else ""
        text = f"{name}: {record.footprints:,} footprints in {record.seconds:.1f} s{missing}"
        log.info("%s", text, extra={"fields": fields})


def _now() -> datetime:
    return datetime.now(UTC)
