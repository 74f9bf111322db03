"""Items and Collections on disk: each appears whole, by rename."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoseg.errors import ConfigError
from geoseg.report import versions
from geoseg.sinks.atomic import replacing
from geoseg.stac.products import EXTENSIONS, VERSION, Product, collection_id, file_fields, item_of, media_type, relative

_SUMMED = ("mlm:name", "mlm:architecture", "mlm:tasks", "mlm:framework", "processing:software", "gsd", "proj:code")
_MOST = 50
"""Distinct values of a property that a Collection sums up; of more it says nothing."""


@dataclass(frozen=True, kw_only=True)
class CollectionNote:
    """What a Collection says of itself that its Items do not."""

    title: str = ""
    """One line."""
    description: str = "Footprints extracted by geoseg."
    """CommonMark."""
    licence: str = "other"
    """Of the outputs: an SPDX identifier, or ``other``."""
    outputs: Mapping[str, Path] = field(default_factory=dict)
    """Key of the asset -> file or folder: what is of the whole run (a merged layer, the summary)."""


def write_item(product: Product, path: str | Path, *, collection: str | Path | None = None) -> Path:
    """Write the Item of a product; the same product gives the same bytes.

    Args:
        product: what it tells of; its outputs stand already.
        path: where; its folder exists.
        collection: where its Collection is, or will be.

    Returns:
        The path written.

    Raises:
        SinkError: it cannot be written; what stood there is intact.
    """
    target = Path(path)
    _write(item_of(product, target, collection=None if collection is None else Path(collection)), target)
    return target


def write_collection(path: str | Path, items: Iterable[str | Path], note: CollectionNote | None = None) -> Path:
    """Write the Collection of Items that stand already. One Item at a time is in memory.

    Args:
        path: where; by custom ``collection.json`` in the run's folder, whose name is its id.
        items: paths of the Items, in the order that they are to be linked in.
        note: what it says of itself.

    Returns:
        The path written.

    Raises:
        ConfigError: no Item at all, or a file that is none.
        SinkError: it cannot be written; what stood there is intact.
    """
    target, note, total = Path(path), note or CollectionNote(), _Total()
    links: list[dict[str, Any]] = [
        {"rel": "root", "href": f"./{relative(target, target.parent)[2:]}", "type": "application/json"}
    ]
    for item in items:
        total.add(_item_at(Path(item)))
        href = relative(Path(item), target.parent)
        links.append({"rel": "item", "href": href, "type": "application/geo+json"})
    if not total.count:
        raise ConfigError("a STAC Collection of no Items", allowed="at least one", remedy="Write it once one is there")
    _write(_collection(target, note, total, links), target)
    return target


class _Total:
    """What the Items come to."""

    def __init__(self) -> None:
        self.count = 0
        self.boxes: list[float] = []
        self.first = self.last = ""
        self.values: dict[str, list[Any]] = {name: [] for name in _SUMMED}
        self.assets: dict[str, dict[str, Any]] = {}

    def add(self, item: Mapping[str, Any]) -> None:
        """Count one Item."""
        self.count += 1
        moment = item["properties"]["datetime"]
        self.first, self.last = min(self.first or moment, moment), max(self.last, moment)
        self._widen(item["bbox"])
        for name, known in self.values.items():
            value = item["properties"].get(name)
            for each in value if isinstance(value, list) else [value]:
                if each is not None and each not in known and len(known) <= _MOST:
                    known.append(each)
        for name, asset in item["assets"].items():
            described = {key: asset[key] for key in ("type", "title", "roles") if key in asset}
            self.assets.setdefault(name, described)

    def _widen(self, box: list[float]) -> None:
        west, south, east, north = box
        if west > east:  # across the antimeridian: all longitudes, rather than a guess at the shorter way round
            west, east = -180.0, 180.0
        if self.boxes:
            old = self.boxes
            west, south, east, north = min(west, old[0]), min(south, old[1]), max(east, old[2]), max(north, old[3])
        self.boxes = [west, south, east, north]

    @property
    def summaries(self) -> dict[str, list[Any]]:
        """Property -> its values, where they are few."""
        return {name: known for name, known in self.values.items() if 0 < len(known) <= _MOST}


def _collection(target: Path, note: CollectionNote, total: _Total, links: list[dict[str, Any]]) -> dict[str, Any]:
    software = {name: str(version) for name, version in versions().items()}
    assets = {
        name: {"href": relative(file, target.parent), "type": media_type(file), "roles": ["data"], **file_fields(file)}
        for name, file in note.outputs.items()
    }
    made: dict[str, Any] = {
        "type": "Collection",
        "stac_version": VERSION,
        # Not MLM's, whose schema takes a Collection's summaries for objects, where STAC has lists.
        "stac_extensions": [EXTENSIONS["processing"], EXTENSIONS["projection"], EXTENSIONS["file"]],
        "id": collection_id(target),
        **({"title": note.title} if note.title else {}),
        "description": note.description,
        "license": note.licence,
        "keywords": ["footprints", "instance segmentation"],
        "providers": [
            {"name": "geoseg", "roles": ["processor"], "processing:software": software},
        ],
        "extent": {
            "spatial": {"bbox": [total.boxes]},
            "temporal": {"interval": [[total.first, total.last]]},
        },
        "summaries": total.summaries,
        "item_assets": total.assets,
        "links": links,
    }
    return made | ({"assets": assets} if assets else {})


def _item_at(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["type"] != "Feature" or len(content["bbox"]) != 4 or "datetime" not in content["properties"]:
            raise ValueError("not as geoseg writes them")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}, which is no STAC Item ({error})", allowed="Items that geoseg wrote") from error
    return dict(content)


def _write(content: Mapping[str, Any], target: Path) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(target) as (draft,):
        draft.write_text(text, encoding="utf-8")
