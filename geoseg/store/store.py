"""The store: predictions of one raster by one model, block by block."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from geoseg.errors import StoreError, StoreWriteError
from geoseg.predictions import Predictions
from geoseg.store.kept import FORMAT, MARKER, Kept
from geoseg.store.places import Place
from geoseg.tiling import Block

log = logging.getLogger("geoseg")


class Store:
    """Predictions kept in a Zarr v3 group, one sub-group ``<row>.<col>`` per block: there whole, or not at all.

    Several processes may read and write it at once, on any number of machines. It travels (pickles) as its path and
    key; the process that receives it finds out at first use whether it sees the same store.
    """

    def __init__(self, path: str | os.PathLike[str], key: str) -> None:
        self._place = Place.of(path)
        self.key = key
        """What the predictions depend on, as a hash: raster, weights, settings, code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.path, self.key)

    def __repr__(self) -> str:
        return f"Store({self.path!r}, {self.key!r})"

    @property
    def path(self) -> str:
        """Absolute path, or URL."""
        return self._place.path

    @classmethod
    def create_or_open(cls, path: str | os.PathLike[str], key: str, header: Mapping[str, Any]) -> Store:
        """The store at a path; made anew, with this header, where there is none.

        Args:
            path: a folder (made where it does not exist), or a URL of any kind that fsspec knows.
            key: what the predictions depend on, as a hash.
            header: what else a reader should know; values that JSON can hold. Where a store is, its own header stays.

        Raises:
            StoreError: the folder holds something else, or predictions that depend on something else.
            StoreWriteError: it cannot be made.
        """
        store = cls(path, key)
        if store._root() is None:
            store._make(header)
        store._check()
        return store

    @classmethod
    def check(cls, path: str | os.PathLike[str], key: str) -> None:
        """Find out what :meth:`create_or_open` would refuse, and write nothing; errors as there."""
        if (store := cls(path, key))._root() is not None:
            store._check()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """The store at a path.

        Raises:
            StoreError: there is none, or none that this version reads.
        """
        found = cls(path, "")._root()
        if found is None:
            where = Place.of(path).path
            raise StoreError(f"no store of predictions at {where}", remedy="Name the folder that a run kept them in")
        return cls(path, str(found["key"]))

    @cached_property
    def header(self) -> Mapping[str, Any]:
        """What was said of the raster, model and tiling when the store was made.

        Raises:
            StoreError: the store is not there (any more), or another one is.
        """
        found = self._root()
        if found is None:
            raise StoreError(
                f"no store of predictions at {self.path}",
                remedy="Workers on other machines need a folder that all of them see, or an object store",
            )
        if found["key"] != self.key:
            raise StoreError(
                f"{self.path}, which keeps predictions of another raster, model, area or settings "
                f"(its key is {found['key']}, not {self.key})",
                remedy="Name another folder for the store, or remove this one",
            )
        return dict(found["header"])

    def read(self, block: Block) -> Predictions:
        """The predictions of a block: what ``quantised()`` of those that were written is, to the bit.

        Raises:
            StoreError: it is not there, or damaged.
        """
        self._check()
        try:
            found = self._kept(block).read()
        except StoreError:
            raise
        except Exception as error:
            raise self._unread(error) from error
        if found is None:
            raise StoreError(f"no block ({block.row}, {block.col}) in {self.path}", remedy="Run again to predict it")
        return found

    def get(self, block: Block) -> Predictions | None:
        """The predictions of a block; None where it has to be made (again): not there, or damaged, which is logged.

        Raises:
            StoreError: the store itself is not there.
        """
        self._check()
        try:
            return self._kept(block).read()
        except StoreError as error:
            log.warning("%s", error)
            return None
        except Exception as error:
            raise self._unread(error) from error

    def write(self, block: Block, predictions: Predictions) -> None:
        """Keep the predictions of a block, in place of those that are there: whole, or (if this fails) not at all.

        Of several processes that write the same block at once, one wins. What two runs wrote is never mixed.

        Raises:
            StoreError: the store itself is not there, or the predictions cannot be kept.
            StoreWriteError: the place cannot be written to; what was kept before is intact.
            AnswerError, ModelError: masks that are no masks, see :meth:`Predictions.quantised`.
        """
        self._check()
        kept = predictions.quantised()
        try:
            self._kept(block).write(kept)
        except StoreError:
            raise
        except Exception as error:
            raise self._unwritten(error) from error

    def _kept(self, block: Block) -> Kept:
        return Kept(place=self._place, key=self.key, block=block)

    def _check(self) -> None:
        """Find out, once per process, whether the store is there."""
        _ = self.header

    def _root(self) -> dict[str, Any] | None:
        """What the root says; None where there is no store.

        Raises:
            StoreError: something else is there, or it is damaged.
        """
        try:
            found = self._place.get(MARKER)
            others = [] if found else [name for name in self._place.names() if not name.endswith(".partial")]
        except StoreError:
            raise
        except Exception as error:
            raise self._unread(error) from error
        if found is None:
            if others:
                raise self._something_else(f"it holds {min(others)}")
            return None
        try:
            root: dict[str, Any] = json.loads(found)["attributes"]
            version, digest = root["geoseg_store"], root.pop("sha256")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._something_else("its zarr.json is not of a store, or damaged") from error
        if version != FORMAT:
            raise self._something_else(f"its layout is version {version}, and this geoseg reads {FORMAT}")
        if digest != _digest(root):
            raise self._something_else("its zarr.json is damaged")
        return root

    def _make(self, header: Mapping[str, Any]) -> None:
        root = {"geoseg_store": FORMAT, "key": self.key, "header": dict(header)}
        group = {"zarr_format": 3, "node_type": "group", "attributes": {**root, "sha256": _digest(root)}}
        try:
            self._place.put(MARKER, json.dumps(group, allow_nan=False).encode(), replace=False)
        except StoreError:
            raise
        except Exception as error:
            raise self._unwritten(error) from error

    def _something_else(self, why: str) -> StoreError:
        what = f"{self.path}, which is no store of predictions that can be used: {why}"
        allowed = "a store that this version of geoseg wrote"
        if not self.key:  # to be read, whatever it is of
            return StoreError(what, allowed=allowed, remedy="Name the folder that a run kept them in")
        return StoreError(
            what,
            allowed=f"{allowed}, or a new or empty folder",
            remedy="Name another folder",
        )

    def _unread(self, error: Exception) -> StoreError:
        said = f"{type(error).__name__}: {error}"
        return StoreError(f"{self.path}, which cannot be read ({said})", remedy="Look after the disk or network")

    def _unwritten(self, error: Exception) -> StoreError:
        said = f"{type(error).__name__}: {error}"
        return StoreWriteError(
            f"{self.path} could not be written to ({said})",
            remedy="Make room, or keep the store elsewhere. What was kept before is intact",
        )


def _digest(root: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(root, sort_keys=True, allow_nan=False).encode()).hexdigest()
