"""The tables and curves of docs/models.md, from what benchmarks.models measured.

    python -m benchmarks.models buildings --scenes 10 --json buildings.json
    python -m benchmarks.models ships --scenes 12 --json ships.json
    python -m benchmarks.model_card buildings.json ships.json --curves docs/img/models-curves.svg

Prints Markdown; the picture has a panel per file with precision over recall of every ground, and a dot at the card's
threshold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any

SIDE, RIM = 320, 52
"""Pixels: a panel's square, and the room for its ticks."""
COLOURS = ("#0072b2", "#d55e00", "#009e73")
"""Told apart by the colour-blind, too (Okabe and Ito 2008)."""
Groups = Mapping[str, Mapping[str, Any]]


def table(groups: Groups) -> str:
    """Figures per ground, as Markdown."""
    head = ("ground", "AP", "AP50", "AP75", "small, medium, large", "box AP, AP50", "boundary F", "mean IoU", "ECE")
    lines = [head, ("---",) * len(head)]
    for title, both in groups.items():
        every, kept = both["all"], both["card"]
        masks, boxes = every["masks"], every["boxes"]
        sizes = ", ".join(_two(masks["by_size"].get(size)) for size in ("small", "medium", "large"))
        shapes = kept["shapes"]
        lines.append(
            (
                title,
                *(_two(masks[name]) for name in ("ap", "ap50", "ap75")),
                sizes,
                f"{_two(boxes['ap'])}, {_two(boxes['ap50'])}",
                f"{_two(shapes['boundary_f'])} within {shapes['tolerance']:g} {shapes['unit']}",
                _two(kept["mean_iou"]),
                _two(every["calibration"]["ece"]),
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _two(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"


def panel(title: str, groups: Groups, left: float) -> str:
    """One square with the curves of all grounds, as SVG."""

    def at(recall: float, precision: float) -> tuple[float, float]:
        return round(left + RIM + recall * SIDE, 1), round(RIM / 2 + (1 - precision) * SIDE, 1)

    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    out = [f'<rect x="{x0}" y="{y1}" width="{x1 - x0}" height="{y0 - y1}" fill="none" stroke="#999"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, _), (_, y) = at(tick, 0), at(0, tick)
        out.append(f'<text x="{x}" y="{y0 + 16}" text-anchor="middle">{tick:g}</text>')
        out.append(f'<text x="{x0 - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    out.append(f'<text x="{(x0 + x1) / 2}" y="{y0 + 34}" text-anchor="middle">recall ({title})</text>')
    middle = (y0 + y1) / 2
    out.append(f'<text transform="translate({left + 12} {middle}) rotate(-90)" text-anchor="middle">precision</text>')
    for number, ((name, both), colour) in enumerate(zip(groups.items(), cycle(COLOURS), strict=False)):
        curve = both["all"]["curve"]
        points = " ".join(
            "{},{}".format(*at(recall, precision))
            for recall, precision in zip(curve["recall"], curve["precision"], strict=True)
        )
        x, y = at(both["card"]["recall"], both["card"]["precision"])
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<circle cx="{x}" cy="{y}" r="4.5" fill="{colour}"/>')
        out.append(f'<text x="{x0 + 10}" y="{y0 - 12 - 17 * number}" style="fill:{colour}">{escape(name)}</text>')
    return "\n".join(out)


def main() -> None:
    """Print the tables, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, nargs="+", help="what benchmarks.models wrote with --json")
    parser.add_argument("--curves", type=Path, help="SVG to write")
    args = parser.parse_args()
    found = {path.stem: json.loads(path.read_text()) for path in args.measured}
    for name, groups in found.items():
        print(f"{name}\n\n{table(groups)}\n")
    if args.curves:
        wide = SIDE + RIM + 24
        panels = [panel(name, groups, at * wide) for at, (name, groups) in enumerate(found.items())]
        size = f'width="{wide * len(panels)}" height="{SIDE + RIM / 2 + 44:.0f}"'
        style = "<style>text { font: 13px sans-serif; fill: #333 }</style>"
        back = '<rect width="100%" height="100%" fill="#fff"/>'
        args.curves.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{style}\n{back}\n' + "\n".join(panels) + "\n</svg>\n"
        )


if __name__ == "__main__":
    main()
