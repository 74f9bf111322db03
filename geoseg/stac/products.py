"""What was produced, as STAC: an Item per raster.

Plain JSON, so that it needs no library; that it is valid is for the tests to show.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from geoseg.detectors.base import ModelCard
from geoseg.raster import RasterInfo
from geoseg.raster.access import is_zarr
from geoseg.report import Report
from geoseg.stac.models import model_fields
from geoseg.stac.place import outline_of, projection_of
from geoseg.stac.reach import shown

VERSION = "1.1.0"
"""Of the STAC specification."""
_SITE = "https://stac-extensions.github.io"
EXTENSIONS = {
    name: f"{_SITE}/{name}/v{version}/schema.json"
    for name, version in {"projection": "2.0.0", "processing": "1.1.0", "file": "2.1.0", "mlm": "1.4.0"}.items()
}
"""Extensions of what is written here, and their schemas."""
HASHED_BYTES = 64 * 2**20
"""Files up to this many bytes get a checksum; of larger ones the size is told alone."""

MEDIA_TYPES = {
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
    ".json": "application/json",
    ".html": "text/html",
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
    ".jp2": "image/jp2",
    ".vrt": "application/xml",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
}
"""Suffix -> media type of an asset."""
_TITLES = {"footprints": "Footprints", "gaps": "Ground that was not examined, and why", "report": "Report of the run"}


@dataclass(frozen=True, kw_only=True)
class Product:
    """One raster's run and what it left on disk."""

    report: Report
    """The run."""
    info: RasterInfo
    """The raster."""
    card: ModelCard
    """The model."""
    outputs: Mapping[str, Path]
    """Key of the asset (``footprints``, ``gaps``, ``report``, ...) -> file, or folder of a partitioned dataset."""
    weights: Path | None = None
    """The model's weights file; None: the model has none that could be named, and the Item goes without MLM."""
    digest: str = ""
    """SHA-256 of the weights, where it is known."""
    derived_from: tuple[str, ...] = ()
    """Further hrefs that the raster itself comes from, such as its STAC Item."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further properties."""


def item_of(product: Product, path: Path, *, collection: Path | None = None) -> dict[str, Any]:
    """The STAC Item of a product, as JSON.

    Where the raster does not say when it was taken, ``datetime`` is when it was processed (STAC wants one), and
    ``geoseg:datetime_of`` says which of the two it is. Hrefs to files are relative to ``path``.

    Args:
        product: what it tells of.
        path: where it will be written.
        collection: where its Collection will be written; None: it is in none.
    """
    geometry, bbox = outline_of(product.info.grid)
    assets = {name: _asset(file, path.parent, name) for name, file in product.outputs.items()}
    extensions = [EXTENSIONS["projection"], EXTENSIONS["processing"], EXTENSIONS["file"]]
    properties = _properties(product)
    if product.weights is not None:
        extensions.append(EXTENSIONS["mlm"])
        properties |= model_fields(product.card)
        # Of the asset too: the schema of an Item has bands in its properties only where an asset has some.
        bands = {"bands": properties["bands"]} if "bands" in properties else {}
        assets["model"] = _model_asset(product, path.parent) | bands
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": extensions,
        "id": item_id(product),
        "geometry": geometry,
        "bbox": bbox,
        "properties": properties | dict(product.extra),
        "links": _links(product, path, collection),
        "assets": assets,
    }
    if collection is not None:
        item["collection"] = collection_id(collection)
    return item


def item_id(product: Product) -> str:
    """The raster's name, fit for a URL, and the run's identity: two rasters of one name are two Items."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(product.info.name).stem).strip("-.")[:100]
    return f"{stem or 'raster'}-{product.report.run}"


def collection_id(path: Path) -> str:
    """The id of the Collection at a path: the name of its folder, fit for a URL."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.absolute().parent.name).strip("-.") or "geoseg"


def relative(target: Path | str, folder: Path) -> str:
    """An href from a folder to a file, percent-encoded; a URL stays one, without what may be a key in it."""
    if "://" in str(target):
        return shown(str(target))
    text = os.path.relpath(os.path.abspath(target), os.path.abspath(folder)).replace(os.sep, "/")
    encoded = quote(os.fsencode(text), safe="/~@!$&'()*+,;=")
    return encoded if encoded.startswith("../") else f"./{encoded}"


def media_type(path: Path | str) -> str:
    """By the suffix; of a folder, that of Zarr where it is one, else that of the GeoParquet parts in it."""
    if is_zarr(str(path)):
        return "application/vnd+zarr"
    suffix = os.path.splitext(str(path).rstrip("/"))[1].lower()
    return MEDIA_TYPES.get(suffix) or (MEDIA_TYPES[".parquet"] if Path(path).is_dir() else "application/octet-stream")


def file_fields(path: Path) -> dict[str, Any]:
    """Size and, of small files, checksum (a multihash: 12 20, then SHA-256) in the words of the File extension."""
    if not path.is_file():
        return {}
    size = path.stat().st_size
    if size > HASHED_BYTES:
        return {"file:size": size}
    return {"file:size": size, "file:checksum": "1220" + hashlib.sha256(path.read_bytes()).hexdigest()}


def _properties(product: Product) -> dict[str, Any]:
    report, acquired = product.report, product.info.acquired
    began = datetime.fromisoformat(report.started)
    ended = began + timedelta(seconds=report.seconds)
    versions = {name: str(version) for name, version in report.versions.items()}
    return {
        "datetime": _rfc3339(acquired or began),
        "geoseg:datetime_of": "acquisition" if acquired else "processing",
        "created": _rfc3339(ended),
        "updated": _rfc3339(ended),
        "gsd": report.gsd_m,
        **projection_of(product.info.grid),
        "processing:software": versions,
        "processing:lineage": f"{', '.join(product.card.classes)} outlined in {product.info.name} by "
        f"{product.card.name} {product.card.version}; tiled, vectorized and merged across tiles",
        "geoseg:run": report.run,
        "geoseg:raster_key": report.raster_key,
        "geoseg:model": report.model,
        "geoseg:model_version": report.model_version,
        "geoseg:score_threshold": report.score_threshold,
        "geoseg:footprints": report.footprints,
        "geoseg:complete": report.complete,
        "geoseg:gaps_m2": dict(report.gaps_m2),
        "geoseg:settings": dict(report.settings),
    }


def _asset(file: Path, folder: Path, name: str) -> dict[str, Any]:
    href = relative(file, folder)
    asset = {
        "href": f"{href}/" if file.is_dir() else href,
        "type": media_type(file),
        "title": _TITLES.get(name, name),
        "roles": ["metadata"] if name == "report" else ["data"],
    }
    return asset | file_fields(file)


def _model_asset(product: Product, folder: Path) -> dict[str, Any]:
    assert product.weights is not None
    asset: dict[str, Any] = {
        "href": relative(product.weights, folder),
        "type": "application/octet-stream; application=safetensors",
        "title": f"Weights of {product.card.name} {product.card.version}",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors.torch.save_file",
    }
    if product.weights.is_file():
        asset["file:size"] = product.weights.stat().st_size
    if product.digest:
        asset["geoseg:digest"] = product.digest
    if product.card.licence:
        asset["description"] = f"Licence: {product.card.licence}"
    return asset


def _links(product: Product, path: Path, collection: Path | None) -> list[dict[str, Any]]:
    folder, links = path.parent, []
    if collection is not None:
        href = relative(collection, folder)
        links += [{"rel": rel, "href": href, "type": "application/json"} for rel in ("root", "parent", "collection")]
    source = product.info.path
    links.append({"rel": "derived_from", "href": relative(source, folder), "type": media_type(source)})
    for href in product.derived_from:
        links.append({"rel": "derived_from", "href": relative(href, folder), "type": "application/geo+json"})
    return links


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
