"""A training as one HTML page that needs nothing else: settings, curves, chips with truth and predictions."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw

from geoseg.training.checkpoint import State
from geoseg.training.config import TrainConfig
from geoseg.training.validating import Look

_WIDTH, _HEIGHT, _RIM = 420, 200, 76
"""Pixels of a chart, and beside it for as much as 0.000415."""
_COLOURS = ("#1f56c8", "#d1495b", "#2a9d5c", "#e09f1f", "#7a4fc0", "#00a5c8")
_TRUE, _FOUND = (30, 210, 90), (255, 40, 200)
_SIDE = 288
"""Pixels of a chip's picture."""
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
td { padding: 0.15rem 1rem 0.15rem 0; vertical-align: top; }
figure { display: inline-block; margin: 0 1rem 1rem 0; max-width: 100%; } svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: #444; }
figcaption { font-size: 0.9rem; } img { margin: 0 0.4rem 0.4rem 0; max-width: 100%; }
pre { background: #f4f4f4; padding: 0.8rem; white-space: pre-wrap; }
span { white-space: nowrap; } i { display: inline-block; width: 0.8rem; height: 0.8rem; margin: 0 0.3rem 0 0.8rem; }
"""


def page(
    config: TrainConfig,
    state: State,
    rows: Mapping[str, Sequence[Mapping[str, float]]],
    chips: Mapping[str, Sequence[Look]],
) -> str:
    """The page of a training.

    Args:
        config: what was trained.
        state: how far.
        rows: of the journal, by kind.
        chips: pictures to show, by title.
    """
    name = f"{config.model.name} {config.model.version}"
    parts = [f"<h1>Training of {escape(name)}</h1>", _table(_facts(config, state))]
    parts += [_losses(rows.get("training", ())), _validation(rows.get("validation", ()))]
    for title, looks in chips.items():
        if looks:
            legend = f'<i style="background:rgb{_TRUE}"></i>true<i style="background:rgb{_FOUND}"></i>found'
            pictures = "".join(_picture(look, config.model.score_threshold) for look in looks)
            parts.append(f"<h2>{escape(title)}</h2><p>{legend}; dark: nothing is punished there</p>{pictures}")
    settings = json.dumps(config.model_dump(mode="json"), indent=1)
    parts.append(f"<h2>Settings</h2><pre>{escape(settings)}</pre>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def _facts(config: TrainConfig, state: State) -> list[tuple[str, str]]:
    rows = [
        ("steps", f"{state.step:,} of {config.schedule.steps:,}"),
        ("time", f"{state.seconds / 60:.1f} minutes"),
        ("classes", ", ".join(config.model.classes)),
        ("GSD", f"{config.model.gsd_m:g} m"),
        ("started from", config.model.start or "random weights"),
        ("seed", str(config.schedule.seed)),
    ]
    for source in config.sources:
        if source.kind == "generated":
            last = source.first_seed + source.scenes - 1
            rows.append((f"seeds of {source.scene} scenes", f"{source.first_seed} to {last}"))
    if config.validation is not None and state.best >= 0:
        rows.append((f"best {config.validation.metric.upper()}", f"{state.best:.3f} at step {state.best_step:,}"))
    return rows


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(lines)}</table>"


def _losses(rows: Sequence[Mapping[str, float]]) -> str:
    names = [name for name in (rows[-1] if rows else {}) if name not in ("step", "seconds", "learning_rate")]
    total = {"all": [(row["step"], sum(row.get(name, 0.0) for name in names)) for row in rows]}
    parts = {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}
    rate = [(row["step"], row["learning_rate"]) for row in rows if "learning_rate" in row]
    return _chart("Loss", total) + _chart("Its parts", parts) + _chart("Learning rate", {"": rate})


def _validation(rows: Sequence[Mapping[str, float]]) -> str:
    lines = {name: [(row["step"], row[key]) for row in rows] for name, key in (("F1", "f1"), ("AP50", "ap50"))}
    return _chart("Validation", lines, top=1.0)


def _chart(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], top: float = 0.0) -> str:
    """Lines over steps, from 0 up; nothing where there is no point."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    top = top or max(y for _, y in points) or 1.0

    def at(x: float, y: float) -> str:
        across = (x - first) / (last - first) if last > first else 0.5
        return f"{_RIM + across * _WIDTH:.1f},{10 + (1 - min(y / top, 1)) * _HEIGHT:.1f}"

    drawn, legend = [], []
    for (name, line), colour in zip(lines.items(), _COLOURS * (1 + len(lines) // len(_COLOURS)), strict=False):
        path = " ".join(at(*point) for point in line)
        dots = "".join(f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2.5"/>' for p in path.split())
        marks = dots if len(line) <= 40 else ""
        drawn.append(f'<g fill="{colour}"><polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(f"{marks}</g>")
        legend.append(f'<span><i style="background:{colour}"></i>{escape(name)}</span>' if name else "")
    low = 10 + _HEIGHT
    wide, high = _WIDTH + _RIM + 10, low + 24
    ticks = "".join(
        f'<text x="{_RIM - 6}" y="{low - share * _HEIGHT + 4}" text-anchor="end">{share * top:.3g}</text>'
        for share in (0, 0.5, 1)
    )
    ticks += f'<text x="{_RIM}" y="{low + 16}">{first:g}</text>'
    ticks += f'<text x="{_RIM + _WIDTH}" y="{low + 16}" text-anchor="end">step {last:g}</text>'
    return (
        f"<figure><figcaption>{escape(title)}{''.join(legend)}</figcaption>"
        f'<svg viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img" aria-label="{escape(title)}">'
        f'<rect x="{_RIM}" y="10" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#bbb"/>'
        f"{''.join(drawn)}{ticks}</svg></figure>"
    )


def _picture(look: Look, threshold: float) -> str:
    """A chip with outlines, those found from a score on, as a PNG within the page."""
    pixels = look.example.pixels.permute(1, 2, 0).numpy()
    spared = look.example.target["ignore"].numpy().astype(bool)
    shown = pixels.copy()
    shown[spared] //= 3
    scale = _SIDE / shown.shape[0]
    image = Image.fromarray(shown).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    truth = look.truth.geometry[~look.truth["iscrowd"].to_numpy(bool)]
    found = look.pred.geometry[look.pred["score"].to_numpy(float) >= threshold]
    for shapes, colour in ((truth, _TRUE), (found, _FOUND)):
        for ring in _rings(shapes):
            draw.line([(x * scale, y * scale) for x, y in ring], fill=colour, width=2)
    held = BytesIO()
    image.save(held, "PNG")
    return f'<img alt="chip" src="data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}">'


def _rings(shapes: Iterable[Any]) -> Iterable[list[tuple[float, float]]]:
    for shape in shapes:
        for part in getattr(shape, "geoms", [shape]):
            if part.geom_type == "Polygon" and not part.is_empty:
                yield list(part.exterior.coords)
                yield from (list(ring.coords) for ring in part.interiors)
