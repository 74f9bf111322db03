"""One block in a store: there whole, or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from geoseg.errors import StoreError
from geoseg.predictions import Predictions
from geoseg.store.arrays import COLUMNS_OF, DTYPES, check_size, object_keys, read_array, write_array
from geoseg.store.packing import Arrays, Facts, pack, unpack
from geoseg.store.places import Place, run
from geoseg.tiling import Block

FORMAT = 1
"""Version of the layout; a store of another one is refused."""
MARKER = "zarr.json"
"""The object that a block stands or falls with: the description of its group."""
_TRIES = 3
"""A block that another process replaces while it is read is read again, so many times in all."""

Marker = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Where a block lies in a store.

    Its arrays are written under names that nobody else uses, then one object, the group's ``zarr.json``, is put in
    place: it names them, and holds their sizes and a SHA-256 over everything. So whoever is killed before leaves
    nothing that counts, of two that write at once one wins, and a chunk that is missing, cut or changed is found
    out. All that is asked of the place is that a single object appears whole.
    """

    place: Place
    """The store's."""
    key: str
    """The store's."""
    block: Block
    """Which."""

    @property
    def name(self) -> str:
        """Of its group."""
        return f"{self.block.row}.{self.block.col}"

    def read(self) -> Predictions | None:
        """The predictions; None where there are none.

        Raises:
            StoreError: damaged, or not of this block.
        """
        problem: Exception = StoreError("a block that is replaced again and again")
        seen = None
        for _ in range(_TRIES):
            marker = self._marker()
            if marker is None:
                return None
            if marker["token"] == seen:
                break
            seen = marker["token"]
            try:
                return self._read(marker)
            except Exception as error:  # whatever zarr, blosc, JSON or GEOS make of bytes that are not as written
                problem = error
        said = problem.got if isinstance(problem, StoreError) else f"{type(problem).__name__}: {problem}"
        raise self._damaged(said) from problem

    def write(self, predictions: Predictions) -> None:
        """Have the block hold ``predictions`` (quantised), in place of whatever is there."""
        arrays, facts = pack(predictions)
        check_size({name: values.shape for name, values in arrays.items()})
        before = None
        with suppress(StoreError):  # damaged: nothing of it counts
            before = self._marker()
        token = uuid.uuid4().hex[:16]
        try:
            paths = {name: self._path(name, token) for name in arrays}
            run(*(write_array(self.place.writing, paths[name], name, values) for name, values in arrays.items()))
            marker = self._marked(token, arrays, facts)
            if not self._complete(marker):
                raise OSError("objects that were just written are not there")
            group = {"zarr_format": 3, "node_type": "group", "attributes": marker}
            self.place.put(f"{self.name}/{MARKER}", json.dumps(group, allow_nan=False).encode())
        except BaseException:
            self._remove(token, arrays)
            raise
        if before is not None:
            self._remove(before["token"], before["arrays"])

    def _marked(self, token: str, arrays: Arrays, facts: Facts) -> Marker:
        """What is said of a block whose arrays are written."""
        described = {}
        for name, values in arrays.items():
            sizes = self.place.sizes(self._objects(name, token, values.shape))
            described[name] = {"shape": list(values.shape), "sizes": sizes}
        marker: Marker = {
            "geoseg_block": FORMAT,
            "key": self.key,
            "block": _span(self.block),
            "token": token,
            "arrays": described,
            "predictions": facts,
        }
        return {**marker, "sha256": _digest(marker, arrays)}

    def _marker(self) -> Marker | None:
        """What is said of the block, if it is there.

        Raises:
            StoreError: nothing that makes sense, or said of another block.
        """
        found = self.place.get(f"{self.name}/{MARKER}")
        if found is None:
            return None
        try:
            marker: Marker = json.loads(found)["attributes"]
            for name, described in marker["arrays"].items():
                if not (name in DTYPES and _sound(name, described)):
                    raise StoreError(f"an array {name!r} that no block has")
            check_size({name: tuple(described["shape"]) for name, described in marker["arrays"].items()})
            if not re.fullmatch("[0-9a-f]{16}", marker["token"]):
                raise StoreError("a name that geoseg does not give")
            what = (marker["geoseg_block"], marker["key"], marker["block"])
        except StoreError as error:
            raise self._damaged(error.got) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}") from error
        if what != (FORMAT, self.key, _span(self.block)):
            raise self._damaged("it was made by another version, for another store, or with blocks of another size")
        return marker

    def _complete(self, marker: Marker) -> bool:
        for name, described in marker["arrays"].items():
            keys = self._objects(name, marker["token"], tuple(described["shape"]))
            if self.place.sizes(keys) != described["sizes"] or None in described["sizes"]:
                return False
        return True

    def _read(self, marker: Marker) -> Predictions:
        if not self._complete(marker):
            raise StoreError("objects are missing or cut")
        shapes = {name: tuple(described["shape"]) for name, described in marker["arrays"].items()}
        found = run(
            *(
                read_array(self.place.reading, self._path(name, marker["token"]), name, shape)
                for name, shape in shapes.items()
            )
        )
        arrays = dict(zip(shapes, found, strict=True))
        if _digest({name: value for name, value in marker.items() if name != "sha256"}, arrays) != marker["sha256"]:
            raise StoreError("the checksum differs")
        return unpack(arrays, marker["predictions"])

    def _path(self, name: str, token: str) -> str:
        return f"{self.name}/{name}-{token}"

    def _objects(self, name: str, token: str, shape: tuple[int, ...]) -> list[str]:
        return [f"{self._path(name, token)}/{key}" for key in object_keys(name, shape)]

    def _remove(self, token: str, arrays: Mapping[str, Any]) -> None:
        """Remove arrays that do not count; what fails stays, and does not count either."""
        for name in arrays:
            with suppress(Exception):
                self.place.remove(self._path(name, token))

    def _damaged(self, said: str) -> StoreError:
        return StoreError(
            f"block ({self.block.row}, {self.block.col}) of {self.place.path}, which cannot be used: {said}",
            remedy="Run again: the block is then predicted again",
        )


def _sound(name: str, described: Mapping[str, Any]) -> bool:
    """True for a shape of at least one row, and a size for each object."""
    shape, sizes = described["shape"], described["sizes"]
    numbers = [*shape, *sizes]
    whole = all(isinstance(number, int) and 0 < number < 2**40 for number in numbers)
    fits = shape[1:] == COLUMNS_OF.get(name, [])
    return whole and fits and len(shape) >= 1


def _span(block: Block) -> list[int]:
    """Which block: its place, and the first and last of its tiles, since blocks may be of any size."""
    first, last = block.tiles[0], block.tiles[-1]
    return [block.row, block.col, first.row, first.col, last.row, last.col]


def _digest(marker: Marker, arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(marker, sort_keys=True, allow_nan=False).encode())
    for name in sorted(arrays):
        digest.update(arrays[name].data)
    return digest.hexdigest()
