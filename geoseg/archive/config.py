"""A run over an archive as a TOML file says it: the settings of every run, and what makes it an archive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from geoseg.archive.names import check_template
from geoseg.config import Fraction, Names, ScalingSettings, Section, Settings, Text, as_tuple, read_sections
from geoseg.errors import ConfigError
from geoseg.paths import expanded
from geoseg.stac.settings import StacSettings
from geoseg.tomls import checked

Format = Literal["gpkg", "parquet", "fgb", "geojson"]


class ArchiveSettings(Section):
    """What is done with each raster, and where it goes."""

    model: str
    """Bundled model, or path of a weights file."""
    folder: str
    """The run's folder: outputs, manifest and summary. Made if absent."""
    format: Format = "gpkg"
    """Format of the outputs, one per raster: gpkg, parquet, fgb or geojson."""
    name: str = "{stem}"
    """Name of an output, without suffix: text with {stem}, {name}, {date} (YYYYMMDD or undated), {number}."""
    aoi: str | None = None
    """Only this area: a vector file, "west,south,east,north" in degrees, or WKT in longitude, latitude."""
    at_once: Annotated[int, Field(ge=1, le=256)] = 1
    """Rasters worked on at once, each in a process of its own with the model in it."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """Further tries of a raster whose process died or hung."""
    scene_timeout_s: Annotated[float, Field(gt=0.0, le=1e8)] = 86_400.0
    """Seconds that one raster may take; its process is then ended, as one that hung."""
    give_up_after: Annotated[int, Field(ge=1, le=10**6)] = 8
    """Rasters in a row that fail by the environment (device, memory, disk) before the run stops."""


class InputSettings(Section):
    """Where the rasters are. Several kinds may be named; what two of them name is one raster."""

    globs: Names = ()
    """Patterns of paths; ** is any number of folders."""
    paths: Names = ()
    """Paths or URLs."""
    list: str | None = None
    """A text file of paths or URLs, one per line; empty lines and lines that begin with # are left out."""
    index: str | None = None
    """A vector file of footprints (GeoParquet, GeoPackage, GeoJSON, ...) with a column of paths."""
    index_column: str = "path"
    """That column."""
    stac: StacSettings | None = None
    """A search in a STAC API or a static catalogue."""
    exclude: Names = ()
    """Patterns of rasters that are left out, whoever names them: as ``match`` of a rule."""


class MergeSettings(Section):
    """One layer over all rasters, in which an object that several saw is there once."""

    output: str | None = None
    """File (.gpkg, .parquet, .fgb, .geojson) or, without a suffix, folder of GeoParquet parts; relative to the run's
    folder. Unset: no such layer."""
    keep: Literal["newest", "score"] = "newest"
    """Which of two is kept: that of the newer raster, or the one that scores higher."""
    iou: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Intersection over union from which two footprints are the same object; 0 to 1, no unit."""
    cover: Fraction = 0.5
    """Share of a footprint that its raster's edge cuts which lies in the other: from here they are the same object."""
    crs: Text | None = None
    """CRS of the layer. Unset: that of the outputs where they agree, else EPSG:4326."""


class RuleSettings(Section):
    """Rasters that need other settings than those of [raster]: the first rule that fits one holds for it."""

    match: Text
    """Pattern of their names or, with a slash, of their paths; ** is any number of folders."""
    assume_crs: Text | None = None
    """As in [raster]. Unset, here and below: what [raster] says."""
    bands: dict[str, Annotated[int, Field(ge=1)]] | None = None
    """As in [raster]."""
    scaling: ScalingSettings | None = None
    """As in [raster]."""

    @model_validator(mode="after")
    def _rules(self) -> RuleSettings:
        if not self.raster:
            raise ValueError(f"the rule for {self.match!r} says nothing: it needs assume_crs, bands or scaling")
        return self

    @property
    def raster(self) -> dict[str, Any]:
        """What is said, by the names of [raster]."""
        said = {name: getattr(self, name) for name in ("assume_crs", "bands", "scaling")}
        return {name: value for name, value in said.items() if value is not None}


class CollectionSettings(Section):
    """What a run produced as STAC: an Item beside each output, and the run's Collection."""

    write: bool = False
    """Whether they are written at the end of the run."""
    licence: Text = "other"
    """Of the outputs: an SPDX identifier, or other."""
    title: str = ""
    """Of the Collection, one line."""


class RunConfig(Settings):
    """A run over an archive: the settings of a run, and its inputs and outputs."""

    archive: ArchiveSettings
    """What is done with each raster."""
    input: InputSettings
    """Where the rasters are."""
    rule: Annotated[tuple[RuleSettings, ...], BeforeValidator(as_tuple)] = ()
    """Rasters that need other settings than those of [raster]."""
    merge: MergeSettings = MergeSettings()
    """The layer over all of them."""
    stac: CollectionSettings = CollectionSettings()
    """STAC of what was produced."""
    _root: Path = PrivateAttr(default_factory=Path.cwd)

    @model_validator(mode="after")
    def _whole(self) -> RunConfig:
        check_template(self.archive.name)
        given = self.input
        if self.merge.output is not None and Path(self.merge.output).parts[:1] in ((), ("scenes",)):
            raise ValueError(f"merge.output {self.merge.output!r} would take the place of the scenes' own outputs")
        if not (given.globs or given.paths or given.list or given.index or given.stac):
            raise ValueError("[input] names no raster: it needs globs, paths, list, index or stac")
        return self

    @model_validator(mode="wrap")  # Settings' own does not see what _whole says
    @classmethod
    def _checked_whole(cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        return checked(cls, values, handler, info)

    @property
    def settings(self) -> Settings:
        """Those of each raster, their paths absolute: they go to processes that may be anywhere."""
        given = {name: getattr(self, name) for name in Settings.model_fields}
        given["raster"] = self.raster.model_copy(update={"roots": tuple(str(self.path(r)) for r in self.raster.roots)})
        if self.store.folder is not None and "://" not in self.store.folder:
            given["store"] = self.store.model_copy(update={"folder": str(self.path(self.store.folder))})
        return Settings.model_validate(given)

    @property
    def folder(self) -> Path:
        """The run's folder, absolute."""
        return Path(os.path.normpath(self.path(self.archive.folder)))

    def path(self, text: str) -> Path:
        """A path of the file: what is relative starts from the file's own folder."""
        return self._root / expanded(text)

    def file(self, text: str) -> Path | None:
        """The file that a text names; None where it names none, such as an area in words."""
        try:
            path = self.path(text)
            return path if path.is_file() else None
        except (OSError, ConfigError, ValueError):  # a name that no file can have: a long WKT, an unknown ~user
            return None

    def rooted(self, folder: str | Path) -> RunConfig:
        """The same, with relative paths that start from ``folder``."""
        copy = self.model_copy()
        copy._root = Path(folder).absolute()
        return copy

    def scheduled(self, scheduler: str | None) -> RunConfig:
        """The same on the Dask cluster at this address; None: as it is.

        Raises:
            ConfigError: what is no address.
        """
        return self.model_copy(update={"engine": self.engine.at(scheduler)})


def read_run_config(path: str | Path) -> RunConfig:
    """A run over an archive from its TOML file.

    Raises:
        ConfigError: as :func:`geoseg.read_settings`.
    """
    path = expanded(path)
    config = read_sections(path, RunConfig, remedy="See configs/runs/archive.toml, which has every key")
    return config.rooted(path.parent.resolve())
