"""How one raster is read for one model: which bands, on which grid, by which scaling. Nothing is guessed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.detectors.base import ModelCard
from geoseg.errors import RasterError
from geoseg.grid import Grid
from geoseg.raster.access import gdal_env
from geoseg.raster.file import OpenFile
from geoseg.raster.info import RasterInfo, open_source
from geoseg.raster.scaling import Scaling
from geoseg.raster.spread import spread_blocks
from geoseg.window import Window

_SAMPLE_BLOCKS, _SAMPLE_PIXELS, _SAMPLE_VALUES = 64, 2**20, 2**22
_SAME_GSD = 0.1
_FAR_GSD = 2.5
"""How much coarser or finer is told: both bundled models were trained, and measured well, on imagery up to 2.4 times as
coarse as their own."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """All that a worker needs to read a raster for a model. Small and picklable."""

    info: RasterInfo
    """The raster."""
    grid: Grid
    """The grid that the model sees: the raster's own, or the same ground at the model's GSD."""
    bands: tuple[int, ...]
    """Bands of the file, from 1, in the model's order."""
    palette: tuple[tuple[int, int, int, int], ...] | None = None
    """Red, green, blue, alpha of each value, where the one band is expanded to three."""
    scaling: Scaling | None = None
    """How values become 8-bit; None: they stay as they are."""
    aoi: shapely.Geometry | None = None
    """What is asked for, in pixels of ``grid``; None: everything."""
    zero_invalid: bool = False
    """Whether pixels that hold nothing are set to 0 (models with a rule), or keep what the file says."""
    warnings: tuple[str, ...] = ()
    """What a user should know."""

    @cached_property
    def identity(self) -> str:
        """A key of everything that decides what is read."""
        aoi = b"" if self.aoi is None else shapely.to_wkb(self.aoi)
        grid = (self.grid.crs.to_wkt(), tuple(self.grid.transform), self.grid.height, self.grid.width)
        parts = (
            self.info.path,
            self.info.key,
            grid,
            self.bands,
            self.palette,
            self.scaling,
            self.zero_invalid,
        )
        return hashlib.sha256(repr(parts).encode() + aoi).hexdigest()[:32]


def model_grid(info: RasterInfo, card: ModelCard) -> Grid:
    """The grid that a model sees: the raster's own where the card names no GSD or one within 10 % of it."""
    if card.gsd_m is None or all(abs(gsd / card.gsd_m - 1) <= _SAME_GSD for gsd in info.grid.gsd_xy_m):
        return info.grid
    return info.grid.at_gsd(card.gsd_m)


def source_for(
    info: RasterInfo,
    card: ModelCard,
    *,
    scaling: Scaling | None = None,
    bands: Mapping[str, int] | None = None,
    aoi: shapely.Geometry | None = None,
) -> Source:
    """Decide how ``info`` is read for the model of ``card``.

    Args:
        info: the raster.
        card: what the model wants.
        scaling: how its values become 8-bit; percentiles are measured here, once.
        bands: role to band number (from 1), over what the file says of itself.
        aoi: in pixels of :func:`model_grid`, as :func:`geoseg.aoi.load_aoi` gives it.

    Raises:
        RasterError: bands or number types that no declared rule covers.
        ConfigError: a scaling that does not fit the bands.
    """
    source = Source(
        info=info,
        grid=model_grid(info, card),
        bands=_bands(info, card, bands or {}),
        aoi=aoi,
        zero_invalid=card.bands is not None or card.mean is not None,
        warnings=warnings_of(info, card.gsd_m),
    )
    if len(source.bands) == 1 and info.roles[source.bands[0] - 1] == "palette":
        return _with_palette(source, card)
    if scaling is None:
        _check_undeclared(info, card)
        return source
    scaling = scaling.for_bands(len(source.bands))
    if scaling.percentiles is not None:
        scaling = scaling.measured(_sample(source))
    return replace(source, scaling=scaling)


def _bands(info: RasterInfo, card: ModelCard, mapping: Mapping[str, int]) -> tuple[int, ...]:
    wrong = {role: band for role, band in mapping.items() if not 1 <= band <= info.bands}
    if wrong:
        raise RasterError(f"a band map with {wrong}", allowed=f"bands 1 to {info.bands} of {info.name}")
    _check_mapped(info, card, mapping)
    if card.bands is None:
        return tuple(mapping.values()) or info.colour_bands
    if info.roles[0] == "palette" and len(info.colour_bands) == 1 and not mapping:
        return (1,)
    found = {role: mapping.get(role) or _band_of(role, info) for role in card.bands}
    missing = [role for role, band in found.items() if band is None]
    if missing:
        example = ",".join(f"{role}={min(number, info.bands)}" for number, role in enumerate(card.bands, 1))
        raise RasterError(
            f"{info.name} with bands {', '.join(info.labels)}, of which none is surely {' or '.join(missing)}",
            allowed=f"bands named {', '.join(card.bands)} by colour interpretation or description",
            remedy=f"Say which is which, e.g. --bands {example} (in settings: bands under [raster]; in a training's "
            "under its [[sources]])",
        )
    return tuple(band for role in card.bands if (band := found[role]) is not None)  # a role may be asked for twice


def _check_mapped(info: RasterInfo, card: ModelCard, mapping: Mapping[str, int]) -> None:
    """Refuse a map that says more than is asked, or takes validity or a palette's numbers for colours."""
    unasked = [role for role in mapping if role not in (card.bands or mapping)]
    if unasked:
        raise RasterError(
            f"a band map that names {' and '.join(unasked)}",
            allowed=f"the bands of the model: {', '.join(card.bands or ())}",
            remedy="Correct or leave out the others in --bands (in settings: bands under [raster])",
        )
    clear = [role for role, band in mapping.items() if band == info.alpha]
    if clear:
        raise RasterError(
            f"a band map with {clear[0]}={info.alpha}, the alpha band of {info.name}",
            allowed="bands that hold imagery: alpha says which pixels hold something",
            remedy=f"Name another band; where band {info.alpha} is no alpha, say so in the file, e.g. with "
            f"gdal_edit -colorinterp_{info.alpha} undefined",
        )
    indexed = [role for role, band in mapping.items() if info.roles[band - 1] == "palette"]
    if indexed and len(mapping) > 1:
        raise RasterError(
            f"a band map with {indexed[0]}={mapping[indexed[0]]}, the palette of {info.name}",
            allowed="bands that hold imagery: a palette's values are numbers of colours",
            remedy="Leave out --bands (in settings: bands under [raster]): a palette becomes colours by itself",
        )


def _band_of(role: str, info: RasterInfo) -> int | None:
    """The one band of that role; None where there is none, or several."""
    places = [band for band, name in enumerate(info.roles, 1) if name == role]
    return places[0] if len(places) == 1 else None


def _check_undeclared(info: RasterInfo, card: ModelCard) -> None:
    few = info.bits is not None and info.bits < 8
    if card.mean is not None and (info.dtype != "uint8" or few):
        kind = f"{info.bits}-bit" if few else info.dtype
        raise RasterError(
            f"{info.name} with {kind} pixels for a model of 8-bit imagery",
            allowed="uint8, or a declared scaling",
            remedy="Give the range of its values, e.g. --scaling 0,3000, or have it measured once for the "
            "whole raster, e.g. --stretch 2,98 (in settings: scaling under [raster]; in an archive also by [[rule]]; "
            "in a training's under its [[sources]], as two numbers)",
        )


def warnings_of(info: RasterInfo, gsd_m: float | None) -> tuple[str, ...]:
    """What a user should know of a raster that a model of a GSD in metres (None: any) is to see."""
    ratio = 1.0 if gsd_m is None else info.grid.gsd_m / gsd_m
    if gsd_m is None or 1 / _FAR_GSD <= ratio <= _FAR_GSD:
        return info.warnings
    kind = "coarser" if ratio > 1 else "finer"
    return (
        *info.warnings,
        f"{info.name} has a ground sampling distance of {info.grid.gsd_m:.3g} m, {max(ratio, 1 / ratio):.1f} "
        f"times {kind} than the model's {gsd_m:.3g} m; it is resampled, and results may be poor",
    )


def _with_palette(source: Source, card: ModelCard) -> Source:
    """The same with its one band expanded to colours, which are 8-bit whatever was declared."""
    info = source.info
    if card.bands not in (None, ("red", "green", "blue")):
        raise RasterError(
            f"{info.name}, a palette image, for a model of {', '.join(card.bands or ())}",
            allowed="a model of red, green, blue",
        )
    if info.dtype != "uint8":
        raise RasterError(f"{info.name}, a palette of {info.dtype} values", allowed="a palette of uint8 values")
    return replace(source, palette=_palette(info, source.bands[0]))


def _palette(info: RasterInfo, band: int) -> tuple[tuple[int, int, int, int], ...]:
    with gdal_env(info.access), open_source(info.path, info.driver, info.access) as (dataset, _):
        try:
            colours = dataset.colormap(band)
        except ValueError as error:
            raise RasterError(
                f"{info.name} with numbers of colours and no table of them",
                allowed="a palette image with its colours",
                remedy="Expand it from the original with gdal_translate -expand rgb",
            ) from error
    return tuple(tuple(colours.get(value, (0, 0, 0, 0))) for value in range(256))


def _sample(source: Source) -> list[NDArray[Any]]:
    """Valid values per band from 1/64 of the file's blocks, spread over its rows and columns.

    At least 64 blocks and a million pixels are read where there are so many; beyond that at most 256 blocks.

    Raises:
        RasterError: none of them holds a valid pixel.
    """
    info, found = source.info, []
    rows, cols = info.file_block
    down, across = -(-info.grid.height // rows), -(-info.grid.width // cols)
    least = max(_SAMPLE_BLOCKS, -(-_SAMPLE_PIXELS // (rows * cols)))
    count = max(least, min(down * across // 64, 4 * _SAMPLE_BLOCKS))
    limit = max(1, _SAMPLE_VALUES // min(count, down * across))
    with closing(OpenFile(info, source.bands)) as file, gdal_env(info.access):
        for row, col in sorted(spread_blocks(down, across, count)):
            block = Window(row_off=row * rows, col_off=col * cols, height=rows, width=cols)
            raw = file.read(block.intersection(info.grid.window))
            values = raw.pixels[:, raw.valid]
            found.append(values[:, :: max(1, values.shape[1] // limit)])
    sample = np.concatenate(found, axis=1)
    if not sample.shape[1]:
        raise RasterError(
            f"{info.name}, where no valid pixel was found to measure its range on",
            allowed="a raster with valid pixels",
            remedy="Give the range, e.g. --scaling 0,3000",
        )
    return list(sample)
