"""Run settings: TOML to frozen, checked values. A key that geoseg does not know is refused, never ignored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from geoseg.errors import ConfigError
from geoseg.tomls import checked, listed, read_toml

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=1024)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
_DEVICE = re.compile(r"^(auto|cpu|(cuda|tensorrt)(:[0-9]+)?|mps|openvino(:(f32|bf16))?)$")
_ADDRESS = re.compile(r"((tcp|tls|ws|wss|ucx)://)?(\[[0-9a-fA-F:.%\w]+\]|[^\s/:\[\]]+):\d{1,5}|inproc://\S+")


def as_tuple(value: object) -> object:
    """A list of TOML as the tuple that a frozen value holds."""
    return tuple(value) if isinstance(value, list) else value


def _as_numbers(value: object) -> object:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else as_tuple(value)


def _sides(least: int) -> PlainValidator:
    """One number, or a list of two: rows, then columns."""
    number: Any = Annotated[int, Field(strict=True, ge=least, le=65_536)]
    side: TypeAdapter[int] = TypeAdapter(number)

    def checked(value: object) -> int | tuple[int, ...]:
        if not isinstance(value, list | tuple):
            return side.validate_python(value)
        if len(value) != 2:
            raise PydanticCustomError("sides", "One number, or two in a list: rows, then columns")
        return tuple(side.validate_python(each) for each in value)

    return PlainValidator(checked, json_schema_input_type=number | tuple[number, number])


# Without it pydantic tells two numbers twice, the second time not as it expects them, and warns of that.
_SIDES_TOLD = PlainSerializer(lambda sides: sides)
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_as_numbers)]
Pair = Annotated[tuple[float, float], BeforeValidator(as_tuple)]


class Section(BaseModel):
    """A table of a settings file: frozen, typed as TOML is, and closed to names that it does not know."""

    # strict: TOML has types, so "0.5" for a number is a mistake to tell, not to mend.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TilingSettings(Section):
    """How the raster is cut."""

    core: Annotated[int | tuple[int, int], _sides(1), _SIDES_TOLD] | None = None
    """Side of a tile's core, in pixels of the grid that the model sees; [384, 640]: rows, columns. Unset: the
    model's."""
    halo: Annotated[int | tuple[int, int], _sides(0), _SIDES_TOLD] | None = None
    """Rim around the core, in the same pixels, at most core; [48, 64]: rows, columns. Unset: the model's."""
    block: Annotated[int, Field(ge=1, le=64)] = 4
    """Side of a block (the unit of work), in tiles."""


def _device(text: str) -> str:
    """In words, where pydantic would show the expression."""
    if _DEVICE.fullmatch(text):
        return text
    raise PydanticCustomError("device", "auto, cpu, cuda, cuda:1, mps, tensorrt, openvino, openvino:f32, openvino:bf16")


class DetectSettings(Section):
    """How the network is run."""

    score_threshold: Fraction | None = None
    """Objects that score less are dropped; 0 to 1, no unit. Unset: the model's."""
    batch: Count = 4
    """Chips per call of the network."""
    device: Annotated[str, AfterValidator(_device), Field(json_schema_extra={"pattern": _DEVICE.pattern})] = "auto"
    """auto, cpu, cuda, cuda:N or mps; tensorrt or tensorrt:N for ONNX models; openvino, openvino:f32 or openvino:bf16
    for these and Mask R-CNNs."""


class VectorizeSettings(Section):
    """How masks become polygons."""

    tolerance_px: Annotated[float, Field(ge=0.0, le=100.0)] = 0.25
    """How much outlines are simplified, in pixels: no point moves farther than twice this; 0: untouched."""
    min_area_m2: NotNegative = 0.0
    """Footprints smaller than this are dropped, in square metres."""


class ShapesSettings(Section):
    """How outlines are brought into shape after they were merged, each class for itself."""

    min_part: Fraction = 0.05
    """Parts of a footprint smaller than this share of its largest part are specks of its mask and dropped; 0: none."""
    resolve_overlaps: bool = True
    """Whether ground that several footprints of a class cover goes to the one that scores best."""
    gap_px: Annotated[float, Field(ge=0.0, le=100.0)] = 0.5
    """Gaps between neighbours that are narrower, in pixels, are closed; 0: none. Needs resolve_overlaps."""
    regularize: Literal["none", "buildings", "ships"] | None = None
    """none, buildings (straight walls, right angles) or ships (hulls). Unset: the model's."""
    tolerance_px: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """How far regularize may move a wall, in pixels; walls shorter than three times this are left out."""


class ScalingSettings(Section):
    """The rule that brings values that are not 8-bit to 0-255, for every tile: a range or percentiles."""

    low: Numbers | None = None
    """Raster value that becomes 0, in the raster's own unit: one number, or one per band."""
    high: Numbers | None = None
    """Raster value that becomes 255, in the raster's own unit: as many."""
    percentiles: Pair | None = None
    """[2, 98]: the range between these percentiles of the raster's values, measured once per raster."""

    @model_validator(mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        """``[0, 3000]`` is short for a low and a high."""
        return {"low": value[0], "high": value[1]} if isinstance(value, list | tuple) and len(value) == 2 else value

    @model_validator(mode="after")
    def _one_rule(self) -> ScalingSettings:
        low, high = self.low or (), self.high or ()
        if (self.percentiles is None) == (not low and not high):
            raise ValueError("either low and high, or percentiles")
        if len(low) != len(high) or not all(one < other for one, other in zip(low, high, strict=True)):
            raise ValueError("as many of low as of high, and low < high")
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles of which 0 <= low < high <= 100")
        return self


class RasterSettings(Section):
    """What a raster may be, and what is said about it that its file does not say."""

    assume_crs: Text | None = None
    """CRS of a raster that carries none, such as EPSG:32645. Unset: such a raster is refused."""
    bands: dict[str, Annotated[int, Field(ge=1)]] | None = None
    """Band number (from 1) of each role, such as {red = 3, green = 2, blue = 1}. Unset: as the file says."""
    scaling: ScalingSettings | None = None
    """{low, high} or {percentiles}: how values become 8-bit. Unset: they stay as they are."""
    allow_remote: bool = False
    """Whether a raster may reach the network (http, s3, ...)."""
    roots: Names = ()
    """Folders that a raster may reach besides its own."""
    max_pixels: Annotated[int, Field(ge=1)] = 10**12
    """Most pixels (rows x columns) of a raster."""
    max_block_bytes: Annotated[int, Field(ge=1)] = 256 * 2**20
    """Most bytes of one decoded block of the file: what the smallest read costs."""


def _address(text: str) -> str:
    """Refused before any work: dask itself would only say so when it is asked for workers."""
    if _ADDRESS.fullmatch(text):
        return text
    raise PydanticCustomError("address", "The address of a dask scheduler: tcp://host:8786, tls://host:8786, host:8786")


class EngineSettings(Section):
    """Where the work is done. Changes nothing in the result."""

    scheduler: Annotated[str, AfterValidator(_address)] | None = None
    """Address of a dask scheduler, such as tcp://host:8786. Unset: threads of this process."""
    workers: Count | None = None
    """Threads on this machine, of each process. Unset: one per CPU, from 2 to 8; with processes, 2."""
    processes: Count | None = None
    """Processes on this machine, each with a network of its own. Unset: threads of this process."""
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Further tries of a block that failed by accident."""
    block_timeout_s: Annotated[float, Field(gt=0.0, le=1e7)] = 3600.0
    """Seconds that one block may take once it has begun; it is then given up as hung."""
    patience_s: Annotated[float, Field(gt=0.0, le=1e7)] = 60.0
    """Seconds to wait for a scheduler to answer, and for a cluster that has no worker left to get one."""

    @model_validator(mode="after")
    def _in_one_place(self) -> Self:
        if self.scheduler is not None and self.processes is not None:
            raise ValueError("scheduler or processes, not both: with a scheduler its own workers do the work")
        return self

    def at(self, scheduler: str | None) -> EngineSettings:
        """The same at this scheduler, in place of processes of this machine; None: as it is.

        Raises:
            ConfigError: what is no address.
        """
        if scheduler is None:
            return self
        try:
            return EngineSettings.model_validate({**self.model_dump(), "scheduler": scheduler, "processes": None})
        except ValidationError as error:
            raise ConfigError(f"the scheduler {scheduler!r}", allowed=error.errors()[0]["msg"]) from None


class StoreSettings(Section):
    """Where predictions are kept. Changes nothing in the result."""

    folder: Text | None = None
    """Folder or URL (s3://...) in which predictions are kept and found again, one store for each raster, model, AOI
    and tiling, named by its key. Unset: beside the output, until that stands."""


class OutputSettings(Section):
    """What the output is like."""

    crs: Text | None = None
    """CRS of the output, such as EPSG:4326. Unset: the raster's. Measures are in metres either way."""


class Settings(Section):
    """Everything about a run that is not the raster, the model or the AOI.

    ``None`` everywhere means: as the model card, or the raster, says.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range.
    """

    tiling: TilingSettings = TilingSettings()
    """How the raster is cut."""
    detect: DetectSettings = DetectSettings()
    """How the network is run."""
    vectorize: VectorizeSettings = VectorizeSettings()
    """How masks become polygons."""
    shapes: ShapesSettings = ShapesSettings()
    """How outlines are brought into shape."""
    raster: RasterSettings = RasterSettings()
    """What a raster may be."""
    engine: EngineSettings = EngineSettings()
    """Where the work is done."""
    store: StoreSettings = StoreSettings()
    """Where predictions are kept."""
    output: OutputSettings = OutputSettings()
    """What the output is like."""

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        return checked(cls, values, handler, info)


AnySettings = TypeVar("AnySettings", bound=Settings)


def settled(settings: Settings | None) -> Settings:
    """The settings, or the defaults.

    Raises:
        ConfigError: they are something else, such as a mapping.
    """
    if settings is None:
        return Settings()
    if not isinstance(settings, Settings):
        raise ConfigError(
            f"settings of type {type(settings).__name__}",
            allowed="geoseg.Settings, e.g. Settings(detect={'score_threshold': 0.6})",
            remedy="Make them of a mapping with geoseg.Settings.model_validate(...)",
        )
    return settings


def read_settings(path: str | Path) -> Settings:
    """Settings from a TOML file.

    Raises:
        ConfigError: no such file, not TOML, a key twice, an unknown key, a value of the wrong type or out of
            range, or no settings at all; names the file, the line and the nearest valid name.
    """
    return read_sections(path, Settings, remedy="Leave out the settings file to run with the defaults")


def read_sections(path: str | Path, kind: type[AnySettings], *, remedy: str) -> AnySettings:
    """A TOML file as ``kind``, settings of some sections; ``remedy`` is told where it is empty.

    Raises:
        ConfigError: as :func:`read_settings`.
    """
    text, values = read_toml(path, example="configs/runs/default.toml")
    if not values:
        raise ConfigError(
            f"{path}, which holds no settings",
            allowed=f"the sections {listed(kind)}",
            remedy=remedy,
        )
    return kind.model_validate(values, context={"path": str(path), "text": text})


def json_schema() -> str:
    """The JSON schema of a settings file, as JSON text, for editors that check TOML."""
    return json.dumps(Settings.model_json_schema(), indent=2, sort_keys=True)
