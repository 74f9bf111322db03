"""The summary as one HTML page: no script, nothing to load, every word from outside escaped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, TextIO

from geoseg.archive.manifest import Manifest
from geoseg.archive.map import COLOURS, WORDS, legend, write_map
from geoseg.archive.record import BAD, WRITTEN, Record
from geoseg.durations import duration
from geoseg.gaps import EXPECTED
from geoseg.raster.access import is_remote
from geoseg.stac.reach import shown

ROWS = 2_000
"""Scenes that a table lists; the JSON has all."""
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5c6675; --line: #d8dde4; --back: #fff; --soft: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --dim: #9aa5b4; --line: #39424f; --back: #161b22; --soft: #1f2630; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
  max-width: 72rem; padding: 0 1.5rem; } h1, p { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.dim { color: var(--dim); } .verdict { font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; padding: 0; }
.figures div { background: var(--soft); border-radius: 8px; padding: .6rem 1rem; min-width: 7rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: 14px; border-radius: 7px; overflow: hidden; background: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .5rem 0 0; padding: 0; list-style: none; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: var(--dim); font-weight: 600; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.s { white-space: nowrap; }
td.t { overflow-wrap: anywhere; min-width: 9rem; } svg { background: var(--soft); border-radius: 8px; width: 100%; }
"""


def write_page(out: TextIO, head: Mapping[str, Any], manifest: Manifest) -> None:
    """Write the page: verdict, figures, map, what went wrong, the slowest, all scenes."""
    title = f"geoseg: {head['model']} on {head['scenes_total']:,} {'scene' if head['scenes_total'] == 1 else 'scenes'}"
    out.write(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>\n'
    )
    _write_head(out, title, head)
    write_map(out, manifest)
    _write_gaps(out, head)
    bad = manifest.records(*BAD)
    names: tuple[str, ...] = ("scene", "state", "what is wrong")
    _write_table(out, f"Scenes without an output ({manifest.count(*BAD):,})", bad, _bad_row, names)
    parts = manifest.records("parts")
    names = ("scene", "footprints", "not examined")
    _write_table(out, f"Scenes with parts missing ({manifest.count('parts'):,})", parts, _parts_row, names)
    names = ("scene", "state", "footprints", "megapixels", "seconds", "acquired", "output")
    _write_table(out, f"All scenes ({head['scenes_total']:,})", manifest.records(), _row, names)
    out.write("</body></html>\n")


def _write_head(out: TextIO, title: str, head: Mapping[str, Any]) -> None:
    verdicts = {
        0: "Done.",
        1: "Done, with parts or scenes missing: they are named below.",
        2: "No scene could be used.",
        3: "All scenes are held by another run.",
        4: "Stopped: the environment fails. The same command goes on from here.",
        130: "Interrupted. The same command goes on from here.",
    }
    verdict = verdicts.get(head["exit_code"], "Ended by a fault in geoseg.")
    out.write(f"<h1>{escape(title)}</h1>\n<p class='dim'>{escape(str(head['folder']))} &middot; ")
    out.write(f"{_when(head['started'])} to {_when(head['ended'])}</p>\n")
    out.write(f"<p><span class='verdict'>{verdict}</span> Exit code {head['exit_code']}.</p>\n")
    if head["stopped"]:
        out.write(f"<p>{escape(str(head['stopped']))}</p>\n")
    out.writelines(f"<p>Warning: {escape(str(warning))}</p>\n" for warning in head["warnings"])
    counts: Mapping[str, int] = head["counts"]
    worked = sum(counts.get(state, 0) for state in WRITTEN) - head["unchanged"]
    figures = {
        "scenes": f"{head['scenes_total']:,}",
        "footprints": f"{head['footprints']:,}",
        "megapixels, as the model saw them": f"{head['megapixels']:,.1f}",
        "worked on": f"{worked:,}",
        "unchanged": f"{head['unchanged']:,}",
        "wall time": _duration(float(head["seconds"])),
    }
    out.write("<div class='figures'>")
    out.writelines(f"<div><b>{escape(value)}</b>{name}</div>" for name, value in figures.items())
    out.write("</div>\n<div class='bar'>")
    shown = [(state, counts[state]) for state in COLOURS if counts.get(state)]
    out.writelines(f"<span style='flex:{number};background:{COLOURS[state]}'></span>" for state, number in shown)
    out.write(f"</div>{legend((state, f'{number:,} ') for state, number in shown)}")
    if head["merged"]:
        count = f"{head['merged_footprints']:,} footprints, each object once"
        out.write(f"<p>One layer over all scenes, {count}: {escape(str(head['merged']))}</p>\n")


def _when(noted: Any) -> str:
    """A time as the manifest notes it (ISO 8601, UTC), for people."""
    return escape(str(noted).replace("T", " ").replace("+00:00", " UTC"))


def _write_gaps(out: TextIO, head: Mapping[str, Any]) -> None:
    if not head["gaps_m2"]:
        return
    out.write("<h2>Ground not examined, of the scenes with an output</h2><table><tr><th>why</th>")
    out.write("<th class='n'>square kilometres</th></tr>")
    for reason, area in head["gaps_m2"].items():
        out.write(f"<tr><td>{escape(reason)}</td><td class='n'>{area / 1e6:,.4f}</td></tr>")
    out.write("</table>\n")


def _write_table(out: TextIO, title: str, records: Iterator[Record], row: Any, names: tuple[str, ...]) -> None:
    """A table of at most :data:`ROWS` scenes; nothing where there are none."""
    shown = list(itertools.islice(records, ROWS + 1))
    if not shown:
        return
    out.write(f"<h2>{title}</h2>\n<div class='wide'><table><tr>")
    out.writelines(f"<th{_kind(name)}>{name}</th>" for name in names)
    out.write("</tr>\n")
    for record in shown[:ROWS]:
        cells = zip(names, row(record), strict=True)
        out.write("<tr>" + "".join(f"<td{_kind(name)}>{cell}</td>" for name, cell in cells) + "</tr>\n")
    out.write("</table></div>\n")
    if len(shown) > ROWS:
        out.write(f"<p class='dim'>The first {ROWS:,}; summary.json has all.</p>\n")


_NUMBERS = ("footprints", "megapixels", "seconds")
_TEXTS = ("scene", "what is wrong", "not examined", "output")


def _kind(name: str) -> str:
    if name in _NUMBERS:
        return " class='n'"
    return " class='t'" if name in _TEXTS else " class='s'"


def _bad_row(record: Record) -> list[str]:
    return [_named(record), _state(record), escape(record.error or "")]


def _parts_row(record: Record) -> list[str]:
    gaps = record.figures.get("gaps_m2", {})
    lost = ", ".join(f"{escape(why)} {area:,.0f} m&sup2;" for why, area in gaps.items() if why not in EXPECTED)
    return [_named(record), _number(record.footprints), lost]


def _row(record: Record) -> list[str]:
    whole = record.state in WRITTEN
    return [
        _named(record),
        _state(record) + (" (unchanged)" if record.unchanged else ""),
        _number(record.footprints) if whole else "",
        f"{record.figures.get('megapixels', 0.0):,.1f}" if whole else "",
        "" if record.seconds is None else f"{record.seconds:,.1f}",
        f"{record.seen:%Y-%m-%d}" if record.seen else "",
        escape(record.output) if whole else "",
    ]


def _named(record: Record) -> str:
    path = shown(record.href) if is_remote(record.href) else record.href  # a URL's query may hold a key
    return f"<span title='{escape(path)}'>{escape(record.name)}</span>"


def _state(record: Record) -> str:
    return f"<span class='dot' style='background:{COLOURS[record.state]}'></span>{WORDS[record.state]}"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _duration(seconds: float) -> str:
    if round(seconds) < 60:
        return f"{seconds:.1f} s"
    return f"{duration(seconds)} {'h' if round(seconds) >= 3600 else 'min'}"
