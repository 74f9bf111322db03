"""A run before its blocks: all that was given, checked and refused now or never; and what tells runs apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import shapely
from pyproj import CRS

from geoseg.aoi import load_aoi, read_aoi
from geoseg.blocks import BlockTask
from geoseg.config import RasterSettings, Settings
from geoseg.detectors.base import Detector, ModelCard
from geoseg.errors import ConfigError, ModelError
from geoseg.examining import Examiner
from geoseg.gaps import Gap
from geoseg.ground import Ground, check_output_crs, parse_crs
from geoseg.instances import Chip, Instances
from geoseg.polygons import united
from geoseg.raster import Access, RasterInfo, Scaling, model_grid, open_raster, source_for
from geoseg.report import dissolved, versions
from geoseg.scope import Scope
from geoseg.store import Store
from geoseg.tiling import Plan, Tiling
from geoseg.work import Parts


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A run, checked and ready to start."""

    scope: Scope
    """What it is of."""
    settings: Settings
    """All of them."""
    examiner: Examiner | None
    """What reads and predicts; None: predictions are all there is."""
    info: RasterInfo | None
    """The raster; likewise."""

    @classmethod
    def of(
        cls, raster: str | Path | RasterInfo, model: Detector, *, aoi: Any, tiling: Tiling | None, settings: Settings
    ) -> Job:
        """Look at all that was given, and refuse it now or never. A raster that was opened by :func:`opened` is not
        opened, and hashed, again.

        Raises:
            GeosegError: a raster, model, AOI or settings that cannot be used.
        """
        card = card_of(model)
        if settings.output.crs:
            parse_crs(settings.output.crs)  # refused before any work
        tiling = tiling_of(settings, card) if tiling is None else tiling
        if not isinstance(tiling, Tiling):
            raise ConfigError(
                f"a tiling of type {type(tiling).__name__}", allowed="a geoseg.Tiling, e.g. Tiling(core=512, halo=64)"
            )
        info = raster if isinstance(raster, RasterInfo) else opened(raster, settings.raster)
        grid = model_grid(info, card)
        _ = grid.gsd_xy_m  # a CRS that is tied to no ellipsoid is refused here, not once there is something to measure
        check_output_crs(settings, grid)
        given = None if aoi is None else read_aoi(aoi)
        area, warnings = (None, []) if given is None else load_aoi(given, grid)
        reach = None if area is None else _reach(area, max(tiling.halo_yx))
        raster_settings = settings.raster
        source = source_for(info, card, scaling=_scaling(raster_settings), bands=raster_settings.bands, aoi=reach)
        scope = Scope(
            name=info.name,
            key=info.key,
            acquired=info.acquired,
            grid=grid,
            plan=tiling.plan(grid.window),
            card=card,
            weights=_digest(model),
            floor=float(getattr(model, "floor", 0.0)),
            aoi=area,
            reach=reach,
            aoi_text=None if given is None else given.text,
            raster=raster_settings,
            warnings=(*warnings, *source.warnings),
        )
        examiner = Examiner(source=source, detector=model, batch=settings.detect.batch)
        return cls(scope=scope, settings=settings, examiner=examiner, info=info)

    @classmethod
    def of_store(cls, store: Store, settings: Settings) -> Job:
        """A run from kept predictions: raster, tiling and AOI are those that they were made with.

        Raises:
            StoreError: the store says too little of them.
            ConfigError: an output CRS that is none.
        """
        scope = Scope.of_header(store.header)
        check_output_crs(settings, scope.grid)
        return cls(scope=scope, settings=settings.model_copy(update={"raster": scope.raster}), examiner=None, info=None)

    @property
    def plan(self) -> Plan:
        """The tiles."""
        return self.scope.plan

    @property
    def threshold(self) -> float:
        """What scores less is dropped."""
        asked = self.settings.detect.score_threshold
        return self.scope.card.score_threshold if asked is None else asked

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know."""
        said, floor = self.scope.warnings, self.scope.floor
        if self.threshold >= floor:
            return said
        name = self.scope.card.name
        return *said, f"scores from {self.threshold:g} are asked for, but {name} gives none below {floor:g}"

    def task(self, parts: Parts, store: Store | None) -> BlockTask:
        """What is done with each block."""
        return BlockTask(
            plan=self.plan,
            parts=parts,
            threshold=self.threshold,
            tolerance=self.settings.vectorize.tolerance_px,
            examiner=self.examiner,
            store=store,
        )

    def gaps(self, found: list[Gap]) -> list[Gap]:
        """All ground that was not examined, a gap per reason."""
        found = [gap for gap in found if gap.reason != "outside_aoi"]
        aoi = self.scope.aoi
        if aoi is not None:
            rest = shapely.difference(shapely.box(*self.scope.grid.window.xyxy), aoi)
            found.append(Gap(geometry=rest, reason="outside_aoi"))
        return dissolved(found, within=aoi)

    def ground(self, gaps: list[Gap]) -> Ground:
        """What becomes of merged objects."""
        return Ground(scope=self.scope, settings=self.settings, gaps=tuple(gaps), run=self.identity)

    @property
    def output_crs(self) -> CRS:
        """Of the footprints."""
        asked = self.settings.output.crs
        return parse_crs(asked) if asked else self.scope.grid.crs

    @cached_property
    def identity(self) -> str:
        """16 hex digits that are the same for the same raster, card, weights, AOI, settings and version."""
        settings = self.settings.model_dump(mode="json")
        for section in ("engine", "tiling", "detect", "store"):
            settings.pop(section, None)
        tiling, scope = self.plan.tiling, self.scope
        return _hash(
            {
                "raster": scope.key,
                "model": scope.card.to_json(),
                "weights": scope.weights,
                "tiling": [tiling.core, tiling.halo],
                "threshold": self.threshold,
                "settings": settings,
                "aoi": None if scope.aoi is None else shapely.to_wkb(scope.aoi, hex=True),
                "version": versions().get("geoseg"),
            }
        )

    def store(self, asked: str | Path | None) -> str | Path | None:
        """Where predictions are to be kept: where it is asked, or in the settings' folder of stores; None: nowhere."""
        folder = self.settings.store.folder
        if asked is not None or folder is None:
            return asked
        return f"{folder.rstrip('/')}/{self.predictions_key}"

    @cached_property
    def predictions_key(self) -> str:
        """16 hex digits that are the same where kept predictions can be used: threshold, outlines and shapes are not
        in it, the size of blocks is."""
        scope, tiling = self.scope, self.plan.tiling
        model = None if self.examiner is None else type(self.examiner.detector)
        return _hash(
            {
                "raster": scope.key,
                "read": scope.raster.model_dump(mode="json", include={"assume_crs", "bands", "scaling"}),
                "model": scope.card.to_json(),
                "weights": scope.weights or f"{getattr(model, '__module__', '')}.{getattr(model, '__qualname__', '')}",
                "tiling": [tiling.core, tiling.halo, tiling.block],
                "reach": None if scope.reach is None else shapely.to_wkb(scope.reach, hex=True),
                "version": versions().get("geoseg"),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A detector of which only the card is asked: a job of it has the tiles and the identity, without the network."""

    card: ModelCard
    """The card."""
    digest: str = ""
    """The digest of its weights."""

    def predict(self, chips: list[Chip]) -> Sequence[Instances]:
        """Never asked: a job that is not run reads no chip."""
        raise AssertionError("a sketch detects nothing")


def card_of(model: object) -> ModelCard:
    """The card of a detector.

    Raises:
        ModelError: it is no detector.
    """
    if isinstance(model, type):
        raise ModelError(
            f"the class {model.__name__} as a model",
            allowed="one of its instances",
            remedy=f"Make one, e.g. {model.__name__}()",
        )
    if not isinstance(model, Detector) or not isinstance(model.card, ModelCard):
        raise ModelError(
            f"a model of type {type(model).__name__}",
            allowed="an object with .card (geoseg.ModelCard) and .predict(list of Chip) -> list of Instances",
            remedy='Give a class of your own both (README, "Your own detector"), or load a bundled model with '
            "geoseg.load_model('buildings')",
        )
    return model.card


def tiling_of(settings: Settings, card: ModelCard) -> Tiling:
    """The tiling that the settings, or else the card, ask for.

    Raises:
        ConfigError: a halo wider than the core.
    """
    asked, block = settings.tiling, settings.tiling.block
    cores = Tiling(core=card.core if asked.core is None else asked.core, halo=0)
    rows, cols = (min(card.halo, side) for side in cores.core_yx)
    return Tiling(core=cores.core, halo=(rows, cols) if asked.halo is None else asked.halo, block=block)


def opened(raster: str | Path, settings: RasterSettings) -> RasterInfo:
    """A raster's header, read as the settings allow.

    Raises:
        RasterError: it is refused.
        ConfigError: the CRS to assume is none, whether it is needed or not.
    """
    if settings.assume_crs:
        parse_crs(settings.assume_crs, "raster.assume_crs")
    return open_raster(raster, access=access_of(settings), assume_crs=settings.assume_crs)


def access_of(raster: RasterSettings) -> Access:
    """What a raster may reach, by the settings."""
    return Access(
        allow_remote=raster.allow_remote,
        roots=raster.roots,
        max_pixels=raster.max_pixels,
        max_block_bytes=raster.max_block_bytes,
    )


def _scaling(raster: RasterSettings) -> Scaling | None:
    rule = raster.scaling
    if rule is None:
        return None
    return Scaling(low=rule.low or (), high=rule.high or (), percentiles=rule.percentiles)


def _reach(area: Any, halo: int) -> Any:
    """Around the AOI a halo more is examined, so that objects on its border are seen whole."""
    # Simplified first: an AOI of a million vertices would be slow to buffer, and this border may be rough.
    # Part by part: GEOS compares all parts of one geometry with all that it grows.
    parts = shapely.simplify(shapely.get_parts(area), halo / 8)
    return area if area.is_empty else united(shapely.buffer(parts, halo * 9 / 8, quad_segs=2))


def _digest(model: object) -> str:
    """What tells weights of equal cards apart; empty where a detector does not say."""
    digest = getattr(model, "digest", "")
    return digest if isinstance(digest, str) else ""


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
