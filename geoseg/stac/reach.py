"""What a catalogue may name. Its JSON is somebody else's: no href in it opens a door that the user did not."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from geoseg.errors import ConfigError
from geoseg.paths import expanded
from geoseg.raster import Access
from geoseg.stac.settings import StacSettings

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_WEB = ("http", "https")
_REMOTE = (*_WEB, "s3", "gs", "az")
_PORTS = {"http": 80, "https": 443}


class DocumentError(ConfigError):
    """A document of the catalogue that is not there, or is none."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where a catalogue lies, and what hrefs in it may therefore lead to.

    A local catalogue reaches files in its own folder and in ``access.roots``, symbolic links followed first. A
    remote one reaches documents on its own host, and never a local file. Assets may lie on any public host (they
    do, as a rule); hosts in private nets, and further hosts for documents, must be named.
    """

    home: str
    """Absolute path, or URL, of what the user named."""
    access: Access
    """Whether anything remote may be reached, and which folders besides the catalogue's own."""
    hosts: tuple[str, ...] = ()
    """Further hosts, ``host`` or ``host:port``."""

    @classmethod
    def of(cls, settings: StacSettings, access: Access) -> Reach:
        """That of a search.

        Raises:
            ConfigError: the URL carries a password or is of another kind, or is remote without leave.
        """
        local = not _SCHEME.match(settings.url) or settings.url.lower().startswith("file:")
        home = _local(settings.url, "") if local else settings.url
        reach = cls(home=home, access=access, hosts=settings.hosts)
        if not local:
            reach.document(home)
        return reach

    def document(self, href: str, base: str | None = None) -> str:
        """The absolute path or URL of a piece of the catalogue.

        Args:
            href: as it stands there.
            base: path or URL of the document that it stands in.

        Raises:
            ConfigError: it may not be reached.
        """
        whole = self._resolved(href, base)
        if is_web(whole):
            host = origin(whole)
            if host != origin(self.home) and not self._named(whole):
                raise ConfigError(
                    f"a link of the catalogue to another host, {shown(whole)}",
                    allowed=f"links to {shown(self.home)} and its host",
                    remedy="Name the host under hosts if you trust it",
                )
        elif _SCHEME.match(whole):
            raise ConfigError(f"a catalogue document at {shown(whole)}", allowed="local files, http and https")
        return whole

    def asset(self, href: str, base: str) -> str:
        """The absolute path or URL of a raster; arguments and errors as :meth:`document`."""
        whole = self._resolved(href, base)
        if is_web(whole) and _private(whole) and origin(whole) != origin(self.home) and not self._named(whole):
            raise ConfigError(
                f"an asset in a private net, {shown(whole)}",
                allowed="assets on public hosts, or on the catalogue's own",
                remedy="Name the host under hosts if it is meant",
            )
        return whole

    def _resolved(self, href: str, base: str | None) -> str:
        if href.startswith("/vsi"):
            raise ConfigError(f"the href {href[:80]!r}", allowed="paths and URLs, not GDAL's file systems")
        if is_web(base or "") and href.lower().startswith("file:"):
            raise ConfigError("a remote catalogue that names a local file", allowed="URLs")
        whole = urljoin(base, href) if base and is_web(base) else href
        if not _SCHEME.match(whole) or whole.lower().startswith("file:"):
            return self._within_roots(_local(whole, base or self.home))
        parts = _parts(whole)
        if parts.scheme.lower() not in _REMOTE or not parts.hostname:
            raise ConfigError(f"the href {shown(whole)}", allowed=f"paths, and URLs of {', '.join(_REMOTE)}")
        if parts.username or parts.password:
            raise ConfigError(
                f"a URL with a user or password in it, {shown(whole)}",
                allowed="URLs without",
                remedy="Put a token into an environment variable and name that as token_env",
            )
        if not self.access.allow_remote:
            raise ConfigError(
                f"the remote href {shown(whole)}",
                allowed="local files, unless remote ones are allowed",
                remedy="Set allow_remote = true under [raster], or download what is meant",
            )
        return whole

    def _within_roots(self, path: str) -> str:
        real = os.path.realpath(path)
        if is_web(self.home):
            raise ConfigError("a remote catalogue that names a local file", allowed="URLs")
        roots = [os.path.realpath(root) for root in (os.path.dirname(self.home), *self.access.roots)]
        if real != os.path.realpath(self.home) and not any(_inside(real, root) for root in roots):
            raise ConfigError(
                f"the catalogue's href to {path}, which lies outside its folder",
                allowed=", ".join(roots),
                remedy="Name its folder in roots, under [raster], if it is meant",
            )
        return real

    def _named(self, url: str) -> bool:
        return bool({_parts(url).hostname or "", _parts(url).netloc} & set(self.hosts))


def is_web(href: str) -> bool:
    """True for http and https."""
    return href.lower().startswith(("http://", "https://"))


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what decides who is spoken to."""
    parts = _parts(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme.lower(), parts.hostname or "", port or _PORTS.get(parts.scheme.lower())


def shown(href: str) -> str:
    """An href as it may be logged or written down: without user, password, query and fragment, which hold keys."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", href):
        return href[:300]
    try:
        parts = urlsplit(href)
    except ValueError:  # http://[ and the like: it is shown where it is refused
        return re.sub("//[^/]*@", "//", re.split("[?#]", href)[0])[:300]
    host = parts.netloc.rpartition("@")[2]
    return SplitResult(parts.scheme, host, parts.path, "", "").geturl()[:300]


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"a URL that cannot be read ({error})", allowed="scheme://host/path") from error


def _local(href: str, base: str) -> str:
    """A path; percent signs are undone for file: URLs, and elsewhere where no file has them in its name."""
    if "\0" in unquote(href):
        raise ConfigError(f"the href {shown(href)!r}", allowed="paths, which hold no character 0")
    if href.lower().startswith("file:"):
        parts = _parts(href)
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"the href {shown(href)}", allowed="file: URLs of this machine")
        href = unquote(parts.path)
    folder = os.path.dirname(base) if base else os.getcwd()
    path = os.path.normpath(os.path.join(folder, expanded(href) if not base else href))
    if not os.path.exists(path) and "%" in path:
        path = os.path.normpath(os.path.join(folder, unquote(href)))
    return path


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _private(url: str) -> bool:
    host = (_parts(url).hostname or "").rstrip(".")
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # A name without dots, or one that some resolvers take for an address (2130706433, 127.1, 0x7f.1).
        last = host.rpartition(".")[2]
        return "." not in host or last in ("localhost", "local", "internal") or not last[:1].isalpha()
