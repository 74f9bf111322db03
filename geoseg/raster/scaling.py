"""Bringing imagery of any number type to the 8 bits that a network was trained on, by a declared rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError

_TABLE_TYPES = ("uint8", "int8", "uint16", "int16")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Values from ``low`` to ``high`` spread over 0 to 255, the same for every tile of a raster.

    Either a range is given, ``Scaling(low=(0,), high=(3000,))``, or percentiles to be measured once per
    raster when its source is made, ``Scaling(percentiles=(2, 98))``.

    Raises:
        ConfigError: neither or both, or values that make no range.
    """

    low: tuple[float, ...] = ()
    """Values that become 0: one per band, or one for all."""
    high: tuple[float, ...] = ()
    """Values that become 255: as many."""
    percentiles: tuple[float, float] | None = None
    """Low and high percentile (0 to 100) of each band's valid pixels, in a sample of 1/64 of the raster."""

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            values = getattr(self, name)
            object.__setattr__(self, name, tuple(float(v) for v in np.atleast_1d(np.asarray(values, float))))
        if (self.percentiles is None) == (not self.low):
            raise ConfigError("a scaling", allowed="either low and high, or percentiles")
        if len(self.low) != len(self.high) or not all(
            math.isfinite(a) and math.isfinite(b) and a < b for a, b in zip(self.low, self.high, strict=False)
        ):
            raise ConfigError(f"a scaling from {self.low} to {self.high}", allowed="as many of each, low < high")
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ConfigError(f"a stretch between percentiles {self.percentiles}", allowed="0 <= low < high <= 100")

    def for_bands(self, count: int) -> Scaling:
        """The same range, spelled out for ``count`` bands.

        Raises:
            ConfigError: as many values as neither one nor the bands.
        """
        if self.percentiles is not None or len(self.low) == count:
            return self
        if len(self.low) != 1:
            raise ConfigError(
                f"a scaling with {len(self.low)} values for {count} bands",
                allowed=f"1 or {count} values of each",
            )
        return Scaling(low=self.low * count, high=self.high * count)

    def measured(self, samples: list[NDArray[Any]]) -> Scaling:
        """The range that the percentiles make on samples, one array of valid values per band."""
        assert self.percentiles is not None
        ranges = [np.percentile(values, self.percentiles) for values in samples]
        # A band of one value has no range: one step keeps it dark instead of dividing by zero.
        return Scaling(low=tuple(r[0] for r in ranges), high=tuple(max(r[1], r[0] + 1e-6) for r in ranges))

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale ``(bands, height, width)`` to uint8; values outside the range are clipped, NaN becomes 0."""
        out = np.empty(pixels.shape, np.uint8)
        for band, values in enumerate(pixels):
            if pixels.dtype.name in _TABLE_TYPES:
                table = self._tables(pixels.dtype.name)[band]
                np.take(table, values.view(f"u{values.itemsize}"), out=out[band], mode="clip")
            else:
                out[band] = _scaled(values, self.low[band], self.high[band])
        return out

    def _tables(self, dtype: str) -> list[NDArray[np.uint8]]:
        tables = self._cache.get(dtype)
        if tables is None:
            kind = np.dtype(dtype)
            every = np.arange(2 ** (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(kind)
            tables = [_scaled(every, low, high) for low, high in zip(self.low, self.high, strict=True)]
            self._cache[dtype] = tables
        return tables

    @cached_property
    def _cache(self) -> dict[str, list[NDArray[np.uint8]]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the lookup tables."""
        return {k: v for k, v in self.__dict__.items() if k != "_cache"}


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    wide = values.dtype.itemsize >= 4 and values.dtype != np.float32
    work: NDArray[Any] = values.astype(np.float64 if wide else np.float32)
    np.subtract(work, low, out=work)
    np.multiply(work, 255.0 / (high - low), out=work)
    np.clip(work, 0, 255, out=work)
    np.nan_to_num(work, copy=False)
    scaled: NDArray[np.uint8] = np.rint(work, out=work).astype(np.uint8)
    return scaled
