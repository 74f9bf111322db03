"""Servers on this machine for the tests of STAC: a real API, a plain web server, and one that answers as it is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def item(number: int, **changes: Any) -> dict[str, Any]:
    """An item one degree wide and two high, ``number`` degrees east, taken on that day of January 2024."""
    west = float(number)
    ring = [[west, 1], [west + 1, 1], [west + 1, 3], [west, 3], [west, 1]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": f"scene-{number:02d}",
        "collection": "aerial" if number % 2 else "satellite",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, 1, west + 1, 3],
        "properties": {"datetime": f"2024-01-{number + 1:02d}T10:30:00Z", "eo:cloud_cover": number},
        "links": [],
        "assets": {
            "image": {"href": f"./scene-{number:02d}.tif", "type": GEOTIFF, "roles": ["data"]},
            "thumbnail": {"href": "thumb.tif", "type": GEOTIFF, "roles": ["thumbnail"]},
            "about": {"href": "about.json", "type": "application/json"},
        },
    } | changes


def item_collection(items: list[dict[str, Any]], path: Path) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


@contextmanager
def real_api(items: list[dict[str, Any]], folder: Path) -> Iterator[str]:
    """The STAC API of rustac, an independent implementation, with these items in memory."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    path = item_collection(items, folder / "served.json")
    rustac = Path(sys.executable).with_name("rustac")
    command = [str(rustac), "serve", "--create-collections", "--addr", address, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urlopen(f"http://{address}/", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "rustac serve ended"
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server:
    """An HTTP server on a thread that keeps every request: path, headers (lower case) and body."""

    def __init__(self, handler: Any) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []
        handler.owner = self
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.requests]


def web_server(folder: Path) -> Server:
    """The files of a folder."""
    server = Server(type("Files", (_Files,), {}))
    server._server.RequestHandlerClass = partial(server._server.RequestHandlerClass, directory=str(folder))
    return server


Answer = tuple[int, dict[str, str], Any]


def told_server(answer: Callable[[str, Any], Answer]) -> Server:
    """Answers with what ``answer(path, body)`` gives: status, headers, and JSON."""

    class Told(BaseHTTPRequestHandler):
        owner: Server

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            self.owner.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, headers, content = answer(self.path, json.loads(body) if body else None)
            payload = json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Server(Told)
