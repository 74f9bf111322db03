"""Settings of where training chips come from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Listed = Strict(False)
"""Of a tuple: TOML has it as a list. What is in it stays strict."""


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the smaller first")
    return pair


_Positive = Annotated[float, Field(gt=0)]
_Names = Annotated[tuple[str, ...], Listed]
Range = Annotated[tuple[_Positive, _Positive], Listed, AfterValidator(_rising)]
"""Two numbers above 0, the smaller first."""


class Part(BaseModel):
    """A table of a training's settings: frozen, typed as TOML is, and closed to names that it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class _Weighted(Part):
    weight: float = Field(default=1.0, gt=0, description="how often it is drawn, relative to the others")


class _OnRaster(_Weighted):
    raster: str
    bands: dict[str, Annotated[int, Field(ge=1)]] | None = Field(
        default=None, description="band number (from 1) of red, green, blue, where the file does not say"
    )
    scaling: Annotated[tuple[float, float], Listed] | None = Field(
        default=None, description="raster values that become 0 and 255, where they are not 8-bit"
    )
    columns: Annotated[tuple[Share, Share], Listed] = Field(
        default=(0.0, 1.0), description="the share of the raster's columns to use, e.g. [0.0, 0.75]"
    )
    aoi: str = Field(default="", description="vector file of the ground that is really labelled; empty: all of it")
    ignore: str = Field(default="", description="vector file of regions in which nothing is punished")
    ignore_labels: _Names = Field(default=(), description="labels whose features are such regions")
    hard: str = Field(default="", description="vector file of places where something was wrongly found")


class RasterSource(_OnRaster):
    """A raster with a vector layer of labels."""

    kind: Literal["raster"]
    labels: str
    label: str = Field(default="", description="class of every feature; empty: the first class")
    label_column: str = Field(default="", description="column that holds each feature's class")

    @model_validator(mode="after")
    def _one_says_the_class(self) -> Self:
        if self.label and self.label_column:
            raise ValueError("either label, the class of every feature, or label_column, which holds each one's")
        if self.ignore_labels and not self.label_column:
            raise ValueError("ignore_labels only with label_column: without it every feature is of one class")
        return self


class ReviewSource(_OnRaster):
    """A raster with footprints that somebody corrected (``geoseg review``)."""

    kind: Literal["review"]
    footprints: str
    keep_above: Share | None = Field(
        default=None, description="footprints nobody judged that score at least this are objects; else ignored"
    )
    wrong_below: Share | None = Field(
        default=None, description="those that score less than this are wrong; else ignored"
    )

    @model_validator(mode="after")
    def _either_kept_or_wrong(self) -> Self:
        if self.keep_above is not None and self.wrong_below is not None and self.keep_above < self.wrong_below:
            raise ValueError("keep_above no less than wrong_below: a score between the two would mean both")
        return self


class CocoSource(_Weighted):
    """Images with COCO instance JSON; crowds are ignored regions."""

    kind: Literal["coco"]
    annotations: str
    images: str = Field(default="", description="folder of the images; empty: that of the annotations")
    gsd_m: float | None = Field(
        default=None, gt=0, description="ground metres per pixel of the images; None: they are georeferenced"
    )
    label: str = Field(default="", description="class of every object; empty: its category's name")
    ignore_labels: _Names = Field(default=(), description="categories in which nothing is punished")


class GeneratedSource(_Weighted):
    """Generated scenes, made when first drawn and kept in memory."""

    kind: Literal["generated"]
    scene: Literal["town", "harbour"]
    scenes: int = Field(default=100, ge=1, description="how many different scenes")
    first_seed: int = Field(default=1000, ge=0)
    height: int = Field(default=640, ge=64, description="pixels")
    width: int = Field(default=768, ge=64, description="pixels")
    gsd_m: Range = Field(default=(0.2, 0.35), description="range in metres, drawn per scene")


Source = Annotated[RasterSource | ReviewSource | CocoSource | GeneratedSource, Field(discriminator="kind")]
