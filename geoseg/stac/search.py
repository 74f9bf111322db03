"""From a STAC search to the scenes of an archive, one page at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import shapely

from geoseg.errors import ConfigError, GeosegError, RasterError, ResourceError
from geoseg.raster import Access
from geoseg.stac.assets import choose
from geoseg.stac.catalogue import read_document, walk
from geoseg.stac.filters import Wanted, extent, span
from geoseg.stac.reach import Reach, is_web, shown
from geoseg.stac.scene import Scene
from geoseg.stac.settings import StacSettings

if TYPE_CHECKING:
    from geoseg.stac.client import Web

log = logging.getLogger("geoseg")

PassedBy = Callable[[str, GeosegError], None]
"""Called with the id of an item that gives no scene (of one that cannot be read, with its path or URL), and why."""


def search(
    settings: StacSettings, access: Access | None = None, *, passed_by: PassedBy | None = None
) -> Iterator[Scene]:
    """The scenes that a STAC API or a static catalogue has, each once, read as they are asked for.

    Args:
        settings: where, and what is wanted.
        access: whether anything remote may be reached, and which folders besides a local catalogue's own.
        passed_by: called for an item that is wanted and gives no scene (no asset, several, or one that may not be
            reached; an item that is linked and not there, or is none); None: the search ends with that error.

    Raises:
        ConfigError: settings that cannot be used, a catalogue that is none, or one that leads where it may not.
        RasterError: an item without the one asset that is meant, where ``passed_by`` is None.
        ResourceError: pystac-client is not installed, or a server fails.
    """
    reach, wanted = Reach.of(settings, access or Access()), Wanted.of(settings)
    web = _web(reach, settings) if is_web(reach.home) else None
    return islice(_scenes(reach, wanted, web, passed_by), settings.max_items)


def _scenes(reach: Reach, wanted: Wanted, web: Web | None, passed_by: PassedBy | None) -> Iterator[Scene]:
    seen: set[tuple[str, str]] = set()

    def unread(href: str, error: GeosegError) -> None:
        if passed_by is None:
            raise error
        passed_by(href, error)

    for item, base in _items(reach, wanted, web, unread):
        try:
            identity = _identity(item, base)
            if identity in seen:
                continue
            seen.add(identity)
            scene = _scene_of(item, base, reach, wanted)
        except GeosegError as error:
            if passed_by is None:
                raise
            passed_by(str(item.get("id"))[:200] if isinstance(item, dict) else "", error)
            continue
        if scene is not None:
            yield scene


def _items(reach: Reach, wanted: Wanted, web: Web | None, unread: PassedBy) -> Iterator[tuple[Any, str]]:
    """Every item that may be wanted, with the path or URL of the document that it stands in."""
    start = read_document(reach.home, web)
    if web is None or "conformsTo" not in start:
        yield from walk(start, reach, web, unread)
        return
    from geoseg.stac.client import api_pages

    for page in api_pages(web, wanted):
        yield from ((item, reach.home) for item in page)


def _identity(item: Any, base: str) -> tuple[str, str]:
    """An item's id is unique in its collection; without one, in its document."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item["id"]:
        raise RasterError(f"an item without an id in {shown(base)}", allowed="a STAC item")
    return str(item.get("collection") or base), item["id"]


def _scene_of(item: dict[str, Any], base: str, reach: Reach, wanted: Wanted) -> Scene | None:
    """The scene of an item; None where it is not wanted."""
    try:
        if not wanted.matches(item):
            return None
        own = _own(item, base, reach)
        key, href = choose(item["assets"], wanted.settings, item["id"])
        acquired, _ = span(item["properties"])
        extra: dict[str, Any] = {"stac_item": shown(own), "stac_collection": item.get("collection"), "stac_asset": key}
        if box := extent(item):
            extra["extent"] = box
        if checksum := item["assets"][key].get("file:checksum"):
            extra["checksum"] = str(checksum)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, shapely.errors.ShapelyError) as error:
        said = f"the item {item['id'][:200]!r}, which is no sound STAC ({type(error).__name__}: {str(error)[:100]})"
        raise RasterError(said, allowed="a STAC item") from error
    return Scene(href=reach.asset(href, own), name=item["id"], acquired=acquired, extra=extra)


def _own(item: Mapping[str, Any], base: str, reach: Reach) -> str:
    """Where an item itself lies, which relative hrefs are meant from: of a page of an API, its ``self`` link."""
    if not is_web(base):
        return base
    for link in item.get("links", []):
        if isinstance(link, dict) and link.get("rel") == "self" and isinstance(link.get("href"), str):
            try:
                return reach.document(link["href"], base)
            except ConfigError:  # only a name here: nothing is read from it
                return base
    return base


def _web(reach: Reach, settings: StacSettings) -> Web:
    try:
        from geoseg.stac.client import Web
    except ImportError as error:
        raise ResourceError(
            f"a search in {shown(settings.url)} without pystac-client ({error})",
            remedy="Install it: pip install 'geoseg[stac]'",
        ) from error
    return Web(reach, settings)
