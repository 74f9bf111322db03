"""What goes into one output, and where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from pyogrio.errors import FieldError

from geoseg.errors import ConfigError
from geoseg.sinks import tables
from geoseg.sinks.atomic import printable, replacing


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """One output to be written."""

    target: Path
    """Where; its suffix is one of the formats'."""
    footprints: tables.Table
    """The table, or a stream of its rows."""
    gaps: gpd.GeoDataFrame | None = None
    """Ground that was not examined; None: nothing is said of it."""
    run: Mapping[str, Any] | None = None
    """Provenance; None: nothing is said of it."""
    force: bool = False
    """Replace also what somebody may miss."""

    def layers(self) -> dict[str, tables.Table]:
        """Name -> table, ready to be written: a plain index, one CRS.

        Raises:
            ConfigError: two columns of the same name, or shapes that no format holds.
        """
        whole = isinstance(self.footprints, gpd.GeoDataFrame)
        if whole:
            tables.check_coordinates(self.footprints)
        found: dict[str, tables.Table] = {"footprints": tables.flat(self.footprints) if whole else self.footprints}
        if self.gaps is not None:
            found["gaps"] = tables.flat(tables.same_crs(self.gaps, self.footprints))
        return found

    @property
    def gaps_file(self) -> Path:
        """Where the gaps go in a format of one layer: ``NAME.gaps.SUFFIX``."""
        return self.target.with_name(f"{self.target.stem}.gaps{self.target.suffix}")


def run_file(target: Path) -> Path:
    """Where the run goes in a format without room for it: ``NAME.SUFFIX.run.json``, so each output has its own."""
    return target.with_name(f"{target.name}.run.json")


def write_with_siblings(write_layer: Callable[[Path, str, tables.Table], None], output: Output) -> None:
    """Write a format that holds one layer: the gaps go to a second file, the run to a JSON file beside it."""
    layers = output.layers()
    gaps, run = output.gaps_file, run_file(output.target)
    siblings = [gaps] if output.gaps is not None else []
    seal = run if output.run is not None else None
    gone = {gaps, run} - {*siblings, seal}
    with replacing(output.target, *siblings, seal=seal, gone=gone, library_errors=tables.GDAL_ERRORS) as drafts:
        for draft, (name, table) in zip(drafts, layers.items(), strict=False):
            with naming_the_column(name, table):
                write_layer(draft, name, table)
            tables.check_count(draft, expected=len(table))
        if output.run is not None:
            drafts[-1].write_text(json.dumps(tables.run_values(output.run), indent=2) + "\n", encoding="utf-8")


@contextmanager
def naming_the_column(layer: str, table: tables.Table) -> Iterator[None]:
    """Turn what a library says of a table that its format cannot hold into one message that names the column.

    Raises:
        ConfigError: the block ended with such an error.
    """
    if not isinstance(table, gpd.GeoDataFrame):  # of the one schema, which every format holds
        yield
        return
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, OverflowError, FieldError) as error:
        name = _too_large(table) if isinstance(error, OverflowError) else _culprit(tables.attributes(table), str(error))
        column = "a table" if name is None else f"a column {name!r} of type {table.dtypes.rename(str)[name]}"
        raise ConfigError(
            f"{column} for {layer} that the format cannot hold ({printable(error)})",
            allowed="columns of one type each: numbers (whole ones below 2^63), text, true/false or dates, named apart"
            " also in small letters",
            remedy="Convert or drop the column",
        ) from error


def _culprit(names: list[str], message: str) -> str | None:
    """The column that pyogrio (by its number, or quoted) or Arrow (by its name) complains of."""
    if number := re.search(r"field index: (\d+)", message):
        return names[int(number[1])] if int(number[1]) < len(names) else None
    return next((name for name in names if f"column {name} with" in message or f"'{name}'" in message), None)


def _too_large(table: gpd.GeoDataFrame) -> str | None:
    """The column of whole numbers that has one beyond 64 bits with a sign: libraries do not say which."""
    for name, column in table.drop(columns=table.geometry.name).items():
        whole = (int(value) for value in column.dropna() if isinstance(value, int | np.integer))
        if any(not -(2**63) <= value < 2**63 for value in whole):
            return str(name)
    return None
