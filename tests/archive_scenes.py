"""Little archives for tests: overlapping scenes of painted boxes, a detector that can be pickled, outputs by hand."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import scipy.ndimage
import shapely
from affine import Affine
from numpy.typing import NDArray
from painted import write_raster
from pyproj import CRS

import geoseg
from geoseg.archive import Manifest, RunConfig, Scene
from geoseg.footprints import COLUMNS
from geoseg.measures import measure

UTM = "EPSG:32645"
KILLER, SLEEPER = 251, 252
"""Values of pixels that end the process that sees them, and that keep it busy."""


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Sees each connected bright area as one object."""

    card: geoseg.ModelCard
    digest: str = ""
    blind: bool = False
    """Whether it is not to be asked."""

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """One set of instances per chip."""
        if self.blind:
            raise AssertionError("asked, although what it would say is kept")
        return [self._one(chip) for chip in chips]

    def _one(self, chip: geoseg.Chip) -> geoseg.Instances:
        pixels = np.where(chip.valid, chip.pixels[0], 0)
        if (pixels == KILLER).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        if (pixels == SLEEPER).any():
            time.sleep(600)
        components, _ = scipy.ndimage.label(pixels >= 200)
        found = scipy.ndimage.find_objects(components)
        return geoseg.Instances(
            boxes=np.array([(c.start, r.start, c.stop, r.stop) for r, c in found], float).reshape(-1, 4),
            scores=[0.9] * len(found),
            labels=[0] * len(found),
            masks=[components[place] == i + 1 for i, place in enumerate(found)],
        )


@dataclass(frozen=True, kw_only=True)
class Hesitant(Boxes):
    """Never comes back from the first of all its calls."""

    once: str
    """File that is made by that call."""

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """As Boxes."""
        if not Path(self.once).exists():
            Path(self.once).touch()
            time.sleep(600)
        return super().predict(chips)


@dataclass(frozen=True, kw_only=True)
class Greedy(Boxes):
    """Has memory for one chip at a time."""

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """As Boxes."""
        if len(chips) > 1:
            raise MemoryError
        return super().predict(chips)


@dataclass(frozen=True, kw_only=True)
class Faint(Boxes):
    """Fails on the first tile of a raster for as long as a file is there."""

    while_there: str
    """That file."""

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        """As Boxes."""
        if Path(self.while_there).exists() and any((chip.tile.row, chip.tile.col) == (0, 0) for chip in chips):
            raise ValueError("faint")
        return super().predict(chips)


BOXES = Boxes(card=geoseg.ModelCard(classes=("box",), name="boxes", version="2", core=64, halo=16))


def ground(height: int, width: int, *boxes: tuple[int, int, int, int], background: int = 60) -> NDArray[np.uint8]:
    """Dark ground with bright boxes of rows and columns."""
    pixels = np.full((height, width), background, np.uint8)
    for top, bottom, left, right in boxes:
        pixels[top:bottom, left:right] = 220
    return pixels


def scene(path: Path, pixels: NDArray[np.uint8], *, row: int = 0, col: int = 0, **options: Any) -> Path:
    """A raster of the ground whose first pixel is at ``row``, ``col`` of half metres."""
    where = Affine(0.5, 0, 350_000 + 0.5 * col, 0, -0.5, 3_050_000 - 0.5 * row)
    return write_raster(path, pixels, **{"transform": where, **options})


def configured(folder: Path, **sections: Any) -> RunConfig:
    """A run over ``folder/in/*.tif`` into ``folder/out``."""
    values: dict[str, Any] = {
        "archive": {"model": "boxes", "folder": "out", **sections.pop("archive", {})},
        "input": sections.pop("input", {"globs": ["in/*.tif"]}),
        "engine": {"workers": 1},
        **sections,
    }
    return RunConfig.model_validate(values).rooted(folder)


def states(folder: Path) -> dict[str, str]:
    """State of each scene of a run, by name."""
    with Manifest.opened(folder) as manifest:
        return {record.name: record.state for record in manifest.records()}


def table(shapes: list[Any], *, crs: str = UTM, raster: str = "r", **columns: Any) -> gpd.GeoDataFrame:
    """Footprints in the schema; ``columns`` win over what is made up."""
    geometry = np.array(shapes, dtype=object)
    count = len(shapes)
    made: dict[str, Any] = {
        "id": [f"{raster}{i}" for i in range(count)],
        "label": ["box"] * count,
        "score": [0.9] * count,
        **(measure(geometry, CRS.from_user_input(crs)) if count else {}),
        "lon": [85.0] * count,
        "lat": [27.0] * count,
        "raster": [raster] * count,
        "model": ["boxes"] * count,
        "model_version": ["2"] * count,
        "run": ["0" * 16] * count,
        "n_tiles": [1] * count,
        "cut_by_edge": [False] * count,
        **columns,
    }
    index = pd.RangeIndex(count)
    typed = {name: pd.Series(made.get(name), index=index, dtype=kind) for name, kind in COLUMNS.items()}
    return gpd.GeoDataFrame(typed, geometry=geometry, crs=crs)


def by_hand(folder: Path, scenes: list[tuple[str, gpd.GeoDataFrame, datetime | None]], suffix: str = ".gpkg") -> None:
    """A run's folder with a manifest and outputs, without any run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scenes").mkdir(exist_ok=True)
    with Manifest.opened(folder, create=True) as manifest:
        manifest.begin([Scene(href=f"/{name}", name=name) for name, _, _ in scenes], "{stem}", suffix)
        manifest.note(model="boxes", model_version="2", started="2026-03-01T00:00:00+00:00", versions={})
        for number, (_, rows, seen) in enumerate(scenes, start=1):
            record = manifest.get(number)
            geoseg.write(rows, folder / record.output)
            degrees = rows.to_crs(4326).total_bounds if len(rows) else (0, 0, 0, 0)
            reach = shapely.box(*degrees).buffer(1e-4).bounds
            facts = {"extent": reach, "seen": seen, "run": f"{number:016}", "footprints": len(rows)}
            manifest.update(number, state="done", **facts)


def day(number: int) -> datetime:
    """A day of March 2026."""
    return datetime(2026, 3, number, tzinfo=UTC)
