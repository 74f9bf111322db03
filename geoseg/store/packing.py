"""Predictions as a few arrays and some facts, and back. Knows numpy and shapely, not where they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import StoreError
from geoseg.gaps import Gap, Reason
from geoseg.instances import Instances
from geoseg.predicting import Cause
from geoseg.predictions import Predictions, distances, from_distances
from geoseg.tiling import Tile
from geoseg.window import Window

COLUMNS = ("x1", "y1", "x2", "y2", "score", "label", "tile", "mask_height", "mask_width", "mask_is_cells")
"""Of the array ``instances``. Boxes in window pixels; ``tile`` counts the examined tiles from 0."""
_MOST = 2**24
"""float32 holds all whole numbers up to here."""

Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]


def pack(predictions: Predictions) -> tuple[Arrays, Facts]:
    """Arrays (none of them empty) and facts that JSON can hold. Masks have to be quantised.

    ``instances``: ``(n, 10)`` float32, see :data:`COLUMNS`. ``distances``: probabilities minus 0.5, crop after crop.
    ``cells``: bits of bool crops, each filled up to whole bytes. ``gaps``: WKB, one after the other.

    Raises:
        StoreError: a label or a crop too large to be kept.
    """
    masks = [mask for each in predictions.instances for mask in each.masks]
    outlines = [shapely.to_wkb(gap.geometry) for gap in predictions.gaps]
    soft = [mask.ravel() for mask in masks if mask.dtype.kind != "b"]
    hard = [np.packbits(mask) for mask in masks if mask.dtype.kind == "b"]
    arrays: Arrays = {
        "instances": _rows(predictions.instances),
        "distances": distances(np.concatenate(soft)) if soft else np.zeros(0, np.float16),
        "cells": np.concatenate(hard) if hard else np.zeros(0, np.uint8),
        "gaps": np.frombuffer(b"".join(outlines), np.uint8),
    }
    facts: Facts = {
        "columns": list(COLUMNS),
        "tiles": [[tile.row, tile.col, *_numbers(tile.core), *_numbers(tile.window)] for tile in predictions.tiles],
        "gaps": [[gap.reason, gap.detail, len(wkb)] for gap, wkb in zip(predictions.gaps, outlines, strict=True)],
        "planned": predictions.planned,
        "examined": predictions.examined,
        "unreadable": predictions.unreadable,
        "failed": dict(sorted(predictions.failed.items())),
        "pixels": predictions.pixels,
        "device": predictions.device,
    }
    return {name: values for name, values in arrays.items() if len(values)}, facts


def unpack(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Predictions:
    """The inverse of :func:`pack`.

    Raises:
        StoreError: lengths that do not fit, or words that geoseg does not use.
        ValueError, TypeError, KeyError, GeosegError: values that are no predictions.
    """
    tiles = tuple(_tile([int(number) for number in numbers]) for numbers in facts["tiles"])
    failed = {str(cause): int(count) for cause, count in facts["failed"].items()}
    _check(set(failed) <= set(get_args(Cause)), "causes of failure")
    rows = arrays.get("instances", np.zeros((0, len(COLUMNS)), np.float32))
    return Predictions(
        tiles=tiles,
        instances=tuple(_instances(rows, list(_masks(rows, arrays)), len(tiles))),
        gaps=tuple(_gaps(facts["gaps"], arrays.get("gaps", np.zeros(0, np.uint8)))),
        planned=int(facts["planned"]),
        examined=int(facts["examined"]),
        unreadable=int(facts["unreadable"]),
        failed=failed,  # type: ignore[arg-type]  # checked above
        pixels=int(facts["pixels"]),
        device=str(facts["device"]),
    )


def _rows(instances: Sequence[Instances]) -> NDArray[np.float32]:
    tile = np.repeat(np.arange(len(instances)), [len(each) for each in instances])
    masks = [mask for each in instances for mask in each.masks]
    sizes = np.array([(*mask.shape, mask.dtype.kind == "b") for mask in masks], np.int64).reshape(-1, 3)
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in instances)])
    whole = np.column_stack([labels, tile, sizes])
    if whole.size and whole.max() > _MOST:
        raise StoreError(f"a label, or a mask's side, of {whole.max()}", allowed=f"at most {_MOST}")
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in instances)])
    scores = np.concatenate([np.zeros(0, np.float32), *(each.scores for each in instances)])
    return np.column_stack([boxes, scores, whole]).astype(np.float32)


def _instances(rows: NDArray[np.float32], masks: list[NDArray[Any]], tiles: int) -> Iterator[Instances]:
    whole = rows[:, 5:7].astype(np.int64)
    tile = whole[:, 1]
    _check(not len(tile) or (tile[0] >= 0 and tile[-1] < tiles and bool((np.diff(tile) >= 0).all())), "tiles")
    ends = np.searchsorted(tile, np.arange(tiles + 1))
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        yield Instances(
            boxes=rows[first:last, :4],
            scores=rows[first:last, 4],
            labels=whole[first:last, 0],
            masks=masks[first:last],
        )


def _masks(rows: NDArray[np.float32], arrays: Mapping[str, NDArray[Any]]) -> Iterator[NDArray[Any]]:
    sides, hard = rows[:, 7:9].astype(np.int64), rows[:, 9] > 0
    _check(bool(((sides >= 1) & (sides <= _MOST)).all()), "mask sizes")
    size = sides.prod(axis=1)
    length = np.where(hard, -(-size // 8), size)
    bits, soft = arrays.get("cells", np.zeros(0, np.uint8)), arrays.get("distances", np.zeros(0, np.float16))
    _check(length[hard].sum() == len(bits) and length[~hard].sum() == len(soft), "masks")
    values = from_distances(soft)
    at = [0, 0]
    for (h, w), n, is_cells in zip(sides.tolist(), length.tolist(), hard.tolist(), strict=True):
        first = at[is_cells]
        at[is_cells] += n
        if is_cells:
            yield np.unpackbits(bits[first : first + n], count=h * w).astype(np.bool_).reshape(h, w)
        else:
            yield values[first : first + n].reshape(h, w)


def _gaps(facts: Sequence[Sequence[Any]], wkb: NDArray[np.uint8]) -> Iterator[Gap]:
    ends = np.cumsum([0, *(int(length) for _, _, length in facts)])
    _check(ends[-1] == len(wkb) and bool((np.diff(ends) > 0).all()), "gaps")
    for (reason, detail, _), first, last in zip(facts, ends[:-1], ends[1:], strict=True):
        _check(reason in get_args(Reason), "reasons of gaps")
        yield Gap(geometry=shapely.from_wkb(wkb[first:last].tobytes()), reason=reason, detail=str(detail))


def _tile(numbers: Sequence[int]) -> Tile:
    row, col, *rest = numbers
    _check(len(rest) == 8, "tiles")
    return Tile(row=row, col=col, core=_window(rest[:4]), window=_window(rest[4:]))


def _window(numbers: Sequence[int]) -> Window:
    row_off, col_off, height, width = numbers
    return Window(row_off=row_off, col_off=col_off, height=height, width=width)


def _numbers(window: Window) -> list[int]:
    return [window.row_off, window.col_off, window.height, window.width]


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise StoreError(f"kept predictions whose {what} do not fit together")
