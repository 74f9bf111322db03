"""Little rasters for tests: never square, textured, written with rasterio."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from geoseg.detectors.base import ModelCard
from geoseg.raster import RasterInfo, Reader, source_for
from geoseg.tiling import Tiling

UTM = "EPSG:32645"
NORTH_UP = Affine(0.5, 0.0, 300_000.0, 0.0, -0.5, 3_060_000.0)
SOUTH_UP = Affine(0.5, 0.0, 300_000.0, 0.0, 0.5, 3_060_000.0)
ROTATED = Affine.translation(300_000, 3_060_000) @ Affine.rotation(25) @ Affine.scale(0.5, -0.4)
DEGREES = Affine(5e-6, 0.0, 85.5, 0.0, -4e-6, 27.6)


def texture(bands: int, height: int, width: int, dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    """Noise on a ramp, without zeros: every pixel differs from its neighbours."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    top = 250 if kind.itemsize == 1 else 3000
    ramp = np.linspace(0, top / 4, height)[:, None] + np.linspace(0, top / 4, width)[None, :]
    values = ramp + rng.integers(5, top // 2, (bands, height, width))
    return values.astype(kind)


def write(path: Path, pixels: NDArray[Any], *, mask: NDArray[np.bool_] | None = None, **options: Any) -> Path:
    """A GeoTIFF of ``(bands, height, width)``; options are rasterio's, and some of its setters'."""
    descriptions, colours = options.pop("descriptions", None), options.pop("colorinterp", None)
    colormap, tags = options.pop("colormap", None), options.pop("tags", {})
    profile: dict[str, Any] = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP} | options
    if profile.get("tiled"):
        profile = {"blockxsize": 32, "blockysize": 16} | profile
    bands, height, width = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"),
        rasterio.open(path, "w", count=bands, height=height, width=width, dtype=pixels.dtype, **profile) as dataset,
    ):
        if colours:
            dataset.colorinterp = colours
        if descriptions:
            dataset.descriptions = descriptions
        if colormap:
            dataset.write_colormap(1, colormap)
        if tags:
            dataset.update_tags(**tags)
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def pixels_of(info: RasterInfo) -> NDArray[Any]:
    """Everything, read as one tile."""
    source = source_for(info, ModelCard(classes=("thing",)))
    with Reader(source) as reader:
        chips, _ = reader.read(list(Tiling(core=100_000, halo=0).plan(source.grid.window).tiles()))
    return chips[0].pixels


class Listener:
    """A web server on this machine that keeps what it is asked (``hits``) and never has anything."""

    def __enter__(self) -> Listener:
        self.hits: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _serve(self) -> None:
        answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                self.hits.append(connection.recv(1000))
                connection.sendall(answer)
