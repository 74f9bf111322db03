"""Where the scenes of a run lie and how far each is: one SVG, drawn to scale, with nothing to load."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from functools import cache
from html import escape
from typing import TextIO

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from geoseg.archive.manifest import Manifest
from geoseg.archive.record import BAD, WRITTEN, Record, State

DRAWN = 5_000
"""Scenes that the map draws, the worst first."""
COLOURS: dict[State, str] = {
    "done": "#2a9d5c",
    "same": "#8aa5c0",
    "pending": "#b9bec6",
    "parts": "#e0a100",
    "running": "#3a86c8",
    "locked": "#7d5ba6",
    "refused": "#d1495b",
    "failed": "#8e1b3a",
}
"""Colour of each state."""
WORDS: dict[State, str] = {
    "done": "done",
    "parts": "done, parts missing",
    "same": "same content as another",
    "refused": "refused",
    "failed": "failed",
    "locked": "held by another run",
    "pending": "left",
    "running": "at work",
}
"""What each state is called."""
_LAYERS: tuple[State, ...] = ("same", "pending", "done", "parts", "running", "locked", "refused", "failed")
"""In the order in which they are drawn: the last lies on top."""
_WIDE, _HIGH, _MARGIN = 1000.0, 560.0, 26.0
_DEGREE_M = 111_195.0  # of latitude, on a sphere of 6,371 km
_STYLE = """<style>
#map polygon { fill-opacity: .3; stroke-width: 1.2; vector-effect: non-scaling-stroke; }
#map .bad { fill-opacity: .6; }
#map polygon:hover { fill-opacity: .85; stroke-width: 3; }
#map text { fill: var(--ink); font-size: 12px; pointer-events: none; }
#map .bar { stroke: var(--ink); stroke-width: 2; fill: none; }
</style>"""


def write_map(out: TextIO, manifest: Manifest) -> None:
    """Write the map; nothing where no scene's place is known."""
    states = reversed(_LAYERS)
    known = (
        (record, corners)
        for state in states
        for record in manifest.records(state)
        if (corners := _corners(record)) is not None
    )
    scenes = list(itertools.islice(known, DRAWN))
    if not scenes:
        return
    frame = _Frame(np.concatenate([corners for _, corners in scenes]))
    out.write(f"<h2>Where</h2>\n{_STYLE}<svg id='map' viewBox='0 0 {_WIDE:.0f} {frame.high:.0f}' role='img'")
    out.write(" aria-label='outlines of the scenes, coloured by state'>")
    for record, corners in reversed(scenes):
        out.write(_outline(record, frame.pixels(corners)))
    out.writelines(_name(record, frame.pixels(corners)) for record, corners in scenes)
    drawn = {record.state for record, _ in scenes}
    out.write(f"{frame.bar()}</svg>\n{legend((state, '') for state in COLOURS if state in drawn)}")
    left = sum(number for state, number in manifest.counts().items() if state != "gone") - len(scenes)
    why = "there are too many" if len(scenes) == DRAWN else "it is not known where they lie"
    said = f"{frame.said}. Point at a scene for its name and what became of it."
    out.write(f"<p class='dim'>{said}{f' Scenes that are not drawn, for {why}: {left:,}.' if left else ''}</p>\n")


def legend(states: Iterable[tuple[State, str]]) -> str:
    """Dots, each with what is to be said of a state before its name."""
    dots = (
        f"<li><span class='dot' style='background:{COLOURS[state]}'></span>{said}{WORDS[state]}</li>"
        for state, said in states
    )
    return f"<ul class='legend'>{''.join(dots)}</ul>\n"


def _corners(record: Record) -> NDArray[np.float64] | None:
    """``(n, 2)`` longitude and latitude of a scene's outline, or of the box around it; None where it is not known."""
    srid, _, wkt = str(record.figures.get("extent") or "").removeprefix("SRID=").partition(";")
    if wkt:
        corners = np.column_stack(
            _to_degrees(int(srid)).transform(*shapely.get_coordinates(shapely.from_wkt(wkt))[:-1].T)
        )
    else:
        extent = record.extent or record.extra.get("extent")
        if not extent:
            return None
        west, south, east, north = map(float, extent)
        corners = np.array([(west, south), (east, south), (east, north), (west, north)])
    return corners if np.isfinite(corners).all() and np.ptp(corners[:, 0]) <= 180 else None


@cache
def _to_degrees(srid: int) -> Transformer:
    return Transformer.from_crs(srid, 4326, always_xy=True)


class _Frame:
    """Degrees to pixels of the map; a degree of longitude is shorter than one of latitude."""

    def __init__(self, corners: NDArray[np.float64]) -> None:
        (self.west, south), (east, self.north) = corners.min(axis=0), corners.max(axis=0)
        self.squeeze = max(math.cos(math.radians((south + self.north) / 2)), 0.05)
        wide, high = max((east - self.west) * self.squeeze, 1e-9), max(self.north - south, 1e-9)
        room = _WIDE - 2 * _MARGIN
        self.scale = min(room / wide, (_HIGH - 3 * _MARGIN) / high)  # pixels per degree of latitude
        self.left = (_WIDE - self.scale * wide) / 2
        self.high = self.scale * high + 3 * _MARGIN
        across = f"{_degrees(self.west, 'EW')} to {_degrees(east, 'EW')}"
        self.said = f"{across}, {_degrees(south, 'NS')} to {_degrees(self.north, 'NS')}"

    def pixels(self, corners: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of longitude and latitude."""
        x = self.left + (corners[:, 0] - self.west) * self.squeeze * self.scale
        return np.column_stack([x, _MARGIN + (self.north - corners[:, 1]) * self.scale])

    def bar(self) -> str:
        """A scale bar of a round length, at most a fifth of the map's width."""
        metre = self.scale / _DEGREE_M
        most = _WIDE / 5 / metre
        power = 10 ** math.floor(math.log10(most))
        length = max(step * power for step in (1, 2, 5) if step * power <= most)
        text = f"{length / 1000:,g} km" if length >= 1000 else f"{length:,g} m"
        x, y = _MARGIN, self.high - _MARGIN * 0.7
        line = f"<path class='bar' d='M{x:.1f} {y - 5:.1f}v5h{length * metre:.1f}v-5'/>"
        return f"{line}<text x='{x + length * metre + 8:.1f}' y='{y:.1f}'>{text}</text>"


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.4f}&deg; {sides[int(value < 0)]}"


def _outline(record: Record, pixels: NDArray[np.float64]) -> str:
    least = 0.8 - np.minimum(np.ptp(pixels, axis=0) / 2, 0.8)  # a scene on a map of a continent is a dot still
    pixels = pixels + np.sign(pixels - pixels.mean(axis=0)) * least
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    said = [f"{record.name}: {WORDS[record.state]}"]
    if record.state in WRITTEN and record.footprints is not None:
        said.append(f"{record.footprints:,} footprints")
    if record.seen:
        said.append(f"of {record.seen:%Y-%m-%d}")
    if record.error:
        said.append(record.error[:300])
    colour = COLOURS[record.state]
    title = escape("\n".join(said))
    kind = " class='bad'" if record.state in BAD else ""
    return f"<polygon{kind} points='{points}' fill='{colour}' stroke='{colour}'><title>{title}</title></polygon>\n"


def _name(record: Record, pixels: NDArray[np.float64]) -> str:
    """The name of a scene in it, where it has room."""
    (x, y), room = pixels.mean(axis=0), np.ptp(pixels, axis=0)
    text = record.name.rpartition(".")[0] or record.name
    if 7 * len(text) > room[0] or room[1] < 16:
        return ""
    return f"<text x='{x:.1f}' y='{y + 4:.1f}' text-anchor='middle'>{escape(text)}</text>"
