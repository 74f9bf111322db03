"""Which prediction is which true object."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from geoseg.components import components
from geoseg.errors import ConfigError
from geoseg.polygons import come_near, pieces

# An IoU is a quotient of computed areas: one that is exactly the threshold on paper may miss it by rounding.
_ROUNDING = 1e-9
# Cells of a table of all rows by all columns of a group: where neighbours chain a whole layer it would fill the memory.
_DENSE = 100_000
_LARGE = 1_000
"""Vertices from which a polygon is cut before it is compared: objects have fewer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Pairs of a prediction and a true object, as columns of length n."""

    pred: NDArray[np.int64]
    """``(n,)`` positions in the predictions."""
    truth: NDArray[np.int64]
    """``(n,)`` positions in the truth."""
    iou: NDArray[np.float64]
    """``(n,)`` intersection over union of each pair."""

    def __len__(self) -> int:
        return len(self.pred)

    def take(self, index: NDArray[Any]) -> Matches:
        """The pairs at ``index`` (positions or a bool mask)."""
        return Matches(pred=self.pred[index], truth=self.truth[index], iou=self.iou[index])


def match(pred: NDArray[Any], truth: NDArray[Any], *, iou: float = 0.5) -> Matches:
    """Pairs one to one at IoU >= ``iou``: as many as possible, and of those the set of greatest total IoU.

    The answer depends on the geometries alone, not on their order or on scores. Where predictions do not
    overlap each other and neither does the truth, it is the only answer for any ``iou`` above 0.5.

    Args:
        pred: ``(n,)`` valid shapely polygons in a planar frame.
        truth: ``(m,)`` likewise, same frame.
        iou: Threshold, above 0 and at most 1.

    Raises:
        ConfigError: a threshold out of range.
    """
    return assign(candidates(pred, truth, iou=iou))


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlaps:
    """Every pair of a prediction and a true object that share ground, as columns of length n."""

    pred: NDArray[np.int64]
    """``(n,)`` positions in the predictions."""
    truth: NDArray[np.int64]
    """``(n,)`` positions in the truth."""
    shared: NDArray[np.float64]
    """``(n,)`` area that they share."""
    iou: NDArray[np.float64]
    """``(n,)`` intersection over union."""

    def __len__(self) -> int:
        return len(self.pred)

    def take(self, index: NDArray[Any]) -> Overlaps:
        """The pairs at ``index`` (positions or a bool mask)."""
        return Overlaps(pred=self.pred[index], truth=self.truth[index], shared=self.shared[index], iou=self.iou[index])

    def at(self, iou: float) -> Matches:
        """The pairs that reach a threshold; an object may be in several.

        Raises:
            ConfigError: a threshold out of range.
        """
        if not isinstance(iou, Real) or not 0.0 < iou <= 1.0:
            raise ConfigError(f"an IoU threshold of {iou!r}", allowed="a number above 0, at most 1")
        return Matches(pred=self.pred, truth=self.truth, iou=self.iou).take(self.iou >= iou - _ROUNDING)


def candidates(pred: NDArray[Any], truth: NDArray[Any], *, iou: float) -> Matches:
    """Every pair at IoU >= ``iou``; an object may be in several. Arguments and errors as in :func:`match`."""
    return overlaps(pred, truth).at(iou)


def overlaps(pred: NDArray[Any], truth: NDArray[Any]) -> Overlaps:
    """What predictions and truth share, exactly, polygon by polygon. Arguments as in :func:`match`."""
    pred, truth = np.asarray(pred, dtype=object), np.asarray(truth, dtype=object)
    (one, of_pred), (other, of_truth) = (_in_pieces(shapes) for shapes in (pred, truth))
    pairs = shapely.STRtree(other).query(one).T
    met = come_near(np.concatenate([one, other]), pairs + np.array([0, len(one)]), 0.0)
    of_one, of_other = pairs[met].T
    shared = shapely.area(shapely.intersection(one[of_one], other[of_other]))
    places, place = np.unique(of_pred[of_one] * len(truth) + of_truth[of_other], return_inverse=True)
    left, right = np.divmod(places, max(len(truth), 1))
    shared = np.bincount(place, shared, len(places)).astype(np.float64)  # of none it makes whole numbers
    return _overlaps(left, right, shared, shapely.area(pred)[left] + shapely.area(truth)[right])


def _in_pieces(shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Polygons that together are the shapes, and which shape each belongs to: a region of ten thousand parts, or with
    as many holes, would be gone through whole for each prediction in it."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    large = np.flatnonzero(shapely.get_num_coordinates(parts) > _LARGE)
    cut = [pieces(parts[[i]]) for i in large]
    owners = [np.full(len(each), owner[i]) for i, each in zip(large, cut, strict=True)]
    return np.concatenate([np.delete(parts, large), *cut]), np.concatenate([np.delete(owner, large), *owners])


def box_overlaps(pred: NDArray[np.float64], truth: NDArray[np.float64]) -> Overlaps:
    """What boxes share: ``(n, 4)`` and ``(m, 4)`` left, bottom, right, top in one frame."""
    left, right = shapely.STRtree(shapely.box(*truth.T)).query(shapely.box(*pred.T))
    one, other = pred[left], truth[right]
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    area = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (one, other)]
    return _overlaps(left, right, np.clip(sides, 0, None).prod(axis=1), area[0] + area[1])


def _overlaps(
    pred: NDArray[Any], truth: NDArray[Any], shared: NDArray[np.float64], both: NDArray[np.float64]
) -> Overlaps:
    """Columns in order of pred, then truth; without those that only touch. ``both``: the sum of the two areas."""
    union = both - shared
    ratio = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    order = np.lexsort((truth, pred))
    order = order[shared[order] > 0]
    columns = Overlaps(pred=pred.astype(np.int64), truth=truth.astype(np.int64), shared=shared, iou=ratio)
    return columns.take(order)


def assign(pairs: Matches) -> Matches:
    """The best one-to-one choice (best as in :func:`match`) among ``pairs``, sorted by prediction."""
    if not len(pairs):
        return pairs
    # Pairs that share no object with another pair are settled; the rest fall into small independent groups.
    alone = (np.bincount(pairs.pred)[pairs.pred] == 1) & (np.bincount(pairs.truth)[pairs.truth] == 1)
    chosen = [np.flatnonzero(alone)]
    contested = np.flatnonzero(~alone)
    if len(contested):
        groups = _groups(pairs.take(contested))
        order = np.argsort(groups, kind="stable")
        borders = np.flatnonzero(np.diff(groups[order])) + 1
        chosen += [best_choice(pairs, contested[part]) for part in np.split(order, borders)]
    index = np.concatenate(chosen)
    return pairs.take(index[np.argsort(pairs.pred[index], kind="stable")])


def _groups(pairs: Matches) -> NDArray[np.int64]:
    """The connected component of each pair, where pairs that share an object are connected."""
    n_pred, n_truth = int(pairs.pred.max()) + 1, int(pairs.truth.max()) + 1
    return components(n_pred + n_truth, pairs.pred, pairs.truth + n_pred)[pairs.pred]


def best_choice(pairs: Matches, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """The best one-to-one choice (best as in :func:`match`) among the pairs at ``index``, as positions in ``pairs``."""
    rows, row = np.unique(pairs.pred[index], return_inverse=True)
    cols, col = np.unique(pairs.truth[index], return_inverse=True)
    # One more pair outweighs any gain in IoU: no sum of IoU exceeds the number of pairs.
    gain = pairs.iou[index] + min(len(rows), len(cols)) + 1.0
    if len(rows) * len(cols) > _DENSE:
        return index[_sparse_choice(row, col, gain)]
    weight = np.zeros((len(rows), len(cols)))
    weight[row, col] = gain
    which = np.full(weight.shape, -1, np.int64)
    which[row, col] = index
    picked: NDArray[np.int64] = which[linear_sum_assignment(weight, maximize=True)]
    return picked[picked >= 0]


def _sparse_choice(row: NDArray[np.int64], col: NDArray[np.int64], gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the pairs whose gains come to the most, one to one, in memory that follows their number."""
    rows, cols = int(row.max()) + 1, int(col.max()) + 1
    # Every row has a column of its own, too, for being without a partner; what is not there cannot be chosen.
    alone = np.arange(rows)
    cost = np.concatenate([gain.max() + 1.0 - gain, np.full(rows, gain.max() + 1.0)])
    places = np.concatenate([row, alone]), np.concatenate([col, cols + alone])
    picked_row, picked_col = min_weight_full_bipartite_matching(csr_array((cost, places), shape=(rows, cols + rows)))
    order = np.lexsort((col, row))
    at = np.searchsorted(row[order] * cols + col[order], (picked_row * cols + picked_col)[picked_col < cols])
    chosen: NDArray[np.int64] = order[at]
    return chosen
