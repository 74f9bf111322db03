"""Makes the sample scenes of this folder: generated imagery with the exact outline of every object.

Run from anywhere: ``python data_samples/make.py``. The files are the same on every run with the same versions.
"""

from __future__ import annotations

import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.enums import ColorInterp

from geoseg.grid import Grid
from geoseg.scenes import Scene, harbour, town

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write every sample with its truth."""
    town_scene = town(39, height=1152, width=1408, gsd_m=0.25)
    _write_rgb("town", town_scene, _placed(town_scene, "EPSG:32645", (345_000.0, 3_056_000.0)))

    collared = town(52, height=640, width=896, gsd_m=0.2)
    _write_collared("town_collar", collared, _placed(collared, "EPSG:32737", (531_000.0, 9_317_000.0)))

    sixteen = town(63, height=512, width=768, gsd_m=0.3)
    _write_16bit("town_16bit", sixteen, _placed(sixteen, "EPSG:32651", (590_000.0, 1_520_000.0)))

    port = harbour(222, height=1088, width=1472, gsd_m=0.75)
    _write_rgb("harbour", port, _placed(port, "EPSG:32633", (388_000.0, 5_032_000.0)))

    turned = harbour(18, height=768, width=1024, gsd_m=0.6)
    _write_rgb("harbour_rotated", turned, _placed(turned, "EPSG:32631", (580_000.0, 4_578_000.0), angle_deg=23.0))


def _placed(scene: Scene, crs: str, corner: tuple[float, float], *, angle_deg: float = 0.0) -> Grid:
    """A north-up (or turned) grid on the ground with the scene's GSD."""
    transform = Affine.translation(*corner) @ Affine.rotation(angle_deg) @ Affine.scale(scene.gsd_m, -scene.gsd_m)
    _, height, width = scene.pixels.shape
    return Grid(crs=CRS.from_user_input(crs), transform=transform, height=height, width=width)


def _write_rgb(name: str, scene: Scene, grid: Grid) -> None:
    options = {"compress": "JPEG", "photometric": "YCBCR", "jpeg_quality": 88}
    _write(name, scene.pixels, grid, ("red", "green", "blue"), **options)
    _write_truth(name, scene, grid)


def _write_collared(name: str, scene: Scene, grid: Grid) -> None:
    """As an orthophoto comes: a slanted collar of nodata around the flight lines."""
    _, height, width = scene.pixels.shape
    rows, cols = np.mgrid[0:height, 0:width]
    lean = math.tan(math.radians(6.0))
    inside = (cols > 40 + lean * rows) & (cols < width - 110 + lean * rows) & (rows > 30) & (rows < height - 25)
    pixels = np.where(inside, np.maximum(scene.pixels, 1), 0).astype(np.uint8)
    _write(name, pixels, grid, ("red", "green", "blue"), nodata=0, compress="DEFLATE", predictor=2)
    _write_truth(name, scene, grid, inside)


def _write_16bit(name: str, scene: Scene, grid: Grid) -> None:
    """As a satellite product comes: blue, green, red, near infrared, 11 significant bits in uint16."""
    red, green, blue = (band.astype(np.float32) / 255.0 for band in scene.pixels)
    infrared = np.clip(0.35 * red + 1.6 * np.clip(green - 0.5 * (red + blue), 0, None) * 3 + 0.25 * green, 0, 1)
    bands = np.stack([blue, green, red, infrared])
    _write(
        name, np.round(90 + bands * 1500).astype(np.uint16), grid, ("blue", "green", "red", "nir"),
        compress="DEFLATE", predictor=2,
    )  # fmt: skip
    _write_truth(name, scene, grid)


def _write(name: str, pixels: NDArray[np.generic], grid: Grid, roles: tuple[str, ...], **options: object) -> None:
    bands, height, width = pixels.shape
    profile = {
        "driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels.dtype,
        "crs": grid.crs.to_wkt(), "transform": grid.transform, "tiled": True, "blockxsize": 256, "blockysize": 256,
        **options,
    }  # fmt: skip
    with rasterio.open(HERE / f"{name}.tif", "w", **profile) as dataset:
        dataset.write(pixels)
        for band, role in enumerate(roles, start=1):
            dataset.set_band_description(band, role)
        if "nir" in roles:
            dataset.colorinterp = [getattr(ColorInterp, r) if r != "nir" else ColorInterp.undefined for r in roles]
        dataset.update_tags(TIFFTAG_DATETIME="2026:05:14 09:30:00")


def _write_truth(name: str, scene: Scene, grid: Grid, inside: NDArray[np.bool_] | None = None) -> None:
    polygons = np.empty(len(scene.polygons), dtype=object)
    polygons[:] = scene.polygons
    frame = gpd.GeoDataFrame({"label": list(scene.labels)}, geometry=grid.geometry_to_world(polygons), crs=grid.crs)
    if inside is not None:
        [(seen, _)] = rasterio.features.shapes(inside.astype(np.uint8), mask=inside, transform=grid.transform)
        frame["geometry"] = frame.intersection(shapely.geometry.shape(seen))
        frame = frame[frame.area > 12 * scene.gsd_m**2]
    frame.to_crs(4326).to_file(HERE / f"{name}.geojson", driver="GeoJSON", COORDINATE_PRECISION=8)


if __name__ == "__main__":
    main()
