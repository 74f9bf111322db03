"""Which rows belong together, by links between pairs of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(n: int, i: NDArray[np.integer[Any]], j: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """``(n,)`` number of the connected component of each of n rows, where row ``i[k]`` is linked to row ``j[k]``."""
    links = coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)
