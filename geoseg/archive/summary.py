"""What a run came to, for programs (JSON) and for people (HTML), from its manifest."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from geoseg.archive.manifest import Manifest
from geoseg.archive.outcome import Outcome
from geoseg.archive.page import write_page
from geoseg.archive.record import WRITTEN, Record
from geoseg.raster.access import is_remote
from geoseg.sinks.atomic import replacing
from geoseg.stac.reach import shown

JSON, HTML = "summary.json", "summary.html"


def write_summary(manifest: Manifest, outcome: Outcome) -> tuple[Path, Path]:
    """Write ``summary.json`` and ``summary.html``, both or none; scenes go out one by one, each
    on a line of its own.

    Raises:
        SinkError: they cannot be written.
    """
    head = _head(manifest, outcome)
    data, page = manifest.folder / JSON, manifest.folder / HTML
    with replacing(data, page) as (data_draft, page_draft):
        with data_draft.open("w", encoding="utf-8") as out:
            text = json.dumps(head, indent=2, default=str)
            out.write(text[: text.rindex("}")].rstrip() + ',\n  "scenes": [')
            for number, record in enumerate(manifest.records()):
                out.write((",\n    " if number else "\n    ") + json.dumps(scene_values(record), default=str))
            out.write("\n  ]\n}\n")
        with page_draft.open("w", encoding="utf-8", errors="backslashreplace") as out:
            write_page(out, head, manifest)
    return data, page


def _head(manifest: Manifest, outcome: Outcome) -> dict[str, Any]:
    gaps, megapixels, tiles = Counter[str](), 0.0, Counter[str]()
    for record in manifest.records(*WRITTEN):
        gaps.update(record.figures.get("gaps_m2", {}))
        megapixels += record.figures.get("megapixels", 0.0)
        names = ("tiles_planned", "tiles_examined", "tiles_empty", "tiles_unreadable", "tiles_failed")
        tiles.update({name: record.figures.get(name, 0) for name in names})
    counts = {state: number for state, number in outcome.counts.items() if state != "gone"}
    return {
        "exit_code": outcome.exit_code,
        "complete": outcome.complete,
        "state": manifest.fact("state"),
        "stopped": outcome.stopped,
        "folder": str(outcome.folder),
        "model": manifest.fact("model"),
        "model_version": manifest.fact("model_version"),
        "started": manifest.fact("started"),
        "ended": manifest.fact("ended"),
        "seconds": round(outcome.seconds, 3),
        "scenes_total": sum(counts.values()),
        "counts": counts,
        "unchanged": outcome.unchanged,
        "gone": outcome.counts.get("gone", 0),
        "footprints": outcome.footprints,
        "megapixels": round(megapixels, 3),
        **tiles,
        "gaps_m2": {reason: round(area, 2) for reason, area in sorted(gaps.items())},
        "merged": None if outcome.merged is None else str(outcome.merged),
        "merged_footprints": outcome.merged_footprints,
        "warnings": manifest.fact("warnings") or [],
        "versions": manifest.fact("versions"),
        "config": _shown(manifest.fact("config")),
    }


def _shown(values: Any) -> Any:
    """Settings without the queries of URLs, which may hold keys."""
    if isinstance(values, dict):
        return {name: _shown(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_shown(value) for value in values]
    return shown(values) if isinstance(values, str) and is_remote(values) else values


def scene_values(record: Record) -> dict[str, Any]:
    """One scene as the summary has it; what does not apply is left out."""
    written = record.state in WRITTEN
    values: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "path": shown(record.href) if is_remote(record.href) else record.href,
        "state": record.state,
        "output": record.output if written else None,
        "unchanged": record.unchanged or None,
        "footprints": record.footprints if written else None,
        "seconds": record.seconds,
        "started": _iso(record.started),
        "ended": _iso(record.ended),
        "acquired": _iso(record.seen or record.acquired),
        "extent": record.extent,
        "run": record.run if written else None,
        "raster_key": record.key,
        "same_as": record.same_as,
        "code": record.code,
        "error": record.error,
        "tries": record.tries if record.tries > 1 else None,
    }
    if written:
        kept = ("megapixels", "tiles_planned", "tiles_examined", "tiles_unreadable", "tiles_failed", "gaps_m2")
        values |= {name: record.figures.get(name) for name in (*kept, "warnings", "devices")}
    return {name: value for name, value in values.items() if value is not None}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
