"""The door to the network: pystac-client, held to what a search may reach.

Its own requests follow links and redirects to any host with the same headers, and it logs the headers. So the one
method that speaks to a server is replaced; paging and the protocol of the API stay its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urljoin

import requests
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from geoseg.errors import ConfigError, ResourceError, in_a_line
from geoseg.stac.filters import Wanted
from geoseg.stac.reach import DocumentError, Reach, origin, shown
from geoseg.stac.settings import StacSettings

MAX_BYTES = 256 * 2**20
"""A server's answer of more is refused: a page of items has a few MB."""
_REDIRECTS = 5
_BODY = ("POST", "PUT", "PATCH")
_PASSING = (HTTPStatus.TOO_MANY_REQUESTS, 500, 502, 503, 504)


class Web(StacApiIO):
    """Requests to the catalogue's own host, and to others only where the user named them."""

    def __init__(self, reach: Reach, settings: StacSettings) -> None:
        super().__init__(max_retries=None, timeout=settings.timeout_s)
        self._reach, self._token = reach, _token(settings)
        # No Retry-After: how long a run waits is for the run to say.
        retry = Retry(
            total=settings.retries,
            backoff_factor=0.5,
            status_forcelist=_PASSING,
            allowed_methods=("GET", "POST"),
            redirect=False,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The answer to one request, as text.

        Raises:
            ConfigError: it, or what it redirects to, may not be reached, or the server refuses it.
            ResourceError: the server cannot be reached or fails, after some tries, or says too much.
        """
        method, body = (method or "GET").upper(), None
        if method in _BODY:
            body = json.dumps(parameters or {}).encode()
        elif parameters:
            href = requests.Request("GET", href, params=parameters).prepare().url or href
        for _ in range(_REDIRECTS):
            href = self._reach.document(href)
            with self._sent(href, method, body) as answer:
                target = answer.headers.get("Location")
                if not (answer.is_redirect and target):
                    return self._text(answer, href)
                href = urljoin(href, target)
                if answer.status_code == HTTPStatus.SEE_OTHER:  # by the others a search would lose what it asks for
                    method, body = "GET", None
        raise ResourceError(f"{shown(href)}, which redirects again and again")

    def _sent(self, href: str, method: str, body: bytes | None) -> requests.Response:
        headers = {"Accept": "application/geo+json, application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token and origin(href) == origin(self._reach.home):
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            return self.session.request(
                method, href, headers=headers, data=body, timeout=self.timeout, allow_redirects=False, stream=True
            )
        except requests.RequestException as error:
            raise _lost(href, error) from None  # its text repeats the URL

    def _text(self, answer: requests.Response, href: str) -> str:
        content = bytearray()
        try:
            for piece in answer.iter_content(2**16):
                content += piece
                if len(content) > MAX_BYTES:
                    raise ResourceError(
                        f"{shown(href)}, which answers with more than {MAX_BYTES // 2**20} MiB",
                        remedy="Lower page_size",
                    )
        except requests.RequestException as error:
            raise _lost(href, error) from None
        text = content.decode("utf-8", "replace")
        if answer.status_code >= 400:
            said = f"{shown(href)}: status {answer.status_code}{self._said(text)}"
            if answer.status_code in _PASSING:
                raise ResourceError(said, remedy="Try again later")
            if answer.status_code in (404, 410):
                raise DocumentError(said, remedy="Check url and filters")
            remedy = "The server wants a token: name the variable that holds one as token_env"
            raise ConfigError(said, remedy=remedy if answer.status_code in (401, 403) else "Check url and filters")
        return text

    def _said(self, text: str) -> str:
        """What a server says of an error, on one line, and never the token that was sent to it."""
        try:
            content = json.loads(text)
            said = str(content.get("description") or content.get("detail") or "")
        except (ValueError, AttributeError):
            return ""
        said = in_a_line(said, 200)
        return f" ({said.replace(self._token, '***') if self._token else said})" if said else ""


def api_pages(web: Web, wanted: Wanted) -> Iterator[list[dict[str, Any]]]:
    """Items that a STAC API finds, page by page; the next page is asked for when it is needed.

    Raises:
        ConfigError: what it offers is no item search.
        ResourceError: it fails.
    """
    settings = wanted.settings
    try:
        client = Client.open(settings.url, stac_io=web)
        asked = wanted.parameters
        if wanted.query and client.conforms_to(ConformanceClasses.QUERY):
            asked["query"] = wanted.query
        search = client.search(limit=settings.page_size, max_items=None, **asked)
        before: list[Any] = []
        for page in search.pages_as_dicts():
            items = cast("list[dict[str, Any]]", page.get("features") or [])
            if items == before:
                raise ResourceError(
                    f"the STAC API at {shown(settings.url)} repeats its pages", remedy="Report it there"
                )
            before = items
            yield items
    except APIError as error:
        raise ResourceError(f"the STAC API at {shown(settings.url)} ({error})") from None
    except (KeyError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"{shown(settings.url)}, which does not answer as a STAC API does ({type(error).__name__}: {error})",
            allowed="a STAC API with item search",
        ) from error


def _token(settings: StacSettings) -> str | None:
    if settings.token_env is None:
        return None
    token = os.environ.get(settings.token_env, "").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(f"token_env = {settings.token_env!r}, a variable that holds no token", remedy="Set it")
    if not settings.url.lower().startswith("https://") and origin(settings.url)[1] not in ("127.0.0.1", "localhost"):
        raise ConfigError(f"a token for {shown(settings.url)}", allowed="tokens over https")
    return token


def _lost(href: str, error: Exception) -> ResourceError:
    return ResourceError(f"{shown(href)} cannot be reached ({type(error).__name__})", remedy="Check the network")
