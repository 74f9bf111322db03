"""Which items are wanted: one rule for what an API is asked and for what is looked at here.

What a server answers is checked again, since one that does not know a filter leaves it out without a word.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import geopandas as gpd
import shapely
import shapely.affinity

from geoseg.aoi import read_aoi
from geoseg.errors import ConfigError
from geoseg.stac.settings import StacSettings

_DAY = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_STEPS = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """The filters of a search."""

    settings: StacSettings
    """Where they come from."""
    area: shapely.Geometry | None
    """The AOI in degrees, also a turn of the globe to the east and west of itself; None: everywhere."""
    bbox: tuple[float, float, float, float] | None
    """West, south, east, north; west is the greater across the antimeridian."""
    times: tuple[datetime | None, datetime | None]
    """First and last moment, both included; None: open."""

    @classmethod
    def of(cls, settings: StacSettings) -> Wanted:
        """The filters, understood.

        Raises:
            ConfigError: an AOI or a datetime that is none.
        """
        area = None if settings.aoi is None else _lonlat(settings.aoi)
        return cls(
            settings=settings,
            area=None if area is None else _all_round(area),
            bbox=None if area is None else _bbox(area),
            times=_interval(settings.datetime),
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """The same in the words of a STAC API's item search, without the query."""
        start, end = self.times
        asked: dict[str, Any] = {
            "collections": list(self.settings.collections),
            "ids": list(self.settings.ids),
            "bbox": None if self.bbox is None else list(self.bbox),
            "datetime": f"{_rfc3339(start)}/{_rfc3339(end)}" if start or end else None,
        }
        return {name: value for name, value in asked.items() if value}

    @property
    def query(self) -> dict[str, dict[str, Any]]:
        """Property -> comparison -> value, as the Query extension has it."""
        return {name: rule if isinstance(rule, dict) else {"eq": rule} for name, rule in self.settings.query.items()}

    def matches(self, item: Mapping[str, Any]) -> bool:
        """Whether an item is wanted.

        Raises:
            KeyError, TypeError, ValueError: it is no sound item.
        """
        settings, properties = self.settings, item["properties"]
        if settings.ids and item["id"] not in settings.ids:
            return False
        if settings.collections and item.get("collection") not in settings.collections:
            return False
        if not all(_holds(properties.get(name), rule) for name, rule in self.query.items()):
            return False
        return self._in_time(properties) and self._in_place(item)

    def _in_time(self, properties: Mapping[str, Any]) -> bool:
        first, last = self.times
        if first is None and last is None:
            return True
        start, end = span(properties)
        if start is None or end is None:
            return False
        return (last is None or start <= last) and (first is None or end >= first)

    def _in_place(self, item: Mapping[str, Any]) -> bool:
        if self.area is None:
            return True
        geometry = outline(item)
        return geometry is not None and bool(shapely.intersects(self.area, geometry))


def span(properties: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """First and last moment of an item, UTC; None where it says nothing.

    Raises:
        TypeError, ValueError: it says something else.
    """
    moment = properties.get("datetime")
    first = properties.get("start_datetime") or moment
    last = properties.get("end_datetime") or moment
    return _moment(first), _moment(last)


def outline(item: Mapping[str, Any]) -> shapely.Geometry | None:
    """An item's geometry in degrees, or the box of its ``bbox``; None where it has neither.

    Raises:
        TypeError, ValueError: it has something else.
    """
    if item.get("geometry"):
        geometry = shapely.force_2d(shapely.geometry.shape(item["geometry"]))
        return geometry if geometry.is_valid else shapely.make_valid(geometry)
    box = _box(item.get("bbox"))
    if box is None:
        return None
    west, south, east, north = box
    return shapely.box(west, south, east + 360 * (west > east), north)


def extent(item: Mapping[str, Any]) -> list[float] | None:
    """West, south, east, north of an item in degrees (west is the greater across the antimeridian); None where it says
    nothing, or no place on the earth: some catalogues have metres there.

    Raises:
        TypeError, ValueError: it says something else.
    """
    box = _box(item.get("bbox"))
    if box is None and (geometry := outline(item)) is not None:
        box = geometry.bounds
    if box is None:
        return None
    edges = [float(edge) for edge in box]
    return edges if on_earth(edges) else None


def on_earth(edges: Sequence[float]) -> bool:
    """Whether west, south, east, north are degrees of a place on the earth: what is in metres is not, nor NaN."""
    west, south, east, north = edges
    return abs(west) <= 180 and abs(east) <= 180 and -90 <= south <= north <= 90


def _box(values: Any) -> tuple[float, float, float, float] | None:
    """West, south, east, north of a bbox of two or three dimensions."""
    if not values:
        return None
    half = len(values) // 2
    return float(values[0]), float(values[1]), float(values[half]), float(values[half + 1])


def _moment(text: Any) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:  # the year 0, or 10,000, in UTC
        raise ValueError(f"a date {text!r}") from error


def _interval(text: str | None) -> tuple[datetime | None, datetime | None]:
    """Both ends of what the ``datetime`` of a search says."""
    if text is None:
        return None, None
    try:
        first, _, last = text.partition("/")
        start, end = _period(first)[0], _period(last if "/" in text else first)[1]
    except ValueError as error:
        raise ConfigError(
            f"datetime = {text!r}",
            allowed="a year, month, day or RFC 3339 instant such as 2024-05-01T10:30:00Z, or two with a slash; "
            "'..' for an open end",
        ) from error
    if start and end and start > end:
        raise ConfigError(f"datetime = {text!r}, which ends before it begins", allowed="the earlier end first")
    return start, end


def _period(text: str) -> tuple[datetime | None, datetime | None]:
    text = text.strip()
    if text in ("", ".."):
        return None, None
    match = _DAY.fullmatch(text)
    if not match:
        moment = _moment(text)
        return moment, moment
    year, month, day = (int(part) if part else None for part in match.groups())
    assert year is not None
    start = datetime(year, month or 1, day or 1, tzinfo=UTC)
    last = datetime(
        year, month or 12, day or calendar.monthrange(year, month or 12)[1], 23, 59, 59, 999_999, tzinfo=UTC
    )
    return start, last


def _rfc3339(moment: datetime | None) -> str:
    return ".." if moment is None else moment.isoformat().replace("+00:00", "Z")


def _lonlat(aoi: str) -> shapely.Geometry:
    """An AOI in degrees; long edges are cut first, so that they stay where they are."""
    area = read_aoi(aoi)
    west, south, east, north = area.geometry.bounds
    fine = shapely.segmentize(area.geometry, max(east - west, north - south) / _STEPS)
    moved = gpd.GeoSeries([fine], crs=area.crs).to_crs(4326).iloc[0]
    if not shapely.is_valid(moved):
        moved = shapely.make_valid(moved)
    return moved


def _all_round(area: shapely.Geometry) -> shapely.Geometry:
    turned = [shapely.affinity.translate(area, turn) for turn in (-360, 0, 360)]
    whole = shapely.union_all(turned)
    shapely.prepare(whole)
    return whole


def _bbox(area: shapely.Geometry) -> tuple[float, float, float, float]:
    west, south, east, north = area.bounds
    if east - west >= 360:
        return -180.0, max(south, -90.0), 180.0, min(north, 90.0)
    west, east = _wrapped(west), _wrapped(east)
    return west, max(south, -90.0), east, min(north, 90.0)


def _wrapped(longitude: float) -> float:
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180


def _holds(value: Any, rule: Mapping[str, Any]) -> bool:
    """Whether a property meets all comparisons; one that is absent meets none."""
    return value is not None and all(_compared(value, operator, other) for operator, other in rule.items())


def _compared(value: Any, operator: str, other: Any) -> bool:
    tests: dict[str, Callable[[], Any]] = {
        "eq": lambda: value == other,
        "neq": lambda: value != other,
        "lt": lambda: value < other,
        "lte": lambda: value <= other,
        "gt": lambda: value > other,
        "gte": lambda: value >= other,
        "in": lambda: value in other,
        "startsWith": lambda: str(value).startswith(other),
        "endsWith": lambda: str(value).endswith(other),
        "contains": lambda: other in value,
    }
    try:
        return bool(tests[operator]())
    except TypeError:  # a text against a number
        return False
