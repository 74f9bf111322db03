"""Walking static catalogues: documents that link to each other, on disk or on a web server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from geoseg.errors import ConfigError, ResourceError
from geoseg.stac.reach import DocumentError, Reach, is_web, shown

MAX_BYTES = 256 * 2**20
"""A local document of more is refused."""

Unread = Callable[[str, DocumentError], None]
"""Called with the path or URL of what is not there, or is none, and the error that says so."""


class Web(Protocol):
    """Whatever fetches from the network."""

    def request(self, href: str) -> str:
        """The document at a URL."""


def read_document(href: str, web: Web | None) -> dict[str, Any]:
    """A JSON object from a file, or through ``web``.

    Raises:
        ConfigError: absent, too big, or no JSON object.
        ResourceError: it cannot be read.
    """
    what = f"the catalogue document {shown(href)}"
    try:
        content = json.loads(web.request(href) if web and is_web(href) else _file(href, what))
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{what}, which is not JSON ({str(error)[:100]})", allowed="STAC JSON") from error
    if not isinstance(content, dict):
        raise DocumentError(f"{what}, which is a JSON {type(content).__name__}", allowed="a STAC JSON object")
    return content


def walk(start: dict[str, Any], reach: Reach, web: Web | None, unread: Unread) -> Iterator[tuple[Any, str]]:
    """Every item under a catalogue, with the path or URL of the document that holds it.

    Depth first, in the order of the links; each document is read once, however it is linked, and one at a time.
    An error in one of them comes out as it is met: what was listed before it has been handed out. An item that is
    linked and not there, or is none, is told to ``unread``: the catalogue is whole but for that one.

    Raises:
        ConfigError: a document that is none, or a link that may not be followed.
        ResourceError: a document that cannot be read.
    """
    todo = [(reach.home, "")]
    seen: set[str] = set()
    while todo:
        href, relation = todo.pop()
        if href in seen:
            continue
        seen.add(href)
        try:
            items, links = _parts(read_document(href, web) if relation else start, href)
        except DocumentError as error:
            if relation != "item":
                raise
            unread(shown(href), error)
            continue
        yield from ((item, href) for item in items)
        todo += reversed([(reach.document(link, href), kind) for link, kind in links])


def _parts(content: dict[str, Any], href: str) -> tuple[list[Any], list[tuple[str, str]]]:
    """The items of a document, and its links to more of them."""
    kind = content.get("type")
    if kind == "Feature":
        return [content], []
    if kind == "FeatureCollection":
        return _list(content, "features", href), _links(content, href, "next")
    return [], _links(content, href, "child", "item", "items")


def _links(content: dict[str, Any], href: str, *relations: str) -> list[tuple[str, str]]:
    """Hrefs of these relations, each with its own."""
    found = []
    for link in _list(content, "links", href):
        if isinstance(link, dict) and link.get("rel") in relations and isinstance(link.get("href"), str):
            found.append((link["href"], link["rel"]))
    return found


def _list(content: dict[str, Any], name: str, href: str) -> list[Any]:
    values = content.get(name, [] if name == "links" and content.get("type") == "FeatureCollection" else None)
    if not isinstance(values, list):
        raise DocumentError(
            f"the catalogue document {shown(href)}, which is JSON without {name}",
            allowed="a STAC API, catalogue, collection, item or ItemCollection",
        )
    return values


def _file(path: str, what: str) -> str:
    if not os.path.isfile(path):
        state = "is a folder" if os.path.isdir(path) else "does not exist"
        raise DocumentError(f"{what}, which {state}", allowed="a STAC JSON file", remedy="Check the path")
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise ConfigError(f"{what}, which has more than {MAX_BYTES // 2**20} MiB", remedy="Split it up")
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise ResourceError(f"{what}, which cannot be read ({error.strerror})") from error
