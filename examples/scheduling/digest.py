"""A summary.json as a short table in Markdown, for a job's page or a message: `python digest.py OUTPUTS`."""

from __future__ import annotations

import json
import re
import sys
from html import escape
from pathlib import Path


def digest(outputs: Path) -> str:
    """What a run came to, and the scenes that somebody should look at."""
    summary = json.loads((outputs / "summary.json").read_text(encoding="utf-8"))
    counts = ", ".join(f"{number} {state}" for state, number in summary["counts"].items()) or "none"
    lines = [
        "| | |",
        "|---|---|",
        f"| exit code | {summary['exit_code']} |",
        f"| rasters | {counts} ({summary['unchanged']} unchanged) |",
        f"| footprints | {summary['footprints']} |",
        f"| seconds | {summary['seconds']:.0f} |",
    ]
    for scene in summary.get("scenes", []):
        if scene["state"] not in ("done", "same", "gone"):
            said = str(scene.get("error") or scene.get("gaps_m2") or "")
            lines.append(f"| {_cell(scene['name'])}: {scene['state']} | {_cell(said)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Words from outside, as a table in Markdown takes them: no markup, no HTML."""
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", escape(" ".join(text.split()), quote=False))


if __name__ == "__main__":
    print(digest(Path(sys.argv[1])))
