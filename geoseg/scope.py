"""What a run is of: grid, tiles, area and model. All that the work after the detector has to know of the raster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.config import RasterSettings
from geoseg.detectors.base import ModelCard
from geoseg.errors import GeosegError, StoreError
from geoseg.examining import asked
from geoseg.grid import Grid
from geoseg.tiling import Plan, Tile, Tiling
from geoseg.window import Window

_AT_ONCE = 65_536
"""Tiles that are looked at together when they are counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scope:
    """What a run is of."""

    name: str
    """The raster's file name."""
    key: str
    """The content key of the raster."""
    acquired: datetime | None
    """When it was taken, UTC."""
    grid: Grid
    """The grid that the model sees."""
    plan: Plan
    """Its tiles."""
    card: ModelCard
    """The model's."""
    weights: str
    """What tells weights of equal cards apart."""
    floor: float
    """The lowest score that the detector gives."""
    aoi: Any
    """Shapely geometry in grid pixels, cut to the grid; None: everything."""
    reach: Any
    """What is examined: the AOI and a halo around it; None: everything."""
    aoi_text: str | None
    """The AOI as it was given, as WKT with its EPSG code; None: everything."""
    raster: RasterSettings
    """How the raster was read."""
    warnings: tuple[str, ...]
    """What a user should know of raster and area."""

    @property
    def within(self) -> Window:
        """The part of the grid in which tiles are wanted."""
        return pixel_window(self.reach, self.grid)

    @property
    def blocks(self) -> tuple[range, range]:
        """Rows and columns of the lattice of blocks that are wanted."""
        return self.plan.span(self.within)

    def asked(self, tiles: Sequence[Tile]) -> NDArray[np.bool_]:
        """``(n,)`` True for tiles that have some of their core in what is examined."""
        return asked(tiles, self.reach)

    @cached_property
    def tiles(self) -> int:
        """Tiles with ground that is asked for: as many as the results will tell."""
        if self.reach is None:
            return self.plan.count(within=self.within)
        tiles = (tile for block in self.plan.blocks(within=self.within) for tile in block.tiles)
        total = 0
        while some := list(islice(tiles, _AT_ONCE)):
            total += int(self.asked(some).sum())
        return total

    def as_header(self) -> dict[str, Any]:
        """The scope as JSON can hold it."""
        tiling = self.plan.tiling
        return {
            "name": self.name,
            "key": self.key,
            "acquired": None if self.acquired is None else self.acquired.isoformat(),
            "grid": {
                "crs": self.grid.crs.to_wkt(),
                "transform": list(self.grid.transform)[:6],
                "height": self.grid.height,
                "width": self.grid.width,
            },
            "tiling": {"core": tiling.core, "halo": tiling.halo, "block": tiling.block},
            "card": json.loads(self.card.to_json()),
            "weights": self.weights,
            "floor": self.floor,
            "aoi": _hex(self.aoi),
            "reach": _hex(self.reach),
            "aoi_text": self.aoi_text,
            "raster": self.raster.model_dump(mode="json"),
            "warnings": list(self.warnings),
        }

    @staticmethod
    def of_header(header: Mapping[str, Any]) -> Scope:
        """The inverse of :meth:`as_header`.

        Raises:
            StoreError: it is no such header.
        """
        try:
            place, cut = header["grid"], header["tiling"]
            crs, transform = CRS.from_wkt(place["crs"]), Affine(*place["transform"])
            grid = Grid(crs=crs, transform=transform, height=place["height"], width=place["width"])
            tiling = Tiling(core=_sides(cut["core"]), halo=_sides(cut["halo"]), block=cut["block"])
            acquired = header["acquired"]
            return Scope(
                name=header["name"],
                key=header["key"],
                acquired=None if acquired is None else datetime.fromisoformat(acquired),
                grid=grid,
                plan=tiling.plan(grid.window),
                card=ModelCard.from_json(json.dumps(header["card"])),
                weights=header["weights"],
                floor=float(header["floor"]),
                aoi=_shape(header["aoi"]),
                reach=_shape(header["reach"]),
                aoi_text=header["aoi_text"],
                raster=RasterSettings.model_validate_json(json.dumps(header["raster"])),
                warnings=tuple(header["warnings"]),
            )
        except (KeyError, TypeError, ValueError, GeosegError, shapely.errors.ShapelyError) as error:
            said = f"{type(error).__name__}: {error}"
            raise StoreError(
                f"a store whose header cannot be used ({said})",
                allowed="a store that geoseg extract --store has made",
            ) from error


def pixel_window(area: Any, grid: Grid) -> Window:
    """The smallest window of the grid around ``area`` (grid pixels; None: all of the grid)."""
    if area is None:
        return grid.window
    in_pixels = replace(grid, transform=type(grid.transform).identity())
    return in_pixels.window_of(area)


def _hex(geometry: Any) -> str | None:
    return None if geometry is None else str(shapely.to_wkb(geometry, hex=True))


def _shape(text: str | None) -> Any:
    return None if text is None else shapely.from_wkb(text)


def _sides(value: Any) -> int | tuple[int, int]:
    return value if isinstance(value, int) else (int(value[0]), int(value[1]))
