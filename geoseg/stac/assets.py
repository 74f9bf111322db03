"""Which asset of an item is the raster: a rule, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from geoseg.errors import RasterError
from geoseg.stac.settings import StacSettings

RASTERS = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
"""Media types that are read, without parameters."""
_SUFFIXES = (".tif", ".tiff", ".jp2")
_BESIDES = ("thumbnail", "overview", "metadata")


def choose(assets: Mapping[str, Any], settings: StacSettings, item: str) -> tuple[str, str]:
    """Key and href of the one asset that the settings mean.

    With ``asset`` set, that key. Else of the assets with one of ``media_types`` (rasters unless set; where an asset
    names no type, its suffix decides) and one of ``roles`` (any but thumbnails, overviews and metadata unless set)
    the only one.

    Raises:
        RasterError: there is none, or there are several.
    """
    if settings.asset is not None:
        found = [settings.asset] if settings.asset in assets else []
    else:
        found = [key for key, asset in assets.items() if _is_raster(asset, settings) and _has_role(asset, settings)]
    if len(found) != 1:
        meant = f"is {settings.asset!r}" if settings.asset else "is surely the raster"
        count = "none" if not found else f"each of {', '.join(map(repr, found[:8]))}"
        raise RasterError(
            f"the item {item[:200]!r}, of whose assets {count} {meant}",
            allowed="one: " + ", ".join(str(key)[:40] for key in list(assets)[:20]),
            remedy="Name it: asset under [stac], or roles or media_types that only it has",
        )
    return found[0], str(assets[found[0]]["href"])


def _is_raster(asset: Mapping[str, Any], settings: StacSettings) -> bool:
    kind = str(asset.get("type") or "").partition(";")[0].strip().lower()
    if not kind and not settings.media_types:
        return urlsplit(str(asset["href"])).path.lower().endswith(_SUFFIXES)
    return kind in (tuple(name.lower() for name in settings.media_types) or RASTERS)


def _has_role(asset: Mapping[str, Any], settings: StacSettings) -> bool:
    roles = set(asset.get("roles") or ())
    return bool(roles & set(settings.roles)) if settings.roles else not roles & set(_BESIDES)
