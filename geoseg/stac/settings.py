"""What a STAC search looks for, and where."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from geoseg.config import Names, Section

OPERATORS = ("eq", "neq", "lt", "lte", "gt", "gte", "in", "startsWith", "endsWith", "contains")
"""Comparisons of the STAC API's Query extension."""


class StacSettings(Section):
    """A search in a STAC API or a static catalogue. Every filter that is set must be met."""

    url: Annotated[str, Field(min_length=1)]
    """URL of a STAC API, or path or URL of a static catalogue, collection, item or ItemCollection (GeoJSON)."""
    collections: Names = ()
    """Ids of collections. Unset: all."""
    ids: Names = ()
    """Ids of items. Unset: all."""
    aoi: str | None = None
    """Only items whose geometry meets this: "west,south,east,north" in degrees, WKT, or a vector file."""
    datetime: str | None = None
    """Only items taken then, UTC: a year, month, day or RFC 3339 instant, or two with a slash; ".." is open."""
    query: dict[str, Any] = Field(default_factory=dict)
    """Only items with such properties: {"eo:cloud_cover" = {lt = 20}}, {platform = "sentinel-2a"}."""
    asset: str | None = None
    """Key of the asset that is the raster. Unset: the one that roles and media_types leave."""
    roles: Names = ()
    """Only assets with one of these roles. Unset: all but thumbnails, overviews and metadata."""
    media_types: Names = ()
    """Only assets of these media types, parameters aside. Unset: GeoTIFF, COG and JPEG 2000."""
    hosts: Names = ()
    """Further hosts ("host" or "host:port") that its links may lead to, and assets where they are in private nets."""
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable with a bearer token, sent to the host of ``url`` alone."""
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Items per request."""
    max_items: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many scenes. Unset: all."""
    timeout_s: Annotated[float, Field(gt=0.0, le=3600.0)] = 60.0
    """Seconds to wait for a server to say something."""
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Further tries of a request that failed for a passing reason, after 0.5, 1, 2, ... seconds."""

    @field_validator("query")
    @classmethod
    def _known(cls, query: dict[str, Any]) -> dict[str, Any]:
        for name, rule in query.items():
            for operator in rule if isinstance(rule, dict) else ():
                if operator not in OPERATORS:
                    raise ValueError(f"{name}: {operator!r} is no comparison; allowed: {', '.join(OPERATORS)}")
        return query
