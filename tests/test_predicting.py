"""Asking a detector: failure is narrowed down to single chips, and told by its cause."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from painted import CARD

from geoseg.detectors.base import InSteps
from geoseg.errors import AnswerError, ConfigError, GeosegError, ModelError, RasterError, ResourceError
from geoseg.instances import Chip, Instances
from geoseg.predicting import SICK, Failure, Health, given_up, most_common, predict
from geoseg.tiling import Tiling
from geoseg.window import Window


def _chips(count: int) -> list[Chip]:
    plan = Tiling(core=8, halo=0).plan(Window(row_off=0, col_off=0, height=6, width=8 * count))
    return [Chip(tile=t, pixels=np.zeros((1, 6, 8), np.uint8), valid=np.ones((6, 8), bool)) for t in plan.tiles()]


class Asked:
    """Does what it is told to, and notes the columns of the chips of each call."""

    card = CARD

    def __init__(self, trouble: Callable[[list[int]], Exception | None]) -> None:
        self.trouble, self.calls = trouble, list[list[int]]()

    def predict(self, chips: list[Chip]) -> list[Instances]:
        self.calls.append([chip.tile.col for chip in chips])
        if error := self.trouble(self.calls[-1]):
            raise error
        return [Instances() for _ in chips]


RAISED = Asked.predict.__code__.co_firstlineno + 3
"""The line in which it raises."""


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


class AcceleratorError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    "error", [MemoryError(), OutOfMemoryError("x"), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")]
)
def test_only_memory_halves_the_batch(error: Exception) -> None:
    model = Asked(lambda cols: error if len(cols) > 2 else None)
    assert all(isinstance(each, Instances) for each in predict(model, _chips(6), Health()))
    assert model.calls == [[0, 1, 2, 3, 4, 5], [0, 1, 2], [0], [1], [2], [3], [4], [5]]


def test_a_detector_that_would_end_the_program_fails_on_its_chip_alone() -> None:
    model = Asked(lambda cols: SystemExit("no such weights") if 1 in cols else None)  # type: ignore[arg-type,return-value]
    told = predict(model, _chips(3), Health())
    assert [each.said for each in told if isinstance(each, Failure)] == [
        f"SystemExit: no such weights (in predict, line {RAISED})"
    ]


def test_a_batch_stays_halved_and_each_halving_is_told_once() -> None:
    model, health = Asked(lambda cols: MemoryError() if len(cols) > 2 else None), Health()
    for _ in range(3):
        assert all(isinstance(each, Instances) for each in predict(model, _chips(5), health))
    assert [len(cols) for cols in model.calls] == [5, 2, 2, 1, 2, 2, 1, 2, 2, 1]
    assert health.told() == (1, 2) and health.told() == (0, 2)
    health.full(4)  # another thread's call, begun before: known
    assert health.told() == (0, 2)


def test_a_chip_without_room_by_itself_does_not_shrink_the_batches_of_the_others() -> None:
    model, health = Asked(lambda cols: MemoryError() if 1 in cols else None), Health()
    predict(model, _chips(4), health)
    assert model.calls == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]
    predict(model, _chips(6)[2:], health)
    assert model.calls[5:] == [[2, 3, 4, 5]] and health.told() == (0, 0)


def test_any_other_failure_asks_for_each_chip_alone_once() -> None:
    model = Asked(lambda cols: ValueError("not this one\nsecond line") if 2 in cols else None)
    found = predict(model, _chips(5), Health())
    assert model.calls == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]
    assert [isinstance(each, Instances) for each in found] == [True, True, False, True, True]
    assert found[2] == Failure(cause="other", said=f"ValueError: not this one (in predict, line {RAISED})")


def test_values_that_are_none_are_a_gap_and_other_answers_of_geoseg_end_the_run() -> None:
    def empty_box(cols: list[int]) -> Exception | None:
        if 1 in cols:
            Instances(boxes=[[3, 3, 3, 5]], scores=[1], labels=[0], masks=[np.ones((2, 2), bool)])  # type: ignore[arg-type]
        return None

    found = predict(Asked(empty_box), _chips(3), Health())
    assert isinstance(found[1], Failure) and found[1].cause == "answer" and "empty" in found[1].said
    with pytest.raises(ConfigError):
        predict(Asked(lambda cols: ConfigError("no")), _chips(3), Health())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"boxes": np.array([[1, 2], [1, 2], [9, 9], [8, 9]])}, r"shape \(4, 2\)"),
        ({"boxes": 3.0}, "shape"),
        ({"labels": [0.7, 1.0]}, "whole numbers"),
        ({"labels": [float("nan"), 0]}, "whole numbers"),
        ({"labels": ["roof", "roof"]}, "labels that are no array of numbers"),
        ({"scores": ["high", "low"]}, "scores that are no array of numbers"),
        ({"boxes": [[1, 1, 9], [2, 2, 9, 9]]}, "boxes that are no array"),
        ({"boxes": [["1", "1", "9", "8"]] * 2}, "boxes that are no array of numbers .of type <U1"),
        ({"scores": np.array(["0.9", "1"], object)}, "scores that are no array of numbers"),
        ({"scores": [None, 1]}, "scores that are no array of numbers"),
        ({"scores": np.array([0.9 + 1j, 1])}, "scores that are no array of numbers .of type complex"),
        ({"labels": b"0"}, "labels that are no array of numbers"),
        ({"masks": None}, "masks of type NoneType"),
        ({"masks": [[[1], [1, 0]], [[1]]]}, "masks that are no array"),
    ],
)
def test_nothing_is_made_to_fit(wrong: dict[str, Any], message: str) -> None:
    """Boxes by columns would be read as other boxes, and a label of 0.7 as the first class."""
    right = {"boxes": [[1, 1, 9, 8], [2, 2, 9, 9]], "scores": [1, 1], "labels": [0.0, 1.0], "masks": np.ones((2, 3, 3))}
    assert len(Instances(**right)) == 2  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=message):
        Instances(**{**right, **wrong})


class Says:
    """The same for each chip."""

    card = CARD

    def __init__(self, box: list[float], mask: Any) -> None:
        self.box, self.mask = box, mask

    def predict(self, chips: list[Chip]) -> list[Instances]:
        boxes: Any = [self.box]
        return [Instances(boxes=boxes, scores=[1], labels=[0], masks=[self.mask]) for _ in chips]  # type: ignore[arg-type]


def _plane(*box: int, size: tuple[int, int] = (6, 8)) -> Any:
    x1, y1, x2, y2 = box
    plane = np.zeros(size, bool)
    plane[y1:y2, x1:x2] = True
    return plane


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_masks_of_the_whole_chip_are_refused(kind: type) -> None:
    """As crops they would shrink into their boxes, and a run would end well with next to nothing."""
    for box in ([2, 1, 4, 4], [1.6, 0.8, 4.3, 4.4]):
        with pytest.raises(ModelError, match="whole chip, 6 x 8 pixels"):
            predict(Says(box, _plane(2, 1, 4, 4).astype(kind)), _chips(2), Health())
    frayed = _plane(1, 1, 4, 5)
    frayed[5, 7] = True  # one of its thirteen cells lies elsewhere
    with pytest.raises(ModelError, match="whole chip"):
        predict(Says([1, 1, 4, 5], frayed), _chips(2), Health())


@pytest.mark.parametrize(
    ("box", "mask"),
    [
        ([0, 0, 8, 6], _plane(2, 1, 4, 4)),  # the crop over a box that is the chip
        ([2, 1, 4, 4], _plane(0, 0, 8, 6)),  # a crop that happens to have the chip's size: it fills its box
        ([5, 2, 8, 5], _plane(1, 1, 7, 5)),
        ([2, 1, 4, 4], _plane(0, 0, 0, 0)),
        ([2, 1, 4, 4], _plane(2, 1, 4, 4, size=(6, 7))),
    ],
)
def test_crops_of_the_size_of_the_chip_are_crops(box: list[float], mask: Any) -> None:
    assert all(isinstance(each, Instances) for each in predict(Says(box, mask), _chips(2), Health()))


def test_an_answer_that_cannot_be_used_is_told_with_its_value() -> None:
    for wrong, said in (({"scores": [97]}, "a score of 97"), ({"boxes": [[30, 20, 10, 9]]}, "30, 20, 10, 9")):
        right = {"boxes": [[1, 1, 9, 8]], "scores": [1], "labels": [0], "masks": np.ones((1, 3, 3))}
        with pytest.raises(AnswerError, match=said):
            Instances(**{**right, **wrong})  # type: ignore[arg-type]


def test_a_detector_may_empty_the_list_of_chips() -> None:
    class Pops:
        card = CARD

        def predict(self, chips: list[Chip]) -> list[Instances]:
            return [Instances() for _ in iter(lambda: chips.pop() if chips else None, None)]

    assert len(predict(Pops(), _chips(3), Health())) == 3


@pytest.mark.parametrize(
    ("error", "worked", "kind"),
    [
        (MemoryError(), False, ResourceError),
        (MemoryError(), True, ResourceError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, ResourceError),
        (AcceleratorError("x"), False, ResourceError),
        (AcceleratorError("CUDA error: device-side assert triggered"), True, ModelError),
        (ValueError("x"), True, ResourceError),
        (ValueError("x"), False, ModelError),
        (AnswerError("x"), True, ModelError),
    ],
)
def test_failures_in_a_row_end_the_run(error: Exception, worked: bool, kind: type[GeosegError]) -> None:
    model, health = Asked(lambda cols: error if cols != [0] else None), Health()
    if worked:
        predict(model, _chips(1), health)
    for chip in _chips(SICK)[1:]:
        assert isinstance(predict(model, [chip], health)[0], Failure)
    with pytest.raises(kind, match=f"{SICK} tiles in a row") as caught:
        predict(model, _chips(2)[1:], health)
    assert type(caught.value) is kind


def test_a_chip_that_is_seen_ends_the_row() -> None:
    model, health = Asked(lambda cols: ValueError("x") if cols[0] % SICK else None), Health()
    found = [predict(model, [chip], health)[0] for chip in _chips(4 * SICK)]
    assert sum(isinstance(each, Failure) for each in found) == 4 * (SICK - 1)


def test_each_process_counts_its_own() -> None:
    health = Health()
    health.failed(Failure(cause="other", said="x"))
    assert health.in_a_row == 1 and pickle.loads(pickle.dumps(health)).in_a_row == 0


def test_the_cause_says_whose_fault_it_is() -> None:
    causes: dict[Any, int] = {"other": 2, "memory": 5, "raster": 5}
    assert most_common(causes) == "memory"
    assert Failure.of(RasterError("gone")).cause == "raster"
    assert type(given_up("x", "raster", worked=False)) is RasterError


class Stepping(InSteps):
    """Sees nothing; its first call ends only when the second one has had the device."""

    card = CARD

    def __init__(self) -> None:
        self.looks, self.at_once, self.most = 0, 0, 0
        self.second = threading.Event()

    def pack(self, chips: list[Chip]) -> int:
        return len(chips)

    def look(self, packed: int) -> tuple[int, int]:
        self.looks, self.at_once = self.looks + 1, self.at_once + 1
        self.most = max(self.most, self.at_once)
        if self.looks == 2:
            self.second.set()
        self.at_once -= 1
        return packed, self.looks

    def unpack(self, seen: tuple[int, int]) -> list[Instances]:
        if seen[1] == 1 and not self.second.wait(30):
            raise TimeoutError("nobody else had the device")
        return [Instances() for _ in range(seen[0])]


def test_the_device_goes_on_while_instances_are_made() -> None:
    model, health = Stepping(), Health()
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda count: predict(model, _chips(count), health), (2, 3)))
    assert [[type(each) for each in found] for found in both] == [[Instances] * 2, [Instances] * 3]
    assert (model.looks, model.most) == (2, 1)


def test_a_predict_of_ones_own_is_asked_in_place_of_the_steps() -> None:
    class Own(Stepping):
        def predict(self, chips: list[Chip]) -> list[Instances]:
            return [Instances() for _ in chips]

    model = Own()
    assert len(predict(model, _chips(3), Health())) == 3 and model.looks == 0


@pytest.mark.parametrize("step", ["pack", "look", "unpack"])
def test_a_failure_in_any_step_is_narrowed_down(step: str) -> None:
    model = Stepping()
    model.second.set()
    whole = getattr(model, step)

    def fails(given: Any) -> Any:
        count = {"pack": lambda: len(given), "look": lambda: given, "unpack": lambda: given[0]}[step]()
        if count > 1:
            raise MemoryError
        return whole(given)

    setattr(model, step, fails)
    assert [type(each) for each in predict(model, _chips(3), Health())] == [Instances] * 3


def test_a_batch_that_one_chip_spoils_is_told_to_nobody_as_halved() -> None:
    """Another thread's block may end, and ask, between the batch that failed and the chip that was to blame for it."""
    health, told = Health(), list[int]()

    def trouble(cols: list[int]) -> Exception | None:
        told.append(health.told()[0])
        return MemoryError("no room") if 1 in cols else None

    found = predict(Asked(trouble), _chips(2), health)
    assert [isinstance(each, Failure) for each in found] == [False, True]
    assert [*told, *health.told()] == [0, 0, 0, 0, 0]
